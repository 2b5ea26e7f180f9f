# SPDX-License-Identifier: Apache-2.0
"""MP3: a row of frames; most files count them in the first, others leave it to whoever reads them.

libsndfile takes the count, or guesses from the first frame's size, and reads so much and no more. So the frames are
counted here, and the decoder gets a stream of whole frames with a true count. That also keeps its library from writing
to standard error about tags and pieces of frames.
"""

import mmap
import struct
from typing import BinaryIO, NamedTuple

from speechbrain_ee.audio.layout import Layout, skip_id3, syncsafe

RATES = {3: (44100, 48000, 32000), 2: (22050, 24000, 16000), 0: (11025, 12000, 8000)}  # MPEG 1, 2, 2.5
LAYER_1 = (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448)
LAYER_2 = (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384)
LAYER_3 = (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
LAYER_1_OF_2 = (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256)
LAYER_23_OF_2 = (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160)
MAX_GAP_BYTES = 1 << 16
TOLERANCE_S = 0.1


class Head(NamedTuple):
    """The head of a frame: its ``size`` in bytes, samples, rate, and what all frames have in common."""

    size: int
    samples: int
    rate: int
    form: tuple[int, int, int]


def parse_head(data: bytes) -> Head | None:
    """Read the four bytes at the start of a frame; None where they are none.

    Example
    -------
    >>> parse_head(bytes.fromhex("fffb9064"))  # 128 kbit/s at 44.1 kHz
    Head(size=417, samples=1152, rate=44100, form=(3, 3, 0))
    """
    if len(data) < 4 or data[0] != 0xFF or data[1] & 0xE0 != 0xE0:
        return None
    version, layer = data[1] >> 3 & 3, 4 - (data[1] >> 1 & 3)
    bitrate, rate_index = data[2] >> 4, data[2] >> 2 & 3
    if version == 1 or layer == 4 or bitrate in (0, 15) or rate_index == 3:
        return None
    rate, is_first = RATES[version][rate_index], version == 3
    if is_first:
        table = (LAYER_1, LAYER_2, LAYER_3)[layer - 1]
    else:
        table = LAYER_1_OF_2 if layer == 1 else LAYER_23_OF_2
    bits, padding = 1000 * table[bitrate - 1], data[2] >> 1 & 1
    if layer == 1:
        return Head((12 * bits // rate + padding) * 4, 384, rate, (version, layer, rate_index))
    samples = 576 if layer == 3 and not is_first else 1152
    return Head(samples // 8 * bits // rate + padding, samples, rate, (version, layer, rate_index))


class Walk(NamedTuple):
    """What is found from head to head: stretches of frames, how many, bytes between them, and a cut last one."""

    segments: list[tuple[int, int]]
    head: Head
    count: int
    skipped: int
    is_cut: bool


def of_mp3(file: BinaryIO, size: int) -> Layout | None:
    """Count the frames, and give the decoder their number; None where there are none."""
    start = skip_id3(file)
    if size - start < 4:
        return None
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        found = _walk(data, start, size)
        if found is None:
            return None
        begin, counter = found.segments[0][0], _counter(data, found)
        if counter is None:
            prefix = _count_frame(bytes(data[begin : begin + 4]), found.count)
            return Layout(segments=found.segments, prefix=prefix, is_mpeg=True, note=_note(found, None))
        place, claimed = counter
        frames = found.count - 1  # the one that counts holds no audio
        patches = {place: struct.pack(">I", frames)}
        if data[place - 1] & 2:
            num_bytes = sum(end - first for first, end in found.segments)
            patches[place + 4] = struct.pack(">I", min(num_bytes, 0xFFFFFFFF))
        is_short = (claimed - frames) * found.head.samples > TOLERANCE_S * found.head.rate
        present = frames / claimed if is_short else 1.0
        return Layout(
            segments=found.segments, patches=patches, present=present, is_mpeg=True, note=_note(found, claimed)
        )


def _walk(data: mmap.mmap, start: int, size: int) -> Walk | None:
    first = _find(data, start, size, None)
    if first is None:
        return None
    place, head = first
    segments, count, skipped, is_cut = [[place, place]], 0, 0, False
    while place < size:
        here = parse_head(data[place : place + 4])
        if here is not None and here.form == head.form:
            if place + here.size > size:
                is_cut = True
                break
            count, place = count + 1, place + here.size
            segments[-1][1] = place
            continue
        tag = _tag_bytes(data[place : place + 10])
        again = _find(data, place + tag, size, head.form)
        if again is None:
            break
        skipped, place = skipped + again[0] - place - tag, again[0]
        segments.append([place, place])
    return Walk([tuple(one) for one in segments], head, count, skipped, is_cut) if count else None


def _tag_bytes(head: bytes) -> int:
    """Size of a tag between frames, as in files that were put together; 0 where there is none."""
    if head[:3] == b"TAG":
        return 128
    return 10 + syncsafe(head[6:10]) if head[:3] == b"ID3" and len(head) == 10 else 0


def _find(data: mmap.mmap, start: int, size: int, form: tuple | None) -> tuple[int, Head] | None:
    """The next frame that another one follows, or the end of the file."""
    place = start - 1
    while 0 <= (place := data.find(b"\xff", place + 1, start + MAX_GAP_BYTES)):
        head = parse_head(data[place : place + 4])
        if head is None or (form is not None and head.form != form):
            continue
        behind = place + head.size
        after = parse_head(data[behind : behind + 4])
        if behind == size or (after is not None and after.form == head.form) or data[behind : behind + 3] == b"TAG":
            return place, head
    return None


def _counter(data: mmap.mmap, found: Walk) -> tuple[int, int] | None:
    """Where the first frame counts the others, and what it says."""
    begin = found.segments[0][0]
    is_mono, is_mpeg1 = data[begin + 3] >> 6 == 3, found.head.form[0] == 3
    place = begin + 4 + _side_bytes(is_mono=is_mono, is_mpeg1=is_mpeg1)
    if data[place : place + 4] not in (b"Xing", b"Info") or not data[place + 7] & 1:
        return None
    return place + 8, int.from_bytes(data[place + 8 : place + 12], "big")


def _count_frame(head: bytes, count: int) -> bytes:
    """A frame of no audio that counts the others, as Xing's encoder began to write it."""
    version, is_mono = head[1] >> 3 & 3, head[3] >> 6 == 3
    long_enough = bytes([0xFF, head[1] | 1, 8 << 4 | head[2] & 0x0C, head[3]])
    body = bytes(_side_bytes(is_mono=is_mono, is_mpeg1=version == 3)) + b"Xing" + struct.pack(">II", 1, count)
    return (long_enough + body).ljust(parse_head(long_enough).size, b"\0")


def _side_bytes(*, is_mono: bool, is_mpeg1: bool) -> int:
    """Bytes between a frame's head and the sound, where a count stands."""
    if is_mpeg1:
        return 17 if is_mono else 32
    return 9 if is_mono else 17


def _note(found: Walk, claimed: int | None) -> str:
    if claimed is not None and (found.count - 1 - claimed) * found.head.samples > TOLERANCE_S * found.head.rate:
        return f"its header counts {claimed} frames where {found.count - 1} are: all are read"
    if found.skipped:
        return f"{found.skipped} bytes between its frames are no audio and were skipped"
    if claimed is None and found.is_cut:
        return "it breaks off in the middle of a frame: what is there is read"
    return ""
