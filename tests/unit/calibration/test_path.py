# SPDX-License-Identifier: Apache-2.0
"""The path of thresholds that a promise is tested along."""

import numpy as np
import pytest
from unit.cases import many

from ee_runtime.policies import LearnedThreshold, Patience, ScoreThreshold, policy_from_dict
from speechbrain_ee.calibration.choose import calibrate
from speechbrain_ee.calibration.path import threshold_path
from speechbrain_ee.replay.unsureness import exits_taken

ENTROPY = ScoreThreshold("entropy", 0.0)


@pytest.mark.parametrize("score", ["entropy", "confidence", "patience", "learned"])
def test_law5_a_path_runs_from_the_last_exit_to_the_first(score):
    utterances = many(100)
    for utterance in utterances:  # no score of 0 or 1, so that extremes are extreme
        for exit in utterance["exits"]:
            exit["scores"]["agreement"] = 1.0 if score == "patience" else 0.5
    policy = {"patience": Patience(1), "confidence": ScoreThreshold("confidence", 0.0)}.get(score, ENTROPY)
    if score == "learned":
        policy = policy_from_dict(calibrate(many(), score="learned", target={"mean_cost": 0.6})["policy"])
        assert isinstance(policy, LearnedThreshold)
    path = threshold_path(policy, utterances, 3)
    taken = exits_taken(policy, utterances, path)
    assert (np.diff(taken, axis=1) <= 0).all()
    assert (taken[:, -1] == 0).all()
    assert taken[:, 0].mean() >= 1.98


def test_a_path_of_a_learned_score_needs_utterances():
    policy = policy_from_dict(calibrate(many(), score="learned", target={"mean_cost": 0.6})["policy"])
    with pytest.raises(ValueError, match="needs the utterances that it was fitted on"):
        threshold_path(policy, None, 3)
