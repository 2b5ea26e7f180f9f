# SPDX-License-Identifier: Apache-2.0
"""Errors of the user's making in one line; our own bugs keep their traceback."""

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)


class CheckpointError(RuntimeError, ValueError):
    """A checkpoint cannot be saved or loaded; the message is one line and says what to do.

    A ``RuntimeError`` like those of torch and SpeechBrain, and a ``ValueError`` like our others.
    """


@contextmanager
def one_line_errors(program: str) -> Iterator[None]:
    """End the process with status 1 and one line on standard error for an error that a user can mend.

    Those are ``ValueError``, ``OSError`` and ``ImportError``, which our own checks raise with what was given, what is
    allowed and what to do; the traceback goes to the log. Ctrl-C ends it with status 130.

    Arguments
    ---------
    program : str
        What the line starts with.

    Example
    -------
    >>> with one_line_errors("train.py"):
    ...     raise ValueError("exit_layers is empty")
    Traceback (most recent call last):
    SystemExit: 1
    """
    try:
        yield
    except (ValueError, OSError, ImportError) as error:
        logger.debug("stopped by an error", exc_info=True)
        print_error(program, error)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print(f"{program}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def print_error(program: str, error: Exception) -> None:
    r"""Print an error as one line on standard error.

    Example
    -------
    >>> import contextlib
    >>> with contextlib.redirect_stderr(sys.stdout):
    ...     print_error("train.py", ValueError("exit_layers\n is empty"))
    train.py: error: exit_layers is empty
    """
    print(f"{program}: error: {one_line(error)}", file=sys.stderr)


def one_line(error: Exception) -> str:
    r"""Give the error's own words in one line, also where a data loader's process sent them with its traceback.

    Example
    -------
    >>> one_line(MemoryError())
    'MemoryError'
    """
    text = str(error).rstrip()
    if "Original Traceback" in text:
        text = text.splitlines()[-1].partition(": ")[2]
    return " ".join(text.split()) or type(error).__name__
