# SPDX-License-Identifier: Apache-2.0
"""Transcribe with a trained model; the policy stops each utterance at an exit."""

from importlib import import_module


def __getattr__(name: str):
    """Load the class when it is first used: other modules of this package need no model."""
    if name != "EarlyExitASR":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.asr").EarlyExitASR
