# SPDX-License-Identifier: Apache-2.0
"""Decoders: from the output of an exit to text."""
