# SPDX-License-Identifier: Apache-2.0
"""Atomic writes, careful reads, pointers of Git LFS, and file names as every terminal can show them."""

from __future__ import annotations

import json
import os
from pathlib import Path

MAX_DIGITS = 300  # of an integer; a larger one cannot become a float


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


def read_bytes(path: str | Path, *, max_bytes: int) -> bytes:
    """Read a regular file; anything else, such as a pipe or a device, could block or never end.

    Raises
    ------
    ValueError
        If it is not a regular file, or is larger than ``max_bytes``; the message does not name the file.
    OSError
        If the file cannot be read.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise ValueError("is not a regular file: copy it again")
    with open(path, "rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError(f"is larger than {max_bytes} bytes")
    return data


def parse_json(data: bytes) -> object:
    """Parse JSON; every mistake in it is a ``ValueError``.

    Example
    -------
    >>> parse_json(b"[1, 2]")
    [1, 2]
    >>> parse_json(b"[" * 100_000)
    Traceback (most recent call last):
    ValueError: has too many brackets within brackets
    """
    try:
        return json.loads(data, parse_int=_int)
    except RecursionError:
        raise ValueError("has too many brackets within brackets") from None


def _int(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"has a number of {len(digits)} digits")
    return int(digits)


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


def make_folder(path: Path) -> None:
    """Create a folder and its parents, if they are missing.

    Raises
    ------
    ValueError
        If there is a file in its place.
    OSError
        If it cannot be created.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except (FileExistsError, NotADirectoryError):
        file = next(one for one in (path, *path.parents) if one.exists())
        raise ValueError(f"{path} cannot be a folder, since {file} is a file: give another path") from None


def printable(name: str | os.PathLike) -> str:
    r"""Return a file name in a form that every terminal, log and text file can show.

    Line breaks, tabs, bytes that are not UTF-8 and other unprintable characters become escapes.

    Example
    -------
    >>> print(printable("a b\n\udce9.wav"))
    a b\n\udce9.wav
    """
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode("ascii") for c in os.fsdecode(name))
