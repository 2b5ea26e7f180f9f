# SPDX-License-Identifier: Apache-2.0
"""The training script on a corpus of tones: files of a run, resuming (law 7), and bad input."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
from recipes.processes import TWO_PROCESSES, epochs_of, train_on_two
from recipes.scripts import load_script
from recipes.tiny import ROOT, SAVING_OFTEN, Training, arguments, curve, train, weights
from ruamel.yaml import YAML
from safetensors.torch import load_file

from recipes import tiny
from speechbrain_ee.training.checkpoints import AtomicCheckpointer

pytestmark = pytest.mark.skipif(os.name == "nt", reason="POSIX signals and fork")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny.write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture
def broken(corpus, tmp_path):
    """Return a copy of the corpus for tests that damage it."""
    return shutil.copytree(corpus, tmp_path / "corpus")


def command(*words, **variables):
    env = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}", **variables}
    return subprocess.run(
        [sys.executable, *map(str, words)], cwd=ROOT, env=env, capture_output=True, text=True, timeout=200
    )


def names(folder):
    return {path.name for path in folder.iterdir()}


# --- a complete run -------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(corpus, tmp_path_factory):
    """Return the run folder and the finished process of ``python train.py ...``."""
    run = tmp_path_factory.mktemp("runs") / "conformer" / "1234"
    return run, command("train.py", *arguments(corpus, run))


def test_train_py_leaves_the_run_folder_of_the_contract(finished):
    run, ended = finished
    assert ended.returncode == 0, ended.stderr
    assert names(run) >= {
        *("hyperparams.yaml", "log.txt", "train_log.txt", "save", "eval"),
        *("config.json", "model.safetensors", "tokenizer.model", "calibration.json"),
    }
    assert names(run / "eval") == {"dev", "test"}
    evaluated = {"utterances.jsonl", "exits.json", "exits.csv", "exits.png", "policies.json"}
    assert names(run / "eval" / "test") == evaluated
    assert names(run / "eval" / "dev") == evaluated | {"calibrations.json"}
    assert not [path for path in run.rglob(".*") if path.name != ".saving.lock"]  # no temporary files
    assert len(curve(run)) == tiny.OPTIONS["number_of_epochs"]


def test_exits_json_counts_the_test_set_and_its_exits(finished, corpus):
    run, _ = finished
    rows = tiny.read_rows(corpus / "test.jsonl")
    exits = json.loads((run / "eval" / "test" / "exits.json").read_text("utf-8"))
    assert exits["test_set"] == "test" and exits["decoding"] == "greedy CTC"
    assert exits["num_utterances"] == len(rows)
    assert exits["num_words"] == sum(len(row["text"].split()) for row in rows)
    assert [row["layer"] for row in exits["exits"]] == [1, 2, 3]
    lines = tiny.read_rows(run / "eval" / "test" / "utterances.jsonl")
    assert [line["id"] for line in lines] == [row["id"] for row in rows]


def test_the_model_is_the_average_of_the_best_checkpoints(finished):
    run, _ = finished
    saved = [torch.load(path, weights_only=True) for path in (run / "save").glob("CKPT+*/heads.ckpt")]
    assert len(saved) == 3  # as many as average_checkpoints
    model = load_file(run / "model.safetensors")
    for name in saved[0]:
        mean = sum(state[name].double() for state in saved) / 3
        torch.testing.assert_close(model[f"heads.{name}"].double(), mean, atol=1e-7, rtol=1e-6)
    assert not torch.equal(saved[0][name], saved[1][name])


def test_transcribe_and_evaluate_take_the_run_folder(finished, corpus, tmp_path):
    run, _ = finished
    wav = corpus / "test00.wav"
    ended = command("-m", "speechbrain_ee.cli", "transcribe", "--model", run, "--json", "--layer", 2, wav)
    assert ended.returncode == 0, ended.stderr
    row = json.loads(ended.stdout)
    assert set(row) == {"file", "text", "exit_layer", "score", "macs", "seconds", "words", "expected_wer"}
    lines = tiny.read_rows(run / "eval" / "test" / "utterances.jsonl")
    assert (row["text"], row["exit_layer"]) == (lines[0]["exits"][1]["hypothesis"], 2)

    ended = command(
        *("-m", "speechbrain_ee.cli", "evaluate", run, "--manifest", corpus / "test.jsonl", "--out", tmp_path)
    )
    assert ended.returncode == 0, ended.stderr
    again = tiny.read_rows(tmp_path / "utterances.jsonl")
    assert [exit_["hypothesis"] for line in again for exit_ in line["exits"]] == [
        exit_["hypothesis"] for line in lines for exit_ in line["exits"]
    ]


def test_the_same_command_on_a_finished_run_trains_no_more(finished, corpus, tmp_path):
    run, _ = finished
    file = run / "calibration.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {"score": "learned"}))  # as if written by the user
    before = curve(run), weights(run), file.read_text("utf-8")
    ended = train(arguments(corpus, run), tmp_path)
    assert ended.status == 0, ended.stderr
    assert (curve(run), weights(run), file.read_text("utf-8")) == before


def test_a_run_and_a_yaml_of_an_earlier_version_resume_on_the_same_manifests_only(finished, corpus, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "run")
    (run / "data.json").unlink()
    hparams_file, *options = arguments(corpus, run)
    text = Path(hparams_file).read_text("utf-8")
    for today, earlier in (
        (r"^data_root: .*\n", "blank_index: 0\n"),
        (r"^ +data_root: .*\n", ""),
        (r"^( +)(kind: !ref <lr_schedule>)$", r"\1\2\n\1lr: !ref <lr>"),
        (r"^valid_(decoder: \S+).*$", r"\1\n  blank_index: !ref <blank_index>"),
        (r"^(  distillation: .*)$", r"\1\n  blank_index: !ref <blank_index>"),
    ):
        text, count = re.subn(today, earlier, text, flags=re.MULTILINE)
        assert count == 1
    (tmp_path / "earlier.yaml").write_text(text)
    shutil.copy(corpus / "train.jsonl", tmp_path / "train.jsonl")
    hparams_file = str(tmp_path / "earlier.yaml")
    others = arguments(corpus, run, train_manifest=tmp_path / "train.jsonl")[1:]
    assert_one_line(train([hparams_file, *others], tmp_path), f"train_manifest was '{corpus / 'train.jsonl'}'")
    ended = train([hparams_file, *options], tmp_path)
    assert ended.status == 0, ended.stderr
    assert (curve(run), weights(run)) == (curve(finished[0]), weights(finished[0]))
    assert (run / "data.json").read_text("utf-8") == (finished[0] / "data.json").read_text("utf-8")


def test_a_calibration_of_other_weights_is_made_anew(finished, corpus, tmp_path):
    run, _ = finished
    file = run / "calibration.json"
    file.write_text(json.dumps(json.loads(file.read_text("utf-8")) | {"model": "0" * 16}))
    ended = train(arguments(corpus, run), tmp_path)
    assert ended.status == 0, ended.stderr
    assert json.loads(file.read_text("utf-8"))["model"] != "0" * 16


@pytest.mark.parametrize(
    ("option", "value", "before"),
    [("grad_accumulation_factor", 2, "1"), ("max_grad_norm", 1.0, "5.0"), ("precision", "bf16", "'fp32'")],
)
def test_a_run_is_not_resumed_with_other_run_options(finished, corpus, tmp_path, option, value, before):
    run, _ = finished
    ended = train(arguments(corpus, run, **{option: value}), tmp_path)
    assert_one_line(ended, f"contains a run with other settings ({option} was {before})")


# --- law 7: interrupted at any moment and resumed == uninterrupted ----------------------------


@pytest.fixture(scope="module")
def uninterrupted(corpus, tmp_path_factory):
    """Return the training curve and the weights of an uninterrupted run, by the number of batches per step."""
    cache = {}

    def get(batches_per_step=1):
        if batches_per_step not in cache:
            run = tmp_path_factory.mktemp("uninterrupted")
            options = {**SAVING_OFTEN, "grad_accumulation_factor": batches_per_step}
            ended = train(arguments(corpus, run, **options), run / "output")
            assert ended.status == 0, ended.stderr
            cache[batches_per_step] = run
        return cache[batches_per_step]

    return get


def assert_same_training(run, expected):
    assert curve(run) == curve(expected)
    assert weights(run) == weights(expected)


def as_parts(corpus, folder):
    """Write the corpus as parts of one recording; returns the folder of the manifests."""
    folder.mkdir()
    for split in ("train", "dev", "test"):
        rows, pieces = tiny.read_rows(corpus / f"{split}.jsonl"), []
        for row in rows:
            row["offset"] = sum(map(len, pieces)) / tiny.RATE
            pieces.append(soundfile.read(corpus / row["audio_filepath"], dtype="int16")[0])
            row["audio_filepath"] = f"{split}.flac"
        soundfile.write(folder / f"{split}.flac", np.concatenate(pieces), tiny.RATE)
        tiny.write_rows(folder / f"{split}.jsonl", rows)
    return folder


def test_parts_of_recordings_train_as_files_do(corpus, uninterrupted, tmp_path):
    run = tmp_path / "run"
    ended = train(arguments(as_parts(corpus, tmp_path / "parts"), run, **SAVING_OFTEN), tmp_path)
    assert ended.status == 0, ended.stderr
    assert_same_training(run, uninterrupted())


def newest_checkpoint(run):
    """Return meta, epoch and step of the newest checkpoint."""
    paths = (run / "save").glob("CKPT+*")
    metas = {path: YAML(typ="safe").load((path / "CKPT.yaml").read_text("utf-8")) for path in paths}
    newest = max(metas, key=lambda path: metas[path]["unixtime"])
    step = YAML(typ="safe").load((newest / "brain.ckpt").read_text("utf-8"))["step"]
    return metas[newest], int((newest / "epoch_counter.ckpt").read_text("utf-8")), step


@pytest.mark.parametrize("batches_per_step", [1, 2])
def test_law_7_killed_in_the_middle_of_an_epoch_and_resumed(corpus, uninterrupted, tmp_path, batches_per_step):
    run = tmp_path / "run"
    argv = arguments(corpus, run, **SAVING_OFTEN, grad_accumulation_factor=batches_per_step)
    ended = train(argv, tmp_path, partial(tiny.kill_at, 2, 5))
    assert ended.status == -signal.SIGKILL
    meta, epoch, step = newest_checkpoint(run)
    assert not meta["end-of-epoch"] and (epoch, step) == (2, 4)  # step 5 is lost and repeated
    assert len(curve(run)) == 1
    ended = train(argv, tmp_path)
    assert ended.status == 0, ended.stderr
    assert_same_training(run, uninterrupted(batches_per_step))


def test_law_7_killed_in_the_middle_of_a_save_and_resumed(corpus, uninterrupted, tmp_path):
    run = tmp_path / "run"
    argv = arguments(corpus, run, **SAVING_OFTEN)
    for _ in range(10):  # retries if the checkpoint is complete before the kill
        training = Training(argv, tmp_path)
        while training.process.is_alive():
            if half_written(run):
                training.process.kill()
                break
        training.wait()
        if half_written(run):
            break
    assert half_written(run), "no kill fell into a save"
    ended = train(argv, tmp_path)
    assert ended.status == 0, ended.stderr
    assert not half_written(run)
    assert_same_training(run, uninterrupted())


def half_written(run):
    save = run / "save"
    return [name for name in os.listdir(save) if name.startswith("saving+")] if save.is_dir() else []


def test_law_7_killed_again_and_again_and_resumed(corpus, uninterrupted, tmp_path):
    """Kill at moments independent of the run's progress; the last one is at its end or later."""
    run = tmp_path / "run"
    argv = arguments(corpus, run, **SAVING_OFTEN)
    for delay_s in (0.4, 0.8, 1.2, 1.6, 2.2):
        training = Training(argv, tmp_path)
        time.sleep(delay_s)
        training.process.kill()
        training.wait()
    ended = train(argv, tmp_path)
    assert ended.status == 0, ended.stderr
    assert_same_training(run, uninterrupted())


