# SPDX-License-Identifier: Apache-2.0
"""Several channels to one, and samples of a float file that are out of range."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

SILENT = 1e-6  # 60 dB below the loudest channel
CANCELLED = 0.1  # the mean has less than a tenth of the power that channels without relation would leave
LARGEST_PEAK = 4.0  # what a float file may reach by a careless mix; it is clipped
INT16_PEAKS = (256.0, 32768.0)  # what a float file reaches whose samples were those of 16 bits
KEPT_VALUES = 1 << 22  # what is measured is kept up to this, and decoded a second time beyond


class LevelError(ValueError):
    """Samples are no numbers, or far out of range; the message says what to do."""


@dataclass(frozen=True)
class Mix:
    """How to make one channel of several.

    Arguments
    ---------
    weights : ndarray
        (channels,), what each is multiplied by before they are added.
    note : str
        What is odd, or empty.
    """

    weights: np.ndarray
    note: str = ""

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """(samples, channels) -> (samples,)."""
        return block[:, 0] * self.weights[0] if block.shape[1] == 1 else block @ self.weights


class Survey:
    """Power of each channel and of their mean, and the highest peak, block by block.

    Arguments
    ---------
    channels : int
        How many there are.
    """

    def __init__(self, channels: int):
        self.powers, self.of_mean = np.zeros(channels), 0.0
        self.peak, self.count = 0.0, 0

    def add(self, block: np.ndarray) -> None:
        """Look at a block (samples, channels)."""
        check_numbers(block)
        self.powers += np.square(block, dtype=np.float64).sum(0)
        self.of_mean += float(np.square(block.mean(1, dtype=np.float64)).sum())
        self.peak = max(self.peak, float(np.abs(block).max(initial=0.0)))
        self.count += block.size

    def mix(self, *, is_float: bool) -> Mix:
        """Decide, see :func:`mix_down`."""
        scale, note = self._scale() if is_float else (1.0, "")
        heard = self.powers > SILENT * self.powers.max(initial=0.0)
        heard = heard if heard.any() else np.ones_like(heard)
        weights = heard / heard.sum()
        # Without relation to each other, n channels of the same power leave 1/n of it in their mean.
        of_mean = self.of_mean * (len(heard) / heard.sum()) ** 2
        if heard.sum() > 1 and of_mean < CANCELLED * self.powers[heard].mean() / heard.sum():
            weights = np.eye(len(heard))[self.powers.argmax()]
            note = f"its channels cancel each other: channel {self.powers.argmax() + 1}, the loudest, is read alone"
        return Mix((scale * weights).astype(np.float32), note)

    def _scale(self) -> tuple[float, str]:
        if self.peak <= LARGEST_PEAK:
            return 1.0, ""
        if INT16_PEAKS[0] <= self.peak <= INT16_PEAKS[1]:
            note = f"its samples go up to {self.peak:.0f}, as 16-bit integers do: they are divided by 32768"
            return 1 / 32768, note
        if self.peak < INT16_PEAKS[0]:
            return 1 / self.peak, f"its samples go up to {self.peak:.4g}: they are divided by that"
        raise LevelError(f"has samples up to {self.peak:.4g}, float samples are from -1 to 1: scale them")


def check_numbers(block: np.ndarray) -> None:
    """Refuse NaN and infinity.

    Raises
    ------
    LevelError
        If there is one.
    """
    if not np.isfinite(block).all():
        raise LevelError("has samples that are NaN or infinite: replace it")


def mix_down(
    read: Callable[[], Iterable[np.ndarray]], *, channels: int, is_float: bool, warn: Callable[[str], None]
) -> Iterator[np.ndarray]:
    """Make one channel of several, clipped to [-1, 1].

    Channels are averaged; one that is 60 dB below the loudest does not count, as it would only halve the level. Where
    channels cancel each other (one of them is inverted), the loudest is taken alone. A float file that is a
    little beyond full scale is clipped; one that is far beyond is divided by its peak, and by 32768 where its samples
    go as far as those of 16 bits. All of this needs the whole file, so a long one is decoded twice.

    Arguments
    ---------
    read : callable
        Gives blocks (samples, channels), float32, from the start at each call.
    channels : int
        How many there are.
    is_float : bool
        Whether the file's samples are floating point, and may be beyond full scale.
    warn : callable
        Told what is odd.

    Yields
    ------
    ndarray
        (samples,) float32.

    Raises
    ------
    LevelError
        If samples are NaN or infinite, or far out of range.

    Example
    -------
    >>> inverted = np.array([[0.5, -0.5], [0.25, -0.25]], np.float32)
    >>> [block.tolist() for block in mix_down(lambda: [inverted], channels=2, is_float=False, warn=print)]
    its channels cancel each other: channel 1, the loudest, is read alone
    [[0.5, 0.25]]
    """
    if channels == 1 and not is_float:
        yield from (block[:, 0] for block in read())
        return
    survey, kept = Survey(channels), []
    for block in read():
        survey.add(block)
        kept = [*kept, block] if kept is not None and survey.count <= KEPT_VALUES else None
    mix = survey.mix(is_float=is_float)
    if mix.note:
        warn(mix.note)
    for block in read() if kept is None else kept:
        yield np.clip(mix(block), -1.0, 1.0)
