# SPDX-License-Identifier: Apache-2.0
"""Training logs: SpeechBrain's text file and, optionally, TensorBoard."""

from pathlib import Path

from speechbrain.utils.distributed import main_process_only
from speechbrain.utils.train_logger import FileTrainLogger, TensorboardLogger, TrainLogger

from ee_runtime.files import write_whole


class TrainLogs(TrainLogger):
    r"""Writes one line of statistics per epoch to ``train_log.txt`` and, optionally, to TensorBoard.

    A run that was killed between logging an epoch and saving its checkpoint repeats this epoch. Its earlier line is
    replaced, so that the log equals that of an uninterrupted run.

    Arguments
    ---------
    folder : str | Path
        Run folder.
    tensorboard : bool
        Also write ``tensorboard/`` in it; needs the extra ``[tensorboard]``.

    Example
    -------
    >>> logs = TrainLogs(folder=getfixture("tmp_path"))
    >>> for epoch, loss in [(1, 2.5), (2, 1.75), (2, 1.5)]:
    ...     logs.log_stats({"epoch": epoch}, train_stats={"loss": loss})
    >>> print((getfixture("tmp_path") / "train_log.txt").read_text().strip())
    epoch: 1 - train loss: 2.5000
    epoch: 2 - train loss: 1.5000
    """

    def __init__(self, *, folder: str | Path, tensorboard: bool = False):
        self.path = Path(folder) / "train_log.txt"
        self.text = FileTrainLogger(str(self.path), precision=4)
        self.tensorboard = _tensorboard(Path(folder) / "tensorboard") if tensorboard else None

    def log_stats(self, stats_meta, train_stats=None, valid_stats=None, test_stats=None, verbose=False):
        """Log statistics as SpeechBrain's ``TrainLogger``; ``stats_meta`` must have the key ``epoch``."""
        statistics = {"train": train_stats, "valid": valid_stats, "test": test_stats}
        main_process_only(_forget_from)(self.path, stats_meta["epoch"])
        self.text.log_stats(stats_meta, *statistics.values(), verbose)
        if self.tensorboard is not None:
            # SpeechBrain's logger counts its calls, and would restart from 0 in a resumed run.
            before = stats_meta["epoch"] - 1
            steps = {name: dict.fromkeys(values or (), before) for name, values in statistics.items()}
            self.tensorboard.global_step = steps | {"meta": before}
            self.tensorboard.log_stats(stats_meta, *statistics.values(), verbose)


def _forget_from(path: Path, epoch: int) -> None:
    """Remove the lines of this and later epochs, and an incomplete last line."""
    lines = path.read_text("utf-8").splitlines(keepends=True) if path.exists() else []
    earlier = {f"epoch: {number}" for number in range(epoch)}
    kept = [line for line in lines if line.replace(" -", ",").split(",")[0] in earlier and line.endswith("\n")]
    if kept != lines:
        write_whole(path, "".join(kept).encode())


def _tensorboard(folder: Path) -> TensorboardLogger:
    try:
        return TensorboardLogger(str(folder))
    except ImportError:
        raise ImportError(
            'tensorboard is not installed: pip install "speechbrain_ee[tensorboard]", or remove --tensorboard'
        ) from None