def test_ctrl_c_is_one_line_and_status_130_and_the_same_command_resumes(corpus, uninterrupted, tmp_path):
    run = tmp_path / "run"
    argv = arguments(corpus, run, **SAVING_OFTEN)
    ended = train(argv, tmp_path, partial(tiny.press_ctrl_c_at, 2, 5))
    assert ended.status == 130
    assert ended.error_lines == ["train.py: interrupted"]
    ended = train(argv, tmp_path)
    assert ended.status == 0, ended.stderr
    assert_same_training(run, uninterrupted())


# --- two processes --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def two_processes(corpus, tmp_path_factory):
    """Return the run folder of a training with two processes."""
    run = tmp_path_factory.mktemp("runs") / "two"
    train_on_two(corpus, run)
    return run


def test_two_processes_share_the_data_and_hold_the_same_weights(corpus, two_processes):
    run = two_processes
    assert names(run) >= {"config.json", "model.safetensors", "calibration.json", "train_log.txt"}
    assert names(run / "eval" / "dev") >= {"utterances.jsonl", "exits.json"}
    assert len(curve(run)) == 2
    first, second = epochs_of(run)
    assert first["weights"] == second["weights"]
    ids = sorted(row["id"] for row in tiny.read_rows(corpus / "train.jsonl"))
    for epoch in ("1", "2"):
        shares = first["seen"][epoch], second["seen"][epoch]
        assert [len(share) for share in shares] == [12, 12]
        assert sorted(shares[0] + shares[1]) == ids


