# SPDX-License-Identifier: Apache-2.0
"""Exit states on disk: those of the encoder, found again, and nothing else's."""

from collections import namedtuple

import numpy as np
import pytest
import soundfile
import torch
from unit.models import make_encoder, make_features

from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.corpora.state_cache import CachedEncoder, CachedFeatures, StateCache


@pytest.fixture
def utterances(tmp_path):
    rng = np.random.default_rng(0)
    found = []
    for number, seconds in enumerate((0.5, 0.2, 0.35)):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, rng.standard_normal(int(16000 * seconds)) / 10, 16000)
        found.append(Utterance(str(number), path, seconds, "a"))
    return found


def cache_of(folder, utterances, family="conformer", **arguments):
    return StateCache(folder, utterances, make_features(family), make_encoder(family, **arguments))


@pytest.mark.parametrize("family", ["conformer", "wavlm", "whisper"])
@torch.no_grad()
def test_what_is_read_are_the_states_of_the_utterance_alone(tmp_path, utterances, family):
    cache = cache_of(tmp_path / "states", utterances, family)
    cache.fill()
    for one in utterances:
        waveform = torch.from_numpy(soundfile.read(one.audio_filepath, dtype="float32")[0])
        feats, frames = cache.features(waveform[None], torch.tensor([len(waveform)]))
        states, lengths = cache.encoder(feats, frames)
        read = CachedEncoder(num_exits=3)(*CachedFeatures()(cache.read(one.id)[None], lengths))
        assert torch.equal(read[1], lengths)
        for state, kept in zip(states, read[0], strict=True):
            torch.testing.assert_close(kept, state, rtol=1e-3, atol=1e-3)  # half precision
    assert cache.path.stat().st_size == cache.num_bytes


def test_it_is_computed_once(tmp_path, utterances):
    first = cache_of(tmp_path / "states", utterances)
    first.fill()
    written = first.path.stat().st_mtime_ns
    again = cache_of(tmp_path / "states", utterances)
    again.fill()
    assert again.path == first.path and again.path.stat().st_mtime_ns == written


def test_an_interrupted_one_is_begun_anew(tmp_path, utterances):
    cache = cache_of(tmp_path / "states", utterances)
    cache.path.parent.mkdir()
    cache.path.write_bytes(b"half")
    cache.fill()
    assert cache.path.stat().st_size == cache.num_bytes


def test_other_weights_utterances_or_exits_have_a_file_of_their_own(tmp_path, utterances):
    caches = [
        cache_of(tmp_path, utterances),
        cache_of(tmp_path, utterances, seed=1),
        cache_of(tmp_path, utterances[:2]),
        cache_of(tmp_path, utterances, exit_layers=[2, 4]),
    ]
    assert len({cache.path for cache in caches}) == 4


def test_a_disk_without_room_is_said_before_anything_is_computed(tmp_path, utterances, monkeypatch):
    usage = namedtuple("usage", "free")
    monkeypatch.setattr("speechbrain_ee.corpora.state_cache.shutil.disk_usage", lambda _: usage(free=10))
    cache = cache_of(tmp_path / "states", utterances)
    with pytest.raises(OSError, match="0.0 GB free: give another folder, or fewer exits"):
        cache.fill()
    assert not cache.path.exists()


def test_a_state_that_half_precision_cannot_hold_is_refused(tmp_path, utterances):
    cache = cache_of(tmp_path / "states", utterances)
    cache.encoder.transformer.encoder.norm.norm.weight.data *= 1e6
    with pytest.raises(ValueError, match="does not fit into half precision: train without state_cache"):
        cache.fill()
