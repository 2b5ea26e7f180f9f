# SPDX-License-Identifier: Apache-2.0
"""Attention decoders as modules that ONNX can express: one for encoder frames, and one for new tokens."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from ee_runtime.backend import Predictions
from ee_runtime.interfaces import memory_interface, step_interface
from speechbrain_ee.export.forms import scaled_projection
from speechbrain_ee.export.pretrained_forms import MASKED
from speechbrain_ee.export.write import EXAMPLE_FRAMES, GraphWriter, example_batch
from speechbrain_ee.lobes.attention_decoder import AttentionDecoder
from speechbrain_ee.lobes.entropy import shannon_entropy
from speechbrain_ee.lobes.joint_heads import JointHeads
from speechbrain_ee.lobes.padding import padding_mask


class MemoryForm(nn.Module):
    """Keys and values of encoder frames, which are computed once per utterance.

    State (utterances, frames, d_model) -> for each layer, keys (utterances, heads, d_model / heads, frames) and values
    (utterances, heads, frames, d_model / heads).

    Example
    -------
    >>> decoder = AttentionDecoder(d_model=16, vocab_size=9, nhead=2, d_ffn=32, num_layers=1)
    >>> [one.shape for one in MemoryForm(decoder)(torch.randn(3, 20, 16))]
    [torch.Size([3, 2, 8, 20]), torch.Size([3, 2, 20, 8])]
    """

    def __init__(self, decoder: AttentionDecoder):
        super().__init__()
        self.projections = nn.ModuleList(
            _Projection(layer.multihead_attn.att, "kv") for layer in decoder.transformer.layers
        )

    def forward(self, state: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Project the state."""
        pairs = [projection(state) for projection in self.projections]
        return tuple(one for keys, values in pairs for one in (keys.transpose(-1, -2), values))


class StepForm(nn.Module):
    """An attention decoder that reads new tokens, see :meth:`AttentionDecoder.advance`.

    Arguments
    ---------
    decoder : AttentionDecoder
        The attention decoder.

    Example
    -------
    >>> decoder = AttentionDecoder(d_model=16, vocab_size=9, nhead=2, d_ffn=32, num_layers=1).eval()
    >>> states, lengths = torch.randn(3, 20, 16), torch.tensor([20, 13, 7])
    >>> tokens, past = torch.tensor([[[1, 5]]] * 3), [torch.zeros(3, 1, 2, 0, 8)] * 2
    >>> log_probs, *_ = StepForm(decoder)(tokens, lengths, MemoryForm(decoder)(states), past)
    >>> torch.testing.assert_close(log_probs.squeeze(1), decoder(tokens.squeeze(1), states, lengths))
    """

    def __init__(self, decoder: AttentionDecoder):
        super().__init__()
        self.embedding, self.norm, self.output = decoder.embedding, decoder.transformer.norm, decoder.output
        self.positions = _Positions(decoder.config["d_model"])
        self.layers = nn.ModuleList(_LayerForm(layer) for layer in decoder.transformer.layers)

    def forward(
        self,
        tokens: torch.Tensor,
        lengths: torch.Tensor,
        memory: Sequence[torch.Tensor],
        past: Sequence[torch.Tensor],
    ) -> tuple[torch.Tensor, ...]:
        """Read new tokens.

        Arguments
        ---------
        tokens : torch.Tensor
            (utterances, hypotheses of each, new tokens).
        lengths : torch.Tensor
            Valid frames, (utterances,).
        memory : sequence of torch.Tensor
            Output of :class:`MemoryForm`.
        past : sequence of torch.Tensor
            Keys and values of earlier tokens of each layer, (utterances, hypotheses, heads, tokens, d_model / heads).

        Returns
        -------
        tuple of torch.Tensor
            The :class:`~ee_runtime.backend.Predictions`, each (utterances, hypotheses, new tokens, ...), and the new
            ``past``.
        """
        before, frames = past[0].shape[3], memory[1].shape[2]
        places = before + torch.arange(tokens.shape[2], device=tokens.device)
        x = self.embedding(tokens) + self.positions(places)
        later = torch.arange(before + tokens.shape[2], device=tokens.device) > places[:, None]
        padding = torch.where(padding_mask(lengths, frames), MASKED, 0.0)[:, None, None, :]
        later, extended = torch.where(later, MASKED, 0.0), []
        for index, layer in enumerate(self.layers):
            pair = slice(2 * index, 2 * index + 2)
            x, keys, values = layer(x, later, padding, memory[pair], past[pair])
            extended += [keys, values]
        log_probs = self.output(self.norm(x)).log_softmax(-1)
        best = log_probs.max(-1)
        return *Predictions(log_probs, best.values, best.indices, shannon_entropy(log_probs)), *extended


