# SPDX-License-Identifier: Apache-2.0
"""The entropy threshold that ``train.py`` chooses on dev when training has ended."""

from pathlib import Path

from speechbrain_ee.calibration.attempts import record_attempt
from speechbrain_ee.calibration.choose import calibrate, check_not_cut
from speechbrain_ee.calibration.file import CALIBRATION_FILE, read_calibration, write_calibration
from speechbrain_ee.calibration.summary import summary
from speechbrain_ee.replay.utterances import read_utterances


def calibrate_run(run: Path, model: str, *, max_wer_increase: float) -> str:
    """Choose an entropy threshold on dev, unless the user has calibrated these weights for another score or target.

    Arguments
    ---------
    run : Path
        Run folder, of which dev is evaluated.
    model : str
        Fingerprint of its model.
    max_wer_increase : float
        Points of WER on dev that the threshold may cost.

    Returns
    -------
    str
        What was chosen or kept, or why nothing could be chosen, in words.
    """
    file = run / CALIBRATION_FILE
    calibration = read_calibration(file, model) if file.exists() else None
    if calibration is None or _is_default(calibration):
        utterances = read_utterances(run / "eval" / "dev" / "utterances.jsonl")
        try:
            check_not_cut(utterances)
        except ValueError as error:
            return f"no threshold is chosen: {error}"
        target = {"max_wer_increase": max_wer_increase}
        calibration = calibrate(utterances, score="entropy", target=target, model=model)
        calibration = record_attempt(run / "eval" / "dev", calibration)
        write_calibration(run, calibration)
    return f"{calibration['score']} for {calibration['target']}: {summary(calibration)}"


def _is_default(calibration: dict) -> bool:
    return calibration["score"] == "entropy" and [*calibration["target"]] == ["max_wer_increase"]
