# SPDX-License-Identifier: Apache-2.0
"""A calibration in words."""

from unit.cases import many

from ee_runtime.calibration.summary import promise_sentence
from speechbrain_ee.calibration.choose import calibrate


def promise_of(utterances, **target):
    return calibrate(utterances, score="entropy", target=target)["promise"]


def test_what_is_promised_in_words():
    assert promise_sentence(None).startswith("nothing is promised")
    how = "(gamma test, asymptotic; by simulation valid from this set size on; "
    assert promise_sentence(promise_of(many(), promise=2.0, delta=0.2)) == (
        f"WER is at most 2.0 points above full depth, with probability 0.8 {how}400 utterances, "
        "assumed to be independent; speakers unknown)"
    )
    assert promise_sentence(promise_of(many(1000, speakers=40), promise=2.0)).endswith(
        f"with probability 0.9 {how}40 speakers)"
    )
    assert "; 400 utterances, assumed to be independent; for 6 speakers only)" in promise_sentence(
        promise_of(many(speakers=6), promise=2.0, same_speakers=True)
    )
    assert "independent; for 1 speaker only)" in promise_sentence(promise_of(many(speakers=1), promise=2.0))
    half_named = many(1000, speakers=40)
    for utterance in half_named[:500]:
        utterance["speaker"] = None
    assert "; 540 speakers, counting each of 500 utterances without a speaker as one)" in promise_sentence(
        promise_of(half_named, promise=2.0)
    )
    assert promise_sentence(promise_of(many(1000), average=2.0)) == (
        "on average over calibration sets, WER is at most 2.0 points above full depth (losses clipped at 8 "
        "words per utterance, 1000 utterances, assumed to be independent; speakers unknown)"
    )
    assert promise_sentence(promise_of(many(60), promise=1.0)) == (
        "no threshold cheaper than full depth can be promised at 1.0 points from 60 utterances; at least 185 are "
        "required, even if stopping early adds no word error; every utterance takes the last exit"
    )
