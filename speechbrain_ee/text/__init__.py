# SPDX-License-Identifier: Apache-2.0
"""Text: tokens, word spans, error rates and language models."""
