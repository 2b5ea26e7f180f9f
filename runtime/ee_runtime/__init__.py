# SPDX-License-Identifier: Apache-2.0
"""Run exported early-exit speech recognisers with onnxruntime, without torch.

The package also has what training and deployment share: exit policies, calibration files, the loop that stops each
utterance, greedy and prefix-beam CTC decoding, transcripts, and reading of audio files. ``speechbrain_ee`` imports them
from here.
"""

from importlib import import_module

__version__ = "0.1.0"

_EXPORTS = {"EarlyExitRuntime": "runtime"}
__all__ = [*_EXPORTS]


def __getattr__(name: str):
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_EXPORTS[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
