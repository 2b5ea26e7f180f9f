# SPDX-License-Identifier: Apache-2.0
import logging
import os
from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch

from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.training import hparams as settings_of_training
from speechbrain_ee.training.command_line import parse_arguments
from speechbrain_ee.training.hparams import bf16_slowdown, load_hparams, warn_of_slow_bf16, write_hparams
from speechbrain_ee.training.resume import check_same_data, check_same_run


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("lr: 1", {"rate": 2}, r"^Override 'rate' not found in: \['lr'\]$"),
        ("lr: [1", {}, "a.yaml and the options of the command: "),
        ("size: 1\nx: !new:torch.nn.Linear\n  in_features: !ref <size>", {}, "^Invalid argument to class torch.nn.Lin"),
        ("x: !new:torch.nn.Lineal", {}, "There is no such class as torch.nn.Lineal"),
        ("folder: a\nsave: !ref <folder>/0", {"folder": "1"}, "read as arithmetic .division by zero.: give ./ before"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, text, settings, message):
    path = tmp_path / "a.yaml"
    path.write_text(text)
    with pytest.raises((ValueError, ImportError), match=message):
        load_hparams(path, settings)


@pytest.fixture
def run(tmp_path):
    """A yaml, and a run of it that has a checkpoint."""
    (tmp_path / "a.yaml").write_text("lr: 0.1\nlayers: [1, 2]\nnumber_of_epochs: 3\nrate: !ref <lr> * 2\n")
    folder = tmp_path / "run"
    (folder / "save" / "CKPT+1").mkdir(parents=True)
    (folder / "hyperparams.yaml").write_text("lr: 0.1\nlayers: [1, 2]\nnumber_of_epochs: 3\nrate: 0.2\n")
    return folder, tmp_path / "a.yaml"


@pytest.mark.parametrize("settings", [{}, {"number_of_epochs": 9}, {"layers": [1, 2]}])
def test_a_run_goes_on_with_the_same_settings(run, settings):
    check_same_run(*run, settings)


@pytest.mark.parametrize(("blank_index", "is_same"), [(0, True), (5, False)])
def test_a_run_of_a_version_that_had_more_settings_goes_on_where_they_were_as_now(run, blank_index, is_same):
    folder, path = run
    with open(folder / "hyperparams.yaml", "a") as file:
        file.write(f"blank_index: {blank_index}\n")
    if is_same:
        check_same_run(folder, path)
    else:
        with pytest.raises(ValueError, match=r"\(blank_index was 5\): give another --output_folder"):
            check_same_run(folder, path)


def test_a_yaml_of_a_version_that_had_more_settings_resumes_its_run(run):
    folder, path = run
    with open(path, "a") as file:
        file.write("blank_index: 0\n")
    check_same_run(folder, path)
    write_hparams(folder, path)
    check_same_run(folder, path)


# What an earlier version's yaml gave to the schedule, the decoder and the loss.
EARLIER = """lr: 0.5
blank_index: 0
opt_class: !name:torch.optim.SGD
  lr: 0.1
loss: !new:speechbrain_ee.training.losses.ExitCTCLoss
  exit_layers: [1]
  blank_index: !ref <blank_index>
lr_scheduler: !name:speechbrain_ee.training.schedulers.schedule
  kind: noam
  lr: !ref <lr>
  warmup_steps: 2
decoder: !name:ee_runtime.decoders.greedy.GreedyCTC
  blank_index: !ref <blank_index>
"""


def test_a_yaml_of_an_earlier_version_gives_what_it_gave(tmp_path):
    (tmp_path / "a.yaml").write_text(EARLIER)
    hparams = load_hparams(tmp_path / "a.yaml")
    optimizer = hparams["opt_class"]([torch.nn.Parameter(torch.zeros(1))])
    schedule = hparams["lr_scheduler"](optimizer=optimizer, total_steps=9)
    assert schedule.get_last_lr() == [0.25]  # half of the schedule's rate, which went before the optimizer's
    letters = object()
    assert hparams["valid_decoder"](tokenizer=letters).tokenizer is letters


