# SPDX-License-Identifier: Apache-2.0
"""Compare policies and static exits at equal cost: at equal mean exit layer, or at equal MACs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ee_runtime.policies import ThresholdPolicy
from speechbrain_ee.replay.replay import ExitCounts, static_wer
from speechbrain_ee.replay.sweeps import sweep, totals
from speechbrain_ee.replay.unsureness import exits_taken, unsureness


def wer_at_mean_layer(policy: ThresholdPolicy, utterances: Sequence[Mapping], mean_layer: float) -> float | None:
    """Compute the WER of a policy at the threshold that gives a certain mean exit layer on these utterances.

    Between two neighbouring thresholds the WER is interpolated linearly: the expected WER if one of the two is drawn at
    random for each utterance. Of utterances that are counted in characters, it is the CER.

    Arguments
    ---------
    policy : ThresholdPolicy
        The policy; its own threshold is ignored.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.
    mean_layer : float
        The mean exit layer.

    Returns
    -------
    float or None
        WER in percent; None if the mean is outside the range of the policy.
    """
    counts = ExitCounts.of(utterances)
    unsure = unsureness(policy, utterances)
    limits = np.concatenate([[-np.inf], np.unique(unsure[np.isfinite(unsure)])])
    errors, _, taken = totals(counts, unsure, limits)
    means = taken @ counts.exit_layers / len(counts.lengths)  # decreasing in the limit
    return _interpolate(means[::-1], 100.0 * errors[::-1] / counts.lengths.sum(), mean_layer)


def static_wer_at_mean_layer(utterances: Sequence[Mapping], mean_layer: float) -> float | None:
    """Interpolate the error rate of the two static exits around a mean layer; None outside the range of the exits."""
    wers = static_wer(utterances)
    return _interpolate(np.array(list(wers), dtype=float), np.array(list(wers.values())), mean_layer)


def errors_at_costs(
    policy: ThresholdPolicy, utterances: Sequence[Mapping], shares: Sequence[float]
) -> list[np.ndarray | None]:
    """Compute the expected errors of each utterance if a policy costs a share of the MACs of full depth.

    The cost is measured on these utterances. Between two neighbouring thresholds the errors are interpolated linearly.

    Arguments
    ---------
    policy : ThresholdPolicy
        The policy; its own threshold is ignored.
    utterances : sequence of dict
        Lines of ``utterances.jsonl`` with MACs.
    shares : sequence of float
        Shares of the MACs, each in (0, 1].

    Returns
    -------
    list of np.ndarray or None
        (utterances,) for each share; None if the share is outside the range of the policy.
    """
    counts = ExitCounts.of(utterances)
    taken = exits_taken(policy, utterances, [entry["threshold"] for entry in sweep(policy, utterances)])
    errors, macs = (np.take_along_axis(table, taken, axis=1) for table in (counts.errors, counts.paid_by(policy).macs))
    return [_mixed(errors, macs, share * counts.full_macs) for share in shares]


def static_errors_at_cost(counts: ExitCounts, share: float) -> np.ndarray | None:
    """Interpolate the errors of each utterance between two static exits, to a share of the MACs of full depth."""
    return _mixed(counts.errors, counts.static_macs, share * counts.full_macs)


def _mixed(errors: np.ndarray, macs: np.ndarray, target: float) -> np.ndarray | None:
    """Interpolate errors between the two columns, (utterances, columns), whose total MACs are next to a target."""
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
