# SPDX-License-Identifier: Apache-2.0
"""The learned score: what it sees, what it learns, and that it is plain numbers."""

import json
import math

import numpy as np
import pytest

from ee_runtime.policies.learned import LearnedScore, exit_features
from speechbrain_ee.calibration.fit_learned import fit_learned_score

LAYERS = (2, 4, 8)


def corpus(count=400, seed=0):
    """Utterances whose deeper exits mend what a score gives away; `noise` says nothing."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        hard = rng.random() < 0.4
        errors = [int(rng.poisson(4 if hard else 0.2)), int(rng.poisson(2 if hard else 0.2)), 0 if hard else 1]
        score = float(np.clip(rng.normal(0.5 if hard else 0.1, 0.05), 0.001, 0.999))
        exits = [
            {
                "layer": layer,
                "errors": {"S": wrong, "D": 0, "I": 0},
                "scores": {"entropy": score, "confidence": float(rng.random())},
            }
            for layer, wrong in zip(LAYERS, errors, strict=True)
        ]
        found.append({"id": str(number), "num_words": 10, "exits": exits})
    return found


def scores_of(utterance, exit_index):
    return [exit["scores"] for exit in utterance["exits"][: exit_index + 1]]


def test_features_by_hand():
    now, before = exit_features([{"entropy": 0.0}, {"entropy": 0.5}], ["entropy"])[:3], [math.log(1e-6), 0.0, 0.0]
    assert now == [math.log(0.5), math.log(0.5), 0.0]
    assert exit_features([{"entropy": 0.0}, {"entropy": 0.5}], ["entropy"])[3:] == before
    assert exit_features([{"entropy": 1.0}], ["entropy"]) == [0.0, math.log(1e-4), 1.0]
    assert all(math.isnan(value) for value in exit_features([{"entropy": math.nan}], ["entropy"]))


def test_it_predicts_the_errors_that_going_on_saves():
    learned = fit_learned_score(corpus(), ["entropy", "confidence"])
    hard, easy = ([learned([{"entropy": x, "confidence": 0.5}], 0) for x in values] for values in ((0.5,), (0.1,)))
    # hard: 4 -> 2 in 2 layers, or 4 -> 0 in 6; easy: nothing, or 0.8 errors more
    assert hard[0] == pytest.approx(1.0, abs=0.2)
    assert easy[0] == pytest.approx(0.0, abs=0.15)


def test_it_is_plain_numbers_and_the_same_after_json():
    learned = fit_learned_score(corpus(), ["entropy", "confidence"])
    again = LearnedScore.from_dict(json.loads(json.dumps(learned.to_dict())))
    for utterance in corpus(20, seed=1):
        for index in (0, 1):
            assert again(scores_of(utterance, index), index) == learned(scores_of(utterance, index), index)


def test_a_rate_per_second_is_one_of_audio():
    utterances = corpus()
    for number, utterance in enumerate(utterances):  # twice as long, twice the words: the same rate
        utterance["duration"] = 2.0 + 2.0 * (number % 2)
        for exit in utterance["exits"]:
            exit["errors"]["S"] *= 1 + number % 2
    learned = fit_learned_score(utterances, ["entropy", "confidence"], per_second=True)
    assert learned.per_second and LearnedScore.from_dict(learned.to_dict()) == learned
    hard = [{"entropy": 0.5, "confidence": 0.5}]
    assert learned(hard, 0, 2.0) == pytest.approx(0.5, abs=0.1)  # 2 errors in 2 layers, 2 s
    assert learned(hard, 0, 4.0) == pytest.approx(0.5, abs=0.1)
    with pytest.raises(ValueError, match="needs the utterance's duration, which is unknown"):
        learned(hard, 0)
    per_layer = fit_learned_score(utterances, ["entropy", "confidence"])
    assert per_layer(hard, 0, 4.0) > 1.2 * per_layer(hard, 0, 2.0)
    del utterances[5]["duration"]
    with pytest.raises(ValueError, match="some utterances have no duration: fit with per_second=False"):
        fit_learned_score(utterances, ["entropy"], per_second=True)


def test_a_score_of_nan_is_left_out_of_the_fit_and_gives_nan():
    utterances = corpus()
    expected = fit_learned_score(utterances[1:], ["entropy"])
    for exit in utterances[0]["exits"]:
        exit["scores"]["entropy"] = math.nan
    learned = fit_learned_score(utterances, ["entropy"])
    assert learned == expected
    assert math.isnan(learned([{"entropy": math.nan}], 0))


def test_what_cannot_be_fitted_is_refused():
    with pytest.raises(ValueError, match="no utterances to fit a score on"):
        fit_learned_score([], ["entropy"])
    with pytest.raises(ValueError, match="'agreement' was not computed here"):
        fit_learned_score(corpus(3), ["agreement"])
    nothing = corpus(3)
    for utterance in nothing:
        utterance["exits"][0]["scores"]["entropy"] = math.nan
    with pytest.raises(ValueError, match="no utterance has all of entropy at layer 2"):
        fit_learned_score(nothing, ["entropy"])
