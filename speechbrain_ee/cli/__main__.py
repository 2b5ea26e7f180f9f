# SPDX-License-Identifier: Apache-2.0
"""``python -m speechbrain_ee.cli``."""

from speechbrain_ee.cli.app import main

main()
