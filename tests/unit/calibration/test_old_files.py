# SPDX-License-Identifier: Apache-2.0
"""Files of earlier versions are still read."""

import json

import pytest

from ee_runtime.calibration.file import read_calibration, write_calibration
from ee_runtime.calibration.summary import summary
from ee_runtime.policies import FixedExit, ScoreThreshold, policy_from_dict
from speechbrain_ee.calibration.attempts import record_attempt
from speechbrain_ee.calibration.checks import check_evaluated
from speechbrain_ee.calibration.shift import share_outside
from speechbrain_ee.replay.replay import replay
from speechbrain_ee.replay.sweeps import sweep
from speechbrain_ee.replay.utterances import read_utterances


@pytest.mark.parametrize(
    ("promise", "told"),
    [
        (
            {"granted": True, "epsilon": 1, "delta": 0.1, "test": "t", "asymptotic": True, "bound_words": None}
            | {"independent": "speakers", "num_independent": 20, "steps_of_path": [3, 9]},
            "0.9 (t test, asymptotic, and overconfident if losses are rare: calibrate again; 20 speakers)",
        ),
        (
            {"granted": True, "epsilon": 1, "delta": 0.1, "test": "betting", "asymptotic": False, "bound_words": 3.0}
            | {"independent": "utterances", "num_independent": 400, "steps_of_path": [3, 9]},
            "(betting test, valid in finite samples, losses clipped at 3 words per utterance; 400 utterances",
        ),
        ({"granted": True, "epsilon": 1, "on_average": True, "bound_words": 3.0}, "on average over calibration sets"),
        ({"granted": False, "epsilon": 1, "independent": "speakers", "num_independent": 6}, "at 1 points; every"),
    ],
)
def test_a_calibration_of_an_earlier_version_is_read_and_said(tmp_path, promise, told):
    fitted_on = {"test_set": "dev", "num_utterances": 400, "wer": 2.0, "full_wer": 1.0, "mean_layer": 4.0}
    old = {"policy": FixedExit().to_dict(), "score": "entropy", "target": {"promise": 1}, "promise": promise}
    old |= {
        "fitted_on": fitted_on,
        "value_range": None,
        "model": None,
        "confidence": {"words": {}, "wer": {}, "ece": {}},
    }
    write_calibration(tmp_path, old)
    found = read_calibration(tmp_path / "calibration.json")
    assert found == old
    assert told in summary(found)


CALIBRATION = """{"policy": {"policy": "score_threshold", "score": "entropy", "threshold": 0.2}, "score": "entropy",
"target": {"promise": 2.0, "delta": 0.1}, "promise": {"granted": true, "epsilon": 2.0, "delta": 0.1, "test": "gamma",
"asymptotic": true, "independent": "utterances", "num_independent": 400, "num_speakers": null, "fewest": 93,
"steps_of_path": [190, 241]}, "fitted_on": {"test_set": "dev", "num_utterances": 400, "wer": 2.0, "full_wer": 1.0,
"mean_layer": 3.0}, "value_range": {"2": [0.05, 0.6]}, "model": "abc", "confidence": {"words": {"2": {"x": [0.0, 1.0],
"y": [0.2, 0.9]}}, "wer": {}, "ece": {"2": {"words": 0.01}}, "stopped": {"words": {}, "wer": {}, "ece": {}}},
"tried": {"calibrations": 3, "promises": 2}}"""
UTTERANCE = """{"id": "a", "audio_filepath": "a.wav", "speaker": null, "duration": 2.0, "reference": "the cat",
"num_words": 2, "exits": [{"layer": 2, "hypothesis": "the cap", "errors": {"S": 1, "D": 0, "I": 0},
"scores": {"entropy": 0.3, "posterior": null}, "macs": 100, "static_macs": 90, "word_confidence": [0.9, 0.5]},
{"layer": 4, "hypothesis": "the cat", "errors": {"S": 0, "D": 0, "I": 0}, "scores": {"entropy": 0.1,
"posterior": null}, "macs": 200, "static_macs": 180, "word_confidence": [0.9, 0.9]}]}"""


def test_files_of_version_0_1_are_read(tmp_path):
    (tmp_path / "calibration.json").write_text(CALIBRATION)
    (tmp_path / "utterances.jsonl").write_text(UTTERANCE.replace("\n", " ") + "\n")
    (tmp_path / "exits.json").write_text('{"decoding": "greedy CTC", "model": "abc"}')
    attempts = [{"model": "abc", "score": "entropy", "target": {"promise": 2.0, "delta": 0.1}}]
    (tmp_path / "calibrations.json").write_text(json.dumps(attempts))
    check_evaluated(tmp_path, "abc", "greedy CTC")
    calibration = read_calibration(tmp_path / "calibration.json", "abc")
    utterances = read_utterances(tmp_path / "utterances.jsonl")
    result = replay(policy_from_dict(calibration["policy"]), utterances)
    assert (result.exit_indices, result.wer, result.macs_per_s) == ([1], 0.0, 100.0)
    assert share_outside(calibration, utterances) == 0.0
    assert "to choose the best of 2, use --delta 0.05" in summary(calibration)
    assert record_attempt(tmp_path, calibration)["tried"] == {"calibrations": 1, "promises": 1}, "not a new one"


def test_policies_json_of_version_0_1_is_what_a_sweep_gives():
    policies = {"entropy": [{"threshold": 0.2, "wer": 0.0, "mean_layer": 4.0, "macs_per_s": 100.0}]}
    policies["entropy"][0]["histogram"] = {"2": 0, "4": 1}
    utterance = json.loads(UTTERANCE.replace("\n", " "))
    assert sweep(ScoreThreshold("entropy", 0.0), [utterance], [0.2]) == policies["entropy"]
