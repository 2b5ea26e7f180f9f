# SPDX-License-Identifier: Apache-2.0
"""Times of the words of an attention decoder's text, by forced alignment with the exit's CTC head."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torchaudio.functional import forced_align

from ee_runtime.special_tokens import BLANK_INDEX
from ee_runtime.text.ctc_paths import ctc_frames_needed, token_runs
from ee_runtime.text.spans import Span, word_positions

if TYPE_CHECKING:
    from speechbrain_ee.lobes.heads import ExitOutput
    from speechbrain_ee.text.tokenizer import Tokenizer


def align_words(output: ExitOutput, tokens: Sequence[int], probs: Sequence[float], tokenizer: Tokenizer) -> list[Span]:
    """Align the words of a text to frames.

    Arguments
    ---------
    output : ExitOutput
        Output of an exit for one utterance.
    tokens : sequence of int
        Tokens of the text.
    probs : sequence of float
        Probability of each token; the confidence of a word is the lowest probability of its tokens.
    tokenizer : Tokenizer
        Its pieces mark the beginnings of words.

    Returns
    -------
    list of Span
        Words in order; at equal distances if the text needs more frames than there are.

    Example
    -------
    >>> from speechbrain_ee.lobes.heads import ExitOutput
    >>> from speechbrain_ee.text.tokenizer import Tokenizer
    >>> tokenizer = Tokenizer.train(["a b"], path=getfixture("tmp_path") / "char.model", model_type="char")
    >>> tokens = tokenizer.encode("b")
    >>> frames = torch.tensor([0, 0, tokens[0], tokens[1], 0])
    >>> log_probs = torch.nn.functional.one_hot(frames, tokenizer.vocab_size).float().mul(9).log_softmax(-1)
    >>> align_words(ExitOutput(log_probs.unsqueeze(0), torch.tensor([5])), tokens, [0.9, 0.8], tokenizer)
    [Span(text='b', start=3, end=4, confidence=0.8)]
    """
    if not tokens:
        return []
    places = _token_frames(output.log_probs, tokens)
    return [
        Span(
            text=tokenizer.decode([tokens[i] for i in word]),
            start=places[word[0]][0],
            end=places[word[-1]][1],
            confidence=min(probs[i] for i in word),
        )
        for word in word_positions(tokens, tokenizer)
    ]


def _token_frames(log_probs: torch.Tensor, tokens: Sequence[int]) -> list[tuple[int, int]]:
    """Return the first frame of each token and the frame after its last."""
    frames = log_probs.shape[1]
    if ctc_frames_needed(tokens) > frames or BLANK_INDEX in tokens:
        return [
            (frames * i // len(tokens), max(frames * i // len(tokens) + 1, frames * (i + 1) // len(tokens)))
            for i in range(len(tokens))
        ]
    targets = torch.tensor([list(tokens)], dtype=torch.int32, device=log_probs.device)
    path, _ = forced_align(log_probs.detach().float().contiguous(), targets, blank=BLANK_INDEX)
    return [(start, end) for _, start, end in token_runs(path[0].tolist())]
