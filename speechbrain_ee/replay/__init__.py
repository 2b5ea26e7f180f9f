# SPDX-License-Identifier: Apache-2.0
"""Policies over cached scores: what would have happened, and at what cost. Needs NumPy, no torch."""
