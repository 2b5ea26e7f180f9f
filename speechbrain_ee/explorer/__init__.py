# SPDX-License-Identifier: Apache-2.0
"""The explorer page: one HTML file that shows what every policy does, and works offline."""

from speechbrain_ee.explorer.run_report import write_report

__all__ = ["write_report"]
