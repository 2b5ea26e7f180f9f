# SPDX-License-Identifier: Apache-2.0
"""Tokenizer: round trips, the index of the blank, and invalid training data."""

import logging
import pickle

import pytest
import sentencepiece
import torch
from speechbrain.decoders.ctc import CTCBeamSearcher, CTCPrefixBeamSearcher

from speechbrain_ee.text.tokenizer import Tokenizer

TEXTS = ["the cat sat on the mat", "a dog ran", "all of it"]
SIZES = {"bpe": 30, "unigram": 20, "char": None}
# t h e c a s o n m d g r l f i, and the space
NUM_CHARACTERS = 16


@pytest.fixture(scope="module", params=SIZES)
def tokenizer(request, tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / f"{request.param}.model"
    return Tokenizer.train(TEXTS, path=path, model_type=request.param, vocab_size=SIZES[request.param])


def train(tmp_path, texts=TEXTS, **options):
    return Tokenizer.train(texts, path=tmp_path / "t.model", **options)


def refused(message, call, *arguments, **options):
    with pytest.raises(ValueError, match=message) as caught:
        call(*arguments, **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [*TEXTS, "the cat", "cat the the rat", "a", ""])
def test_round_trip(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.decode(ids) == text
    assert not {0, 1, 2} & set(ids)


def test_white_space_is_one_space(tokenizer):
    assert tokenizer.encode(" the\t cat\n") == tokenizer.encode("the cat")


def test_special_places(tokenizer):
    assert tokenizer.vocab_list[:3] == ["<unk>", "<s>", "</s>"]
    assert len(tokenizer.vocab_list) == tokenizer.vocab_size == len(set(tokenizer.vocab_list))


def test_decode_skips_blank_bos_and_eos(tokenizer):
    ids = tokenizer.encode("the cat")
    assert tokenizer.decode([1, 0, *ids, 0, 2]) == "the cat"
    assert tokenizer.decode(torch.tensor(ids)) == "the cat"
    assert tokenizer.decode([0, 0]) == ""


def test_unknown_characters(tokenizer):
    assert tokenizer.unknown_characters("the cat\tsat\n") == set()
    assert tokenizer.unknown_characters("The cät, zzz") == {"T", "ä", ",", "z"}
    assert tokenizer.unknown_characters("a▁b") == {"▁", "b"}


def test_unknown_characters_never_become_the_blank(tokenizer):
    assert tokenizer.decode(tokenizer.encode("the qcat")) == "the cat"
    assert 0 not in tokenizer.encode("zzz the")


def test_vocabulary_of_characters_is_the_real_one(tmp_path):
    assert train(tmp_path, model_type="char").vocab_size == NUM_CHARACTERS + 3
    assert train(tmp_path, model_type="char", vocab_size=500).vocab_size == NUM_CHARACTERS + 3


@pytest.mark.parametrize("model_type", ["bpe", "unigram"])
def test_vocabulary_too_large_says_the_largest_that_works(tmp_path, model_type):
    with pytest.raises(ValueError, match=r"vocab_size is 999: .* allow at most (\d+)") as caught:
        train(tmp_path, model_type=model_type, vocab_size=999)
    assert "\n" not in str(caught.value)
    largest = int(str(caught.value).split("at most ")[1].split(";")[0])
    assert train(tmp_path, model_type=model_type, vocab_size=largest).vocab_size == largest


@pytest.mark.parametrize("model_type", SIZES)
def test_vocabulary_too_small_says_the_smallest(tmp_path, model_type):
    refused("vocab_size is 5: these texts need at least 19", train, tmp_path, **{
        "model_type": model_type, "vocab_size": 5
    })  # fmt: skip
    assert train(tmp_path, model_type=model_type, vocab_size=19).vocab_size == 19


def test_bad_calls(tmp_path):
    refused("choose from bpe, unigram, char", train, tmp_path, model_type="word", vocab_size=30)
    refused("no text", train, tmp_path, texts=["", " "], model_type="char")
    refused("vocab_size is None", train, tmp_path, model_type="bpe")
    assert not list(tmp_path.iterdir())


def test_bad_files(tmp_path):
    refused("does not exist", Tokenizer, tmp_path / "none.model")
    (tmp_path / "bad.model").write_bytes(b"this is no model")
    refused("not a SentencePiece model", Tokenizer, tmp_path / "bad.model")
    (tmp_path / "bad.model").write_bytes(b"")
    refused("not a SentencePiece model", Tokenizer, tmp_path / "bad.model")
    (tmp_path / "bad.model").write_bytes(b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n")
    refused("bad.model is a pointer of Git LFS, .* run git lfs pull", Tokenizer, tmp_path / "bad.model")
    refused("is a folder: give the file", Tokenizer, tmp_path)
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS),
        model_prefix=str(tmp_path / "other"),
        vocab_size=30,
        model_type="bpe",
        bos_id=-1,
    )
    refused(r"at \(0, -1, 2\): they must be at \(0, 1, 2\)", Tokenizer, tmp_path / "other.model")


def test_training_is_quiet_and_deterministic(tmp_path, capfd):
    for model_type, vocab_size in SIZES.items():
        for name in ("one", "two"):
            Tokenizer.train(TEXTS, path=tmp_path / name, model_type=model_type, vocab_size=vocab_size)
        assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert capfd.readouterr() == ("", "")


def test_text_is_learnt_as_it_is_written(tmp_path):
    text = "½ ﬁne Ａ\u00e9 q\u0303"  # in NFC; SentencePiece's default would change all of these
    assert (tok := train(tmp_path, [text], model_type="char")).decode(tok.encode(text)) == text


def test_long_and_rare_texts_are_not_left_out(tmp_path):
    texts = ["the cat " * 1000 + "q", *["a dog"] * 5000, "ß"]
    assert train(tmp_path, texts, model_type="char").unknown_characters("qß") == set()


def test_failed_write_keeps_the_old_model(tmp_path, monkeypatch):
    before = train(tmp_path, model_type="char").vocab_list

    def full_disk(file_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("speechbrain_ee.files.os.fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        train(tmp_path, ["other words"], model_type="char")
    assert Tokenizer(tmp_path / "t.model").vocab_list == before
    assert [path.name for path in tmp_path.iterdir()] == ["t.model"]


def test_travels_to_worker_processes(tokenizer):
    copied = pickle.loads(pickle.dumps(tokenizer))
    assert copied.encode("the cat") == tokenizer.encode("the cat")


@pytest.mark.parametrize("searcher_class", [CTCBeamSearcher, CTCPrefixBeamSearcher])
@pytest.mark.parametrize("text", ["the cat", "a dog sat", "all"])
def test_speechbrain_beam_search_writes_the_text(tokenizer, searcher_class, text, caplog):
    """Every token for two frames, then a blank: the beam searcher must find the text."""
    frames = [frame for index in tokenizer.encode(text) for frame in (index, index, 0)]
    log_probs = torch.full((1, len(frames), tokenizer.vocab_size), -20.0)
    log_probs[0, range(len(frames)), frames] = 0.0
    with caplog.at_level(logging.WARNING):
        searcher = searcher_class(blank_index=0, vocab_list=tokenizer.vocab_list, beam_size=5, topk=1)
    hypotheses = searcher(log_probs.log_softmax(-1), torch.tensor([1.0]))
    assert hypotheses[0][0].text == text
    assert not caplog.records  # it warns if no piece stands for a space
