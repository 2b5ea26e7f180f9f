# SPDX-License-Identifier: Apache-2.0
"""Layers of the transformers library in a form that runs fast in onnxruntime: the same weights and results."""

import torch
from torch import nn

MASKED = -1e9  # added to attention scores of padding; exp gives exactly 0 in float32


class LibraryAttentionForm(nn.Module):
    """Export form of the library's attention: one projection for queries, keys and values.

    Arguments
    ---------
    stock : nn.Module
        Attention of a layer of Whisper, wav2vec 2.0 or HuBERT.
    """

    def __init__(self, stock: nn.Module):
        super().__init__()
        self.num_heads, self.out_proj = stock.num_heads, stock.out_proj
        weights, biases = zip(*self._projections(stock), strict=True)
        self.weight, self.bias = nn.Parameter(torch.cat(weights)), nn.Parameter(torch.cat(biases))

    def _projections(self, stock: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
        """Return weights and biases; the scale of the scores is applied to the smaller queries."""
        projections = []
        for linear, scale in ((stock.q_proj, stock.scaling), (stock.k_proj, 1.0), (stock.v_proj, 1.0)):
            weight = linear.weight.detach()
            bias = weight.new_zeros(len(weight)) if linear.bias is None else linear.bias.detach()  # Whisper's keys
            projections.append((weight * scale, bias * scale))
        return projections

    def forward(self, x: torch.Tensor, shape, mask: torch.Tensor | None, position_bias=None) -> torch.Tensor:
        """Attend within x (batch * frames, d_model) of the given shape (batch, frames, d_model).

        The mask has batch * frames values in any shape, True at valid frames.
        """
        batch, frames, width = shape
        projected = nn.functional.linear(x, self.weight, self.bias)
        q, k, v = (
            projected[:, start : start + width].reshape(batch, frames, self.num_heads, -1).transpose(1, 2)
            for start in (0, width, 2 * width)
        )
        scores = q @ k.transpose(2, 3)
        if position_bias is not None:
            scores = scores + self.gated(projected[:, 3 * width :], position_bias, batch, frames)
        if mask is not None:
            scores = scores + torch.where(mask.reshape(batch, 1, 1, frames), 0.0, MASKED)
        mixed = (scores.softmax(-1) @ v).transpose(1, 2)
        return self.out_proj(mixed.reshape(batch * frames, width))


class WavLMAttentionForm(LibraryAttentionForm):
    """Export form of WavLM's attention: the gates of the position bias come from the same projection.

    The library sums groups of four values of each gate's projection; here the weights are summed. The bias is read from
    a table over distances, which is constant from the largest distance on.
    """

    def __init__(self, stock: nn.Module):
        super().__init__(stock)
        self.register_buffer("constant", stock.gru_rel_pos_const.detach().clone(), persistent=False)
        self.farthest = stock.max_distance
        if hasattr(stock, "rel_attn_embed"):  # the first layer's, which all layers share
            bias = stock.compute_bias(self.farthest + 1, self.farthest + 1).detach()
            self.register_buffer("table", torch.cat([bias[:, 1:, 0].flip(1), bias[:, 0]], 1).T, persistent=False)

    def _projections(self, stock: nn.Module) -> list[tuple[torch.Tensor, torch.Tensor]]:
        gates = stock.gru_rel_pos_linear
        weight, bias = gates.weight.detach().view(2, 4, -1).sum(1), gates.bias.detach().view(2, 4).sum(1)
        blocks = [torch.block_diag(*[row[None]] * stock.num_heads) for row in weight]  # (heads, d_model) each
        return [*super()._projections(stock), *zip(blocks, bias[:, None].expand(2, stock.num_heads), strict=True)]

    def compute_bias(self, query_length: int, key_length: int) -> torch.Tensor:
        """Return the position bias (heads, queries, keys)."""
        queries, keys = (torch.arange(length, device=self.table.device) for length in (query_length, key_length))
        distances = (keys - queries[:, None]).clamp(-self.farthest, self.farthest) + self.farthest
        return self.table[distances.flatten()].view(query_length, key_length, -1).permute(2, 0, 1)

    def gated(self, gates: torch.Tensor, position_bias: torch.Tensor, batch: int, frames: int) -> torch.Tensor:
        """Scale the bias (batch * heads, frames, frames) by gates (batch * frames, 2 * heads)."""
        first, second = gates.sigmoid().view(batch, frames, 2, self.num_heads, 1).permute(2, 0, 3, 1, 4)
        gate = first * (second * self.constant - 1.0) + 2.0
        return gate * position_bias.view(batch, self.num_heads, frames, frames)


class LibraryLayerForm(nn.Module):
    """Export form of the library's encoder layers: all frames of the batch are rows of one matrix.

    A matrix product over (batch, frames, d_model) would become a product and a separate addition of the bias.

    Arguments
    ---------
    attention : nn.Module
        The stock attention.
    norms : tuple of nn.Module
        Norms of the attention and of the feed-forward network.
    network : tuple of nn.Module
        Feed-forward network: linear layer, activation, linear layer.
    norm_first : bool
        Whether norms are applied before attention and network, or after the sums.
    """

    def __init__(self, attention: nn.Module, norms: tuple, network: tuple, *, norm_first: bool):
        super().__init__()
        is_gated = hasattr(attention, "gru_rel_pos_linear")
        self.attention = (WavLMAttentionForm if is_gated else LibraryAttentionForm)(attention)
        self.norm1, self.norm2 = norms
        self.network, self.norm_first = nn.Sequential(*network), norm_first

    def forward(self, x: torch.Tensor, attention_mask=None, position_bias=None, **unused) -> torch.Tensor:
        """Run the layer on x (batch, frames, d_model)."""
        shape = x.shape
        x = x.reshape(-1, shape[2])
        if self.norm_first:
            x = x + self.attention(self.norm1(x), shape, attention_mask, position_bias)
            x = x + self.network(self.norm2(x))
        else:
            x = self.norm1(x + self.attention(x, shape, attention_mask, position_bias))
            x = self.norm2(x + self.network(x))
        return x.view(shape)


class RowScaledLinear(nn.Module):
    """A linear layer whose input rows are scaled to a largest value of 1, and whose output is scaled back.

    A quantised product has one scale for all rows. Some frames have values that are 30 times as large as those of the
    others (Whisper's feed-forward networks), which would leave the others few steps.

    Example
    -------
    >>> linear, x = nn.Linear(4, 3), torch.randn(5, 4)
    >>> torch.testing.assert_close(RowScaledLinear(linear)(x), linear(x))
    """

    def __init__(self, linear: nn.Linear):
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Apply the layer to x (rows, in_features)."""
        scale = x.abs().amax(-1, keepdim=True).clamp(min=1e-12)
        return (x / scale) @ self.weight.T * scale + self.bias


def scale_rows(module: nn.Module) -> nn.Module:
    """Prepare the layers of the library in export form for quantisation; return the module."""
    for layer in module.modules():
        if isinstance(layer, LibraryLayerForm):
            layer.network[2] = RowScaledLinear(layer.network[2])
    return module


def whisper_layer_form(stock: nn.Module) -> LibraryLayerForm:
    """Return the export form of Whisper's encoder layer.

    Example
    -------
    >>> from speechbrain_ee.lobes import WhisperExitEncoder
    >>> tiny = {"d_model": 16, "encoder_attention_heads": 2, "encoder_ffn_dim": 24}
    >>> encoder = WhisperExitEncoder(num_layers=1, exit_layers=[1], backbone=tiny).eval()
    >>> x, mask = torch.randn(2, 5, 16), torch.tensor([[True] * 5, [True] * 3 + [False] * 2])[:, None, None]
    >>> expected = encoder.call_layer(1, x, attention_mask=mask)
    >>> torch.testing.assert_close(whisper_layer_form(encoder.layers[0])(x, attention_mask=mask), expected)
    """
    norms = stock.self_attn_layer_norm, stock.final_layer_norm
    network = stock.fc1, stock.activation_fn, stock.fc2
    return LibraryLayerForm(stock.self_attn, norms, network, norm_first=True)


def wav2vec2_layer_form(stock: nn.Module) -> LibraryLayerForm:
    """Return the export form of an encoder layer of wav2vec 2.0, HuBERT or WavLM.

    Example
    -------
    >>> from speechbrain_ee.lobes import WavLMExitEncoder
    >>> tiny = {"hidden_size": 16, "num_attention_heads": 2, "intermediate_size": 24, "conv_dim": [8] * 7}
    >>> tiny |= {"num_conv_pos_embeddings": 4, "num_conv_pos_embedding_groups": 2}
    >>> stock = WavLMExitEncoder(num_layers=1, exit_layers=[1], backbone=tiny).eval().layers[0]
    >>> x = torch.randn(2, 5, 16)
    >>> bias = stock.attention.compute_bias(5, 5).repeat(2, 1, 1)
    >>> expected, _ = stock(x, position_bias=bias)
    >>> torch.testing.assert_close(wav2vec2_layer_form(stock)(x, position_bias=bias), expected)
    """
    network = stock.feed_forward
    return LibraryLayerForm(
        stock.attention,
        (stock.layer_norm, stock.final_layer_norm),
        (network.intermediate_dense, network.intermediate_act_fn, network.output_dense),
        norm_first=type(stock).__name__.endswith("StableLayerNorm"),
    )


# By name, because the library is optional and slow to import.
LIBRARY_FORMS = {
    "WhisperEncoderLayer": whisper_layer_form,
    **{
        f"{family}EncoderLayer{kind}": wav2vec2_layer_form
        for family in ("Wav2Vec2", "Hubert", "WavLM")
        for kind in ("", "StableLayerNorm")
    },
}
