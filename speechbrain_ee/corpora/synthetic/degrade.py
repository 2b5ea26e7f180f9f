# SPDX-License-Identifier: Apache-2.0
"""Recording conditions: noise, band limits and reverberation, and their random distribution."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy import fft
from scipy import signal as dsp

SAMPLE_RATE = 16000

CLEAN_SHARE = 0.55  # share of utterances that are nearly clean
CLEAN_SNR_DB = (25.0, 40.0)
HARD_SNR_DB = (2.0, 20.0)  # SNR of the others, with an exponential distribution from the upper end
TAIL_DB = 8.0  # the distribution falls by 1/e per this number of dB; higher = more very noisy utterances
NOISE_SLOPES = {"white": 0.0, "pink": 0.5, "brown": 1.0}  # amplitude ~ frequency ** -slope
CHANNELS_HZ = {"full": None, "telephone": (300, 3400), "lowpass": (20, 2500)}


@dataclass(frozen=True)
class Condition:
    """Recording condition of an utterance.

    Arguments
    ---------
    noise : str
        ``white``, ``pink``, ``brown`` or ``babble``.
    snr_db : float
        Signal-to-noise ratio of the mean powers after the band limit, in dB.
    channel : str
        Band limit: ``full``, ``telephone`` or ``lowpass``.
    rt60_s : float
        Reverberation time in seconds; 0 for none.

    Example
    -------
    >>> Condition(noise="pink", snr_db=3.0, channel="telephone", rt60_s=0.3).name
    'pink+telephone+reverb'
    """

    noise: str
    snr_db: float
    channel: str = "full"
    rt60_s: float = 0.0

    @property
    def name(self) -> str:
        """Short label; ``clean`` for light noise alone."""
        noise = "clean" if self.snr_db >= CLEAN_SNR_DB[0] else self.noise
        channel = f"+{self.channel}" if self.channel != "full" else ""
        return noise + channel + ("+reverb" if self.rt60_s else "")


def draw_condition(rng: np.random.Generator) -> Condition:
    """Draw the condition of an utterance: nearly clean, or from a long tail of lower SNRs."""
    hard = rng.random() >= CLEAN_SHARE
    if hard:
        low, high = HARD_SNR_DB
        reach = 1 - np.exp(-(high - low) / TAIL_DB)
        snr_db = high + TAIL_DB * np.log(1 - rng.random() * reach)
    else:
        snr_db = rng.uniform(*CLEAN_SNR_DB)
    noises = [*NOISE_SLOPES, "babble"] if hard else ["white", "pink"]
    limited = rng.random() < (0.4 if hard else 0.1)
    reverberant = rng.random() < (0.4 if hard else 0.1)
    return Condition(
        noise=str(rng.choice(noises)),
        snr_db=round(float(snr_db), 2),
        channel=str(rng.choice(["telephone", "lowpass"])) if limited else "full",
        rt60_s=round(float(rng.uniform(0.15, 0.5)), 2) if reverberant else 0.0,
    )


@lru_cache(maxsize=len(CHANNELS_HZ))
def _channel_filter(channel: str) -> np.ndarray:
    return dsp.butter(4, CHANNELS_HZ[channel], "bandpass", fs=SAMPLE_RATE, output="sos")


def limit_band(samples: np.ndarray, channel: str) -> np.ndarray:
    """Apply a band limit of ``CHANNELS_HZ``."""
    return samples if channel == "full" else dsp.sosfilt(_channel_filter(channel), samples)


def coloured_noise(num_samples: int, slope: float, rng: np.random.Generator) -> np.ndarray:
    """Generate noise with an amplitude spectrum of ``frequency ** -slope``, flat below 50 Hz."""
    size = fft.next_fast_len(num_samples, real=True)  # prime lengths are slow
    spectrum = fft.rfft(rng.standard_normal(size))
    hertz = fft.rfftfreq(size, 1 / SAMPLE_RATE)
    return fft.irfft(spectrum * np.maximum(hertz, 50.0) ** -slope, size)[:num_samples]


def add_reverb(samples: np.ndarray, rt60_s: float, rng: np.random.Generator) -> np.ndarray:
    """Convolve with a direct path and exponentially decaying noise, keeping the length."""
    if rt60_s == 0:
        return samples
    seconds = np.arange(int(rt60_s * SAMPLE_RATE)) / SAMPLE_RATE
    room = rng.standard_normal(len(seconds)) * 10 ** (-3 * seconds / rt60_s)
    room *= 0.7 / np.sqrt(np.sum(room**2))  # the tail is 3 dB below the direct path
    room[0] = 1.0
    return dsp.fftconvolve(samples, room)[: len(samples)]


def mix_at_snr(speech: np.ndarray, noise: np.ndarray, snr_db: float) -> np.ndarray:
    """Add noise at a signal-to-noise ratio of mean powers.

    Uses NumPy, since torch's threads do not survive the fork of the worker processes that call this function.

    Arguments
    ---------
    speech : np.ndarray
        (num_samples,)
    noise : np.ndarray
        (num_samples,), of any level above 0.
    snr_db : float
        Signal-to-noise ratio in dB.

    Returns
    -------
    np.ndarray
        (num_samples,)

    Example
    -------
    >>> mix_at_snr(np.array([2.0, -2.0]), np.array([5.0, 5.0]), snr_db=20.0)
    array([ 2.2, -1.8])
    """
    power = np.mean(speech**2) / np.mean(noise**2)
    return speech + noise * np.sqrt(power / 10 ** (snr_db / 10))
