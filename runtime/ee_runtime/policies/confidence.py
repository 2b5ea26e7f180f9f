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


def check_confidence(confidence: Mapping) -> None:
    """Check the maps of a calibration, see :func:`confidence_map`.

    Raises
    ------
    ValueError
        If a map is not two lists of the same number of finite numbers, ``x`` in rising order.

    Example
    -------
    >>> check_confidence({"words": {"2": {"x": [0.0, 1.0], "y": [0.2, 0.6]}}})
    >>> check_confidence({"words": {"2": {"x": [0.0, 1.0], "y": [0.2]}}})
    Traceback (most recent call last):
    ValueError: confidence: the words of exit layer 2 are not lists x and y of rising numbers
    """
    for group in (confidence, _mapping(_mapping(confidence).get("stopped", {}))):
        for kind in ("words", "wer", "cer"):
            for layer, one in _mapping(group.get(kind, {})).items():
                if not _is_map(_mapping(one)):
                    raise ValueError(
                        f"confidence: the {kind} of exit layer {layer} are not lists x and y of rising numbers"
                    )


def _mapping(value: object) -> Mapping:
    if not isinstance(value, Mapping):
        raise ValueError("confidence has entries that are not objects")
    return value


def _is_map(one: Mapping) -> bool:
    x, y = one.get("x"), one.get("y")
    if not isinstance(x, list) or not isinstance(y, list) or not len(x) == len(y) > 0:
        return False
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in [*x, *y]):
        return False
    return all(low < high for low, high in zip(x, x[1:], strict=False))


def confidence_map(confidence: Mapping, kind: str, layer: int, *, is_calibrated: bool) -> dict | None:
    """Return the isotonic map of an exit.

    Arguments
    ---------
    confidence : mapping
        The maps of :func:`~speechbrain_ee.calibration.confidence.fit_confidence`.
    kind : str
        ``words`` (probability that a word is right), ``wer`` or ``cer`` (expected error rate of an utterance).
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
