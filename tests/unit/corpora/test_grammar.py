# SPDX-License-Identifier: Apache-2.0
"""The grammar of the embedded default corpus."""

import string

import numpy as np
import pytest

from speechbrain_ee.corpora import grammar


def test_texts_are_three_to_seven_words_of_a_small_alphabet():
    sentences = [sentence for block in grammar.all_sentences() for sentence in block]
    assert len(set(sentences)) == len(sentences) > 20000
    assert set("".join(sentences)) <= set(string.ascii_lowercase + "' ")
    assert {len(sentence.split()) for sentence in sentences} <= {3, 4, 5, 6, 7}
    assert 60 <= len({word for sentence in sentences for word in sentence.split()}) <= 100


def test_sentences_are_drawn_once_and_evenly_over_the_templates():
    drawn = grammar.draw_sentences(900, np.random.default_rng(0))
    assert len(set(drawn)) == 900
    # 900 of nine templates, each of which has 100 and more
    assert [len(set(block) & set(drawn)) for block in grammar.all_sentences()] == [100] * 9


def test_more_sentences_than_there_are():
    with pytest.raises(ValueError, match="20633 utterances asked for, the grammar has 20632"):
        grammar.draw_sentences(20633, np.random.default_rng(0))
