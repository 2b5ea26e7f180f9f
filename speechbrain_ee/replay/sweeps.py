# SPDX-License-Identifier: Apache-2.0
"""Threshold policies over cached scores, at many thresholds at once. Needs NumPy, no torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ee_runtime.policies import ThresholdPolicy
from speechbrain_ee.replay.replay import ExitCounts
from speechbrain_ee.replay.unsureness import limits_between, sign_of, unsureness


def sweep(
    policy: ThresholdPolicy, utterances: Sequence[Mapping], thresholds: Sequence[float] | None = None
) -> list[dict]:
    """Compute error rate, mean exit layer and cost of one policy at many thresholds.

    Arguments
    ---------
    policy : ThresholdPolicy
        The policy; its own threshold is ignored.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.
    thresholds : sequence of float, optional
        None takes at most 200 thresholds at quantiles of the values in the file, each halfway between two neighbouring
        values; the first sends all utterances to the last exit, the last stops all of them at the first exit.

    Returns
    -------
    list of dict
        The entries of ``policies.json``, in the order of the thresholds: ``wer``, or ``cer`` of utterances that are
        counted in characters. The histogram's keys are strings, as in JSON.

    Raises
    ------
    ValueError
        If there are no utterances, their exits differ, or the score is missing.
    """
    counts = ExitCounts.of(utterances)
    unsure = unsureness(policy, utterances)
    sign = sign_of(policy)
    if thresholds is None:
        thresholds = [sign * limit for limit in _default_limits(policy, unsure)]
    limits = sign * np.asarray(thresholds, dtype=float)
    return _entries(thresholds, *totals(counts.paid_by(policy), unsure, limits), counts)


def choose_threshold(policy: ThresholdPolicy, utterances: Sequence[Mapping], max_increase: float) -> dict[str, object]:
    """Choose the cheapest threshold whose error rate on these utterances is some points above the last exit's at most.

    Tries one threshold between each pair of neighbouring values (:func:`limits_between`). Full depth runs the last head
    only. The result is not a bound for other utterances.

    Arguments
    ---------
    policy : ThresholdPolicy
        The policy; its own threshold is ignored.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``, of a development set.
    max_increase : float
        Allowed increase of WER (or CER) above the last exit's, in points, 0 or more.

    Returns
    -------
    dict
        The entry of :func:`sweep` at that threshold; ``threshold`` is None for full depth.

    Raises
    ------
    ValueError
        If ``max_increase`` is negative, or as in :func:`sweep`.
    """
    counts = ExitCounts.of(utterances)
    if not max_increase >= 0:
        unit = counts.unit
        raise ValueError(f"max_{unit.key}_increase is {max_increase}; give points of {unit.rate}, 0 or more")
    unsure = unsureness(policy, utterances)
    limits = np.concatenate([[-np.inf], limits_between(policy, unsure)])  # -inf: full depth, always allowed
    errors, macs, taken = totals(counts.paid_by(policy), unsure, limits)
    if macs is not None:
        macs[0] = counts.full_macs
    allowed = counts.errors[:, -1].sum() + max_increase / 100 * counts.lengths.sum()
    cost = taken @ counts.exit_layers if macs is None else macs
    cost = np.where(errors <= allowed + 1e-9, cost, np.inf)
    # Lowest cost first, then fewest errors, then the smaller (safer) limit.
    best = [int(np.lexsort((limits, errors, cost))[0])]
    full_depth = taken[best[0], -1] == taken[best[0]].sum()
    threshold = None if full_depth else sign_of(policy) * float(limits[best[0]])
    macs = None if macs is None else macs[best]
    return _entries([threshold], errors[best], macs, taken[best], counts)[0]


def cheapest_threshold(
    policy: ThresholdPolicy, utterances: Sequence[Mapping], share: float
) -> tuple[float | None, float]:
    """Choose the threshold with the fewest errors whose mean cost is at most a share of full depth's.

    Arguments
    ---------
    policy : ThresholdPolicy
        The policy; its own threshold is ignored.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.
    share : float
        Share of the MACs of full depth, which runs the last head only; share of its layers if MACs are unknown.

    Returns
    -------
    tuple of float
        The threshold, None if the first exit costs more; and the share that the first exit costs.
    """
    counts = ExitCounts.of(utterances)
    unsure = unsureness(policy, utterances)
    limits = limits_between(policy, unsure)
    if len(limits) == 0:
        raise ValueError(f"{policy.label} has no value at any exit: choose another score")
    errors, macs, taken = totals(counts.paid_by(policy), unsure, limits)
    if macs is None:
        cost, full = taken @ counts.exit_layers, counts.exit_layers[-1] * len(counts.lengths)
    else:
        cost, full = macs, counts.full_macs
    affordable = cost <= share * full
    if not affordable.any():
        return None, float(cost.min() / full)
    best = int(np.lexsort((limits, np.where(affordable, errors, np.inf)))[0])
    return sign_of(policy) * float(limits[best]), float(cost.min() / full)


def totals(
    counts: ExitCounts, unsure: np.ndarray, limits: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Compute errors (limits,), MACs (limits,) and utterances per exit (limits, exits).

    An utterance continues past exit e if its lowest unsureness up to e is above the limit. The utterances are therefore
    sorted once per exit by that value. A limit is a position in the cumulative sums of the errors and MACs that the
    next segment adds. This avoids a matrix of utterances x limits.
    """
    so_far = np.fmin.accumulate(unsure, axis=1)  # fmin ignores NaN, at which no policy stops
    errors = np.full(len(limits), counts.errors[:, 0].sum())
    macs = None if counts.macs is None else np.full(len(limits), counts.macs[:, 0].sum())
    past = np.zeros((len(limits), len(counts.exit_layers) + 1), dtype=int)
    past[:, 0] = len(so_far)
    for e in range(len(counts.exit_layers) - 1):
        order = np.argsort(so_far[:, e])  # NaN is last: above every limit
        cut = np.searchsorted(so_far[order, e], limits, side="right")
        past[:, e + 1] = len(so_far) - cut
        errors = errors + _tail_sums(counts.errors[order, e + 1] - counts.errors[order, e])[cut]
        if macs is not None:
            macs = macs + _tail_sums(counts.macs[order, e + 1] - counts.macs[order, e])[cut]
    return errors, macs, past[:, :-1] - past[:, 1:]


