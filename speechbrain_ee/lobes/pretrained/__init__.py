# SPDX-License-Identifier: Apache-2.0
"""Encoders of the transformers library with exits (wav2vec 2.0, HuBERT, WavLM, Whisper) and their features."""
