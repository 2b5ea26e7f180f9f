# SPDX-License-Identifier: Apache-2.0
"""The preparation of VoxPopuli, on Ogg files of noise with tables as its scripts write them."""

import logging

import numpy as np
import pytest
import soundfile
from recipes.corpora import write_voxpopuli
from recipes.scripts import RECIPES, load_script

from speechbrain_ee.corpora.manifest import read_manifest

FIRST = "20090112-0900-PLENARY-6-en_20090112-17:04:01_1"
SECOND = "20180611-0900-PLENARY-15-en_20180611-19:18:23_7"


@pytest.fixture(scope="module")
def script():
    return load_script(RECIPES / "VoxPopuli" / "prepare.py")


@pytest.fixture
def corpus(tmp_path):
    rows = [
        (FIRST, 'mr president, "i think" we’re 27 long-standing café owners', "124833"),
        (SECOND, "thank you", ""),
        ("2010-mute", " - ", "7"),
        ("2010-gone", "i was here", "7"),
    ]
    root = write_voxpopuli(tmp_path / "voxpopuli", {"train": rows, "dev": rows[:1], "test": rows[:1]})
    (root / "transcribed_data" / "en" / "2010" / "2010-gone.ogg").unlink()
    return root


def test_rows_of_the_tables_with_audio_by_year(script, corpus, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        assert script.main([str(corpus), "--out", str(tmp_path / "out")]) == 0
    train = read_manifest(tmp_path / "out" / "train.jsonl")
    assert [(one.id, one.text, one.speaker) for one in train] == [
        (FIRST, "mr president i think we're 27 long standing cafe owners", "124833"),
        (SECOND, "thank you", None),
    ]
    assert train[0].audio_filepath == corpus / "transcribed_data" / "en" / "2009" / f"{FIRST}.ogg"
    assert train[0].duration == pytest.approx(1.2, abs=1e-3)
    assert [record.getMessage() for record in caplog.records] == [
        "train: 1 transcripts without audio: 2010-gone",
        "train: 1 transcripts without words: 2010-mute",
    ]


def test_long_training_utterances_are_left_out(script, corpus, tmp_path, capsys, caplog):
    root = corpus / "transcribed_data" / "en"
    soundfile.write(root / "2018" / f"{SECOND}.ogg", np.zeros(24000), 16000)
    with caplog.at_level(logging.WARNING):
        script.prepare(root, tmp_path / "out", longest=1.3)
    assert f"train: 1 utterances longer than 1.3 s: {SECOND}" in caplog.text
    assert [one.id for one in read_manifest(tmp_path / "out" / "train.jsonl")] == [FIRST]
    assert script.main([str(root), "--out", str(tmp_path / "none"), "--longest", "1"]) == 1
    assert "train has no utterance of at most 1 s: give a larger --longest" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def test_an_id_that_occurs_twice_is_one_line(script, corpus, tmp_path, capsys):
    table = corpus / "transcribed_data" / "en" / "asr_train.tsv"
    table.write_text(table.read_text("utf-8") + table.read_text("utf-8").splitlines()[1] + "\n", "utf-8")
    assert script.main([str(corpus), "--out", str(tmp_path / "out")]) == 1
    assert f"asr_train.tsv has {FIRST} twice: unpack the corpus again" in capsys.readouterr().err


def test_a_missing_table_or_column_is_one_line(script, corpus, tmp_path, capsys):
    table = corpus / "transcribed_data" / "en" / "asr_dev.tsv"
    arguments = [str(corpus), "--out", str(tmp_path / "out")]
    table.write_text(table.read_text().replace("normalized_text", "text"))
    assert script.main(arguments) == 1
    assert "asr_dev.tsv has no column normalized_text" in capsys.readouterr().err
    table.unlink()
    assert script.main(arguments) == 1
    assert "asr_dev.tsv does not exist: cut the recordings" in capsys.readouterr().err
    assert script.main([str(tmp_path / "out"), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "is not a folder" in error
