# SPDX-License-Identifier: Apache-2.0
"""The interface between the loop over segments and what computes them: torch in training, onnxruntime on a device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol


class ExitOutput(Protocol):
    """Output of one exit for a batch: CTC log-probabilities in any array type, and what decoders read of them."""

    @property
    def best_paths(self) -> list[list[int]]:
        """CTC best path of each utterance: the most probable token of each valid frame."""

    @property
    def best_probs(self) -> list[list[float]]:
        """Probability of the most probable token of each valid frame, by utterance."""

    def keep(self, rows: Sequence[int]) -> ExitOutput:
        """Return the utterances at positions ``rows`` (in order), cropped to the longest of them."""

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