def test_law_7_two_processes_killed_in_the_middle_of_an_epoch_and_resumed(corpus, two_processes, tmp_path):
    run = tmp_path / "run"
    words = (
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc_per_node=2",
        ROOT / "tests/recipes/killed_train.py",
    )
    ended = command(*words, *arguments(corpus, run, **TWO_PROCESSES), KILL_AT_EPOCH="2", KILL_AT_STEP="3")
    assert ended.returncode != 0
    assert newest_checkpoint(run)[1:] == (2, 2)
    resumed = train_on_two(corpus, run)
    assert_same_training(run, two_processes)
    assert [rank["weights"] for rank in resumed] == [rank["weights"] for rank in epochs_of(two_processes)]


@pytest.mark.parametrize("exit_weights", ["[0, 0, 1]", "[1, 0, 0]"])
def test_two_processes_train_where_an_exit_has_weight_0(corpus, tmp_path, exit_weights):
    first, second = train_on_two(corpus, tmp_path / "run", exit_weights=exit_weights, select="mean")
    assert first["weights"] == second["weights"]


# --- bad input ------------------------------------------------------------------------------


def assert_one_line(ended, *parts):
    assert ended.status == 1, ended.stderr or ended.stdout
    assert len(ended.error_lines) == 1, ended.stderr
    line = ended.error_lines[0]
    assert line.startswith("train.py: error: ")
    for part in parts:
        assert part in line


