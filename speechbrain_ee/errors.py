# SPDX-License-Identifier: Apache-2.0
"""Errors of checkpoints, and tracebacks of bugs in training."""

import logging
import sys
from types import TracebackType


class CheckpointError(RuntimeError, ValueError):
    """A checkpoint cannot be saved or loaded; the message is one line and says what to do.

    It is a ``RuntimeError``, as in torch and SpeechBrain, and a ``ValueError``, as our other errors.
    """


def show_tracebacks() -> None:
    """Print tracebacks of uncaught errors on standard error, and write them to the log file.

    Call it after SpeechBrain's ``create_experiment_directory``, which installs a hook that prints on standard output.
    """

    def show(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
        record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, "a bug", (), (kind, error, traceback))
        for handler in logging.getLogger().handlers:
            if isinstance(handler, logging.FileHandler):
                handler.handle(record)
        sys.__excepthook__(kind, error, traceback)

    sys.excepthook = show
