# SPDX-License-Identifier: Apache-2.0
"""The output of an exit for a batch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import torch
from torchaudio.functional import forced_align

from ee_runtime.special_tokens import BLANK_INDEX
from speechbrain_ee.lobes.attention_decoder import AttentionDecoder
from speechbrain_ee.lobes.attention_run import TorchAttentionRun
from speechbrain_ee.lobes.padding import check_lengths, relative_lengths


class _ExitTensors(NamedTuple):
    log_probs: torch.Tensor
    lengths: torch.Tensor
    state: torch.Tensor | None = None
    attention_decoder: AttentionDecoder | None = None
    attention_log_probs: torch.Tensor | None = None
    attention_weight: float = 1.0


class ExitOutput(_ExitTensors):
    """Output of one exit for a batch: the input of losses, exit scores and decoders.

    It is a tuple because DDP finds the tensors in tuples, but not in objects of other classes.

    Arguments
    ---------
    log_probs : torch.Tensor
        CTC log-probabilities, (batch, frames, vocab_size).
    lengths : torch.Tensor
        Valid frames, integers, (batch,).
    state : torch.Tensor | None
        The encoder state that the head received, (batch, frames, d_model).
    attention_decoder : AttentionDecoder | None
        The attention decoder of the exit, not run yet; None at an exit without one.
    attention_log_probs : torch.Tensor | None
        In training: log-probabilities of the attention decoder with the targets as its input, (batch, tokens + 1,
        vocab_size).
    attention_weight : float
        Weight of the attention loss; above 1 if only some of the attention decoders ran in this batch and represent
        the others.

    Example
    -------
    >>> output = ExitOutput(torch.eye(3)[torch.tensor([[2, 2, 0, 1]])].log(), torch.tensor([3]))
    >>> output.best_paths
    [[2, 2, 0]]
    """

    @cached_property
    def best(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Log-probability (float32) and index of the most probable token of each frame, (batch, frames) each."""
        return tuple(self.log_probs.detach().float().max(dim=-1))

    @cached_property
    def best_paths(self) -> list[list[int]]:
        """CTC best path of each utterance: the most probable token of each valid frame."""
        paths = self.best[1].tolist()  # one copy from the device for the whole batch
        return [path[:frames] for path, frames in zip(paths, self.lengths.tolist(), strict=True)]

    @cached_property
    def best_probs(self) -> list[list[float]]:
        """Probability of the most probable token of each valid frame, by utterance."""
        rows = self.best[0].exp().tolist()
        return [row[:frames] for row, frames in zip(rows, self.lengths.tolist(), strict=True)]

    @property
    def wav_lens(self) -> torch.Tensor:
        """Relative lengths in (0, 1], (batch,): what SpeechBrain's own losses and decoders take beside ``log_probs``.

        Example
        -------
        >>> ExitOutput(torch.zeros(2, 4, 3), torch.tensor([4, 3])).wav_lens
        tensor([1.0000, 0.7500])
        """
        return relative_lengths(self.lengths, self.log_probs.shape[1])

    def check(self, vocab_size: int) -> None:
        """Check that the output fits a tokenizer and has integer lengths.

        Raises
        ------
        ValueError
            If the vocabulary has another size, or the lengths are not integers.

        Example
        -------
        >>> ExitOutput(torch.zeros(1, 5, 3), torch.tensor([5])).check(3)
        """
        if self.log_probs.dim() != 3 or self.log_probs.shape[-1] != vocab_size:
            raise ValueError(
                f"log_probs must be (batch, frames, {vocab_size}) for this tokenizer, got {tuple(self.log_probs.shape)}"
            )
        check_lengths(self.lengths, self.log_probs.shape[0])

    def row(self, row: int) -> ExitOutput:
        """Return one utterance as a batch of one without padding."""
        frames = int(self.lengths[row])
        state = None if self.state is None else self.state[row : row + 1, :frames]
        return self._replace(
            log_probs=self.log_probs[row : row + 1, :frames], lengths=self.lengths[row : row + 1], state=state
        )

    def align(self, tokens: Sequence[int]) -> list[int]:
        """Return the most probable CTC path of a text, for a batch of one with enough frames for the text.

        Example
        -------
        >>> log_probs = torch.eye(4)[torch.tensor([[0, 3, 0, 2]])].mul(9).log_softmax(-1)
        >>> ExitOutput(log_probs, torch.tensor([4])).align([3, 2])
        [0, 3, 0, 2]
        """
        targets = torch.tensor([list(tokens)], dtype=torch.int32, device=self.log_probs.device)
        path, _ = forced_align(self.log_probs.detach().float().contiguous(), targets, blank=BLANK_INDEX)
        return path[0].tolist()

    @torch.no_grad()
    def start_attention(self) -> TorchAttentionRun:
        """Start the attention decoder of the exit on this batch."""
        return TorchAttentionRun(self.attention_decoder, self.attention_decoder.start(self.state, self.lengths))

    def keep(self, rows: Sequence[int]) -> ExitOutput:
        """Return the utterances at positions ``rows`` (in order), cropped to the longest of them."""
        if len(rows) == len(self.lengths):
            return self
        index = torch.tensor(rows, device=self.log_probs.device)
        lengths = self.lengths[index]
        frames = int(lengths.max())
        state = None if self.state is None else self.state[index, :frames]
        return self._replace(log_probs=self.log_probs[index, :frames], lengths=lengths, state=state)
