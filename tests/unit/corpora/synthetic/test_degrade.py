# SPDX-License-Identifier: Apache-2.0
"""Noise, band limits and reverberation, measured."""

import numpy as np
import pytest
from unit.corpora.levels import level_db

from speechbrain_ee.corpora.synthetic import degrade


def test_difficulty_is_mostly_clean_with_a_long_tail():
    rng = np.random.default_rng(0)
    snr = np.array([degrade.draw_condition(rng).snr_db for _ in range(20000)])
    assert np.mean(snr >= 25) == pytest.approx(0.55, abs=0.015)
    shares = np.histogram(snr, bins=[2, 5, 10, 15, 20])[0] / len(snr)
    # 0.45 times exp(-(20 - snr) / 8), cut at 2 dB, over each bin: by hand
    np.testing.assert_allclose(shares, [0.0241, 0.0670, 0.1251, 0.2338], atol=0.01)


@pytest.mark.parametrize("snr_db", [-3.0, 0.0, 12.5])
def test_mix_has_the_stated_snr(snr_db):
    rng = np.random.default_rng(0)
    speech, noise = rng.normal(scale=0.1, size=4000), rng.normal(scale=7.0, size=4000)
    mixed = degrade.mix_at_snr(speech, noise, snr_db)
    assert level_db(speech) - level_db(mixed - speech) == pytest.approx(snr_db, abs=1e-9)


def test_pink_noise_has_equal_power_per_octave_and_brown_3_db_less():
    rng = np.random.default_rng(0)

    def octave_step_db(slope: float) -> float:
        power = np.abs(np.fft.rfft(degrade.coloured_noise(160000, slope, rng))) ** 2
        low, high = power[5000:10000].sum(), power[10000:20000].sum()  # bins of 0.1 Hz
        return 10 * np.log10(high / low)

    assert octave_step_db(0.0) == pytest.approx(3.01, abs=0.3)
    assert octave_step_db(0.5) == pytest.approx(0.0, abs=0.3)
    assert octave_step_db(1.0) == pytest.approx(-3.01, abs=0.3)


@pytest.mark.parametrize(
    ("channel", "kept_hz", "lost_hz"),
    [("telephone", 1000, 100), ("telephone", 1000, 6000), ("lowpass", 1000, 5000)],
)
def test_channels_limit_the_band(channel, kept_hz, lost_hz):
    seconds = np.arange(16000) / 16000
    kept, lost = (np.sin(2 * np.pi * hertz * seconds) for hertz in (kept_hz, lost_hz))
    assert level_db(degrade.limit_band(kept, channel)) > level_db(kept) - 0.5
    assert level_db(degrade.limit_band(lost, channel)) < level_db(lost) - 20


def test_reverb_keeps_the_direct_path_and_decays_by_60_db():
    impulse = np.zeros(16000)
    impulse[100] = 1.0
    heard = degrade.add_reverb(impulse, 0.4, np.random.default_rng(0))
    assert len(heard) == 16000
    np.testing.assert_allclose(heard[:100], 0, atol=1e-12)  # atol: rounding of the FFT
    assert heard[100] == pytest.approx(1.0)
    start, end = heard[101:421], heard[100 + 6080 : 100 + 6400]  # 20 ms each, 380 ms apart
    assert level_db(start) - level_db(end) == pytest.approx(60 * 380 / 400, abs=2)
