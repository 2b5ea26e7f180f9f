# SPDX-License-Identifier: Apache-2.0
"""What every decoder gives, and what it is refused for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from speechbrain_ee.lobes.padding import check_lengths
from speechbrain_ee.special_tokens import BLANK_INDEX

if TYPE_CHECKING:
    from speechbrain_ee.lobes.heads import ExitOutput
    from speechbrain_ee.text.spans import Span

N_BEST = 10  # hypotheses of a beam that share the posterior


@dataclass(frozen=True)
class Decoded:
    """One utterance's text and what else its decoder knows.

    Arguments
    ---------
    text : str
        The words.
    spans : list of Span
        Each word with its frames and confidence.
    scores : dict
        Exit scores that only decoding gives.
    macs : int
        Multiply-accumulates of the attention decoder; 0 where there is none.
    ctc_text : str | None
        What the exit's CTC head says, best path; None where decoding is by CTC altogether.
    """

    text: str
    spans: list[Span]
    scores: dict[str, float] = field(default_factory=dict)
    macs: int = 0
    ctc_text: str | None = None


def share_of_first(scores: list[float]) -> float:
    """Share of the first hypothesis in the probability of an n-best list, by their logarithms.

    Example
    -------
    >>> share_of_first([-1.0, -1.0])
    0.5
    """
    return float(torch.tensor(scores, dtype=torch.float64).softmax(0)[0])


def check_output(output: ExitOutput, vocab_size: int) -> None:
    """Refuse the output of another model, and relative lengths.

    Arguments
    ---------
    output : ExitOutput
        What is to be decoded.
    vocab_size : int
        Of the tokenizer.

    Raises
    ------
    ValueError
        If the vocabulary is another one, or lengths are not integers.

    Example
    -------
    >>> from speechbrain_ee.lobes.heads import ExitOutput
    >>> check_output(ExitOutput(torch.zeros(1, 5, 3), torch.tensor([5])), 3)
    """
    log_probs = output.log_probs
    if log_probs.dim() != 3 or log_probs.shape[-1] != vocab_size:
        raise ValueError(
            f"log_probs must be (batch, frames, {vocab_size}) for this tokenizer, got {tuple(log_probs.shape)}"
        )
    check_lengths(output.lengths, log_probs.shape[0])


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
