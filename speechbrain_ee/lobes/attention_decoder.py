# SPDX-License-Identifier: Apache-2.0
"""An attention decoder of stock SpeechBrain layers, for whole texts (training) or token by token (decoding)."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from speechbrain.lobes.models.transformer.Transformer import (
    NormalizedEmbedding,
    PositionalEncoding,
    TransformerDecoder,
    get_lookahead_mask,
)
from torch import nn
from torch.nn.functional import linear, scaled_dot_product_attention

from ee_runtime.cost import AttentionCost
from speechbrain_ee.lobes.encoder import constructor_arguments
from speechbrain_ee.lobes.padding import padding_mask

KeysAndValues = tuple[torch.Tensor, torch.Tensor]  # (batch, heads, positions, d_model / heads) each


@dataclass(frozen=True)
class DecoderState:
    """State of incremental decoding.

    Arguments
    ---------
    memory : list[KeysAndValues]
        Keys and values of the encoder frames, per layer. A batch of one is shared by all hypotheses.
    past : list[KeysAndValues]
        Keys and values of the tokens so far, per layer.
    attendable : torch.Tensor | None
        True at valid frames, (batch, 1, 1, frames); None if there is no padding.
    """

    memory: list[KeysAndValues]
    past: list[KeysAndValues]
    attendable: torch.Tensor | None = None

    @property
    def num_tokens(self) -> int:
        """Number of tokens read, including BOS."""
        return self.past[0][0].shape[2]

    def select(self, index: torch.Tensor) -> DecoderState:
        """Select the hypotheses at positions ``index`` (integers, (remaining,)), which may repeat."""

        def pick(pairs: list[KeysAndValues]) -> list[KeysAndValues]:
            return [(keys[index], values[index]) for keys, values in pairs]

        shared = self.memory[0][0].shape[0] == 1
        return DecoderState(
            memory=self.memory if shared else pick(self.memory),
            past=pick(self.past),
            attendable=self.attendable if shared or self.attendable is None else self.attendable[index],
        )

    def cut(self, num_tokens: int) -> DecoderState:
        """Keep only the first ``num_tokens`` tokens."""
        past = [(keys[:, :, :num_tokens], values[:, :, :num_tokens]) for keys, values in self.past]
        return replace(self, past=past)


class AttentionDecoder(nn.Module):
    """A stock SpeechBrain ``TransformerDecoder`` with an embedding and an output layer.

    ``forward`` is for training: it runs SpeechBrain's layers unchanged over all tokens at once. ``start`` and
    ``advance`` are for decoding: they run the same weights over new tokens only, with cached keys and values of the
    earlier tokens, so that only the cost of attention grows with the length of the text.

    Arguments
    ---------
    d_model : int
        Width of the decoder and of the encoder.
    vocab_size : int
        Number of tokens, including BOS and EOS.
    nhead : int
        Number of attention heads.
    d_ffn : int
        Width of the feed-forward networks.
    num_layers : int
        Number of decoder layers.
    dropout : float
        Dropout of the layers.
    max_length : int
        Maximum number of tokens, including BOS: the size of the table of positional encodings.

    Example
    -------
    >>> decoder = AttentionDecoder(d_model=16, vocab_size=9, nhead=2, d_ffn=32, num_layers=2).eval()
    >>> states, lengths = torch.randn(3, 20, 16), torch.tensor([20, 13, 7])
    >>> decoder(torch.tensor([[1, 5, 4]] * 3), states, lengths).shape
    torch.Size([3, 3, 9])
    >>> state, log_probs = decoder.advance(decoder.start(states, lengths), torch.tensor([[1]] * 3))
    >>> log_probs.shape, state.num_tokens
    (torch.Size([3, 1, 9]), 1)
    """

    def __init__(
        self,
        *,
        d_model: int,
        vocab_size: int,
        nhead: int,
        d_ffn: int,
        num_layers: int,
        dropout: float = 0.1,
        max_length: int = 2500,
    ):
        super().__init__()
        self.config = constructor_arguments(locals())
        if d_model % nhead:
            raise ValueError(f"d_model={d_model} is not a multiple of nhead={nhead}: change one of them")
        if num_layers < 1:
            raise ValueError(f"num_layers={num_layers}: give at least 1")
        self.embedding = NormalizedEmbedding(d_model, vocab_size)
        self.positions = PositionalEncoding(d_model, max_length)
        self.transformer = TransformerDecoder(
            num_layers=num_layers,
            nhead=nhead,
            d_ffn=d_ffn,
            d_model=d_model,
            dropout=dropout,
            activation=nn.GELU,
            normalize_before=True,
            causal=True,
        )
        self.output = nn.Linear(d_model, vocab_size)
        for parameter in [*self.embedding.parameters(), *self.transformer.parameters()]:
            if parameter.ndim > 1:
                nn.init.xavier_normal_(parameter)  # as TransformerASR does

    @property
    def max_length(self) -> int:
        """Maximum number of tokens, including BOS."""
        return self.config["max_length"]

    def forward(self, tokens: torch.Tensor, states: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
        """Compute the log-probabilities of whole texts.

        Arguments
        ---------
        tokens : torch.Tensor
            (batch, tokens), starting with BOS; the padding at the end may have any values.
        states : torch.Tensor
            Encoder states, (batch, frames, d_model).
        lengths : torch.Tensor
            Valid frames, integers, (batch,).

        Returns
        -------
        torch.Tensor
            Log-probabilities of the next token at each position, (batch, tokens, vocab_size), float32.
        """
        x, _, _ = self.transformer(
            self.embed(tokens),
            states,
            tgt_mask=get_lookahead_mask(tokens),
            memory_key_padding_mask=padding_mask(lengths, states.shape[1]),
        )
        return self.output(x).float().log_softmax(-1)

    def start(self, states: torch.Tensor, lengths: torch.Tensor) -> DecoderState:
        """Start decoding: encoder states (batch, frames, d_model) and integer lengths (batch,) -> decoder state."""
        is_padded = bool((lengths < states.shape[1]).any())
        mask = ~padding_mask(lengths, states.shape[1])[:, None, None] if is_padded else None
        memory = [project(layer.multihead_attn.att, states, "kv") for layer in self.transformer.layers]
        past = [tuple(one[:, :, :0] for one in pair) for pair in memory]
        return DecoderState(memory=memory, past=past, attendable=mask)

    def advance(self, state: DecoderState, tokens: torch.Tensor) -> tuple[DecoderState, torch.Tensor]:
        """Read new tokens, in evaluation mode: dropout is not applied everywhere.

        Arguments
        ---------
        state : DecoderState
            State of the hypotheses.
        tokens : torch.Tensor
            (hypotheses, new tokens); all hypotheses must have read equally many tokens before.

        Returns
        -------
        tuple[DecoderState, torch.Tensor]
            The new state, and the log-probabilities of the next token at each position, (hypotheses, new tokens,
            vocab_size), float32.

        Raises
        ------
        ValueError
            If there are more tokens than ``max_length``.
        """
        x = self.embed(tokens, state.num_tokens)
        past = []
        for layer, memory, before in zip(self.transformer.layers, state.memory, state.past, strict=True):
            past.append(extend(layer, x, before))
            x = read(layer, x, past[-1], memory, state.attendable)
        log_probs = self.output(self.transformer.norm(x)).float().log_softmax(-1)
        return replace(state, past=past), log_probs

    def embed(self, tokens: torch.Tensor, num_before: int = 0) -> torch.Tensor:
        """Embed tokens (batch, tokens) that follow ``num_before`` others -> (batch, tokens, d_model)."""
        if num_before + tokens.shape[1] > self.max_length:
            raise ValueError(
                f"{num_before + tokens.shape[1]} tokens are more than max_length={self.max_length}: cut the text"
            )
        x = self.embedding(tokens)
        return x + self.positions.pe[:, num_before : num_before + tokens.shape[1]]

    @property
    def cost(self) -> AttentionCost:
        """Multiply-accumulates of decoding."""
        sizes = {name: self.config[name] for name in AttentionCost._fields}
        return AttentionCost(**sizes)


def extend(layer: nn.Module, x: torch.Tensor, past: KeysAndValues) -> KeysAndValues:
    """Append the keys and values of ``x`` (batch, new tokens, d_model), the layer's input, to those of the past."""
    new = project(layer.self_attn.att, layer.norm1(x), "kv")
    return tuple(torch.cat(pair, dim=2) for pair in zip(past, new, strict=True))


