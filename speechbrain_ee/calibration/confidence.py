# SPDX-License-Identifier: Apache-2.0
"""Calibrate confidences: isotonic maps from scores to probabilities, reliability, calibration error.

Sources: Zadrozny and Elkan, "Transforming classifier scores into accurate multiclass probability estimates", KDD 2002
(isotonic regression); Naeini et al., "Obtaining well calibrated probabilities using Bayesian binning", AAAI 2015 (ECE).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial

from ee_runtime.policies.confidence import isotonic_value
from ee_runtime.text.error_units import CHAR, WORD, ErrorUnit, unit_of_lines
from speechbrain_ee.replay.speakers import split_by_speaker
from speechbrain_ee.text.metrics import words_right

NUM_BINS = 10
MIN_STOPPED = 50  # utterances that stop at an exit, required for separate maps


def fit_isotonic(
    values: Sequence[float], observed: Sequence[float], *, weights: Sequence[float] | None = None, rising: bool = True
) -> dict[str, list[float]]:
    """Fit an isotonic map from values to outcomes.

    Arguments
    ---------
    values : sequence of float
        Scores or raw confidences.
    observed : sequence of float
        Outcomes that the values predict: 1 or 0 for right or wrong, or an error rate.
    weights : sequence of float, optional
        Weight of each observation, such as its number of words.
    rising : bool
        Whether the map rises; otherwise it falls.

    Returns
    -------
    dict
        The isotonic map, for :func:`isotonic_value`: ``x`` and ``y`` of its knots.

    Example
    -------
    >>> isotonic_map = fit_isotonic([0.1, 0.2, 0.8, 0.9], [0, 0, 1, 1])
    >>> isotonic_value(isotonic_map, 0.1), isotonic_value(isotonic_map, 0.9)
    (0.0, 1.0)
    """
    from sklearn.isotonic import IsotonicRegression

    fitted = IsotonicRegression(increasing=rising, out_of_bounds="clip").fit(values, observed, sample_weight=weights)
    return {"x": fitted.X_thresholds_.tolist(), "y": fitted.y_thresholds_.tolist()}


def reliability(
    predicted: Sequence[float], observed: Sequence[float], weights: Sequence[float] | None = None
) -> tuple[list[dict], float]:
    """Compare predictions with outcomes in ten bins of equal width; compute the expected calibration error.

    Arguments
    ---------
    predicted : sequence of float
        Predictions in [0, 1].
    observed : sequence of float
        Outcome of each.
    weights : sequence of float, optional
        Weight of each observation.

    Returns
    -------
    tuple of list and float
        ``{"predicted", "observed", "weight"}`` of every bin that is not empty, with means of predictions and
        outcomes; and the weighted mean of their differences.

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
    """Fit the maps from raw confidences to probabilities and error rates, for every exit.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``; without texts or word confidences there are fewer maps.
    exits_taken : sequence of int, optional
        Exit index at which a policy stops each. A policy stops the easy utterances at early exits, for which maps
        fitted on all utterances are underconfident.

    Returns
    -------
    dict
        By exit layer: ``words``, the map from the confidence of a word to the probability that it is right; ``wer``,
        the map from the score ``confidence`` of an utterance to its expected WER in percent (``cer``, to its expected
        CER, of utterances that are counted in characters); and ``ece``, the expected
        calibration error of each, cross-fitted on two halves. With ``exits_taken`` also ``stopped``: the same for the
        utterances that stop at each exit, if at least 50 do.
    """
    kinds = ("words", unit_of_lines(utterances).key)
    found = _fit_exits([utterances] * len(utterances[0]["exits"]), kinds)
    if exits_taken is not None:
        groups: list[list] = [[] for _ in utterances[0]["exits"]]
        for utterance, index in zip(utterances, exits_taken, strict=True):
            groups[index].append(utterance)
        found["stopped"] = _fit_exits([group if len(group) >= MIN_STOPPED else [] for group in groups], kinds)
    return found


def _fit_exits(groups: Sequence[Sequence[Mapping]], kinds: Sequence[str]) -> dict:
    """Fit the maps of every exit to its group of utterances, and measure their calibration errors."""
    found: dict[str, dict] = {**{kind: {} for kind in kinds}, "ece": {}}
    for index, utterances in enumerate(groups):
        for kind in kinds:
            rows = _OBSERVE[kind](utterances, index)
            if not rows:
                continue
            layer = str(utterances[0]["exits"][index]["layer"])
            found[kind][layer] = _fit(kind, rows)
            _, error = reliability(*held_out(kind, utterances, index))
            found["ece"].setdefault(layer, {})[kind] = error
    return found


def held_out(kind: str, utterances: Sequence[Mapping], index: int) -> tuple[list, list, list]:
    """Predict each half of the utterances with the map that was fitted on the other half.

    Arguments
    ---------
    kind : str
        ``words``, ``wer`` or ``cer``.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.
    index : int
        Exit index.

    Returns
    -------
    tuple of list
        Predictions, outcomes and weights for :func:`reliability`; error rates as shares.
    """
    predicted, observed, weights = [], [], []
    halves = split_by_speaker(utterances)
    scale = 1.0 if kind == "words" else 100.0
    for fitting, others in (halves, halves[::-1]):
        fitted_on, judged = _OBSERVE[kind](fitting, index), _OBSERVE[kind](others, index)
        if not fitted_on:
            continue
        isotonic_map = _fit(kind, fitted_on)
        for value, outcome, weight in judged:
            predicted.append(min(1.0, isotonic_value(isotonic_map, value) / scale))
            observed.append(outcome / scale)
            weights.append(weight)
    return predicted, observed, weights


def _fit(kind: str, rows: Sequence[tuple[float, float, float]]) -> dict:
    """Fit a map whose probabilities are not 0 or 1, which no finite number of words can prove."""
    values, observed, weights = zip(*rows, strict=True)
    isotonic_map = fit_isotonic(values, observed, weights=weights, rising=kind == "words")
    least = 0.5 / (sum(weights) + 1)
    low, high = (least, 1 - least) if kind == "words" else (100 * least, math.inf)
    return {"x": isotonic_map["x"], "y": [min(high, max(low, y)) for y in isotonic_map["y"]]}


def _observe_words(utterances: Sequence[Mapping], index: int) -> list[tuple[float, float, float]]:
    """Return confidence, correctness (0 or 1) and weight 1 of every recognised word."""
    rows = []
    for utterance in utterances:
        exit = utterance["exits"][index]
        confidences, hypothesis = exit.get("word_confidence"), exit.get("hypothesis")
        if confidences and utterance.get("reference") is not None and hypothesis is not None:
            right = words_right(utterance["reference"], hypothesis)
            rows += [(value, float(one), 1.0) for value, one in zip(confidences, right, strict=True)]
    return rows


def _observe_rate(utterances: Sequence[Mapping], index: int, unit: ErrorUnit) -> list[tuple[float, float, float]]:
    """Return score, error rate in percent and length of every utterance."""
    rows = []
    for utterance in utterances:
        exit = utterance["exits"][index]
        value, length = exit["scores"].get("confidence"), utterance[unit.length]
        if value is not None and not math.isnan(value) and length:
            rows.append((value, 100.0 * sum(exit[unit.errors].values()) / length, float(length)))
    return rows


_OBSERVE = {"words": _observe_words} | {unit.key: partial(_observe_rate, unit=unit) for unit in (WORD, CHAR)}
