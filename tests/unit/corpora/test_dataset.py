# SPDX-License-Identifier: Apache-2.0
"""Items, and the checks of their texts and lengths."""

import logging

import numpy as np
import pytest
import soundfile
import torch
from unit.corpora.speech import TEXTS, augmented, fake, write_noise

from speechbrain_ee.corpora import dataset as dataset_module
from speechbrain_ee.corpora.dataset import (
    check_alphabet,
    check_not_too_long,
    ctc_frames_needed,
    drop_too_short,
    make_dataset,
    stable_seed,
)
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "char.model"
    return Tokenizer.train(TEXTS, path=path, model_type="char")


@pytest.fixture(scope="module")
def utterances(tmp_path_factory):
    return write_noise(tmp_path_factory.mktemp("wav"))


# Items


def test_items(utterances, tokenizer):
    item = make_dataset(utterances, tokenizer)[3]
    assert list(item) == ["id", "sig", "tokens", "text"]
    assert (item["id"], item["text"]) == ("u03", "a tall cat")
    assert item["sig"].shape == (4160,) and item["sig"].dtype == torch.float32
    assert item["tokens"].dtype == torch.long
    assert item["tokens"].tolist() == tokenizer.encode("a tall cat")
    assert not {0, 1, 2} & set(item["tokens"].tolist())


def test_cached_audio_is_the_same_and_the_files_are_not_read_again(utterances, tokenizer, monkeypatch):
    plain = make_dataset(utterances, tokenizer)
    cached = make_dataset(utterances, tokenizer, cache_audio=True)
    expected = [plain[index]["sig"] for index in range(16)]
    monkeypatch.setattr(dataset_module, "load_audio", None)
    assert all(torch.equal(cached[index]["sig"], expected[index]) for index in range(16))


def test_full_scale_survives_the_cache(tmp_path, tokenizer):
    soundfile.write(tmp_path / "a.wav", np.array([1.0, -1.0]), 16000, subtype="FLOAT")
    utterance = Utterance("a", tmp_path / "a.wav", 2 / 16000, "cat")
    sig = make_dataset([utterance], tokenizer, cache_audio=True)[0]["sig"]
    torch.testing.assert_close(sig, torch.tensor([1.0, -1.0]), rtol=0, atol=1 / 32768)


def test_augmentation_is_a_function_of_seed_epoch_and_id(utterances, tokenizer):
    dataset = augmented(utterances, tokenizer, seed=3)
    first = [dataset[index]["sig"] for index in range(16)]
    torch.manual_seed(99)
    backwards = augmented(utterances[::-1], tokenizer, seed=3)
    assert all(torch.equal(backwards[15 - index]["sig"], first[index]) for index in range(16))
    dataset.epoch = 1
    other_epoch = [dataset[index]["sig"] for index in range(16)]
    other_seed = augmented(utterances, tokenizer, seed=4)
    for index in range(16):
        assert not torch.equal(other_epoch[index][:100], first[index][:100])
        assert not torch.equal(other_seed[index]["sig"][:100], first[index][:100])
    dataset.epoch = 0
    assert torch.equal(dataset[5]["sig"], first[5])


def test_stable_seed_is_the_same_in_every_version():
    # printf '0\\0001\\000a' | b2sum -l 64, half of it; Python's own hash differs by process.
    assert stable_seed(0, 1, "a") == 7741464581364931028
    assert stable_seed(0, 11, "a") != stable_seed(0, 1, "1a")


def test_no_utterances_and_repeated_ids(tokenizer):
    with pytest.raises(ValueError, match="no utterances"):
        make_dataset([], tokenizer)
    with pytest.raises(ValueError, match=r"1 ids are repeated \(first: 'u0'\)"):
        make_dataset(fake([1.0]) * 2, tokenizer)


# Checks of the texts


def test_alphabet_error_says_how_many_which_and_where(tokenizer):
    texts = ["the cat", "the cät", "a dog!", "cät"]
    bad = [Utterance(f"u{i}", "/none.wav", 1.0, text) for i, text in enumerate(texts)]
    with pytest.raises(ValueError, match=r"^3 of 4 texts .* '!ä' \(first: u1\); .*") as caught:
        check_alphabet(bad, tokenizer)
    assert "\n" not in str(caught.value)
    check_alphabet(bad[:1], tokenizer)


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


def test_audio_comes_at_the_rate_that_is_asked_for(utterances, tokenizer):
    for cache_audio in (False, True):
        full = make_dataset(utterances, tokenizer, cache_audio=cache_audio)
        half = make_dataset(utterances, tokenizer, cache_audio=cache_audio, sample_rate=8000)
        assert len(half[0]["sig"]) == -(-len(full[0]["sig"]) // 2)


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
