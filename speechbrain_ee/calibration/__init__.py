# SPDX-License-Identifier: Apache-2.0
"""Choose exit thresholds on a development set, test promises about WER, and calibrate confidences."""
