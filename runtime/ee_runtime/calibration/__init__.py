# SPDX-License-Identifier: Apache-2.0
"""Calibration files: the exit policy of a model, what is promised about it, and its description in words."""
