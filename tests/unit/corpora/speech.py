# SPDX-License-Identifier: Apache-2.0
"""Utterances of noise, with and without audio files."""

import numpy as np
import soundfile

from speechbrain_ee.corpora.augment import AddNoise, Compose, SpeedPerturb
from speechbrain_ee.corpora.dataset import SpeechDataset
from speechbrain_ee.corpora.manifest import Utterance

TEXTS = ["the cat", "a dog", "the hat", "a tall cat"]


def write_noise(folder):
    """Sixteen utterances of 0.20, 0.22, ..., 0.50 s."""
    rng, made = np.random.default_rng(0), []
    for number in range(16):
        num_samples = 3200 + 320 * number
        path = folder / f"{number:02}.wav"
        soundfile.write(path, 0.1 * rng.standard_normal(num_samples), 16000)
        made.append(Utterance(f"u{number:02}", path, num_samples / 16000, TEXTS[number % 4]))
    return made


def augmented(utterances, tokenizer, **options):
    augment = Compose([SpeedPerturb(), AddNoise()])
    return SpeechDataset(utterances, tokenizer, augment=augment, **options)


def fake(durations):
    """Utterances whose audio is never read."""
    return [Utterance(f"u{i}", f"/none/{i}.wav", d, "cat") for i, d in enumerate(durations)]
