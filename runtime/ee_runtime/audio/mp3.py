# SPDX-License-Identifier: Apache-2.0
"""MP3: a sequence of frames, often with their number in the first one.

libsndfile reads as many frames as this number says, or as it estimates from the size of the first frame. So the frames
are counted here, and the decoder gets a stream of whole frames with the correct number. This also prevents its messages
on standard error about tags and partial frames.
"""

import mmap
import struct
from collections.abc import Sequence
from typing import BinaryIO, NamedTuple

from ee_runtime.audio.layout import Layout, id3_bytes, skip_end_tags, skip_id3

RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # MPEG 1, 2, 2.5
LAYER_1 = (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448)
LAYER_2 = (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
LAYER_3 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
LAYER_1_OF_2 = (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
LAYER_23_OF_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
MAX_START_BYTES = 1 << 16  # search range of the first frame
FRAMES_IN_A_ROW = 3  # consecutive headers, each where the one before ends, that are not a coincidence
TOLERANCE_S = 0.1
SPACING = 64  # frames between the places of an index; a multiple of 8, after which the filter has the same phase


class Head(NamedTuple):
    """The header of a frame: ``size`` in bytes, samples, sample rate, and the properties that all frames share."""

    size: int
    samples: int
    rate: int
    form: tuple[int, int, int, bool]


def parse_head(data: bytes) -> Head | None:
    """Parse the four bytes of a frame header; None if they are not one.

    Example
    -------
    >>> parse_head(bytes.fromhex("fffb9064"))  # 128 kbit/s at 44.1 kHz
    Head(size=417, samples=1152, rate=44100, form=(3, 3, 0, False))
    """
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return None
    version, layer = data[1] >> 3 & 3, 4 - (data[1] >> 1 & 3)
    bitrate, rate_index = data[2] >> 4, data[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate_index == 3:
        return None
    rate, is_first = RATES[version][rate_index], version == 3
    form = version, layer, rate_index, data[3] >> 6 == 3  # 3: mono
    if is_first:
        table = (LAYER_1, LAYER_2, LAYER_3)[layer - 1]
    else:
        table = LAYER_1_OF_2 if layer == 1 else LAYER_23_OF_2
    bits, padding = 1000 * table[bitrate - 1], data[2] >> 1 & 1
    if layer == 1:
        return Head((12 * bits // rate + padding) * 4, 384, rate, form)
    samples = 576 if layer == 3 and not is_first else 1152
    return Head(samples // 8 * bits // rate + padding, samples, rate, form)


class FrameIndex(NamedTuple):
    """Where the decoder can start.

    Arguments
    ---------
    places : sequence of int
        Positions of the frames 0, 64, 128, ... that have audio.
    count : int
        Number of frames that have audio.
    head : Head
        Header of the first frame.
    counter : int | None
        Position of the number of frames in the file; None if the file has none.
    """

    places: Sequence[int]
    count: int
    head: Head
    counter: int | None


class Walk(NamedTuple):
    """The result of a walk from header to header.

    Parts of the file with frames, first header, number of frames, other bytes between and after them, whether the last
    frame is cut, whether there are frames with other properties, and the positions of every 64th frame.
    """

    segments: list[tuple[int, int]]
    head: Head
    count: int
    skipped: int
    behind: int
    is_cut: bool
    has_others: bool
    places: list[int]


def mp3_layout(file: BinaryIO, size: int) -> Layout | None:
    """Return the layout of MP3 with the counted number of frames; None if there are no frames."""
    start, size = skip_id3(file), skip_end_tags(file, size)
    if size - start < 4:
        return None
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = _walk(data, start, size)
        if found is None:
            return None
        if found.has_others:
            what = "MP3 of several rates, layers or numbers of channels"
            return Layout(refusal=f"holds {what} (joined files), of which only one can be read")
        begin, counter = found.segments[0][0], _counter(data, found)
        if counter is None:
            prefix = count_frame(bytes(data[begin : begin + 4]), found.count)
            index = _index(found, found.places, found.count, None)
            return Layout(segments=found.segments, prefix=prefix, note=_note(found, None), index=index)
        place, claimed = counter
        frames = found.count - 1  # the frame with the number has no audio
        patches = {place: struct.pack(">I", frames)}
        if data[place - 1] & 2:
            num_bytes = sum(end - first for first, end in found.segments)
            patches[place + 4] = struct.pack(">I", min(num_bytes, 0xFFFFFFFF))
        is_short = (claimed - frames) * found.head.samples > TOLERANCE_S * found.head.rate
        present = frames / claimed if is_short else 1.0
        places = [one + parse_head(data[one : one + 4]).size for one in found.places]  # after the frame without audio
        return Layout(
            segments=found.segments,
            patches=patches,
            present=present,
            note=_note(found, claimed),
            index=_index(found, places, frames, place),
        )


def _index(found: Walk, places: list[int], count: int, counter: int | None) -> FrameIndex | None:
    """Return the places where the decoder can start; None if other bytes are between the frames."""
    return FrameIndex(places, count, found.head, counter) if len(found.segments) == 1 else None


def _walk(data: mmap.mmap, start: int, size: int) -> Walk | None:
    first = _find(data, start, size, None)
    if first is None:
        return None
    place, head = first
    segments, count, skipped, behind, is_cut, has_others = [[place, place]], 0, 0, 0, False, False
    places = []
    while place < size:
        here = parse_head(data[place : place + 4])
        if here is not None and here.form == head.form:
            if place + here.size > size:
                is_cut = True
                break
            if count % SPACING == 0:
                places.append(place)
            count, place = count + 1, place + here.size
            segments[-1][1] = place
            continue
        gap = _skip_tags(data, place)
        again = _find(data, gap, size, head.form)
        place = size if again is None else again[0]
        has_others = has_others or _has_row(data, gap, place)
        if again is None:
            behind = size - gap if data[gap:size].strip(b"\0") else 0
            break
        skipped += place - gap
        segments.append([place, place])
    if not count:
        return None
    return Walk([tuple(one) for one in segments], head, count, skipped, behind, is_cut, has_others, places)


def _skip_tags(data: mmap.mmap, place: int) -> int:
    """Return where frames may continue after tags, as in joined files."""
    while length := _tag_bytes(data, place):
        place += length
    return min(place, len(data))


def _tag_bytes(data: mmap.mmap, place: int) -> int:
    """Return the size of the tag at ``place``; 0 if there is none."""
    head = data[place : place + 32]
    if head[:3] == b"TAG":
        return 128
    if head[:8] == b"APETAGEX" and len(head) == 32:
        is_header = head[23] & 32  # its size does not include the header
        return 32 + (int.from_bytes(head[12:16], "little") if is_header else 0)
    return id3_bytes(head[:10])


def _find(data: mmap.mmap, start: int, size: int, form: tuple | None) -> tuple[int, Head] | None:
    """Return the next frame that is followed by a frame, a tag or the end; the first frame is near the file's start."""
    place, limit = start - 1, min(size, start + MAX_START_BYTES) if form is None else size
    while 0 <= (place := data.find(b"\xff", place + 1, limit)):
        head = parse_head(data[place : place + 4])
        if head is None or (form is not None and head.form != form):
            continue
        behind = place + head.size
        after = parse_head(data[behind : behind + 4])
        if behind == size or (after is not None and after.form == head.form) or _tag_bytes(data, behind):
            return place, head
    return None


def _has_row(data: mmap.mmap, start: int, end: int) -> bool:
    """Whether several frames with equal properties follow each other between two positions."""
    place = start - 1
    while 0 <= (place := data.find(b"\xff", place + 1, end)):
        forms, here = [], place
        while len(forms) < FRAMES_IN_A_ROW and (head := parse_head(data[here : here + 4])) and here < end:
            forms, here = [*forms, head.form], here + head.size
        if len(forms) == FRAMES_IN_A_ROW and len(set(forms)) == 1:
            return True
    return False


def _counter(data: mmap.mmap, found: Walk) -> tuple[int, int] | None:
    """Return the position of the number of frames in the first frame, and the number; None if it has none."""
    begin = found.segments[0][0]
    is_mono, is_mpeg1 = data[begin + 3] >> 6 == 3, found.head.form[0] == 3
    place = begin + 4 + side_bytes(is_mono=is_mono, is_mpeg1=is_mpeg1)
    if data[place : place + 4] not in (b"Xing", b"Info") or not data[place + 7] & 1:
        return None
    return place + 8, int.from_bytes(data[place + 8 : place + 12], "big")


def count_frame(head: bytes, count: int) -> bytes:
    """Make a frame without audio that has the number of frames: a Xing header."""
    version, is_mono = head[1] >> 3 & 3, head[3] >> 6 == 3
    long_enough = bytes([0xFF, head[1] | 1, 8 << 4 | head[2] & 0x0C, head[3]])
    body = bytes(side_bytes(is_mono=is_mono, is_mpeg1=version == 3)) + b"Xing" + struct.pack(">II", 1, count)
    return (long_enough + body).ljust(parse_head(long_enough).size, b"\0")


def side_bytes(*, is_mono: bool, is_mpeg1: bool) -> int:
    """Return the bytes between a frame's header and a Xing header."""
    if is_mpeg1:
        return 17 if is_mono else 32
    return 9 if is_mono else 17


def _note(found: Walk, claimed: int | None) -> str:
    notes = []
    if claimed is not None and (found.count - 1 - claimed) * found.head.samples > TOLERANCE_S * found.head.rate:
        notes.append(f"its header counts {claimed} frames where {found.count - 1} are: all are read")
    if found.skipped:
        notes.append(f"{found.skipped} bytes between its frames are not audio and were skipped")
    if found.behind:
        notes.append(f"{found.behind} bytes after its last frame are not audio and are not read")
    if claimed is None and found.is_cut:
        notes.append("it breaks off in the middle of a frame: the rest is read")
    return "; ".join(notes)
