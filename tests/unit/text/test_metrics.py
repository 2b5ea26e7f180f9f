# SPDX-License-Identifier: Apache-2.0
"""Error counts by hand and compared with SpeechBrain."""

import random
from collections import Counter

import pytest
from speechbrain.utils.edit_distance import accumulatable_wer_stats

from speechbrain_ee.text.metrics import char_errors, num_chars, wer, word_errors, words_right


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
