# SPDX-License-Identifier: Apache-2.0
"""Convolutional subsampling: lengths and padding."""

import math

import pytest
import torch
from speechbrain.lobes.models.convolution import ConvolutionFrontEnd

from speechbrain_ee.lobes import ConvSubsampling


@pytest.mark.parametrize("padding_mode", ["constant", "reflect"])
@pytest.mark.parametrize("num_blocks", [1, 2, 3])
def test_lengths_are_what_the_convolutions_give(num_blocks, padding_mode):
    frontend = ConvSubsampling(n_mels=11, channels=[3] * num_blocks, dropout=0.0, padding_mode=padding_mode).eval()
    for num_frames in range(1, 40):
        x, lengths = frontend(torch.randn(1, num_frames, 11), torch.tensor([num_frames]))
        # halving three times and rounding up each time is dividing by eight and rounding up
        assert x.shape[1] == lengths.item() == math.ceil(num_frames / 2**num_blocks)
        assert x.shape[2] == frontend.output_size == 3 * math.ceil(11 / 2**num_blocks)


@pytest.mark.parametrize("padding_mode", ["constant", "reflect"])
@torch.no_grad()
def test_every_length_in_one_batch_equals_each_alone(padding_mode):
    frontend = ConvSubsampling(n_mels=11, channels=[3, 4], dropout=0.0, padding_mode=padding_mode).eval()
    lengths = torch.arange(1, 34)
    feats = torch.full((33, 50, 11), 1e3)  # the values in the padding must not matter
    for row, length in enumerate(lengths):
        feats[row, :length] = torch.randn(length, 11)
    x, out_lengths = frontend(feats, lengths)
    for row, length in enumerate(lengths):
        alone, _ = frontend(feats[row : row + 1, :length], length.view(1))
        torch.testing.assert_close(x[row, : out_lengths[row]], alone[0], atol=1e-5, rtol=1e-5)
        assert not x[row, out_lengths[row] :].any()


@pytest.mark.parametrize("num_frames", [3, 4, 20, 21, 22, 23])
@torch.no_grad()
def test_with_reflection_it_equals_the_front_end_of_speechbrains_recipes(num_frames):
    ours = ConvSubsampling(n_mels=11, channels=[3, 4], padding_mode="reflect").eval()
    stock = ConvolutionFrontEnd(
        input_shape=(8, 10, 11),
        num_blocks=2,
        num_layers_per_block=1,
        out_channels=(3, 4),
        kernel_sizes=(3, 3),
        strides=(2, 2),
        residuals=(False, False),
    ).eval()
    stock.load_state_dict(ours.blocks.state_dict())
    feats = torch.randn(1, num_frames, 11)
    padded = torch.cat([feats, torch.full((1, 9, 11), 1e3)], 1)
    found, lengths = ours(padded, torch.tensor([num_frames]))
    # the same convolutions over more frames, which torch may sum in another order
    torch.testing.assert_close(found[:, : lengths[0]], stock(feats).flatten(2), atol=1e-5, rtol=1e-5)


def test_macs_by_hand():
    # 5 frames x 6 bands -> 3 x 3, 9 taps, 1 -> 2 channels; then -> 2 x 2, 2 -> 4 channels
    assert [stage.macs for stage in ConvSubsampling(n_mels=6, channels=[2, 4]).conv_stages] == [
        9 * 3 * 2,
        9 * 2 * 2 * 4,
    ]


def test_no_block_is_refused():
    with pytest.raises(ValueError, match="channels is empty"):
        ConvSubsampling(n_mels=6, channels=[])


def test_an_unknown_padding_mode_is_refused():
    with pytest.raises(ValueError, match="padding_mode 'replicate' is not one of constant, reflect"):
        ConvSubsampling(n_mels=6, padding_mode="replicate")
