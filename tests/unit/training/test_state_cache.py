# SPDX-License-Identifier: Apache-2.0
"""Exit states on disk: those of the encoder, found again, and nothing else's."""

from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
import soundfile
import torch
from unit.models import make_encoder, make_features

from speechbrain_ee.code_version import PACKAGES, code_version
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.training.cached_encoder import CachedEncoder, CachedFeatures, check_room
from speechbrain_ee.training.state_cache import CODE, LIBRARIES, StateCache


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


def count_batches(cache):
    calls = []
    cache.encoder.register_forward_pre_hook(lambda _, inputs: calls.append(len(inputs[0])))
    return calls


def interrupted(folder, utterances, *, after):
    """A cache whose computation was stopped in the batch behind so many."""
    cache = cache_of(folder, utterances)
    calls = count_batches(cache)

    def stop(*_):
        if len(calls) > after:
            raise KeyboardInterrupt

    cache.encoder.register_forward_pre_hook(stop)
    with pytest.raises(KeyboardInterrupt):
        cache.fill(max_batch_seconds=0.5)
    return cache


@pytest.mark.parametrize("after", [0, 1, 2])
def test_an_interrupted_one_is_continued_and_equals_an_uninterrupted_one(tmp_path, utterances, after):
    whole = cache_of(tmp_path / "whole", utterances)
    whole.fill(max_batch_seconds=0.5)
    interrupted(tmp_path / "states", utterances, after=after)
    again = cache_of(tmp_path / "states", utterances)
    calls = count_batches(again)
    assert not again.is_whole
    again.fill(max_batch_seconds=0.5)
    assert len(calls) == 3 - after
    assert again.is_whole and again.path.read_bytes() == whole.path.read_bytes()


def test_what_a_kill_leaves_half_written_is_computed_again(tmp_path, utterances):
    cache = interrupted(tmp_path / "states", utterances, after=2)
    whole = cache.path.read_bytes()
    cache.path.write_bytes(whole[:-10])  # of the second utterance
    index = cache.path.with_suffix(".jsonl")
    index.write_text(index.read_text() + '{"id": "1", "fir')
    again = cache_of(tmp_path / "states", utterances)
    calls = count_batches(again)
    again.fill(max_batch_seconds=0.5)
    assert len(calls) == 2
    assert again.is_whole and again.path.read_bytes()[: len(whole)] == whole
    assert len(again.read("1")) > 0


def test_only_a_recording_that_has_changed_is_computed_again(tmp_path, utterances):
    cache = cache_of(tmp_path / "states", utterances)
    cache.fill(max_batch_seconds=0.5)
    before = {one.id: cache.read(one.id) for one in utterances}
    soundfile.write(utterances[1].audio_filepath, np.full(5000, 0.1), 16000)
    again = cache_of(tmp_path / "states", utterances)
    assert again.path == cache.path and not again.is_whole
    calls = count_batches(again)
    again.fill(max_batch_seconds=0.5)
    assert calls == [1]
    after = {one.id: again.read(one.id) for one in utterances}
    assert [torch.equal(before[name], after[name]) for name in "02"] == [True, True]
    assert len(after["1"]) != len(before["1"])


def test_parts_of_a_recording_have_the_states_of_files_and_another_part_is_computed_again(tmp_path, utterances):
    pieces = [soundfile.read(one.audio_filepath, dtype="int16")[0] for one in utterances]
    soundfile.write(tmp_path / "all.wav", np.concatenate(pieces), 16000)
    starts = [sum(map(len, pieces[:index])) / 16000 for index in range(3)]
    parts = [
        replace(one, audio_filepath=tmp_path / "all.wav", offset=start)
        for one, start in zip(utterances, starts, strict=True)
    ]
    files, cache = cache_of(tmp_path / "files", utterances), cache_of(tmp_path / "states", parts)
    files.fill(max_batch_seconds=0.5)
    cache.fill(max_batch_seconds=0.5)
    before = {one.id: cache.read(one.id) for one in parts}
    assert all(torch.equal(before[name], files.read(name)) for name in "012")
    assert cache_of(tmp_path / "states", parts).is_whole
    again = cache_of(tmp_path / "states", [parts[0], replace(parts[1], offset=0.1), parts[2]])
    assert not again.is_whole
    calls = count_batches(again)
    again.fill(max_batch_seconds=0.5)
    assert sum(calls) < 3
    assert [torch.equal(before[name], again.read(name)) for name in "012"] == [True, False, True]


