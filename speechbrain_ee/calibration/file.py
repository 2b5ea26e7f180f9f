# SPDX-License-Identifier: Apache-2.0
"""``calibration.json``: the policy that travels with a model, what was promised of it, and whether it still fits."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from speechbrain_ee.calibration.summary import promise_sentence
from speechbrain_ee.files import write_whole
from speechbrain_ee.model.fingerprint import fingerprint
from speechbrain_ee.model.folder import MODEL_FILES
from speechbrain_ee.policies import policy_from_dict

CALIBRATION_FILE = "calibration.json"


def write_calibration(folder: str | Path, calibration: Mapping) -> None:
    """Write ``calibration.json`` into a model folder, whole or not at all."""
    write_whole(Path(folder) / CALIBRATION_FILE, (json.dumps(calibration, indent=2) + "\n").encode())


def forget_calibration_of_another_model(folder: str | Path) -> None:
    """Remove ``calibration.json`` from a model folder whose weights have changed since: it would be refused."""
    path = Path(folder) / CALIBRATION_FILE
    if path.exists():
        try:
            found = read_calibration(path, fingerprint([Path(folder) / name for name in MODEL_FILES]))
            _ = found["score"], found["target"], found["fitted_on"]["full_wer"]  # an old file has less
        except (KeyError, ValueError):
            path.unlink()


def read_calibration(path: str | Path, model: str | None = None) -> dict:
    """Read a ``calibration.json``.

    Arguments
    ---------
    path : str or Path
        The file.
    model : str, optional
        :func:`fingerprint` of the model that it is to be used with.

    Returns
    -------
    dict
        Its contents; ``policy`` is a policy's plain values.

    Raises
    ------
    ValueError
        If the file is broken, names no known policy, or is of another model.
    """
    try:
        calibration = json.loads(Path(path).read_text("utf-8"))
        policy_from_dict(calibration["policy"])
        promise_sentence(calibration.get("promise"))
        if calibration.get("value_range"):
            _ = calibration["fitted_on"]["test_set"]
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a calibration: {error}; calibrate again or remove it") from None
    there = calibration.get("model")
    if model is not None and there is not None and there != model:
        raise ValueError(
            f"{path} is of another model or vocabulary ({there}, this one is {model}): evaluate dev and calibrate again"
        )
    return calibration
