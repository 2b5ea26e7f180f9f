# SPDX-License-Identifier: Apache-2.0
"""Cut long recordings at pauses, so that memory use does not grow with the length."""

from collections.abc import Iterable, Iterator

import numpy as np


def cut_at_pauses(
    waveform: np.ndarray,
    sample_rate: int,
    *,
    max_seconds: float,
    search_seconds: float = 10.0,
    pause_seconds: float = 0.2,
) -> list[np.ndarray]:
    """Cut a waveform into parts of at most ``max_seconds``, at the quietest position before each limit.

    Arguments
    ---------
    waveform : np.ndarray
        (samples,).
    sample_rate : int
        Sample rate in Hz.
    max_seconds : float
        Length of the longest part.
    search_seconds : float
        A part ends at the quietest position of its last ``search_seconds``, or of the whole part if it is shorter.
    pause_seconds : float
        Length of the windows over which the energy is measured.

    Returns
    -------
    list[np.ndarray]
        The parts in order; concatenated they are the waveform.

    Raises
    ------
    ValueError
        If ``pause_seconds`` is not shorter than ``search_seconds`` and ``max_seconds``, or shorter than a sample.

    Example
    -------
    >>> waveform = np.random.default_rng(0).normal(size=50)
    >>> parts = cut_at_pauses(waveform, 1, max_seconds=20, search_seconds=10, pause_seconds=1)
    >>> sum(len(part) for part in parts), max(len(part) for part in parts) <= 20
    (50, True)
    """
    return list(
        cut_stream(
            [waveform],
            sample_rate,
            max_seconds=max_seconds,
            search_seconds=search_seconds,
            pause_seconds=pause_seconds,
        )
    )


def cut_stream(
    blocks: Iterable[np.ndarray],
    sample_rate: int,
    *,
    max_seconds: float,
    search_seconds: float = 10.0,
    pause_seconds: float = 0.2,
) -> Iterator[np.ndarray]:
    """Cut a stream of blocks (samples,) as :func:`cut_at_pauses` does; one part and one block are in memory.

    Yields
    ------
    np.ndarray
        The parts in order; they do not depend on the sizes of the blocks.

    Example
    -------
    >>> waveform = np.random.default_rng(0).normal(size=49)
    >>> how = {"max_seconds": 20, "search_seconds": 10, "pause_seconds": 1}
    >>> stream, whole = cut_stream(np.split(waveform, 7), 1, **how), cut_at_pauses(waveform, 1, **how)
    >>> all(np.array_equal(*pair) for pair in zip(stream, whole, strict=True))
    True
    """
    limit = int(max_seconds * sample_rate)
    search = min(int(search_seconds * sample_rate), limit)
    window = max(1, int(pause_seconds * sample_rate))
    if not 0 < window < search:
        raise ValueError(
            f"pause_seconds={pause_seconds} must be shorter than search_seconds={search_seconds} and "
            f"max_seconds={max_seconds}: change one of them"
        )
    rest = None
    for block in blocks:
        rest = block if rest is None else np.concatenate([rest, block])
        while len(rest) > limit:
            cut = limit - search + _quietest(rest[limit - search : limit], window)
            yield rest[:cut]
            rest = rest[cut:]
    if rest is not None:
        yield rest


def _quietest(waveform: np.ndarray, window: int) -> int:
    """Return the middle of the window with the least energy."""
    # In float64: in a float32 running sum, the energy of a pause after loud speech is lost in rounding.
    energy = np.square(waveform, dtype=np.float64).cumsum()
    return int((energy[window:] - energy[:-window]).argmin()) + 1 + window // 2