@pytest.mark.parametrize(
    ("option", "value", "parts"),
    [
        ("exit_layers", "[0, 3]", ["exit_layers [0, 3] leave the encoder", "from 1 to num_layers=3"]),
        ("exit_layers", "[1, 4]", ["exit_layers [1, 4] leave the encoder", "from 1 to num_layers=3"]),
        ("exit_layers", "[1, 1, 3]", ["exit_layers [1, 1, 3] repeat a layer"]),
        ("exit_layers", "[2, 1, 3]", ["exit_layers [2, 1, 3] are not sorted"]),
        ("exit_layers", "1.5", ["exit_layers"]),
        ("exit_layers", "{a: 1}", ["--exit_layers {a: 1}: give a list of numbers"]),
        ("exit_layer", "[3]", ["--exit_layer is neither a key of", "do you mean --exit_layers?"]),
        ("channels", "4.5", ["channels"]),
        ("unfreeze", "3", ["unfreeze"]),
        ("unfreeze", "(1, 2)", ["unfreeze"]),
        ("precision", "fp16", ["precision fp16 needs a GPU", "give --precision bf16 or fp32"]),
        ("eval_precision", "fp16", ["eval_precision fp16 needs a GPU"]),
        ("precision", "half", ["--precision half: choose from fp32, fp16, bf16"]),
        ("device", "gpu", ["device gpu: give cpu, cuda, cuda:<number> or mps"]),
        ("device", "cuda:99", ["device cuda:99: torch finds ", "GPUs: give cpu"]),
        ("log_config", "none.yaml", ["--log_config none.yaml does not exist"]),
        ("data_root", "none", ["data_root none is not a folder"]),
        ("blank_index", "5", ["--blank_index is neither a key of"]),  # the tokenizer determines it
        ("exit_weights", "[1, 1]", ["got 2 exit weights for 3 exits"]),
        (
            "grad_accumulation_factor",
            "1000",
            [
                "needs 1000 utterances (grad_accumulation_factor=1000 times 1 processes)",
                "lower grad_accumulation_factor",
            ],
        ),
        ("lr", "abc", ["--lr abc: give a number (0.002 by default)"]),
        ("lr_schedule", "cosine", ["lr_schedule is 'cosine': choose from warmup_cosine, noam"]),
        ("nonfinite_patience", "3", ["--nonfinite_patience is not supported"]),
        ("vocab_size", "13", ["has 11 tokens and the exit heads 13: give --vocab_size 11"]),
        ("vocab_size", "9", ["vocab_size is 9: these texts need at least 11"]),
        ("train_manifest", "none.jsonl", ["manifest none.jsonl does not exist"]),
        ("test_manifests", "[none.jsonl]", ["manifest none.jsonl does not exist"]),
        ("test_manifests", "[a/dev.jsonl]", ["a/dev.jsonl and", "would both be evaluated as dev: rename one"]),
    ],
)
def test_bad_options_are_one_line(corpus, tmp_path, option, value, parts):
    assert_one_line(train(arguments(corpus, tmp_path / "run", **{option: value}), tmp_path), *parts)
    assert not list((tmp_path / "run").glob("save/CKPT*"))


