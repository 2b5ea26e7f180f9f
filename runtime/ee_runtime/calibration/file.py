# SPDX-License-Identifier: Apache-2.0
"""Read and write ``calibration.json``, the exit policy of a model and its promise. Imports no NumPy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from ee_runtime.calibration.summary import promise_sentence
from ee_runtime.files import make_folder, parse_json, read_bytes, write_whole
from ee_runtime.policies import policy_from_dict
from ee_runtime.policies.confidence import check_confidence
from ee_runtime.text.error_units import unit_of

CALIBRATION_FILE = "calibration.json"
MAX_BYTES = 4 * 2**20  # ours have about 30 kB; parsed JSON takes up to 25 times as much memory


def write_calibration(folder: str | Path, calibration: Mapping) -> None:
    """Write ``calibration.json`` into a folder atomically; the folder is created if missing."""
    make_folder(Path(folder))
    write_whole(Path(folder) / CALIBRATION_FILE, (json.dumps(calibration, indent=2) + "\n").encode())


def read_calibration(path: str | Path, model: str | None = None) -> dict:
    """Read and check a ``calibration.json``.

    Arguments
    ---------
    path : str or Path
        The file.
    model : str, optional
        :func:`~speechbrain_ee.model.fingerprint.fingerprint` of the model that uses it.

    Returns
    -------
    dict
        Its contents; ``policy`` holds plain values for :func:`~ee_runtime.policies.policy_from_dict`.

    Raises
    ------
    ValueError
        If the file is broken, its policy is unknown, or it is of another model.
    """
    try:
        calibration = parse_json(read_bytes(path, max_bytes=MAX_BYTES))
        if not isinstance(calibration, dict):
            raise ValueError("is not a JSON object")
        policy_from_dict(calibration["policy"])
        promise_sentence(calibration.get("promise"), unit_of(calibration))
        if calibration.get("value_range"):
            _ = calibration["fitted_on"]["test_set"]
        check_confidence(calibration.get("confidence", {}))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: invalid calibration: {error}; calibrate again or remove it") from None
    there = calibration.get("model")
    if model is not None and there is not None and there != model:
        raise ValueError(
            f"{path} belongs to another model or vocabulary ({there}, this one is {model}): "
            "evaluate dev and calibrate again"
        )
    return calibration