def _tail_sums(values: np.ndarray) -> np.ndarray:
    """Return the sum of values[i:] for i = 0..len(values)."""
    return np.append(np.cumsum(values[::-1])[::-1], 0)


def _entries(
    thresholds: Sequence[float | None],
    errors: np.ndarray,
    macs: np.ndarray | None,
    taken: np.ndarray,
    counts: ExitCounts,
) -> list[dict]:
    rates = 100.0 * errors / counts.lengths.sum()
    mean_layers = taken @ counts.exit_layers / len(counts.lengths)
    known = macs is not None and counts.seconds is not None
    macs_per_s = (macs / counts.seconds).tolist() if known else [None] * len(rates)
    names = [str(layer) for layer in counts.exit_layers]
    return [
        {
            "threshold": None if threshold is None else float(threshold),
            counts.unit.key: float(error_rate),
            "mean_layer": float(mean_layer),
            "macs_per_s": macs_rate,
            "histogram": dict(zip(names, row.tolist(), strict=True)),
        }
        for threshold, error_rate, mean_layer, macs_rate, row in zip(
            thresholds, rates, mean_layers, macs_per_s, taken, strict=True
        )
    ]


def _default_limits(policy: ThresholdPolicy, unsure: np.ndarray, count: int = 200) -> np.ndarray:
    """Return limits at quantiles of the values, after one limit below all of them."""
    finite = unsure[np.isfinite(unsure)]
    if finite.size == 0:
        return np.zeros(1)  # every threshold gives the last exit
    limits = limits_between(policy, unsure)
    quantiles = np.quantile(finite, np.linspace(0, 1, count - 1), method="inverted_cdf")
    chosen = limits[np.searchsorted(np.unique(finite), quantiles)]
    never = finite.min() - 1e-6 * max(1.0, abs(finite.min()))
    return np.unique(np.append(chosen, never))
