# SPDX-License-Identifier: Apache-2.0
"""calibration.json: written, read, refused, and whether it still fits."""

import json

import pytest
from unit.cases import many

from speechbrain_ee.calibration.attempts import record_attempt
from speechbrain_ee.calibration.choose import calibrate, check_evaluated
from speechbrain_ee.calibration.file import read_calibration, write_calibration
from speechbrain_ee.calibration.shift import share_outside, shift_warning
from speechbrain_ee.calibration.summary import promise_sentence, summary
from speechbrain_ee.model.fingerprint import fingerprint
from speechbrain_ee.policies import FixedExit


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
        ValueError, match="of another model or vocabulary .abc, this one is def.: evaluate dev and calibrate again"
    ):
        read_calibration(tmp_path / "calibration.json", "def")


def test_a_set_with_missing_utterances_is_not_calibrated_on(tmp_path):
    exits = {"decoding": "greedy CTC", "model": "abc", "missing": {"u7": "half.flac cannot be read"}}
    (tmp_path / "exits.json").write_text(json.dumps(exits))
    with pytest.raises(ValueError, match="lacks 1 utterances that could not be evaluated .first: u7."):
        check_evaluated(tmp_path, "abc", "greedy CTC")


def test_a_fingerprint_that_was_recorded_before_stays_valid(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    (tmp_path / "b").write_bytes(b"x" * 3 * 2**20)  # large: its hash is remembered
    assert fingerprint([tmp_path / "a", tmp_path / "b"]) == "f924d6ced5328cc1"


def test_the_fingerprint_is_of_all_files(tmp_path):
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.write_text("same")
    before = fingerprint(paths)
    assert len(before) == 16 and fingerprint(paths) == before
    paths[1].write_text("other")
    assert fingerprint(paths) != before


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
    with pytest.raises(ValueError, match="not a calibration: .*; calibrate again or remove it") as raised:
        read_calibration(path)
    assert "\n" not in str(raised.value)
    assert str(path) in str(raised.value)


def test_a_test_set_that_is_not_like_the_calibration_set_is_noticed():
    calibration = calibrate(many(), score="entropy", target={"max_wer_increase": 1.0})
    assert share_outside(calibration, many(seed=1)) < 0.05
    assert shift_warning(calibration, many(seed=1)) is None
    assert share_outside(calibration, many(seed=1, shift=0.2)) > 0.1
    assert "% of the scores lie outside the range of dev, where 1 % did" in shift_warning(
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
    with pytest.raises(ValueError, match="is of exits 2, 4 and the last, these utterances have 4 and the last"):
        share_outside(calibration, broken)


def test_only_what_this_model_has_read_greedily_is_calibrated_on(tmp_path):
    (tmp_path / "exits.json").write_text('{"decoding": "greedy CTC", "model": "abc"}')
    check_evaluated(tmp_path, "abc", "greedy CTC")
    with pytest.raises(ValueError, match="was evaluated with another model .abc, this one is def.: evaluate it again"):
        check_evaluated(tmp_path, "def", "greedy CTC")
    (tmp_path / "exits.json").write_text('{"decoding": "CTC beam 50"}')
    with pytest.raises(ValueError, match="was decoded with CTC beam 50, and transcribe decodes with greedy CTC"):
        check_evaluated(tmp_path, "abc", "greedy CTC")


def test_full_depth_notices_nothing():
    calibration = {"policy": FixedExit().to_dict(), "value_range": None}
    assert share_outside(calibration, many()) is None


def promise_of(utterances, **target):
    return calibrate(utterances, score="entropy", target=target)["promise"]


def test_what_is_promised_in_words():
    assert promise_sentence(None).startswith("nothing is promised")
    how = "(gamma test, asymptotic: right for many, and by simulation from this many on; "
    assert promise_sentence(promise_of(many(), promise=2.0, delta=0.2)) == (
        f"WER is at most 2.0 points above the full model's, with probability 0.8 {how}400 utterances, taken as "
        "independent: no speakers are named)"
    )
    assert promise_sentence(promise_of(many(1000, speakers=40), promise=2.0)).endswith(
        f"with probability 0.9 {how}40 speakers)"
    )
    assert "; 400 utterances, taken as independent: of 6 speakers and no others)" in promise_sentence(
        promise_of(many(speakers=6), promise=2.0, same_speakers=True)
    )
    assert "independent: of 1 speaker and no others)" in promise_sentence(promise_of(many(speakers=1), promise=2.0))
    half_named = many(1000, speakers=40)
    for utterance in half_named[:500]:
        utterance["speaker"] = None
    assert "; 540 speakers, 500 utterances without one as a speaker each)" in promise_sentence(
        promise_of(half_named, promise=2.0)
    )
    assert promise_sentence(promise_of(many(1000), average=2.0)) == (
        "on average over calibration sets, WER is at most 2.0 points above the full model's (losses counted up to 8 "
        "words an utterance, 1000 utterances, taken as independent: no speakers are named)"
    )
    assert promise_sentence(promise_of(many(60), promise=1.0)) == (
        "nothing cheaper than full depth can be promised at 1.0 points from 60 utterances, 185 are needed where none "
        "of them loses a word: every utterance takes the last exit"
    )


@pytest.mark.parametrize(
    ("promise", "told"),
    [
        (
            {"granted": True, "epsilon": 1, "delta": 0.1, "test": "t", "asymptotic": True, "bound_words": None}
            | {"independent": "speakers", "num_independent": 20, "steps_of_path": [3, 9]},
            "0.9 (t test, asymptotic, too sure where losses are rare: calibrate again; 20 speakers)",
        ),
        (
            {"granted": True, "epsilon": 1, "delta": 0.1, "test": "betting", "asymptotic": False, "bound_words": 3.0}
            | {"independent": "utterances", "num_independent": 400, "steps_of_path": [3, 9]},
            "(betting test, in finite samples, an utterance's loss counted up to 3 words; 400 utterances",
        ),
        ({"granted": True, "epsilon": 1, "on_average": True, "bound_words": 3.0}, "on average over calibration sets"),
        ({"granted": False, "epsilon": 1, "independent": "speakers", "num_independent": 6}, "at 1 points: every"),
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


def test_a_set_that_cannot_be_written_to_costs_the_count_alone(tmp_path, caplog):
    calibration = calibrate(many(), score="entropy", target={"promise": 2.0}, model="abc")
    found = record_attempt(tmp_path / "gone", calibration)
    assert found["tried"] == {"calibrations": 1, "promises": 1}
    assert "calibrations.json cannot be written" in caplog.text and "not counted there" in caplog.text


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
        "2 promises were tried on dev with this model: what is said holds for one that was chosen beforehand; for the "
        "best of 2, ask each with --delta 0.05"
    ]
    assert tried({"mean_cost": 0.8}) == ({"calibrations": 4, "promises": 2}, []), "nothing is promised of this one"
    assert tried({"promise": 2.0}, model="def") == ({"calibrations": 1, "promises": 1}, [])
