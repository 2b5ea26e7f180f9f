# SPDX-License-Identifier: Apache-2.0
"""NFC and NFD texts are the same text for tokenizers, references and hypotheses."""

import io
import json
from unicodedata import normalize

import pytest
import sentencepiece

from ee_runtime.decoders.base import Decoded
from ee_runtime.text.spans import Span
from speechbrain_ee.corpora.manifest import Utterance, read_manifest
from speechbrain_ee.text.tokenizer import Tokenizer

TEXTS = ["über die brücke", "größe", "weiß", "q\u0303 \u0928\u093c"]  # the last two have no single code point in NFC


@pytest.fixture
def tokenizer(tmp_path):
    return Tokenizer.train([normalize("NFD", text) for text in TEXTS], path=tmp_path / "c.model", model_type="char")


def test_a_tokenizer_of_nfd_texts_is_that_of_nfc_texts(tokenizer, tmp_path):
    other = Tokenizer.train(TEXTS, path=tmp_path / "other.model", model_type="char")
    assert tokenizer.path.read_bytes() == other.path.read_bytes()
    assert "\u0308" not in tokenizer.vocab_list and "\u0303" in tokenizer.vocab_list
    for text in TEXTS:
        assert tokenizer.encode(normalize("NFD", text)) == tokenizer.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == normalize("NFC", text)


def test_an_alphabet_is_in_nfc_too(tmp_path):
    found = Tokenizer.train(["u"], path=tmp_path / "c.model", model_type="char", alphabet="u\u0308")
    assert sorted(found.vocab_list[3:]) == ["u", "ü", "▁"]


def test_manifests_in_both_forms_give_one_text(tmp_path):
    rows = [
        {"audio_filepath": f"{form}.wav", "duration": 1.0, "text": normalize(form, "über")} for form in ("NFC", "NFD")
    ]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [one.text for one in read_manifest(tmp_path / "a.jsonl")] == ["über", "über"]
    assert Utterance("a", tmp_path, 1.0, "u\u0308  A\uff21").text == "ü  A\uff21"  # neither spaces nor width nor case


def test_a_hypothesis_of_a_letter_and_an_accent_is_in_nfc():
    decoded = Decoded("u\u0308ber", [Span("u\u0308ber", 0, 2, 0.5)], ctc_text="a\u0308")
    assert (decoded.text, decoded.spans[0].text, decoded.ctc_text) == ("über", "über", "ä")


def test_a_tokenizer_that_was_trained_on_nfd_texts_by_an_earlier_version_writes_nfc_texts(tmp_path):
    model, texts = io.BytesIO(), [normalize("NFD", text) for text in TEXTS]
    ids = {"unk_id": 0, "bos_id": 1, "eos_id": 2, "pad_id": -1}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, model_type="char", vocab_size=100,
        character_coverage=1.0, normalization_rule_name="identity", minloglevel=2, hard_vocab_limit=False, **ids,
    )  # fmt: skip
    (tmp_path / "old.model").write_bytes(model.getvalue())
    old = Tokenizer(tmp_path / "old.model")
    assert "ü" not in old.vocab_list
    assert old.unknown_characters("über Ä") == {"Ä"}
    assert old.decode(old.encode("über")) == "über"
