# SPDX-License-Identifier: Apache-2.0
"""Choose thresholds on a development set, test promises about WER, and fit confidence."""
