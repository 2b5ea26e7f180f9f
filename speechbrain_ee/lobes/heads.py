# SPDX-License-Identifier: Apache-2.0
"""CTC exit heads."""

from __future__ import annotations

import torch
from torch import nn

from speechbrain_ee.lobes.encoder import constructor_arguments
from speechbrain_ee.lobes.exit_output import ExitOutput
from speechbrain_ee.lobes.padding import reverse_within, zero_padding

HEAD_KINDS = ("linear", "norm_linear", "mlp", "blstm")


class CTCHeads(nn.Module):
    """One CTC head per exit, or one shared by all.

    Arguments
    ---------
    num_exits : int
        Number of exits.
    d_model : int
        Width of the encoder.
    vocab_size : int | None
        Number of tokens, including the blank. None means that :meth:`set_vocab_size` makes the layers, when the
        tokenizer is known.
    kind : str
        ``linear`` (as in the paper), ``norm_linear`` (LayerNorm first), ``mlp`` (LayerNorm, one hidden layer with GELU)
        or ``blstm`` (LayerNorm, one bidirectional LSTM; as in a branch of the authors' code, for frozen encoders).
    shared : bool
        True shares one head between all exits (as the published wav2vec2 code does by accident); False gives each exit
        its own, as in the paper.
    hidden_size : int | None
        Hidden size of ``mlp`` (None means ``d_model``) or of each direction of ``blstm`` (None means ``d_model / 2``).
    dropout : float
        Dropout before the last linear layer.

    Example
    -------
    >>> heads = CTCHeads(num_exits=2, d_model=16, vocab_size=30)
    >>> outputs = heads([torch.randn(3, 7, 16)] * 2, torch.tensor([7, 5, 2]))
    >>> [output.log_probs.shape for output in outputs]
    [torch.Size([3, 7, 30]), torch.Size([3, 7, 30])]
    """

    has_decoders = False  # whether any exit has an attention decoder

    def __init__(
        self,
        *,
        num_exits: int,
        d_model: int,
        vocab_size: int | None,
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
        self._sizes = d_model, hidden_size
        self._kind, self._dropout = kind, dropout
        self.heads = nn.ModuleList()
        if vocab_size is not None:
            self.set_vocab_size(vocab_size)

    def set_vocab_size(self, vocab_size: int) -> None:
        """Make the layers of heads that were built with ``vocab_size=None``.

        Raises
        ------
        ValueError
            If the heads have layers.
        """
        if len(self.heads) > 0:
            raise ValueError(f"the heads already have {self.config['vocab_size']} outputs: build them with None")
        self.config["vocab_size"] = vocab_size
        self.heads.extend(self._head() for _ in range(1 if self.shared else self.num_exits))

    def _head(self) -> _Head:
        (width, hidden), vocab, kind = self._sizes, self.config["vocab_size"], self._kind
        layers = [] if kind == "linear" else [nn.LayerNorm(width)]
        if kind == "mlp":
            layers += [nn.Linear(width, hidden or width), nn.GELU()]
            width = hidden or width
        elif kind == "blstm":
            layers.append(_BLSTM(width, hidden or width // 2))
            width = layers[-1].output_size
        return _Head(*layers, nn.Dropout(self._dropout), nn.Linear(width, vocab))

    def head(self, exit_index: int, state: torch.Tensor, lengths: torch.Tensor) -> ExitOutput:
        """Run the head of one exit.

        Arguments
        ---------
        exit_index : int
            Index of the exit.
        state : torch.Tensor
            (batch, frames, d_model).
        lengths : torch.Tensor
            Valid frames, integers, (batch,).

        Returns
        -------
        ExitOutput
            With log-probabilities in float32.
        """
        logits = self.heads[0 if self.shared else exit_index](state, lengths)
        return ExitOutput(logits.float().log_softmax(-1), lengths, state)

    def forward(
        self,
        states: list[torch.Tensor],
        lengths: torch.Tensor,
        tokens: torch.Tensor | None = None,
        token_lengths: torch.Tensor | None = None,
    ) -> list[ExitOutput]:
        """Run all heads.

        Arguments
        ---------
        states : list[torch.Tensor]
            One (batch, frames, d_model) per exit.
        lengths : torch.Tensor
            Valid frames, integers, (batch,).
        tokens : torch.Tensor | None
            Targets (batch, tokens) for teacher forcing of attention decoders; unused by CTC heads.
        token_lengths : torch.Tensor | None
            Valid tokens, integers, (batch,).

        Returns
        -------
        list[ExitOutput]
            One per exit.

        Raises
        ------
        ValueError
            If the number of states is not the number of exits.
        """
        if len(states) != self.num_exits:
            raise ValueError(f"got {len(states)} states for {self.num_exits} exit heads: give one state per exit")
        return [self.head(index, state, lengths) for index, state in enumerate(states)]

    def modules_of(self, exit_index: int) -> list[nn.Module]:
        """Return the modules that a model cut at one exit needs."""
        return [self.heads[0 if self.shared else exit_index]]

    @property
    def may_skip_parameters(self) -> bool:
        """Whether a training step may leave parameters without gradient: DDP must look for unused parameters."""
        return False

    def macs(self, num_output_frames: int) -> int:
        """Return the multiply-accumulates of a head for one utterance of ``num_output_frames`` encoder frames."""
        per_frame = 0
        for module in self.heads[0]:
            if isinstance(module, nn.Linear):
                per_frame += module.in_features * module.out_features
            elif isinstance(module, _BLSTM):
                per_frame += module.macs_per_frame
        return num_output_frames * per_frame


class _Head(nn.Sequential):
    """A sequence of layers, some of which take lengths."""

    def forward(self, state: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        for layer in self:
            state = layer(state, lengths) if isinstance(layer, _BLSTM) else layer(state)
        return state


class _BLSTM(nn.Module):
    """A bidirectional LSTM whose backward direction starts at the utterance's end, not in the padding.

    Equal to one bidirectional ``nn.LSTM`` over a packed batch, which is much slower in training on a CPU.
    """

    def __init__(self, input_size: int, hidden_size: int):
        super().__init__()
        self.ahead, self.back = (nn.LSTM(input_size, hidden_size, batch_first=True) for _ in range(2))

    @property
    def output_size(self) -> int:
        return 2 * self.ahead.hidden_size

    @property
    def macs_per_frame(self) -> int:
        return 2 * 4 * self.ahead.hidden_size * (self.ahead.input_size + self.ahead.hidden_size)

    def forward(self, x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        ahead, back = self.ahead(x)[0], self.back(reverse_within(x, lengths))[0]
        return zero_padding(torch.cat([ahead, reverse_within(back, lengths)], dim=2), lengths)
