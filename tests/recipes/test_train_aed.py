# SPDX-License-Identifier: Apache-2.0
"""train.py with a tiny model of the attention yaml: a complete run, a resumed run, two processes."""

import json
import signal
from functools import partial

import pytest
from recipes.processes import train_on_two
from recipes.test_train import assert_same_training
from recipes.tiny import SAVING_OFTEN, arguments, command, train

from recipes import tiny
from speechbrain_ee.replay.utterances import read_utterances

AED = {"yaml": "conformer_aed_ee", "num_decoder_layers": 1, "decoders": "per_exit", "decoders_per_batch": 1}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny.write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def uninterrupted(corpus, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "aed"
    ended = train(arguments(corpus, run, **AED, ckpt_interval_steps=2), run / "output")
    assert ended.status == 0, ended.stderr
    return run


def test_a_run_evaluates_attention_and_ctc_and_transcribes(corpus, uninterrupted, tmp_path):
    run = uninterrupted
    exits = json.loads((run / "eval" / "test" / "exits.json").read_text("utf-8"))
    assert exits["decoding"] == "greedy attention" and all("wer_ctc" in row for row in exits["exits"])
    assert json.loads((run / "config.json").read_text("utf-8"))["heads"]["class"] == "JointHeads"
    lines = read_utterances(run / "eval" / "test" / "utterances.jsonl")
    words = ("transcribe", "--model", run, corpus / "test00.wav", "--full", "--json")
    for decoding, text in (
        ("greedy", lines[0]["exits"][-1]["hypothesis"]),
        ("ctc", lines[0]["exits"][-1]["ctc"]["hypothesis"]),
    ):
        ended = command(tmp_path, *words, "--decoding", decoding)
        assert ended.status == 0, ended.stderr
        assert json.loads(ended.stdout)["text"] == text


def test_a_run_is_calibrated_on_what_transcribe_prints(uninterrupted, tmp_path):
    ended = command(tmp_path, "calibrate", uninterrupted, "--max-wer-increase", "5")
    assert ended.status == 0, ended.stderr


def test_law_7_aed_killed_in_the_middle_of_an_epoch_and_resumed(corpus, uninterrupted, tmp_path):
    run = tmp_path / "run"
    argv = arguments(corpus, run, **AED, **SAVING_OFTEN)
    assert train(argv, tmp_path, partial(tiny.kill_at, 2, 5)).status == -signal.SIGKILL
    ended = train(argv, tmp_path)
    assert ended.status == 0, ended.stderr
    assert_same_training(run, uninterrupted)  # the same exits were drawn


def test_two_processes_train_with_decoders_that_are_drawn(corpus, tmp_path):
    first, second = train_on_two(corpus, tmp_path / "run", **AED)
    assert first["weights"] == second["weights"]
