# SPDX-License-Identifier: Apache-2.0
"""The synthetic default corpus."""

import json
import multiprocessing
import os
import sys
import wave
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from unit.corpora.levels import level_db

from speechbrain_ee.corpora.manifest import read_manifest
from speechbrain_ee.corpora.synthetic import corpus as synthetic
from speechbrain_ee.corpora.synthetic.__main__ import main
from speechbrain_ee.corpora.synthetic.corpus import Job, prepare
from speechbrain_ee.corpora.synthetic.degrade import Condition
from speechbrain_ee.corpora.synthetic.espeak import Espeak, Speaker

SIZES = {"train_hours": 0.003, "num_dev": 3, "num_test": 3}  # 12 utterances
ANNA = Speaker("en-us+f2", pitch=50, rate=180)


@pytest.fixture(scope="module")
def espeak() -> Espeak:
    pytest.importorskip("espeakng_loader")
    return Espeak()


@pytest.fixture(scope="module")
def corpus(espeak, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("corpus")
    prepare(folder, **SIZES, num_workers=2, progress=False)
    return folder


def read_wav(path: Path) -> np.ndarray:
    with wave.open(str(path)) as wav:
        assert (wav.getframerate(), wav.getnchannels(), wav.getsampwidth()) == (16000, 1, 2)
        return np.frombuffer(wav.readframes(wav.getnframes()), dtype=np.int16)


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- The corpus on disk ---


def test_manifests_follow_the_contract(corpus):
    for split, number in (("train", 6), ("dev", 3), ("test", 3)):
        lines = (corpus / f"{split}.jsonl").read_text().splitlines()
        assert len(lines) == number
        for i, row in enumerate(map(json.loads, lines)):
            assert set(row) == {"id", "audio_filepath", "duration", "text", "speaker"}
            assert row["audio_filepath"] == f"audio/{split}/{split}-{i:05d}.wav"


def test_audio_is_sane(corpus):
    for split in synthetic.SPLITS:
        for utterance in read_manifest(corpus / f"{split}.jsonl"):
            samples = read_wav(utterance.audio_filepath)
            assert utterance.duration == pytest.approx(len(samples) / 16000, abs=1e-6)
            assert 0.2 < utterance.duration < 3.5
            assert np.abs(samples.astype(int)).max() <= 0.951 * 32767
            # -30 dBFS at least, unless the peak limit binds: crests above 20 dB do not occur
            assert level_db(samples / 32768) > -31


def test_conditions_name_every_utterance(corpus):
    rows = list(map(json.loads, (corpus / "conditions.jsonl").read_text().splitlines()))
    ids = [u.id for s in synthetic.SPLITS for u in read_manifest(corpus / f"{s}.jsonl")]
    assert [row["id"] for row in rows] == ids
    for row in rows:
        assert 2 <= row["snr_db"] <= 40
        assert row["condition"].startswith("clean") == (row["snr_db"] >= 25)


def test_any_number_of_workers_gives_the_same_bytes(corpus, tmp_path):
    prepare(tmp_path, **SIZES, num_workers=1, progress=False)
    assert files_of(tmp_path) == files_of(corpus)


def test_another_seed_gives_another_corpus(corpus, tmp_path):
    prepare(tmp_path, **SIZES, seed=1, num_workers=1, progress=False)
    assert files_of(tmp_path)["train.jsonl"] != files_of(corpus)["train.jsonl"]


def test_a_complete_corpus_is_kept_and_a_stopped_one_is_made_again(espeak, tmp_path, caplog):
    sizes = {"train_hours": 0.001, "num_dev": 1, "num_test": 1}
    make = {**sizes, "num_workers": 1, "progress": False}
    prepare(tmp_path, **make)
    whole = files_of(tmp_path)
    wav = tmp_path / "audio" / "dev" / "dev-00000.wav"
    wav.write_bytes(b"cut off")

    with caplog.at_level("INFO"):
        prepare(tmp_path, **make)
    assert "nothing to do" in caplog.text
    assert wav.read_bytes() == b"cut off"

    (tmp_path / synthetic.DONE_FILE).unlink()  # as after a kill
    prepare(tmp_path, **make)
    assert files_of(tmp_path) == whole

    prepare(tmp_path, **{**make, "num_dev": 2})  # other settings
    assert len(read_manifest(tmp_path / "dev.jsonl")) == 2


def test_a_smaller_corpus_leaves_no_file_of_the_larger_one(espeak, tmp_path):
    make = {"train_hours": 0.001, "num_test": 1, "num_workers": 1, "progress": False}
    audio = tmp_path / "audio" / "dev"
    prepare(tmp_path, **make, num_dev=3)
    (audio / "mine.wav").write_bytes(b"not of this corpus")
    prepare(tmp_path, **make, num_dev=1)
    assert sorted(path.name for path in audio.iterdir()) == ["dev-00000.wav", "mine.wav"]


def test_two_processes_make_one_corpus_and_the_second_waits(espeak, tmp_path):
    """Without a lock, the second process would remove the files of the first."""
    context = multiprocessing.get_context("fork")
    begun, go_on = context.Event(), context.Event()

    def first():
        def wait_then_render(job, espeak):
            begun.set()
            go_on.wait(60)
            return np.full(4000, job.seed[2], dtype=np.int16)

        synthetic.render = wait_then_render
        prepare(tmp_path, **SIZES, num_workers=1, progress=False)

    def second():
        synthetic.render = None  # must not be needed
        prepare(tmp_path, **SIZES, num_workers=1, progress=False)

    one, two = context.Process(target=first), context.Process(target=second)
    one.start()
    assert begun.wait(60)
    two.start()
    two.join(1)
    assert two.is_alive()  # it waits
    go_on.set()
    for process in (one, two):
        process.join(60)
        assert process.exitcode == 0
    assert len(read_manifest(tmp_path / "train.jsonl")) == 6


def test_hours_are_met(jobs, espeak):
    seconds = [
        len(synthetic.render(job, espeak)) / 16000 for job in jobs[:3000:65]
    ]  # every voice, some fragments, some sentences
    assert np.mean(seconds) == pytest.approx(synthetic.MEAN_SECONDS, rel=0.1)


def test_failed_run_leaves_no_done_file(espeak, tmp_path, monkeypatch):
    def fail(job, espeak):
        raise OSError(28, "No space left on device")

    make = {"train_hours": 0.001, "num_dev": 1, "num_test": 1, "progress": False}
    prepare(tmp_path, **make, num_workers=1)
    monkeypatch.setattr(synthetic, "render", fail)
    with pytest.raises(OSError, match="No space left"):
        prepare(tmp_path, **make, seed=2, num_workers=2)
    assert not (tmp_path / synthetic.DONE_FILE).exists()


# --- The plan ---


@pytest.fixture(scope="module")
def jobs() -> list[Job]:
    return synthetic.plan({"train": 3000, "dev": 200, "test": 400}, seed=1234)


def test_splits_share_no_sentence_and_no_speaker(jobs):
    fragments = [job for job in jobs if len(job.text.split()) < 4]
    assert len(fragments) == 900 and {job.split for job in fragments} == {"train"}
    sentences = [job.text for job in jobs if len(job.text.split()) > 4]
    assert len(set(sentences)) == len(sentences) == 2700
    voices = {s: {j.speaker.voice for j in jobs if j.split == s} for s in synthetic.SPLITS}
    # 65, 15 and 20 % of 4 accents x 10 variants
    assert {split: len(names) for split, names in voices.items()} == {"train": 26, "dev": 6, "test": 8}
    assert len(set.union(*voices.values())) == 40


def test_babble_comes_from_the_same_split(jobs):
    for split in synthetic.SPLITS:
        mine = [job for job in jobs if job.split == split]
        texts, speakers = {job.text for job in mine}, {job.speaker for job in mine}
        for job in mine:
            assert {text for text, _ in job.babble} <= texts
            assert {speaker for _, speaker in job.babble} <= speakers


def test_more_sentences_than_the_grammar_has(tmp_path):
    with pytest.raises(ValueError, match="than the 145056 of the grammar: lower train_hours"):
        prepare(tmp_path, train_hours=1000)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_hours": 0}, "train_hours=0: give a finite number above 0"),
        ({"train_hours": float("nan")}, "train_hours=nan: give a finite"),
        ({"num_dev": 0}, "num_dev=0: give at least 1"),
        ({"num_test": -1}, "num_test=-1: give at least 1"),
        ({"num_workers": 0}, "num_workers=0: give at least 1"),
    ],
)
def test_bad_settings(tmp_path, settings, message):
    with pytest.raises(ValueError, match=message):
        prepare(tmp_path / "new", **settings)
    assert not (tmp_path / "new").exists()