class _Positions(nn.Module):
    """SpeechBrain's ``PositionalEncoding`` without its table, which would take most of the space of a small graph."""

    def __init__(self, width: int):
        super().__init__()
        frequencies = torch.exp(torch.arange(0, width, 2).float() * -(math.log(10000.0) / width))
        self.register_buffer("frequencies", frequencies, persistent=False)

    def forward(self, places: torch.Tensor) -> torch.Tensor:
        angles = places.float()[:, None] * self.frequencies
        return torch.stack([angles.sin(), angles.cos()], -1).flatten(-2)  # sines and cosines take turns


class _LayerForm(nn.Module):
    """Export form of SpeechBrain's ``TransformerDecoderLayer`` with norms before its parts."""

    def __init__(self, stock: nn.Module):
        super().__init__()
        self.norms = nn.ModuleList([stock.norm1, stock.norm2, stock.norm3])
        self.own = _Projection(stock.self_attn.att, "qkv")
        self.other = _Projection(stock.multihead_attn.att, "q")
        self.own_output, self.other_output = stock.self_attn.att.out_proj, stock.multihead_attn.att.out_proj
        self.ffn = stock.pos_ffn.ffn

    def forward(self, x, later, padding, memory, past):
        utterances, hypotheses, new, width = x.shape
        queries, keys, values = self.own(self.norms[0](x))  # (utterances, hypotheses, heads, new tokens, ...)
        keys, values = torch.cat([past[0], keys], 3), torch.cat([past[1], values], 3)
        found = (queries @ keys.transpose(-1, -2) + later).softmax(-1) @ values
        x = x + self.own_output(found.transpose(2, 3).flatten(3))
        # Frames have no order in time for a token, so all hypotheses of an utterance attend as one.
        (queries,) = self.other(self.norms[1](x).reshape(utterances, hypotheses * new, width))
        found = (queries @ memory[0] + padding).softmax(-1) @ memory[1]
        x = x + self.other_output(found.transpose(1, 2).reshape(utterances, hypotheses, new, width))
        return x + self.ffn(self.norms[2](x)), keys, values


class _Projection(nn.Module):
    """Queries, keys and values of an ``nn.MultiheadAttention``: those of ``parts``, "q", "kv" or "qkv".

    (..., positions, d_model) -> (..., heads, positions, d_model / heads) each.
    """

    def __init__(self, attention: nn.MultiheadAttention, parts: str):
        super().__init__()
        width, self.num_heads, self.num_parts = attention.embed_dim, attention.num_heads, len(parts)
        rows = {"q": slice(0, width), "kv": slice(width, 3 * width), "qkv": slice(0, 3 * width)}[parts]
        self.weight, self.bias = (nn.Parameter(one[rows]) for one in scaled_projection(attention))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        by_part = nn.functional.linear(x, self.weight, self.bias).chunk(self.num_parts, -1)
        return [one.unflatten(-1, (self.num_heads, -1)).transpose(-2, -3) for one in by_part]


def write_attention(
    writer: GraphWriter, decoders: Sequence[AttentionDecoder], *, int8: bool = False
) -> dict[str, list[dict]]:
    """Write the graphs of attention decoders; return their entries in ``export.json``."""
    graphs: dict = {"memories": [], "steps": []}
    for number, decoder in enumerate(decoders):
        num_layers, form = decoder.config["num_layers"], MemoryForm(decoder)
        state, lengths = example_batch(EXAMPLE_FRAMES, decoder.config["d_model"])
        interface = memory_interface(num_layers)
        graphs["memories"].append(writer.write(f"memory{number}", form, [state], interface, int8=int8))
        example, axes = _step_example(decoder, form(state), lengths)
        step, interface = StepForm(decoder), step_interface(num_layers)
        graphs["steps"].append(writer.write(f"step{number}", step, example, interface, axes=axes, int8=int8))
    return graphs


def _step_example(decoder: AttentionDecoder, memory: Sequence[torch.Tensor], lengths: torch.Tensor) -> tuple:
    """Return example inputs of a step, and their dynamic axes; sizes of 0 and 1 would become fixed."""
    hypotheses, new, before, heads = 2, 4, 3, decoder.config["nhead"]
    shape = (len(lengths), hypotheses, heads, before, decoder.config["d_model"] // heads)
    tokens = torch.ones(len(lengths), hypotheses, new, dtype=torch.long)
    axes = (
        ["batch", "hypotheses", "new"],
        ["batch"],
        [["batch", None, None, "frames"], ["batch", None, "frames"]] * (len(memory) // 2),
        [["batch", "hypotheses", None, "before"]] * len(memory),
    )
    return (tokens, lengths, [one.detach() for one in memory], [torch.zeros(shape) for _ in memory]), axes


def attention_values(heads: JointHeads) -> dict:
    """Return what ``export.json`` says about the attention decoders besides their graphs."""
    decoder = heads.decoders[0]
    return {
        "decoder_of_exit": [heads.decoder_of_exit.get(index) for index in range(heads.num_exits)],
        "nhead": decoder.config["nhead"],
        "max_length": decoder.max_length,
        "cost": decoder.cost._asdict(),
    }
