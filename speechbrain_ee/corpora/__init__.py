# SPDX-License-Identifier: Apache-2.0
"""Corpora: manifests, checks, augmentation, and padded batches with integer lengths."""

from speechbrain_ee.audio import AudioError, audio_duration
from speechbrain_ee.corpora.augment import AddNoise, Compose, RandomGain, SpeedPerturb
from speechbrain_ee.corpora.checks import check_alphabet, drop_too_short
from speechbrain_ee.corpora.dataset import SpeechDataset
from speechbrain_ee.corpora.loader import SpeechLoader, make_loader
from speechbrain_ee.corpora.manifest import ManifestError, Utterance, read_manifest, write_manifest
from speechbrain_ee.corpora.recordings import check_durations, load_audio

__all__ = [
    "AddNoise",
    "AudioError",
    "Compose",
    "ManifestError",
    "RandomGain",
    "SpeechDataset",
    "SpeechLoader",
    "SpeedPerturb",
    "Utterance",
    "audio_duration",
    "check_alphabet",
    "check_durations",
    "drop_too_short",
    "load_audio",
    "make_loader",
    "read_manifest",
    "write_manifest",
]
