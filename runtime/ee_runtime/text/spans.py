# SPDX-License-Identifier: Apache-2.0
"""Recognised words with their frames and confidences."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from ee_runtime.special_tokens import SPECIAL_TOKENS
from ee_runtime.text.ctc_paths import token_runs

if TYPE_CHECKING:
    from ee_runtime.text.vocabulary import Vocabulary

WORD_START = "▁"  # SentencePiece marks the beginning of a word with it


class Span(NamedTuple):
    """A recognised word and its position in the encoder output.

    Arguments
    ---------
    text : str
        The word.
    start : int
        First frame of the word.
    end : int
        Frame after its last frame.
    confidence : float
        Lowest probability of its tokens.
    """

    text: str
    start: int
    end: int
    confidence: float

    @classmethod
    def of_frames(cls, text: str, start: int, end: int, confidences: Sequence[float]) -> Span:
        """Make the span of a word whose confidence is the lowest confidence of its frames."""
        return cls(text, start, end, min(confidences[start : max(end, start + 1)], default=0.0))


def word_positions(tokens: Sequence[int], tokenizer: Vocabulary) -> list[list[int]]:
    """Return the positions of each word's tokens in a sequence of tokens.

    Arguments
    ---------
    tokens : sequence of int
        Tokens without CTC repetitions; blank, BOS and EOS are skipped.
    tokenizer : Vocabulary
        Its pieces mark the beginnings of words.

    Returns
    -------
    list of list of int
        One list per word; a piece that is a space alone belongs to no word.

    Example
    -------
    >>> from ee_runtime.text.vocabulary import PieceVocabulary
    >>> word_positions([3, 4, 5, 3, 5], PieceVocabulary(["<unk>", "<s>", "</s>", "▁", "a", "b"]))
    [[1, 2], [4]]
    """
    pieces = tokenizer.vocab_list
    words: list[list[int]] = []
    is_new = True
    for position, token in enumerate(tokens):
        if token in SPECIAL_TOKENS:
            continue
        is_new = is_new or pieces[token].startswith(WORD_START)
        if pieces[token] == WORD_START:
            continue
        if is_new:
            words.append([])
        words[-1].append(position)
        is_new = False
    return words


def greedy_spans(path: Sequence[int], confidences: Sequence[float], tokenizer: Vocabulary) -> list[Span]:
    """Return the words of a CTC best path.

    Arguments
    ---------
    path : sequence of int
        Most probable token of each frame.
    confidences : sequence of float
        Confidence of each frame, see :func:`~ee_runtime.decoders.base.frame_confidences`.
    tokenizer : Vocabulary
        Its pieces mark the beginnings of words.

    Returns
    -------
    list of Span
        Words in order; joined by spaces they are the greedy text.

    Example
    -------
    >>> from ee_runtime.text.vocabulary import PieceVocabulary
    >>> vocabulary = PieceVocabulary(["<unk>", "<s>", "</s>", "▁", "a", "b"])
    >>> greedy_spans([0, 4, 4, 0, 3, 5, 5], [1.0, 0.5, 0.25, 1.0, 0.1, 0.5, 0.5], vocabulary)
    [Span(text='a', start=1, end=3, confidence=0.25), Span(text='b', start=5, end=7, confidence=0.5)]
    """
    runs = token_runs(path)
    return [
        Span.of_frames(tokenizer.decode([runs[i][0] for i in word]), runs[word[0]][1], runs[word[-1]][2], confidences)
        for word in word_positions([token for token, _, _ in runs], tokenizer)
    ]
