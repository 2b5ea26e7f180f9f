# SPDX-License-Identifier: Apache-2.0
"""Corpora: from a manifest to padded batches.

* `manifest`: the list of utterances, as JSON lines or SpeechBrain CSV
* `audio`: files to waveforms, durations checked
* `augment`: speed, noise and gain, driven by a generator that is passed in
* `checks`: whether every utterance can be learned from
* `dataset`: utterances to items
* `state_cache`: exit states of a frozen encoder in the place of audio
* `loader`: items to padded batches, exactly resumable
* `synthetic`: the embedded default corpus (needs the extra `[synth]`; import it by name), made of `grammar`, `espeak`
  and `degrade`
"""

from speechbrain_ee.corpora.audio import AudioError, audio_duration, check_durations, load_audio
from speechbrain_ee.corpora.augment import AddNoise, Compose, RandomGain, SpeedPerturb
from speechbrain_ee.corpora.checks import check_alphabet, drop_too_short
from speechbrain_ee.corpora.dataset import SpeechDataset, make_dataset
from speechbrain_ee.corpora.loader import SpeechLoader, make_loader
from speechbrain_ee.corpora.manifest import (
    ManifestError,
    Utterance,
    read_manifest,
    write_manifest,
)

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
    "make_dataset",
    "make_loader",
    "read_manifest",
    "write_manifest",
]
