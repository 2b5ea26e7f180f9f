# SPDX-License-Identifier: Apache-2.0
"""What a C library writes to standard error without a file's name."""

import os
import re
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager

LIBRARY_LINE = re.compile(r"^\[[^\]]*libmpg123/\S*\] *(?:error|warning): (.*)|^(?:Note|Warning): (.*)|^$")
_lock = threading.Lock()  # there is one standard error


@contextmanager
def caught_lines(lines: list[str]) -> Iterator[None]:
    r"""Catch what libmpg123 writes to the process's standard error; libsndfile does not let it be switched off.

    What others write meanwhile is passed on.

    Arguments
    ---------
    lines : list of str
        Gets what the library says, without its place in the source.

    Example
    -------
    >>> said = []
    >>> with caught_lines(said):
    ...     _ = os.write(2, b"[src/libmpg123/layer3.c:do_layer3():17] error: bad frame\n")
    >>> said
    ['bad frame']
    """
    with _lock, tempfile.TemporaryFile() as file:
        try:
            if sys.stderr is not None:
                sys.stderr.flush()
            kept = os.dup(2)
        except (OSError, ValueError):  # there is none
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
