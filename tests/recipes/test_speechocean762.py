# SPDX-License-Identifier: Apache-2.0
"""The preparation of SpeechOcean762, on noise with Kaldi's files."""

import logging

import pytest
from recipes.corpora import write_lines, write_speechocean
from recipes.scripts import RECIPES, load_script

from speechbrain_ee.corpora.manifest import read_manifest

TRAIN = [f"{number:04}" for number in range(1, 11)]


@pytest.fixture(scope="module")
def script():
    return load_script(RECIPES / "SpeechOcean762" / "prepare.py")


@pytest.fixture
def corpus(tmp_path):
    return write_speechocean(tmp_path / "speechocean762", {"train": TRAIN, "test": ["0003"]})


def test_every_tenth_training_speaker_is_in_dev(script, corpus, tmp_path):
    assert script.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    sets = {name: read_manifest(tmp_path / "out" / f"{name}.jsonl") for name in ("train", "dev", "test")}
    assert {one.speaker for one in sets["train"]} == set(TRAIN[:9])
    assert {one.speaker for one in sets["dev"]} == {"0010"}
    first = sets["test"][0]
    assert (first.id, first.speaker) == ("000030011", "0003")
    assert first.audio_filepath == corpus / "WAVE" / "SPEAKER0003" / "000030011.WAV"
    assert f"{first.id}\t{first.text.upper()}" == (corpus / "test" / "text").read_text().splitlines()[0]


def test_missing_recordings_are_counted(script, corpus, tmp_path, caplog):
    (corpus / "WAVE" / "SPEAKER0003" / "000030035.WAV").unlink()
    with caplog.at_level(logging.WARNING):
        script.prepare(corpus, tmp_path / "out")
    assert "test: 1 transcripts without audio: 000030035" in caplog.text


@pytest.mark.parametrize(
    ("name", "line", "message"),
    [
        ("spk2utt", "0004 000030011", "utterance 000030011 is of speaker 0004 in spk2utt and 0003 in utt2spk"),
        ("wav.scp", "000030011 sph2pipe -f wav a.sph |", "000030011 is a command"),
        ("utt2spk", None, "utt2spk does not exist"),
        ("utt2spk", "000030011 0003", "is of speaker 0003 in spk2utt and None in utt2spk"),
        ("utt2spk", "000030011 0003\n000030011 0009", "utt2spk has 000030011 twice"),
        ("text", "900000001 HELLO", "1 texts have no speaker in utt2spk (first: 900000001)"),
    ],
)
def test_files_that_contradict_each_other_or_are_missing(script, corpus, tmp_path, capsys, name, line, message):
    path = corpus / "test" / name
    path.unlink()
    if line is not None:
        write_lines(path, [line])
    assert script.main([str(corpus), "--out", str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_nine_speakers_are_too_few_to_hold_one_out(script, tmp_path, capsys):
    write_speechocean(tmp_path / "speechocean762", {"train": TRAIN[:9], "test": ["0003"]})
    assert script.main([str(tmp_path), "--out", str(tmp_path / "out")]) == 1
    assert "9 speakers are too few" in capsys.readouterr().err
