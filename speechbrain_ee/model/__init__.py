# SPDX-License-Identifier: Apache-2.0
"""A trained model as files: configuration, weights and tokenizer, checked before they are loaded."""
