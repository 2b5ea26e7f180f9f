# SPDX-License-Identifier: Apache-2.0
"""A learned exit score: the word errors that going on would still save for its cost, predicted from the other scores.

A ridge regression per exit and deeper exit, saved as plain numbers and evaluated with the standard library alone, so
that it is the same live, in a replay and on a device. Only :func:`fit_learned_score` needs scikit-learn.

At exit k the score is the largest, over the deeper exits j, of E[errors at k - errors at j] / cost from k to j: the
best rate at which compute buys words. Cost is layers times seconds of audio, as MACs are, or layers alone. Stopping
where that rate falls under one threshold at every exit is the index rule of optimal stopping, with the expectations
taken now and not revised on the way.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from speechbrain_ee.policies.scores import check_score_names, score_value

SMALLEST, SMALLEST_REST = 1e-6, 1e-4  # before a logarithm of a score, and of 1 - score


@dataclass(frozen=True)
class ExitRegression:
    """The regressions of one exit; features are standardised first.

    Arguments
    ---------
    mean : list of float
        Of each feature.
    scale : list of float
        Deviation of each feature; 1 where it does not vary.
    weights : list of list of float
        One row per deeper exit.
    bias : list of float
        One per deeper exit: the mean errors saved at this cost.
    """

    mean: list[float]
    scale: list[float]
    weights: list[list[float]]
    bias: list[float]


@dataclass(frozen=True)
class LearnedScore:
    """Errors saved per cost of going on, from the scores of this exit and the one before, and the utterance's length.

    Arguments
    ---------
    score_names : list of str
        The scores that it reads.
    exit_layers : list of int
        Exits of the model that it was fitted for.
    exits : list of ExitRegression
        One per exit but the last.
    per_second : bool
        Whether cost is layers times seconds of audio; else layers.
    reads_duration : bool
        Whether the logarithm of the seconds is a feature.

    Example
    -------
    >>> one = ExitRegression(mean=[0.0] * 3, scale=[1.0] * 3, weights=[[0.1, 0, 0]], bias=[0.5])
    >>> score = LearnedScore(["entropy"], [2, 4], [one])
    >>> round(score([{"entropy": math.exp(-3)}], 0), 3)
    0.2
    """

    score_names: list[str]
    exit_layers: list[int]
    exits: list[ExitRegression]
    per_second: bool = False
    reads_duration: bool = False

    def __post_init__(self):
        check_score_names(self.score_names)
        if len(self.exits) != len(self.exit_layers) - 1:
            raise ValueError(
                f"a learned score for exits {self.exit_layers} has {len(self.exits)} regressions: fit it again"
            )

    def __call__(self, scores: Sequence[Mapping[str, float]], exit_index: int, duration: float | None = None) -> float:
        """Score an exit from the dicts of all exits up to it, the current one last; NaN if one is NaN."""
        if self.reads_duration and not duration:
            raise ValueError("this learned score reads the utterance's duration, and it is not known here")
        one = self.exits[exit_index]
        found = exit_features(scores, self.score_names, duration if self.reads_duration else None)
        z = [(value - mean) / scale for value, mean, scale in zip(found, one.mean, one.scale, strict=True)]
        rates = [
            bias + sum(weight * value for weight, value in zip(row, z, strict=True))
            for row, bias in zip(one.weights, one.bias, strict=True)
        ]
        return math.nan if any(map(math.isnan, rates)) else max(rates)

    def to_dict(self) -> dict:
        """Plain values for JSON, read back by :meth:`from_dict`."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping) -> LearnedScore:
        """Build from the plain values of :meth:`to_dict`.

        Raises
        ------
        ValueError
            If a value is missing or of a wrong form.
        """
        try:
            exits = [ExitRegression(**one) for one in values["exits"]]
            flags = (bool(values["per_second"]), bool(values["reads_duration"]))
            return cls(list(values["score_names"]), list(values["exit_layers"]), exits, *flags)
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a learned score: {error}; fit it again") from error


def exit_features(
    scores: Sequence[Mapping[str, float]], names: Sequence[str], duration: float | None = None
) -> list[float]:
    """What the regression sees: logarithms of each score and of its distance from 1, here and one exit before.

    The logarithm of the seconds of audio comes last, where they are given.

    Example
    -------
    >>> [round(value, 2) for value in exit_features([{"posterior": 0.5}, {"posterior": 1.0}], ["posterior"])]
    [0.0, -9.21, 1.0, -0.69, -0.69, 0.0]
    """
    found = []
    for one in reversed(scores[-2:]):
        for name in names:
            value = score_value(one, name)
            if math.isnan(value):
                return [math.nan] * (3 * len(names) * len(scores[-2:]) + (duration is not None))
            value = min(1.0, max(0.0, value))
            found += [math.log(max(value, SMALLEST)), math.log(max(1 - value, SMALLEST_REST)), float(value == 1.0)]
    return found if duration is None else [*found, math.log(duration)]
