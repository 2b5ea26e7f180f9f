# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all, locks between processes, and disks that are full."""

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
    """Say what to do about a file that Git LFS has not fetched; empty for any other file.

    Arguments
    ---------
    data : bytes
        The file's beginning.

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
    """Refuse what stands in the place of a file that Git LFS has not fetched.

    Raises
    ------
    ValueError
        Names the file and says what to do.
    OSError
        If it cannot be read.
    """
    with open(path, "rb") as file:
        if hint := lfs_hint(file.read(200)):
            raise ValueError(f"{path} {hint}")


@contextmanager
def locked(path: Path, *, waiting_for: str) -> Iterator[None]:
    """Hold a lock between processes; it is released where its holder dies.

    Arguments
    ---------
    path : Path
        The lock file, made if missing; its folder is made too.
    waiting_for : str
        What the log says where another process holds the lock.

    Raises
    ------
    OSError
        If the file cannot be made, or the file system has no locks.

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
        raise OSError(f"{path.parent} is on a file system without locks: give a folder on another one") from None
    try:
        yield
    finally:
        lock.release()


def write_whole(path: Path, data: bytes) -> None:
    """Write beside the place, then rename: a full disk or a kill leaves the old file whole.

    Arguments
    ---------
    path : Path
        The file to make or replace, in a folder that exists.
    data : bytes
        All of its contents.

    Raises
    ------
    OSError
        If the disk is full or the folder not writable; names the file.

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
    """Give size and time of a file, by which another one of the same name is known; -1 where it is not there.

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
    """Wait until a file's contents, or a folder's names, are on the disk."""
    if os.name == "nt" and os.path.isdir(path):
        return  # Windows opens no folders
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def is_disk_full(error: BaseException, folder: Path) -> bool:
    """Tell a full disk from other failures; ask before anything is removed."""
    if not isinstance(error, Exception):
        return False  # Ctrl-C stays Ctrl-C
    cause = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in NO_SPACE:
            return True
        cause = cause.__cause__ or cause.__context__
    # torch.save hides the number: "[enforce fail at inline_container.cc:672] . unexpected pos 5".
    hidden = isinstance(error, RuntimeError) and re.search(TORCH_WRITER, str(error))
    return bool(hidden) and not _has_space(folder)


def _has_space(folder: Path) -> bool:
    """Try to write a MiB; free space as the system counts it knows nothing of a user's quota."""
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            file.write(os.urandom(1 << 20))  # random, for disks that compress
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno not in NO_SPACE
    return True


def printable(name: str | os.PathLike) -> str:
    r"""Write a name in one line that every terminal, log and text file takes.

    Line breaks, tabs, bytes that are not UTF-8 and other characters that cannot be seen are written as escapes.

    Example
    -------
    >>> print(printable("a b\n\udce9.wav"))
    a b\n\udce9.wav
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in os.fsdecode(name))
