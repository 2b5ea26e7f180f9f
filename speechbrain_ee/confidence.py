# SPDX-License-Identifier: Apache-2.0
"""From scores to probabilities that mean what they say: isotonic maps, reliability, calibration error.

Sources: Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002
(isotonic regression); Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015 (ECE).
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence

from speechbrain_ee.metrics import words_right
from speechbrain_ee.utterances import split_by_speaker

NUM_BINS = 10


def interpolate(knots: Mapping[str, Sequence[float]], value: float) -> float:
    """Evaluate an isotonic map; constant outside its knots, NaN at NaN. Standard library alone.

    Example
    -------
    >>> interpolate({"x": [0.0, 1.0], "y": [0.2, 0.6]}, 0.5)
    0.4
    >>> interpolate({"x": [0.0, 1.0], "y": [0.2, 0.6]}, 7)
    0.6
    """
    x, y = knots["x"], knots["y"]
    if math.isnan(value):
        return math.nan
    right = bisect_right(x, value)
    if right == 0:
        return y[0]
    if right == len(x):
        return y[-1]
    share = (value - x[right - 1]) / (x[right] - x[right - 1])
    return y[right - 1] + share * (y[right] - y[right - 1])


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
        ``x`` and ``y`` of the map's knots, for :func:`interpolate`.

    Example
    -------
    >>> knots = fit_isotonic([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])
    >>> interpolate(knots, 0.1), interpolate(knots, 0.9)
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


def fit_confidence(utterances: Sequence[Mapping]) -> dict:
    """Fit what turns raw confidences into chances and error rates, for every exit.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``; a file without texts or word confidences gives less.

    Returns
    -------
    dict
        By exit layer: ``words``, the map from the confidence of a word to the chance that it is right, ``wer``, the map
        from the score ``confidence`` of an utterance to its expected WER in percent, and ``ece``, the expected
        calibration error of each on halves that the maps were not fitted on.
    """
    layers = [exit["layer"] for exit in utterances[0]["exits"]]
    found: dict[str, dict] = {"words": {}, "wer": {}, "ece": {}}
    for index, layer in enumerate(layers):
        for kind, observe in _OBSERVE.items():
            rows = observe(utterances, index)
            if not rows:
                continue
            found[kind][str(layer)] = _fit(kind, rows)
            _, error = reliability(*held_out(kind, utterances, index))
            found["ece"].setdefault(str(layer), {})[kind] = error
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
            predicted.append(min(1.0, interpolate(knots, value) / scale))
            observed.append(outcome / scale)
            weights.append(weight)
    return predicted, observed, weights


def _fit(kind: str, rows: Sequence[tuple[float, float, float]]) -> dict:
    values, observed, weights = zip(*rows, strict=True)
    return fit_isotonic(values, observed, weights=weights, rising=kind == "words")


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
