# SPDX-License-Identifier: Apache-2.0
"""Open audio files and pipes as seekable bytes."""

import io
import os
import shutil
import stat
import tempfile
import time
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path
from typing import BinaryIO

from ee_runtime.files import printable

PIPE_WAIT_S = 10.0  # timeout for a writer of a named pipe

NO_FILE = {
    stat.S_IFDIR: "is a folder: give the files in it",
    stat.S_IFSOCK: "is a socket, not a file: write the audio to a file first",
    stat.S_IFCHR: "is a device, not a file: write the audio to a file first, or pipe it in",
    stat.S_IFBLK: "is a device, not a file: give a file on it",
}


class AudioError(ValueError):
    """An audio file cannot be used; the message is one line that names it."""


def open_source(path: str | Path, *, may_be_pipe: bool = False) -> BinaryIO:
    """Open a file for reading; a pipe is copied to a temporary file first.

    Arguments
    ---------
    path : str | Path
        A file; with ``may_be_pipe`` also a named pipe, ``/dev/stdin`` or ``/dev/fd/N``.
    may_be_pipe : bool
        Whether to accept pipes; a pipe can be read only once, so allow it only if the audio is read once.

    Returns
    -------
    BinaryIO
        Seekable; the contents of a pipe are in an unnamed temporary file.

    Raises
    ------
    AudioError
        If the file does not exist or is not readable, or is a folder, socket or device.

    Example
    -------
    >>> open_source(getfixture("tmp_path"))
    Traceback (most recent call last):
    ee_runtime.audio.source.AudioError: audio ... is a folder: give the files in it
    """
    name = printable(path)
    try:
        kind = stat.S_IFMT(os.stat(path).st_mode)
        if kind in NO_FILE:
            raise AudioError(f"audio {name} {NO_FILE[kind]}")
        if kind == stat.S_IFIFO:
            if not may_be_pipe:
                raise AudioError(f"audio {name} is a pipe, which can be read only once: write it to a file first")
            return _read_pipe(path, name)
        return open(path, "rb")
    except FileNotFoundError:
        raise AudioError(f"audio {name} does not exist: check the path") from None
    except OSError as error:
        raise AudioError(f"audio {name} cannot be opened ({error.strerror}): check its permissions and disk") from None
    except ValueError as error:
        if isinstance(error, AudioError):
            raise
        raise AudioError(f"audio {name} cannot be opened ({error}): check the path") from None


def _read_pipe(path: str | Path, name: str) -> BinaryIO:
    """Copy a pipe to a temporary file; fail if no writer opens a named pipe in time."""
    pipe = open(os.open(path, os.O_RDONLY | os.O_NONBLOCK), "rb", buffering=0)
    file = tempfile.TemporaryFile()
    with pipe:
        deadline = time.monotonic() + PIPE_WAIT_S
        while (first := pipe.read(1)) == b"" and time.monotonic() < deadline:  # None: a writer is connected
            time.sleep(0.02)
        if first == b"":
            file.close()
            raise AudioError(
                f"audio {name} is a pipe that nobody has written to in {PIPE_WAIT_S:.0f} s: start its writer"
            )
        file.write(first or b"")
        os.set_blocking(pipe.fileno(), True)
        shutil.copyfileobj(pipe, file, 1 << 20)
    file.seek(0)
    return file


class Overlay(io.RawIOBase):
    """A read-only view of parts of a file, with some bytes replaced and a prefix.

    Arguments
    ---------
    file : BinaryIO
        The file; it is not closed here.
    segments : sequence of tuple[int, int]
        Start and end of each part.
    patches : dict[int, bytes]
        Replacement bytes by their position in the file, each within a part.
    prefix : bytes
        Bytes before the first part.

    Example
    -------
    >>> Overlay(io.BytesIO(b"abcdefgh"), [(1, 5), (6, 8)], patches={2: b"CD"}, prefix=b"-").read()
    b'-bCDegh'
    """

    def __init__(
        self, file: BinaryIO, segments: Sequence[tuple[int, int]], *, patches: dict[int, bytes], prefix: bytes = b""
    ):
        super().__init__()
        self.file = file
        self.parts: list[bytes | tuple[int, int]] = [prefix]
        for start, end in segments:
            for place in sorted(place for place in patches if start <= place < end):
                self.parts += [(start, place), patches[place]]
                start = place + len(patches[place])
            self.parts.append((start, end))
        sizes = [len(part) if isinstance(part, bytes) else part[1] - part[0] for part in self.parts]
        self.starts = [0, *accumulate(sizes)]
        self.length = self.starts.pop()
        self.position = 0
        self.failure: Exception | None = None

    def readable(self) -> bool:
        """Return True."""
        return True

    def seekable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return the position, counted from the prefix."""
        return self.position

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        """Move; a position before the first byte becomes the first byte."""
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.length}[whence]
        self.position = max(0, base + offset)
        return self.position

    def readinto(self, buffer) -> int:
        """Fill the buffer; return the number of bytes read.

        An error is stored in ``failure``, since the calling C code would only print it.
        """
        view, done = memoryview(buffer).cast("B"), 0
        while done < len(view) and self.position < self.length:
            try:
                data = self._next(len(view) - done)
            except (OSError, MemoryError) as error:
                self.failure = error
                break
            if not data:
                break  # the file was truncated meanwhile
            view[done : done + len(data)] = data
            done, self.position = done + len(data), self.position + len(data)
        return done

    def _next(self, count: int) -> bytes:
        index = bisect_right(self.starts, self.position) - 1
        part, skip = self.parts[index], self.position - self.starts[index]
        if isinstance(part, bytes):
            return part[skip : skip + count]
        self.file.seek(part[0] + skip)
        return self.file.read(min(count, part[1] - part[0] - skip))

    def write(self, data) -> int:
        """Refuse to write; soundfile requires the method."""
        raise io.UnsupportedOperation("this file is read only")
