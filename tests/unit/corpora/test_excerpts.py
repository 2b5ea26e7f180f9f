# SPDX-License-Identifier: Apache-2.0
"""Rows of manifests that name a part of a recording: every format gives the same utterances and the same samples."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from unit.models import make_asr, make_tokenizer

from ee_runtime.audio import AudioError, Excerpt
from ee_runtime.policies import FixedExit
from speechbrain_ee.corpora.augment import AddNoise
from speechbrain_ee.corpora.dataset import SpeechDataset
from speechbrain_ee.corpora.manifest import ManifestError, Utterance, read_manifest, write_manifest
from speechbrain_ee.corpora.recordings import check_durations, load_audio, source_facts

RATE = 8000  # not the rate of the model
PARTS = {"u1": (4000, 12000), "u2": (12001, 20003), "u3": (30000, 40000)}  # samples


@pytest.fixture
def talk(tmp_path):
    """A recording of 5 s; each part also as a file of its own."""
    samples = np.random.default_rng(0).uniform(-0.3, 0.3, 40000)
    soundfile.write(tmp_path / "talk.flac", samples, RATE)
    written = soundfile.read(tmp_path / "talk.flac", dtype="int16")[0]
    for name, (start, stop) in PARTS.items():
        soundfile.write(tmp_path / f"{name}.wav", written[start:stop], RATE)
    return tmp_path


def in_seconds(name):
    start, stop = PARTS[name]
    return {"offset": start / RATE, "duration": (stop - start) / RATE}


def json_lines(folder):
    rows = [{"id": name, "audio_filepath": "talk.flac", "text": "cat", **in_seconds(name)} for name in PARTS]
    del rows[-1]["duration"]  # to the end
    path = folder / "lines.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def speechbrain_json(folder):
    rows = {}
    for name, (start, stop) in PARTS.items():
        wav = {"file": "{data_root}/talk.flac", "start": start, "stop": stop}
        rows[name] = {"wav": wav, "length": (stop - start) / RATE, "words": "cat"}
    del rows["u3"]["wav"]["stop"], rows["u3"]["length"]
    path = folder / "table.json"
    path.write_text(json.dumps(rows))
    return path


def csv(folder):
    rows = [f"{name},{(b - a) / RATE},$data_root/talk.flac,{a},{b},s,cat" for name, (a, b) in PARTS.items()]
    path = folder / "rows.csv"
    path.write_text("\n".join(["ID,duration,wav,start,stop,spk_id,wrd", *rows]))
    return path


def written(folder):
    path = folder / "written.jsonl"
    write_manifest(path, read_manifest(json_lines(folder)))
    return path


@pytest.mark.parametrize("write", [json_lines, speechbrain_json, csv, written])
@torch.no_grad()
def test_a_row_of_any_format_is_the_file_cut_to_it(talk, write):
    utterances = check_durations(read_manifest(write(talk)))
    asr = make_asr(talk)
    data = SpeechDataset(utterances, asr.tokenizer)
    cached = SpeechDataset(utterances, asr.tokenizer, cache_audio=True)
    assert [one.id for one in utterances] == list(PARTS)
    for index, one in enumerate(utterances):
        start, stop = PARTS[one.id]
        assert (one.offset, one.duration) == (start / RATE, (stop - start) / RATE)
        cut = load_audio(talk / f"{one.id}.wav")
        assert torch.equal(load_audio(one.audio_filepath, excerpt=one.excerpt), cut)
        assert torch.equal(data[index]["sig"], cut)
        torch.testing.assert_close(cached[index]["sig"], cut, rtol=0, atol=2**-15)  # kept with 16 bits
        assert torch.equal(asr.load_audio(one.audio_filepath, excerpt=one.excerpt), cut)
        for layer in asr.exit_layers:
            from_part = asr.transcribe_file(one.audio_filepath, excerpt=one.excerpt, policy=FixedExit(layer))
            assert from_part.text == asr.transcribe_file(talk / f"{one.id}.wav", policy=FixedExit(layer)).text


def test_a_row_without_an_offset_is_the_whole_file(talk):
    path = talk / "a.jsonl"
    for extra in ({}, {"offset": None}, {"start": 0}, {"start": 0, "stop": 0}):
        path.write_text(json.dumps({"audio_filepath": "talk.flac", "duration": 5.01, "text": "cat", **extra}))
        (one,) = read_manifest(path)
        assert one.excerpt is None and one.duration == 5.01
        assert check_durations([one])[0].duration == 5.0
    path.write_text(json.dumps({"audio_filepath": "talk.flac", "duration": 1.5, "text": "cat", "offset": 0}))
    (one,) = check_durations(read_manifest(path))
    assert one.excerpt == Excerpt(0.0, 1.5) and one.duration == 1.5


def test_ids_of_parts_without_id(talk):
    path = talk / "a.jsonl"
    rows = [{"audio_filepath": "talk.flac", "text": "cat", "offset": offset, "duration": 1} for offset in (0, 1.25)]
    rows += [{"audio_filepath": "u1.wav", "text": "cat", "offset": 0.5}]
    rows += [
        {"audio_filepath": "two.wav", "text": "cat", "duration": 1, "channel_selector": channel} for channel in (0, 1)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert [one.id for one in read_manifest(path)] == ["talk-0.000", "talk-1.250", "u1", "two-ch0", "two-ch1"]


def test_ids_without_id_do_not_depend_on_whether_the_audio_can_be_read(tmp_path):
    path = tmp_path / "a.jsonl"
    rows = [{"wav": {"file": "late.wav", "start": start, "stop": start + 16000}} for start in (0, 16000)]
    rows += [{"audio_filepath": "late.wav", "offset": offset, "duration": 1} for offset in (0.5001, 0.5004)]
    rows += [{"audio_filepath": name} for name in ("b.wav", "b.flac", "sub/c.wav", "c.wav")]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = [one.id for one in read_manifest(path, required=["audio_filepath"])]
    expected = ["late-0", "late-16000", "late-0.5001", "late-0.5004", "b.wav", "b.flac", "sub/c", "c"]
    assert found == expected
    soundfile.write(tmp_path / "late.wav", np.zeros(40000), 16000)
    assert [one.id for one in read_manifest(path, required=["audio_filepath"])] == expected


def refused(path):
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"offset": "1.5"}, "line 2 has offset '1.5': it must be a number of seconds"),
        ({"offset": -1}, "line 2 has offset -1: it must be"),
        ({"offset": True}, "line 2 has offset True"),
        ({"offset": float("nan")}, "line 2 has offset nan"),
        ({"offset": 1e305}, "line 2 has offset 1e+305: it must be a number of seconds from 0 to 360000"),
        ({"offset": 10**400, "duration": None}, "line 2 has offset 1000000"),
        ({"offset": 1, "start": 5}, "line 2 has offset and start or stop"),
        ({"start": 1.5}, "line 2 has start 1.5: it must be a sample of the file, from 0; a start in seconds is named"),
        ({"start": 1, "stop": 2}, "has duration 1, but start 1 and stop 2 are samples, which are 0.00 s at 8000 Hz"),
        ({"start": 9000, "stop": 8000}, "stop must be above start"),
        ({"start": 32000, "stop": 48000}, "talk.flac has 40000 samples"),
        ({"start": 40000}, "talk.flac has 40000 samples"),
        ({"start": 8000, "audio_filepath": "b.wav"}, "line 2: audio"),
        ({"offset": 5.0, "duration": None}, "talk.flac has 5.00 s, but its part from 5.00 s is asked for"),
        ({"begin_time": 2.0}, "line 2 has begin_time 2.0, whose unit depends on the tool"),
        (
            {"channel_selector": "average"},
            "line 2 has channel_selector 'average': it must be the number of one channel",
        ),
        ({"channel_selector": [0, 1]}, "line 2 has channel_selector"),
    ],
)
def test_unusable_parts_are_refused_by_line(talk, change, message):
    good = {"audio_filepath": "talk.flac", "duration": 1, "text": "cat"}
    rows = [{"id": "u1", **good, "offset": 1}, {"id": "u2", **good, **change}]
    path = talk / "a.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert message in refused(path)


def test_the_channel_column_of_a_file_with_two_channels_is_ambiguous(talk):
    soundfile.write(talk / "two.wav", np.zeros((40000, 2)), RATE)
    head, row = "ID,duration,wav,start,stop,channel,wrd", "u1,1,{},8000,16000,1,cat"
    path = talk / "a.csv"
    path.write_text(f"{head}\n{row.format('two.wav')}")
    assert "has channel '1', which some tools count from 0 and others from 1" in refused(path)
    path.write_text(f"{head}\n{row.format('talk.flac')}")
    assert read_manifest(path)[0].excerpt == Excerpt(1.0, 1.0)
    for times in ({}, {"offset": 1.0}):
        lines = talk / "a.jsonl"
        row = {"audio_filepath": "two.wav", "duration": 1, "text": "cat", "channel": 1, **times}
        lines.write_text(json.dumps(row))
        assert "has channel 1, which some tools count from 0 and others from 1" in refused(lines)
        lines.write_text(json.dumps(row | {"channel_selector": 1}))
        assert read_manifest(lines)[0].channel == 1


def test_one_channel_of_a_recording(talk):
    sides = np.random.default_rng(1).uniform(-0.3, 0.3, (40000, 2))
    soundfile.write(talk / "two.wav", sides, RATE, subtype="FLOAT")
    path = talk / "a.jsonl"
    path.write_text('{"audio_filepath": "two.wav", "text": "cat", "duration": 5, "channel_selector": 1}')
    (one,) = check_durations(read_manifest(path))
    assert (one.offset, one.channel, one.duration) == (None, 1, 5.0)
    np.testing.assert_array_equal(load_audio(one.audio_filepath, RATE, excerpt=one.excerpt), sides[:, 1].astype("f4"))
    write_manifest(path, [one])
    assert read_manifest(path) == [one]
    with pytest.raises(AudioError, match="1 of 1 utterances .*first: two.*but channel 2"):
        check_durations([replace(one, channel=2)])


def test_a_part_beyond_the_end_names_its_row(talk):
    utterances = read_manifest(json_lines(talk))
    utterances[1] = replace(utterances[1], duration=99.0)
    with pytest.raises(AudioError, match="1 of 3 utterances .*first: u2: .*has 5.00 s, but its part from 1.50 s"):
        check_durations(utterances)


def test_facts_of_a_part_change_with_its_times(tmp_path):
    one = Utterance("a", tmp_path / "a.wav", 1.5, "cat")
    part = replace(one, offset=2.0)
    others = [one, replace(part, offset=2.5), replace(part, duration=1.0), replace(part, channel=0)]
    assert all(source_facts(part) != source_facts(other) for other in others)
    assert source_facts(one) == [-1, -1]


def test_noise_of_a_part(talk):
    soundfile.write(talk / "noise.wav", np.concatenate([np.zeros(16000), np.full(16000, 0.5)]), 16000)
    rows = {"audio_filepath": str(talk / "noise.wav"), "text": "", "offset": 1.0, "duration": 1.0}
    (talk / "noise.jsonl").write_text(json.dumps(rows))
    noisy = AddNoise(snr_db=(0, 0), noise_manifest=talk / "noise.jsonl")
    added = noisy(torch.ones(16000), torch.Generator()) - 1
    torch.testing.assert_close(added, torch.ones(16000))


def test_one_tokenizer_serves_parts_and_files(talk):
    """A dataset of parts and files together has both."""
    utterances = [*read_manifest(json_lines(talk)), Utterance("file", Path(talk / "u1.wav"), 1.0, "cat")]
    data = SpeechDataset(utterances, make_tokenizer(talk))
    assert torch.equal(data[0]["sig"], data[3]["sig"])
