# SPDX-License-Identifier: Apache-2.0
"""A lock for each run folder, which the subprocess that trains in it holds until it ends."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class InUseError(ValueError):
    """Another process trains in a run folder."""


@contextmanager
def run_lock(folder: Path) -> Iterator[int]:
    """Hold the lock of a run folder, the file ``<folder>.lock``.

    Give the descriptor to the subprocess (``pass_fds``). The lock is then held until both have ended. If this process
    is killed and its command is run again, two processes therefore never train in the same folder.

    Arguments
    ---------
    folder : Path
        The run folder; its parent is created if missing.

    Yields
    ------
    int
        File descriptor for ``pass_fds``.

    Raises
    ------
    InUseError
        If another process holds the lock.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(f"{folder}.lock", "ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUseError(f"another process trains in {folder}: wait until it ends, or end it") from None
        yield file.fileno()
