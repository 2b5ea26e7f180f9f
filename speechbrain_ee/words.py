# SPDX-License-Identifier: Apache-2.0
"""Words with their times and how sure the model is of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import NamedTuple

from torch import Tensor

from speechbrain_ee.confidence import interpolate
from speechbrain_ee.tokenizer import BLANK_INDEX, BOS_INDEX, EOS_INDEX, Tokenizer

NO_TEXT = (BLANK_INDEX, BOS_INDEX, EOS_INDEX)
WORD_START = "▁"  # SentencePiece's


@dataclass(frozen=True)
class Word:
    """One recognised word.

    Arguments
    ---------
    text : str
        The word.
    start : float
        Seconds from the beginning of the recording.
    end : float
        Seconds from the beginning of the recording.
    confidence : float
        In [0, 1]: the chance that the word is right where the model was calibrated, else the lowest probability of its
        tokens.
    """

    text: str
    start: float
    end: float
    confidence: float

    def later(self, seconds: float) -> Word:
        """Move the word."""
        return replace(self, start=self.start + seconds, end=self.end + seconds)


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


def frame_confidences(log_probs: Tensor) -> tuple[list[list[float]], list[list[int]]]:
    """Probability of the best token of every frame, and that token; a blank is sure: it says nothing of a word.

    Arguments
    ---------
    log_probs : Tensor
        (batch, frames, vocab).

    Returns
    -------
    tuple of list
        Probabilities and tokens, (batch, frames) each.
    """
    surest, best = log_probs.detach().float().max(dim=-1)
    return surest.exp().masked_fill(best == BLANK_INDEX, 1.0).tolist(), best.tolist()


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
        if token in NO_TEXT:
            continue
        is_new = is_new or pieces[token].startswith(WORD_START)
        if pieces[token] == WORD_START:
            continue
        if is_new:
            words.append([])
        words[-1].append(position)
        is_new = False
    return words


def token_runs(path: Sequence[int]) -> list[tuple[int, int, int]]:
    """Tokens of a CTC path, each with its first frame and the frame after its last.

    Example
    -------
    >>> token_runs([0, 5, 5, 0, 5, 6])
    [(5, 1, 3), (5, 4, 5), (6, 5, 6)]
    """
    found, frame = [], 0
    for token, run in groupby(path):
        start, frame = frame, frame + len(list(run))
        if token != BLANK_INDEX:
            found.append((token, start, frame))
    return found


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


def make_words(
    spans: Sequence[Span], *, seconds_per_frame: float, duration: float, calibration: Mapping | None = None
) -> list[Word]:
    """Give words their times in seconds and calibrated confidences.

    Arguments
    ---------
    spans : sequence of Span
        What a decoder found.
    seconds_per_frame : float
        Of the encoder's output.
    duration : float
        Seconds of audio, where the last word ends at the latest.
    calibration : mapping, optional
        Knots of :func:`~speechbrain_ee.confidence.fit_isotonic` for this exit.

    Returns
    -------
    list of Word
        In order.
    """
    return [
        Word(
            text=span.text,
            start=min(span.start * seconds_per_frame, duration),
            end=min(span.end * seconds_per_frame, duration),
            confidence=span.confidence if calibration is None else interpolate(calibration, span.confidence),
        )
        for span in spans
    ]
