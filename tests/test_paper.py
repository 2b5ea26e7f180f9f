# SPDX-License-Identifier: Apache-2.0
"""The paper's experiment: its commands, how it resumes, and its tables."""

import json
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
from recipes.tiny import ROOT, arguments, write_corpus
from unit.cases import many

from benchmarks import paper, paper_table
from speechbrain_ee.corpora.manifest import read_manifest
from speechbrain_ee.training.command_line import parse_arguments

RECIPE = ["--corpus", "recipes/LibriSpeech", "--data", "data/librispeech"]
FIGURES = json.loads(paper_table.FIGURES.read_text("utf-8"))


@pytest.fixture(autouse=True)
def scripts(monkeypatch):
    """Scripts import each other from their folder."""
    monkeypatch.syspath_prepend(ROOT / "benchmarks")
    monkeypatch.chdir(ROOT)


def planned(argv):
    args, corpus, given = paper.parse(argv)
    return [step for name in args.models for step in paper.plan(name, corpus, args, given)]


def value(words, option):
    assert words.count(option) == 1, f"{option} in {words}"
    return words[words.index(option) + 1]


@pytest.mark.parametrize("small", [[], ["--small"]])
def test_every_command_is_one_of_the_training_script_or_of_evaluate(small):
    steps = planned([*RECIPE, *small, "--", "--device", "cpu", "--seed", "7"])
    trainings = [step.command for step in steps if step.command[0] == "train.py"]
    assert len(trainings) == 4 * (1 + 6) and len(steps) == len(trainings) + 3, "a beam for the three CTC models"
    for command in trainings:
        _, run_opts, settings = parse_arguments(command[1:])
        assert run_opts.device == "cpu" and settings["seed"] == 7
        assert settings["test_manifests"] == ["data/librispeech/test-clean.jsonl", "data/librispeech/test-other.jsonl"]
    for step in steps:
        if step.command[0] != "train.py":
            assert value(step.command, "--decoding") == "beam" and value(step.command, "--device") == "cpu"
    decoders = {value(one, "--decoders") for one in trainings if "--decoders" in one}
    assert decoders == {"shared" if small else "per_exit"}


def test_a_twin_has_the_layers_up_to_its_exit_and_the_options_of_the_exits():
    exits, _, twin = planned([*RECIPE, "--models", "conformer_ctc", "--depths", "4"])
    assert (value(twin.command, "--num_layers"), value(twin.command, "--exit_layers")) == ("4", "[4]")
    assert twin.command[4:-4] == exits.command[4:]
    with pytest.raises(ValueError, match="--depths 3: conformer_ctc has exits at 2, 4, 6, 8, 10, 12"):
        planned([*RECIPE, "--models", "conformer_ctc", "--depths", "3"])
    shallow = ["--models", "conformer_ctc", "--depths", "3", "--", "--num_layers", "3", "--exit_layers", "[1, 3]"]
    *_, twin = planned([*RECIPE, *shallow])
    assert value(twin.command, "--exit_layers") == "[3]"


def test_models_without_a_yaml_of_the_recipe_have_its_characters():
    recipe = ["--corpus", "recipes/TEDLIUM3", "--data", "data/tedlium3", "--depths"]
    for step in planned(recipe):
        if step.command[0] == "train.py":
            alphabet = None if "TEDLIUM3" in step.command[1] else "abcdefghijklmnopqrstuvwxyz'0123456789"
            assert alphabet is None or value(step.command, "--alphabet") == alphabet
            assert parse_arguments(step.command[1:])[2].get("alphabet") == alphabet
    chosen = planned([*recipe, "--models", "wavlm", "--", "--alphabet", "abc"])[0].command
    assert value(chosen, "--alphabet") == "abc"


def test_pretrained_encoders_come_from_the_recipe_from_a_folder_or_are_tiny(tmp_path):
    one = [*RECIPE, "--models", "wavlm", "--depths", "--out", str(tmp_path)]
    assert "--source" not in planned(one)[0].command
    assert value(planned([*one, "--small"])[0].command, "--source") == str(tmp_path / "tiny" / "wavlm")
    assert value(planned([*one, "--small", "--source", "wavlm=here"])[0].command, "--source") == "here"


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["--train", "a.jsonl"], "give either --corpus, or --train, --dev and --test"),
        ([*RECIPE, "--dev", "a.jsonl"], "give either --corpus, or --train, --dev and --test"),
        ([*RECIPE, "--source", "conformer_ctc=x"], "give wav2vec2=FOLDER or wavlm=FOLDER"),
    ],
)
def test_a_wrong_call_is_refused(argv, message, capsys):
    with pytest.raises(SystemExit):
        paper.parse(argv)
    assert message in capsys.readouterr().err


