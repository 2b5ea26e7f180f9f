# SPDX-License-Identifier: Apache-2.0
"""The threshold that train.py chooses at its end."""

import json

from unit.cases import in_characters, many

from ee_runtime.text.error_units import CHAR, WORD
from speechbrain_ee.calibration.after_training import calibrate_run


def calibrate_after_training(folder, utterances, unit=WORD):
    (folder / "eval" / "dev").mkdir(parents=True)
    (folder / "eval" / "dev" / "utterances.jsonl").write_text("".join(json.dumps(one) + "\n" for one in utterances))
    return calibrate_run(folder, "abc", max_increase=1.0, unit=unit)


def test_a_threshold_is_chosen_on_dev(tmp_path):
    told = calibrate_after_training(tmp_path, many())
    assert json.loads((tmp_path / "calibration.json").read_text())["policy"]["score"] == "entropy"
    assert "entropy for {'max_wer_increase': 1.0}" in told


def test_a_threshold_is_chosen_by_the_cer(tmp_path):
    told = calibrate_after_training(tmp_path, in_characters(many()), CHAR)
    assert "entropy for {'max_cer_increase': 1.0}" in told and "WER" not in told
    found = json.loads((tmp_path / "calibration.json").read_text())
    assert found["error_unit"] == "char" and {"cer", "full_cer"} <= found["fitted_on"].keys()
    calibrate_run(tmp_path, "abc", max_increase=0.0, unit=CHAR)  # the default is chosen again
    again = json.loads((tmp_path / "calibration.json").read_text())
    assert again["target"] == {"max_cer_increase": 0.0}


def test_recordings_that_were_cut_choose_no_threshold_and_say_so(tmp_path):
    utterances = many()
    utterances[7]["parts"] = 2
    told = calibrate_after_training(tmp_path, utterances)
    assert not (tmp_path / "calibration.json").exists()
    assert "no threshold was chosen: 1 of 400 recordings are too long and were cut" in told
