# SPDX-License-Identifier: Apache-2.0
"""Thresholds chosen for a cost, a WER or with a promise."""

import numpy as np
import pytest
from unit.cases import many, three_utterances

from ee_runtime.policies import FixedExit, ScoreThreshold, policy_from_dict
from speechbrain_ee.calibration.choose import calibrate
from speechbrain_ee.calibration.path import threshold_path
from speechbrain_ee.calibration.risk import LossSums, furthest_safe, p_values
from speechbrain_ee.calibration.targets import Promise
from speechbrain_ee.replay.replay import ExitCounts, replay
from speechbrain_ee.replay.speakers import split_by_speaker
from speechbrain_ee.replay.unsureness import exits_taken

ENTROPY = ScoreThreshold("entropy", 0.0)


def test_max_wer_increase_by_hand():
    # b (0.1) and c (0.5) lose nothing at layer 2, a (0.3) one of 4 words. c cannot stop without a: only b does, at a
    # threshold between b and a.
    found = calibrate(three_utterances(), score="entropy", target={"max_wer_increase": 0.0}, fitted_on="dev-other")
    assert found["policy"] == {"policy": "score_threshold", "score": "entropy", "threshold": pytest.approx(0.2)}
    assert (found["target"], found["promise"], found["model"]) == ({"max_wer_increase": 0.0}, None, None)
    assert found["fitted_on"] == {
        "test_set": "dev-other",
        "num_utterances": 3,
        "wer": 25.0,
        "full_wer": 25.0,
        "mean_layer": pytest.approx(10 / 3),
    }
    assert calibrate(three_utterances(), score="entropy", target={"max_wer_increase": 25})["policy"]["threshold"] > 0.5


def test_no_threshold_good_enough_is_full_depth():
    utterances = three_utterances()
    utterances[1]["exits"][0]["errors"]["S"] = 1  # now the surest one loses a word, too
    found = calibrate(utterances, score="entropy", target={"max_wer_increase": 0.0})
    assert found["policy"] == {"policy": "fixed_exit", "layer": None}
    assert found["fitted_on"]["mean_layer"] == 4
    assert found["value_range"] is None


def test_max_wer_is_met_as_cheaply_as_can_be_or_refused():
    utterances = three_utterances()
    assert calibrate(utterances, score="entropy", target={"max_wer": 25.0})["policy"]["threshold"] == pytest.approx(0.2)
    assert calibrate(utterances, score="entropy", target={"max_wer": 50.0})["policy"]["threshold"] > 0.5
    with pytest.raises(ValueError, match="no exit reaches a WER of 24.9 %: the last one has 25.00 % here"):
        calibrate(utterances, score="entropy", target={"max_wer": 24.9})


@pytest.mark.parametrize("score", ["entropy", "confidence", "patience", "learned"])
@pytest.mark.parametrize("share", [0.5, 0.7, 1.0])
def test_mean_cost_is_met(score, share):
    found = calibrate(many(), score=score, target={"mean_cost": share})
    _, rest = split_by_speaker(many())
    judged = rest if score == "learned" else many()
    result = replay(policy_from_dict(found["policy"]), judged)
    assert result.macs_per_s <= share * 300 / 2 + 1e-9
    if score != "patience":
        assert result.macs_per_s >= 0.95 * share * 150, "what may be spent is spent"


def test_a_cost_below_the_first_exit_is_refused():
    with pytest.raises(ValueError, match="mean_cost is 70: give a share"):
        calibrate(many(), score="entropy", target={"mean_cost": 70})
    with pytest.raises(ValueError, match="no exit costs as little as 0.3 of full depth: the first one costs 0.333"):
        calibrate(many(), score="entropy", target={"mean_cost": 0.3})


def test_full_depth_costs_no_more_than_itself():
    utterances = many()
    for utterance in utterances:  # going on always helps, and the last exit is worth all that may be spent
        for exit, errors in zip(utterance["exits"], (9, 5, 0), strict=True):
            exit["errors"]["S"] = errors
            exit["static_macs"], exit["macs"] = exit["macs"] + 10, exit["macs"] + 5 * exit["layer"]
    assert calibrate(utterances, score="entropy", target={"mean_cost": 1.0})["policy"]["policy"] == "fixed_exit"


def rarely_lost(count, share=0.02, words=5, **options):
    """Utterances of which a few lose words wherever they stop early."""
    found = many(count, **options)
    for utterance in found[:: round(1 / share)]:
        for exit in utterance["exits"][:-1]:
            exit["errors"]["S"] += words
    return found


@pytest.mark.parametrize("epsilon", [0.5, 1.0])
def test_a_promise_is_held_on_the_population(epsilon):
    """Calibration sets drawn from a population; the WER of the whole of it may break 1 - delta of the promises."""
    population = rarely_lost(3000, seed=5)
    path = threshold_path(ENTROPY, None, 3)[100:]  # where anything happens
    counts = ExitCounts.of(population)
    taken = exits_taken(ENTROPY, population, path)
    extra = np.take_along_axis(counts.errors, taken, axis=1) - counts.errors[:, -1:]
    drawn = np.random.default_rng(0).multinomial(400, np.full(3000, 1 / 3000), size=1000)
    steps = furthest_safe(p_values(LossSums.of(extra, counts.words, drawn), epsilon=epsilon), 0.1)
    increase = np.append(0.0, 100 * extra.sum(axis=0) / counts.words.sum())[steps]
    assert (increase > epsilon).mean() <= 0.116  # of 1,000; at a true 18 % this passes once in ten million times
    for row in range(3):
        of_draw = [
            {**population[place], "id": str(n)} for n, place in enumerate(np.repeat(np.arange(3000), drawn[row]))
        ]
        policy, record = Promise(epsilon).choose(ENTROPY, of_draw, path)
        assert record["steps_of_path"] == [steps[row], len(path)], "what was simulated is what is done"
        assert record["granted"] == (replay(policy, of_draw).mean_layer < 6)


