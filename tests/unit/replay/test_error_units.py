# SPDX-License-Identifier: Apache-2.0
"""Policies, oracle and sweeps count characters where utterances are marked so."""

import pytest
from unit.cases import in_characters, many, three_utterances

from ee_runtime.policies import FixedExit, ScoreThreshold
from ee_runtime.text.error_units import CHAR, WORD, counted_in
from speechbrain_ee.replay.equal_cost import wer_at_mean_layer
from speechbrain_ee.replay.replay import ExitCounts, oracle, oracle_result, replay, static_wer
from speechbrain_ee.replay.sweeps import choose_threshold, sweep
from speechbrain_ee.replay.utterances import read_utterances, write_utterances
from speechbrain_ee.text.metrics import counted_in_characters

ENTROPY = ScoreThreshold("entropy", 0.0)


def test_the_oracle_of_characters_by_hand():
    """Character errors at layer 2: 1 + 0 + 2, at layer 4: 0 + 0 + 1, of 5 + 2 + 2; words would call c a draw."""
    lines = counted_in_characters(three_utterances())
    assert static_wer(lines) == {2: pytest.approx(100 * 3 / 9), 4: pytest.approx(100 * 1 / 9)}
    assert oracle(lines) == {"cer": pytest.approx(100 * 1 / 9), "mean_layer": pytest.approx(10 / 3)}
    assert oracle_result(lines).exit_indices == [1, 0, 1]
    assert oracle(three_utterances()) == {"wer": 25.0, "mean_layer": pytest.approx(8 / 3)}


def test_sweeps_and_thresholds_have_the_key_of_their_unit():
    words = many()
    chars = counted_in(in_characters(words), CHAR)
    for one, other in zip(sweep(ENTROPY, words), sweep(ENTROPY, chars), strict=True):
        assert one.pop("wer") == pytest.approx(other.pop("cer"))
        assert one == other
    assert choose_threshold(ENTROPY, chars, 1.0)["threshold"] == choose_threshold(ENTROPY, words, 1.0)["threshold"]
    assert wer_at_mean_layer(ENTROPY, chars, 4.0) == pytest.approx(wer_at_mean_layer(ENTROPY, words, 4.0))
    with pytest.raises(ValueError, match="max_cer_increase is -1; give points of CER"):
        choose_threshold(ENTROPY, chars, -1)


def test_a_cer_is_never_given_as_a_wer():
    result = replay(FixedExit(), counted_in(in_characters(many(60)), CHAR))
    assert result.error_rate == pytest.approx(replay(FixedExit(), many(60)).wer)
    with pytest.raises(ValueError, match="counted in characters: this result has a CER, no WER"):
        _ = result.wer
    with pytest.raises(ValueError, match="counted in characters: use lengths"):
        _ = ExitCounts.of(counted_in(in_characters(many(60)), CHAR)).words


def test_the_file_has_both_units_and_a_file_of_an_earlier_version_has_words(tmp_path):
    write_utterances(tmp_path / "u.jsonl", in_characters(many(60)))
    assert replay(ENTROPY, read_utterances(tmp_path / "u.jsonl")).unit == WORD
    assert replay(ENTROPY, read_utterances(tmp_path / "u.jsonl", CHAR)).unit == CHAR
    write_utterances(tmp_path / "old.jsonl", three_utterances())
    old = read_utterances(tmp_path / "old.jsonl")
    assert static_wer(old) == {2: 50.0, 4: 25.0}
    with pytest.raises(ValueError, match="utterance 'a' has no num_chars and char_errors: evaluate the set again"):
        read_utterances(tmp_path / "old.jsonl", CHAR)
    assert ExitCounts.of(counted_in_characters(old)).lengths.tolist() == [5, 2, 2]  # the texts are there
    del old[1]["reference"]
    assert counted_in_characters(old) is None


def test_a_mixture_of_units_is_refused():
    lines = in_characters(many(2))
    with pytest.raises(ValueError, match="counted in char and word: read them with one error_unit"):
        static_wer([*counted_in(lines[:1], CHAR), *counted_in(lines[1:], WORD)])


@pytest.mark.parametrize("change", [{"num_chars": -1}, {"num_chars": 1.5}])
def test_counts_of_characters_are_checked(tmp_path, change):
    lines = in_characters(many(1))
    lines[0] |= change
    with pytest.raises(ValueError, match="u.jsonl:1: num_words, num_chars and errors must be whole numbers"):
        write_utterances(tmp_path / "u.jsonl", lines)
