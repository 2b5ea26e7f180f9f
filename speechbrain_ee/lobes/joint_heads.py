# SPDX-License-Identifier: Apache-2.0
"""Hybrid CTC/attention heads: CTC heads with attention decoders at some or all exits."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from ee_runtime.special_tokens import BOS_INDEX
from speechbrain_ee.lobes.attention_decoder import AttentionDecoder
from speechbrain_ee.lobes.encoder import check_exit_layers, constructor_arguments
from speechbrain_ee.lobes.heads import CTCHeads, ExitOutput

DECODER_KINDS = ("shared", "per_exit")


class JointHeads(CTCHeads):
    """CTC heads at every exit, and attention decoders at some or all of them.

    The scores of the CTC heads decide where an utterance stops. The decoder runs once, at the exit taken. Wright et
    al., arXiv 2309.09546, use one decoder per exit; the loss is that of Watanabe et al., "Hybrid CTC/attention
    architecture", 2017.

    Arguments
    ---------
    exit_layers : Sequence[int]
        The encoder's exit layers.
    d_model : int
        Width of the encoder and of the decoders.
    vocab_size : int | None
        Number of tokens, including blank, BOS and EOS; None: see :meth:`CTCHeads.set_vocab_size`.
    nhead : int
        Number of attention heads of a decoder.
    d_ffn : int
        Width of the feed-forward networks of a decoder.
    num_decoder_layers : int
        Number of layers of a decoder.
    decoders : str
        ``shared``: one decoder for all exits; ``per_exit``: one decoder each, as in the paper.
    decoders_at : Sequence[int] | None
        Exit layers with a decoder; None means all. The text of the others comes from CTC.
    decoders_per_batch : int | None
        Maximum number of exits whose decoder is trained on a batch, drawn for every batch and equal on all ranks; None
        means all. Fewer = faster steps, more noise.
    decoder_dropout : float
        Dropout of the decoders.
    max_length : int
        Maximum number of tokens of a text, including BOS.
    **head
        ``kind``, ``shared``, ``hidden_size`` and ``dropout`` of :class:`CTCHeads`.

    Raises
    ------
    ValueError
        If a kind is unknown, or a decoder is at a layer that is not an exit.

    Example
    -------
    >>> heads = JointHeads(
    ...     exit_layers=[2, 4], d_model=16, vocab_size=30, nhead=2, d_ffn=32, num_decoder_layers=1, decoders_at=[4]
    ... )
    >>> tokens, token_lengths = torch.tensor([[5, 6, 7], [8, 9, 0]]), torch.tensor([3, 2])
    >>> first, last = heads([torch.randn(2, 7, 16)] * 2, torch.tensor([7, 5]), tokens, token_lengths)
    >>> first.attention_log_probs is None, last.attention_log_probs.shape
    (True, torch.Size([2, 4, 30]))
    """

    has_decoders = True

    def __init__(
        self,
        *,
        exit_layers: Sequence[int],
        d_model: int,
        vocab_size: int | None,
        nhead: int,
        d_ffn: int,
        num_decoder_layers: int,
        decoders: str = "shared",
        decoders_at: Sequence[int] | None = None,
        decoders_per_batch: int | None = None,
        decoder_dropout: float = 0.1,
        max_length: int = 2500,
        **head,
    ):
        arguments = constructor_arguments(locals())
        exit_layers = check_exit_layers(exit_layers, max(exit_layers, default=0))
        super().__init__(num_exits=len(exit_layers), d_model=d_model, vocab_size=None, **head)
        at = exit_layers if decoders_at is None else tuple(decoders_at)
        _check(decoders, at, exit_layers, decoders_per_batch)
        lists = {"exit_layers": list(exit_layers), "decoders_at": None if decoders_at is None else list(at)}
        self.config = {name: value for name, value in arguments.items() if name != "head"} | head | lists
        self.decoder_of_exit = {exit_layers.index(layer): number for number, layer in enumerate(at)}
        if decoders == "shared":
            self.decoder_of_exit = dict.fromkeys(self.decoder_of_exit, 0)
        self.decoders = nn.ModuleList()
        if vocab_size is not None:
            self.set_vocab_size(vocab_size)
        if decoders_per_batch is not None:  # in the state dict, so that a resumed run draws the same exits
            self.register_buffer("draw", torch.tensor(torch.initial_seed() % 2**31 * 2**31))

    def set_vocab_size(self, vocab_size: int) -> None:
        """See :meth:`CTCHeads.set_vocab_size`; makes the decoders, too."""
        super().set_vocab_size(vocab_size)
        config = self.config
        size = {name: config[name] for name in ("d_model", "vocab_size", "nhead", "d_ffn", "max_length")}
        size |= {"num_layers": config["num_decoder_layers"], "dropout": config["decoder_dropout"]}
        self.decoders.extend(AttentionDecoder(**size) for _ in set(self.decoder_of_exit.values()))

    def decoder(self, exit_index: int) -> AttentionDecoder | None:
        """Return the decoder of an exit; None if it has none."""
        number = self.decoder_of_exit.get(exit_index)
        return None if number is None else self.decoders[number]

    def head(self, exit_index: int, state: torch.Tensor, lengths: torch.Tensor) -> ExitOutput:
        """See :meth:`CTCHeads.head`; the output includes the decoder, which is not run."""
        return super().head(exit_index, state, lengths)._replace(attention_decoder=self.decoder(exit_index))

    def forward(
        self,
        states: list[torch.Tensor],
        lengths: torch.Tensor,
        tokens: torch.Tensor | None = None,
        token_lengths: torch.Tensor | None = None,
    ) -> list[ExitOutput]:
        """See :meth:`CTCHeads.forward`; with targets, the decoders are run on them."""
        outputs = super().forward(states, lengths)
        if tokens is None:
            return outputs
        inputs = torch.nn.functional.pad(tokens, (1, 0), value=BOS_INDEX)
        chosen = self._draw_exits()
        for index in chosen:
            log_probs = self.decoder(index)(inputs, states[index], lengths)
            weight = len(self.decoder_of_exit) / len(chosen)
            outputs[index] = outputs[index]._replace(attention_log_probs=log_probs, attention_weight=weight)
        return outputs

    def _draw_exits(self) -> list[int]:
        """Draw the exits whose decoders are trained on this batch."""
        exits = sorted(self.decoder_of_exit)
        how_many = self.config["decoders_per_batch"]
        if how_many is None or not self.training:
            return exits
        generator = torch.Generator().manual_seed(int(self.draw))
        self.draw += 1
        return [exits[place] for place in torch.randperm(len(exits), generator=generator)[:how_many].tolist()]

    @property
    def may_skip_parameters(self) -> bool:
        """See :attr:`CTCHeads.may_skip_parameters`: decoders that are not drawn."""
        drawn = self.config["decoders_per_batch"]
        return drawn is not None and drawn < len(self.decoders)

    def modules_of(self, exit_index: int) -> list[nn.Module]:
        """See :meth:`CTCHeads.modules_of`."""
        decoder = self.decoder(exit_index)
        return super().modules_of(exit_index) + ([] if decoder is None else [decoder])


def _check(decoders: str, at: Sequence[int], exit_layers: Sequence[int], per_batch: int | None) -> None:
    if decoders not in DECODER_KINDS:
        raise ValueError(f"decoders {decoders!r} is not one of {', '.join(DECODER_KINDS)}")
    if not at or len(set(at)) < len(at) or not set(at) <= set(exit_layers):
        raise ValueError(f"decoders_at {list(at)}: give some of the exit layers {list(exit_layers)}, each once")
    if per_batch is not None and per_batch < 1:
        raise ValueError(f"decoders_per_batch={per_batch}: give at least 1, or null for all exits with a decoder")