def test_something_is_granted_where_there_is_room():
    found = calibrate(many(), score="entropy", target={"promise": 1.0})
    assert found["promise"]["granted"] is True
    assert replay(policy_from_dict(found["policy"]), many(3000, seed=5)).mean_layer < 0.85 * 6


def test_utterances_without_a_loss_are_proof_only_where_they_are_many():
    def lossless(count):
        utterances = many(count)
        for utterance in utterances:
            for exit in utterance["exits"]:
                exit["errors"]["S"] = 0
        return calibrate(utterances, score="entropy", target={"promise": 2.0})["promise"]

    # 10 words and 2 points: 0.2 words may be lost an utterance, and 8 words may be missed by chance
    assert (lossless(92)["granted"], lossless(93)["granted"]) == (False, True)
    assert lossless(92)["fewest"] == 93


@pytest.mark.parametrize("target", ["promise", "average"])
def test_nothing_is_granted_where_nothing_is_saved(target):
    utterances = many(200)
    for utterance in utterances:
        for exit in utterance["exits"][:-1]:
            exit["errors"]["S"] = 10
    found = calibrate(utterances, score="entropy", target={target: 0.5})
    assert found["promise"]["granted"] is False and found["policy"]["policy"] == "fixed_exit"


def test_nothing_dearer_than_full_depth_is_granted():
    utterances = many(1000)
    for utterance in utterances:  # one in a hundred may stop, and for it every head is run for all
        stops = int(utterance["id"]) % 100 == 0
        for index, exit in enumerate(utterance["exits"]):
            exit["errors"]["S"] = 0 if stops or index == 2 else 9
            exit["scores"]["entropy"] = 0.01 if stops else 0.9
            exit["static_macs"] = exit["macs"]
            exit["macs"] += 20 * index
    found = calibrate(utterances, score="entropy", target={"promise": 2.0})
    assert found["promise"]["granted"] is False and found["policy"]["policy"] == "fixed_exit"
    for utterance in utterances:
        for exit in utterance["exits"]:
            exit["macs"] = exit["static_macs"]
    assert calibrate(utterances, score="entropy", target={"promise": 2.0})["promise"]["granted"] is True


def test_what_cannot_be_promised_is_said_and_full_depth():
    utterances = many(60)
    for utterance in utterances:  # the first exit is sure and always wrong
        utterance["exits"][0]["errors"]["S"] = 9
        utterance["exits"][0]["scores"]["entropy"] = 1e-7
    found = calibrate(utterances, score="entropy", target={"promise": 0.5})
    assert found["policy"] == {"policy": "fixed_exit", "layer": None}
    assert found["promise"]["granted"] is False


def test_one_bad_speaker_is_not_many_good_utterances():
    utterances = many(2000, speakers=40)
    for utterance in utterances:
        for exit in utterance["exits"]:
            exit["errors"]["S"] = 5 * (exit["layer"] < 6 and utterance["speaker"] in ("s3", "s7", "s8"))
    # three of 40 lose half of their words: 3.75 points; of 2,000 utterances 150 do
    by_utterance = calibrate(utterances, score="entropy", target={"promise": 4.5, "same_speakers": True})["promise"]
    by_speaker = calibrate(utterances, score="entropy", target={"promise": 4.5})["promise"]
    assert by_utterance["steps_of_path"][0] == by_utterance["steps_of_path"][1], "all along the path"
    assert by_speaker["steps_of_path"][0] < by_speaker["steps_of_path"][1]


def test_a_sorted_file_gets_no_more_than_a_shuffled_one():
    utterances = many(600, seed=3)
    for utterance in utterances[300:]:  # the second half is lost where the model is sure
        utterance["exits"][0]["errors"]["S"] += 2
        utterance["exits"][0]["scores"]["entropy"] = 0.001
    found = calibrate(utterances, score="entropy", target={"promise": 2.0})
    result = replay(policy_from_dict(found["policy"]), utterances)
    assert result.wer <= replay(FixedExit(), utterances).wer + 2.0


def test_on_average_is_a_mode_of_its_own():
    found = calibrate(many(), score="entropy", target={"average": 1.0})
    assert found["promise"]["on_average"] is True
    result = replay(policy_from_dict(found["policy"]), many(3000, seed=5))
    assert result.mean_layer < 5.5
    assert result.wer <= replay(FixedExit(), many(3000, seed=5)).wer + 1.5


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ({}, "is not one of mean_cost, max_wer,"),
        ({"promise": 1, "average": 1}, "give one of them"),
        ({"promise": 0}, "promise is 0: give points of the error rate above 0"),
        ({"average": -1}, "average is -1: give points of the error rate above 0"),
        ({"promise": 1, "delta": 1}, "delta is 1: give a probability above 0 and below 1"),
        ({"promise": 1, "test": "t"}, "target promise has no option test; it has: delta, same_speakers"),
        ({"mean_cost": 0.5, "delta": 0.1}, "target mean_cost has no option delta; it has: none"),
    ],
)
def test_targets_that_make_no_sense_are_refused(target, message):
    with pytest.raises(ValueError, match=message):
        calibrate(many(60), score="entropy", target=target)
