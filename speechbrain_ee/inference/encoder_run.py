# SPDX-License-Identifier: Apache-2.0
"""Run an encoder of torch segment by segment, as the loop of :mod:`ee_runtime.segments` asks for it."""

from collections.abc import Sequence

import torch

from speechbrain_ee.inference.ctc_scores import output_scores
from speechbrain_ee.lobes.encoder import ExitEncoder
from speechbrain_ee.lobes.heads import CTCHeads, ExitOutput


class TorchRun:
    """An encoder with the features of a batch, see :class:`ee_runtime.backend.EncoderRun`.

    Arguments
    ---------
    encoder : ExitEncoder
        The encoder.
    heads : CTCHeads
        Heads of the exits.
    feats : torch.Tensor
        (batch, frames, frame_size).
    num_frames : torch.Tensor
        (batch,) valid frames, integers.
    """

    def __init__(self, encoder: ExitEncoder, heads: CTCHeads, feats: torch.Tensor, num_frames: torch.Tensor):
        self.exit_layers = encoder.exit_layers
        self._encoder, self._heads = encoder, heads
        self._state, self._exit_state = encoder.start(feats, num_frames), None

    def advance(self) -> None:
        """Run the next segment."""
        self._state, self._exit_state = self._encoder.advance(self._state)

    def output(self, rows: Sequence[int] | None = None) -> ExitOutput:
        """Run the head of the exit that was reached; on the utterances at positions ``rows`` only, if given."""
        index = slice(None) if rows is None else self._index(rows)
        exit_index = self._state.segments_run - 1
        return self._heads.head(exit_index, self._exit_state[index], self._state.lengths[index])

    def scores(self, output: ExitOutput, previous: ExitOutput | None, names: Sequence[str]) -> list[dict[str, float]]:
        """Compute exit scores by name, one dict per utterance."""
        return output_scores(output, previous, names=names)

    def keep(self, rows: Sequence[int]) -> None:
        """Keep the utterances at positions ``rows``, cropped to the longest of them."""
        self._state = self._encoder.keep(self._state, self._index(rows))

    def _index(self, rows: Sequence[int]) -> torch.Tensor:
        return torch.tensor(rows, device=self._state.lengths.device)