@pytest.mark.parametrize(
    "line", ["blank_index: 5\n", "  exit_layers: [1]\n  blank_index: 5\n", "GreedyCTC\n  blank_index: 5\n"]
)
def test_another_blank_of_an_earlier_version_is_refused(tmp_path, line):
    before = line.replace("5", "0" if line.startswith("b") else "!ref <blank_index>")
    assert EARLIER.count(before) == 1
    (tmp_path / "a.yaml").write_text(EARLIER.replace(before, line))
    with pytest.raises(ValueError, match="a.yaml: blank_index is 5, but the tokenizer's blank is 0: remove"):
        load_hparams(tmp_path / "a.yaml")


def test_a_callable_of_ones_own_keeps_its_arguments(tmp_path):
    (tmp_path / "a.yaml").write_text("lr_scheduler: !name:torch.optim.SGD\n  lr: 2\ndecoder: !name:builtins.list\n")
    assert load_hparams(tmp_path / "a.yaml")["lr_scheduler"].keywords == {"lr": 2}


def test_objects_are_no_settings_whether_they_have_arguments_or_not(run):
    folder, path = run
    with open(folder / "hyperparams.yaml", "a") as file:
        file.write("decoder: !name:builtins.dict\n  blank: 0\nwriter: !name:builtins.list\n")
    with open(path, "a") as file:
        file.write("decoder: !name:builtins.dict\nwriter: !name:builtins.list\n")
    check_same_run(folder, path)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"layers": [1, 3]}, r"\(layers was \[1, 2\]\): give another --output_folder"),
        ({"lr": 1}, r"lr was 0.1, rate was 0.2"),
    ],
)
def test_a_run_does_not_go_on_with_other_settings(run, settings, message):
    with pytest.raises(ValueError, match=message):
        check_same_run(*run, settings)


def test_a_run_with_a_save_folder_of_its_own_does_not_go_on_with_other_settings(run, tmp_path):
    folder, path = run
    (folder / "save" / "CKPT+1").rename(tmp_path / "CKPT+1")
    with open(folder / "hyperparams.yaml", "a") as file:
        file.write(f"save_folder: {tmp_path}\n")
    with open(path, "a") as file:
        file.write(f"save_folder: {tmp_path}\n")
    with pytest.raises(ValueError, match="lr was 0.1"):
        check_same_run(folder, path, {"lr": 1})


def test_a_folder_without_a_checkpoint_takes_any_settings(run):
    folder, path = run
    (folder / "save" / "CKPT+1").rmdir()
    check_same_run(folder, path, {"lr": 1})


def test_the_settings_are_written_whole_or_not_at_all(run, monkeypatch):
    folder, path = run
    write_hparams(folder, path, {"number_of_epochs": 9})
    check_same_run(folder, path)
    written = (folder / "hyperparams.yaml").read_text()
    assert "number_of_epochs: 9\n" in written and "rate: 0.2\n" in written

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("speechbrain_ee.files.os.replace", killed)
    with pytest.raises(KeyboardInterrupt):
        write_hparams(folder, path, {"number_of_epochs": 12})
    assert (folder / "hyperparams.yaml").read_text() == written


PATHS = """lr: 0.1
output_folder: results/1
save_folder: !ref <output_folder>/save
tokenizer_file: !ref <save_folder>/tokenizer.model
noise_manifest: null
data_folder: data
train_manifest: !ref <data_folder>/train.jsonl
"""


