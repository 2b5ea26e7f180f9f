# SPDX-License-Identifier: Apache-2.0
"""Text: tokenizer, text rules, CTC paths, word spans, error rates and language models."""
