# SPDX-License-Identifier: Apache-2.0
"""The parts of a model as modules that ONNX can express: one per segment, and one per exit."""

from dataclasses import replace

import torch
from torch import nn

from ee_runtime.path_scores import PATH_SCORES
from ee_runtime.policies.scores import COMPUTED
from speechbrain_ee.export.front_ends import front_end_form
from speechbrain_ee.inference.ctc_scores import compute_scores, score_table
from speechbrain_ee.lobes.encoder import EncoderState, ExitEncoder
from speechbrain_ee.lobes.heads import CTCHeads, ExitOutput
from speechbrain_ee.lobes.padding import padding_mask

# The other scores compare two exits or need texts.
GRAPH_SCORES = tuple(name for name in COMPUTED if name not in ("change", *PATH_SCORES))


class SegmentForm(nn.Module):
    """One segment of an encoder: (x, lengths) -> x; the first also returns the lengths after the front-end."""

    def __init__(self, encoder: ExitEncoder, exit_index: int):
        super().__init__()
        self.encoder, self.exit_index = encoder, exit_index
        self.front_end = front_end_form(encoder) if exit_index == 0 else None

    @property
    def part(self) -> nn.ModuleList:
        """Layers of the segment; the rest is the same for all segments, except that the first has the front-end."""
        return nn.ModuleList(self.encoder.layers[layer - 1] for layer in self.encoder.segment(self.exit_index))

    def forward(self, x: torch.Tensor, lengths: torch.Tensor):
        """Run the segment; the input of segment 0 is features (batch, frames, frame_size)."""
        is_first = self.exit_index == 0
        if is_first:
            x, lengths = self.front_end(x, lengths)
        state = EncoderState(x=x, lengths=lengths, segments_run=self.exit_index)
        state = replace(state, **self.encoder.layer_context(x, padding_mask(lengths, x.shape[1])))
        for layer in self.encoder.segment(self.exit_index):
            state = replace(state, x=self.encoder.run_layer(layer, state))
        return (state.x, lengths) if is_first else state.x


class ExitForm(nn.Module):
    """The head and the scores of one exit.

    (x, lengths) -> log_probs (batch, frames, vocab), best_log_probs and best_tokens (batch, frames), scores (batch,
    number of :data:`GRAPH_SCORES`); at an exit with an attention decoder also the state that it reads, (batch, frames,
    d_model).
    """

    def __init__(self, encoder: ExitEncoder, heads: CTCHeads, exit_index: int):
        super().__init__()
        self.encoder, self.heads, self.exit_index = encoder, heads, exit_index

    @property
    def part(self) -> nn.Module:
        """Head of the exit; the rest is the same for all exits."""
        return self.heads.heads[0 if self.heads.shared else self.exit_index]

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Run the head on the state (batch, frames, d_model) after the segment."""
        output = self.heads.head(self.exit_index, self.encoder.exit_state(x), lengths)
        best_log_probs, best_tokens = output.best
        table = score_table(output, names=GRAPH_SCORES)
        states = () if output.attention_decoder is None else (output.state,)
        return output.log_probs, best_log_probs, best_tokens, table, *states


class ChangeForm(nn.Module):
    """The exit score ``change``: (log_probs, previous_log_probs, lengths) -> (batch,)."""

    def forward(self, log_probs: torch.Tensor, previous_log_probs: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Compare the log-probabilities (batch, frames, vocab) of two successive exits."""
        output, previous = (ExitOutput(one, lengths) for one in (log_probs, previous_log_probs))
        return compute_scores(output, previous, names=["change"])["change"]
