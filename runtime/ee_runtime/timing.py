# SPDX-License-Identifier: Apache-2.0
"""Measure how long each exit and its text take on this machine; deadlines are kept with these times."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ee_runtime.backend import ExitOutput
from ee_runtime.policies import FixedExit, Look, Policy
from ee_runtime.policies.scores import SCORES
from ee_runtime.segments import Stopped

TIMED_S = (2.0, 10.0)  # seconds of audio; times are assumed to be linear between and beyond them
NUM_TIMED_RUNS = 3  # after a warm-up run; the fastest counts


class _Timer(Policy):
    """Runs every head, computes every score, and records the time at each exit."""

    def __init__(self, score_names: tuple[str, ...]):
        self.score_names, self.at_exit = score_names, {}

    @property
    def times(self) -> list[float]:
        """Seconds to each exit."""
        return list(self.at_exit.values())

    def stop(self, look: Look) -> bool:
        self.at_exit.setdefault(look.exit_index, look.clock() - look.started)  # for the first utterance of the batch
        return look.is_last

    def needs_head(self, exit_index: int, exit_layers: tuple[int, ...]) -> bool:
        return True


def timed_batches(max_seconds: float, min_seconds: float) -> list[tuple[int, float]]:
    """Choose two batches of different length for :func:`measure_times`.

    Arguments
    ---------
    max_seconds : float
        Longest audio that the encoder takes.
    min_seconds : float
        Length to which features of shorter audio are padded.

    Returns
    -------
    list of tuple[int, float]
        Number of utterances and seconds of each: one utterance of 2 s and one of 10 s, or one and two utterances of
        the padded length if padding makes these too similar.

    Example
    -------
    >>> timed_batches(30.0, 0.0), timed_batches(30.0, 30.0)
    ([(1, 2.0), (1, 10.0)], [(1, 30.0), (2, 30.0)])
    """
    short, long = (min(seconds, share * max_seconds) for seconds, share in zip(TIMED_S, (0.2, 1.0), strict=True))
    short = max(short, min_seconds)
    return [(1, short), (1, long) if long > 2 * short else (2, short)]


def measure_times(
    run: Callable[[list[np.ndarray], Policy], list[Stopped]],
    decode: Callable[[ExitOutput], object],
    *,
    batches: Sequence[tuple[int, float]],
    sample_rate: int,
    first_layer: int,
    score_names: tuple[str, ...],
    clock: Callable[[], float],
) -> dict:
    """Measure the times of each exit and of the text; fit a line over the seconds of audio to each.

    Arguments
    ---------
    run : callable
        ``run(waveforms, policy)`` runs a batch of waveforms (samples,) and returns its utterances by exit.
    decode : callable
        Decodes an exit's output.
    batches : sequence of tuple[int, float]
        Two batches of noise to measure: number of utterances, and seconds of each.
    sample_rate : int
        Sample rate of the model in Hz.
    first_layer : int
        The first exit layer, whose texts can take longest to decode.
    score_names : tuple of str
        Scores to compute at every exit.
    clock : callable
        Returns seconds after the device has finished its work.

    Returns
    -------
    dict
        ``seconds_to_exit`` and ``seconds_to_text`` of :class:`~ee_runtime.policies.Capped`: [offset, slope] over
        the seconds of audio in the batch, for each exit and for the text.
    """
    lengths = [size * seconds for size, seconds in batches]
    exits, texts = [], []
    for batch_size, seconds in batches:
        shape = (batch_size, round(seconds * sample_rate))
        noise = list(np.random.default_rng(0).standard_normal(shape, dtype=np.float32) / 10)
        to_exits, to_text = [], []
        for _ in range(1 + NUM_TIMED_RUNS):
            timer = _Timer(score_names)
            groups = [run(noise, policy) for policy in (timer, FixedExit(first_layer))]
            to_exits.append(timer.times)
            to_text.append(max(_time_text(decode, stopped.output, clock) for (stopped,) in groups))
        exits.append([min(column) for column in zip(*to_exits[1:], strict=True)])
        texts.append(min(to_text[1:]))
    if any(SCORES[name].from_decoder for name in score_names):
        texts = [0.0, 0.0]  # the scores need the texts, so their times are included in those of the exits
    return {
        "seconds_to_exit": [_line_through(lengths, pair) for pair in zip(*exits, strict=True)],
        "seconds_to_text": _line_through(lengths, texts),
    }


def _time_text(decode: Callable[[ExitOutput], object], output: ExitOutput, clock: Callable[[], float]) -> float:
    begin = clock()
    decode(output)
    return clock() - begin


def _line_through(lengths: Sequence[float], seconds: Sequence[float]) -> list[float]:
    """Return offset and slope of the line through two measured times; a time that falls with the length is noise."""
    slope = max(0.0, (seconds[1] - seconds[0]) / (lengths[1] - lengths[0]))
    return [seconds[0] - slope * lengths[0], slope]
