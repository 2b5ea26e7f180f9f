# SPDX-License-Identifier: Apache-2.0
"""Cut manifests that lhotse wrote, and cuts that are refused."""

import copy
import gzip
import json
import sys

import numpy as np
import pytest
import soundfile
import torch

from speechbrain_ee.corpora.manifest import ManifestError, manifest_name, read_manifest
from speechbrain_ee.corpora.recordings import check_durations, load_audio

RATE = 8000
CUT = {"id": "a", "start": 0, "duration": 1.0, "channel": 0, "supervisions": [], "type": "MonoCut"}


def test_without_lhotse_one_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "lhotse", None)
    with gzip.open(tmp_path / "cuts.jsonl.gz", "wt") as file:
        file.write(json.dumps(CUT))
    (tmp_path / "cuts.jsonl").write_text(json.dumps(CUT))
    for name in ("cuts.jsonl.gz", "cuts.jsonl"):
        with pytest.raises(
            ManifestError, match=r'lhotse cuts, which need lhotse: pip install "speechbrain_ee\[lhotse\]"'
        ):
            read_manifest(tmp_path / name)


def test_other_manifests_of_lhotse_and_other_compressed_files(tmp_path):
    path = tmp_path / "a.jsonl.gz"
    for row, message in (
        ({"id": "a", "sources": [], "sampling_rate": RATE}, "of lhotse, but not of cuts: make cuts"),
        ({"id": "a", "recording_id": "r", "start": 0, "text": "cat"}, "of lhotse, but not of cuts: make cuts"),
        ({"audio_filepath": "a.wav", "duration": 1, "text": "a"}, "is compressed, which only lhotse cuts may be"),
    ):
        with gzip.open(path, "wt") as file:
            file.write(json.dumps(row))
        with pytest.raises(ManifestError, match=message):
            read_manifest(path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ManifestError, match=r"is a broken gzip file|is compressed"):
        read_manifest(path)
    assert manifest_name(path) == "a"


@pytest.fixture
def corpus(tmp_path):
    """A corpus as lhotse's recipes give it: recordings of one and of two channels, and supervisions."""
    lhotse = pytest.importorskip("lhotse")
    rng = np.random.default_rng(0)
    recordings, supervisions = [], []
    for name, channels in (("talk", 1), ("call", 2)):
        soundfile.write(tmp_path / f"{name}.flac", rng.uniform(-0.3, 0.3, (6 * RATE, channels)), RATE)
        recordings.append(lhotse.Recording.from_file(tmp_path / f"{name}.flac"))
        for number in range(4):
            supervisions.append(
                lhotse.SupervisionSegment(
                    f"{name}-{number}",
                    name,
                    start=1.3 * number + 0.1234,
                    duration=1.1,
                    channel=number % channels,
                    text=f"the cat {'abcd'[number]}",
                    speaker=f"{name}{number % channels}",
                )
            )
    found = lhotse.CutSet.from_manifests(
        recordings=lhotse.RecordingSet.from_recordings(recordings),
        supervisions=lhotse.SupervisionSet.from_segments(supervisions),
    )
    return tmp_path, found


@pytest.mark.parametrize("name", ["cuts.jsonl.gz", "cuts.jsonl"])
def test_cuts_give_the_samples_that_lhotse_gives(corpus, name):
    folder, found = corpus
    cuts = found.trim_to_supervisions(keep_overlapping=False, keep_all_channels=False)
    cuts.to_file(folder / name)
    utterances = check_durations(read_manifest(folder / name))
    assert len(utterances) == 8
    for cut, one in zip(cuts, utterances, strict=True):
        (supervision,) = cut.supervisions
        assert (one.id, one.text, one.speaker) == (cut.id, supervision.text, supervision.speaker)
        assert one.channel == (cut.channel if one.audio_filepath.stem == "call" else None)
        samples = torch.from_numpy(cut.load_audio()[0])
        assert one.duration == len(samples) / RATE
        torch.testing.assert_close(
            load_audio(one.audio_filepath, RATE, excerpt=one.excerpt), samples, rtol=0, atol=1e-7
        )


