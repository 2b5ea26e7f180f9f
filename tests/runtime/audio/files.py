# SPDX-License-Identifier: Apache-2.0
"""Audio files as bytes, to be damaged, and the errors that they cause."""

import io

import numpy as np
import pytest
import soundfile

from ee_runtime.audio import AudioError, audio_duration, read_blocks

RATE = 16000
SAMPLES = 40000
WHOLE = SAMPLES / RATE


def speech(num_samples=SAMPLES, channels=1):
    """Noise and a tone, which do not compress well."""
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


def flac_that_claims(num_samples):
    data = bytes_of("FLAC")
    head = int.from_bytes(data[18:26], "big") >> 36 << 36
    data[18:26] = (head | num_samples).to_bytes(8, "big")
    return data


def mp3(mode, *, counted=True):
    data = bytes_of("MP3", bitrate_mode=mode, compression_level=0.5)
    return data if counted else data[data.index(data[:2], 4) :]


def length(path):
    return sum(len(block) for block in read_blocks(path))


def refusal(path):
    said = []
    for call in (audio_duration, length):
        with pytest.raises(AudioError) as caught:
            call(path)
        said.append(str(caught.value))
    assert said[0] == said[1] and str(path) in said[0] and "\n" not in said[0]
    return said[0]