def test_what_is_missing_is_named():
    with pytest.raises(ValueError, match="recipes/AISHELL-1: it counts characters, and the paper words: train it"):
        paper.parse(["--corpus", "recipes/AISHELL-1", "--data", "data/aishell"])
    with pytest.raises(ValueError, match="conformer_ctc: error_unit is char, but the paper counts words"):
        planned([*RECIPE, "--", "--error_unit", "char"])
    with pytest.raises(ValueError, match="there is no hparams/hparams/conformer_ee.yaml; give a folder such as"):
        paper.parse(["--corpus", "hparams"])
    _, corpus, _ = paper.parse(["--data", "nowhere", "--train", "a.jsonl", "--dev", "d.jsonl", "--test", "t.jsonl"])
    with pytest.raises(ValueError, match="nowhere/a.jsonl, nowhere/d.jsonl, nowhere/t.jsonl missing: prepare"):
        corpus.prepare(Path("out"))
    given = ["--data", "nowhere", "--train", "a.jsonl", "--dev", "d.jsonl", "--test", "t.jsonl", "other/t.jsonl"]
    with pytest.raises(ValueError, match="two test sets are named t: rename one"):
        paper.parse(given)[1].prepare(Path("out"))


def test_several_training_manifests_are_joined(tmp_path):
    first, second = write_corpus(tmp_path / "a"), write_corpus(tmp_path / "b")
    for row in (second / "train.jsonl").read_text("utf-8").splitlines()[:1]:
        (second / "more.jsonl").write_text(json.dumps(json.loads(row) | {"id": "other"}) + "\n", "utf-8")
    argv = ["--data", str(tmp_path), "--train", "a/train.jsonl", "b/more.jsonl", "--dev", "a/dev.jsonl"]
    _, corpus, _ = paper.parse([*argv, "--test", "a/test.jsonl"])
    corpus.prepare(tmp_path / "out")
    joined = read_manifest(tmp_path / "out" / "train.jsonl")
    assert len(joined) == 25 and joined[-1].audio_filepath.samefile(second / "train00.wav")
    assert joined[0].audio_filepath.samefile(first / "train00.wav")


def test_a_finished_step_is_skipped_and_a_failed_one_is_an_error(tmp_path):
    fails = ["-c", "import sys; sys.exit(3)"]
    result = tmp_path / "exits.json"
    step = paper.Step("conformer_ctc", tmp_path / "run", fails, [result])
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "finished.json").write_text("{}")
    for contents in (None, '{"missing": {"a": "broken"}}', "{}"):
        if contents is not None:
            result.write_text(contents)
        if contents != "{}":
            with pytest.raises(ValueError, match="evaluate ended with status 3"):
                paper.run(step)
    paper.run(step)
    (tmp_path / "run" / "finished.json").write_text("{}")  # trained again
    assert not step.is_done


def test_a_training_with_other_options_is_not_the_finished_one(tmp_path, monkeypatch):
    import twins

    trained = []
    (tmp_path / "run").mkdir()
    monkeypatch.setattr(twins, "train_command", lambda *arguments: trained.append(arguments) or ["true"])
    for options, number in ((["--lr", "1"], 1), (["--lr", "1"], 1), (["--lr", "2"], 2)):
        assert twins.train("a.yaml", tmp_path / "run", options) >= 0
        assert len(trained) == number
    assert trained[-1] == ("a.yaml", tmp_path / "run", ["--lr", "2"])


def test_a_run_folder_is_locked_as_long_as_the_subprocess_runs(tmp_path):
    from run_lock import InUseError, run_lock

    with run_lock(tmp_path / "run") as lock:
        process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[lock])
    with pytest.raises(InUseError, match=r"another process trains in .*run: wait until it ends, or end it"):
        with run_lock(tmp_path / "run"):
            pass
    process.communicate(b"\n")
    with run_lock(tmp_path / "run"):
        pass


def test_the_published_figures_are_complete_and_those_of_the_recipe():
    for one in FIGURES["systems"]:
        assert one["model"] in paper.MODELS and one["source"] in FIGURES["sources"]
        for wers in one["wer"].values():
            assert "12" in wers and set(wers) <= {"2", "4", "6", "8", "10", "12"}
    rows = (ROOT / "recipes" / "LibriSpeech" / "README.md").read_text("utf-8").splitlines()
    for start, source, exits in (
        ("| model of the authors, 31.5 M", "a", "six"),
        ("| model of the authors, in the paper", "b", "six"),
        ("| single-exit twins of the authors", "b", "one"),
    ):
        (cells,) = [row.split("|")[3:-1] for row in rows if row.startswith(start)]
        (one,) = [
            one
            for one in FIGURES["systems"]
            if (one["model"], one["source"], one["exits"]) == ("conformer_ctc", source, exits)
        ]
        for layer, cell in zip(("2", "4", "6", "8", "10", "12"), cells, strict=True):
            clean, other = (one["wer"][test].get(layer) for test in ("test-clean", "test-other"))
            assert cell.strip() == ("" if clean is None else f"{clean} / {other}")


