# SPDX-License-Identifier: Apache-2.0
"""Calibrated confidence: from raw scores to the chance of being right. Needs only the standard library."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence


def isotonic_value(knots: Mapping[str, Sequence[float]], value: float) -> float:
    """Evaluate an isotonic map; constant outside its knots, NaN at NaN. Standard library alone.

    Example
    -------
    >>> isotonic_value({"x": [0.0, 1.0], "y": [0.2, 0.6]}, 0.5)
    0.4
    >>> isotonic_value({"x": [0.0, 1.0], "y": [0.2, 0.6]}, 7)
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


def confidence_map(confidence: Mapping, kind: str, layer: int, *, is_calibrated: bool) -> dict | None:
    """Choose the map for an exit.

    Arguments
    ---------
    confidence : mapping
        What :func:`fit_confidence` gave, or part of it.
    kind : str
        ``words`` or ``wer``.
    layer : int
        Exit layer.
    is_calibrated : bool
        Whether the calibrated policy decided to stop there; the utterances that another one stops are others.

    Returns
    -------
    dict or None
        For :func:`isotonic_value`; None where nothing was fitted.

    Example
    -------
    >>> confidence = {"words": {"2": "all", "4": "all"}, "stopped": {"words": {"2": "stopped"}}}
    >>> [confidence_map(confidence, "words", layer, is_calibrated=True) for layer in (2, 4, 6)]
    ['stopped', 'all', None]
    """
    of_all = confidence.get(kind, {}).get(str(layer))
    return confidence.get("stopped", {}).get(kind, {}).get(str(layer), of_all) if is_calibrated else of_all