def test_a_cut_of_a_whole_recording_is_its_file(corpus):
    folder, found = corpus
    whole = next(cut for cut in found if cut.id.startswith("talk"))
    whole.supervisions = whole.supervisions[:1]
    type(found).from_cuts([whole]).to_file(folder / "cuts.jsonl")
    assert read_manifest(folder / "cuts.jsonl")[0].excerpt is None


def test_paths_start_from_the_current_folder_as_in_lhotse(corpus, tmp_path, monkeypatch):
    folder, found = corpus
    (folder / "cuts").mkdir()
    monkeypatch.chdir(folder)
    one = next(iter(found.trim_to_supervisions(keep_overlapping=False, keep_all_channels=False)))
    one.recording.sources[0].source = "talk.flac"
    type(found).from_cuts([one]).to_file(folder / "cuts" / "cuts.jsonl.gz")
    assert read_manifest("cuts/cuts.jsonl.gz")[0].audio_filepath == folder / "talk.flac"
    assert read_manifest("cuts/cuts.jsonl.gz", data_root="cuts")[0].audio_filepath == folder / "cuts" / "talk.flac"


def test_cuts_without_supervision_can_be_transcribed(corpus):
    folder, found = corpus
    one = next(iter(found.trim_to_supervisions(keep_overlapping=False, keep_all_channels=False)))
    type(found).from_cuts([one.drop_supervisions()]).to_file(folder / "cuts.jsonl")
    (read,) = read_manifest(folder / "cuts.jsonl", required=["audio_filepath"])
    assert (read.text, read.speaker, read.duration) == ("", None, one.duration)


def test_cuts_that_cannot_be_carried_are_refused_by_name(corpus):
    folder, found = corpus
    one = next(iter(found.trim_to_supervisions(keep_overlapping=False, keep_all_channels=False)))
    talk, call = found
    silent = one.drop_supervisions()
    remote = copy.deepcopy(one)
    remote.recording.sources[0].type = "url"
    window = one.truncate(duration=0.5)
    for cut, message in (
        (call, "cut 2 .* is a MultiCut, but only MonoCuts are read: select one channel"),
        (talk, "has 4 supervisions, but one is read: split it with CutSet.trim_to_supervisions"),
        (silent, "has 0 supervisions, but one is read: remove it"),
        (one.pad(duration=3.0), "is a MixedCut, but only MonoCuts are read: save its audio with lhotse"),
        (one.perturb_speed(1.1), "has a recording with Speed, which is not applied: save its audio"),
        (one.perturb_volume(2.0), "has a recording with Volume"),
        (one.resample(16000), "has a recording with Resample"),
        (remote, "has audio of type 'url', but files are read: save its audio"),
        (window, "has a supervision from 0.00 to 1.10 s, which is not all in its 0.50 s"),
    ):
        type(found).from_cuts([one, cut.with_id("other")]).to_file(folder / "cuts.jsonl.gz")
        with pytest.raises(ManifestError, match=message) as caught:
            read_manifest(folder / "cuts.jsonl.gz")
        assert "cut 2 ('other')" in str(caught.value) and "\n" not in str(caught.value)
    type(found).from_cuts([one]).to_file(folder / "cuts.jsonl")
    text = (folder / "cuts.jsonl").read_text()
    for broken, message in (
        (text.replace(one.supervisions[0].text, ""), None),
        (text.replace('"text"', '"texts"'), "cut 1 .*has no text|cannot be read with lhotse"),
        (text + text[:-20], "cut 2 cannot be read with lhotse"),
    ):
        (folder / "cuts.jsonl").write_text(broken)
        if message is None:
            assert read_manifest(folder / "cuts.jsonl")[0].text == ""
            continue
        with pytest.raises(ManifestError, match=message):
            read_manifest(folder / "cuts.jsonl")
