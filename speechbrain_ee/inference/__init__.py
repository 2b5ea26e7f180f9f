# SPDX-License-Identifier: Apache-2.0
"""Transcribe with a trained model, each utterance only as deep as its policy requires."""
