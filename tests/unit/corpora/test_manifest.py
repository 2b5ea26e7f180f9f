# SPDX-License-Identifier: Apache-2.0
"""Manifests: both forms, and one clear line for everything that is wrong."""

import json

import pytest

from speechbrain_ee.corpora import manifest
from speechbrain_ee.corpora.manifest import (
    ManifestError,
    Utterance,
    read_manifest,
    write_manifest,
)

GOOD = {"audio_filepath": "wav/a.wav", "duration": 1.5, "text": "the cat"}


def write_lines(path, *rows):
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
    return path


def refused(path):
    with pytest.raises(ManifestError) as caught:
        read_manifest(path)
    assert "\n" not in str(caught.value)
    assert str(path) in str(caught.value)
    return str(caught.value)


def test_json_lines_are_read_relative_to_the_manifest(tmp_path):
    path = write_lines(
        tmp_path / "a.jsonl",
        {**GOOD, "id": "u1", "speaker": 7, "more": [1]},
        "",
        {**GOOD, "id": 2},
    )
    audio = tmp_path / "wav" / "a.wav"
    assert read_manifest(path) == [
        Utterance("u1", audio, 1.5, "the cat", "7"),
        Utterance("2", audio, 1.5, "the cat", None),
    ]


def test_absolute_path_is_kept_and_byte_order_mark_and_crlf_do_no_harm(tmp_path):
    row = json.dumps({**GOOD, "audio_filepath": "/corpus/b.flac"})
    (tmp_path / "a.jsonl").write_bytes(b"\xef\xbb\xbf" + row.encode() + b"\r\n")
    assert str(read_manifest(tmp_path / "a.jsonl")[0].audio_filepath) == "/corpus/b.flac"


def test_data_root_is_filled_in(tmp_path):
    path = write_lines(
        tmp_path / "a.jsonl",
        {**GOOD, "audio_filepath": "{data_root}/a.wav"},
        {**GOOD, "audio_filepath": "$data_root/b.wav"},
    )
    here = [str(utterance.audio_filepath) for utterance in read_manifest(path)]
    assert here == [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]
    there = read_manifest(path, data_root="/corpus")
    assert [str(utterance.audio_filepath) for utterance in there] == [
        "/corpus/a.wav",
        "/corpus/b.wav",
    ]


def test_missing_ids_are_stems_and_paths_where_stems_repeat(tmp_path):
    paths = ["x/1.wav", "y/1.wav", "y/2.wav"]
    path = write_lines(tmp_path / "a.jsonl", *[{**GOOD, "audio_filepath": audio} for audio in paths])
    assert [utterance.id for utterance in read_manifest(path)] == ["x/1", "y/1", "2"]


