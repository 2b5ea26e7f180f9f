# SPDX-License-Identifier: Apache-2.0
"""Threshold policies over cached scores, at many thresholds at once. No torch.

``utterances`` are as in :mod:`speechbrain_ee.replay.replay`. A policy's own threshold does not matter here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from speechbrain_ee.policies import Patience, ScoreThreshold, ThresholdPolicy
from speechbrain_ee.policies.scores import SCORES, score_value
from speechbrain_ee.replay.replay import ExitCounts, first_look


def sweep(
    policy: ThresholdPolicy, utterances: Sequence[Mapping], thresholds: Sequence[float] | None = None
) -> list[dict]:
    """WER, mean exit layer and cost of one policy at many thresholds.

    Arguments
    ---------
    policy : ThresholdPolicy
        Whose thresholds.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.
    thresholds : sequence of float, optional
        None takes at most 200, evenly spread over the scores in the file and each between two of them, from the
        threshold that sends all of them to the last exit to the one that stops all of them at the first.

    Returns
    -------
    list of dict
        The entries of ``policies.json``, in the order of the thresholds; the histogram's keys are
        strings, as JSON makes them.

    Raises
    ------
    ValueError
        If there are no utterances, they differ in their exits, or the score is missing.
    """
    counts = ExitCounts.of(utterances)
    unsure = unsureness(policy, utterances)
    sign = _sign(policy)
    if thresholds is None:
        thresholds = [sign * limit for limit in _default_limits(policy, unsure)]
    limits = sign * np.asarray(thresholds, dtype=float)
    return _entries(thresholds, *totals(counts.paid_by(policy), unsure, limits), counts)


def choose_threshold(
    policy: ThresholdPolicy, utterances: Sequence[Mapping], max_wer_increase: float
) -> dict[str, object]:
    """The cheapest threshold that loses at most so many points of WER on these utterances.

    Every threshold that makes a difference here is tried, each between two scores (:func:`limits_between`). Full depth
    runs the last head alone. Nothing is promised for other utterances.

    Arguments
    ---------
    policy : ThresholdPolicy
        Whose thresholds.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``, of a development set.
    max_wer_increase : float
        Points of WER above the last exit's that are allowed, 0 or more.

    Returns
    -------
    dict
        The entry of ``sweep`` at that threshold; its ``threshold`` is None if no threshold below
        full depth is good enough.

    Raises
    ------
    ValueError
        If ``max_wer_increase`` is negative, or as in ``sweep``.
    """
    if not max_wer_increase >= 0:
        raise ValueError(f"max_wer_increase is {max_wer_increase}; give points of WER, 0 or more")
    counts = ExitCounts.of(utterances)
    unsure = unsureness(policy, utterances)
    limits = np.concatenate([[-np.inf], limits_between(policy, unsure)])  # -inf: full depth, always good enough
    errors, macs, taken = totals(counts.paid_by(policy), unsure, limits)
    if macs is not None:
        macs[0] = counts.full_macs
    allowed = counts.errors[:, -1].sum() + max_wer_increase / 100 * counts.words.sum()
    cost = taken @ counts.exit_layers if macs is None else macs
    cost = np.where(errors <= allowed + 1e-9, cost, np.inf)
    # Cheapest first, then fewest errors, then the more cautious (smaller) limit.
    best = [int(np.lexsort((limits, errors, cost))[0])]
    full_depth = taken[best[0], -1] == taken[best[0]].sum()
    threshold = None if full_depth else _sign(policy) * float(limits[best[0]])
    macs = None if macs is None else macs[best]
    return _entries([threshold], errors[best], macs, taken[best], counts)[0]


def cheapest_threshold(
    policy: ThresholdPolicy, utterances: Sequence[Mapping], share: float
) -> tuple[float | None, float]:
    """The threshold with the fewest errors whose mean cost is at most a share of the last exit's.

    Arguments
    ---------
    policy : ThresholdPolicy
        Whose thresholds.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.
    share : float
        Of the MACs of full depth, the last head alone, or of its layers where MACs are unknown.

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
        cost, full = taken @ counts.exit_layers, counts.exit_layers[-1] * len(counts.words)
    else:
        cost, full = macs, counts.full_macs
    affordable = cost <= share * full
    if not affordable.any():
        return None, float(cost.min() / full)
    best = int(np.lexsort((limits, np.where(affordable, errors, np.inf)))[0])
    return _sign(policy) * float(limits[best]), float(cost.min() / full)


