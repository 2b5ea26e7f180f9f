# SPDX-License-Identifier: Apache-2.0
"""calibration.json: written, read, refused."""

import json

import pytest
from unit.cases import many

from ee_runtime.calibration.file import read_calibration, write_calibration
from ee_runtime.policies import FixedExit
from speechbrain_ee.calibration.choose import calibrate


@pytest.mark.parametrize("score", ["entropy", "learned", "patience"])
def test_written_and_read_is_the_same(tmp_path, score):
    calibration = calibrate(many(), score=score, target={"max_wer_increase": 1.0}, model="abc")
    write_calibration(tmp_path, calibration)
    assert [path.name for path in tmp_path.iterdir()] == ["calibration.json"]
    assert read_calibration(tmp_path / "calibration.json", "abc") == json.loads(json.dumps(calibration))


def test_a_calibration_of_another_model_is_refused(tmp_path):
    write_calibration(tmp_path, {"policy": FixedExit().to_dict(), "model": "abc"})
    assert read_calibration(tmp_path / "calibration.json")["model"] == "abc"
    with pytest.raises(
        ValueError,
        match="belongs to another model or vocabulary .abc, this one is def.: evaluate dev and",
    ):
        read_calibration(tmp_path / "calibration.json", "def")


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
        '{"policy": {"policy": "learned", "learned": {"exits": 1}, "threshold": 0}}',
        '{"policy": {"policy": "capped", "of": 1}}',
        '{"policy": {"policy": "fixed_exit"}, "promise": {}}',
        '{"policy": {"policy": "fixed_exit"}, "value_range": {"1": [0, 1]}}',
    ],
)
def test_broken_calibration_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "calibration.json"
    path.write_text(text)
    with pytest.raises(ValueError, match="invalid calibration: .*; calibrate again or remove it") as raised:
        read_calibration(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)
