# SPDX-License-Identifier: Apache-2.0
"""Any sample rate to any other, block by block."""

from collections.abc import Iterable, Iterator

import numpy as np
import soxr

QUALITY = "HQ"


def resample(blocks: Iterable[np.ndarray], rate: int, new_rate: int) -> Iterator[np.ndarray]:
    """Resample blocks of one channel; the result does not depend on where the blocks are cut, bit for bit.

    The SoX resampler (libsoxr) does it, for three reasons. It keeps its state between blocks. It interpolates its
    filter, so that 44101 Hz costs as much as 44100 Hz, where a filter of one phase per output sample has 16,000 phases
    and takes gigabytes. And it needs NumPy alone and half a megabyte, so that a device without torch can do exactly the
    same.

    Arguments
    ---------
    blocks : iterable of ndarray
        (samples,) float32.
    rate : int
        Of the blocks, in Hz.
    new_rate : int
        Wanted, in Hz.

    Yields
    ------
    ndarray
        (samples,) float32; together ``round(samples * new_rate / rate)``, at least one.

    Example
    -------
    >>> whole = np.random.default_rng(0).standard_normal(44101).astype("float32")
    >>> first = np.concatenate(list(resample([whole], 44101, 16000)))
    >>> second = np.concatenate(list(resample([whole[:999], whole[999:]], 44101, 16000)))
    >>> len(first), bool((first == second).all())
    (16000, True)
    """
    if rate == new_rate:
        yield from blocks
        return
    stream = soxr.ResampleStream(rate, new_rate, 1, dtype="float32", quality=QUALITY)
    count, last = 0, None
    for block in blocks:
        made = stream.resample_chunk(block)
        last = block[-1:] if len(block) else last
        count += len(made)
        if len(made):
            yield made
    made = stream.resample_chunk(np.zeros(0, np.float32), last=True)
    if len(made):
        yield made
    elif count == 0 and last is not None:
        yield last  # a sample or two, less than one at the new rate
