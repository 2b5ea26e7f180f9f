# SPDX-License-Identifier: Apache-2.0
"""Resample between any two sample rates, block by block."""

from collections.abc import Iterable, Iterator

import numpy as np

QUALITY = "HQ"


def resample(blocks: Iterable[np.ndarray], rate: int, new_rate: int) -> Iterator[np.ndarray]:
    """Resample blocks of one channel; the result is bit-identical for any block size.

    Uses the SoX resampler (libsoxr) for three reasons. It keeps its state between blocks. It interpolates its filter,
    so 44101 Hz costs as much as 44100 Hz; a filter with one phase per output sample would have 16,000 phases and take
    gigabytes. It needs only NumPy, so a device without torch gets the same samples.

    Arguments
    ---------
    blocks : iterable of ndarray
        (samples,) float32.
    rate : int
        Sample rate of the blocks in Hz.
    new_rate : int
        Sample rate of the result in Hz.

    Yields
    ------
    ndarray
        (samples,) float32; ``round(samples * new_rate / rate)`` in total, at least one.

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
    import soxr  # here, because most recordings have the rate of the model

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
        yield last  # the input is shorter than one output sample
