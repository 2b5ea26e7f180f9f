# SPDX-License-Identifier: Apache-2.0
"""Mixing of channels, and levels out of range."""

import numpy as np
import pytest

from ee_runtime.audio import mixing
from ee_runtime.audio.mixing import LevelError, mix_down


def mixed(samples, *, is_float=False, blocks=1):
    """Return the samples and the warnings."""
    samples = np.asarray(samples, np.float32)
    samples = samples[:, None] if samples.ndim == 1 else samples
    said, parts = [], np.array_split(samples, blocks)
    out = mix_down(lambda: parts, channels=samples.shape[1], is_float=is_float, warn=said.append)
    return np.concatenate(list(out)), said


def noise(count=1000, seed=0):
    return 0.1 * np.random.default_rng(seed).standard_normal(count)


def test_channels_are_averaged():
    out, said = mixed([[0.5, 0.25], [-0.5, 0.0]])
    assert out.tolist() == [0.375, -0.25] and said == []


@pytest.mark.parametrize("silent", [0.0, 5e-4])
def test_a_silent_channel_does_not_halve_the_level(silent):
    out, said = mixed(np.stack([noise(), silent * noise(seed=1)], axis=1))
    np.testing.assert_allclose(out, noise(), atol=1e-7, rtol=0)
    assert said == []


@pytest.mark.parametrize("others", [0.0, 0.01])
def test_channels_that_cancel_are_not_averaged(others):
    samples = np.stack([0.9 * noise() + others * noise(seed=1), -noise() + others * noise(seed=2)], axis=1)
    out, said = mixed(samples, blocks=3)
    np.testing.assert_allclose(out, samples[:, 1], atol=1e-7, rtol=0)
    assert said == ["its channels cancel each other: channel 2, the loudest, is read alone"]


@pytest.mark.parametrize("channels", [2, 8, 32])
def test_channels_without_relation_are_averaged(channels):
    samples = np.stack([noise(seed=seed) for seed in range(channels)], axis=1)
    out, said = mixed(samples)
    np.testing.assert_allclose(out, samples.mean(1), atol=1e-7, rtol=0)
    assert said == []


def test_silence_in_all_channels_stays_silence():
    out, said = mixed(np.zeros((10, 2)))
    assert out.tolist() == [0.0] * 10 and said == []


def test_a_little_beyond_full_scale_is_clipped():
    assert mixed([1.5, -2.0, 0.5], is_float=True)[0].tolist() == [1.0, -1.0, 0.5]


def test_far_beyond_full_scale_is_scaled_and_said():
    out, said = mixed([16384.0, -32768.0], is_float=True)
    assert out.tolist() == [0.5, -1.0] and "divided by 32768" in said[0]
    out, said = mixed([8.0, -4.0], is_float=True)
    assert out.tolist() == [1.0, -0.5] and "go up to 8: they are divided by that" in said[0]
    with pytest.raises(LevelError, match="samples up to 3.277e.04, but float samples must be from -1 to 1"):
        mixed([32769.0], is_float=True)


def test_what_is_decoded_twice_is_the_same(monkeypatch):
    samples = np.stack([noise(), -0.5 * noise()], axis=1)
    once = mixed(samples, blocks=7)[0]
    monkeypatch.setattr(mixing, "KEPT_VALUES", 10)
    np.testing.assert_array_equal(mixed(samples, blocks=7)[0], once)
