# SPDX-License-Identifier: Apache-2.0
"""The grammar of the synthetic default corpus."""

import string

import numpy as np
import pytest

from speechbrain_ee.corpora.synthetic import grammar


def test_texts_are_six_or_seven_words_of_a_small_alphabet():
    sentences = [sentence for block in grammar.all_sentences() for sentence in block]
    assert len(set(sentences)) == len(sentences) > 20000
    assert set("".join(sentences)) <= set(string.ascii_lowercase + "' ")
    assert {len(sentence.split()) for sentence in sentences} == {6, 7}
    assert 35 <= len({word for sentence in sentences for word in sentence.split()}) <= 50


def test_sentences_are_drawn_once_and_evenly_over_the_templates():
    drawn = grammar.draw_sentences(600, np.random.default_rng(0))
    assert len(set(drawn)) == 600
    # 600 of six templates, each of which has 100 and more
    assert [len(set(block) & set(drawn)) for block in grammar.all_sentences()] == [100] * 6


def test_more_sentences_than_there_are():
    with pytest.raises(ValueError, match="145057 utterances need more sentences than the 145056"):
        grammar.draw_sentences(145057, np.random.default_rng(0))


def test_fragments_are_one_to_three_words_in_any_order():
    fragments = grammar.draw_fragments(3000, np.random.default_rng(0))
    lengths = np.bincount([len(fragment.split()) for fragment in fragments])
    assert lengths[0] == 0 and len(lengths) == 4
    assert lengths[1:].min() > 900  # a third each, of 3000
    vocabulary = {word for block in grammar.all_sentences() for sentence in block for word in sentence.split()}
    assert {word for fragment in fragments for word in fragment.split()} == vocabulary
