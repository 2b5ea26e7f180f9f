# SPDX-License-Identifier: Apache-2.0
"""The preparation of TED-LIUM 3, on talks of noise with lines as in its STM files."""

import json
import logging

import pytest
from recipes.corpora import write_tedlium
from recipes.scripts import RECIPES, load_script

SCRIPT = RECIPES / "TEDLIUM3" / "prepare.py"
TALK = "911Mothers_2010W"
TRAIN = [
    f"{TALK} 1 {TALK} 1.25 2.50 <o,f0,female> i don 't know <unk> it 's (2) ( 3 ) true {{NOISE}} ({TALK}-1.25-2.50)",
    f"{TALK} 1 {TALK} 2.5 4.00 <o,f0,female> in 2009 <sil> we 've met 'em",
    f"{TALK} 1 inter_segment_gap 4.00 5.00 <o,,unknown> ignore_time_segment_in_scoring",
    f"{TALK} 1 {TALK} 5.00 5.50 <o,f0,female> <unk>",
    f"{TALK} 1 {TALK} 7.25 9.00 <o,f0,female> thank you",
    f"{TALK} 1 {TALK} 8.50 9.50 <o,f0,female> beyond the end",
]
DEV = [
    ";; LABEL comments, and labels of the older form",
    "AlGore_2009 1 AlGore_2009 0 1.82 <F0_M> good morning",
    "AlGore_2009 1 AlGore_2009 1.82 3.005 <F0_M> <unk> morning",
]
TEST = ["GaryFlake_2010 1 GaryFlake_2010 0.02 1.32 <o,f0,male> if i can leave you with one big idea today"]


@pytest.fixture(scope="module")
def script():
    return load_script(SCRIPT)


@pytest.fixture
def corpus(tmp_path):
    talks = {"train": {TALK: TRAIN}, "dev": {"AlGore_2009": DEV}, "test": {"GaryFlake_2010": TEST}}
    return write_tedlium(tmp_path / "TEDLIUM_release-3", talks, seconds=8)


def rows(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_every_row_names_a_part_of_a_talk(script, corpus, tmp_path):
    assert script.main([str(corpus), "--out", str(tmp_path / "out")]) == 0
    train = rows(tmp_path / "out" / "train.jsonl")
    assert [row["text"] for row in train] == ["i don't know it's true", "in 2009 we've met 'em", "thank you"]
    assert [(row["offset"], row["duration"]) for row in train] == [(1.25, 1.25), (2.5, 1.5), (7.25, 0.75)]
    assert {row["audio_filepath"] for row in train} == {f"../TEDLIUM_release-3/legacy/train/sph/{TALK}.sph"}
    assert {row["speaker"] for row in train} == {TALK}
    assert train[0]["id"] == f"{TALK}-0000125-0000250"
    dev = rows(tmp_path / "out" / "dev.jsonl")
    assert [(row["text"], row.get("offset", 0), row["duration"]) for row in dev] == [
        ("good morning", 0, 1.82),
        ("morning", 1.82, 1.185),
    ]
    assert len(rows(tmp_path / "out" / "test.jsonl")) == 1


def test_what_is_left_out_is_counted(script, corpus, tmp_path, caplog):
    (corpus / "legacy" / "dev" / "stm" / "Gone_2001.stm").write_text("Gone_2001 1 Gone_2001 0 1 <NA> gone\n")
    with caplog.at_level(logging.WARNING):
        script.prepare(corpus, tmp_path / "out", longest=1.3)
    assert [record.getMessage() for record in caplog.records] == [
        f"train: 1 segments without words: {TALK}-0000500-0000550",
        f"train: 1 segments beyond the end of the recording: {TALK}-0000850-0000950",
        "dev: 1 talks whose recording is missing or cannot be read: Gone_2001",
        f"train: 1 utterances longer than 1.3 s: {TALK}-0000250-0000400",
    ]


def test_training_segments_with_unknown_words_can_be_dropped(script, corpus, tmp_path, caplog):
    arguments = [str(corpus.parent), "--out", str(tmp_path / "out"), "--unknown", "drop"]
    with caplog.at_level(logging.WARNING):
        assert script.main(arguments) == 0
    assert [row["text"] for row in rows(tmp_path / "out" / "train.jsonl")] == ["in 2009 we've met 'em", "thank you"]
    assert [row["text"] for row in rows(tmp_path / "out" / "dev.jsonl")] == ["good morning", "morning"]
    assert "train: 2 segments with an unknown word" in caplog.text


@pytest.mark.parametrize("times", ["one 2", "3 2", "0.1.0 1.20", ". 1"])
def test_a_damaged_line_is_named(script, corpus, tmp_path, capsys, times):
    stm = corpus / "legacy" / "dev" / "stm" / "AlGore_2009.stm"
    stm.write_text(f"{DEV[1]}\nAlGore_2009 1 AlGore_2009 {times} <F0_M> a\n")
    assert script.main([str(corpus / "legacy"), "--out", str(tmp_path / "out")]) == 1
    assert "AlGore_2009.stm, line 2 is not a segment of an STM file" in capsys.readouterr().err


def test_a_set_without_utterances(script, corpus, tmp_path, capsys):
    for path in (corpus / "legacy" / "test" / "sph").iterdir():
        path.unlink()
    assert script.main([str(corpus), "--out", str(tmp_path / "out")]) == 1
    assert "legacy/test has no usable utterance" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
