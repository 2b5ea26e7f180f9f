# SPDX-License-Identifier: Apache-2.0
"""Convert waveforms of callers (tensors or arrays, floating point or integers) to float32 tensors."""

from collections.abc import Sequence

import numpy as np
import torch

from ee_runtime import waveforms as arrays
from speechbrain_ee.lobes.padding import absolute_lengths

Waveform = torch.Tensor | np.ndarray


def as_float32(waveform: Waveform) -> torch.Tensor:
    """Convert samples to float32 from -1 to 1.

    Arguments
    ---------
    waveform : torch.Tensor | np.ndarray
        Any shape, see :func:`ee_runtime.waveforms.as_float32`.

    Returns
    -------
    torch.Tensor
        Same shape and device; the input itself if it is a float32 tensor from -1 to 1.

    Raises
    ------
    ValueError
        If the type is not supported, a sample is NaN or infinite, or a floating-point sample is beyond 4.

    Example
    -------
    >>> as_float32(np.array([16384, -32768], dtype=np.int16))
    tensor([ 0.5000, -1.0000])
    """
    if not isinstance(waveform, torch.Tensor):
        return torch.from_numpy(arrays.as_float32(waveform))
    kind = str(waveform.dtype).removeprefix("torch.")
    if kind in arrays.INTEGERS:
        return waveform.float() / arrays.INTEGERS[kind]
    if not waveform.is_floating_point():
        raise ValueError(f"got a waveform of type {waveform.dtype}: give a tensor of {arrays.TYPES}")
    waveform = waveform.detach().to(torch.float32)
    peak = float(waveform.abs().max()) if waveform.numel() else 0.0
    return waveform.clamp(-1.0, 1.0) if arrays.is_beyond_one(peak) else waveform


def as_list(waveforms: Sequence[Waveform]) -> list[torch.Tensor]:
    """Check waveforms (samples,) of any lengths, and convert each to float32.

    Raises
    ------
    ValueError
        If there is no waveform, or one is empty, has channels, or has an unsupported type.

    Example
    -------
    >>> as_list([np.zeros(3), torch.zeros(2)])
    [tensor([0., 0., 0.]), tensor([0., 0.])]
    """
    return [as_float32(waveform) for waveform in arrays.check_shapes(waveforms)]


def as_batch(wavs: Waveform, wav_lens: Waveform | Sequence[float]) -> tuple[torch.Tensor, torch.Tensor]:
    """Check a padded batch, and convert relative lengths to numbers of samples.

    Arguments
    ---------
    wavs : torch.Tensor | np.ndarray
        (batch, samples).
    wav_lens : torch.Tensor | np.ndarray | sequence of float
        Relative lengths in (0, 1], (batch,).

    Returns
    -------
    tuple[torch.Tensor, torch.Tensor]
        (batch, samples) float32 and (batch,) integers.

    Raises
    ------
    ValueError
        If shapes are wrong, lengths are not relative, or samples have an unsupported type.

    Example
    -------
    >>> as_batch(np.zeros((2, 4)), [1.0, 0.5])[1]
    tensor([4, 2])
    """
    lengths = wav_lens if isinstance(wav_lens, torch.Tensor) else torch.from_numpy(np.asarray(wav_lens, np.float64))
    lengths, shape = lengths.cpu(), tuple(getattr(wavs, "shape", ()))
    if len(shape) != 2 or lengths.shape != shape[:1] or not bool(((lengths > 0) & (lengths <= 1)).all()):
        raise ValueError(
            f"got wavs of shape {shape} and wav_lens {lengths.tolist()}: give (batch, samples) and one relative length "
            "in (0, 1] for each"
        )
    num_samples = absolute_lengths(lengths, shape[1])
    return as_float32(wavs), num_samples