def read(
    layer: nn.Module, x: torch.Tensor, past: KeysAndValues, memory: KeysAndValues, attendable: torch.Tensor | None
) -> torch.Tensor:
    """Run a decoder layer over new tokens ``x`` (batch, new tokens, d_model), already in ``past``."""
    x = x + attend(layer.self_attn.att, layer.norm1(x), past, _causal_mask(x, past[0].shape[2]))
    x = x + attend(layer.multihead_attn.att, layer.norm2(x), memory, attendable)
    return x + layer.pos_ffn(layer.norm3(x))


def project(attention: nn.MultiheadAttention, x: torch.Tensor, parts: str) -> KeysAndValues:
    """Project ``x`` (batch, positions, d_model) to queries ("q") or keys and values ("kv"), split into heads."""
    width, heads = attention.embed_dim, attention.num_heads
    rows = slice(0, width) if parts == "q" else slice(width, 3 * width)
    projected = linear(x, attention.in_proj_weight[rows], attention.in_proj_bias[rows])
    by_head = projected.unflatten(-1, (len(parts), heads, width // heads))  # (batch, positions, q or kv, heads, ...)
    return tuple(one.transpose(1, 2) for one in by_head.unbind(2))


def attend(
    attention: nn.MultiheadAttention, x: torch.Tensor, pair: KeysAndValues, mask: torch.Tensor | None
) -> torch.Tensor:
    """Attend from ``x`` (batch, positions, d_model) to keys and values; a batch of one is broadcast."""
    (queries,) = project(attention, x, "q")
    keys, values = (one.expand(len(x), -1, -1, -1) for one in pair)
    found = scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
    return attention.out_proj(found.transpose(1, 2).flatten(2))


def _causal_mask(x: torch.Tensor, num_positions: int) -> torch.Tensor | None:
    """Return the causal mask of the new tokens of ``x``, True where attended; None for a single token."""
    new = x.shape[1]
    if new == 1:
        return None
    return torch.ones(new, num_positions, dtype=torch.bool, device=x.device).tril(num_positions - new)
