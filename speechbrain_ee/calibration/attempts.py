# SPDX-License-Identifier: Apache-2.0
"""Count the calibrations on one set: a promise does not hold for the best of several attempts."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path

from ee_runtime.files import write_whole
from ee_runtime.text.error_units import WORD, unit_of

logger = logging.getLogger(__name__)

ATTEMPTS_FILE = "calibrations.json"


def record_attempt(folder: str | Path, calibration: Mapping) -> dict:
    """Add a calibration to the list of those on a set, and count the different ones of the same model.

    Arguments
    ---------
    folder : str or Path
        ``RUN/eval/<set>``; its ``calibrations.json`` lists the attempts.
    calibration : mapping
        The contents of ``calibration.json``.

    Returns
    -------
    dict
        The same with ``tried``: the number of ``calibrations``, and of ``promises`` among them.
    """
    path = Path(folder) / ATTEMPTS_FILE
    before = json.loads(path.read_text("utf-8")) if path.exists() else []
    attempts = [one for one in before if one["model"] == calibration["model"]]
    attempt = {name: calibration[name] for name in ("model", "score", "target")}
    attempt |= {} if unit_of(calibration) == WORD else {"error_unit": calibration["error_unit"]}
    if attempt not in attempts:
        attempts.append(attempt)
    if attempts != before:
        try:
            write_whole(path, (json.dumps(attempts, indent=1) + "\n").encode())
        except OSError as error:
            logger.warning("%s cannot be written (%s): this calibration is not counted", path, error.strerror)
    promises = [one for one in attempts if "promise" in one["target"] or "average" in one["target"]]
    return {**calibration, "tried": {"calibrations": len(attempts), "promises": len(promises)}}
