# SPDX-License-Identifier: Apache-2.0
"""Checks of texts and lengths before training."""

import logging

import pytest
import torch
from unit.corpora.speech import TEXTS, fake

from ee_runtime.text.ctc_paths import ctc_frames_needed
from speechbrain_ee.corpora.checks import check_alphabet, check_not_too_long, drop_too_short, unwritable_warning
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "char.model"
    return Tokenizer.train(TEXTS, path=path, model_type="char")


def test_alphabet_error_says_how_many_which_and_where(tokenizer):
    texts = ["the cat", "the cät", "a dog!", "cät"]
    bad = [Utterance(f"u{i}", "/none.wav", 1.0, text) for i, text in enumerate(texts)]
    with pytest.raises(ValueError, match=r"^3 of 4 texts .* '!ä' \(first: u1\); .*") as caught:
        check_alphabet(bad, tokenizer)
    assert "\n" not in str(caught.value)
    check_alphabet(bad[:1], tokenizer)


@pytest.mark.parametrize(
    ("texts", "words", "characters", "advice"),
    [
        (["THE Cat", "the cat"], "2 of 4", "CTHE", "convert them to lower case"),
        (["the cät", "a dog"], "1 of 4", "ä", "normalize the references as the training texts"),
        (["The cat, tall!"], "3 of 3", ",!T", "convert them to lower case and remove the punctuation"),
        (["cat 12 12 3"], "3 of 4", "123", "normalize the references as"),
        (["кот cat"], "1 of 2", "кот", "normalize the references as"),
    ],
)
def test_references_that_the_model_cannot_write_are_counted_with_what_to_do(
    tokenizer, texts, words, characters, advice
):
    found = unwritable_warning([Utterance(text, "/none.wav", 1.0, text) for text in texts], tokenizer)
    count, _, shown = found.partition(" words of the references have characters that the model cannot write (")
    assert count == words
    assert sorted(shown.split("): each counts as an error")[0].strip("'")) == sorted(characters)
    assert found.endswith(advice) or advice in found
    assert "\n" not in found


def test_references_that_it_can_write_and_many_characters(tokenizer, tmp_path):
    assert unwritable_warning([Utterance("a", "/none.wav", 1.0, " the\tcat ")], tokenizer) is None
    many = "".join(chr(0x4E00 + number) for number in range(50))
    assert "and 10 more): " in unwritable_warning([Utterance("a", "/none.wav", 1.0, many)], tokenizer)
    composed = Tokenizer.train(["\u00e9t\u00e9"], path=tmp_path / "char.model", model_type="char")
    assert unwritable_warning([Utterance("a", "/none.wav", 1.0, "e\u0301t\u00e9")], composed) is None


@pytest.mark.parametrize(("tokens", "needed"), [([], 0), ([5], 1), ([5, 6], 2), ([5, 5], 3), ([5, 5, 5, 6, 6], 8)])
def test_frames_that_ctc_needs_are_those_with_a_finite_loss(tokens, needed):
    assert ctc_frames_needed(tokens) == needed
    for num_frames, finite in ((needed, True), (needed - 1, False)):
        if num_frames < 1:
            continue
        log_probs = torch.zeros(num_frames, 1, 8).log_softmax(-1)
        loss = torch.nn.functional.ctc_loss(
            log_probs, torch.tensor([tokens]), [num_frames], [len(tokens)], reduction="none"
        )
        assert bool(loss.isfinite()) is finite


def test_too_short_utterances_are_counted_named_and_dropped(tokenizer, caplog):
    # Encoder frames of 40 ms: "cat" has 4 tokens with its word start and needs 0.16 s.
    long_enough, short = fake([0.16, 0.5]), fake([0.159] * 9)[2:]
    with caplog.at_level(logging.WARNING):
        kept = drop_too_short(long_enough + short, tokenizer, lambda samples: samples // 640)
    assert kept == long_enough
    assert [record.getMessage() for record in caplog.records] == [
        "7 of 9 utterances are too short for their text under CTC and are left out: u2, u3, u4, u5, u6, ..."
    ]


def test_speed_shortens_and_repeats_count(tokenizer):
    frames = lambda samples: samples // 640  # noqa: E731
    utterances = fake([0.16, 0.5])
    assert drop_too_short(utterances, tokenizer, frames, speed=1.1) == utterances[1:]
    double = [Utterance("u", "/none.wav", 0.2, "tall")]  # 5 tokens, 5 frames, but 6 needed
    with pytest.raises(ValueError, match="all 1 utterances are too short"):
        drop_too_short(double, tokenizer, frames)


def test_what_is_too_long_for_the_encoder_is_named():
    utterances = [Utterance("short", "a.wav", 2.0, "b"), Utterance("long", "b.wav", 4.1, "b")]

    def check(max_frames, **options):
        check_not_too_long(utterances, lambda samples: samples // 640, max_frames, **options)

    check(None)
    check(102)  # 4.1 s are 102.5 frames of 40 ms
    with pytest.raises(ValueError, match=r"^1 of 2 utterances are longer than the 101 frames .*first: long, 4.1 s"):
        check(101)
    with pytest.raises(ValueError, match="^1 of 2"):
        check(102, speed=0.9)
    with pytest.raises(ValueError, match="^2 of 2"):
        check(102, sample_rate=48000)
