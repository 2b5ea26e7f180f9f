# SPDX-License-Identifier: Apache-2.0
"""Words with their times and how sure the model is of each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from speechbrain_ee.special_tokens import SPECIAL_TOKENS
from speechbrain_ee.text.ctc_paths import token_runs
from speechbrain_ee.text.tokenizer import Tokenizer

WORD_START = "▁"  # SentencePiece's


class Span(NamedTuple):
    """A word as a decoder gives it.

    Arguments
    ---------
    text : str
        The word.
    start : int
        Its first frame.
    end : int
        The frame after its last.
    confidence : float
        The lowest probability of its tokens.
    """

    text: str
    start: int
    end: int
    confidence: float

    @classmethod
    def of_frames(cls, text: str, start: int, end: int, confidences: Sequence[float]) -> Span:
        """A word that is as sure as the least sure of its frames."""
        return cls(text, start, end, min(confidences[start : max(end, start + 1)], default=0.0))


def word_positions(tokens: Sequence[int], tokenizer: Tokenizer) -> list[list[int]]:
    """Where in a row of tokens each word's tokens are.

    Arguments
    ---------
    tokens : sequence of int
        Without repetitions of CTC; blank, BOS and EOS are skipped.
    tokenizer : Tokenizer
        Its pieces say where words start.

    Returns
    -------
    list of list of int
        Positions of each word's tokens; a space of its own belongs to no word.

    Example
    -------
    >>> path = getfixture("tmp_path") / "char.model"
    >>> tokenizer = Tokenizer.train(["a b"], path=path, model_type="char")
    >>> word_positions(tokenizer.encode("ab b"), tokenizer)
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


def greedy_spans(best: Sequence[int], confidences: Sequence[float], tokenizer: Tokenizer) -> list[Span]:
    """Words of a CTC best path.

    Arguments
    ---------
    best : sequence of int
        Best token of each frame.
    confidences : sequence of float
        Of each frame, see :func:`frame_confidences`.
    tokenizer : Tokenizer
        Its pieces say where words start.

    Returns
    -------
    list of Span
        Their texts, joined by spaces, are the greedy text.

    Example
    -------
    >>> path = getfixture("tmp_path") / "char.model"
    >>> tokenizer = Tokenizer.train(["a b"], path=path, model_type="char")
    >>> space, a, b = (tokenizer.vocab_list.index(piece) for piece in "▁ab")
    >>> greedy_spans([0, a, a, 0, space, b, b], [1.0, 0.5, 0.25, 1.0, 0.1, 0.5, 0.5], tokenizer)
    [Span(text='a', start=1, end=3, confidence=0.25), Span(text='b', start=5, end=7, confidence=0.5)]
    """
    runs = token_runs(best)
    return [
        Span.of_frames(tokenizer.decode([runs[i][0] for i in word]), runs[word[0]][1], runs[word[-1]][2], confidences)
        for word in word_positions([token for token, _, _ in runs], tokenizer)
    ]
