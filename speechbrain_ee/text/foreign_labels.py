# SPDX-License-Identifier: Apache-2.0
"""Turn the labels of a SpeechBrain recipe into a tokenizer of this package.

A tokenizer of this package has ``<unk>`` (the CTC blank), BOS and EOS at 0, 1 and 2. Labels in another order are moved:
:class:`Labels` says which output of the recipe's model each token comes from.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import sentencepiece
from speechbrain.dataio.encoder import CTCTextEncoder
from speechbrain.tokenizers.SentencePiece import SentencePiece

from ee_runtime.special_tokens import BLANK_INDEX, BOS_INDEX, EOS_INDEX
from ee_runtime.text.spans import WORD_START
from speechbrain_ee.text.tokenizer import Tokenizer

BOS_PIECE, EOS_PIECE = "<s>", "</s>"
CONTROL = 3  # type of a piece in SentencePiece's model format
KINDS = "a SentencePiece model (an object or a file) or a CTCTextEncoder"


class Labels(NamedTuple):
    """Labels as a tokenizer.

    Arguments
    ---------
    model : bytes
        A SentencePiece model with ``<unk>``, BOS and EOS at 0, 1 and 2.
    origin : tuple of int or None
        For each token, the index of the same label in the recipe; None for a token that the recipe does not have.
    """

    model: bytes
    origin: tuple[int | None, ...]

    @property
    def num_labels(self) -> int:
        """Number of labels of the recipe: the output size of its model."""
        return sum(index is not None for index in self.origin)

    @property
    def is_same_order(self) -> bool:
        """Whether every token has the index of its label."""
        return self.origin == tuple(range(len(self.origin)))


def read_labels(labels: object) -> Labels:
    """Read the labels of a recipe.

    Arguments
    ---------
    labels : Tokenizer, SentencePiece, SentencePieceProcessor, str, Path or CTCTextEncoder
        A SentencePiece model of this package, of SpeechBrain, of the library, or as a file; or SpeechBrain's
        ``CTCTextEncoder`` over characters. The CTC blank of a SentencePiece model is its ``<unk>`` at 0.

    Returns
    -------
    Labels
        The tokenizer and the order of its tokens.

    Raises
    ------
    ValueError
        If the labels are of another kind, or one of them cannot be a token; the message names it.

    Example
    -------
    >>> encoder = CTCTextEncoder()
    >>> encoder.update_from_iterable([["a", " ", "b"]])
    >>> encoder.insert_blank(index=0)
    >>> labels = read_labels(encoder)
    >>> processor = sentencepiece.SentencePieceProcessor(model_proto=labels.model)
    >>> [(processor.id_to_piece(token), index) for token, index in enumerate(labels.origin)]
    [('<unk>', 0), ('<s>', None), ('</s>', None), ('▁', 1), ('a', 3), ('b', 2)]
    """
    if isinstance(labels, CTCTextEncoder):
        return _from_encoder(labels)
    if isinstance(labels, (str, Path)):
        labels = _load(Path(labels))
    if isinstance(labels, Tokenizer):
        labels = labels.processor
    elif isinstance(labels, SentencePiece):
        labels = labels.sp
    if not isinstance(labels, sentencepiece.SentencePieceProcessor):
        raise ValueError(f"labels is a {type(labels).__name__}: give {KINDS}")
    return _from_sentencepiece(labels)


def _load(path: Path) -> sentencepiece.SentencePieceProcessor:
    try:
        return sentencepiece.SentencePieceProcessor(model_proto=path.read_bytes())
    except OSError as error:
        raise ValueError(f"labels {path}: {error.strerror}: give the recipe's SentencePiece model") from None
    except RuntimeError:
        raise ValueError(f"labels {path} is not a SentencePiece model: give {KINDS}") from None


def _from_sentencepiece(processor: sentencepiece.SentencePieceProcessor) -> Labels:
    model, size = processor.serialized_model_proto(), processor.vocab_size()
    special = (processor.unk_id(), processor.bos_id(), processor.eos_id())
    if special == (BLANK_INDEX, BOS_INDEX, EOS_INDEX):
        return Labels(model, tuple(range(size)))
    pieces = [processor.id_to_piece(index) for index in range(size)]
    if special == (BLANK_INDEX, -1, -1) and not {BOS_PIECE, EOS_PIECE} & set(pieces):
        return Labels(with_bos_and_eos(model), (0, None, None, *range(1, size)))
    raise ValueError(
        f"the SentencePiece model has <unk>, BOS, EOS at {special}: (0, 1, 2) and, without BOS and EOS, (0, -1, -1) "
        "can be used; train it with unk_id=0 bos_id=1 eos_id=2"
    )


def with_bos_and_eos(model: bytes) -> bytes:
    """Insert BOS and EOS after ``<unk>`` into a SentencePiece model without them.

    A model is a protocol buffer that begins with its pieces, each in field 1. Its trainer's settings (field 2) may come
    in several parts, of which the last one counts; fields 41 and 42 of them are the ids of BOS and EOS.
    """
    length, start = _read_number(model, 1)
    pieces = b"".join(
        _field(1, _field(1, piece.encode()) + bytes([3 << 3, CONTROL])) for piece in (BOS_PIECE, EOS_PIECE)
    )
    settings = b"".join(_number(field << 3) + _number(index) for field, index in ((41, BOS_INDEX), (42, EOS_INDEX)))
    return model[: start + length] + pieces + model[start + length :] + _field(2, settings)


def _field(number: int, content: bytes) -> bytes:
    return _number(number << 3 | 2) + _number(len(content)) + content


def _number(value: int) -> bytes:
    """Write a number in groups of 7 bits."""
    return bytes([value & 127 | 128]) + _number(value >> 7) if value > 127 else bytes([value])


def _read_number(data: bytes, at: int) -> tuple[int, int]:
    """Return the number at a position, and the position after it."""
    value = shift = 0
    while True:
        value |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
        if data[at - 1] < 128:
            return value, at


def _from_encoder(encoder: CTCTextEncoder) -> Labels:
    if not hasattr(encoder, "blank_label"):
        raise ValueError("the CTCTextEncoder has no blank: call insert_blank before training")
    names = {"bos_label": BOS_INDEX, "eos_label": EOS_INDEX, "blank_label": BLANK_INDEX}
    special = {getattr(encoder, name): token for name, token in names.items() if hasattr(encoder, name)}
    letters = [label for label in encoder.lab2ind if label not in special]
    _check_letters(letters, special)
    with tempfile.TemporaryDirectory() as folder:
        # Every character model has a token for the space.
        tokenizer = Tokenizer.train(["".join(letters)], path=Path(folder) / "char.model", model_type="char")
        model, pieces = tokenizer.path.read_bytes(), tokenizer.vocab_list
    of_token = {token: encoder.lab2ind[label] for label, token in special.items()}
    of_piece = {WORD_START if letter == " " else letter: encoder.lab2ind[letter] for letter in letters}
    return Labels(model, tuple(of_token.get(token, of_piece.get(piece)) for token, piece in enumerate(pieces)))


def _check_letters(letters: Sequence[str], special: dict) -> None:
    wrong = [letter for letter in letters if not _is_letter(letter)]
    if wrong:
        raise ValueError(
            f"the CTCTextEncoder has the label {wrong[0]!r}: only single characters, the blank "
            f"({', '.join(map(str, special))}), BOS and EOS can be tokens; train without it (call no add_unk)"
        )
    if not any(letter != " " for letter in letters):
        raise ValueError("the CTCTextEncoder has no letters: read the training texts with update_from_didataset first")


def _is_letter(label: object) -> bool:
    return isinstance(label, str) and len(label) == 1 and label != WORD_START and (label == " " or not label.isspace())
