# SPDX-License-Identifier: Apache-2.0
"""A trial of a sweep: train.py in a subprocess, which is stopped when Optuna prunes the trial."""

import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ee_runtime.text.error_units import WORD, ErrorUnit

POLL_S = 0.5
STOP_S = 30  # a subprocess that has not ended after this time is killed
DIVERGED = "lower --lr"  # in the error message of train.py for a loss or gradient that is not finite


def dev_wers(log: Path, layer: int, key: str = "wer") -> list[float]:
    """Read the dev WER (``cer``: CER) at an exit layer after each epoch from a train_log.txt.

    An incomplete last line is ignored.
    """
    text = log.read_text("utf-8") if log.exists() else ""
    lines = text[: text.rfind("\n") + 1].splitlines()
    return [float(re.search(rf"\bvalid {key}_{layer}: ([^,]+)", line)[1]) for line in lines]


def run_trial(
    trial,
    command: list[str],
    folder: Path,
    last_layer: int,
    num_epochs: int,
    lock: int,
    unit: ErrorUnit = WORD,
) -> float | None:
    """Train one trial and report every epoch to Optuna.

    Arguments
    ---------
    trial : optuna.Trial
        The trial.
    command : list of str
        Command that trains, or resumes, in ``folder``. Its output goes to ``<folder>.log``.
    folder : Path
        The run folder.
    last_layer : int
        The last exit layer.
    num_epochs : int
        After this many epochs the subprocess is stopped.
    lock : int
        Descriptor of the study's lock.
    unit : ErrorUnit
        What errors are counted in.

    Returns
    -------
    float or None
        Dev WER, or CER, at the last exit after the last epoch; None if the training diverged.

    Raises
    ------
    optuna.TrialPruned
        If the trial was stopped because of its WER.
    ValueError
        If train.py fails.
    """
    import optuna

    reported = 0
    with open(f"{folder}.log", "ab") as output, subprocess_that_ends(command, output, lock) as process:
        while True:
            status = process.poll()  # before the log is read, so that the last line is not missed
            wers = dev_wers(folder / "train_log.txt", last_layer, unit.key)
            for epoch, wer in enumerate(wers[reported:], start=reported + 1):
                trial.report(wer, epoch)
                print(f"trial {trial.number}, epoch {epoch}: dev {unit.rate} {wer:.2f} %", flush=True)
                if epoch < num_epochs and trial.should_prune():
                    raise optuna.TrialPruned
            reported = max(reported, len(wers))  # a resumed run repeats an epoch that it had not saved
            if reported >= num_epochs:
                return wers[num_epochs - 1]
            if status is not None:
                break
            time.sleep(POLL_S)
    lines = Path(f"{folder}.log").read_text("utf-8", errors="replace").strip().splitlines()
    last = lines[-1] if lines else ""
    if DIVERGED in last:
        print(f"trial {trial.number}: {last}", flush=True)
        return None
    raise ValueError(f"train.py ended with status {status} in trial {trial.number}: {last} (see {folder}.log)")


@contextmanager
def subprocess_that_ends(command: list[str], output, lock: int) -> Iterator[subprocess.Popen]:
    """Run a command in a subprocess and stop it at the end of the block."""
    process = subprocess.Popen(command, stdout=output, stderr=subprocess.STDOUT, pass_fds=[lock])
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
