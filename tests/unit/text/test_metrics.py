# SPDX-License-Identifier: Apache-2.0
"""Error counts by hand and compared with SpeechBrain; intervals by their definition."""

import random
from collections import Counter

import numpy as np
import pytest
from speechbrain.utils.edit_distance import accumulatable_wer_stats

from speechbrain_ee.text.metrics import bootstrap_ci95, char_errors, num_chars, wer, word_errors, words_right


@pytest.mark.parametrize(
    ("reference", "hypothesis", "expected"),
    [
        ("a b c", "a b c", (0, 0, 0)),
        ("a b c", "a x c", (1, 0, 0)),
        ("a b c", "a c", (0, 1, 0)),
        ("a b c", "a b b c", (0, 0, 1)),
        ("a b c", "", (0, 3, 0)),
        ("", "a b", (0, 0, 2)),
        ("", "", (0, 0, 0)),
        (" a  b ", "a\tb", (0, 0, 0)),
        ("A b", "a b", (1, 0, 0)),  # case is not folded
    ],
)
def test_word_errors_by_hand(reference, hypothesis, expected):
    assert word_errors(reference, hypothesis) == dict(zip("SDI", expected, strict=True))


def test_character_errors_count_the_space_between_words():
    assert char_errors("ab cd", "abcd") == {"S": 0, "D": 1, "I": 0}
    assert num_chars(" ab   cd ") == 5
    assert num_chars("") == 0


def test_the_same_errors_as_speechbrain_counts():
    rng = random.Random(0)
    for _ in range(200):
        reference, hypothesis = (" ".join(rng.choices("abcd", k=rng.randrange(12))) for _ in range(2))
        stats = accumulatable_wer_stats([reference.split()], [hypothesis.split()], Counter())
        kinds = ("substitutions", "deletions", "insertions")
        assert list(word_errors(reference, hypothesis).values()) == [stats[kind] for kind in kinds]


def test_wer_is_pooled_not_averaged():
    assert wer([1, 0], [1, 9]) == 10.0  # the mean of utterances would be 50
    assert wer([6], [4]) == 150.0


def test_wer_without_words_is_refused():
    with pytest.raises(ValueError, match="needs reference words"):
        wer([2], [0])
    with pytest.raises(ValueError, match="give one each"):
        wer([1, 2], [3])


def test_interval_is_the_binomial_one_for_independent_words():
    # One word per utterance, 200 of 1000 wrong: the standard error is sqrt(.2 * .8 / 1000).
    errors = [1] * 200 + [0] * 800
    low, high = bootstrap_ci95(errors, [1] * 1000, num_samples=4000)
    half_width = 100 * 1.96 * np.sqrt(0.2 * 0.8 / 1000)  # 2.48 points
    # 4000 samples know a 2.5 % quantile to about 0.05 points; counts come in steps of 0.1.
    assert abs(low - (20 - half_width)) < 0.2
    assert abs(high - (20 + half_width)) < 0.2


def test_speakers_are_drawn_whole():
    # Two speakers: a draw has both, twice the good one or twice the bad one, and nothing else.
    errors, words = [0] * 50 + [1] * 50, [1] * 100
    speakers = ["good"] * 50 + ["bad"] * 50
    assert bootstrap_ci95(errors, words, speakers).tolist() == [0.0, 100.0]
    low, high = bootstrap_ci95(errors, words)
    assert 35 < low < 50 < high < 65


def test_one_speaker_draws_utterances():
    errors, words = [0, 1, 2, 0, 1], [5, 5, 6, 4, 5]
    assert bootstrap_ci95(errors, words, ["s"] * 5).tolist() == bootstrap_ci95(errors, words).tolist()


def test_unknown_speakers_are_their_own_groups():
    errors, words = [0, 1, 2, 0, 1], [5, 5, 6, 4, 5]
    assert bootstrap_ci95(errors, words, [None] * 5).tolist() == bootstrap_ci95(errors, words).tolist()


def test_utterances_without_a_speaker_are_not_one_speaker():
    # one speaker without errors, four utterances of nobody with one each: five groups
    errors, words = [0] * 6 + [1] * 4, [1] * 10
    speakers = ["s"] * 6 + [None] * 4
    assert bootstrap_ci95(errors, words, speakers).tolist() == bootstrap_ci95([0, 1, 1, 1, 1], [6, 1, 1, 1, 1]).tolist()


@pytest.mark.parametrize(
    ("reference", "hypothesis", "right"),
    [
        ("a b c", "a x c y", [True, False, True, False]),
        ("a b c", "c", [True]),
        ("a", "", []),
        ("", "a", [False]),
    ],
)
def test_words_that_are_right_by_hand(reference, hypothesis, right):
    assert words_right(reference, hypothesis) == right


def test_seed_decides_the_draws():
    errors, words = [0, 1, 2, 0, 1, 3], [5, 7, 6, 4, 5, 8]
    one, same, other = (bootstrap_ci95(errors, words, num_samples=50, seed=s).tolist() for s in (1, 1, 2))
    assert one == same != other


def test_utterances_without_words_do_not_break_a_draw():
    low, high = bootstrap_ci95([1, 0, 0], [2, 0, 0])  # some draws have no word at all
    assert (low, high) == (50.0, 50.0)


def test_groups_of_another_length_are_refused():
    with pytest.raises(ValueError, match="got 1 speakers for 2 utterances"):
        bootstrap_ci95([1, 1], [2, 2], ["s"])
