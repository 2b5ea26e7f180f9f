# SPDX-License-Identifier: Apache-2.0
"""Policies and static exits at the same cost, the only fair comparison: at equal mean exit layer, or at equal MACs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from speechbrain_ee.policies import ThresholdPolicy
from speechbrain_ee.replay.replay import ExitCounts, static_wer
from speechbrain_ee.replay.sweeps import exits_taken, sweep, totals, unsureness


def wer_at_mean_layer(policy: ThresholdPolicy, utterances: Sequence[Mapping], mean_layer: float) -> float | None:
    """WER of a policy whose threshold gives a wanted mean exit layer on these very utterances.

    Policies are compared this way: at equal cost. Between two neighbouring thresholds the WER is mixed linearly, as
    drawing one of the two at random for each utterance would give.

    Arguments
    ---------
    policy : ThresholdPolicy
        Whose thresholds.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.
    mean_layer : float
        The wanted mean.

    Returns
    -------
    float or None
        Percent; None where no threshold reaches the mean from above or below.
    """
    counts = ExitCounts.of(utterances)
    unsure = unsureness(policy, utterances)
    limits = np.concatenate([[-np.inf], np.unique(unsure[np.isfinite(unsure)])])
    errors, _, taken = totals(counts, unsure, limits)
    means = taken @ counts.exit_layers / len(counts.words)  # falls with the limit
    return _interpolate(means[::-1], 100.0 * errors[::-1] / counts.words.sum(), mean_layer)


def static_wer_at_mean_layer(utterances: Sequence[Mapping], mean_layer: float) -> float | None:
    """WER of the two static exits around a mean layer, mixed linearly; None outside the exits."""
    wers = static_wer(utterances)
    return _interpolate(np.array(list(wers), dtype=float), np.array(list(wers.values())), mean_layer)


def errors_at_costs(
    policy: ThresholdPolicy, utterances: Sequence[Mapping], shares: Sequence[float]
) -> list[np.ndarray | None]:
    """Expected errors of each utterance where a policy costs shares of the full model's MACs on these very utterances.

    Between two neighbouring thresholds each utterance is taken by the one or the other, in proportion.

    Arguments
    ---------
    policy : ThresholdPolicy
        Whose thresholds.
    utterances : sequence of dict
        Lines of ``utterances.jsonl`` with MACs.
    shares : sequence of float
        Each in (0, 1].

    Returns
    -------
    list of np.ndarray or None
        (utterances,) for each share; None where the policy cannot cost this much.
    """
    counts = ExitCounts.of(utterances)
    taken = exits_taken(policy, utterances, [entry["threshold"] for entry in sweep(policy, utterances)])
    errors, macs = (np.take_along_axis(table, taken, axis=1) for table in (counts.errors, counts.paid_by(policy).macs))
    return [_mixed(errors, macs, share * counts.full_macs) for share in shares]


def static_errors_at_cost(counts: ExitCounts, share: float) -> np.ndarray | None:
    """Expected errors of each utterance where two neighbouring static exits are mixed to a share of the full MACs."""
    return _mixed(counts.errors, counts.static_macs, share * counts.full_macs)


def _mixed(errors: np.ndarray, macs: np.ndarray, target: float) -> np.ndarray | None:
    """Mix two neighbouring ways, (utterances, ways), to a total cost."""
    cost = macs.sum(axis=0)
    order = np.argsort(cost, kind="stable")
    right = int(np.searchsorted(cost[order], target))
    if right == len(order) or (right == 0 and cost[order[0]] > target):
        return None
    a, b = order[max(0, right - 1)], order[right]
    weight = 0.0 if cost[b] == cost[a] else (target - cost[a]) / (cost[b] - cost[a])
    return (1 - weight) * errors[:, a] + weight * errors[:, b]


def _interpolate(means: np.ndarray, wers: np.ndarray, mean_layer: float) -> float | None:
    if not means[0] <= mean_layer <= means[-1]:
        return None
    return float(np.interp(mean_layer, means, wers))
