# SPDX-License-Identifier: Apache-2.0
"""WAV, RF64, W64, AIFF, AU, CAF and NIST SPHERE: formats whose header gives the number of bytes of samples."""

import re
import struct
from collections.abc import Iterator
from typing import BinaryIO, NamedTuple

from ee_runtime.audio.layout import Layout, read_at, skip_end_tags

MAX_CHUNKS = 10_000
# Programs that stream write 0, all ones, or the largest signed number, which some of them round down.
OPEN_32, OPEN_64 = 0x7FFFF000, 1 << 60
TAGS = (b"TAG", b"ID3", b"APE", b"LYR")  # that music players append to the samples


class Field(NamedTuple):
    """A number in a header that gives the length of the samples.

    Arguments
    ---------
    place : int
        Position of its first byte.
    form : str
        Format character of ``struct``.
    unit : int
        Bytes per unit of the number: 1, or the size of a frame.
    more : int
        Bytes that it counts in addition to the samples.
    """

    place: int
    form: str
    unit: int = 1
    more: int = 0

    def packed(self, num_bytes: int) -> bytes:
        """Return the packed number for ``num_bytes`` bytes of samples; all ones if it overflows."""
        limit = (1 << 8 * struct.calcsize(self.form)) - 1
        return struct.pack(self.form, min(num_bytes // self.unit + self.more, limit))


class Chunking(NamedTuple):
    """The head of a chunk.

    Arguments
    ---------
    head : str
        Name and length, in the format of ``struct``.
    own : int
        Bytes of the head that are included in the length.
    align : int
        Chunks start at multiples of this number of bytes.
    """

    head: str
    own: int = 0
    align: int = 2


RIFF, RIFX, W64, CAF = Chunking("<4sI"), Chunking(">4sI"), Chunking("<16sQ", own=24, align=8), Chunking(">4sq", align=1)


def riff_layout(file: BinaryIO, size: int) -> Layout | None:
    """Return the layout of WAV, RF64, BW64, or big-endian RIFX."""
    magic = read_at(file, 0, 4)
    kind = RIFX if magic == b"RIFX" else RIFF
    wide = None
    for name, place, length in _chunks(file, 12, kind):
        if name == b"ds64":
            wide = Field(place + 8, "<Q")
        if name == b"data":
            length_field = Field(place - 4, kind.head[0] + "I")
            is_wide = magic in (b"RF64", b"BW64") and length == 0xFFFFFFFF and wide is not None
            if is_wide:
                length_field, length = wide, struct.unpack("<Q", read_at(file, wide.place, 8))[0]
            is_open = length >= (OPEN_64 if is_wide else OPEN_32) and place + length > size
            is_open = is_open or (length == 0 and not _ends_in_chunks(file, place, size, kind))
            tail = None if is_open else _tail(file, place + length, size, kind)
            return _layout([length_field], place, size, None if is_open else length, tail)
    return None


def w64_layout(file: BinaryIO, size: int) -> Layout | None:
    """Return the layout of Sony's Wave64: names of 16 bytes, sizes of 8 bytes that include the chunk's head."""
    for name, place, length in _chunks(file, 40, W64):
        if name == b"data":
            is_open = length < 0 or length >= OPEN_64
            is_open = is_open or (length == 0 and not _ends_in_chunks(file, place, size, W64))
            return _layout([Field(place - 8, "<Q", more=24)], place, size, None if is_open else length, None)
    return None


def aiff_layout(file: BinaryIO, size: int) -> Layout | None:
    """Return the layout of AIFF or AIFF-C, which count frames in one chunk and bytes in another."""
    frames = None
    for name, place, length in _chunks(file, 12, RIFX):
        if name == b"COMM":
            channels, _, bits = struct.unpack(">HIH", read_at(file, place, 8))
            frames = Field(place + 2, ">I", max(1, channels * -(-bits // 8)))
        if name == b"SSND":
            if length <= 8 and any(_ends_in_chunks(file, place + skipped, size, RIFX) for skipped in (0, 8)):
                return Layout(frames=0)
            is_open = length <= 8 or (length >= OPEN_32 and place + length > size)
            fields = [Field(place - 4, ">I", more=8)]
            is_plain = read_at(file, 8, 4) == b"AIFF"  # in AIFF-C, samples may be compressed
            if frames is not None and is_plain:
                fields.append(frames)
            tail = None if is_open else _tail(file, place + length, size, RIFX)
            return _layout(fields, place + 8, size, None if is_open else length - 8, tail)
    return None


def au_layout(file: BinaryIO, size: int) -> Layout | None:
    """Return the layout of Sun's AU, of either byte order."""
    head = read_at(file, 0, 12)
    order = ">" if head[:4] == b".snd" else "<"
    start, length = struct.unpack(order + "II", head[4:12])
    is_open = length == 0 or (length >= OPEN_32 and start + length > size)
    tail = _tail(file, start + length, size, RIFX if order == ">" else RIFF)
    return _layout([Field(8, order + "I")], start, size, None if is_open else length, tail)


def caf_layout(file: BinaryIO, size: int) -> Layout | None:
    """Return the layout of Apple's CAF: sizes of 8 bytes; -1 means "to the end of the file"."""
    for name, place, length in _chunks(file, 8, CAF):
        if name == b"data":
            is_open = length < 4 or (length == 4 and not _ends_in_chunks(file, place + 4, size, CAF))
            return _layout([Field(place - 8, ">Q", more=4)], place + 4, size, None if is_open else length - 4, None)
    return None


def nist_layout(file: BinaryIO, size: int) -> Layout | None:
    """Return the layout of NIST SPHERE with uncompressed samples, as in TIMIT and WSJ; its header is text."""
    head = read_at(file, 0, 1024).decode("latin-1")
    numbers = dict(re.findall(r"^(\w+) -i (\d+)", head, re.MULTILINE))
    start = re.match(r"NIST_1A\s+(\d+)", head)
    names = ("sample_count", "channel_count", "sample_n_bytes")
    if start is None or not all(name in numbers for name in names):
        return None
    count, channels, width = (int(numbers[name]) for name in names)
    have = size - int(start[1])
    claimed = count * channels * width
    return Layout(present=min(1.0, max(0, have) / claimed)) if claimed else None


def _chunks(file: BinaryIO, place: int, kind: Chunking) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, position and length of the contents of each chunk; the length of the last is unchecked."""
    width = struct.calcsize(kind.head)
    for _ in range(MAX_CHUNKS):
        head = read_at(file, place, width)
        if len(head) < width:
            return
        name, length = struct.unpack(kind.head, head)
        length -= kind.own
        yield name[:4], place + width, length
        if length < 0:
            return
        place += width + length + -length % kind.align


def _ends_in_chunks(file: BinaryIO, place: int, size: int, kind: Chunking) -> bool:
    """Whether chunks, not samples, fill the file from ``place`` to its end or its tags."""
    end, size = place, skip_end_tags(file, size)
    for name, start, length in _chunks(file, place, kind):
        if end + -end % kind.align >= size:
            break
        if length < 0 or not _is_name(name):
            return False
        end = start + length
    return end <= size <= end + -end % kind.align


def _is_name(name: bytes) -> bool:
    return all(32 <= byte < 127 for byte in name)


def _tail(file: BinaryIO, place: int, size: int, kind: Chunking) -> int | None:
    """Return ``place`` if samples continue there: the bytes are not chunks, tags or zeros. Else return None."""
    begin = place + place % 2
    for name, start, length in _chunks(file, begin, kind):
        if name[:3] in TAGS:
            return None
        if not _is_name(name) or start + length > size + 1:
            rest = read_at(file, start - 8, 1 << 16)
            return place if any(rest) else None
    return None


def _layout(fields: list[Field], start: int, size: int, claimed: int | None, tail: int | None) -> Layout:
    """Compare the claimed bytes (None if the length is open) with the present ones; ``tail`` is from :func:`_tail`."""
    have = max(0, size - start)
    if claimed == 0:
        return Layout(frames=0)
    if claimed is not None and claimed > have:
        return Layout(present=have / claimed)
    is_longer = claimed is not None and tail is not None and have > claimed
    if claimed is None or is_longer:
        share = f"its header counts {claimed} bytes of samples where {have} follow: all are read" if is_longer else ""
        return Layout(patches={one.place: one.packed(have) for one in fields}, note=share)
    return Layout()
