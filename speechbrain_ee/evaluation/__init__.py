# SPDX-License-Identifier: Apache-2.0
"""Evaluate every exit on a test set: one pass, tables, plots and the report page."""
