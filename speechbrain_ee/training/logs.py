# SPDX-License-Identifier: Apache-2.0
"""Training logs: SpeechBrain's text file, and TensorBoard beside it if wanted; each epoch once."""

from pathlib import Path

from speechbrain.utils.distributed import main_process_only
from speechbrain.utils.train_logger import FileTrainLogger, TensorboardLogger, TrainLogger

from speechbrain_ee.files import write_whole


class TrainLogs(TrainLogger):
    r"""Write a line of statistics per epoch to ``train_log.txt`` and, if asked, to TensorBoard.

    A run that was killed after an epoch's line and before its checkpoint does that epoch again: the line of before is
    replaced, so that the curve is that of a run which never stopped.

    Arguments
    ---------
    folder : str | Path
        The run folder.
    tensorboard : bool
        Also write ``tensorboard/`` there; needs the extra ``[tensorboard]``.

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
        """See SpeechBrain's ``TrainLogger``; ``stats_meta`` has an ``epoch``."""
        statistics = {"train": train_stats, "valid": valid_stats, "test": test_stats}
        main_process_only(_forget_from)(self.path, stats_meta["epoch"])
        self.text.log_stats(stats_meta, *statistics.values(), verbose)
        if self.tensorboard is not None:
            # SpeechBrain's counts its calls, and would start anew in a run that resumes.
            before = stats_meta["epoch"] - 1
            steps = {name: dict.fromkeys(values or (), before) for name, values in statistics.items()}
            self.tensorboard.global_step = steps | {"meta": before}
            self.tensorboard.log_stats(stats_meta, *statistics.values(), verbose)


def _forget_from(path: Path, epoch: int) -> None:
    """Drop the lines of this epoch and of later ones, and a last line that is not whole."""
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
            'tensorboard is not installed: pip install "speechbrain_ee[tensorboard]", or leave --tensorboard away'
        ) from None
