# SPDX-License-Identifier: Apache-2.0
"""Ogg (Vorbis, Opus): its header claims no length; a last page without an end mark says that it may break off."""

import mmap
import re
from typing import BinaryIO

from speechbrain_ee.audio.layout import Layout, read_at

MAX_PAGE_BYTES = 65_307
HEAD_BYTES = 27
END_MARK = 4
FIRST_PAGE = re.compile(rb"OggS\0[\x02\x03\x06\x07]")  # of a stream


def of_ogg(file: BinaryIO, size: int) -> Layout | None:
    """Look at the last page: whether it is whole, and whether it is marked as the last.

    Returns
    -------
    Layout | None
        With a note where it breaks off: what is there is read. A refusal where another stream begins in it, as in
        files that were joined: the decoder reads the first one alone.
    """
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        if FIRST_PAGE.search(data, min(size, HEAD_BYTES)):
            return Layout(refusal="holds several streams (joined files), of which one can be read")
    begin = max(0, size - 2 * MAX_PAGE_BYTES)
    tail = read_at(file, begin, size - begin)
    place = tail.rfind(b"OggS\0")
    if place < 0:
        return None
    page = tail[place:]
    lacing = page[HEAD_BYTES : HEAD_BYTES + page[26]] if len(page) >= HEAD_BYTES else b""
    is_whole = len(page) >= HEAD_BYTES and len(page) >= HEAD_BYTES + page[26] + sum(lacing)
    if not is_whole:
        return Layout(note="it breaks off in the middle of a page: what is there is read")
    if not page[5] & END_MARK:
        return Layout(note="it ends without an end mark and may break off early: what is there is read")
    return Layout()