def test_csv_of_speechbrain(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('ID,duration,wav,spk_id,wrd\nu1,1.5,wav/a.wav,s1,the cat\nu2,2,/b.wav,,"yes, sir"\n')
    assert read_manifest(path) == [
        Utterance("u1", tmp_path / "wav" / "a.wav", 1.5, "the cat", "s1"),
        Utterance("u2", (tmp_path / "/b.wav"), 2.0, "yes, sir", None),
    ]


def test_csv_column_order_is_free_and_spk_id_optional(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("wrd, wav, duration, ID\nthe cat, $data_root/a.wav, 1.5, u1\n")
    expected = Utterance("u1", tmp_path / "a.wav", 1.5, "the cat", None)
    assert read_manifest(path) == [expected]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
@pytest.mark.parametrize("content", ["", "\n\n"])
def test_empty_manifest(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert "no utterances" in refused(tmp_path / name)


def test_csv_with_a_header_only(tmp_path):
    (tmp_path / "a.csv").write_text("ID,duration,wav,spk_id,wrd\n")
    assert "no utterances" in refused(tmp_path / "a.csv")


def test_missing_manifest(tmp_path):
    assert "does not exist" in refused(tmp_path / "none.jsonl")


def test_line_that_is_not_json_is_named_by_number(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", GOOD, "audio: a.wav")
    assert "line 2 is not JSON" in refused(path)


def test_line_that_is_no_object(tmp_path):
    assert "line 1 is a JSON list" in refused(write_lines(tmp_path / "a.jsonl", [1]))


def test_binary_file(tmp_path):
    (tmp_path / "a.jsonl").write_bytes(b"RIFF\xff\xfe\x00")
    assert "not UTF-8" in refused(tmp_path / "a.jsonl")


@pytest.mark.parametrize("key", ["audio_filepath", "duration", "text"])
def test_missing_key(tmp_path, key):
    row = {name: value for name, value in GOOD.items() if name != key}
    assert f"line 2 has no {key}" in refused(write_lines(tmp_path / "a.jsonl", {**GOOD, "id": "u"}, row))


def test_missing_csv_column_and_ragged_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("ID,duration,wav\nu1,1.5,a.wav\n")
    assert "no column wrd" in refused(path)
    path.write_text("ID,duration,wav,wrd\nu1,1.5,a.wav,yes, sir\n")
    assert "line 2 does not have 4 columns" in refused(path)


def test_csv_with_a_field_beyond_all_bounds(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("ID,duration,wav,wrd\nu1,1.5,a.wav," + "x" * 200_000)
    assert "after line 1, is not CSV (field larger than field limit" in refused(path)


def test_duplicate_id(tmp_path):
    rows = [{**GOOD, "id": name} for name in ("u1", "u2", "u2")]
    assert "1 repeated ids (first: 'u2')" in refused(write_lines(tmp_path / "a.jsonl", *rows))


@pytest.mark.parametrize("value", [0, -1.0, "1.5", True, float("nan"), float("inf"), [1], 10**400])
def test_wrong_duration(tmp_path, value):
    path = write_lines(tmp_path / "a.jsonl", {**GOOD, "duration": value})
    assert f"duration {value!r}" in refused(path)


@pytest.mark.parametrize("value", ["0", "long"])
def test_wrong_duration_in_csv(tmp_path, value):
    path = tmp_path / "a.csv"
    path.write_text(f"ID,duration,wav,spk_id,wrd\nu1,{value},a.wav,s,cat\n")
    assert "line 2 has duration" in refused(path)


@pytest.mark.parametrize("change", [{"text": 5}, {"audio_filepath": " "}, {"audio_filepath": 5}])
def test_wrong_type(tmp_path, change):
    path = write_lines(tmp_path / "a.jsonl", {**GOOD, **change})
    assert "must be a string" in refused(path)


def test_parts_of_a_file_are_refused_and_a_zero_offset_is_not(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", {**GOOD, "offset": 3.2})
    assert "offset 3.2" in refused(path)
    assert len(read_manifest(write_lines(path, {**GOOD, "offset": 0}))) == 1


def test_written_manifest_reads_back_the_same(tmp_path):
    utterances = [
        Utterance("a", tmp_path / "m" / "wav" / "a.wav", 1.25, "the cat", "s1"),
        Utterance("b", tmp_path / "wav" / "b.wav", 0.1, 'größe, "ja"', None),
        Utterance("c", tmp_path.parent / "elsewhere" / "c.wav", 2.0, "", None),
    ]
    path = tmp_path / "m" / "a.jsonl"
    write_manifest(path, utterances)
    assert read_manifest(path) == utterances
    written = [json.loads(line)["audio_filepath"] for line in path.read_text().splitlines()]
    assert written == ["wav/a.wav", "../wav/b.wav", str(utterances[2].audio_filepath)]


def test_failed_write_leaves_the_old_manifest_and_nothing_else(tmp_path, monkeypatch):
    utterance = Utterance("a", tmp_path / "a.wav", 1.0, "cat")
    write_manifest(tmp_path / "a.jsonl", [utterance])

    def full_disk(file_descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(manifest.os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_manifest(tmp_path / "a.jsonl", [utterance] * 2)
    assert read_manifest(tmp_path / "a.jsonl") == [utterance]
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]
