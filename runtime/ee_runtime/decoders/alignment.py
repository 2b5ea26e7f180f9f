# SPDX-License-Identifier: Apache-2.0
"""Times of the words of an attention decoder's text, by forced alignment with the exit's CTC head."""

from __future__ import annotations

from collections.abc import Sequence

from ee_runtime.backend import ExitOutput
from ee_runtime.special_tokens import BLANK_INDEX
from ee_runtime.text.ctc_paths import ctc_frames_needed, token_runs
from ee_runtime.text.spans import Span, word_positions
from ee_runtime.text.vocabulary import Vocabulary


def align_words(output: ExitOutput, tokens: Sequence[int], probs: Sequence[float], tokenizer: Vocabulary) -> list[Span]:
    """Align the words of a text to frames.

    Arguments
    ---------
    output : ExitOutput
        Output of an exit for one utterance.
    tokens : sequence of int
        Tokens of the text.
    probs : sequence of float
        Probability of each token; the confidence of a word is the lowest probability of its tokens.
    tokenizer : Vocabulary
        Its pieces mark the beginnings of words.

    Returns
    -------
    list of Span
        Words in order; at equal distances if the text needs more frames than there are.

    Example
    -------
    >>> import numpy as np
    >>> from ee_runtime.text.vocabulary import PieceVocabulary
    >>> class Output:
    ...     lengths = np.array([5])
    ...     def align(self, tokens):
    ...         return [0, 0, 3, 4, 0]
    >>> vocabulary = PieceVocabulary(["<unk>", "<s>", "</s>", "▁", "b"])
    >>> align_words(Output(), [3, 4], [0.9, 0.8], vocabulary)
    [Span(text='b', start=3, end=4, confidence=0.8)]
    """
    if not tokens:
        return []
    places = _token_frames(output, tokens)
    return [
        Span(
            text=tokenizer.decode([tokens[i] for i in word]),
            start=places[word[0]][0],
            end=places[word[-1]][1],
            confidence=min(probs[i] for i in word),
        )
        for word in word_positions(tokens, tokenizer)
    ]


def _token_frames(output: ExitOutput, tokens: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first frame of each token and the frame after its last."""
    (frames,) = output.lengths.tolist()
    if ctc_frames_needed(tokens) > frames or BLANK_INDEX in tokens:
        return [
            (frames * i // len(tokens), max(frames * i // len(tokens) + 1, frames * (i + 1) // len(tokens)))
            for i in range(len(tokens))
        ]
    return [(start, end) for _, start, end in token_runs(output.align(tokens))]
