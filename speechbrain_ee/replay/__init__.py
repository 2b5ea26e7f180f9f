# SPDX-License-Identifier: Apache-2.0
"""Replay policies over cached scores: exits taken, WER and cost, with NumPy and without torch."""
