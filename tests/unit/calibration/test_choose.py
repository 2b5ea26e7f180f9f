# SPDX-License-Identifier: Apache-2.0
"""The policy whose threshold is chosen, and the utterances it is chosen on."""

import pytest
from unit.cases import many

from speechbrain_ee.calibration.choose import calibrate
from speechbrain_ee.replay.speakers import split_by_speaker


@pytest.mark.parametrize("score", ["entropie", "token_rate", "posterior"])
def test_scores_that_cannot_be_used_are_named(score):
    with pytest.raises(ValueError, match=score):
        calibrate(many(60), score=score, target={"max_wer_increase": 1.0})


@pytest.mark.parametrize("target", [{"mean_cost": 0.8}, {"max_wer_increase": 1.0}, {"promise": 1.0}])
def test_recordings_that_were_cut_are_refused(target):
    utterances = many(60)
    utterances[7]["parts"] = 2
    with pytest.raises(ValueError, match="1 of 60 recordings are too long .*'7': each part stops by itself"):
        calibrate(utterances, score="entropy", target=target)


def test_a_learned_score_is_fitted_on_speakers_that_are_not_calibrated_on():
    utterances = many(speakers=80)
    fitting, rest = split_by_speaker(utterances)
    assert not {one["speaker"] for one in fitting} & {one["speaker"] for one in rest}
    found = calibrate(utterances, score="learned", target={"promise": 2.0})
    assert found["promise"]["num_independent"] == 40
    assert found["fitted_on"]["num_utterances"] == len(rest) == 200