def test_all_problems_are_in_one_line(corpus, tmp_path):
    run = tmp_path / "run"
    options = {"error_unit": "letter", "token_type": "bpe", "vocab_size": "null", "lr_schedule": "cosine"}
    ended = train(arguments(corpus, run, **options, train_manifest="none.jsonl"), tmp_path)
    messages = ["error_unit is 'letter': choose from word, char", "give --vocab_size 256, or --token_type char"]
    assert_one_line(ended, *messages, "lr_schedule is 'cosine'")
    assert "none.jsonl" not in ended.stderr, "no manifest is read before the settings are checked"
    ended = train(arguments(corpus, run, vocab_size=13, unfreeze="[[5000, nothing]]", freeze="encoder"), tmp_path)
    assert_one_line(ended, "the exit heads 13: give --vocab_size 11, or null", "unfreeze names step 5000")
    assert not list(run.glob("save/CKPT*"))


def test_the_number_of_tokens_follows_from_the_texts_and_gives_the_same_model(corpus, uninterrupted, tmp_path):
    run = tmp_path / "run"
    ended = train(arguments(corpus, run, **SAVING_OFTEN, vocab_size=None, alphabet=None), tmp_path)
    assert ended.status == 0, ended.stderr
    assert_same_training(run, uninterrupted())


def test_a_run_with_a_given_number_of_tokens_resumes_without_it_and_with_no_other_unit(finished, corpus, tmp_path):
    run = shutil.copytree(finished[0], tmp_path / "run")
    ended = train(arguments(corpus, run, vocab_size=None, alphabet=None), tmp_path)
    assert ended.status == 0, ended.stderr
    assert (curve(run), weights(run)) == (curve(finished[0]), weights(finished[0]))
    ended = train(arguments(corpus, run, error_unit="char"), tmp_path)
    assert_one_line(ended, "contains a run with other settings (error_unit was 'word')")


