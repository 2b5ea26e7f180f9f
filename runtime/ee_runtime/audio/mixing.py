# SPDX-License-Identifier: Apache-2.0
"""Mix channels down to one, and handle samples of float files that are out of range."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

SILENT = 1e-6  # 60 dB below the loudest channel
CANCELLED = 0.1  # the mean has less than a tenth of the power that uncorrelated channels would leave
LARGEST_PEAK = 4.0  # peak of a badly mixed float file, which is clipped
INT16_PEAKS = (256.0, 32768.0)  # peaks of a float file with the values of 16-bit integers
KEPT_VALUES = 1 << 22  # decoded samples kept in memory; longer files are decoded twice


class LevelError(ValueError):
    """Samples are not finite or far out of range; the message says what to do."""


@dataclass(frozen=True)
class Mix:
    """A mix of several channels to one.

    Arguments
    ---------
    weights : ndarray
        (channels,), weight of each channel in the sum.
    note : str
        Warning about the file, or empty.
    """

    weights: np.ndarray
    note: str = ""

    def __call__(self, block: np.ndarray) -> np.ndarray:
        """(samples, channels) -> (samples,)."""
        return block[:, 0] * self.weights[0] if block.shape[1] == 1 else block @ self.weights


class Survey:
    """Measure the power of each channel and of their mean, and the highest peak, block by block.

    Arguments
    ---------
    channels : int
        Number of channels.
    """

    def __init__(self, channels: int):
        self.powers, self.of_mean = np.zeros(channels), 0.0
        self.peak, self.count = 0.0, 0

    def add(self, block: np.ndarray) -> None:
        """Measure a block (samples, channels)."""
        check_numbers(block)
        self.powers += np.square(block, dtype=np.float64).sum(0)
        self.of_mean += float(np.square(block.mean(1, dtype=np.float64)).sum())
        self.peak = max(self.peak, float(np.abs(block).max(initial=0.0)))
        self.count += block.size

    def mix(self, *, is_float: bool) -> Mix:
        """Choose the mix, see :func:`mix_down`."""
        scale, note = self._scale() if is_float else (1.0, "")
        heard = self.powers > SILENT * self.powers.max(initial=0.0)
        heard = heard if heard.any() else np.ones_like(heard)
        weights = heard / heard.sum()
        # The mean of n uncorrelated channels of equal power has 1/n of this power.
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
        raise LevelError(f"has samples up to {self.peak:.4g}, but float samples must be from -1 to 1: scale them")


def check_numbers(block: np.ndarray) -> None:
    """Raise :class:`LevelError` if a sample is NaN or infinite."""
    if not np.isfinite(block).all():
        raise LevelError("has samples that are NaN or infinite: replace it")


def mix_down(
    read: Callable[[], Iterable[np.ndarray]], *, channels: int, is_float: bool, warn: Callable[[str], None]
) -> Iterator[np.ndarray]:
    """Mix channels down to one, clipped to [-1, 1].

    Channels are averaged. A channel 60 dB below the loudest is left out: it would only reduce the level. If channels
    cancel each other (one of them is inverted), the loudest is used alone. A float file slightly beyond full scale is
    clipped; a file far beyond is divided by its peak, or by 32768 if its peak is that of 16-bit integers. These
    decisions need the whole file, so a long file is decoded twice.

    Arguments
    ---------
    read : callable
        Returns the blocks (samples, channels), float32, from the start at each call.
    channels : int
        Number of channels.
    is_float : bool
        Whether the file has floating-point samples, which may be beyond full scale.
    warn : callable
        Called with a warning.

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
