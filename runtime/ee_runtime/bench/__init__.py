# SPDX-License-Identifier: Apache-2.0
"""Measure models on this machine: time of each exit, start of a process, memory, size; choose an exit by a budget."""