@pytest.fixture
def placed(tmp_path, monkeypatch):
    """A yaml with paths, and a run of it begun in the folder ``work`` with a checkpoint."""
    (tmp_path / "work").mkdir()
    (tmp_path / "a.yaml").write_text(PATHS)
    monkeypatch.chdir(tmp_path / "work")
    write_hparams("results/1", tmp_path / "a.yaml", {"noise_manifest": "noise.jsonl"})
    (tmp_path / "work" / "results" / "1" / "save" / "CKPT+1").mkdir(parents=True)
    return tmp_path / "a.yaml"


def resume(path, folder, **settings):
    check_same_run(folder, path, {"noise_manifest": "noise.jsonl", **settings})


def test_a_run_goes_on_wherever_it_was_moved_and_is_refused_there_as_before(placed, tmp_path, monkeypatch):
    resume(placed, "results/1")
    for folder in ("moved", tmp_path / "elsewhere", "../work/again"):
        (tmp_path / "work" / "results" / "1").rename(folder)
        resume(placed, folder, output_folder=str(folder))
        with pytest.raises(ValueError, match=r"settings \(lr was 0.1\)"):
            resume(placed, folder, output_folder=str(folder), lr=1)
        with pytest.raises(ValueError, match=r"settings \(tokenizer_file was 'results/1/save/tokenizer.model'\)"):
            resume(placed, folder, output_folder=str(folder), tokenizer_file="other.model")
        os.rename(folder, tmp_path / "work" / "results" / "1")
    (tmp_path / "work").rename(tmp_path / "other machine")
    monkeypatch.chdir(tmp_path / "other machine")
    resume(placed, "results/1")
    resume(placed, tmp_path / "other machine" / "results" / "1", output_folder=f"{tmp_path}/other machine/results/1")


def test_the_same_path_is_the_same_however_it_is_written(placed, tmp_path, monkeypatch):
    for noise in ("./noise.jsonl", "../work/noise.jsonl", str(tmp_path / "work" / "noise.jsonl")):
        resume(placed, "results/1", noise_manifest=noise)
    with pytest.raises(ValueError, match="noise_manifest was 'noise.jsonl'"):
        resume(placed, "results/1", noise_manifest="../noise.jsonl")
    monkeypatch.chdir(tmp_path)
    resume(placed, "work/results/1", output_folder="work/results/1", noise_manifest="work/noise.jsonl")
    resume(placed, "work/results/1", output_folder="work/results/1/", noise_manifest="noise.jsonl")  # moved together
    with pytest.raises(ValueError, match="noise_manifest was 'noise.jsonl'"):
        resume(placed, "work/results/1", output_folder="work/results/1", noise_manifest="./noise.jsonl2")


def test_paths_in_a_list_of_objects_are_compared_once_and_as_paths(placed):
    text = f"{PATHS}augment: !new:builtins.list\n  - - !name:builtins.dict\n      size: 1\n"
    placed.write_text(f"{text}      noise_manifest: !ref <noise_manifest>\n")
    write_hparams("results/1", placed, {"noise_manifest": "noise.jsonl"})
    placed.write_text(f"{placed.read_text()}      data_root: data\n")  # as an earlier version did not have it
    resume(placed, "results/1", noise_manifest="./noise.jsonl")
    with pytest.raises(ValueError, match=r"\(noise_manifest was 'noise.jsonl'\)"):
        resume(placed, "results/1", noise_manifest="other.jsonl")
    placed.write_text(placed.read_text().replace("size: 1", "size: 2"))
    with pytest.raises(ValueError, match=r"augment was \[\[{'size': 1}\]\]"):
        resume(placed, "results/1")


