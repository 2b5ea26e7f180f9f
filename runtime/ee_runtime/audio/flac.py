# SPDX-License-Identifier: Apache-2.0
"""FLAC: every frame has its position, so the last frame gives the length."""

from functools import cache
from typing import BinaryIO, NamedTuple

from ee_runtime.audio.layout import Layout, read_at, skip_end_tags, skip_id3

TAIL_BYTES = 1 << 16
MAX_TAIL_BYTES = 1 << 24
HEAD_BYTES = 17  # longest frame header, including its checksum
CANDIDATES = 4  # headers that are compared; some may be samples that look like a header
BLOCK_SIZES = (
    {1: 192} | {code: 576 << code - 2 for code in range(2, 6)} | {code: 256 << code - 8 for code in range(8, 16)}
)


class Frame(NamedTuple):
    """The header of a frame.

    Arguments
    ---------
    first : int
        Number of its first sample.
    samples : int
        Number of its samples.
    form : tuple of int
        Properties that all frames of a file share: kind of numbering, bits per sample.
    """

    first: int
    samples: int
    form: tuple[int, int]

    @property
    def end(self) -> int:
        """Number of the sample after its last."""
        return self.first + self.samples


def flac_layout(file: BinaryIO, size: int) -> Layout | None:
    """Return the layout of FLAC: compare the end of the last frame with the length in the header (0 if open)."""
    begin, size = skip_id3(file), skip_end_tags(file, size)
    info = read_at(file, begin + 8, 34)
    place, is_last = begin + 4, False
    while not is_last:
        head = read_at(file, place, 4)
        if len(head) < 4:
            return None
        is_last = bool(head[0] & 128)
        place += 4 + int.from_bytes(head[1:], "big")
    block = int.from_bytes(info[:2], "big")
    claimed = int.from_bytes(info[10:18], "big") & (1 << 36) - 1
    first = parse_frame(read_at(file, place, HEAD_BYTES), block)
    last = first and _last_frame(file, (place, size), block, first, claimed)
    if last is None:
        return Layout(can_seek=False)
    where, last = last
    frames = last.end - first.first  # a recorded stream may not start at sample 0
    if claimed > frames:
        return Layout(frames=frames, present=frames / claimed, can_seek=False)
    if claimed == frames:
        return Layout(frames=frames, can_seek=first.first == 0)
    note = f"its header counts {claimed} samples where {frames} are: all are read" if claimed else ""
    if crc16(read_at(file, where, size - where)):
        frames, note = last.first - first.first, "it breaks off in the middle of a frame: the rest is read"
    return Layout(patches={begin + 21: bytes([info[13] & 0xF0]) + bytes(4)}, frames=frames, note=note, can_seek=False)


def _last_frame(
    file: BinaryIO, stretch: tuple[int, int], block: int, first: Frame, claimed: int
) -> tuple[int, Frame] | None:
    """Return the position of the last frame, and the frame.

    Samples may look like a frame header, though rarely. So a header is accepted if its frame ends at the claimed
    length, or if the checksum holds up to the end of the file. If the file breaks off there is no such frame: then the
    last header that continues an earlier frame is accepted.
    """
    start, size = stretch
    window = TAIL_BYTES
    while True:
        begin = max(start, size - window)
        tail = read_at(file, begin, size - begin)
        place, found = len(tail), []
        while len(found) < CANDIDATES and (place := tail.rfind(b"\xff", 0, place)) >= 0:
            frame = parse_frame(tail[place : place + HEAD_BYTES], block)
            if frame is None or frame.form != first.form:
                continue
            found.append((begin + place, frame))
            if frame.end - first.first == claimed or crc16(tail[place:]) == 0:
                return found[-1]
        if len(found) == CANDIDATES or begin == start or window >= MAX_TAIL_BYTES:
            ends = {frame.end for _, frame in found}
            return next((one for one in found if one[1].first in ends), found[0] if found else None)
        window *= 4


def parse_frame(head: bytes, block: int) -> Frame | None:
    """Parse a frame header; None if it is not one.

    Arguments
    ---------
    head : bytes
        Its first 17 bytes.
    block : int
        Samples per frame of a file with fixed block size, from the file's header.

    Example
    -------
    >>> parse_frame(bytes.fromhex("fff8c908009d"), 4096) is None  # wrong checksum
    True
    """
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8 or head[3] & 1 or head[2] & 15 == 15:
        return None
    ones = 8 - (head[4] ^ 0xFF).bit_length()  # a number of up to 36 bits, coded like UTF-8
    extra = max(0, ones - 1)
    if ones in (1, 8) or any(byte & 0xC0 != 0x80 for byte in head[5 : 5 + extra]):
        return None
    number = head[4] & (0x7F >> ones)
    for byte in head[5 : 5 + extra]:
        number = number << 6 | byte & 0x3F
    place, code = 5 + extra, head[2] >> 4
    samples = BLOCK_SIZES.get(code)
    if code in (6, 7):
        samples = int.from_bytes(head[place : place + code - 5], "big") + 1
        place += code - 5
    place += {12: 1, 13: 2, 14: 2}.get(head[2] & 15, 0)
    if samples is None or len(head) <= place or _crc8(head[:place]) != head[place]:
        return None
    is_variable = head[1] & 1
    return Frame(number if is_variable else number * block, samples, (is_variable, head[3] & 14))


def _crc8(data: bytes) -> int:
    total = 0
    for byte in data:
        total ^= byte
        for _ in range(8):
            total = (total << 1 ^ 0x07) & 0xFF if total & 0x80 else total << 1
    return total


def crc16(data: bytes) -> int:
    """Return the checksum of a frame; 0 over a frame that includes its checksum."""
    table, total = _crc16_table(), 0
    for byte in data:
        total = (total << 8 & 0xFFFF) ^ table[total >> 8 ^ byte]
    return total


@cache
def _crc16_table() -> list[int]:
    table = []
    for byte in range(256):
        total = byte << 8
        for _ in range(8):
            total = (total << 1 ^ 0x8005) & 0xFFFF if total & 0x8000 else total << 1
        table.append(total)
    return table
