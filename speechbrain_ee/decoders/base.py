# SPDX-License-Identifier: Apache-2.0
"""The interface of decoders, their result, and functions that several decoders share."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from speechbrain_ee.lobes.padding import check_lengths
from speechbrain_ee.special_tokens import BLANK_INDEX
from speechbrain_ee.text.ctc_paths import collapse

if TYPE_CHECKING:
    from speechbrain_ee.lobes.heads import ExitOutput
    from speechbrain_ee.text.spans import Span

N_BEST = 10  # hypotheses of a beam among which the posterior is shared


@dataclass(frozen=True)
class Decoded:
    """Text of one utterance and further results of its decoder.

    Arguments
    ---------
    text : str
        The recognised words, separated by spaces.
    spans : list of Span
        Each word with its frames and confidence.
    scores : dict
        Exit scores that only this decoder can compute.
    macs : int
        Multiply-accumulates of the attention decoder; 0 without one.
    ctc_text : str | None
        Greedy text of the exit's CTC head; None if the decoder itself uses CTC only.
    """

    text: str
    spans: list[Span]
    scores: dict[str, float] = field(default_factory=dict)
    macs: int = 0
    ctc_text: str | None = None


class Decoder(ABC):
    """Makes text from the output of an exit.

    ``name`` describes the decoder and its settings in reports.
    """

    name: str

    @abstractmethod
    def decode(self, output: ExitOutput) -> list[Decoded]:
        """Decode a batch; the result of an utterance does not depend on the others.

        Arguments
        ---------
        output : ExitOutput
            Output of one exit.

        Returns
        -------
        list of Decoded
            One per utterance.
        """

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.name}>"


def best_tokens(output: ExitOutput) -> list[list[int]]:
    """Return the tokens of each utterance's CTC best path, without repetitions and blanks."""
    return [collapse(path) for path in output.best_paths]


def frame_confidences(output: ExitOutput) -> list[list[float]]:
    """Return the probability of the best token of each valid frame, and 1 for a blank, which belongs to no word."""
    log_probs, tokens = output.best
    rows = log_probs.exp().masked_fill(tokens == BLANK_INDEX, 1.0).tolist()
    return [row[:frames] for row, frames in zip(rows, output.lengths.tolist(), strict=True)]


def share_of_first(scores: list[float]) -> float:
    """Return the share of the first hypothesis in the probability of an n-best list, given log-probabilities.

    Example
    -------
    >>> share_of_first([-1.0, -1.0])
    0.5
    """
    return float(torch.tensor(scores, dtype=torch.float64).softmax(0)[0])


def check_output(output: ExitOutput, vocab_size: int) -> None:
    """Check that an exit's output fits the tokenizer and has integer lengths.

    Arguments
    ---------
    output : ExitOutput
        The output to be decoded.
    vocab_size : int
        Vocabulary size of the tokenizer.

    Raises
    ------
    ValueError
        If the vocabulary has another size, or the lengths are not integers.

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
