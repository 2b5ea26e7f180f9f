# SPDX-License-Identifier: Apache-2.0
"""The sweep: what it tries, when it stops a trial, and how it resumes."""

import json

import pytest
from recipes.tiny import ROOT

from benchmarks import sweep as sweep_module
from benchmarks.sweep import Space, open_study, overrides
from benchmarks.sweep_results import markdown, results_of
from speechbrain_ee.training.logs import TrainLogs

pytest.importorskip("optuna", reason="the extra [sweep] is not installed")

YAML = str(ROOT / "hparams" / "conformer_ee.yaml")
SPACE = Space(lr=(1e-4, 1e-2), layers=(2, 3), weight_power=(0.0, 2.0))
GIVEN = ["--number_of_epochs", "4"]
# Stands in for train.py: WER falls with every epoch and rises with every trial. It runs until it is stopped.
STAND_IN = """
import sys, time
from pathlib import Path
given = dict(zip(sys.argv[2::2], sys.argv[3::2]))
folder, layer = Path(given["--output_folder"]), given["--num_layers"]
folder.mkdir(parents=True, exist_ok=True)
log = folder / "train_log.txt"
start = len(log.read_text().splitlines()) if log.exists() else 0
for epoch in range(start + 1, 5):
    with log.open("a") as file:
        file.write(f"epoch: {epoch}, lr: 1e-3 - train loss: 1.0 - valid loss: 1.0, valid wer_1: 99.0, ")
        file.write(f"valid wer_{layer}: {12 * (1 + int(folder.name[6:])) / epoch:.4e}, valid loss_{layer}: 1.0\\n")
    END
time.sleep(60)
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """A function that runs a sweep with the stand-in for train.py; ``end`` is run after each epoch of a trial."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    import sweep_trial
    import twins

    monkeypatch.setattr(twins, "ROOT", tmp_path)
    monkeypatch.setattr(sweep_trial, "POLL_S", 0.02)

    def run_sweep(trials, end="", given=GIVEN):
        (tmp_path / "train.py").write_text(STAND_IN.replace("END", end), "utf-8")
        return sweep_module.sweep(
            YAML, SPACE, given, trials=trials, out=tmp_path / "out", seed=0, command="python benchmarks/sweep.py"
        )

    return run_sweep


def test_the_options_of_a_trial():
    params = {"lr": 0.00123456, "layers": 4, "weight_power": 1.0}
    given = overrides(params, [1, 2, 3, 6])
    assert given[:4] == ["--lr", "0.001235", "--num_layers", "4"]
    assert given[4:6] == ["--exit_layers", "[1, 2, 3, 4]"], "the exits below the last layer, and the last layer"
    assert json.loads(given[7]) == [0.4, 0.8, 1.2, 1.6], "as exit_weights: depth, with the sum of uniform weights"
    uniform = overrides(params | {"weight_power": 0.0}, [1, 2, 3, 6])
    assert json.loads(uniform[7]) == [1.0] * 4


def test_trials_that_are_worse_than_the_median_are_stopped(run, tmp_path):
    results = run(5)
    trials = results["trials"]
    assert json.loads((tmp_path / "out" / "sweep.json").read_text("utf-8")) == results
    assert [one["state"] for one in trials] == ["complete"] * 3 + ["pruned"] * 2, "the first three are never pruned"
    assert [one["dev_wers"] for one in trials[2:]] == [[36, 18, 12, 9], [48, 24], [60, 30]]
    assert results["best"] == 0
    assert (tmp_path / "out" / "sweep.png").exists()
    lines = markdown(results).splitlines()
    assert len(lines) == 7 and lines[2].startswith("| 0 |") and lines[2].endswith("| 4 | **3.00** |")
    assert lines[5].startswith("| 3 |") and lines[5].endswith("| 2 | 24.00 (pruned) |")


def test_a_finished_sweep_continues_with_more_trials_and_other_parameters(run):
    first = run(1)["trials"]
    trials = run(2)["trials"]
    assert trials[:1] == first
    assert trials[0]["params"]["lr"] != trials[1]["params"]["lr"], "the random numbers are not those of the first call"


def test_an_interrupted_trial_continues_in_its_folder(run, tmp_path):
    out = tmp_path / "out"
    settings = {"hparams": YAML, "options": GIVEN, "space": sweep_module.asdict(SPACE)}
    trial = open_study(out, settings, 0).ask()
    trial.set_user_attr("folder", "trial_0")
    params = SPACE.sample(trial)
    folder = out / "trial_0"
    folder.mkdir()
    before = f"epoch: 1, lr: 1e-3 - train loss: 1.0 - valid loss: 1.0, valid wer_{params['layers']}: 12.5\n"
    (folder / "train_log.txt").write_text(before, "utf-8")
    (one,) = run(1)["trials"]
    assert (one["trial"], one["folder"], one["params"]) == (1, "trial_0", params)
    assert one["dev_wers"][0] == 12.5 and len(one["dev_wers"]) == 4
    states = [one.state.name for one in open_study(out, settings, 0).trials]
    assert states == ["FAIL", "COMPLETE"]


def test_an_incomplete_line_is_not_read(tmp_path, monkeypatch):
    from benchmarks.sweep_trial import dev_wers

    log = tmp_path / "train_log.txt"
    assert dev_wers(log, 3) == []
    log.write_text("epoch: 1 - valid loss: 1, valid wer_3: 7.5, valid wer_13: 1\nepoch: 2 - valid wer_3: 6", "utf-8")
    assert dev_wers(log, 3) == [7.5]
    log.write_text("epoch: 1 - valid loss: 1, valid cer_3: 4.5, valid loss_3: 1\n", "utf-8")
    assert dev_wers(log, 3, "cer") == [4.5]


def test_other_settings_are_refused(run):
    run(1)
    with pytest.raises(ValueError, match=r"study with other settings \(options was .*give another --out"):
        run(2, given=[*GIVEN, "--d_model", "64"])


def test_a_trial_that_diverges_counts_as_pruned_and_another_error_ends_the_sweep(run, tmp_path):
    (one,) = run(1, end="sys.exit('train.py: error: the loss is nan in epoch 1: lower --lr or check')")["trials"]
    assert one["state"] == "diverged"
    with pytest.raises(ValueError, match=r"status 1 in trial 1: train.py: error: no such file \(see .*trial_1.log\)"):
        run(2, end="sys.exit('train.py: error: no such file')")
    assert results_of(open_study_of(tmp_path))["best"] is None


def open_study_of(tmp_path):
    return open_study(tmp_path / "out", {"hparams": YAML, "options": GIVEN, "space": sweep_module.asdict(SPACE)}, 0)


def test_the_log_and_the_error_are_those_of_the_training_script(tmp_path):
    from benchmarks.sweep_trial import DIVERGED, dev_wers

    for epoch, wer in ((1, 50.0), (2, 25.125)):
        wers = {"wer_1": 99.0, "loss_1": 1.0, "wer_12": wer, "loss_12": 1.0}
        TrainLogs(folder=tmp_path).log_stats({"epoch": epoch, "lr": 1e-3}, {"loss": 2.0}, {"loss": 1.0} | wers)
    assert dev_wers(tmp_path / "train_log.txt", 12) == [50.0, 25.125]
    assert DIVERGED in (ROOT / "speechbrain_ee" / "training" / "brain.py").read_text("utf-8")
