# SPDX-License-Identifier: Apache-2.0
"""Words with their times and how sure the model is of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby

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


def greedy_spans(best: Sequence[int], tokenizer: Tokenizer, blank_index: int) -> list[tuple[str, int, int]]:
    """Words of a CTC best path with their first frame and the frame after their last.

    Arguments
    ---------
    best : sequence of int
        Best token of each frame.
    tokenizer : Tokenizer
        Its pieces say where words start.
    blank_index : int
        Index of the CTC blank.

    Returns
    -------
    list of tuple
        Their texts, joined by spaces, are the greedy text.

    Example
    -------
    >>> path = getfixture("tmp_path") / "char.model"
    >>> tokenizer = Tokenizer.train(["a b"], path=path, model_type="char")
    >>> space, a, b = (tokenizer.vocab_list.index(piece) for piece in "▁ab")
    >>> greedy_spans([0, a, a, 0, space, b, b], tokenizer, blank_index=0)
    [('a', 1, 3), ('b', 5, 7)]
    """
    pieces = tokenizer.vocab_list
    words: list[tuple[list[int], int, int]] = []
    frame, is_new = 0, True
    for token, run in groupby(best):
        start, frame = frame, frame + len(list(run))
        if token == blank_index or token in NO_TEXT:
            continue
        is_new = is_new or pieces[token].startswith(WORD_START)
        if pieces[token] == WORD_START:
            continue
        if is_new:
            words.append(([token], start, frame))
        else:
            tokens, first, _ = words[-1]
            words[-1] = ([*tokens, token], first, frame)
        is_new = False
    return [(tokenizer.decode(tokens), start, end) for tokens, start, end in words]


def make_words(
    spans: Sequence[tuple[str, int, int]],
    log_probs: Tensor,
    *,
    seconds_per_frame: float,
    blank_index: int,
    calibration: Mapping | None = None,
) -> list[Word]:
    """Give words their times and confidences.

    Arguments
    ---------
    spans : sequence of tuple
        Text, first frame, frame after the last.
    log_probs : Tensor
        (frames, vocab) of the exit taken.
    seconds_per_frame : float
        Of the encoder's output.
    blank_index : int
        Index of the CTC blank.
    calibration : mapping, optional
        Knots of :func:`~speechbrain_ee.confidence.fit_isotonic` for this exit.

    Returns
    -------
    list of Word
        In order.
    """
    surest, best = log_probs.float().max(dim=-1)
    probs = surest.exp().masked_fill(best == blank_index, 1.0).tolist()  # a blank within a word says nothing of it
    found = []
    for text, start, end in spans:
        confidence = min(probs[start : max(end, start + 1)], default=0.0)
        if calibration is not None:
            confidence = interpolate(calibration, confidence)
        found.append(Word(text, start * seconds_per_frame, end * seconds_per_frame, confidence))
    return found
