# SPDX-License-Identifier: Apache-2.0
"""Integer lengths, padded batches and masks, which keep results independent of the batch."""

from collections.abc import Sequence

import torch
from torch.nn.utils.rnn import pad_sequence


def pad_batch(tensors: Sequence[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Pad tensors (time, ...) with zeros to a batch.

    Returns
    -------
    tuple[torch.Tensor, torch.Tensor]
        (batch, longest time, ...) and integer lengths (batch,) on the same device.

    Example
    -------
    >>> pad_batch([torch.tensor([1.0, 2.0]), torch.tensor([3.0])])
    (tensor([[1., 2.],
            [3., 0.]]), tensor([2, 1]))
    """
    lengths = torch.tensor([len(tensor) for tensor in tensors], device=tensors[0].device)
    return pad_sequence(list(tensors), batch_first=True), lengths


def padding_mask(lengths: torch.Tensor, max_length: int) -> torch.Tensor:
    """Return a mask of the padded positions.

    Arguments
    ---------
    lengths : torch.Tensor
        Valid positions, integers, (batch,).
    max_length : int
        Number of positions in the padded tensor.

    Returns
    -------
    torch.Tensor
        (batch, max_length), True at padding.

    Example
    -------
    >>> padding_mask(torch.tensor([3, 1]), 3)
    tensor([[False, False, False],
            [False,  True,  True]])
    """
    return torch.arange(max_length, device=lengths.device) >= lengths.unsqueeze(1)


def zero_padding(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Set the padded positions of ``x`` (batch, time, ...) to zero.

    Example
    -------
    >>> zero_padding(torch.ones(2, 3), torch.tensor([3, 1]))
    tensor([[1., 1., 1.],
            [1., 0., 0.]])
    """
    mask = padding_mask(lengths, x.shape[1])
    return x.masked_fill(mask.view(*mask.shape, *(1,) * (x.ndim - 2)), 0.0)


def reverse_within(x: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
    """Reverse each row of ``x`` (batch, time, ...) within its length; the padding stays in place.

    Example
    -------
    >>> reverse_within(torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]), torch.tensor([4, 2]))
    tensor([[4, 3, 2, 1],
            [6, 5, 7, 8]])
    """
    position = torch.arange(x.shape[1], device=x.device)
    position = torch.where(padding_mask(lengths, x.shape[1]), position, lengths[:, None] - 1 - position)
    return x[torch.arange(len(x), device=x.device)[:, None], position]


def absolute_lengths(wav_lens: torch.Tensor, max_length: int, *, minimum: int = 1) -> torch.Tensor:
    """Convert SpeechBrain's relative lengths to integers, exactly for batches that SpeechBrain padded.

    Computed on the CPU in double precision, which some devices (Apple's) lack.

    Arguments
    ---------
    wav_lens : torch.Tensor
        Relative lengths in (0, 1], (batch,).
    max_length : int
        Number of positions in the padded tensor.
    minimum : int
        Smallest length; 0 for texts, which may be empty.

    Returns
    -------
    torch.Tensor
        Integer lengths, (batch,), on the device of ``wav_lens``.

    Example
    -------
    >>> absolute_lengths(torch.tensor([1.0, 48000 / 48001]), 48001)
    tensor([48001, 48000])
    """
    lengths = torch.round(wav_lens.cpu().double() * max_length).long()
    return lengths.clamp(minimum, max_length).to(wav_lens.device)


def relative_lengths(lengths: torch.Tensor, max_length: int) -> torch.Tensor:
    """Convert integer lengths to SpeechBrain's relative lengths; :func:`absolute_lengths` gives the same integers back.

    Arguments
    ---------
    lengths : torch.Tensor
        Valid positions, integers, (batch,).
    max_length : int
        Number of positions in the padded tensor.

    Returns
    -------
    torch.Tensor
        Relative lengths (``wav_lens``) in [0, 1], float32, (batch,), for SpeechBrain's losses and decoders.

    Raises
    ------
    ValueError
        If the lengths are not integers from 0 to ``max_length``.

    Example
    -------
    >>> relative_lengths(torch.tensor([4, 3]), 4)
    tensor([1.0000, 0.7500])
    """
    check_lengths(lengths, len(lengths))
    if len(lengths) and not 0 <= int(lengths.min()) <= int(lengths.max()) <= max_length:
        raise ValueError(f"lengths {lengths.tolist()}: give integers from 0 to max_length={max_length}")
    return lengths.float() / max_length


def check_lengths(lengths: torch.Tensor, batch_size: int) -> None:
    """Check that lengths are one integer per utterance.

    Arguments
    ---------
    lengths : torch.Tensor
        Valid frames, (batch,).
    batch_size : int
        Number of utterances.

    Raises
    ------
    ValueError
        If lengths are relative, or not one per utterance.

    Example
    -------
    >>> check_lengths(torch.tensor([3, 1]), 2)
    """
    if lengths.shape != (batch_size,) or lengths.is_floating_point():
        raise ValueError(
            f"lengths must be {batch_size} integer numbers of frames, got "
            f"{lengths.dtype} of shape {tuple(lengths.shape)}: convert relative wav_lens with absolute_lengths"
        )
