# SPDX-License-Identifier: Apache-2.0
"""Convolutional subsampling: lengths and padding."""

import math

import pytest
import torch

from speechbrain_ee.lobes import ConvSubsampling


@pytest.mark.parametrize("num_blocks", [1, 2, 3])
def test_lengths_are_what_the_convolutions_give(num_blocks):
    frontend = ConvSubsampling(n_mels=11, channels=[3] * num_blocks, dropout=0.0).eval()
    for num_frames in range(1, 40):
        x, lengths = frontend(torch.randn(1, num_frames, 11), torch.tensor([num_frames]))
        # halving three times and rounding up each time is dividing by eight and rounding up
        assert x.shape[1] == lengths.item() == math.ceil(num_frames / 2**num_blocks)
        assert x.shape[2] == frontend.output_size == 3 * math.ceil(11 / 2**num_blocks)


@torch.no_grad()
def test_every_length_in_one_batch_equals_each_alone():
    frontend = ConvSubsampling(n_mels=11, channels=[3, 4], dropout=0.0).eval()
    lengths = torch.arange(1, 34)
    feats = torch.full((33, 50, 11), 1e3)  # the values in the padding must not matter
    for row, length in enumerate(lengths):
        feats[row, :length] = torch.randn(length, 11)
    x, out_lengths = frontend(feats, lengths)
    for row, length in enumerate(lengths):
        alone, _ = frontend(feats[row : row + 1, :length], length.view(1))
        torch.testing.assert_close(x[row, : out_lengths[row]], alone[0], atol=1e-5, rtol=1e-5)
        assert not x[row, out_lengths[row] :].any()


def test_macs_by_hand():
    # 5 frames x 6 bands -> 3 x 3, 9 taps, 1 -> 2 channels; then -> 2 x 2, 2 -> 4 channels
    assert [stage.macs for stage in ConvSubsampling(n_mels=6, channels=[2, 4]).conv_stages] == [
        9 * 3 * 2,
        9 * 2 * 2 * 4,
    ]


def test_no_block_is_refused():
    with pytest.raises(ValueError, match="channels is empty"):
        ConvSubsampling(n_mels=6, channels=[])
