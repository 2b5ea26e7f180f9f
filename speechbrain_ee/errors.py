# SPDX-License-Identifier: Apache-2.0
"""Errors of checkpoints, several errors in one message, and tracebacks of bugs in training."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType


class CheckpointError(RuntimeError, ValueError):
    """A checkpoint cannot be saved or loaded; the message is one line and says what to do.

    It is a ``RuntimeError``, as in torch and SpeechBrain, and a ``ValueError``, as our other errors.
    """


class Problems:
    """Collects the errors of several checks, so that a user sees all of them at once.

    Example
    -------
    >>> problems = Problems()
    >>> for share in (0.5, 2.0, -1.0):
    ...     with problems.check():
    ...         if not 0 <= share <= 1:
    ...             raise ValueError(f"share is {share}")
    >>> problems.raise_all()
    Traceback (most recent call last):
    ValueError: share is 2.0; share is -1.0
    """

    def __init__(self):
        self.errors: list[ValueError] = []

    @contextmanager
    def check(self) -> Iterator[None]:
        """Keep a ``ValueError`` that is raised in the block, and go on."""
        try:
            yield
        except ValueError as error:
            self.errors.append(error)

    def raise_all(self) -> None:
        """Raise the only error, or one error with all messages; return if there are none."""
        if len(self.errors) == 1:
            raise self.errors[0]
        if self.errors:
            raise ValueError("; ".join(map(str, self.errors)))


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
