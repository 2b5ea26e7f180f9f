# SPDX-License-Identifier: Apache-2.0
"""The sampling units of a promise, and how many it needs."""

import numpy as np
import pytest
from unit.cases import many

from speechbrain_ee.calibration.choose import calibrate
from speechbrain_ee.calibration.risk import LossSums, p_values
from speechbrain_ee.calibration.sample_size import fewest, fewest_speakers


def p_without_loss(number, by_speaker):
    """P-value of units of 40 words without a loss, at 1 point."""
    sums = LossSums.of(np.zeros((number, 1)), np.full(number, 40))
    return float(p_values(sums, epsilon=1.0, by_speaker=by_speaker)[0])


@pytest.mark.parametrize("by_speaker", [False, True])
@pytest.mark.parametrize("delta", [0.05, 0.1, 0.3])
def test_the_fewest_are_those_from_which_no_loss_is_enough(by_speaker, delta):
    number = fewest(delta, allowed=0.4, by_speaker=by_speaker)
    enough, too_few = (p_without_loss(n, by_speaker) for n in (number, number - 1))
    assert enough <= delta < too_few
    assert fewest(delta, allowed=1e9, by_speaker=True) == fewest_speakers(delta)
    assert 0.9 ** fewest_speakers(delta) <= delta < 0.9 ** (fewest_speakers(delta) - 1)


def test_speakers_are_what_is_independent():
    one = calibrate(many(speakers=40), score="entropy", target={"promise": 2.0})["promise"]
    other = calibrate(many(), score="entropy", target={"promise": 2.0})["promise"]
    same = calibrate(many(speakers=6), score="entropy", target={"promise": 2.0, "same_speakers": True})["promise"]
    assert (one["independent"], one["num_independent"]) == ("speakers", 40)
    assert (other["independent"], other["num_independent"], other["num_speakers"]) == ("utterances", 400, None)
    assert (same["independent"], same["num_independent"], same["num_speakers"]) == ("utterances", 400, 6)
    assert one["granted"] and other["granted"] and same["granted"]
    few = calibrate(many(speakers=40), score="entropy", target={"promise": 0.5})["promise"]
    assert not few["granted"] and few["fewest"] == 59, "40 who say 100 words each are few: 2.3 * (8 / 0.5 + 9.49)"
    half_named = many(speakers=40)
    for utterance in half_named[::2]:
        utterance["speaker"] = None
    promise = calibrate(half_named, score="entropy", target={"promise": 2.0})["promise"]
    assert (promise["num_independent"], promise["num_unnamed"]) == (20 + 200, 200)


@pytest.mark.parametrize(("delta", "fewest"), [(0.1, 22), (0.05, 29)])
def test_too_few_speakers_promise_nothing(delta, fewest):
    target = {"promise": 2.0, "delta": delta}
    needs = f"a promise with delta {delta} needs at least {fewest} speakers, and there are"
    with pytest.raises(ValueError, match=f"{needs} {fewest - 1}: with fewer, a failure that affects"):
        calibrate(many(speakers=fewest - 1), score="entropy", target=target)
    calibrate(many(speakers=fewest), score="entropy", target=target)
    with pytest.raises(
        ValueError, match=f"{needs} {fewest - 1} in the half that the learned score was not fitted on: "
    ):
        calibrate(many(speakers=2 * fewest - 2), score="learned", target=target)
    with pytest.raises(ValueError, match="and there are 2: "):
        calibrate(many(speakers=2), score="learned", target=target)  # a half of them is one speaker
    one = calibrate(many(speakers=1), score="entropy", target=target)["promise"]
    assert (one["independent"], one["num_speakers"]) == ("utterances", 1), "of this one speaker"
    with pytest.raises(ValueError, match="a promise with delta 0.5 needs at least 7 speakers, and there are 6"):
        calibrate(many(speakers=6), score="entropy", target={"average": 2.0})


@pytest.mark.parametrize("target", ["promise", "average"])
def test_fewer_than_50_utterances_promise_nothing(target):
    with pytest.raises(ValueError, match="needs at least 50 utterances, and there are 49; evaluate more"):
        calibrate(many(49), score="entropy", target={target: 1.0})
