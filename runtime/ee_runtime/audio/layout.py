# SPDX-License-Identifier: Apache-2.0
"""How much audio a file holds: the result type of all formats, and tags around the audio."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from ee_runtime.audio.mp3 import FrameIndex

LARGEST_FILE = 1 << 43  # 8 TB; some file systems cannot seek beyond it


@dataclass(frozen=True)
class Layout:
    """How much audio a file holds, and how to make a decoder read all of it.

    A header may be wrong in three ways. If it leaves the length open (zero or all ones, as recorders and pipes do), the
    file is read to its end. If it claims less audio than present, the file is read to its end, with a warning in
    ``note``. If it claims more, the file is truncated or its header is wrong, which cannot be told apart: ``present``
    gives the share that is present, and the reader refuses the file.

    Arguments
    ---------
    segments : sequence of tuple[int, int] | None
        Parts of the file for the decoder, see :class:`~ee_runtime.audio.source.Overlay`; None means all of it.
    patches : dict[int, bytes]
        Bytes of the header to replace, by their position in the file.
    prefix : bytes
        Bytes to insert before the first part.
    frames : int | None
        Samples per channel that are present; None if only the decoder can tell.
    present : float
        Share of the claimed audio that is present; 1 if nothing is claimed.
    note : str
        Warning about a file that is read in spite of a defect, else empty.
    refusal : str
        Why the file is refused although the decoder would read a part of it, else empty.
    can_seek : bool
        Whether the decoder may be moved to a sample: what it needs for this is in order.
    index : FrameIndex | None
        MP3: where the decoder can start; None if only at the beginning.
    """

    segments: Sequence[tuple[int, int]] | None = None
    patches: dict[int, bytes] = field(default_factory=dict)
    prefix: bytes = b""
    frames: int | None = None
    present: float = 1.0
    note: str = ""
    refusal: str = ""
    can_seek: bool = True
    index: "FrameIndex | None" = None


def read_at(file: BinaryIO, place: int, count: int) -> bytes:
    """Read up to ``count`` bytes at a position; empty if the position is outside any file."""
    if not 0 <= place <= LARGEST_FILE:
        return b""
    file.seek(place)
    return file.read(count)


def skip_id3(file: BinaryIO) -> int:
    """Return where the audio starts after ID3v2 tags, which players put before FLAC and MP3.

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
    """Return the size of the ID3v2 tag with this 10-byte head; 0 if it is none."""
    if head[:3] != b"ID3" or len(head) < 10:
        return 0
    return 10 + syncsafe(head[6:10]) + (10 if head[5] & 16 else 0)


def skip_end_tags(file: BinaryIO, size: int) -> int:
    """Return where the audio ends before tags (ID3v1, APE, Lyrics3), which players append to FLAC and MP3.

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
    """Return the size of the tag that ends with these bytes; 0 if there is none."""
    if len(tail) == 128 and tail[:3] == b"TAG":
        return 128
    if tail[-32:-24] == b"APETAGEX":  # its size includes this footer, but not the header
        return int.from_bytes(tail[-20:-16], "little") + (32 if tail[-9] & 128 else 0)
    if tail[-9:] == b"LYRICS200" and tail[-15:-9].isdigit():
        return int(tail[-15:-9]) + 15
    return 0


def syncsafe(data: bytes) -> int:
    """Decode a number of four bytes with seven bits each."""
    return sum((byte & 127) << shift for byte, shift in zip(data, (21, 14, 7, 0), strict=True))
