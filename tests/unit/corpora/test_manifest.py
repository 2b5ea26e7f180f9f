# SPDX-License-Identifier: Apache-2.0
"""Manifests of every format are read, and every error is one clear line."""

import json
import os
import re
from dataclasses import replace

import pytest

from speechbrain_ee.corpora.manifest import ManifestError, Utterance, digest, read_manifest, write_manifest

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
    (tmp_path / "corpus").mkdir()
    there = read_manifest(path, data_root=tmp_path / "corpus")
    assert [one.audio_filepath for one in there] == [tmp_path / "corpus" / name for name in ("a.wav", "b.wav")]


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
    assert "line 1, item 1 is a JSON int" in refused(write_lines(tmp_path / "a.jsonl", [1]))
    assert "line 2 is a JSON list" in refused(write_lines(tmp_path / "a.jsonl", GOOD, [1]))
    assert "line 1 is a JSON str" in refused(write_lines(tmp_path / "a.jsonl", '"a"'))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"RIFF\xff\xfe\x00", "line 1 is not UTF-8 (invalid start byte): convert"),
        (b"\n\n\xe9", "line 3 is not UTF-8"),
        (json.dumps(GOOD).encode("utf-16"), "is UTF-16: convert it to UTF-8"),
        (json.dumps(GOOD).encode() + b"\n\0\0", "line 2 has a null character"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:ab\nsize 5\n", "pointer of Git LFS.* git lfs pull"),
    ],
)
@pytest.mark.parametrize("name", ["a.jsonl", "a.csv"])
def test_a_file_that_is_no_text(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    assert re.search(message.replace("(", r"\(").replace(")", r"\)"), refused(tmp_path / name))


def test_a_folder_and_a_pipe_are_called_so(tmp_path):
    assert "is a folder" in refused(tmp_path)
    os.mkfifo(tmp_path / "pipe.jsonl")
    assert "is a pipe or a device" in refused(tmp_path / "pipe.jsonl")


@pytest.mark.parametrize("root", ["corpus", "./corpus/../corpus", None])
def test_data_root_is_the_same_folder_from_every_working_folder(tmp_path, monkeypatch, root):
    (tmp_path / "corpus").mkdir()
    texts = ["$data_root/a.wav", "${data_root}/a.wav", "{data_root}/a.wav", "$data_folder/a.wav", "a.wav", "./a.wav"]
    folder = tmp_path if root else tmp_path / "corpus"
    write_lines(folder / "a.jsonl", *[{**GOOD, "audio_filepath": text, "id": text} for text in texts])
    monkeypatch.chdir(tmp_path)
    relative = folder.relative_to(tmp_path) / "a.jsonl"
    for path in (relative, folder / "a.jsonl"):
        found = read_manifest(path, data_root=root)
        assert {str(one.audio_filepath) for one in found} == {str(tmp_path / "corpus" / "a.wav")}


def test_data_root_elsewhere_is_refused(tmp_path):
    path = write_lines(tmp_path / "a.jsonl", {**GOOD, "audio_filepath": "x/$data_root/a.wav"})
    assert "line 1 has $data_root in the middle of the path" in refused(path)
    with pytest.raises(ManifestError, match="data_root .*none is not a folder"):
        read_manifest(path, data_root=tmp_path / "none")
    # Only the whole name is replaced.
    write_lines(path, {**GOOD, "audio_filepath": "$data_root2/a.wav"}, {**GOOD, "audio_filepath": "$data_root.d/a.wav"})
    found = [one.audio_filepath for one in read_manifest(path)]
    assert found == [tmp_path / "$data_root2" / "a.wav", tmp_path.parent / f"{tmp_path.name}.d" / "a.wav"]


ROW = {"wav": "wav/a.wav", "length": 1.5, "words": "the cat"}  # as SpeechBrain's template writes it


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize(
    "content",
    [
        {"u1": ROW},
        {"u1": {"file_path": "wav/a.wav", "duration": 1.5, "trans": "the cat"}},
        {"u1": {"path": "wav/a.wav", "duration": 1.5, "wrd": "the cat", "length": 24000}},
        {"u1": {**ROW, "wav": {"file": "{data_root}/wav/a.wav"}}},
        {"u1": {**ROW, "wav": {"file": "wav/a.wav", "start": 0}}},
        {"utterances": [{**ROW, "id": "u1"}]},
        {"utterances": {"u1": ROW}},
        [{**ROW, "ID": "u1"}],
        {**GOOD, "id": "u1"},
    ],
)
def test_json_of_speechbrain_and_its_like(tmp_path, content, indent):
    path = tmp_path / "train.json"
    path.write_text(json.dumps(content, indent=indent))
    assert read_manifest(path) == [Utterance("u1", tmp_path / "wav" / "a.wav", 1.5, "the cat")]


def test_json_of_many_utterances_keeps_their_order(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps({name: {**ROW, "spk_id": name} for name in "cab"}))
    assert [(one.id, one.speaker) for one in read_manifest(tmp_path / "a.json")] == [("c", "c"), ("a", "a"), ("b", "b")]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"u1": {"wav": "a.wav", "length": 1, "words": "a"}, "u1": {}}', "has the key 'u1' twice"),
        ('{"audio_filepath": "a.wav", "text": "a", "text": "b", "duration": 1}', "has the key 'text' twice"),
        ('{\n "u1": {"wav": "a.wav",\n "length": 1\n "words": "a"}}', "line 4 is not JSON (Expecting ',' delimiter)"),
        ('{"u1": {"wav": {"file": "a.wav", "start": -5}, "length": 1, "words": "a"}}', "utterance 'u1' has start -5"),
        ('{"u1": {"wav": {"files": ["a.wav"]}, "length": 1, "words": "a"}}', "has audio_filepath {'files': ['a.wav']}"),
        ('{"u1": {"length": 1, "words": "a"}}', "utterance 'u1' has no audio_filepath"),
        ('{"u1": 5}', "line 1 has no audio_filepath"),
        ('[{"wav": "a.wav", "length": 1, "words": "a"}, 5]', "line 1, item 2 is a JSON int"),
        ("[" * 200_000, "line 1 is not JSON (nested too deep)"),
        ('{"a":' * 200_000, "line 1 is not JSON (nested too deep)"),
        ('{"duration": ' + "9" * 5000 + "}", "line 1 is not JSON (a number of thousands of digits)"),
        (json.dumps(GOOD) + '\n{"duration": ' + "9" * 5000 + "}", "line 2 is not JSON (a number of thousands"),
        (json.dumps(GOOD) + "\n" + json.dumps(GOOD) + " {}", "line 2 is not JSON (text after the object)"),
    ],
)
def test_json_that_is_no_manifest(tmp_path, content, message):
    (tmp_path / "a.json").write_text(content)
    assert message in refused(tmp_path / "a.json")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e400", "true", '"1.5"', "null", "-1e-400"])
