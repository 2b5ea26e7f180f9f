# SPDX-License-Identifier: Apache-2.0
"""A test set that differs from the calibration set."""

import pytest
from unit.cases import many

from ee_runtime.policies import FixedExit
from speechbrain_ee.calibration.choose import calibrate
from speechbrain_ee.calibration.shift import share_outside, shift_warning


def test_a_test_set_that_is_not_like_the_calibration_set_is_noticed():
    calibration = calibrate(many(), score="entropy", target={"max_wer_increase": 1.0})
    assert share_outside(calibration, many(seed=1)) < 0.05
    assert shift_warning(calibration, many(seed=1)) is None
    assert share_outside(calibration, many(seed=1, shift=0.2)) > 0.1
    assert "% of the scores are outside the range of dev, where 1 % were" in shift_warning(
        calibration, many(seed=1, shift=0.2)
    )


def test_scores_of_nan_and_other_exits_do_not_pass_for_the_same(tmp_path):
    calibration = calibrate(many(), score="entropy", target={"max_wer_increase": 1.0})
    broken = many(seed=1)
    for utterance in broken:
        utterance["exits"][0]["scores"]["entropy"] = float("nan")
    assert share_outside(calibration, broken) == 1.0
    assert shift_warning(calibration, many(10, seed=1)) is None, "a few outside are chance"
    for utterance in broken:
        utterance["exits"] = utterance["exits"][1:]
    with pytest.raises(ValueError, match="exits 2, 4 and the last one, these utterances have 4 and the last one"):
        share_outside(calibration, broken)


def test_full_depth_notices_nothing():
    calibration = {"policy": FixedExit().to_dict(), "value_range": None}
    assert share_outside(calibration, many()) is None
