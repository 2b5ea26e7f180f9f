# SPDX-License-Identifier: Apache-2.0
"""What the results of a model depend on, apart from its input: to refuse to mix results of different settings."""

from collections.abc import Mapping
from pathlib import Path

from ee_runtime.transcriber import Transcriber
from speechbrain_ee.code_version import code_version
from speechbrain_ee.files import size_and_time

LIBRARIES = ("torch", "speechbrain", "transformers", "soxr", "onnxruntime")  # results depend on their versions


def result_settings(model: Transcriber) -> dict:
    """Return all that the results of a model depend on, except policy and input, as plain values for JSON.

    Arguments
    ---------
    model : Transcriber
        The model with its decoder.

    Returns
    -------
    dict
        ``model`` (the fingerprint; None if the model was not loaded from files), ``decoding``, ``precision`` and
        ``code``.
    """
    decoder = model.decoder
    return {
        "model": model.fingerprint,
        "decoding": [decoder.name, _plain(vars(decoder))],
        "precision": str(model.precision),
        "code": code_version("**/*.py", libraries=LIBRARIES),
    }


def _plain(settings: Mapping) -> dict:
    """Return the numbers, texts and files among a decoder's settings, with size and time of each file."""
    plain = {name: value for name, value in settings.items() if isinstance(value, (int, float, str, Path))}
    return {name: [str(value), *size_and_time(str(value))] for name, value in plain.items()}