def test_test_references_that_the_model_cannot_write_are_warned_of(broken, tmp_path):
    change_row(broken / "test.jsonl", 2, text="NO go, hi")
    ended = train(arguments(broken, tmp_path / "run", number_of_epochs=1, exit_layers="3"), tmp_path)
    assert ended.status == 0, ended.stderr
    assert re.search(
        r"^warning: test: 2 of \d+ words of the references have .* write \('[,NO]{3}'\)", ended.stderr, re.M
    )


def test_a_bug_shows_its_traceback_on_standard_error_and_in_the_log(corpus, tmp_path):
    ended = train(arguments(corpus, tmp_path / "run"), tmp_path, partial(tiny.fail_at, 1, 2))
    assert ended.status == 1
    log = (tmp_path / "run" / "log.txt").read_text("utf-8")
    for text in (ended.stderr, log):
        assert text.count("Traceback (most recent call last)") == 1
        assert text.rstrip().endswith("RuntimeError: shapes do not fit")
    assert "Traceback" not in ended.stdout and "shapes do not fit" not in ended.stdout


def test_a_step_limit_ends_training_and_what_follows_is_done(corpus, tmp_path):
    run = tmp_path / "run"
    ended = train(arguments(corpus, run, optimizer_step_limit=3, average_checkpoints=1), tmp_path)
    assert ended.status == 0, ended.stderr
    assert re.search(r"steps: 3\b", curve(run)[0]) and len(curve(run)) == 1
    assert (run / "model.safetensors").exists()


def test_an_empty_train_manifest_is_one_line(broken, tmp_path):
    (broken / "train.jsonl").write_text("")
    ended = train(arguments(broken, tmp_path / "run"), tmp_path)
    assert_one_line(ended, "train.jsonl has no utterances: give a manifest with at least one line")


def change_row(manifest, number, **values):
    rows = tiny.read_rows(manifest)
    rows[number] |= values
    tiny.write_rows(manifest, rows)
    return rows[number]["id"]


@pytest.mark.parametrize("cache_audio", [True, False])  # read by the main process or by the data loader processes
@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_missing_and_corrupt_audio_is_one_line(broken, tmp_path, split, cache_audio):
    if cache_audio:
        (broken / f"{split}01.wav").unlink()
        reason = "does not exist: check the path"
    else:
        (broken / f"{split}01.wav").write_bytes(b"RIFF, but no more")
        reason = "cannot be read"
    options = {"cache_audio": cache_audio, "number_of_epochs": 1, "exit_layers": "[3]"}
    ended = train(arguments(broken, tmp_path / "run", **options), tmp_path)
    assert_one_line(ended, f"audio {broken / split}01.wav {reason}")


def test_text_that_the_tokenizer_cannot_write_is_one_line(broken, tmp_path):
    name = change_row(broken / "dev.jsonl", 2, text="NO GO NO GO NO GO")
    ended = train(arguments(broken, tmp_path / "run"), tmp_path)
    assert_one_line(ended, "1 of 6 texts have characters that the tokenizer does not know: 'GNO'", name)


@pytest.mark.parametrize(
    ("trained", "resumed", "part"),
    [
        ("[1, 2, 3]", "[1, 3]", "heads.ckpt has in excess head 2: "),
        ("[1, 3]", "[1, 2, 3]", "heads.ckpt lacks head 2: "),
    ],
)
def test_a_checkpoint_with_other_heads_names_the_head(corpus, tmp_path, trained, resumed, part):
    run = tmp_path / "run"
    ended = train(arguments(corpus, run, exit_layers=trained, **SAVING_OFTEN), tmp_path, partial(tiny.kill_at, 1, 3))
    assert ended.status == -signal.SIGKILL
    before = names(run / "save")
    ended = train(arguments(corpus, run, exit_layers=resumed, **SAVING_OFTEN), tmp_path)
    assert_one_line(
        ended, f"contains a run with other settings (exit_layers was {trained}", "give another --output_folder"
    )
    (run / "hyperparams.yaml").unlink()  # as if the checkpoint came from another run
    ended = train(arguments(corpus, run, exit_layers=resumed, **SAVING_OFTEN), tmp_path)
    assert_one_line(ended, "the checkpoint ", part, "build the model with the settings it was trained with")
    assert names(run / "save") == before


