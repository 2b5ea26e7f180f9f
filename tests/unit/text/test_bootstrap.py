# SPDX-License-Identifier: Apache-2.0
"""Bootstrap intervals: the binomial interval, speakers as units, and unusual data."""

import numpy as np
import pytest

from speechbrain_ee.text.bootstrap import bootstrap_ci95


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
