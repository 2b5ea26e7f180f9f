# SPDX-License-Identifier: Apache-2.0
"""calibration.json: chosen, written, read."""

import json

import pytest
from unit.cases import three_utterances

from speechbrain_ee.calibration import calibrate_threshold, read_policy, write_calibration
from speechbrain_ee.policies import FixedExit, ScoreThreshold


def calibrate(max_wer_increase):
    return calibrate_threshold(
        three_utterances(), score="entropy", max_wer_increase=max_wer_increase, fitted_on="dev-other"
    )


def test_threshold_by_hand():
    # b (0.1) and c (0.5) lose nothing at layer 2, a (0.3) one of 4 words. c cannot stop without a: only b does.
    found = calibrate(0.0)
    assert found["policy"] == {"policy": "score_threshold", "score": "entropy", "threshold": 0.1}
    assert found["target"] == {"max_wer_increase": 0.0}
    assert found["promise"] is None
    fitted_on = {"test_set": "dev-other", "num_utterances": 3, "wer": 25.0, "mean_layer": pytest.approx(10 / 3)}
    assert found["fitted_on"] == fitted_on
    assert calibrate(25.0)["policy"]["threshold"] == 0.5
    assert calibrate(25.0)["fitted_on"]["mean_layer"] == 2


def test_no_threshold_good_enough_is_full_depth():
    utterances = three_utterances()
    utterances[1]["exits"][0]["errors"]["S"] = 1  # now the surest one loses a word, too
    found = calibrate_threshold(utterances, score="entropy", max_wer_increase=0.0)
    assert found["policy"] == {"policy": "fixed_exit", "layer": None}
    assert found["fitted_on"]["mean_layer"] == 4


@pytest.mark.parametrize("max_wer_increase", [0.0, 25.0])
def test_written_and_read_is_the_same_policy(tmp_path, max_wer_increase):
    calibration = calibrate(max_wer_increase)
    write_calibration(tmp_path, calibration)
    assert [path.name for path in tmp_path.iterdir()] == ["calibration.json"]
    assert json.loads((tmp_path / "calibration.json").read_text()) == calibration
    policy = read_policy(tmp_path / "calibration.json")
    assert isinstance(policy, ScoreThreshold)
    assert policy.to_dict() == calibration["policy"]


def test_full_depth_is_written_and_read(tmp_path):
    write_calibration(tmp_path, {"policy": FixedExit().to_dict()})
    assert read_policy(tmp_path / "calibration.json").to_dict() == FixedExit().to_dict()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"policy": 3}',
        '{"policy": {}}',
        '{"policy": {"policy": "os.system", "command": "true"}}',
        '{"policy": {"policy": "fixed_exit", "layer": 1, "extra": 2}}',
        '{"policy": {"policy": "score_threshold", "score": "entropie", "threshold": 1}}',
        '{"policy": {"policy": "score_threshold", "score": "entropy", "threshold": "low"}}',
    ],
)
def test_broken_calibration_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="not a calibration: .*; calibrate again or remove it") as raised:
        read_policy(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
