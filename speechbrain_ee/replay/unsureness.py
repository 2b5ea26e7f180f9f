# SPDX-License-Identifier: Apache-2.0
"""Values of a threshold policy over cached scores, with one direction for all policies: lower is surer.

A threshold in this direction is called a limit: an utterance stops at the first exit whose unsureness is at most the
limit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ee_runtime.policies import Patience, ThresholdPolicy
from speechbrain_ee.replay.replay import first_look


def sign_of(policy: ThresholdPolicy) -> int:
    """Return the factor between thresholds and limits: -1 if higher values are surer, otherwise 1."""
    return -1 if policy.higher_is_surer else 1


def unsureness(policy: ThresholdPolicy, utterances: Sequence[Mapping]) -> np.ndarray:
    """Compute the values of a policy at all exits except the last, with the sign that makes lower values surer.

    Arguments
    ---------
    policy : ThresholdPolicy
        The policy; its own threshold is ignored.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.

    Returns
    -------
    np.ndarray
        (utterances, exits - 1); the policy never stops at NaN.
    """
    exit_layers = tuple(exit["layer"] for exit in utterances[0]["exits"])
    sign = sign_of(policy)
    found = np.empty((len(utterances), len(exit_layers) - 1))
    for row, utterance in enumerate(utterances):
        look = first_look(utterance, exit_layers)
        for look.exit_index, exit in enumerate(utterance["exits"][:-1]):
            look.scores.append(exit["scores"])
            found[row, look.exit_index] = policy.value(look)
    return sign * found


def limits_between(policy: ThresholdPolicy, unsure: np.ndarray) -> np.ndarray:
    """Return one limit for every value that occurs, halfway to the next one, so that rounding changes no exit.

    Arguments
    ---------
    policy : ThresholdPolicy
        The policy. Values of :class:`Patience` are counts: its limits are the values themselves.
    unsure : np.ndarray
        The values of :func:`unsureness`.

    Returns
    -------
    np.ndarray
        Limits in rising order; empty if there are no values.

    Example
    -------
    >>> from ee_runtime.policies import ScoreThreshold
    >>> limits_between(ScoreThreshold("entropy", 0.0), np.array([[0.5], [0.1], [0.3]])).round(2).tolist()
    [0.2, 0.4, 0.6]
    """
    values = np.unique(unsure[np.isfinite(unsure)])
    if len(values) == 0 or isinstance(policy, Patience):
        return values
    gap = values[-1] - values[-2] if len(values) > 1 else max(1e-3, 1e-3 * abs(values[-1]))
    following = np.append(values[1:], values[-1] + gap)
    halfway = values + (following - values) / 2
    return np.where(halfway < following, halfway, values)  # nothing lies between floating-point neighbours


def exits_taken(policy: ThresholdPolicy, utterances: Sequence[Mapping], thresholds: Sequence[float]) -> np.ndarray:
    """Compute the exit index of every utterance at many thresholds.

    Arguments
    ---------
    policy : ThresholdPolicy
        The policy; its own threshold is ignored.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.
    thresholds : sequence of float
        Any thresholds.

    Returns
    -------
    np.ndarray
        (utterances, thresholds) integers.
    """
    so_far = np.fmin.accumulate(unsureness(policy, utterances), axis=1)
    limits = sign_of(policy) * np.asarray(thresholds, dtype=float)
    going_on = np.zeros((len(so_far), len(limits)), dtype=int)
    for column in so_far.T:  # one exit at a time: a three-dimensional array would be large
        going_on += ~(column[:, None] <= limits)
    return going_on
