# SPDX-License-Identifier: Apache-2.0
"""Defaults and names of a promise, in one place. Standard library only."""

MIN_UTTERANCES = 50  # required for any promise
DEFAULT_DELTA = 0.1  # probability that a promise is broken
AVERAGE_DELTA = 0.5  # an average is exceeded on about half of all calibration sets
TEST_NAME = "gamma"  # the test of risk.py, as recorded in calibration.json
