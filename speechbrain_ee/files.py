# SPDX-License-Identifier: Apache-2.0
"""Files that appear whole or not at all, and disks that are full."""

import errno
import os
import re
import tempfile
from pathlib import Path

NO_SPACE = (errno.ENOSPC, errno.EDQUOT)
TORCH_WRITER = "PytorchStreamWriter|inline_container"  # in the messages of torch.save


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
