# SPDX-License-Identifier: Apache-2.0
"""Calibrated confidence: apply isotonic maps from scores to probabilities. Standard library only."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence


def isotonic_value(isotonic_map: Mapping[str, Sequence[float]], value: float) -> float:
    """Evaluate an isotonic map: linear between its knots, constant outside them, NaN at NaN.

    Arguments
    ---------
    isotonic_map : mapping
        ``x`` and ``y`` of its knots, in rising order of ``x``.
    value : float
        A score.

    Returns
    -------
    float
        The probability or error rate.

    Example
    -------
    >>> isotonic_value({"x": [0.0, 1.0], "y": [0.2, 0.6]}, 0.5)
    0.4
    >>> isotonic_value({"x": [0.0, 1.0], "y": [0.2, 0.6]}, 7)
    0.6
    """
    x, y = isotonic_map["x"], isotonic_map["y"]
    if math.isnan(value):
        return math.nan
    right = bisect_right(x, value)
    if right == 0:
        return y[0]
    if right == len(x):
        return y[-1]
    share = (value - x[right - 1]) / (x[right] - x[right - 1])
    return y[right - 1] + share * (y[right] - y[right - 1])


def confidence_map(confidence: Mapping, kind: str, layer: int, *, is_calibrated: bool) -> dict | None:
    """Return the isotonic map of an exit.

    Arguments
    ---------
    confidence : mapping
        The maps of :func:`~speechbrain_ee.calibration.confidence.fit_confidence`.
    kind : str
        ``words`` (probability that a word is right) or ``wer`` (expected WER of an utterance).
    layer : int
        Exit layer.
    is_calibrated : bool
        Whether the calibrated policy stopped the utterance. Only then the map is used that was fitted on the
        utterances which this policy stops at the exit.

    Returns
    -------
    dict or None
        The map, for :func:`isotonic_value`; None if none was fitted.

    Example
    -------
    >>> confidence = {"words": {"2": "all", "4": "all"}, "stopped": {"words": {"2": "stopped"}}}
    >>> [confidence_map(confidence, "words", layer, is_calibrated=True) for layer in (2, 4, 6)]
    ['stopped', 'all', None]
    """
    of_all = confidence.get(kind, {}).get(str(layer))
    return confidence.get("stopped", {}).get(kind, {}).get(str(layer), of_all) if is_calibrated else of_all