# --- The sound ---


@pytest.mark.parametrize("noise", ["white", "babble"])
@pytest.mark.parametrize("channel", ["full", "telephone"])
def test_rendered_utterance_has_the_stated_snr(espeak, noise, channel):
    condition = Condition(noise, 60.0, channel, rt60_s=0.2)
    babble = (("ask emma for the red fan", Speaker("en+m3", 40, 170)),) * 3
    job = Job("a", "dev", "open the door", ANNA, condition, babble, seed=(1, 2))
    speech = synthetic.render(job, espeak).astype(float)
    noisy = replace(job, condition=replace(condition, snr_db=5.0))
    mixed = synthetic.render(noisy, espeak).astype(float)
    # The two differ in level: subtract the part of the mixture that is proportional to the speech.
    heard = speech * (mixed @ speech) / (speech @ speech)
    # Over a second, noise and speech are only nearly orthogonal
    assert level_db(heard) - level_db(mixed - heard) == pytest.approx(5.0, abs=0.6)


def test_every_accent_and_variant_exists(espeak):
    # espeak-ng silently uses the plain voice if a variant is missing
    folder = Path(espeak._data_path) / "voices" / "!v"
    assert set(synthetic.VARIANTS) <= set(os.listdir(folder))
    for accent in synthetic.ACCENTS:
        assert level_db(espeak.speak("stop", Speaker(accent, 50, 180))) > -60


# --- Errors ---


def test_missing_wheel_is_one_line_that_says_what_to_install(tmp_path, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "espeakng_loader", None)
    synthetic._espeak.cache_clear()
    assert main(["--out", str(tmp_path / "new")]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert 'pip install "speechbrain_ee[synth]"' in message
    assert not (tmp_path / "new").exists()


def test_output_folder_that_is_a_file_is_one_line(espeak, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    assert main(["--out", str(tmp_path / "file"), "--num-workers", "1"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
