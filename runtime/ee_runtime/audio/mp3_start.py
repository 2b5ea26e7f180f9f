# SPDX-License-Identifier: Apache-2.0
"""Start the MP3 decoder in the middle of a file, with the same samples as if it began at the first frame.

A frame continues what earlier frames began: its data may start up to 511 bytes before it, its samples overlap with
those of the frame before, and the filter's phase depends on the number of decoded frames. So the decoder starts at a
multiple of 64 frames, at least 64 frames before the first sample wanted. The first 32 of them are made silent: their
data may start in frames that the decoder has not seen.
"""

import struct
from dataclasses import replace
from typing import BinaryIO

from ee_runtime.audio.layout import Layout, read_at
from ee_runtime.audio.mp3 import SPACING, count_frame, parse_head, side_bytes

SILENCED = 32  # frames; the shortest have 11 bytes of data, and data may start 255 bytes before them


def start_near(file: BinaryIO, layout: Layout, sample: int) -> tuple[Layout, int]:
    """Return a layout with which the decoder starts shortly before a sample, and the sample that it then returns first.

    Arguments
    ---------
    file : BinaryIO
        The file.
    layout : Layout
        Its layout.
    sample : int
        First sample that must be right.

    Returns
    -------
    tuple[Layout, int]
        The given layout and 0 if the sample is near the beginning, or if other bytes are between the frames.
    """
    index = layout.index
    if index is None:
        return layout, 0
    at = sample // (SPACING * index.head.samples) - 1
    if at < 1 or at >= len(index.places):
        return layout, 0
    (begin, end), start = layout.segments[0], index.places[at]
    count = index.count - SPACING * at
    patches = dict(layout.patches)
    segments, prefix = [(start, end)], b""
    if index.counter is None:
        prefix = count_frame(read_at(file, begin, 4), count)
    else:
        segments.insert(0, (begin, index.places[0]))
        patches[index.counter] = struct.pack(">I", count)
        if index.counter + 4 in patches:
            num_bytes = end - start + index.places[0] - begin
            patches[index.counter + 4] = struct.pack(">I", min(num_bytes, 0xFFFFFFFF))
    patches |= _silence(file, start)
    return replace(layout, segments=segments, prefix=prefix, patches=patches), SPACING * at * index.head.samples


def _silence(file: BinaryIO, place: int) -> dict[int, bytes]:
    """Return patches that make frames of layer 3 silent: side information of zeros says that no samples are coded.

    Its first number stays: where the data of the frame begin. The decoder keeps data from there on for later frames.
    """
    patches = {}
    for _ in range(SILENCED):
        data = read_at(file, place, 8)
        head = parse_head(data)
        if head is None or head.form[1] != 3:
            break
        is_mpeg1 = head.form[0] == 3
        size = side_bytes(is_mono=head.form[3], is_mpeg1=is_mpeg1)
        begin = 4 if data[1] & 1 else 6  # after a checksum
        kept = bytes([data[begin], data[begin + 1] & 128 if is_mpeg1 else 0])  # 9 bits, or 8
        patches[place + begin] = kept + bytes(size - 2)
        place += head.size
    return patches
