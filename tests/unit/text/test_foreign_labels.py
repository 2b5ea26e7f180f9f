# SPDX-License-Identifier: Apache-2.0
"""Labels of SpeechBrain's recipes as tokenizers of this package."""

import io

import pytest
import sentencepiece
from speechbrain.dataio.encoder import CTCTextEncoder
from speechbrain.tokenizers.SentencePiece import SentencePiece

from speechbrain_ee.text.foreign_labels import read_labels
from speechbrain_ee.text.tokenizer import Tokenizer

TEXTS = ["THE CAT SAT", "A FAT RAT ATE THE HAT", "THAT HAT"] * 20


def make_encoder(*, blank=0, letters="THE CAS", **special):
    encoder = CTCTextEncoder()
    encoder.update_from_iterable([list(letters)])
    encoder.insert_blank(index=blank)
    for name in special:
        getattr(encoder, name)()
    return encoder


def train(model_type="bpe", **options):
    model = io.BytesIO()
    settings = {"vocab_size": 20 if model_type == "bpe" else 14, "model_type": model_type, "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXTS), model_writer=model, hard_vocab_limit=False, **settings | options
    )
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def load(labels, tmp_path):
    (tmp_path / "tokenizer.model").write_bytes(labels.model)
    return Tokenizer(tmp_path / "tokenizer.model")


@pytest.mark.parametrize("blank", [0, 3, 8])
def test_every_letter_of_a_text_encoder_keeps_its_output(tmp_path, blank):
    encoder = make_encoder(blank=blank)
    encoder.add_bos_eos()
    labels = read_labels(encoder)
    tokenizer = load(labels, tmp_path)
    assert labels.num_labels == len(encoder) and not labels.is_same_order
    assert labels.origin[:3] == (blank, encoder.lab2ind["<bos>"], encoder.lab2ind["<eos>"])
    assert sorted(index for index in labels.origin) == list(range(len(encoder)))
    token_of = {index: token for token, index in enumerate(labels.origin)}
    assert tokenizer.decode([token_of[index] for index in encoder.encode_sequence("THE CAT")]) == "THE CAT"


def test_tokens_that_a_text_encoder_lacks_come_from_no_output(tmp_path):
    labels = read_labels(make_encoder(letters="THE"))
    pieces = load(labels, tmp_path).vocab_list
    assert [piece for piece, index in zip(pieces, labels.origin, strict=True) if index is None] == ["<s>", "</s>", "▁"]


@pytest.mark.parametrize("model_type", ["bpe", "unigram", "char"])
def test_bos_and_eos_are_inserted_into_a_sentencepiece_model(tmp_path, model_type):
    stock = train(model_type, unk_id=0, bos_id=-1, eos_id=-1)
    labels = read_labels(stock)
    tokenizer = load(labels, tmp_path)
    size = stock.vocab_size()
    assert labels.origin == (0, None, None, *range(1, size)) and labels.num_labels == size
    assert tokenizer.vocab_list == ["<unk>", "<s>", "</s>", *(stock.id_to_piece(index) for index in range(1, size))]
    for text in TEXTS[:3]:
        assert [labels.origin[token] for token in tokenizer.encode(text)] == stock.encode(text)
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_a_model_with_the_special_ids_of_this_package_stays_as_it_is(tmp_path):
    stock = train(unk_id=0, bos_id=1, eos_id=2)
    labels = read_labels(stock)
    assert labels.is_same_order and labels.model == stock.serialized_model_proto()
    path = load(labels, tmp_path).path
    for other in (path, str(path), Tokenizer(path)):
        assert read_labels(other) == labels


def test_speechbrains_own_tokenizer(tmp_path):
    (tmp_path / "train.csv").write_text("ID,wrd\n" + "".join(f"{i},{text}\n" for i, text in enumerate(TEXTS)), "utf-8")
    stock = SentencePiece(str(tmp_path), 20, str(tmp_path / "train.csv"), "wrd", model_type="bpe", bos_id=1, eos_id=2)
    assert read_labels(stock).model == stock.sp.serialized_model_proto()


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            lambda: train(unk_id=3, bos_id=1, eos_id=2, pad_id=0),
            r"<unk>, BOS, EOS at \(3, 1, 2\).* train it with unk_id=0",
        ),
        (lambda: CTCTextEncoder(), "has no blank: call insert_blank before training"),
        (lambda: make_encoder(add_unk=True), "has the label '<unk>'.*call no add_unk"),
        (lambda: make_encoder(letters=["SH", "A"]), "has the label 'SH': only single characters"),
        (lambda: make_encoder(letters="A\n"), r"has the label '\\n'"),
        (lambda: make_encoder(letters="A▁"), "has the label '▁'"),
        (lambda: make_encoder(letters=" "), "has no letters"),
        (lambda: {"a": 1}, "labels is a dict: give a SentencePiece model .* or a CTCTextEncoder"),
        (lambda: "no/such.model", "labels no/such.model: No such file or directory: give the recipe's"),
        (lambda: __file__, "is not a SentencePiece model"),
    ],
)
def test_labels_that_cannot_be_tokens_are_named(labels, message):
    with pytest.raises(ValueError, match=message):
        read_labels(labels())
