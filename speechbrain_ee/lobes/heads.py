# SPDX-License-Identifier: Apache-2.0
"""Exit heads: what turns an encoder state into log-probabilities."""

import torch
from torch import nn

from speechbrain_ee.lobes.encoder import constructor_arguments

HEAD_KINDS = ("linear", "norm_linear", "mlp")


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
    >>> [log_probs.shape for log_probs in heads([torch.randn(3, 7, 16)] * 2)]
    [torch.Size([3, 7, 30]), torch.Size([3, 7, 30])]
    """

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

    def head(self, exit_index: int, state: torch.Tensor) -> torch.Tensor:
        """Head of one exit: state (batch, frames, d_model) -> log_probs (batch, frames, vocab_size), float32."""
        logits = self.heads[0 if self.shared else exit_index](state)
        return logits.float().log_softmax(-1)

    def forward(self, states: list[torch.Tensor]) -> list[torch.Tensor]:
        """All heads: one state (batch, frames, d_model) per exit -> one log_probs per exit.

        Raises
        ------
        ValueError
            If there are more or fewer states than exits.
        """
        if len(states) != self.num_exits:
            raise ValueError(f"got {len(states)} states for {self.num_exits} exit heads: give one state per exit")
        return [self.head(index, state) for index, state in enumerate(states)]

    def macs(self, num_output_frames: int) -> int:
        """Multiply-accumulates of one head for one utterance of ``num_output_frames`` encoder frames."""
        linears = [module for module in self.heads[0] if isinstance(module, nn.Linear)]
        return num_output_frames * sum(linear.in_features * linear.out_features for linear in linears)
