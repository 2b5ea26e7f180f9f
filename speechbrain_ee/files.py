# SPDX-License-Identifier: Apache-2.0
"""Locks between processes, files that grow line by line, replaced files, and full disks."""

from __future__ import annotations

import errno
import logging
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
SYNC_S = 10.0  # at most this much work is lost if the machine is switched off
TORCH_WRITER = "PytorchStreamWriter|inline_container"  # in the messages of torch.save


@contextmanager
def locked(path: Path, *, waiting_for: str) -> Iterator[None]:
    """Hold a lock between processes, which is released if its holder dies.

    Arguments
    ---------
    path : Path
        The lock file; it and its folder are created if missing.
    waiting_for : str
        Description of the result for the log, if another process holds the lock.

    Raises
    ------
    OSError
        If the file cannot be created, or the file system has no locks.

    Example
    -------
    >>> with locked(getfixture("tmp_path") / "a.lock", waiting_for="the corpus"):
    ...     pass
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(path)
    try:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            logger.info("another process holds %s: waiting for %s", path, waiting_for)
            lock.acquire()
    except NotImplementedError:
        raise OSError(
            f"{path.parent} is on a file system without locks: give a folder on another file system"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def only_process(path: Path, *, doing: str) -> Iterator[None]:
    """Hold a lock while a process writes results, so that no other process writes them; remove the file at the end.

    Arguments
    ---------
    path : Path
        The lock file, in an existing folder.
    doing : str
        What the holder of the lock does, for the message.

    Raises
    ------
    ValueError
        If another process has the lock.
    OSError
        If the file cannot be created, or the file system has no locks.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.lock"
    >>> with only_process(path, doing="writing a"), only_process(path, doing="writing a"):
    ...     pass
    Traceback (most recent call last):
    ValueError: another process is writing a: wait for it to end, or give another --out
    """
    lock = FileLock(path, timeout=0)
    try:
        open(path, "ab").close()  # a lock file that cannot be written would look like one that another process holds
        lock.acquire()
    except NotImplementedError:
        raise OSError(f"{path.parent} is on a file system without locks: give another --out") from None
    except Timeout:
        raise ValueError(f"another process is {doing}: wait for it to end, or give another --out") from None
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from None
    try:
        yield
    finally:
        with suppress(OSError):  # Windows does not remove an open file
            path.unlink()  # while the lock is held: another process creates a new file
        lock.release()


class AppendedLines:
    r"""Appends lines to a file, which a killed process leaves complete except perhaps for the last line.

    Arguments
    ---------
    path : Path
        The file; it is created if missing.

    Raises
    ------
    OSError
        If the disk is full or the file is not writable; the message names the file.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a"
    >>> _ = path.write_text("one\ntw")  # cut off
    >>> with AppendedLines(path) as lines:
    ...     lines.append("three\n")
    >>> path.read_text().split()
    ['one', 'tw', 'three']
    """

    def __init__(self, path: Path):
        self.path, self._file = path, None
        self._synced = time.monotonic()

    def append(self, text: str) -> None:
        """Append text, which ends in a line end."""
        try:
            self._file.write(text.encode())
            self._file.flush()
            if time.monotonic() - self._synced > SYNC_S:
                os.fsync(self._file.fileno())
                self._synced = time.monotonic()
        except OSError as error:
            raise self._named(error) from None

    def __enter__(self) -> AppendedLines:
        try:
            self._file = open(self.path, "ab")  # noqa: SIM115, closed in __exit__
        except OSError as error:
            raise self._named(error) from None
        self._file.write(b"\n" if self._file.tell() else b"")  # ends a line that was cut off
        return self

    def __exit__(self, kind, *_) -> None:
        try:
            with self._file:
                self._file.flush()
                os.fsync(self._file.fileno())
        except OSError as error:
            if kind is None:  # else the first error is raised
                raise self._named(error) from None

    def _named(self, error: OSError) -> OSError:
        return OSError(error.errno, f"cannot write {self.path}: {error.strerror}")


def size_and_time(path: str | Path) -> list[int]:
    """Return size and modification time of a file, to detect a replaced file; -1 if it does not exist.

    Example
    -------
    >>> size_and_time("no such file")
    [-1, -1]
    """
    try:
        found = os.stat(path)
    except OSError:
        return [-1, -1]
    return [found.st_size, found.st_mtime_ns]


def fsync(path: str | Path) -> None:
    """Flush the contents of a file, or the entries of a folder, to the disk."""
    if os.name == "nt" and os.path.isdir(path):
        return  # Windows cannot open folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Whether an error was caused by a full disk; call it before removing files."""
    if not isinstance(error, Exception):
        return False  # Ctrl-C stays Ctrl-C
    cause = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in NO_SPACE:
            return True
        cause = cause.__cause__ or cause.__context__
    # torch.save hides the error number: "[enforce fail at inline_container.cc:672] . unexpected pos 5".
    hidden = isinstance(error, RuntimeError) and re.search(TORCH_WRITER, str(error))
    return bool(hidden) and not _has_space(folder)


def _has_space(folder: Path) -> bool:
    """Try to write 1 MiB: the free space that the system reports does not include the user's quota."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(os.urandom(1 << 20))  # random, since file systems may compress
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno not in NO_SPACE
    return True
