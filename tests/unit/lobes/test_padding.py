# SPDX-License-Identifier: Apache-2.0
"""Masks, padded batches and exact lengths."""

import pytest
import torch

from speechbrain_ee.lobes.padding import (
    absolute_lengths,
    check_lengths,
    padding_mask,
    relative_lengths,
    zero_padding,
)


def test_mask_and_zeros_by_hand():
    lengths = torch.tensor([2, 3, 0])
    expected = torch.tensor([[False, False, True], [False, False, False], [True, True, True]])
    assert torch.equal(padding_mask(lengths, 3), expected)
    x = torch.arange(1.0, 13.0).view(3, 2, 2)
    kept = zero_padding(x, torch.tensor([1, 2, 1]))
    assert kept.tolist() == [[[1, 2], [0, 0]], [[5, 6], [7, 8]], [[9, 10], [0, 0]]]


def test_zero_padding_drops_nan_and_infinity():
    x = torch.tensor([[1.0, float("nan"), float("inf")]])
    assert zero_padding(x, torch.tensor([1])).tolist() == [[1.0, 0.0, 0.0]]


@pytest.mark.parametrize("longest", [1, 7, 101, 16001, 480_000, 1_500_007])
def test_float32_relative_lengths_come_back_exactly(longest):
    lengths = torch.arange(1, longest + 1)
    # SpeechBrain divides in float32 when it pads a batch
    assert torch.equal(absolute_lengths(lengths.float() / longest, longest), lengths)


def test_lengths_stay_inside_the_tensor():
    assert absolute_lengths(torch.tensor([0.0, 1.06, 0.5]), 10).tolist() == [1, 10, 5]


@pytest.mark.parametrize("lengths", [torch.tensor([0.5, 1.0]), torch.tensor([3]), torch.tensor([[3, 4]])])
def test_relative_or_too_few_lengths_are_refused(lengths):
    with pytest.raises(ValueError, match="must be 2 integer numbers of frames"):
        check_lengths(lengths, 2)


def test_relative_lengths_give_every_integer_back():
    for max_length in (1, 7, 48001, 2**22 + 1):
        lengths = torch.tensor(sorted({1, max_length // 3 or 1, max(1, max_length - 1), max_length}))
        wav_lens = relative_lengths(lengths, max_length)
        assert wav_lens.dtype == torch.float32 and wav_lens.max() == 1
        assert torch.equal(absolute_lengths(wav_lens, max_length), lengths)
        # as SpeechBrain's losses and decoders round
        assert torch.equal((wav_lens * max_length).round().long(), lengths)


@pytest.mark.parametrize(
    ("lengths", "message"),
    [
        (torch.tensor([5, 3]), "give integers from 0 to max_length=4"),
        (torch.tensor([-1, 3]), "give integers from 0 to max_length=4"),
        (torch.tensor([0.5, 1.0]), "lengths must be 2 integer numbers of frames"),
    ],
)
def test_lengths_that_are_not_integers_within_the_batch_are_refused(lengths, message):
    with pytest.raises(ValueError, match=message):
        relative_lengths(lengths, 4)