def test_a_broken_recording_is_named_and_costs_the_others_nothing(tmp_path, utterances):
    good = utterances[0].audio_filepath.read_bytes()
    utterances[0].audio_filepath.write_bytes(b"no audio")
    cache = cache_of(tmp_path / "states", utterances)
    with pytest.raises(ValueError, match="1 of 3 utterances have no states .first: 0: .*0.wav") as raised:
        cache.fill()
    assert "\n" not in str(raised.value)
    assert len(cache.read("2")) > 0
    with pytest.raises(ValueError, match="has no states of '0': run the same command again"):
        cache.read("0")
    utterances[0].audio_filepath.write_bytes(good)
    cache_of(tmp_path / "states", utterances).fill()
    assert cache_of(tmp_path / "states", utterances).is_whole


def test_a_line_of_the_index_without_its_data_never_points_into_other_states(tmp_path, utterances):
    whole = cache_of(tmp_path / "whole", utterances)
    whole.fill(max_batch_seconds=0.5)
    good = utterances[0].audio_filepath.read_bytes()
    utterances[0].audio_filepath.write_bytes(b"no audio")
    with pytest.raises(ValueError, match="have no states"):
        cache_of(tmp_path / "states", utterances).fill(max_batch_seconds=0.5)
    utterances[0].audio_filepath.write_bytes(good)
    cache = cache_of(tmp_path / "states", utterances)
    cache.fill(max_batch_seconds=0.5)  # its states lie behind the others, unlike those of `whole`
    cache.path.unlink()
    interrupted(tmp_path / "states", utterances, after=2)
    again = cache_of(tmp_path / "states", utterances)
    again.fill(max_batch_seconds=0.5)
    assert all(torch.equal(again.read(one.id), whole.read(one.id)) for one in utterances)


def test_a_damaged_one_is_computed_again_where_it_is_damaged(tmp_path, utterances):
    cache = cache_of(tmp_path / "states", utterances)
    cache.fill()
    whole = cache.path.read_bytes()
    cache.path.write_bytes(whole[:100])
    again = cache_of(tmp_path / "states", utterances)
    with pytest.raises(ValueError, match="has no states of '0'"):
        again.read("0")
    again.fill()
    assert again.path.read_bytes() == whole


def test_states_of_other_code_are_not_used_and_it_is_said(tmp_path, utterances, monkeypatch, caplog):
    cache = cache_of(tmp_path / "states", utterances)
    cache.fill()
    for name in ("0123456789abcdef.json", "0123456789abcdef.f16"):  # as before there was a version
        (tmp_path / "states" / name).write_bytes(b"")
    monkeypatch.setattr("speechbrain_ee.training.state_cache.code_version", lambda *_, **__: "another")
    other = cache_of(tmp_path / "states", utterances)
    assert other.path != cache.path and not other.is_whole
    other.fill()
    (message,) = [record.getMessage() for record in caplog.records if "another version" in record.getMessage()]
    assert cache.path.name in message and "0123456789abcdef.f16" in message


def test_the_version_is_of_the_code_that_computes_states():
    names = {path.name for pattern in CODE for package in PACKAGES for path in package.glob(pattern)}
    assert {"wav2vec2.py", "conformer.py", "features.py", "recordings.py", "reader.py", "resampling.py"} <= names
    assert code_version(*CODE) != code_version("lobes/pretrained/wav2vec2.py")
    assert code_version(*CODE) != code_version(*CODE, libraries=LIBRARIES)


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
            "speechbrain_ee.training.cached_encoder.shutil.disk_usage", lambda _, free=free: usage(free=free)
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
    with pytest.raises(ValueError, match="exceeds the range of half precision: train without state_cache"):
        cache.fill()


def test_the_longest_come_first_and_silence_behind_them_counts(tmp_path, utterances):
    cache = cache_of(tmp_path / "states", utterances)
    assert [[one.id for one in batch] for batch in cache._batches(0.8)] == [["0"], ["2", "1"]]
    cache.features.min_seconds = 30.0
    assert [[one.id for one in batch] for batch in cache._batches(60.0)] == [["0", "1"], ["2"]]
