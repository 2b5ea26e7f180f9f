# SPDX-License-Identifier: Apache-2.0
"""Compute exits taken, WER and cost of policies from cached scores, with NumPy and without torch."""
