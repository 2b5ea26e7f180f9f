# SPDX-License-Identifier: Apache-2.0
"""What train.py does about a threshold at its end."""

import json

from unit.test_calibration import many

import train


def calibrate_after_training(folder, utterances):
    (folder / "eval" / "dev").mkdir(parents=True)
    (folder / "eval" / "dev" / "utterances.jsonl").write_text("".join(json.dumps(one) + "\n" for one in utterances))
    train.calibrate_run({"output_folder": str(folder), "max_wer_increase": 1.0}, "abc")


def test_a_threshold_is_chosen_on_dev(tmp_path, capsys):
    calibrate_after_training(tmp_path, many())
    assert json.loads((tmp_path / "calibration.json").read_text())["policy"]["score"] == "entropy"
    assert "entropy for {'max_wer_increase': 1.0}" in capsys.readouterr().out


def test_recordings_that_were_cut_choose_no_threshold_and_say_so(tmp_path, capsys):
    utterances = many()
    utterances[7]["parts"] = 2
    calibrate_after_training(tmp_path, utterances)
    assert not (tmp_path / "calibration.json").exists()
    assert "no threshold is chosen: 1 of 400 recordings are so long that they were cut" in capsys.readouterr().out