def test_a_loss_that_is_no_number_stops_training_and_leaves_the_last_checkpoint(corpus, uninterrupted, tmp_path):
    run = tmp_path / "run"
    argv = arguments(corpus, run, **SAVING_OFTEN)
    assert train(argv, tmp_path, partial(tiny.kill_at, 2, 1)).status == -signal.SIGKILL
    diverging = {**SAVING_OFTEN, "ckpt_interval_steps": 0, "lr": "1.0e+30"}
    (run / "hyperparams.yaml").unlink()  # else the changed learning rate would be refused
    ended = train(arguments(corpus, run, **diverging), tmp_path)
    assert_one_line(ended, " is nan in epoch 2, step ", "utterances train", "lower --lr")
    assert newest_checkpoint(run)[1] == 1
    (run / "hyperparams.yaml").unlink()
    ended = train(argv, tmp_path)
    assert ended.status == 0, ended.stderr
    assert_same_training(run, uninterrupted())


def test_a_gradient_that_is_no_number_stops_training_before_the_step(corpus, tmp_path):
    argv = arguments(corpus, tmp_path / "run", **SAVING_OFTEN)
    ended = train(argv, tmp_path, partial(tiny.make_gradient_infinite_at, 1, 3))
    assert_one_line(ended, "the gradient is nan in epoch 1, step 3, utterances train")


def test_utterances_too_short_for_their_text_are_named_and_left_out(broken, tmp_path):
    name = change_row(broken / "train.jsonl", 3, text="no go hi ox in no go hi ox in no go hi")
    run = tmp_path / "run"
    ended = train(arguments(broken, run, number_of_epochs=1, test_manifests="[]"), tmp_path)
    assert ended.status == 0, ended.stderr
    log = (run / "log.txt").read_text("utf-8")
    assert f"1 of 24 utterances are too short for their text under CTC and are left out: {name}\n" in log


def test_a_tokenizer_that_nothing_was_trained_with_follows_the_texts(broken, tmp_path):
    name = change_row(broken / "dev.jsonl", 2, text="zoo " * 40)  # a few unknown characters give a warning only
    options = {"number_of_epochs": 1, "test_manifests": "[]"}
    ended = train(arguments(broken, tmp_path / "run", **options), tmp_path)
    assert_one_line(ended, "characters that the tokenizer does not know: 'z'", name)
    change_row(broken / "train.jsonl", 2, text="no zoo")  # as the error message proposes
    ended = train(arguments(broken, tmp_path / "run", vocab_size=12, **options), tmp_path)
    assert ended.status == 0, ended.stderr


def test_the_sample_rate_is_that_of_the_training_audio(broken, tmp_path):
    frames = int(12.5 * tiny.read_rows(broken / "train.jsonl")[3]["duration"])
    text = ("nogo" * 20)[: int(1.5 * frames)]  # fits into twice as many frames
    name = change_row(broken / "train.jsonl", 3, text=text)
    run = tmp_path / "run"
    options = {"sample_rate": 8000, "n_mels": 10, "number_of_epochs": 1, "test_manifests": "[]"}
    ended = train(arguments(broken, run, **options), tmp_path)
    assert ended.status == 0, ended.stderr
    assert f"too short for their text under CTC and are left out: {name}\n" in (run / "log.txt").read_text("utf-8")


def test_check_audio_trusts_the_files_over_the_manifest(broken, tmp_path):
    seconds = tiny.read_rows(broken / "train.jsonl")[3]["duration"]
    name = change_row(broken / "train.jsonl", 3, duration=0.01)
    options = {"number_of_epochs": 1, "test_manifests": "[]"}
    for check_audio in (False, True):
        run = tmp_path / f"run{check_audio}"
        ended = train(arguments(broken, run, check_audio=check_audio, **options), tmp_path)
        assert ended.status == 0, ended.stderr
        log = (run / "log.txt").read_text("utf-8")
        correction = f"1 of 24 durations in the manifest differ from the audio (first: {name} says 0.01 s"
        assert (
            f"{correction}, the file has {seconds:.2f} s); the durations of the files are used" in log
        ) == check_audio
        assert ("too short for their text" in log) == (not check_audio)