def test_json_numbers_that_are_none(tmp_path, number):
    (tmp_path / "a.jsonl").write_text(json.dumps(GOOD).replace("1.5", number))
    assert "duration" in refused(tmp_path / "a.jsonl")


@pytest.mark.parametrize("key", ["id", "text", "speaker", "audio_filepath"])
@pytest.mark.parametrize(
    ("character", "reason"),
    [("\ud83d", "half of a surrogate pair (U+D83D)"), ("\udce9", "U+DCE9"), ("\0", "with a null character")],
)
def test_characters_that_no_result_could_hold(tmp_path, key, character, reason):
    path = write_lines(tmp_path / "a.jsonl", GOOD, {**GOOD, "id": "b", key: f"a{character}b"})
    message = refused(path)
    assert "line 2 has" in message and reason in message
    message.encode()  # can be printed
    whole = {**GOOD, key: "a\U0001f600b"}  # a whole emoji, which json.dumps writes as two halves
    assert read_manifest(write_lines(path, whole))[0]


@pytest.mark.parametrize("value", [True, [1], {"a": 1}])
@pytest.mark.parametrize("key", ["id", "speaker"])
def test_names_that_are_none(tmp_path, key, value):
    assert "must be a string or a number" in refused(write_lines(tmp_path / "a.jsonl", {**GOOD, key: value}))


@pytest.mark.parametrize("blank", ["", "  ", "\t", None, float("nan")])
@pytest.mark.parametrize("key", ["id", "speaker"])
def test_a_blank_name_is_none_in_json_too(tmp_path, key, blank):
    path = write_lines(tmp_path / "a.jsonl", {**GOOD, "id": "a", key: blank})
    assert read_manifest(path) == [Utterance("a", tmp_path / "wav" / "a.wav", 1.5, "the cat", None)]


