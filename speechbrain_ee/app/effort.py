# SPDX-License-Identifier: Apache-2.0
"""The slider of the page: operating points from the first exit to full depth, the calibrated one among them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ee_runtime.policies import Capped, FixedExit, Patience, Policy, ThresholdPolicy
from ee_runtime.text.error_units import unit_of
from speechbrain_ee.replay.replay import ExitCounts, replay
from speechbrain_ee.replay.sweeps import sweep
from speechbrain_ee.replay.unsureness import sign_of

STEPS = 7  # thresholds on the slider, besides the calibrated one and both ends
NEAR = 0.03  # share of full depth: a threshold nearer to another point is left out


@dataclass(frozen=True)
class Point:
    """An operating point.

    Arguments
    ---------
    name : str
        Its name on the slider.
    policy : Policy
        When an utterance stops.
    macs_share : float | None
        Mean share of the MACs of full depth on the evaluated set; None if it is unknown.
    error_rate : float | None
        WER in percent on that set, or CER if the calibration counts characters; None if it is unknown.
    is_calibrated : bool
        Whether it is the policy of ``calibration.json``.
    """

    name: str
    policy: Policy
    macs_share: float | None = None
    error_rate: float | None = None
    is_calibrated: bool = False


def operating_points(
    policy: Policy | None,
    exit_layers: Sequence[int],
    *,
    exit_shares: Sequence[float],
    calibration: Mapping | None = None,
    utterances: Sequence[Mapping] = (),
) -> list[Point]:
    """Return the points of the slider, from the least to the most effort.

    Arguments
    ---------
    policy : Policy | None
        The policy of ``calibration.json``; None without one.
    exit_layers : sequence of int
        Exit layers of the model.
    exit_shares : sequence of float
        Share of the MACs of full depth that each static exit needs.
    calibration : mapping | None
        Contents of ``calibration.json``: its set, and the range of the values there.
    utterances : sequence of dict
        Lines of ``utterances.jsonl`` of the set on which it was calibrated; may be empty.

    Returns
    -------
    list of Point
        Static exits if there is no policy with a threshold; otherwise the first exit, thresholds, and full depth.

    Example
    -------
    >>> [point.name for point in operating_points(None, (2, 4, 6), exit_shares=(0.3, 0.7, 1.0))]
    ['layer 2', 'layer 4', 'all layers']
    """
    inner = policy.policy if isinstance(policy, Capped) else policy
    if not isinstance(inner, ThresholdPolicy):
        return _static_points(policy, exit_layers, exit_shares, utterances, calibration)
    first, *_, last = _static_points(None, exit_layers, exit_shares, utterances, calibration)
    if utterances:
        between = _measured(policy, utterances)
    else:
        rate = _fitted_on(calibration).get(unit_of(calibration or {}).key)
        calibrated = Point("calibrated", policy, error_rate=rate, is_calibrated=True)
        between = _assumed(policy, calibrated, exit_layers, (calibration or {}).get("value_range"))
    return [first, *between, last] if len(exit_layers) > 1 else [last]


def _fitted_on(calibration: Mapping | None) -> Mapping:
    return (calibration or {}).get("fitted_on") or {}


def with_inner(policy: Policy, threshold: float) -> Policy:
    """Return a threshold policy, or one within limits, with another threshold."""
    if isinstance(policy, Capped):
        return Capped(with_inner(policy.policy, threshold), **policy.limits)
    return policy.with_threshold(threshold)


def _static_points(
    policy: Policy | None,
    exit_layers: Sequence[int],
    exit_shares: Sequence[float],
    utterances: Sequence[Mapping],
    calibration: Mapping | None,
) -> list[Point]:
    full_rate = _fitted_on(calibration).get(f"full_{unit_of(calibration or {}).key}")
    points = []
    for layer, share in zip(exit_layers, exit_shares, strict=True):
        is_last = layer == exit_layers[-1]
        name, static = ("all layers", FixedExit()) if is_last else (f"layer {layer}", FixedExit(layer))
        point = Point(name, static, share, full_rate if is_last else None)
        points.append(_replayed(name, static, utterances, ExitCounts.of(utterances)) if utterances else point)
    if policy is None:
        return points
    chosen = Point("calibrated", policy, is_calibrated=True)
    if isinstance(policy, FixedExit):
        index = len(points) - 1 if policy.layer is None else list(exit_layers).index(policy.layer)
        like = points[index]
        points[index] = Point(f"{like.name} (calibrated)", policy, like.macs_share, like.error_rate, is_calibrated=True)
        return points
    return [*points[:-1], chosen, points[-1]]


def _measured(policy: Policy, utterances: Sequence[Mapping]) -> list[Point]:
    """Return thresholds at even steps of cost, with error rate and cost on the evaluated set."""
    counts = ExitCounts.of(utterances)
    inner = policy.policy if isinstance(policy, Capped) else policy
    candidates = [with_inner(policy, entry["threshold"]) for entry in sweep(inner, utterances)]
    if len(candidates) > 4 * STEPS:  # a replay takes longer than the sweep, which cannot see limits
        candidates = [candidates[i] for i in np.linspace(0, len(candidates) - 1, 4 * STEPS).round().astype(int)]
    points = [_replayed("", one, utterances, counts) for one in candidates]
    chosen = _replayed("calibrated", policy, utterances, counts, is_calibrated=True)
    costs = [point.macs_share for point in points]
    kept = [chosen]
    for goal in np.linspace(min(costs), max(costs), STEPS + 2)[1:-1]:
        point = points[int(np.abs(np.asarray(costs) - goal).argmin())]
        if all(abs(point.macs_share - other.macs_share) > NEAR for other in kept):
            kept.append(point)
    return sorted(kept, key=lambda point: point.macs_share)


def _replayed(
    name: str, policy: Policy, utterances: Sequence[Mapping], counts: ExitCounts, *, is_calibrated: bool = False
) -> Point:
    found = replay(policy, utterances)
    if found.macs_per_s is None or not counts.full_macs:
        share = found.mean_layer / counts.exit_layers[-1]
    else:
        share = found.macs_per_s * counts.seconds / counts.full_macs
    return Point(name, policy, share, found.error_rate, is_calibrated)


def _assumed(policy: Policy, calibrated: Point, exit_layers: Sequence[int], value_range: Mapping | None) -> list[Point]:
    """Return thresholds around the calibrated one, over the range of the values that the calibration has seen."""
    inner = policy.policy if isinstance(policy, Capped) else policy
    if isinstance(inner.threshold, list) or not value_range:
        return [calibrated]
    if isinstance(inner, Patience):
        others = [n for n in range(1, len(exit_layers)) if n != inner.threshold]
        points = [Point("", with_inner(policy, threshold)) for threshold in others] + [calibrated]
        return sorted(points, key=lambda point: _inner_threshold(point.policy))
    sign = sign_of(inner)
    own, limits = sign * inner.threshold, [limit for pair in value_range.values() for limit in pair]
    if not math.isfinite(own):
        return [calibrated]
    half = STEPS // 2
    earlier = _steps(max(limits), own, half) if max(limits) > own else []
    later = _steps(own, min(limits), half + 1)[1:] if min(limits) < own else []
    made = {"earlier": earlier, "later": later}
    points = {name: [Point("", with_inner(policy, sign * limit)) for limit in made[name]] for name in made}
    return [*points["earlier"], calibrated, *points["later"]]


def _inner_threshold(policy: Policy) -> float:
    return (policy.policy if isinstance(policy, Capped) else policy).threshold


def _steps(begin: float, end: float, count: int) -> list[float]:
    """Return ``count`` numbers from ``begin`` on towards ``end``, which is left out; at equal ratios if possible."""
    if begin > 0 and end > 0:
        return np.geomspace(begin, end, count + 1)[:-1].tolist()
    return np.linspace(begin, end, count + 1)[:-1].tolist()
