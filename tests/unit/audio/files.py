# SPDX-License-Identifier: Apache-2.0
"""Audio as bytes, to be broken."""

import io

import numpy as np
import soundfile

RATE = 16000
SAMPLES = 40000


def speech(num_samples=SAMPLES, channels=1):
    """Noise and a tone: nothing that compresses well."""
    rng = np.random.default_rng(0)
    samples = 0.1 * rng.standard_normal(num_samples) + 0.3 * np.sin(0.05 * np.arange(num_samples))
    return samples if channels == 1 else np.repeat(samples[:, None], channels, 1)


def bytes_of(format, samples=None, rate=RATE, **how):
    buffer = io.BytesIO()
    soundfile.write(buffer, speech() if samples is None else samples, rate, format=format, **how)
    return bytearray(buffer.getvalue())


def save(folder, data, name="a.bin"):
    path = folder / name
    path.write_bytes(bytes(data))
    return path
