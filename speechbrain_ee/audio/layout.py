# SPDX-License-Identifier: Apache-2.0
"""What the bytes of a file say of its length, beside what its header claims."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

LARGEST_FILE = 1 << 43  # 8 TB; beyond it, some file systems refuse to look


@dataclass(frozen=True)
class Layout:
    """How much audio a file holds, and how to make a decoder read all of it.

    A header may be wrong in three ways. Where it leaves the length open (zero, or all ones, as recorders and pipes do),
    the file is read to its end. Where it claims less than there is, all is read and ``note`` says so. Where it claims
    more than there is, the file has broken off or its header is wrong, which nobody can tell apart: ``present`` says
    how much is there, and the reader refuses the file.

    Arguments
    ---------
    segments : sequence of tuple[int, int] | None
        Stretches of the file for the decoder, see :class:`~speechbrain_ee.audio.source.Overlay`; None means all of it.
    patches : dict[int, bytes]
        Bytes of the header to replace, by their place in the file.
    prefix : bytes
        What to put before the first stretch.
    frames : int | None
        Samples per channel that are there; None where only the decoder can say.
    present : float
        Share of the claimed audio that is there; 1 also where nothing is claimed.
    is_mpeg : bool
        Whether the decoder is one that writes to standard error.
    note : str
        What is odd about the file although all of it is read, else empty.
    """

    segments: Sequence[tuple[int, int]] | None = None
    patches: dict[int, bytes] = field(default_factory=dict)
    prefix: bytes = b""
    frames: int | None = None
    present: float = 1.0
    is_mpeg: bool = False
    note: str = ""


def read_at(file: BinaryIO, place: int, count: int) -> bytes:
    """Read so many bytes at a place, or as many as there are; none at a place that no file reaches."""
    if not 0 <= place <= LARGEST_FILE:
        return b""
    file.seek(place)
    return file.read(count)


def skip_id3(file: BinaryIO) -> int:
    """Where audio begins behind ID3v2 tags, which players put before FLAC and MP3.

    Example
    -------
    >>> import io
    >>> skip_id3(io.BytesIO(b"ID3" + bytes([4, 0, 0, 0, 0, 1, 2]) + bytes(130) + b"fLaC"))
    140
    """
    place = 0
    while (head := read_at(file, place, 10))[:3] == b"ID3" and len(head) == 10:
        place += 10 + syncsafe(head[6:]) + (10 if head[5] & 16 else 0)
    return place


def syncsafe(data: bytes) -> int:
    """A number of four bytes with seven bits each."""
    return sum((byte & 127) << shift for byte, shift in zip(data, (21, 14, 7, 0), strict=True))
