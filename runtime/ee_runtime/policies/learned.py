# SPDX-License-Identifier: Apache-2.0
"""A learned exit score: the word errors that deeper exits are predicted to save per cost. Standard library only.

There is one ridge regression per exit and deeper exit. Its input features are computed from the other scores. The
weights are plain numbers, so the score is the same live, in a replay and on a device.
:func:`~speechbrain_ee.calibration.fit_learned.fit_learned_score` fits it.

At exit k the score is the maximum over the deeper exits j of E[errors at k - errors at j] / cost from k to j. Cost is
layers times seconds of audio, which is proportional to MACs, or layers. A policy that stops when this rate falls below
the same threshold at every exit is an index policy of optimal stopping, without a revision of the expectations at later
exits.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from ee_runtime.policies.scores import check_score_names, score_value

SMALLEST, SMALLEST_REST = 1e-6, 1e-4  # lower limits of a score and of 1 - score, before the logarithm


@dataclass(frozen=True)
class ExitRegression:
    """The regressions of one exit, on standardised input features.

    Arguments
    ---------
    mean : list of float
        Mean of each feature.
    scale : list of float
        Standard deviation of each feature; 1 if it is constant.
    weights : list of list of float
        Weights of the features, one row per deeper exit.
    bias : list of float
        Mean errors saved per cost, one per deeper exit.
    """

    mean: list[float]
    scale: list[float]
    weights: list[list[float]]
    bias: list[float]


@dataclass(frozen=True)
class LearnedScore:
    """Predict errors saved per cost from the scores of the current and the previous exit, and the duration.

    Arguments
    ---------
    score_names : list of str
        Scores that the features are computed from.
    exit_layers : list of int
        Exit layers of the model that it was fitted for.
    exits : list of ExitRegression
        One per exit except the last.
    per_second : bool
        Whether cost is layers times seconds of audio; otherwise layers.
    reads_duration : bool
        Whether the logarithm of the duration is a feature.

    Example
    -------
    >>> one = ExitRegression(mean=[0.0] * 3, scale=[1.0] * 3, weights=[[0.1, 0, 0]], bias=[0.5])
    >>> score = LearnedScore(["entropy"], [2, 4], [one])
    >>> round(score([{"entropy": math.exp(-3)}], 0), 3)
    0.2
    """

    score_names: list[str]
    exit_layers: list[int]
    exits: list[ExitRegression] = field(repr=False)
    per_second: bool = False
    reads_duration: bool = False

    def __post_init__(self):
        check_score_names(self.score_names)
        if len(self.exits) != len(self.exit_layers) - 1:
            raise ValueError(
                f"a learned score for exits {self.exit_layers} needs {len(self.exit_layers) - 1} regressions, and has "
                f"{len(self.exits)}: fit it again"
            )

    def __call__(self, scores: Sequence[Mapping[str, float]], exit_index: int, duration: float | None = None) -> float:
        """Return the score of an exit from the scores of all exits up to it; NaN if one of them is NaN."""
        if self.reads_duration and not duration:
            raise ValueError("this learned score needs the utterance's duration, which is unknown")
        one = self.exits[exit_index]
        found = exit_features(scores, self.score_names, duration if self.reads_duration else None)
        z = [(value - mean) / scale for value, mean, scale in zip(found, one.mean, one.scale, strict=True)]
        rates = [
            bias + sum(weight * value for weight, value in zip(row, z, strict=True))
            for row, bias in zip(one.weights, one.bias, strict=True)
        ]
        return math.nan if any(map(math.isnan, rates)) else max(rates)

    def to_dict(self) -> dict:
        """Return plain values for JSON, which :meth:`from_dict` reads."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping) -> LearnedScore:
        """Build from plain values, as written by :meth:`to_dict`.

        Raises
        ------
        ValueError
            If a value is missing or has the wrong type.
        """
        try:
            exits = [_regression(one) for one in values["exits"]]
            flags = (bool(values["per_second"]), bool(values["reads_duration"]))
            return cls(list(values["score_names"]), list(values["exit_layers"]), exits, *flags)
        except (KeyError, TypeError) as error:
            raise ValueError(f"invalid learned score: {error}; fit it again") from error


def _regression(values: Mapping) -> ExitRegression:
    """Build the regressions of one exit from plain values, which must be numbers."""
    one = ExitRegression(**values)
    numbers = [*one.mean, *one.scale, *one.bias, *(weight for row in one.weights for weight in row)]
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers) or 0 in one.scale:
        raise ValueError(
            "invalid learned score: an exit has values that are not numbers, or a scale of 0; fit it again"
        )
    return one


def exit_features(
    scores: Sequence[Mapping[str, float]], names: Sequence[str], duration: float | None = None
) -> list[float]:
    """Compute the input features of the regressions.

    For each score of the current exit, then of the previous one: the logarithm of the score, the logarithm of
    1 - score, and whether the score is 1. The logarithm of the duration in seconds is last, if it is given.

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
