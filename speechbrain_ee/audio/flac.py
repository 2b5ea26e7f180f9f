# SPDX-License-Identifier: Apache-2.0
"""FLAC: every frame says where it stands, so the last one gives the length."""

from functools import cache
from typing import BinaryIO, NamedTuple

from speechbrain_ee.audio.layout import Layout, read_at, skip_end_tags, skip_id3

TAIL_BYTES = 1 << 16
MAX_TAIL_BYTES = 1 << 24
HEAD_BYTES = 17  # the longest head of a frame, with its sum
CANDIDATES = 4  # heads that are compared; some may be bytes of samples that look like one
BLOCK_SIZES = (
    {1: 192} | {code: 576 << code - 2 for code in range(2, 6)} | {code: 256 << code - 8 for code in range(8, 16)}
)


class Frame(NamedTuple):
    """The head of a frame.

    Arguments
    ---------
    first : int
        Its first sample.
    samples : int
        How many it holds.
    form : tuple of int
        What all frames of a file have in common: kind of numbering, bits of a sample.
    """

    first: int
    samples: int
    form: tuple[int, int]

    @property
    def end(self) -> int:
        """The sample behind its last."""
        return self.first + self.samples


def of_flac(file: BinaryIO, size: int) -> Layout | None:
    """Find the last frame, and compare its end with what the header claims (0: nothing)."""
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
        return None if claimed else Layout()
    where, last = last
    frames = last.end - first.first  # a stream that was caught midway counts from elsewhere
    if claimed > frames:
        return Layout(frames=frames, present=frames / claimed)
    if claimed == frames:
        return Layout(frames=frames)
    note = f"its header counts {claimed} samples where {frames} are: all are read" if claimed else ""
    if crc16(read_at(file, where, size - where)):
        frames, note = last.first - first.first, "it breaks off in the middle of a frame: what is there is read"
    return Layout(patches={begin + 21: bytes([info[13] & 0xF0]) + bytes(4)}, frames=frames, note=note)


def _last_frame(
    file: BinaryIO, stretch: tuple[int, int], block: int, first: Frame, claimed: int
) -> tuple[int, Frame] | None:
    """The last frame and its place. Bytes of samples can look like the head of a frame, though rarely.

    So a head counts if its frame ends where the header says, or at the end of the file by its sum. Where the file
    breaks off, there is no such frame: the last head that continues an earlier frame counts.
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
    """Read the head of a frame; None where it is none.

    Arguments
    ---------
    head : bytes
        From its first byte on, 17 are enough.
    block : int
        Samples of a frame where all have the same, from the file's header.

    Example
    -------
    >>> parse_frame(bytes.fromhex("fff8c908009d"), 4096) is None  # its sum is wrong
    True
    """
    if len(head) < 6 or head[0] != 0xFF or head[1] & 0xFE != 0xF8 or head[3] & 1 or head[2] & 15 == 15:
        return None
    ones = 8 - (head[4] ^ 0xFF).bit_length()  # a number as UTF-8 has it, of up to 36 bits
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
    """The sum at the end of a frame; 0 over a whole frame with its sum."""
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
