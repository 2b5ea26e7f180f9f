# SPDX-License-Identifier: Apache-2.0
"""Ogg (Vorbis, Opus): its header has no length, but a last page without an end mark shows that it may break off."""

import mmap
import re
from typing import BinaryIO

from ee_runtime.audio.layout import Layout, read_at

MAX_PAGE_BYTES = 65_307
HEAD_BYTES = 27
END_MARK = 4
FIRST_PAGE = re.compile(rb"OggS\0[\x02\x03\x06\x07]")  # of a stream


def ogg_layout(file: BinaryIO, size: int) -> Layout | None:
    """Return the layout of Ogg: check that the last page is whole and marked as the last.

    Returns
    -------
    Layout | None
        With a note if the file breaks off. With a refusal if a second stream begins in it, as in joined files: the
        decoder would read only the first.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if FIRST_PAGE.search(data, min(size, HEAD_BYTES)):
            return Layout(refusal="holds several streams (joined files), of which only one can be read")
    begin = max(0, size - 2 * MAX_PAGE_BYTES)
    tail = read_at(file, begin, size - begin)
    place = tail.rfind(b"OggS\0")
    if place < 0:
        return None
    page = tail[place:]
    lacing = page[HEAD_BYTES : HEAD_BYTES + page[26]] if len(page) >= HEAD_BYTES else b""
    is_whole = len(page) >= HEAD_BYTES and len(page) >= HEAD_BYTES + page[26] + sum(lacing)
    if not is_whole:
        return Layout(note="it breaks off in the middle of a page: the rest is read", can_seek=False)
    if not page[5] & END_MARK:
        return Layout(note="it ends without an end mark and may break off early: all of it is read", can_seek=False)
    return Layout()
