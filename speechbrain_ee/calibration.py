# SPDX-License-Identifier: Apache-2.0
"""Thresholds from a development set, and the file that travels with the model."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from speechbrain_ee.files import write_whole
from speechbrain_ee.policies import FixedExit, ScoreThreshold, policy_from_dict
from speechbrain_ee.replay import choose_threshold

CALIBRATION_FILE = "calibration.json"


def calibrate_threshold(
    utterances: Sequence[Mapping], *, score: str, max_wer_increase: float, fitted_on: str = "dev"
) -> dict:
    """Choose the cheapest threshold that keeps the WER near the last exit's on these utterances.

    Arguments
    ---------
    utterances : Sequence[Mapping]
        Lines of ``utterances.jsonl``.
    score : str
        What is compared with the threshold.
    max_wer_increase : float
        Points of WER above the last exit's that are allowed here. Nothing is promised elsewhere.
    fitted_on : str
        Name of the set, for the record.

    Returns
    -------
    dict
        The contents of ``calibration.json``: ``policy`` (as its ``to_dict``), ``target``, ``promise`` (None) and
        ``fitted_on`` with what was reached there.
    """
    chosen = choose_threshold(ScoreThreshold(score, 0.0), utterances, max_wer_increase)
    policy = FixedExit() if chosen["threshold"] is None else ScoreThreshold(score, chosen["threshold"])
    reached = {key: chosen[key] for key in ("wer", "mean_layer")}
    return {
        "policy": policy.to_dict(),
        "target": {"max_wer_increase": max_wer_increase},
        "promise": None,
        "fitted_on": {"test_set": fitted_on, "num_utterances": len(utterances)} | reached,
    }


def write_calibration(folder: str | Path, calibration: Mapping) -> None:
    """Write ``calibration.json`` into a model folder, whole or not at all."""
    write_whole(Path(folder) / CALIBRATION_FILE, (json.dumps(calibration, indent=2) + "\n").encode())


def read_policy(path: str | Path):
    """Read the policy of a ``calibration.json``.

    Raises
    ------
    ValueError
        If the file is broken or names no known policy.
    """
    try:
        return policy_from_dict(json.loads(Path(path).read_text("utf-8"))["policy"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: not a calibration: {error}; calibrate again or remove it") from None