HEADER = "ID,duration,wav,spk_id,wrd\n"


@pytest.mark.parametrize(
    "content",
    [
        HEADER + "u1,1.5,a.wav,s1,the cat\nu2,2,b.wav,s2,a dog\n",
        HEADER + "\n\nu1,1.5,a.wav,s1,the cat\n\n,,,,\nu2,2,b.wav,s2,a dog",
        "\n" + HEADER + 'u1,1.5,a.wav,s1,"the cat"\n"u2","2","b.wav","s2","a dog"\n',
        (HEADER + "u1,1.5,a.wav,s1,the cat\nu2,2,b.wav,s2,a dog\n").replace("\n", "\r\n"),
        (HEADER + "u1,1.5,a.wav,s1,the cat\nu2,2,b.wav,s2,a dog\n").replace("\n", "\r"),
        (HEADER + "u1,1.5,a.wav,s1,the cat\nu2,2,b.wav,s2,a dog\n").replace(",", ";"),
        (HEADER + "u1,1.5,a.wav,s1,the cat\nu2,2,b.wav,s2,a dog\n").replace(",", "\t"),
        "\ufeffID, duration, wav, spk_id ,wrd\nu1, 1.5, a.wav, s1 ,the cat\nu2, 2, b.wav, s2, a dog\n",
        "id,length,path,speaker,text,start\nu1,1.5,a.wav,s1,the cat,0\nu2,2,b.wav,s2,a dog,0.0\n",
    ],
)
def test_csv_as_people_have_it(tmp_path, content):
    path = tmp_path / "a.csv"
    path.write_bytes(content.encode())
    assert read_manifest(path) == [
        Utterance("u1", tmp_path / "a.wav", 1.5, "the cat", "s1"),
        Utterance("u2", tmp_path / "b.wav", 2.0, "a dog", "s2"),
    ]


def test_csv_texts_keep_quotation_marks_that_do_no_harm(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(HEADER + 'u1,1,a.wav,s,a 5" disk\nu2,1,b.wav,s,"he said ""go"", then"\n')
    assert [one.text for one in read_manifest(path)] == ['a 5" disk', 'he said "go", then']


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ('u1,1,a.wav,s,"the cat\nu2,1,b.wav,s,a dog\n', "line 2 is not CSV (a quotation mark is never closed)"),
        ('u1,1,a.wav,s,"the cat\nu2,1,b.wav,s,"a dog\n', "line 2 is not CSV (text after a closing quotation mark)"),
        ('u1,1,a.wav,s,"the cat\nu2,1,b.wav,s,a dog"\n', "line 2 has a quotation mark that is not closed on its line"),
        (
            'u1,1,a.wav,s,a\nu2,1,b.wav,s,"the\ncat"\n',
            "line 3 has a quotation mark that is not closed on its line (but on",
        ),
        ('u1,1,a.wav,s,"yes" he said\n', "line 2 is not CSV (text after a closing quotation mark)"),
        ("u1,1,a.wav,s\n", "line 2 has 4 fields, but the first line has 5 columns"),
        ("u1,1,a.wav,s,yes, sir\n", "line 2 has 6 fields, but the first line has 5 columns"),
        ("u1,1_000,a.wav,s,a\n", "line 2 has duration '1_000'"),
        ('u1,"1,5",a.wav,s,a\n', "line 2 has duration '1,5'"),
        ("u1,nan,a.wav,s,a\n", "line 2 has duration nan"),
        ("u1,,a.wav,s,a\n", "line 2 has no duration"),
        ("u1,1,,s,a\n", "line 2 has audio_filepath ''"),
    ],
)
def test_csv_rows_that_would_be_lost_or_misread(tmp_path, rows, message):
    (tmp_path / "a.csv").write_text(HEADER + rows)
    assert message in refused(tmp_path / "a.csv")


