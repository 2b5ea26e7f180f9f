# SPDX-License-Identifier: Apache-2.0
"""Transcribe with a trained model; the policy stops each utterance at an exit."""