# --- options --------------------------------------------------------------------------------


def losses(run):
    return [float(line.split("train loss: ")[1].split()[0]) for line in curve(run)]


def test_bf16_trains_and_is_not_fp32(corpus, uninterrupted, tmp_path):
    run = tmp_path / "run"
    ended = train(arguments(corpus, run, precision="bf16", **SAVING_OFTEN), tmp_path)
    assert ended.status == 0, ended.stderr
    assert all(0 < loss < 100 for loss in losses(run))
    assert losses(run) == pytest.approx(losses(uninterrupted()), rel=0.1)  # 8 bits of mantissa, over 42 steps
    assert losses(run) != losses(uninterrupted())
    assert {value.dtype for value in load_file(run / "model.safetensors").values()} == {torch.float32}


def test_select_mean_keeps_the_best_mean_over_exits_and_tensorboard_writes(corpus, tmp_path):
    run = tmp_path / "run"
    ended = train(arguments(corpus, run, select="mean", tensorboard=True, test_manifests="[]"), tmp_path)
    assert ended.status == 0, ended.stderr
    wers = []
    for line in curve(run):
        exits = [float(part.split(": ")[1]) for part in line.split(", ") if "valid wer_" in part]
        by_exit = [float(part.split(": ")[1]) for part in line.split(", ") if "valid loss_" in part]
        whole = float(re.search("valid loss: ([^,]+)", line).group(1))
        weights = [0.5, 1.0, 1.5]  # weights of depth
        assert whole == pytest.approx(sum(w * one for w, one in zip(weights, by_exit, strict=True)), rel=1e-3)
        assert len(exits) == 3
        wers.append(sum(exits) / 3)
    metas = [YAML(typ="safe").load(path.read_text("utf-8")) for path in (run / "save").glob("CKPT+*/CKPT.yaml")]
    assert sorted(meta["wer"] for meta in metas) == pytest.approx(sorted(wers), abs=0.01)
    assert list((run / "tensorboard").glob("events.out.tfevents.*"))


def test_the_first_step_has_the_first_rate_of_the_warm_up(corpus, tmp_path):
    run = tmp_path / "run"
    ended = train(arguments(corpus, run, warmup_steps=40, **SAVING_OFTEN), tmp_path, partial(tiny.kill_at, 1, 3))
    assert ended.status == -signal.SIGKILL
    assert newest_checkpoint(run)[1:] == (1, 2)
    optimizer = torch.load(next((run / "save").glob("CKPT+*/optimizer.ckpt")), weights_only=True)
    # the third step follows
    assert optimizer["param_groups"][0]["lr"] == pytest.approx(0.01 * 3 / 40)


@pytest.mark.parametrize(
    ("changed", "is_said"),
    [({}, True), ({"average_checkpoints": 1}, False), ({"init_share": 0.5}, False), ({"valid_decoder": None}, False)],
)
def test_an_average_that_is_worse_than_the_best_checkpoint_is_named(tmp_path, changed, is_said):
    checkpointer = AtomicCheckpointer(tmp_path)
    for wer in (95.0, 79.7):
        checkpointer.save_checkpoint({"wer": wer})
    hparams = {"init_share": 0.0, "valid_decoder": "greedy", "select": "last", "average_checkpoints": 5}
    hparams |= {"checkpointer": checkpointer, "error_unit": "word"} | changed
    exits = {"exits": [{"wer": 99.0}, {"wer": 84.8}]}
    warning = load_script(ROOT / "train.py").warning_of_average(hparams, exits, "greedy")
    expected = "the average of 5 checkpoints has 84.8 % WER on dev, and the best of them 79.7 %: give"
    assert (warning or "").startswith(expected) if is_said else warning is None