def test_csv_columns(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("ID,duration,wav,wrd,wrd\nu1,1,a.wav,a,b\n")
    assert "has the column wrd 2 times" in refused(path)
    path.write_text("u1,1,a.wav,s,a\n")
    assert "has no column duration, wav, wrd: its first line must name duration,wav,wrd, and may name ID" in refused(
        path
    )
    path.write_text("wav\nb.wav\n")
    assert [one.id for one in read_manifest(path, required=["audio_filepath"])] == ["b"]
    path.write_text("ID,wav,spk_id,wrd,end\nu1,a.wav,s,a,16000\n")
    assert "has no column duration" in refused(path)
    path.write_text("ID,duration,wav,spk_id,wrd,end\nu1,1,a.wav,s,a,2.5\n")
    assert "line 2 has end 2.5, whose unit depends on the tool: give offset and duration in seconds" in refused(path)


def test_digest_is_of_ids_and_texts(tmp_path):
    one = Utterance("a", tmp_path / "a.wav", 1.0, "cat")
    assert digest([one]) == digest([replace(one, audio_filepath="/b.wav", duration=2.0)])
    assert len({digest([one]), digest([replace(one, text="dog")]), digest([replace(one, id="b")]), digest([])}) == 4
    assert digest([one, replace(one, id="b")]) != digest([replace(one, id="b"), one])


def test_a_name_that_utf_8_cannot_hold_is_not_written(tmp_path):
    with pytest.raises(ManifestError, match="utterance 'a' has .* surrogate"):
        write_manifest(tmp_path / "a.jsonl", [Utterance("a", tmp_path / "a\udce9.wav", 1.0, "cat")])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("key", ["audio_filepath", "duration", "text"])
def test_missing_key(tmp_path, key):
    row = {name: value for name, value in GOOD.items() if name != key}
    assert f"line 2 has no {key}" in refused(write_lines(tmp_path / "a.jsonl", {**GOOD, "id": "u"}, row))


def test_missing_csv_column_and_ragged_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("ID,duration,wav\nu1,1.5,a.wav\n")
    assert "no column wrd" in refused(path)
    path.write_text("ID,duration,wav,wrd\nu1,1.5,a.wav,yes, sir\n")
    assert "line 2 has 5 fields, but the first line has 4 columns" in refused(path)


def test_csv_with_a_field_beyond_all_bounds(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("ID,duration,wav,wrd\nu1,1.5,a.wav," + "x" * 200_000)
    assert "line 2 is not CSV (field larger than field limit" in refused(path)


def test_duplicate_id(tmp_path):
    rows = [{**GOOD, "id": name} for name in ("u1", "u2", "u2")]
    assert "1 repeated ids (first: 'u2')" in refused(write_lines(tmp_path / "a.jsonl", *rows))


@pytest.mark.parametrize("value", [0, -1.0, "1.5", True, float("nan"), float("inf"), [1], 10**400])
def test_wrong_duration(tmp_path, value):
    path = write_lines(tmp_path / "a.jsonl", {**GOOD, "duration": value})
    assert f"duration {value!r}"[:69] in refused(path)


@pytest.mark.parametrize("value", ["0", "long"])
def test_wrong_duration_in_csv(tmp_path, value):
    path = tmp_path / "a.csv"
    path.write_text(f"ID,duration,wav,spk_id,wrd\nu1,{value},a.wav,s,cat\n")
    assert "line 2 has duration" in refused(path)


@pytest.mark.parametrize("change", [{"text": 5}, {"audio_filepath": " "}, {"audio_filepath": 5}])
def test_wrong_type(tmp_path, change):
    path = write_lines(tmp_path / "a.jsonl", {**GOOD, **change})
    assert "must be a string" in refused(path)


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

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space left"):
        write_manifest(tmp_path / "a.jsonl", [utterance] * 2)
    assert read_manifest(tmp_path / "a.jsonl") == [utterance]
    assert [path.name for path in tmp_path.iterdir()] == ["a.jsonl"]


def test_a_path_through_a_link_is_the_one_that_the_system_opens(tmp_path):
    (tmp_path / "real" / "set").mkdir(parents=True)
    (tmp_path / "link").symlink_to("real/set")
    line = {"audio_filepath": "../audio/a.wav", "duration": 1, "text": "cat"}
    (tmp_path / "link" / "a.jsonl").write_text(json.dumps(line))
    (one,) = read_manifest(tmp_path / "link" / "a.jsonl")
    assert one.audio_filepath == tmp_path / "real" / "audio" / "a.wav"
    for audio in ("link/a.wav", "audio/a.wav"):
        write_manifest(tmp_path / "link" / "b.jsonl", [Utterance("a", tmp_path / audio, 1.0, "cat")])
        (one,) = read_manifest(tmp_path / "link" / "b.jsonl")
        assert one.audio_filepath == tmp_path / audio
