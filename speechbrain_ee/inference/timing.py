# SPDX-License-Identifier: Apache-2.0
"""Measure how long each exit and its text take on this machine: what a deadline is kept by."""

from collections.abc import Callable, Sequence

import torch

from speechbrain_ee.inference.segments import UtteranceProgress
from speechbrain_ee.lobes.heads import ExitOutput
from speechbrain_ee.policies import FixedExit, Look, Policy
from speechbrain_ee.policies.scores import SCORES

TIMED_S = (2.0, 10.0)  # seconds of audio between which times are taken to lie on a line
NUM_TIMED_RUNS = 3  # after one run that warms up; the fastest counts


class _Timer(Policy):
    """Runs every head and computes every score, and notes the clock at each exit."""

    def __init__(self, score_names: tuple[str, ...]):
        self.score_names, self.at_exit = score_names, {}

    @property
    def times(self) -> list[float]:
        """Seconds to each exit."""
        return list(self.at_exit.values())

    def stop(self, look: Look) -> bool:
        self.at_exit.setdefault(look.exit_index, look.clock() - look.started)  # the batch's first utterance
        return look.is_last

    def needs_head(self, exit_index: int, exit_layers: tuple[int, ...]) -> bool:
        return True


def measure_times(
    run: Callable[[torch.Tensor, torch.Tensor, Policy], list[UtteranceProgress]],
    decode: Callable[[ExitOutput], object],
    *,
    batches: Sequence[tuple[int, float]],
    sample_rate: int,
    first_layer: int,
    score_names: tuple[str, ...],
    clock: Callable[[], float],
) -> dict:
    """Fit a line over the seconds of audio to the times of each exit, and to that of the text behind it.

    Arguments
    ---------
    run : callable
        ``run(wavs, num_samples, policy)`` gives a :class:`UtteranceProgress` per utterance: wavs (batch, samples).
    decode : callable
        Makes the texts of an exit's output.
    batches : sequence of tuple[int, float]
        Two batches of noise to measure: utterances, and seconds of each.
    sample_rate : int
        Of the model, in Hz.
    first_layer : int
        The first exit layer, whose texts can take longest to decode.
    score_names : tuple of str
        Scores to compute at every exit on the way.
    clock : callable
        Seconds, when the device has done what it was given.

    Returns
    -------
    dict
        ``seconds_to_exit`` and ``seconds_to_text`` of :class:`~speechbrain_ee.policies.Capped`: [offset, slope] over
        the seconds of audio in the batch, for each exit and for the text.
    """
    lengths = [size * seconds for size, seconds in batches]
    exits, texts = [], []
    for batch_size, seconds in batches:
        size = round(seconds * sample_rate)
        noise = torch.randn(batch_size, size, generator=torch.Generator().manual_seed(0)) / 10
        num_samples = torch.tensor([size] * batch_size)
        to_exits, to_text = [], []
        for _ in range(1 + NUM_TIMED_RUNS):
            timer = _Timer(score_names)
            outputs = [run(noise, num_samples, policy) for policy in (timer, FixedExit(first_layer))]
            to_exits.append(timer.times)
            to_text.append(max(_time_text(decode, runs, clock) for runs in outputs))
        exits.append([min(column) for column in zip(*to_exits[1:], strict=True)])
        texts.append(min(to_text[1:]))
    if any(SCORES[name].from_decoder for name in score_names):
        texts = [0.0, 0.0]  # the texts are made for the scores, within the times of the exits
    return {
        "seconds_to_exit": [_line_through(lengths, pair) for pair in zip(*exits, strict=True)],
        "seconds_to_text": _line_through(lengths, texts),
    }


def _time_text(
    decode: Callable[[ExitOutput], object], runs: list[UtteranceProgress], clock: Callable[[], float]
) -> float:
    output = ExitOutput.join([run.output for run in runs])
    begin = clock()
    decode(output)
    return clock() - begin


def _line_through(lengths: Sequence[float], seconds: Sequence[float]) -> list[float]:
    """Offset and slope of a line through two measured times; a time that falls with the length is noise."""
    slope = max(0.0, (seconds[1] - seconds[0]) / (lengths[1] - lengths[0]))
    return [seconds[0] - slope * lengths[0], slope]