def exits_taken(policy: ThresholdPolicy, utterances: Sequence[Mapping], thresholds: Sequence[float]) -> np.ndarray:
    """Exit index of every utterance at many thresholds.

    Arguments
    ---------
    policy : ThresholdPolicy
        Whose thresholds.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.
    thresholds : sequence of float
        Any.

    Returns
    -------
    np.ndarray
        (utterances, thresholds).
    """
    so_far = np.fmin.accumulate(unsureness(policy, utterances), axis=1)
    limits = _sign(policy) * np.asarray(thresholds, dtype=float)
    going_on = np.zeros((len(so_far), len(limits)), dtype=int)
    for column in so_far.T:  # one exit after the other: a cube would be large
        going_on += ~(column[:, None] <= limits)
    return going_on


def common_scores(utterances: Sequence[Mapping]) -> list[str]:
    """Names of the scores that every exit of every utterance has, in the order of the registry."""
    there = set.intersection(*(set(exit["scores"]) for one in utterances for exit in one["exits"]))
    return [name for name in SCORES if name in there]


def usable_scores(utterances: Sequence[Mapping]) -> list[str]:
    """Scores that a learned one can be made of: those with a value at every exit, for some utterances.

    Raises
    ------
    ValueError
        If there is none.
    """

    def has_values(name: str) -> bool:
        values = np.array([[score_value(exit["scores"], name) for exit in one["exits"]] for one in utterances])
        return bool(np.isfinite(values).any(axis=0).all())

    found = [name for name in common_scores(utterances) if has_values(name)]
    if not found:
        raise ValueError("no score has values at every exit: a learned score has nothing to learn from")
    return found


def threshold_policies(utterances: Sequence[Mapping]) -> list[ThresholdPolicy]:
    """Every policy without anything to fit that the scores of a file allow; their thresholds are to be chosen.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.

    Returns
    -------
    list of ThresholdPolicy
        One per score that has a direction, and patience where exits are compared.
    """
    there = common_scores(utterances)
    found = [ScoreThreshold(name, 0.0) for name in SCORES if name in there and SCORES[name].higher_is_surer is not None]
    return found + ([Patience(1)] if "agreement" in there else [])


def unsureness(policy: ThresholdPolicy, utterances: Sequence[Mapping]) -> np.ndarray:
    """Values of a policy at all exits but the last, turned so that lower is surer.

    Arguments
    ---------
    policy : ThresholdPolicy
        Whose thresholds.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.

    Returns
    -------
    np.ndarray
        (utterances, exits - 1); NaN where the policy never stops.
    """
    exit_layers = tuple(exit["layer"] for exit in utterances[0]["exits"])
    sign = _sign(policy)
    found = np.empty((len(utterances), len(exit_layers) - 1))
    for row, utterance in enumerate(utterances):
        look = first_look(utterance, exit_layers)
        for look.exit_index, exit in enumerate(utterance["exits"][:-1]):
            look.scores.append(exit["scores"])
            found[row, look.exit_index] = policy.value(look)
    return sign * found


