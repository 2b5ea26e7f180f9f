# SPDX-License-Identifier: Apache-2.0
"""Exit states on disk: those of the encoder, found again, and nothing else's."""

from collections import namedtuple

import numpy as np
import pytest
import soundfile
import torch
from unit.models import make_encoder, make_features

from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.corpora.state_cache import CachedEncoder, CachedFeatures, StateCache, check_room


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
    cache.path.with_suffix(".part").write_bytes(b"half")
    cache.fill()
    assert cache.path.stat().st_size == cache.num_bytes
    assert {path.suffix for path in cache.path.parent.iterdir()} <= {".f16", ".json", ".lock"}


def test_a_damaged_one_is_refused(tmp_path, utterances):
    cache = cache_of(tmp_path / "states", utterances)
    cache.fill()
    cache.path.write_bytes(cache.path.read_bytes()[:100])
    with pytest.raises(ValueError, match="has not the size that its index says: remove both"):
        cache.read("0")


def test_the_encoder_is_left_as_it_was(tmp_path, utterances):
    cache = cache_of(tmp_path / "states", utterances)
    cache.encoder.train()
    cache.features.double()  # moved and back, as from a GPU
    cache.features.float()
    cache.fill()
    assert cache.encoder.training
    cache.features.mean += 1  # no inference tensor
    states, _ = cache.encoder(torch.randn(1, 30, 20), torch.tensor([30]))
    sum(state.sum() for state in states).backward()


def test_another_recording_of_the_same_name_has_a_file_of_its_own(tmp_path, utterances):
    before = cache_of(tmp_path, utterances).path
    soundfile.write(utterances[0].audio_filepath, np.zeros(9000), 16000)
    assert cache_of(tmp_path, utterances).path != before


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
    caches = [cache_of(tmp_path / "states", some) for some in (utterances, utterances[:1])]
    total = sum(cache.num_bytes for cache in caches)
    for free in (total, total - 1):
        monkeypatch.setattr(
            "speechbrain_ee.corpora.state_cache.shutil.disk_usage", lambda _, free=free: usage(free=free)
        )
        if free == total:
            check_room(caches)
    with pytest.raises(OSError, match="0.0 GB free: give another folder, or fewer exits"):
        check_room(caches)
    caches[1].fill()
    check_room(caches)  # it has been computed, and is not to be


def test_a_state_that_half_precision_cannot_hold_is_refused(tmp_path, utterances):
    cache = cache_of(tmp_path / "states", utterances)
    cache.encoder.transformer.encoder.norm.norm.weight.data *= 1e6
    with pytest.raises(ValueError, match="does not fit into half precision: train without state_cache"):
        cache.fill()


def test_the_longest_come_first_and_silence_behind_them_counts(tmp_path, utterances):
    cache = cache_of(tmp_path / "states", utterances)
    assert [[one.id for one in batch] for batch in cache._batches(0.8)] == [["0"], ["2", "1"]]
    cache.features.min_seconds = 30.0
    assert [[one.id for one in batch] for batch in cache._batches(60.0)] == [["0", "2"], ["1"]]
