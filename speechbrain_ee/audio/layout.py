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
    note : str
        What is odd about the file although all of it is read, else empty.
    refusal : str
        Why the file is refused although its decoder would read a part of it, else empty.
    """

    segments: Sequence[tuple[int, int]] | None = None
    patches: dict[int, bytes] = field(default_factory=dict)
    prefix: bytes = b""
    frames: int | None = None
    present: float = 1.0
    note: str = ""
    refusal: str = ""


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
    while length := id3_bytes(read_at(file, place, 10)):
        place += length
    return place


def id3_bytes(head: bytes) -> int:
    """Size of the ID3v2 tag that begins with these ten bytes; 0 where none begins."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + syncsafe(head[6:10]) + (10 if head[5] & 16 else 0)


def skip_end_tags(file: BinaryIO, size: int) -> int:
    """Where audio ends before the tags (ID3v1, APE, Lyrics3) that players put behind FLAC and MP3.

    Example
    -------
    >>> import io
    >>> skip_end_tags(io.BytesIO(b"audio" + b"TAG" + bytes(125)), 133)
    5
    """
    while length := _end_tag_bytes(read_at(file, max(0, size - 128), min(size, 128))):
        if length > size:
            break
        size -= length
    return size


def _end_tag_bytes(tail: bytes) -> int:
    """Size of the tag that ends with these bytes; 0 where none ends."""
    if len(tail) == 128 and tail[:3] == b"TAG":
        return 128
    if tail[-32:-24] == b"APETAGEX":  # its size counts this footer, and not the header
        return int.from_bytes(tail[-20:-16], "little") + (32 if tail[-9] & 128 else 0)
    if tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
        return int(tail[-15:-9]) + 15
    return 0


def syncsafe(data: bytes) -> int:
    """A number of four bytes with seven bits each."""
    return sum((byte & 127) << shift for byte, shift in zip(data, (21, 14, 7, 0), strict=True))
