# SPDX-License-Identifier: Apache-2.0
"""From scores to probabilities that mean what they say: isotonic maps, reliability, calibration error.

Sources: Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002
(isotonic regression); Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015 (ECE).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from speechbrain_ee.policies.confidence import isotonic_value
from speechbrain_ee.replay.utterances import split_by_speaker
from speechbrain_ee.text.metrics import words_right

NUM_BINS = 10
MIN_STOPPED = 50  # utterances that stop at an exit, for maps of their own


def fit_isotonic(
    values: Sequence[float], observed: Sequence[float], *, weights: Sequence[float] | None = None, rising: bool = True
) -> dict[str, list[float]]:
    """Fit a monotone map from values to what was observed.

    Arguments
    ---------
    values : sequence of float
        Scores or raw confidences.
    observed : sequence of float
        What they should predict: 1 and 0 for right and wrong, or an error rate.
    weights : sequence of float, optional
        Of each observation, such as its words.
    rising : bool
        Whether a higher value means more.

    Returns
    -------
    dict
        ``x`` and ``y`` of the map's knots, for :func:`isotonic_value`.

    Example
    -------
    >>> knots = fit_isotonic([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])
    >>> isotonic_value(knots, 0.1), isotonic_value(knots, 0.9)
    (0.0, 1.0)
    """
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(increasing=rising, out_of_bounds="clip").fit(values, observed, sample_weight=weights)
    return {"x": fitted.X_thresholds_.tolist(), "y": fitted.y_thresholds_.tolist()}


def reliability(
    predicted: Sequence[float], observed: Sequence[float], weights: Sequence[float] | None = None
) -> tuple[list[dict], float]:
    """Mean prediction against what was observed, in ten bins of equal width, and the expected calibration error.

    Arguments
    ---------
    predicted : sequence of float
        In [0, 1].
    observed : sequence of float
        What came of each.
    weights : sequence of float, optional
        Of each observation.

    Returns
    -------
    tuple of list and float
        ``{"predicted", "observed", "weight"}`` of every bin that is not empty, and the weighted mean of the bins'
        differences.

    Example
    -------
    >>> reliability([0.9, 0.9, 0.1, 0.1], [1, 1, 0, 1])
    ([{'predicted': 0.1, 'observed': 0.5, 'weight': 2.0}, {'predicted': 0.9, 'observed': 1.0, 'weight': 2.0}], 0.25)
    """
    weights = [1.0] * len(predicted) if weights is None else list(weights)
    bins: dict[int, list[tuple[float, float, float]]] = {}
    for row in zip(predicted, observed, weights, strict=True):
        bins.setdefault(min(NUM_BINS - 1, int(row[0] * NUM_BINS)), []).append(row)
    found = []
    for _, rows in sorted(bins.items()):
        weight = float(sum(w for _, _, w in rows))
        if weight > 0:
            means = [sum(row[column] * row[2] for row in rows) / weight for column in (0, 1)]
            found.append({"predicted": means[0], "observed": means[1], "weight": weight})
    total = sum(one["weight"] for one in found)
    error = sum(one["weight"] * abs(one["predicted"] - one["observed"]) for one in found) / total if total else 0.0
    return found, error


def fit_confidence(utterances: Sequence[Mapping], exits_taken: Sequence[int] | None = None) -> dict:
    """Fit what turns raw confidences into chances and error rates, for every exit.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``; a file without texts or word confidences gives less.
    exits_taken : sequence of int, optional
        Exit index at which a policy stops each. The utterances that it stops at an exit are the easy ones, of which
        maps fitted on all utterances say too little good.

    Returns
    -------
    dict
        By exit layer: ``words``, the map from the confidence of a word to the chance that it is right, ``wer``, the map
        from the score ``confidence`` of an utterance to its expected WER in percent, and ``ece``, the expected
        calibration error of each on halves that the maps were not fitted on. With ``exits_taken`` also ``stopped``,
        the same of the utterances that stop at each exit; an exit at which fewer than 50 stop is not in it.
    """
    found = _fit_exits([utterances] * len(utterances[0]["exits"]))
    if exits_taken is not None:
        groups: list[list] = [[] for _ in utterances[0]["exits"]]
        for utterance, index in zip(utterances, exits_taken, strict=True):
            groups[index].append(utterance)
        found["stopped"] = _fit_exits([group if len(group) >= MIN_STOPPED else [] for group in groups])
    return found


def _fit_exits(groups: Sequence[Sequence[Mapping]]) -> dict:
    """Maps and calibration errors of every exit from utterances of its own."""
    found: dict[str, dict] = {"words": {}, "wer": {}, "ece": {}}
    for index, utterances in enumerate(groups):
        for kind, observe in _OBSERVE.items():
            rows = observe(utterances, index)
            if not rows:
                continue
            layer = str(utterances[0]["exits"][index]["layer"])
            found[kind][layer] = _fit(kind, rows)
            _, error = reliability(*held_out(kind, utterances, index))
            found["ece"].setdefault(layer, {})[kind] = error
    return found


def held_out(kind: str, utterances: Sequence[Mapping], index: int) -> tuple[list, list, list]:
    """Predictions for each half of the utterances by the map of the other half, what was observed, and weights.

    Arguments
    ---------
    kind : str
        ``words`` or ``wer``.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.
    index : int
        Exit index.

    Returns
    -------
    tuple of list
        For :func:`reliability`; error rates as shares.
    """
    predicted, observed, weights = [], [], []
    halves = split_by_speaker(utterances)
    scale = 1.0 if kind == "words" else 100.0
    for fitting, others in (halves, halves[::-1]):
        fitted_on, judged = _OBSERVE[kind](fitting, index), _OBSERVE[kind](others, index)
        if not fitted_on:
            continue
        knots = _fit(kind, fitted_on)
        for value, outcome, weight in judged:
            predicted.append(min(1.0, isotonic_value(knots, value) / scale))
            observed.append(outcome / scale)
            weights.append(weight)
    return predicted, observed, weights


def _fit(kind: str, rows: Sequence[tuple[float, float, float]]) -> dict:
    """Fit a map; where it found only right words or none, it says as much as so many words can show, not 0 or 1."""
    values, observed, weights = zip(*rows, strict=True)
    knots = fit_isotonic(values, observed, weights=weights, rising=kind == "words")
    least = 0.5 / (sum(weights) + 1)
    low, high = (least, 1 - least) if kind == "words" else (100 * least, math.inf)
    return {"x": knots["x"], "y": [min(high, max(low, y)) for y in knots["y"]]}


def _observe_words(utterances: Sequence[Mapping], index: int) -> list[tuple[float, float, float]]:
    """Confidence, right or not, weight 1, of every recognised word."""
    rows = []
    for utterance in utterances:
        exit = utterance["exits"][index]
        confidences, hypothesis = exit.get("word_confidence"), exit.get("hypothesis")
        if confidences and utterance.get("reference") is not None and hypothesis is not None:
            right = words_right(utterance["reference"], hypothesis)
            rows += [(value, float(one), 1.0) for value, one in zip(confidences, right, strict=True)]
    return rows


def _observe_wer(utterances: Sequence[Mapping], index: int) -> list[tuple[float, float, float]]:
    """Score, WER in percent and words of every utterance."""
    rows = []
    for utterance in utterances:
        exit = utterance["exits"][index]
        value, words = exit["scores"].get("confidence"), utterance["num_words"]
        if value is not None and not math.isnan(value) and words:
            rows.append((value, 100.0 * sum(exit["errors"].values()) / words, float(words)))
    return rows


_OBSERVE = {"words": _observe_words, "wer": _observe_wer}
