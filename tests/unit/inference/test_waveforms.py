# SPDX-License-Identifier: Apache-2.0
"""Waveforms of all types that callers may give."""

import numpy as np
import pytest
import soundfile
import torch

from ee_runtime.audio import read_blocks
from speechbrain_ee.inference.waveforms import as_batch, as_float32, as_list

VALUES = [0.5, -1.0, 0.25]


@pytest.mark.parametrize(
    "waveform",
    [
        np.array(VALUES),
        np.array(VALUES, ">f8"),
        np.array(VALUES, np.float16),
        np.array(VALUES, np.longdouble),
        np.array(VALUES[::-1])[::-1],
        np.array([16384, -32768, 8192], np.int16),
        np.array([16384, -32768, 8192], ">i2"),
        np.array([2**30, -(2**31), 2**29], np.int32),
        torch.tensor(VALUES, dtype=torch.float64),
        torch.tensor(VALUES, dtype=torch.bfloat16),
        torch.tensor([16384, -32768, 8192], dtype=torch.int16),
        torch.tensor(VALUES, requires_grad=True),
    ],
)
def test_every_type_becomes_float32_from_minus_1_to_1(waveform):
    found = as_float32(waveform)
    assert (found.dtype, found.tolist(), found.requires_grad) == (torch.float32, VALUES, False)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_little_beyond_full_scale_is_clipped_as_in_files(tmp_path, dtype):
    samples = np.array([1.5, -4.0, 0.5, 1.0], dtype)
    soundfile.write(tmp_path / "a.wav", samples.astype(np.float32), 16000, subtype="FLOAT")
    (block,) = read_blocks(tmp_path / "a.wav")
    assert as_float32(samples).tolist() == block.tolist() == [1.0, -1.0, 0.5, 1.0]
    assert samples.tolist() == [1.5, -4.0, 0.5, 1.0]  # the caller's samples are not changed


def test_an_array_that_may_not_be_written_is_left_alone():
    array = np.array(VALUES, np.float32)
    array.flags.writeable = False
    as_float32(array).mul_(2)
    assert array.tolist() == VALUES


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.array([1, 2]), "type int64: give a NumPy array of float32"),
        (np.array([True]), "type bool"),
        (np.array([1], np.uint8), "type uint8"),
        (np.array([1], np.uint16), "type uint16"),
        (np.array([1j]), "type complex128"),
        (np.array(["a"]), "type <U1"),
        (torch.tensor([1, 2]), "type torch.int64"),
        (torch.tensor([1j]), "type torch.complex64"),
        ([0.5, 0.5], "that is a list"),
        (np.array([np.nan]), "NaN or infinite"),
        (np.array([1e300]), "NaN or infinite"),
        (np.array([0.0, 4.001]), "float waveform with samples up to 4.001: give -1 to 1, or integers as int16"),
        (torch.tensor([-200.0, 0.0]), "float waveform with samples up to 200"),
        (np.array([0.0, -32768.0]), "float waveform with samples up to 3.277e.04: give -1 to 1, or integers as int16"),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered in cast")
def test_other_types_and_levels_are_refused(waveform, message):
    with pytest.raises(ValueError, match=message) as caught:
        as_float32(waveform)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("waveforms", "message"),
    [
        (np.zeros(30000), r"one array of shape \(30000,\): give a list of waveforms"),
        (torch.zeros(2, 3, 4), "one array of shape"),
        ([], r"shapes \[\]: give at least one"),
        ([np.zeros((2, 3))], r"shapes \[\(2, 3\)\]"),
        ([np.zeros(0)], r"shapes \[\(0,\)\]"),
    ],
)
def test_lists_that_are_none(waveforms, message):
    with pytest.raises(ValueError, match=message):
        as_list(waveforms)


def test_a_batch_as_numpy_and_lists():
    wavs, num_samples = as_batch(np.zeros((3, 48001)), [1.0, 48000 / 48001, 1 / 48001])
    assert (wavs.dtype, num_samples.tolist()) == (torch.float32, [48001, 48000, 1])


@pytest.mark.parametrize("lens", [[1.0], [0.5, 0.0], [0.5, 1.1], [[1.0, 1.0]], [0.5, np.nan]])
def test_lengths_that_are_not_relative(lens):
    with pytest.raises(ValueError, match="one relative length in"):
        as_batch(np.zeros((2, 10)), np.array(lens))
