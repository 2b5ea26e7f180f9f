# SPDX-License-Identifier: Apache-2.0
"""Capture messages that a C library writes to standard error."""

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LIBRARY_LINE = re.compile(r"^\[[^\]]*libmpg123/\S*\] *(?:error|warning): (.*)|^(?:Note|Warning): (.*)|^$")
_lock = threading.Lock()  # the process has one standard error


@contextmanager
def capture_stderr(lines: list[str]) -> Iterator[None]:
    r"""Capture messages of libmpg123 on standard error, which libsndfile cannot switch off.

    Other output to standard error is passed on.

    Arguments
    ---------
    lines : list of str
        The messages are appended here, without their position in the source code.

    Example
    -------
    >>> messages = []
    >>> with capture_stderr(messages):
    ...     _ = os.write(2, b"[src/libmpg123/layer3.c:do_layer3():17] error: bad frame\n")
    >>> messages
    ['bad frame']
    """
    with _lock, tempfile.TemporaryFile() as file:
        try:
            if sys.stderr is not None:
                sys.stderr.flush()
            kept = os.dup(2)
        except (OSError, ValueError):  # no standard error
            yield
            return
        os.dup2(file.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            file.seek(0)
            _sort(file.read(), lines)


def _sort(written: bytes, lines: list[str]) -> None:
    for line in written.splitlines(keepends=True):
        hit = LIBRARY_LINE.match(line.decode("utf-8", "replace").rstrip("\r\n"))
        if hit is None:
            os.write(2, line)
        elif hit[1] or hit[2]:
            lines.append(hit[1] or hit[2])