def limits_between(policy: ThresholdPolicy, unsure: np.ndarray) -> np.ndarray:
    """Limits that make a difference, each halfway between two neighbouring values: rounding then changes no exit.

    Arguments
    ---------
    policy : ThresholdPolicy
        Whose limits; those of patience, which counts, stay whole numbers.
    unsure : np.ndarray
        What :func:`unsureness` gives.

    Returns
    -------
    np.ndarray
        Rising, one for every value that occurs, at or above it and below the next; empty without values.

    Example
    -------
    >>> limits_between(ScoreThreshold("entropy", 0.0), np.array([[0.5], [0.1], [0.3]])).round(2).tolist()
    [0.2, 0.4, 0.6]
    """
    values = np.unique(unsure[np.isfinite(unsure)])
    if len(values) == 0 or isinstance(policy, Patience):
        return values
    gap = values[-1] - values[-2] if len(values) > 1 else max(1e-3, 1e-3 * abs(values[-1]))
    following = np.append(values[1:], values[-1] + gap)
    halfway = values + (following - values) / 2
    return np.where(halfway < following, halfway, values)  # neighbours in floating point have nothing between them


def totals(
    counts: ExitCounts, unsure: np.ndarray, limits: np.ndarray
) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
    """Errors (limits,), MACs (limits,) and utterances per exit (limits, exits).

    An utterance goes on past exit e if its least unsure score up to e is above the limit. So each
    exit is sorted once by that score, and a limit is a cut in the sorted sums of what going on
    adds: no matrix of utterances x limits.
    """
    so_far = np.fmin.accumulate(unsure, axis=1)  # fmin: NaN stops nowhere and hides nothing
    errors = np.full(len(limits), counts.errors[:, 0].sum())
    macs = None if counts.macs is None else np.full(len(limits), counts.macs[:, 0].sum())
    past = np.zeros((len(limits), len(counts.exit_layers) + 1), dtype=int)
    past[:, 0] = len(so_far)
    for e in range(len(counts.exit_layers) - 1):
        order = np.argsort(so_far[:, e])  # NaN last: above every limit
        cut = np.searchsorted(so_far[order, e], limits, side="right")
        past[:, e + 1] = len(so_far) - cut
        errors = errors + _tail_sums(counts.errors[order, e + 1] - counts.errors[order, e])[cut]
        if macs is not None:
            macs = macs + _tail_sums(counts.macs[order, e + 1] - counts.macs[order, e])[cut]
    return errors, macs, past[:, :-1] - past[:, 1:]


def _tail_sums(values: np.ndarray) -> np.ndarray:
    """Sum of values[i:] for i = 0..len(values)."""
    return np.append(np.cumsum(values[::-1])[::-1], 0)


def _entries(
    thresholds: Sequence[float | None],
    errors: np.ndarray,
    macs: np.ndarray | None,
    taken: np.ndarray,
    counts: ExitCounts,
) -> list[dict]:
    wers = 100.0 * errors / counts.words.sum()
    mean_layers = taken @ counts.exit_layers / len(counts.words)
    known = macs is not None and counts.seconds is not None
    rates = (macs / counts.seconds).tolist() if known else [None] * len(wers)
    names = [str(layer) for layer in counts.exit_layers]
    return [
        {
            "threshold": None if threshold is None else float(threshold),
            "wer": float(wer),
            "mean_layer": float(mean_layer),
            "macs_per_s": rate,
            "histogram": dict(zip(names, row.tolist(), strict=True)),
        }
        for threshold, wer, mean_layer, rate, row in zip(thresholds, wers, mean_layers, rates, taken, strict=True)
    ]


def _default_limits(policy: ThresholdPolicy, unsure: np.ndarray, count: int = 200) -> np.ndarray:
    """Limits between the scores, after one below all of them."""
    finite = unsure[np.isfinite(unsure)]
    if finite.size == 0:
        return np.zeros(1)  # every threshold gives the last exit
    limits = limits_between(policy, unsure)
    quantiles = np.quantile(finite, np.linspace(0, 1, count - 1), method="inverted_cdf")
    chosen = limits[np.searchsorted(np.unique(finite), quantiles)]
    never = finite.min() - 1e-6 * max(1.0, abs(finite.min()))
    return np.unique(np.append(chosen, never))


def _sign(policy: ThresholdPolicy) -> int:
    return -1 if policy.higher_is_surer else 1
