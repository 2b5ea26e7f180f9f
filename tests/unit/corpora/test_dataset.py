# SPDX-License-Identifier: Apache-2.0
"""Items of the dataset, and their random seeds."""

import numpy as np
import pytest
import soundfile
import torch
from unit.corpora.speech import TEXTS, augmented, fake, write_noise

from speechbrain_ee.corpora import dataset as dataset_module
from speechbrain_ee.corpora.dataset import SpeechDataset, stable_seed
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.text.tokenizer import Tokenizer


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "char.model"
    return Tokenizer.train(TEXTS, path=path, model_type="char")


@pytest.fixture(scope="module")
def utterances(tmp_path_factory):
    return write_noise(tmp_path_factory.mktemp("wav"))


# Items


def test_items(utterances, tokenizer):
    item = SpeechDataset(utterances, tokenizer)[3]
    assert list(item) == ["id", "sig", "tokens", "text"]
    assert (item["id"], item["text"]) == ("u03", "a tall cat")
    assert item["sig"].shape == (4160,) and item["sig"].dtype == torch.float32
    assert item["tokens"].dtype == torch.long
    assert item["tokens"].tolist() == tokenizer.encode("a tall cat")
    assert not {0, 1, 2} & set(item["tokens"].tolist())


def test_cached_audio_is_the_same_and_the_files_are_not_read_again(utterances, tokenizer, monkeypatch):
    plain = SpeechDataset(utterances, tokenizer)
    cached = SpeechDataset(utterances, tokenizer, cache_audio=True)
    expected = [plain[index]["sig"] for index in range(16)]
    monkeypatch.setattr(dataset_module, "load_audio", None)
    assert all(torch.equal(cached[index]["sig"], expected[index]) for index in range(16))


def test_full_scale_survives_the_cache(tmp_path, tokenizer):
    soundfile.write(tmp_path / "a.wav", np.array([1.0, -1.0]), 16000, subtype="FLOAT")
    utterance = Utterance("a", tmp_path / "a.wav", 2 / 16000, "cat")
    sig = SpeechDataset([utterance], tokenizer, cache_audio=True)[0]["sig"]
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
        SpeechDataset([], tokenizer)
    with pytest.raises(ValueError, match=r"1 ids are repeated \(first: 'u0'\)"):
        SpeechDataset(fake([1.0]) * 2, tokenizer)


def test_audio_comes_at_the_rate_that_is_asked_for(utterances, tokenizer):
    for cache_audio in (False, True):
        full = SpeechDataset(utterances, tokenizer, cache_audio=cache_audio)
        half = SpeechDataset(utterances, tokenizer, cache_audio=cache_audio, sample_rate=8000)
        assert len(half[0]["sig"]) == -(-len(full[0]["sig"]) // 2)
