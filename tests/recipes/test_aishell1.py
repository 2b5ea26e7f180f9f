# SPDX-License-Identifier: Apache-2.0
"""The preparation of AISHELL-1, on noise with its transcripts."""

import logging

import numpy as np
import pytest
import soundfile
from recipes.corpora import write_aishell
from recipes.scripts import RECIPES, load_script

from speechbrain_ee.corpora.manifest import read_manifest


@pytest.fixture(scope="module")
def script():
    return load_script(RECIPES / "AISHELL-1" / "prepare.py")


@pytest.fixture
def corpus(tmp_path):
    return write_aishell(tmp_path / "data_aishell", {"train": ["S0002", "S0003"], "dev": ["S0724"], "test": ["S0764"]})


def test_texts_are_characters_without_spaces(script, corpus, tmp_path):
    assert script.main([str(corpus.parent), "--out", str(tmp_path / "out")]) == 0
    train = read_manifest(tmp_path / "out" / "train.jsonl")
    assert [one.speaker for one in train] == ["S0002"] * 3 + ["S0003"] * 3
    line = (corpus / "transcript" / "aishell_transcript_v0.8.txt").read_text("utf-8").splitlines()[0]
    assert f"{train[0].id} {' '.join(train[0].text)}" == line
    assert {len(one.text) for one in train} == {6}
    assert train[0].audio_filepath == corpus / "wav" / "train" / "S0002" / "BAC009S0002W0122.wav"
    assert [len(read_manifest(tmp_path / "out" / f"{name}.jsonl")) for name in ("dev", "test")] == [3, 3]


def test_what_has_no_partner_is_counted(script, corpus, tmp_path, caplog):
    soundfile.write(corpus / "wav" / "dev" / "S0724" / "BAC009S0724W0200.wav", np.zeros(1600), 16000)
    (corpus / "wav" / "test" / "S0764" / "BAC009S0764W0122.wav").unlink()
    with open(corpus / "transcript" / "aishell_transcript_v0.8.txt", "a", encoding="utf-8") as file:
        file.write("BAC009S0916W0122 最 大\n")
    with caplog.at_level(logging.WARNING):
        script.prepare(corpus, tmp_path / "out")
    assert [record.getMessage() for record in caplog.records] == [
        "dev: 1 audio files without transcript: BAC009S0724W0200",
        "test: 1 transcripts without audio: BAC009S0764W0122",
        "AISHELL-1: 1 transcripts of speakers without recordings: BAC009S0916W0122",
    ]


def test_archives_that_are_not_unpacked(script, corpus, tmp_path, capsys):
    for path in (corpus / "wav" / "dev").rglob("*.wav"):
        path.unlink()
    assert script.main([str(corpus), "--out", str(tmp_path / "out")]) == 1
    assert "wav/dev has no recordings: unpack the archives" in capsys.readouterr().err
    assert script.main([str(tmp_path / "out"), "--out", str(tmp_path / "out")]) == 1
    assert "is not a folder" in capsys.readouterr().err
