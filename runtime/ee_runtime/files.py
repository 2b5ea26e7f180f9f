# SPDX-License-Identifier: Apache-2.0
"""Atomic writes, pointers of Git LFS, and file names as every terminal can show them."""

from __future__ import annotations

import os
from pathlib import Path


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


def printable(name: str | os.PathLike) -> str:
    r"""Return a file name in a form that every terminal, log and text file can show.

    Line breaks, tabs, bytes that are not UTF-8 and other unprintable characters become escapes.

    Example
    -------
    >>> print(printable("a b\n\udce9.wav"))
    a b\n\udce9.wav
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in os.fsdecode(name))
