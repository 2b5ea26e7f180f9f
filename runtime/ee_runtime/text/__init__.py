# SPDX-License-Identifier: Apache-2.0
"""Text: CTC paths, words with their frames, and token agreement."""
