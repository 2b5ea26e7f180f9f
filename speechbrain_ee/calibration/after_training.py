# SPDX-License-Identifier: Apache-2.0
"""The calibration of a run folder after training: choose an entropy threshold on dev, remove an outdated one."""

from pathlib import Path

from ee_runtime.calibration.file import CALIBRATION_FILE, read_calibration, write_calibration
from ee_runtime.calibration.summary import summary
from ee_runtime.text.error_units import ErrorUnit, unit_of
from speechbrain_ee.calibration.attempts import record_attempt
from speechbrain_ee.calibration.checks import check_not_cut
from speechbrain_ee.calibration.choose import calibrate
from speechbrain_ee.model.fingerprint import fingerprint
from speechbrain_ee.model.folder import MODEL_FILES
from speechbrain_ee.replay.utterances import read_utterances


def calibrate_run(run: Path, model: str, *, max_increase: float, unit: ErrorUnit) -> str:
    """Choose an entropy threshold on dev; keep a calibration of these weights for another score or target.

    Arguments
    ---------
    run : Path
        Run folder with an evaluated dev set.
    model : str
        Fingerprint of its model.
    max_increase : float
        Allowed increase of the error rate on dev, in points.
    unit : ErrorUnit
        What errors are counted in.

    Returns
    -------
    str
        The calibration in words, or the reason why there is none.
    """
    path = run / CALIBRATION_FILE
    calibration = read_calibration(path, model) if path.exists() else None
    if calibration is None or _is_default(calibration):
        utterances = read_utterances(run / "eval" / "dev" / "utterances.jsonl", unit)
        try:
            check_not_cut(utterances)
        except ValueError as error:
            return f"no threshold was chosen: {error}"
        target = {f"max_{unit.key}_increase": max_increase}
        calibration = calibrate(utterances, score="entropy", target=target, model=model)
        calibration = record_attempt(run / "eval" / "dev", calibration)
        write_calibration(run, calibration)
    return f"{calibration['score']} for {calibration['target']}: {summary(calibration)}"


def forget_calibration_of_another_model(folder: str | Path) -> None:
    """Remove ``calibration.json`` from a model folder if it is of other weights; it would be refused."""
    path = Path(folder) / CALIBRATION_FILE
    if path.exists():
        try:
            calibration = read_calibration(path, fingerprint([Path(folder) / name for name in MODEL_FILES]))
            _ = (
                calibration["score"],
                calibration["target"],
                calibration["fitted_on"][f"full_{unit_of(calibration).key}"],
            )  # earlier files lack some
        except (KeyError, ValueError):
            path.unlink()


def _is_default(calibration: dict) -> bool:
    return calibration["score"] == "entropy" and [*calibration["target"]] == [
        f"max_{unit_of(calibration).key}_increase"
    ]