def write_evaluation(folder, layers, utterances=None):
    folder.mkdir(parents=True)
    rows = [
        {"layer": layer, "wer": 30.0 / layer, "wer_ci95": [10.0 / layer, 50.0 / layer], "macs_per_s": 1e9 * layer}
        for layer in layers
    ]
    (folder / "exits.json").write_text(json.dumps({"exits": rows, "decoding": "greedy"}), "utf-8")
    lines = [json.dumps(one) + "\n" for one in utterances or []]
    (folder / "utterances.jsonl").write_text("".join(lines), "utf-8")


def test_the_table_has_ours_beside_the_papers(tmp_path):
    run = tmp_path / "conformer_ctc"
    utterances = many(20)
    layers = [one["layer"] for one in utterances[0]["exits"]]
    write_evaluation(run / "exits" / "eval" / "test-clean", layers, utterances)
    write_evaluation(run / "twin_2" / "eval" / "test-clean", [2])
    write_evaluation(run / "twin_12" / "eval" / "test-clean", [12])
    _, corpus, _ = paper.parse(RECIPE)
    results = paper_table.collect(tmp_path, corpus, list(paper.MODELS), small=False, random=[], options=[])
    paper_table.publish(results, tmp_path)
    page = (tmp_path / "paper.md").read_text("utf-8")
    ours = [line for line in page.splitlines() if "| ours |" in line and "[" in line]
    assert ours[0].startswith(f"| Conformer-CTC | ours | {len(layers)} | greedy | test-clean | ")
    assert f"| {30 / layers[0]:.1f} [{10 / layers[0]:.1f}, {50 / layers[0]:.1f}] |" in ours[0]
    assert (
        ours[1].startswith("| Conformer-CTC | ours | one | greedy | test-clean |") and "| 15.0 [5.0, 25.0] |" in ours[1]
    )
    assert ours[1].endswith("| 2.5 [0.8, 4.2] |"), "the twins are sorted by layer"
    assert "| Conformer-CTC | paper | 6 | (a) | LibriSpeech test-other | " in page and '(a): "Results on' in page
    assert "not comparable" not in page and (tmp_path / "paper.png").exists()
    entropy = [line for line in page.splitlines() if "| entropy |" in line]
    assert len(entropy) == 2 and "| paper (f) | greedy | LibriSpeech test-clean |" in entropy[1]
    wers = results["models"]["conformer_ctc"]["rules"]["test-clean"]["greedy"]["entropy"]
    assert f"| {next(iter(wers.values())):.2f} |" in entropy[0]


def test_a_corpus_and_weights_that_are_not_the_papers_are_said(tmp_path):
    write_evaluation(tmp_path / "wavlm" / "exits" / "eval" / "t", [2, 12], many(5))
    _, corpus, _ = paper.parse(["--train", "a.jsonl", "--dev", "d.jsonl", "--test", "t.jsonl"])
    results = paper_table.collect(tmp_path, corpus, list(paper.MODELS), small=True, random=["wavlm"], options=[])
    page = paper_table.markdown(results)
    assert "Our models are small" in page and "Its figures are those on LibriSpeech: other test sets" in page
    assert "| WavLM (random weights) | ours | 2 | greedy | t |" in page


def test_a_small_experiment_runs_and_is_not_run_again(tmp_path):
    corpus = write_corpus(tmp_path / "corpus")
    own = {"n_mels": None, "prepare": None, "exit_layers": "[3]", "number_of_epochs": 1, "warmup_steps": 1}
    given = arguments(corpus, tmp_path, **own)[1:]
    for option in ("--output_folder", "--train_manifest", "--valid_manifest", "--test_manifests"):
        at = given.index(option)
        del given[at : at + 2]
    argv = ["--data", str(corpus), "--train", "train.jsonl", "--dev", "dev.jsonl", "--test", "test.jsonl", "--small"]
    argv += ["--models", "conformer_ctc", "--depths", "--out", str(tmp_path / "out"), "--", *given]
    command = [sys.executable, str(ROOT / "benchmarks" / "paper.py"), *argv]
    ended = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stderr
    found = json.loads((tmp_path / "out" / "paper.json").read_text("utf-8"))["models"]["conformer_ctc"]
    assert [len(found[kind]["test"]) for kind in ("exits", "beam")] == [1, 1]
    assert {"entropy", "posterior"} <= found["rules"]["test"]["beam"].keys()
    assert "| Conformer-CTC | ours | 1 | beam | test |" in ended.stdout
    weights = tmp_path / "out" / "conformer_ctc" / "exits" / "model.safetensors"
    written = weights.stat().st_mtime_ns
    begin = time.monotonic()
    assert all(step.is_done for step in planned(argv))
    for step in planned(argv):
        paper.run(step)
    assert weights.stat().st_mtime_ns == written and time.monotonic() - begin < 30
    assert f"{shlex.quote(str(corpus / 'test.jsonl'))}" in ended.stdout
