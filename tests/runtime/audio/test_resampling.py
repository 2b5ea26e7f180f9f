# SPDX-License-Identifier: Apache-2.0
"""Resampling in blocks."""

import numpy as np
import pytest

from ee_runtime.audio.resampling import resample


def whole(blocks, rate, new_rate=16000):
    return np.concatenate(list(resample(blocks, rate, new_rate)))


@pytest.mark.parametrize("rate", [4001, 8000, 16001, 44101, 48000, 768_000])
def test_blocks_of_any_size_give_the_same_bit_for_bit(rate):
    samples = np.random.default_rng(0).standard_normal(2 * rate + 13).astype(np.float32)
    wanted = whole([samples], rate)
    assert len(wanted) == round(len(samples) * 16000 / rate)
    for size in (997, 65536):
        np.testing.assert_array_equal(whole(np.split(samples, range(size, len(samples), size)), rate), wanted)


def test_what_the_new_rate_cannot_hold_is_taken_out():
    tone = np.sin(2 * np.pi * 10_000 * np.arange(96_000) / 48_000).astype(np.float32)  # beyond 8 kHz
    assert np.abs(whole([tone], 48_000)[500:-500]).max() < 1e-4


def test_the_same_rate_changes_nothing():
    samples = np.arange(5, dtype=np.float32)
    assert whole([samples[:2], samples[2:]], 16000).tolist() == samples.tolist()


def test_no_sample_stays_none_and_one_stays_one():
    assert list(resample([], 48000, 16000)) == []
    assert whole([np.array([0.25], np.float32)], 48000).tolist() == [0.25]
