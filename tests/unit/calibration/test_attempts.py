# SPDX-License-Identifier: Apache-2.0
"""Calibrations of one set are counted."""

from unit.cases import many

from ee_runtime.calibration.summary import summary
from speechbrain_ee.calibration.attempts import record_attempt
from speechbrain_ee.calibration.choose import calibrate


def test_a_set_that_cannot_be_written_to_costs_the_count_alone(tmp_path, caplog):
    calibration = calibrate(many(), score="entropy", target={"promise": 2.0}, model="abc")
    found = record_attempt(tmp_path / "gone", calibration)
    assert found["tried"] == {"calibrations": 1, "promises": 1}
    assert "calibrations.json cannot be written" in caplog.text and "is not counted" in caplog.text


def test_attempts_are_counted_by_model_and_said(tmp_path):
    def tried(target, model="abc", score="entropy"):
        found = record_attempt(tmp_path, calibrate(many(), score=score, target=target, model=model))
        return found["tried"], summary(found).splitlines()[2:]

    assert tried({"max_wer_increase": 1.0}) == ({"calibrations": 1, "promises": 0}, [])
    assert tried({"promise": 2.0}) == ({"calibrations": 2, "promises": 1}, [])
    assert tried({"promise": 2.0}) == ({"calibrations": 2, "promises": 1}, []), "the same again is no other"
    counts, lines = tried({"promise": 2.0}, score="confidence")
    assert counts == {"calibrations": 3, "promises": 2}
    assert lines == [
        "2 promises were tried on dev with this model: each holds only if it was chosen in advance; to "
        "choose the best of 2, use --delta 0.05 for each"
    ]
    assert tried({"mean_cost": 0.8}) == ({"calibrations": 4, "promises": 2}, []), "nothing is promised of this one"
    assert tried({"promise": 2.0}, model="def") == ({"calibrations": 1, "promises": 1}, [])
