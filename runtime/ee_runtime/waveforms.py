# SPDX-License-Identifier: Apache-2.0
"""Check waveforms of callers, and convert NumPy arrays (floating point or integers) to float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ee_runtime.audio.mixing import LARGEST_PEAK

INTEGERS = {"int16": 2**15, "int32": 2**31}
TYPES = "float32, float64, float16, int16 or int32"


def as_float32(waveform: np.ndarray) -> np.ndarray:
    """Convert samples to float32 from -1 to 1.

    Arguments
    ---------
    waveform : np.ndarray
        Any shape. Floating point from -1 to 1; peaks up to 4 are clipped, as in files. Integers of 16 or 32 bits, which
        are divided by 2 ** 15 or 2 ** 31.

    Returns
    -------
    np.ndarray
        A contiguous array of the same shape.

    Raises
    ------
    ValueError
        If the type is not supported, a sample is NaN or infinite, or a floating-point sample is beyond 4.

    Example
    -------
    >>> as_float32(np.array([16384, -32768], dtype=np.int16))
    array([ 0.5, -1. ], dtype=float32)
    """
    if not isinstance(waveform, np.ndarray):
        raise ValueError(f"got a waveform that is a {type(waveform).__name__}: give a NumPy array of {TYPES}")
    kind = waveform.dtype.newbyteorder("=")
    if kind.name in INTEGERS:
        return np.ascontiguousarray(waveform, dtype=np.float32) / np.float32(INTEGERS[kind.name])
    if kind.kind != "f":
        raise ValueError(f"got a waveform of type {waveform.dtype}: give a NumPy array of {TYPES}")
    waveform = np.array(waveform, dtype=np.float32, order="C")
    return np.clip(waveform, -1.0, 1.0) if is_beyond_one(np.abs(waveform).max(initial=0.0)) else waveform


def is_beyond_one(peak: float) -> bool:
    """Check the largest absolute sample of a floating-point waveform; True if the waveform must be clipped.

    Raises
    ------
    ValueError
        If the peak is NaN, infinite or beyond 4.
    """
    if not np.isfinite(peak):
        raise ValueError("got a waveform with samples that are NaN or infinite: give numbers from -1 to 1")
    if peak > LARGEST_PEAK:
        raise ValueError(f"got a float waveform with samples up to {peak:.4g}: give -1 to 1, or integers as int16")
    return bool(peak > 1)


def check_shapes(waveforms: Sequence) -> list:
    """Check that waveforms of any array type are (samples,) and not empty, and return them as a list.

    Raises
    ------
    ValueError
        If there is no waveform, or one is empty or has channels.

    Example
    -------
    >>> len(check_shapes([np.zeros(3), np.zeros(2)]))
    2
    """
    shape = getattr(waveforms, "shape", None)
    if shape is not None and len(shape) != 2:
        raise ValueError(f"got one array of shape {tuple(shape)}: give a list of waveforms, each (samples,)")
    waveforms = list(waveforms)
    shapes = [tuple(getattr(waveform, "shape", ("no array",))) for waveform in waveforms]
    if not shapes or any(len(shape) != 1 or shape[0] == 0 for shape in shapes):
        raise ValueError(f"got waveforms of shapes {shapes}: give at least one, each (samples,) and not empty")
    return waveforms
