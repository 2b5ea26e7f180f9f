# SPDX-License-Identifier: Apache-2.0
"""Atomic writes, locks between processes, full disks, and pointers of Git LFS."""

import errno
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

logger = logging.getLogger(__name__)

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
TORCH_WRITER = "PytorchStreamWriter|inline_container"  # in the messages of torch.save


def lfs_hint(data: bytes) -> str:
    """Return what to do about a file that Git LFS has not fetched; empty for any other file.

    Arguments
    ---------
    data : bytes
        The first bytes of the file.

    Example
    -------
    >>> lfs_hint(b"version https://git-lfs.github.com/spec/v1")
    'is a pointer of Git LFS, not the file itself: run git lfs pull, or download the file'
    >>> lfs_hint(b"RIFF")
    ''
    """
    if not data.startswith(b"version https://git-lfs.github.com/spec/"):
        return ""
    return "is a pointer of Git LFS, not the file itself: run git lfs pull, or download the file"


def check_not_pointer(path: str | Path) -> None:
    """Check that a file is not a pointer of Git LFS.

    Raises
    ------
    ValueError
        If it is a pointer; the message names the file and says what to do.
    OSError
        If the file cannot be read.
    """
    with open(path, "rb") as file:
        if hint := lfs_hint(file.read(200)):
            raise ValueError(f"{path} {hint}")


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


def write_whole(path: Path, data: bytes) -> None:
    """Write a file atomically: after a full disk or a kill, the old file is intact.

    Arguments
    ---------
    path : Path
        The file to create or replace, in an existing folder.
    data : bytes
        The whole contents.

    Raises
    ------
    OSError
        If the disk is full or the folder is not writable; the message names the file.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.txt"
    >>> write_whole(path, b"abc")
    >>> path.read_bytes(), len(list(path.parent.iterdir()))
    (b'abc', 1)
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with open(temporary, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OSError(error.errno, f"cannot write {path}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


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


def printable(name: str | os.PathLike) -> str:
    r"""Return a file name in a form that every terminal, log and text file can show.

    Line breaks, tabs, bytes that are not UTF-8 and other unprintable characters become escapes.

    Example
    -------
    >>> print(printable("a b\n\udce9.wav"))
    a b\n\udce9.wav
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in os.fsdecode(name))