def test_the_data_may_lie_elsewhere_but_must_be_the_same(placed, tmp_path):
    sets = {
        "train": [Utterance("a", tmp_path / "a.wav", 1.0, "cat")],
        "dev": [Utterance("b", tmp_path / "b.wav", 1.0, "dog")],
    }
    check_same_data("results/1", sets, is_resumed=True)  # begun before this was written down
    resume(placed, "results/1", data_folder=str(tmp_path), train_manifest="/mnt/train.jsonl")
    moved = {name: [replace(one, audio_filepath="/mnt/x.wav") for one in rows] for name, rows in sets.items()}
    check_same_data("results/1", moved, is_resumed=True)
    other = sets | {"dev": [replace(sets["dev"][0], text="dogs")]}
    with pytest.raises(ValueError, match=r"the dev set has other utterances than when results/1 began \(1 now, 1 then"):
        check_same_data("results/1", other, is_resumed=True)
    check_same_data("results/1", other, is_resumed=False)  # nothing was trained: a new beginning
    with pytest.raises(ValueError, match="the dev set has other utterances"):
        check_same_data("results/1", sets, is_resumed=True)


def test_a_run_that_has_not_written_down_its_data_resumes_with_the_same_manifests_only(placed, tmp_path, monkeypatch):
    for other in ({"train_manifest": "/mnt/train.jsonl"}, {"data_folder": "other"}):
        with pytest.raises(ValueError, match="train_manifest was 'data/train.jsonl'"):
            resume(placed, "results/1", **other)
    assert not (tmp_path / "work" / "results" / "1" / "data.json").exists()
    resume(placed, "results/1", data_folder=str(tmp_path / "work" / "data"), data_root="/mnt")
    (tmp_path / "work").rename(tmp_path / "moved")
    monkeypatch.chdir(tmp_path / "moved")
    resume(placed, "results/1")


def test_cached_states_may_lie_elsewhere_but_a_run_with_them_is_not_one_without(placed, tmp_path):
    (tmp_path / "a.yaml").write_text(f"{PATHS}state_cache: null\n")
    with pytest.raises(ValueError, match=r"\(state_cache was None\)"):
        resume(placed, "results/1", state_cache="cache")
    write_hparams("results/1", placed, {"noise_manifest": "noise.jsonl", "state_cache": "cache"})
    resume(placed, "results/1", state_cache="/mnt/cache")
    with pytest.raises(ValueError, match=r"\(state_cache was 'cache'\)"):
        resume(placed, "results/1")


@pytest.mark.parametrize("name", ["2024", "my run #1", "1e5", "(1, 2)", "a: b", "[x]", "x ", "null", "*x", "é"])
def test_a_written_path_reads_back_the_same(tmp_path, name):
    (tmp_path / "a.yaml").write_text(PATHS)
    _, _, settings = parse_arguments([str(tmp_path / "a.yaml"), "--output_folder", name, "--data_folder", name])
    write_hparams(tmp_path / name, tmp_path / "a.yaml", settings)
    for path, given in ((tmp_path / "a.yaml", settings), (tmp_path / name / "hyperparams.yaml", {})):
        hparams = load_hparams(path, given)
        assert hparams["output_folder"] == hparams["data_folder"] == name
        assert hparams["tokenizer_file"] == f"{name}/save/tokenizer.model"
        assert hparams["train_manifest"] == f"{name}/train.jsonl"
    (tmp_path / name / "save" / "CKPT+1").mkdir(parents=True)
    check_same_run(tmp_path / name, tmp_path / "a.yaml", settings)


@pytest.mark.parametrize(
    ("device", "slowdown", "warnings"),
    [
        ("cpu", 10.4, ["precision bf16: a matrix product takes 10 times as long as fp32 here: give --precision fp32"]),
        ("cpu", 0.6, []),
        ("cuda", 10.4, []),
    ],
)
def test_bf16_on_a_cpu_that_emulates_it_is_named(monkeypatch, caplog, device, slowdown, warnings):
    monkeypatch.setattr(settings_of_training, "bf16_slowdown", lambda: slowdown)
    with caplog.at_level(logging.WARNING):
        warn_of_slow_bf16("bf16", SimpleNamespace(device=device))
    assert [record.getMessage() for record in caplog.records] == warnings


def test_the_slowdown_of_bf16_is_measured():
    assert 0.01 < bf16_slowdown() < 1000
