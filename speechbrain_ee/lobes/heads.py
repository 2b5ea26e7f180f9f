# SPDX-License-Identifier: Apache-2.0
"""Exit heads: what turns an encoder state into log-probabilities."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence

from speechbrain_ee.lobes.attention_decoder import AttentionDecoder
from speechbrain_ee.lobes.encoder import constructor_arguments

HEAD_KINDS = ("linear", "norm_linear", "mlp")


class ExitOutput(NamedTuple):
    """What one exit gives for a batch: all that losses, exit scores and decoders need.

    A tuple, because DDP looks for tensors in those, and not in objects of other kinds.

    Arguments
    ---------
    log_probs : torch.Tensor
        CTC log-probabilities, (batch, frames, vocab_size).
    lengths : torch.Tensor
        Valid frames, integers, (batch,).
    state : torch.Tensor | None
        The encoder state that the head saw, (batch, frames, d_model).
    decoder : AttentionDecoder | None
        The exit's attention decoder, where it has one: it has not been run yet.
    attention_log_probs : torch.Tensor | None
        In training: log-probabilities of the decoder that was told the targets, (batch, tokens + 1, vocab_size).
    attention_weight : float
        Of their loss; above 1 where only some exits' decoders were run and these stand for the others.
    """

    log_probs: torch.Tensor
    lengths: torch.Tensor
    state: torch.Tensor | None = None
    decoder: AttentionDecoder | None = None
    attention_log_probs: torch.Tensor | None = None
    attention_weight: float = 1.0

    def row(self, row: int) -> ExitOutput:
        """One utterance, as a batch of one without padding."""
        frames = int(self.lengths[row])
        state = None if self.state is None else self.state[row : row + 1, :frames]
        return self._replace(
            log_probs=self.log_probs[row : row + 1, :frames], lengths=self.lengths[row : row + 1], state=state
        )

    @classmethod
    def join(cls, outputs: Sequence[ExitOutput]) -> ExitOutput:
        """A batch of what one exit gave for single utterances, see :meth:`row`."""
        first = outputs[0]

        def padded(rows: list[torch.Tensor]) -> torch.Tensor:
            return pad_sequence([row[0] for row in rows], batch_first=True)

        return first._replace(
            log_probs=padded([one.log_probs for one in outputs]),
            lengths=torch.cat([one.lengths for one in outputs]),
            state=None if first.state is None else padded([one.state for one in outputs]),
        )

    def keep(self, index: torch.Tensor) -> ExitOutput:
        """The utterances at positions ``index`` (integers, (remaining,)), with the padding that they have."""
        state = None if self.state is None else self.state[index]
        return self._replace(log_probs=self.log_probs[index], lengths=self.lengths[index], state=state)


class CTCHeads(nn.Module):
    """One CTC head per exit, or one shared by all.

    Arguments
    ---------
    num_exits : int
        Number of exits.
    d_model : int
        Width of the encoder.
    vocab_size : int
        Tokens, blank included.
    kind : str
        ``linear`` (the paper), ``norm_linear`` (LayerNorm first), or ``mlp`` (LayerNorm, one hidden layer, GELU).
    shared : bool
        True: all exits use one head (the published wav2vec2 code does so by accident); False: untied, as in the paper.
    hidden_size : int | None
        Of ``mlp``; None means ``d_model``.
    dropout : float
        Before the last linear layer.

    Example
    -------
    >>> heads = CTCHeads(num_exits=2, d_model=16, vocab_size=30)
    >>> outputs = heads([torch.randn(3, 7, 16)] * 2, torch.tensor([7, 5, 2]))
    >>> [output.log_probs.shape for output in outputs]
    [torch.Size([3, 7, 30]), torch.Size([3, 7, 30])]
    """

    has_decoders = False  # attention decoders, at some exit at least

    def __init__(
        self,
        *,
        num_exits: int,
        d_model: int,
        vocab_size: int,
        kind: str = "linear",
        shared: bool = False,
        hidden_size: int | None = None,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.config = constructor_arguments(locals())
        if kind not in HEAD_KINDS:
            raise ValueError(f"head kind {kind!r} is not one of {', '.join(HEAD_KINDS)}")
        if num_exits < 1:
            raise ValueError(f"num_exits={num_exits}: give at least 1")
        self.num_exits = num_exits
        self.shared = shared
        self.heads = nn.ModuleList(self._head() for _ in range(1 if shared else num_exits))

    def _head(self) -> nn.Sequential:
        width, vocab, kind = self.config["d_model"], self.config["vocab_size"], self.config["kind"]
        hidden = self.config["hidden_size"] or width
        layers = []
        if kind != "linear":
            layers.append(nn.LayerNorm(width))
        if kind == "mlp":
            layers += [nn.Linear(width, hidden), nn.GELU()]
        layers += [nn.Dropout(self.config["dropout"]), nn.Linear(hidden if kind == "mlp" else width, vocab)]
        return nn.Sequential(*layers)

    def head(self, exit_index: int, state: torch.Tensor, lengths: torch.Tensor) -> ExitOutput:
        """Head of one exit.

        Arguments
        ---------
        exit_index : int
            Which one.
        state : torch.Tensor
            (batch, frames, d_model).
        lengths : torch.Tensor
            Valid frames, integers, (batch,).

        Returns
        -------
        ExitOutput
            Its log-probabilities are float32.
        """
        logits = self.heads[0 if self.shared else exit_index](state)
        return ExitOutput(logits.float().log_softmax(-1), lengths, state)

    def forward(
        self,
        states: list[torch.Tensor],
        lengths: torch.Tensor,
        tokens: torch.Tensor | None = None,
        token_lengths: torch.Tensor | None = None,
    ) -> list[ExitOutput]:
        """All heads.

        Arguments
        ---------
        states : list[torch.Tensor]
            One (batch, frames, d_model) per exit.
        lengths : torch.Tensor
            Valid frames, integers, (batch,).
        tokens : torch.Tensor | None
            Targets (batch, tokens), for heads that are trained by telling them what came before; CTC needs none.
        token_lengths : torch.Tensor | None
            Valid tokens, integers, (batch,).

        Returns
        -------
        list[ExitOutput]
            One per exit.

        Raises
        ------
        ValueError
            If there are more or fewer states than exits.
        """
        if len(states) != self.num_exits:
            raise ValueError(f"got {len(states)} states for {self.num_exits} exit heads: give one state per exit")
        return [self.head(index, state, lengths) for index, state in enumerate(states)]

    def modules_of(self, exit_index: int) -> list[nn.Module]:
        """What a model that is cut at one exit needs of the heads."""
        return [self.heads[0 if self.shared else exit_index]]

    @property
    def may_skip_parameters(self) -> bool:
        """Whether a training step may leave some of the parameters without a gradient, for which DDP would wait."""
        return False

    def macs(self, num_output_frames: int) -> int:
        """Multiply-accumulates of one head for one utterance of ``num_output_frames`` encoder frames."""
        linears = [module for module in self.heads[0] if isinstance(module, nn.Linear)]
        return num_output_frames * sum(linear.in_features * linear.out_features for linear in linears)
