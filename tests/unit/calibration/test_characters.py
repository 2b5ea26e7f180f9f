# SPDX-License-Identifier: Apache-2.0
"""Promises and limits of CER."""

import numpy as np
import pytest
from unit.cases import in_characters, many

from ee_runtime.calibration.summary import summary
from ee_runtime.text.error_units import CHAR, counted_in
from speechbrain_ee.calibration.choose import calibrate
from speechbrain_ee.calibration.risk import LossSums, p_values, unseen_loss
from speechbrain_ee.calibration.sample_size import fewest

WORDS = many(800)
CHARACTERS = counted_in(in_characters(WORDS), CHAR)  # six times as many characters as words, in errors and lengths


def test_six_characters_for_each_word_are_promised_as_the_words_are():
    words, chars = (calibrate(lines, score="entropy", target={"promise": 2.0}) for lines in (WORDS, CHARACTERS))
    assert words["promise"]["granted"] and words["promise"] == chars["promise"]
    assert words["policy"] == chars["policy"]
    assert chars["fitted_on"]["cer"] == pytest.approx(words["fitted_on"]["wer"])
    assert (chars["error_unit"], words["error_unit"]) == ("char", "word")
    assert {"words", "cer", "ece", "stopped"} == chars["confidence"].keys()


@pytest.mark.parametrize("target", [{"promise": 2.0}, {"promise": 0.01}, {"average": 3.0}, {"max_cer_increase": 1.0}])
@pytest.mark.parametrize("score", ["entropy", "learned"])
def test_a_calibration_of_characters_never_says_wer(score, target):
    text = summary(calibrate(CHARACTERS, score=score, target=target))
    assert "CER" in text and "WER" not in text and " word" not in text


def test_a_limit_in_the_wrong_unit_is_refused():
    for name, lines, other in (("max_wer_increase", CHARACTERS, "CER"), ("max_cer", WORDS, "WER")):
        with pytest.raises(ValueError, match=f"give the limit of {other}, or evaluate the set again with --error-unit"):
            calibrate(lines, score="entropy", target={name: 5.0})


def test_an_utterance_of_14_characters_loses_14_at_most():
    assert unseen_loss(np.full(9, 14), CHAR) == 14
    assert fewest(0.1, 0.14, by_speaker=False, unseen=14) == 231
    nothing = LossSums.of(np.zeros((231, 1)), np.full(231, 14))
    assert p_values(nothing, epsilon=1.0, unseen=14.0)[0] < 0.1 < p_values(nothing, epsilon=1.0, unseen=48.0)[0]
