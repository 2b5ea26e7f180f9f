# SPDX-License-Identifier: Apache-2.0
"""Convert waveforms of callers (tensors or arrays, floating point or integers) to float32 tensors."""

from collections.abc import Sequence

import numpy as np
import torch

from speechbrain_ee.audio.mixing import LARGEST_PEAK
from speechbrain_ee.lobes.padding import absolute_lengths

INTEGERS = {torch.int16: 2**15, torch.int32: 2**31}
TYPES = "give a torch tensor or a NumPy array of float32, float64, float16, int16 or int32"

Waveform = torch.Tensor | np.ndarray


def as_float32(waveform: Waveform) -> torch.Tensor:
    """Convert samples to float32 from -1 to 1.

    Arguments
    ---------
    waveform : torch.Tensor | np.ndarray
        Any shape. Floating point from -1 to 1; peaks up to 4 are clipped, as in files. Integers of 16 or 32 bits, which
        are divided by 2 ** 15 or 2 ** 31.

    Returns
    -------
    torch.Tensor
        Same shape and device; the input itself if it is float32 from -1 to 1.

    Raises
    ------
    ValueError
        If the type is not supported, a sample is NaN or infinite, or a floating-point sample is beyond 4.

    Example
    -------
    >>> as_float32(np.array([16384, -32768], dtype=np.int16))
    tensor([ 0.5000, -1.0000])
    """
    if isinstance(waveform, np.ndarray):
        if waveform.dtype.kind not in "fi" or waveform.dtype in (np.int8, np.int64):
            raise ValueError(f"got a waveform of type {waveform.dtype}: {TYPES}")
        native = waveform.dtype.newbyteorder("=")
        # Copied if needed: torch takes no negative strides, foreign byte orders or long doubles.
        waveform = torch.from_numpy(np.array(waveform, dtype=np.float32 if native.kind == "f" else native, order="C"))
    if not isinstance(waveform, torch.Tensor):
        raise ValueError(f"got a waveform that is a {type(waveform).__name__}: {TYPES}")
    if waveform.dtype in INTEGERS:
        return waveform.float() / INTEGERS[waveform.dtype]
    if not waveform.is_floating_point():
        raise ValueError(f"got a waveform of type {waveform.dtype}: {TYPES}")
    waveform = waveform.detach().to(torch.float32)
    peak = float(waveform.abs().max()) if waveform.numel() else 0.0
    if not np.isfinite(peak):
        raise ValueError("got a waveform with samples that are NaN or infinite: give numbers from -1 to 1")
    if peak > LARGEST_PEAK:
        raise ValueError(f"got a float waveform with samples up to {peak:.4g}: give -1 to 1, or integers as int16")
    return waveform.clamp(-1.0, 1.0) if peak > 1 else waveform


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
    if isinstance(waveforms, torch.Tensor | np.ndarray) and waveforms.ndim != 2:
        raise ValueError(f"got one array of shape {tuple(waveforms.shape)}: give a list of waveforms, each (samples,)")
    waveforms = list(waveforms)
    shapes = [tuple(getattr(waveform, "shape", ("no array",))) for waveform in waveforms]
    if not shapes or any(len(shape) != 1 or shape[0] == 0 for shape in shapes):
        raise ValueError(f"got waveforms of shapes {shapes}: give at least one, each (samples,) and not empty")
    return [as_float32(waveform) for waveform in waveforms]


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
    wavs = as_float32(wavs)
    return wavs, num_samples
