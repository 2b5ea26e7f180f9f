# SPDX-License-Identifier: Apache-2.0
"""Layers in a form that runs fast in onnxruntime: the same weights and results, fewer and larger operations."""

import copy

import torch
from speechbrain.lobes.models.transformer.Conformer import ConformerEncoderLayer
from speechbrain.nnet.attention import MultiheadAttention, PositionalwiseFeedForward
from torch import nn

from speechbrain_ee.export.pretrained_forms import LIBRARY_FORMS, MASKED
from speechbrain_ee.lobes.conformer import MaskedConvolutionModule


def scaled_projection(attention: nn.MultiheadAttention) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight and bias of queries, keys and values.

    The scale of the scores is applied to the queries, because there are fewer of them.
    """
    scale = torch.ones(3 * attention.embed_dim)
    scale[: attention.embed_dim] = attention.head_dim**-0.5
    return attention.in_proj_weight.detach() * scale[:, None], attention.in_proj_bias.detach() * scale


class AttentionForm(nn.Module):
    """Export form of SpeechBrain's ``MultiheadAttention``: one projection for queries, keys and values.

    Example
    -------
    >>> stock = MultiheadAttention(nhead=2, d_model=8).eval()
    >>> x, padding = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    >>> expected, _ = stock(x, x, x, key_padding_mask=padding)
    >>> found, _ = AttentionForm(stock)(x, x, x, key_padding_mask=padding)
    >>> torch.testing.assert_close(found, expected)
    """

    def __init__(self, stock: MultiheadAttention):
        super().__init__()
        attention = stock.att
        self.num_heads, self.out_proj = attention.num_heads, attention.out_proj
        self.weight, self.bias = map(nn.Parameter, scaled_projection(attention))

    def forward(self, query, key, value, attn_mask=None, key_padding_mask=None, pos_embs=None):
        """Attend within query (batch, frames, d_model); the other inputs are the same tensor."""
        flat = query.reshape(-1, query.shape[2])
        return self.flat(flat, query.shape, key_padding_mask).view(query.shape), None

    def flat(self, x, shape, key_padding_mask=None):
        """Attend within x (batch * frames, d_model) of the given shape (batch, frames, d_model)."""
        batch, frames, width = shape
        heads = nn.functional.linear(x, self.weight, self.bias)
        q, k, v = (
            one.reshape(batch, frames, self.num_heads, width // self.num_heads).transpose(1, 2)
            for one in heads.split(width, -1)
        )
        scores = q @ k.transpose(2, 3)
        if key_padding_mask is not None:
            scores = scores + torch.where(key_padding_mask, MASKED, 0.0)[:, None, None, :]
        mixed = (scores.softmax(-1) @ v).transpose(1, 2)
        return self.out_proj(mixed.reshape(batch * frames, width))


class ConvolutionForm(nn.Module):
    """Export form of the Conformer's convolution: pointwise convolutions are matrix products.

    Values at padding are not set to zero in the output, because no valid frame depends on them.

    Example
    -------
    >>> stock = MaskedConvolutionModule(8, 3).eval()
    >>> x, mask = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2]).unsqueeze(2)
    >>> found = ConvolutionForm(stock)(x, mask).masked_fill(mask, 0.0)
    >>> torch.testing.assert_close(found, stock(x, mask))
    """

    def __init__(self, stock: MaskedConvolutionModule):
        super().__init__()
        self.stock = stock
        pointwise = stock.bottleneck[0]
        # A matrix of its own: one that the graph computes from the stored weight would not be quantised.
        self.weight, self.bias = nn.Parameter(pointwise.weight.detach()[:, :, 0]), pointwise.bias

    def forward(self, x, mask=None, dynchunktrain_config=None):
        """Apply the convolution to x (batch, frames, d_model); mask (batch, frames, 1) is True at padding."""
        return self.flat(x.reshape(-1, x.shape[2]), x.shape, mask).view(x.shape)

    def flat(self, x, shape, mask=None):
        """Apply the convolution to x (batch * frames, d_model) of the given shape (batch, frames, d_model)."""
        stock, conv = self.stock, self.stock.conv
        x = nn.functional.linear(stock.layer_norm(x), self.weight, self.bias)
        x = nn.functional.glu(x, -1).view(shape)
        if mask is not None:
            x = x.masked_fill(mask, 0.0)
        # In two dimensions: onnxruntime's kernel for one dimension takes five times as long.
        x = nn.functional.conv2d(
            x.transpose(1, 2).unsqueeze(2),
            conv.weight.unsqueeze(2),
            conv.bias,
            padding=(0, conv.padding[0]),
            dilation=(1, conv.dilation[0]),
            groups=conv.groups,
        ).squeeze(2)
        if stock.causal:
            x = x[..., : -stock.padding]
        return stock.after_conv(x.transpose(1, 2).reshape(-1, shape[2]))


class ConformerLayerForm(nn.Module):
    """Export form of SpeechBrain's ``ConformerEncoderLayer``: all frames of the batch are rows of one matrix.

    A matrix product over (batch, frames, d_model) would become a product and a separate addition of the bias, and every
    operation would reshape its input.

    Example
    -------
    >>> stock = ConformerEncoderLayer(
    ...     d_model=8, d_ffn=16, nhead=2, kernel_size=3, attention_type="regularMHA"
    ... ).eval()
    >>> stock.convolution_module = MaskedConvolutionModule.from_stock(stock.convolution_module)
    >>> x, padding = torch.randn(2, 5, 8), torch.tensor([[False] * 5, [False] * 3 + [True] * 2])
    >>> expected, _ = stock(x, src_key_padding_mask=padding)
    >>> found, _ = ConformerLayerForm(stock)(x, src_key_padding_mask=padding)
    >>> torch.testing.assert_close(found[~padding], expected[~padding])
    """

    def __init__(self, stock: ConformerEncoderLayer):
        super().__init__()
        self.ffn1, self.ffn2 = _halved(stock.ffn_module1), _halved(stock.ffn_module2)
        self.norm1, self.norm2 = stock.norm1, stock.norm2
        is_plain = isinstance(stock.mha_layer, MultiheadAttention)
        self.attention = AttentionForm(stock.mha_layer) if is_plain else stock.mha_layer
        self.convolution = ConvolutionForm(stock.convolution_module)

    def forward(self, x, src_mask=None, src_key_padding_mask=None, pos_embs=None):
        """Run the layer on x (batch, frames, d_model)."""
        shape, mask = x.shape, src_key_padding_mask
        x = x.reshape(-1, shape[2])
        x = x + self.ffn1(x)
        normed = self.norm1(x)
        if isinstance(self.attention, AttentionForm):
            mixed = self.attention.flat(normed, shape, mask)
        else:
            normed = normed.view(shape)
            mixed, _ = self.attention(normed, normed, normed, key_padding_mask=mask, pos_embs=pos_embs)
            mixed = mixed.reshape(-1, shape[2])
        x = x + mixed
        x = x + self.convolution.flat(x, shape, None if mask is None else mask.unsqueeze(2))
        return self.norm2(x + self.ffn2(x)).view(shape), None


def _halved(stock: nn.Sequential) -> nn.Sequential:
    """Return norm and feed-forward network with half of its output; halving weights is exact."""
    norm, network, _ = stock
    first, activation, _, second = network.ffn
    half = nn.Linear(second.in_features, second.out_features)
    half.weight, half.bias = nn.Parameter(second.weight / 2), nn.Parameter(second.bias / 2)
    return nn.Sequential(norm, first, activation, half)


class FeedForwardForm(nn.Module):
    """Export form of SpeechBrain's ``PositionalwiseFeedForward``.

    Example
    -------
    >>> stock = PositionalwiseFeedForward(d_ffn=16, input_size=8).eval()
    >>> x = torch.randn(2, 5, 8)
    >>> torch.testing.assert_close(FeedForwardForm(stock)(x), stock(x))
    """

    def __init__(self, stock: PositionalwiseFeedForward):
        super().__init__()
        self.ffn = stock.ffn

    def forward(self, x):
        """Apply the network to x (batch, frames, d_model)."""
        return self.ffn(x.reshape(-1, x.shape[-1])).view(x.shape)


FORMS = {
    MultiheadAttention: AttentionForm,
    ConformerEncoderLayer: ConformerLayerForm,
    PositionalwiseFeedForward: FeedForwardForm,
}


def export_form(module: nn.Module) -> nn.Module:
    """Return a copy of a module in which every layer that has an export form is replaced by it."""
    return _replaced(copy.deepcopy(module)).eval()


def _replaced(module: nn.Module) -> nn.Module:
    if form := FORMS.get(type(module)) or LIBRARY_FORMS.get(type(module).__name__):
        return form(module)
    for name, child in module.named_children():
        setattr(module, name, _replaced(child))
    return module
