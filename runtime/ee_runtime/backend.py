# SPDX-License-Identifier: Apache-2.0
"""The interface between the loop over segments and what computes them: torch in training, onnxruntime on a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from ee_runtime.cost import AttentionCost


class Predictions(NamedTuple):
    """What an attention decoder predicts after each new token, as arrays of any type.

    Arguments
    ---------
    log_probs : array
        Log-probabilities of the next token, (hypotheses, new tokens, vocab).
    best_log_probs : array
        Log-probability of the most probable token, (hypotheses, new tokens).
    best_tokens : array
        The most probable token, (hypotheses, new tokens).
    entropies : array
        Entropy divided by that of a uniform distribution, (hypotheses, new tokens).
    """

    log_probs: Any
    best_log_probs: Any
    best_tokens: Any
    entropies: Any


class AttentionRun(Protocol):
    """An attention decoder that reads texts token by token: one per utterance, or several of one utterance.

    Keys and values of encoder frames and earlier tokens are kept.
    """

    num_tokens: int  # tokens read, including BOS

    def read(self, tokens: Sequence[Sequence[int]]) -> Predictions:
        """Read new tokens, equally many for each hypothesis."""

    def keep(self, rows: Sequence[int]) -> None:
        """Keep the hypotheses at positions ``rows``, which may repeat in a batch of one utterance."""

    def cut(self, num_tokens: int) -> None:
        """Keep only the first ``num_tokens`` tokens."""


class AttentionDecoder(Protocol):
    """The attention decoder of an exit."""

    max_length: int  # largest number of tokens, including BOS
    cost: AttentionCost


class ExitOutput(Protocol):
    """Output of one exit for a batch: CTC log-probabilities in any array type, and what decoders read of them."""

    lengths: Any  # valid frames, an integer array (batch,)
    attention_decoder: AttentionDecoder | None  # None at an exit without one

    @property
    def best_paths(self) -> list[list[int]]:
        """CTC best path of each utterance: the most probable token of each valid frame."""

    @property
    def best_probs(self) -> list[list[float]]:
        """Probability of the most probable token of each valid frame, by utterance."""

    def keep(self, rows: Sequence[int]) -> ExitOutput:
        """Return the utterances at positions ``rows`` (in order), cropped to the longest of them."""

    def row(self, row: int) -> ExitOutput:
        """Return one utterance as a batch of one without padding."""

    def align(self, tokens: Sequence[int]) -> list[int]:
        """Return the most probable CTC path of a text, for a batch of one with enough frames for the text."""

    def start_attention(self) -> AttentionRun:
        """Start the attention decoder of the exit on this batch."""

    def check(self, vocab_size: int) -> None:
        """Check that the output has log-probabilities of ``vocab_size`` tokens; raises ``ValueError``."""


class EncoderRun(Protocol):
    """An encoder that is run segment by segment on a batch."""

    exit_layers: tuple[int, ...]

    def advance(self) -> None:
        """Run the next segment."""

    def output(self, rows: Sequence[int] | None = None) -> ExitOutput:
        """Run the head of the exit that was reached; on the utterances at positions ``rows`` only, if given."""

    def scores(self, output: ExitOutput, previous: ExitOutput | None, names: Sequence[str]) -> list[dict[str, float]]:
        """Compute exit scores by name, one dict per utterance; ``previous`` is the output of the exit before."""

    def keep(self, rows: Sequence[int]) -> None:
        """Keep the utterances at positions ``rows``, cropped to the longest of them."""
