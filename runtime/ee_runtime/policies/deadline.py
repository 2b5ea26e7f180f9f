# SPDX-License-Identifier: Apache-2.0
"""When the text of the next exit will be ready: measured times, and the present load. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ee_runtime.policies.base import Look

LARGEST = 100.0  # times slower than measured


class Slowdown:
    """A factor that the time of a segment exceeds rarely, however the load of the machine changes.

    Each segment that takes longer than its measured time multiplied by :attr:`factor` raises the factor by ``step`` (in
    natural logarithms); each other segment lowers it slightly. In the long run, at most about the share ``miss`` of
    segments take longer, whatever their distribution and whether or not it changes (adaptive conformal inference, Gibbs
    and Candès, arXiv 2106.00170), as long as the machine is less than :data:`LARGEST` times slower.

    Arguments
    ---------
    miss : float
        Share of segments that may take longer, in (0, 1).
    step : float
        Change of the logarithm of the factor, above 0.

    Raises
    ------
    ValueError
        If an argument is out of range.

    Example
    -------
    >>> slowdown = Slowdown(miss=0.01, step=0.5)
    >>> slowdown.observe(expected=0.1, seconds=0.3)
    >>> round(slowdown.factor, 2)
    1.64
    """

    def __init__(self, *, miss: float = 0.005, step: float = 0.5):
        if not 0 < miss < 1 or not step > 0:
            raise ValueError(f"miss is {miss} and step is {step}: give a share in (0, 1) and a number above 0")
        self.miss, self.step = miss, step
        self._level = 0.0

    @property
    def factor(self) -> float:
        """Factor for the measured times, at least 1."""
        return math.exp(self._level)

    def observe(self, *, expected: float, seconds: float) -> None:
        """Note that a segment took ``seconds``, and ``expected`` seconds when the machine was measured."""
        took_longer = seconds > expected * self.factor
        level = self._level + self.step * (took_longer - self.miss)
        self._level = min(max(0.0, level), math.log(LARGEST))


class ExitTimes:
    """Measured times of exits and texts, corrected for the present load of the machine.

    Arguments
    ---------
    seconds_to_exit : sequence of (float, float)
        Time until the output of each exit's head is available: an offset in seconds, and seconds per second of audio.
    seconds_to_text : (float, float), optional
        The same for decoding that output into text; None counts no time.
    slowdown : Slowdown, optional
        Learns from the looks of this object; None means a new one. Share one between objects for the same machine.

    Raises
    ------
    ValueError
        If a time is not a pair of numbers.
    """

    def __init__(
        self,
        seconds_to_exit: Sequence[Sequence[float]],
        seconds_to_text: Sequence[float] | None = None,
        slowdown: Slowdown | None = None,
    ):
        self.seconds_to_exit = [_line(pair) for pair in seconds_to_exit]
        self.seconds_to_text = None if seconds_to_text is None else _line(seconds_to_text)
        self.slowdown = Slowdown() if slowdown is None else slowdown
        self._seen: tuple[float, int, float] | None = None  # start of the call, exit index, seconds since the start
        self._ratio = 1.0  # time of the last segment / measured time

    def observe(self, look: Look) -> float:
        """Learn from the time of the segment that has just run; return the seconds since the start of the call.

        In a batch, the first utterance at each exit counts.
        """
        if look.clock is None:
            raise ValueError("a deadline needs a clock: give one with every Look")
        if len(self.seconds_to_exit) != len(look.exit_layers):
            raise ValueError(
                f"got seconds_to_exit for {len(self.seconds_to_exit)} exits, but the model has "
                f"{len(look.exit_layers)}: measure it again"
            )
        now, index = look.clock() - look.started, look.exit_index
        started, last_index, last = self._seen or (None, -1, 0.0)
        if started != look.started:  # another call
            last_index, last = -1, 0.0
        if index == last_index + 1:
            audio = _batch_seconds(look)
            to_last = _at(self.seconds_to_exit[last_index], audio) if index else 0.0
            expected = max(0.0, _at(self.seconds_to_exit[index], audio) - to_last)
            self.slowdown.observe(expected=expected, seconds=now - last)
            self._ratio = (now - last) / expected if expected > 0 else 1.0
            self._seen = (look.started, index, now)
        return now

    def expected_end(self, look: Look, now: float) -> float:
        """Estimate when the text of the next exit would be ready, in seconds since the start of the call.

        The measured time is multiplied by the factor of :class:`Slowdown` or, if larger, by how much slower the last
        segment was: the load may have risen since the call began.
        """
        audio = _batch_seconds(look)
        before, after = (_at(pair, audio) for pair in self.seconds_to_exit[look.exit_index : look.exit_index + 2])
        text = _at(self.seconds_to_text or (0.0, 0.0), look.facts.get("call_duration", audio))
        return now + max(self.slowdown.factor, self._ratio) * (max(0.0, after - before) + text)


def duration_of(look: Look) -> float:
    """Return the seconds of the utterance."""
    if "duration" not in look.facts:
        raise ValueError("a budget or a deadline needs the utterance's duration, which is unknown")
    return look.facts["duration"]


def _batch_seconds(look: Look) -> float:
    return look.facts["batch_duration"] if "batch_duration" in look.facts else duration_of(look)


def _line(pair: Sequence[float]) -> list[float]:
    """Check an offset and a slope."""
    try:
        offset, slope = map(float, pair)
    except (TypeError, ValueError):
        raise ValueError(f"invalid time {pair!r}: give an offset in seconds and seconds per second of audio") from None
    return [offset, slope]


def _at(line: Sequence[float], audio_s: float) -> float:
    offset, slope = line
    return max(0.0, offset + slope * audio_s)
