# SPDX-License-Identifier: Apache-2.0
"""One-line errors for mistakes of the user; bugs keep their traceback."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from ee_runtime.files import printable

MAX_CHARS = 1500  # of an error message

logger = logging.getLogger(__name__)


@contextmanager
def one_line_errors(program: str) -> Iterator[None]:
    """Exit with status 1 and one line on standard error after an error that the user can fix.

    These errors are ``ValueError``, ``OSError``, ``ImportError`` and a lack of memory; their traceback goes to the log.
    Ctrl-C exits with status 130; the line has the arguments of the ``KeyboardInterrupt``. Characters that a terminal
    cannot show are printed as escapes.

    Arguments
    ---------
    program : str
        Start of the line.

    Example
    -------
    >>> with one_line_errors("train.py"):
    ...     raise ValueError("exit_layers is empty")
    Traceback (most recent call last):
    SystemExit: 1
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
    except Exception as error:
        if not isinstance(error, ValueError | OSError | ImportError) and not _is_full_memory(error):
            raise
        logger.debug("stopped by an error", exc_info=True)
        print_error(program, error)
        raise SystemExit(1) from None
    except KeyboardInterrupt as error:
        print(": ".join([program, "interrupted", *map(str, error.args)]), file=sys.stderr)
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
    message = one_line(error)
    if _is_full_memory(error):
        message = f"out of memory ({message[:200]}): use smaller batches or shorter audio"
    print(f"{program}: error: {printable(_middle_cut(message))}", file=sys.stderr)


def _middle_cut(message: str) -> str:
    """Cut a message that repeats a long input; its end says what to do."""
    return message if len(message) <= MAX_CHARS else f"{message[: MAX_CHARS // 2]} ... {message[-MAX_CHARS // 2 :]}"


def _is_full_memory(error: Exception) -> bool:
    """Whether Python or torch, on a CPU or a GPU, is out of memory; does not import torch."""
    of_torch = type(error).__name__ == "OutOfMemoryError" or "can't allocate memory" in str(error)
    return isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and of_torch)


def shortened(value: object, max_chars: int = 60) -> str:
    """Return the ``repr`` of a value for a message, cut to ``max_chars`` characters.

    Example
    -------
    >>> shortened("a" * 100, max_chars=5)
    "'aaaa..."
    """
    text = repr(value)
    return text if len(text) <= max_chars else f"{text[:max_chars]}..."


def one_line(error: Exception) -> str:
    r"""Return the message of an error in one line, without the traceback that a data loader's worker adds to it.

    Example
    -------
    >>> one_line(MemoryError())
    'MemoryError'
    """
    text = str(error).rstrip()
    if "Original Traceback" in text:
        text = text.splitlines()[-1].partition(": ")[2]
    return " ".join(text.split()) or type(error).__name__
