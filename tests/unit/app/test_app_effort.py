# SPDX-License-Identifier: Apache-2.0
"""The points of the slider: in order of cost, with the calibrated policy among them, and figures of the replay."""

import pytest
from unit.cases import many

from ee_runtime.policies import Capped, FixedExit, Patience, ScoreThreshold
from speechbrain_ee.app.effort import operating_points
from speechbrain_ee.replay.replay import replay

LAYERS, SHARES = (2, 4, 6), (0.3, 0.7, 1.0)
RANGES = {"2": [0.1, 0.9], "4": [0.05, 0.5]}
CALIBRATION = {"fitted_on": {"test_set": "dev", "wer": 8.0, "full_wer": 7.5}, "value_range": RANGES}


def points_of(policy, **options):
    return operating_points(policy, LAYERS, exit_shares=SHARES, **options)


def thresholds(points):
    return [point.policy.threshold for point in points if isinstance(point.policy, ScoreThreshold | Patience)]


def test_without_a_calibration_the_points_are_static_exits():
    points = points_of(None)
    assert [point.policy.to_dict()["layer"] for point in points] == [2, 4, None]
    assert [point.macs_share for point in points] == list(SHARES)
    assert not any(point.is_calibrated for point in points)


def test_a_calibrated_static_exit_is_marked():
    points = points_of(FixedExit(4), calibration=CALIBRATION)
    assert [point.is_calibrated for point in points] == [False, True, False]
    assert [point.error_rate for point in points] == [None, None, 7.5]
    assert [point.is_calibrated for point in points_of(FixedExit())] == [False, False, True]


@pytest.mark.parametrize("policy", [ScoreThreshold("entropy", 0.4), ScoreThreshold("confidence", [0.9, 0.7, None])])
def test_figures_are_those_of_a_replay(policy):
    utterances = many(200)
    points = points_of(policy, utterances=utterances)
    assert len(points) >= 6
    assert [point.macs_share for point in points] == sorted(point.macs_share for point in points)
    assert [point.policy for point in points if point.is_calibrated] == [policy]
    for point in points:
        assert point.error_rate == replay(point.policy, utterances).wer
    full = sum(utterance["exits"][-1]["macs"] for utterance in utterances)
    taken = replay(policy, utterances).exit_indices
    found = [utterance["exits"][i]["macs"] for utterance, i in zip(utterances, taken, strict=True)]
    (calibrated,) = [point for point in points if point.is_calibrated]
    assert calibrated.macs_share == pytest.approx(sum(found) / full)


def test_limits_hold_at_every_threshold():
    policy = Capped(ScoreThreshold("entropy", 0.4), max_layer=4)
    between = points_of(policy, utterances=many(100))[1:-1]
    assert len(between) > 2
    assert all(point.policy.limits["max_layer"] == 4 for point in between)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (ScoreThreshold("entropy", 0.2), (0.9, 0.2, 0.05)),
        (ScoreThreshold("entropy", 2.0), (2.0, 2.0, 0.05)),
        (Patience(2), (1, 2, 2)),
        (ScoreThreshold("entropy", [0.1, 0.2, None]), None),
    ],
)
def test_without_scores_thresholds_cover_the_range_of_the_calibration(policy, expected):
    points = points_of(policy, calibration=CALIBRATION)
    (calibrated,) = [point for point in points if point.is_calibrated]
    assert calibrated.policy is policy
    assert calibrated.error_rate == 8.0
    found = thresholds(points)
    if expected is None:
        assert found == [policy.threshold]
        return
    first, own, least = expected
    assert found[0] == pytest.approx(first)
    assert own in found
    assert min(found) >= least or isinstance(policy, Patience)
    assert found == sorted(found, reverse=not isinstance(policy, Patience))


def test_a_score_that_rises_with_certainty_goes_the_other_way():
    ranges = {layer: [-high, -low] for layer, (low, high) in RANGES.items()}  # stored with the sign of unsureness
    found = thresholds(points_of(ScoreThreshold("confidence", 0.6), calibration=CALIBRATION | {"value_range": ranges}))
    assert found == sorted(found)
    assert found[0] == pytest.approx(0.05)
    assert 0.6 in found


def test_a_calibration_that_counts_characters_gives_their_error_rate():
    fitted = {"test_set": "dev", "cer": 8.0, "full_cer": 7.5}
    calibration = {"error_unit": "char", "fitted_on": fitted, "value_range": RANGES}
    points = points_of(ScoreThreshold("entropy", 0.2), calibration=calibration)
    assert [point.error_rate for point in points if point.is_calibrated] == [8.0]
    assert points[-1].error_rate == 7.5
