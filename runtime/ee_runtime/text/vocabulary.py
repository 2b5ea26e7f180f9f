# SPDX-License-Identifier: Apache-2.0
"""Convert token ids to text by their SentencePiece pieces, without SentencePiece."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from ee_runtime.special_tokens import SPECIAL_TOKENS
from ee_runtime.text.spans import WORD_START


class Vocabulary(Protocol):
    """What a decoder needs of a tokenizer."""

    vocab_size: int
    vocab_list: Sequence[str]

    def decode(self, ids: Sequence[int]) -> str:
        """Convert ids to text; blank, BOS and EOS are skipped, repetitions are kept."""


class PieceVocabulary:
    """Pieces of a SentencePiece tokenizer by id.

    Arguments
    ---------
    pieces : sequence of str
        ``▁`` starts a word; the first pieces are ``<unk>`` (the CTC blank), BOS and EOS.

    Example
    -------
    >>> vocabulary = PieceVocabulary(["<unk>", "<s>", "</s>", "▁a", "b"])
    >>> vocabulary.decode([1, 3, 4, 3, 2])
    'ab a'
    """

    def __init__(self, pieces: Sequence[str]):
        self.vocab_list = list(pieces)
        self.vocab_size = len(self.vocab_list)

    def unknown_characters(self, text: str) -> set[str]:
        """Return the characters of a text that no piece has; white space always has one."""
        known = set("".join(self.vocab_list[max(SPECIAL_TOKENS) + 1 :])) - {WORD_START}
        return set("".join(text.split())) - known

    def decode(self, ids: Sequence[int]) -> str:
        """Convert ids to text; blank, BOS and EOS are skipped, repetitions are kept."""
        joined = "".join(self.vocab_list[i] for i in ids if i not in SPECIAL_TOKENS)
        return " ".join(joined.replace(WORD_START, " ").split())
