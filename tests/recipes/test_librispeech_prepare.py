# SPDX-License-Identifier: Apache-2.0
"""The LibriSpeech preparation on a generated corpus of noise."""

import json
import logging

import numpy as np
import pytest
import soundfile
from recipes.scripts import RECIPES, load_script

from speechbrain_ee.corpora.manifest import read_manifest
from speechbrain_ee.corpora.recordings import check_durations

SCRIPT = RECIPES / "LibriSpeech" / "prepare.py"


@pytest.fixture(scope="module")
def script():
    return load_script(SCRIPT)


def add_chapter(root, subset, speaker, chapter, seconds):
    """Write a chapter with one utterance per duration and upper-case texts."""
    folder = root / subset / speaker / chapter
    folder.mkdir(parents=True)
    rng, lines = np.random.default_rng(0), []
    for number, length in enumerate(seconds):
        name = f"{speaker}-{chapter}-{number:04}"
        samples = 0.1 * rng.standard_normal(int(length * 16000))
        soundfile.write(folder / f"{name}.flac", samples, 16000)
        lines.append(f"{name} MISTER QUILTER'S NUMBER {number}\n")
    (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))
    return folder


@pytest.fixture
def corpus(tmp_path):
    root = tmp_path / "LibriSpeech"
    add_chapter(root, "train-clean-100", "19", "198", [0.5, 0.25])
    add_chapter(root, "train-clean-100", "103", "1240", [0.75])
    add_chapter(root, "train-other-500", "20", "205", [0.3])
    add_chapter(root, "dev-clean", "84", "121123", [0.4])
    (root / "SPEAKERS.TXT").write_text(";ID")
    return root


def ids(path):
    return [utterance.id for utterance in read_manifest(path)]


def test_manifests_of_every_subset_and_the_joined_train(script, corpus, tmp_path, capsys):
    script.prepare(corpus, tmp_path / "out", ["train-clean-100", "train-other-500", "dev-clean"])
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "dev-clean.jsonl",
        "train-clean-100.jsonl",
        "train-other-500.jsonl",
        "train.jsonl",
    ]
    clean = ["103-1240-0000", "19-198-0000", "19-198-0001"]
    assert ids(tmp_path / "out" / "train-clean-100.jsonl") == clean
    assert ids(tmp_path / "out" / "train.jsonl") == [*clean, "20-205-0000"]
    utterances = read_manifest(tmp_path / "out" / "train.jsonl")
    assert utterances[1].text == "mister quilter's number 0"
    assert utterances[1].speaker == "19"
    assert [utterance.duration for utterance in utterances] == [0.75, 0.5, 0.25, 0.3]
    assert check_durations(utterances, tolerance_s=0.0) == utterances
    assert "train.jsonl: 4 utterances, 0.00 h, 3 speakers" in capsys.readouterr().out


def test_default_is_every_subset_found_also_from_the_folder_above(script, corpus, tmp_path):
    assert script.main([str(corpus.parent), "--out", str(tmp_path / "out")]) == 0
    assert len(ids(tmp_path / "out" / "train.jsonl")) == 4
    assert ids(tmp_path / "out" / "dev-clean.jsonl") == ["84-121123-0000"]


def test_mini_librispeech_is_part_of_the_others(script, corpus, tmp_path, capsys):
    add_chapter(corpus, "train-clean-5", "19", "198", [0.5])
    assert script.main([str(corpus), "--out", str(tmp_path / "out")]) == 0
    assert len(ids(tmp_path / "out" / "train.jsonl")) == 4
    both = ["--train", "train-clean-5", "train-clean-100"]
    assert script.main([str(corpus), "--out", str(tmp_path / "both"), *both]) == 1
    assert "train has 1 utterances twice (first: 19-198-0000): leave out one of its parts" in capsys.readouterr().err
    assert not (tmp_path / "both" / "train.jsonl").exists()


def test_chosen_subsets_only(script, corpus, tmp_path):
    arguments = [str(corpus), "--out", str(tmp_path / "out"), "--train", "train-other-500"]
    assert script.main([*arguments, "--dev", "--test"]) == 0
    assert ids(tmp_path / "out" / "train.jsonl") == ["20-205-0000"]
    assert len(list((tmp_path / "out").iterdir())) == 2


def test_paths_are_relative_where_the_corpus_is_near(script, corpus, tmp_path):
    script.prepare(corpus, tmp_path / "manifests", ["dev-clean"])
    row = json.loads((tmp_path / "manifests" / "dev-clean.jsonl").read_text())
    expected = "../LibriSpeech/dev-clean/84/121123/84-121123-0000.flac"
    assert row["audio_filepath"] == expected


def test_missing_subset_lists_those_found(script, corpus, tmp_path, capsys):
    arguments = [str(corpus), "--out", str(tmp_path / "out"), "--train", "train-clean-360"]
    assert script.main(arguments) == 1
    error = capsys.readouterr().err
    assert "no subset train-clean-360; found: dev-clean, train-clean-100, train-other-500" in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_folders_that_are_none(script, tmp_path, capsys):
    assert script.main([str(tmp_path / "none")]) == 1
    assert "is not a folder" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert script.main([str(tmp_path / "empty"), "--out", str(tmp_path / "out")]) == 1
    assert "found: none (expected LibriSpeech/<subset>" in capsys.readouterr().err


def test_what_has_no_partner_or_cannot_be_read_is_counted_and_named(script, corpus, tmp_path, caplog):
    folder = add_chapter(corpus, "dev-clean", "85", "7", [0.2] * 8)
    for number in range(6):
        (folder / f"85-7-{number:04}.flac").unlink()
    (folder / "85-7-0006.flac").write_bytes(b"fLaC and then nothing")
    soundfile.write(folder / "85-7-0099.flac", np.zeros(1600), 16000)
    with caplog.at_level(logging.WARNING):
        script.prepare(corpus, tmp_path / "out", ["dev-clean"])
    assert ids(tmp_path / "out" / "dev-clean.jsonl") == ["84-121123-0000", "85-7-0007"]
    named = ", ".join(f"85-7-{number:04}" for number in range(5))
    assert [record.getMessage() for record in caplog.records] == [
        f"dev-clean: 6 transcripts without audio: {named}, ...",
        "dev-clean: 1 audio files without transcript: 85-7-0099",
        "dev-clean: 1 audio files that cannot be read: 85-7-0006",
    ]


def test_subset_without_a_pair(script, corpus, tmp_path, capsys):
    for path in (corpus / "dev-clean").glob("*/*/*.flac"):
        path.unlink()
    arguments = [str(corpus), "--out", str(tmp_path / "out"), "--train", "--dev", "dev-clean"]
    assert script.main(arguments) == 1
    assert "has no usable utterance" in capsys.readouterr().err
