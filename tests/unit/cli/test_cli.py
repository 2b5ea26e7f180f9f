# SPDX-License-Identifier: Apache-2.0
"""The command line: output, messages and exit status."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import soundfile
import torch
import typer
from typer.testing import CliRunner
from unit.models import make_asr

from ee_runtime.calibration.file import write_calibration
from ee_runtime.policies import ScoreThreshold
from speechbrain_ee import __version__
from speechbrain_ee.cli import app as cli
from speechbrain_ee.corpora.manifest import Utterance, write_manifest
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.model.folder import save_model

RATE = 16000
COMMANDS = [command.callback.__name__ for command in cli.app.registered_commands]


@pytest.fixture
def audio(tmp_path):
    paths = []
    for index, seconds in enumerate((0.3, 0.6)):
        path = tmp_path / f"{index}.wav"
        generator = torch.Generator().manual_seed(index)
        soundfile.write(path, (torch.randn(int(seconds * RATE), generator=generator) * 0.1).numpy(), RATE)
        paths.append(path)
    return paths


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command as a shell does, but in this process."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["speechbrain-ee", *map(str, arguments)])
        with pytest.raises(SystemExit) as raised:
            cli.main()
        out, err = capsys.readouterr()
        return raised.value.code, out, err

    return call


def one_line_error(err):
    """Return the error line of the command from its standard error."""
    (line,) = [line for line in err.splitlines() if line.startswith("speechbrain-ee: error: ")]
    return line


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_shows_an_example_that_parses(command):
    result = CliRunner().invoke(cli.app, ([command] if command else []) + ["--help"])
    assert result.exit_code == 0
    text = " ".join(result.output.split())
    (example,) = re.findall(r"Example: speechbrain-ee (.*)$", text)
    assert not command or example.startswith(command)
    name, *arguments = example.split()
    # parsed by the real parser, without running the command
    parser = typer.main.get_command(cli.app).commands[name]
    parser.make_context(name, arguments)


def test_version_of_the_module_run_by_python():
    command = [sys.executable, "-m", "speechbrain_ee.cli", "--version"]
    root = Path(cli.__file__).parents[1]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=root)
    assert (done.returncode, done.stdout) == (0, f"speechbrain-ee {__version__}\n")


def test_transcribe_prints_file_tab_text_and_the_policy_apart(run, model, audio):
    status, out, err = run("transcribe", "--model", model, *audio)
    assert status == 0
    rows = [line.split("\t") for line in out.splitlines()]
    assert [name for name, _ in rows] == [str(path) for path in audio]
    assert all(re.fullmatch("[a-z ]*", text) for _, text in rows)
    assert 'policy: {"policy": "fixed_exit", "layer": null}\n' in err


def test_transcribe_json_has_the_keys_of_the_contract(run, audio, tmp_path):
    asr, model = make_asr(tmp_path), tmp_path / "model"
    for head in asr.mods.heads.heads:
        head[-1].bias.data[:3] = -99.0  # no blank, BOS or EOS: there is a word in every frame
    save_model(model, asr.mods, tokenizer=tmp_path / "tokenizer.model")
    status, out, err = run("transcribe", "--model", model, "--json", "--entropy", 1, *audio)
    assert status == 0
    rows = [json.loads(line) for line in out.splitlines()]
    assert all(row["words"] for row in rows), "else nothing is tested"
    for row, path in zip(rows, audio, strict=True):
        assert list(row) == ["file", "text", "exit_layer", "score", "macs", "seconds", "words", "expected_wer"]
        assert " ".join(word["text"] for word in row["words"]) == row["text"]
        for word in row["words"]:
            assert list(word) == ["text", "start", "end", "confidence"]
            assert 0 <= word["start"] < word["end"] <= 0.61 and 0 <= word["confidence"] <= 1
        assert row["expected_wer"] is None, "this model is not calibrated"
        assert row["file"] == str(path)
        assert row["exit_layer"] == 1
        assert 0 <= row["score"] <= 1
        assert row["macs"] > 0 and row["seconds"] > 0
    assert '"score": "entropy", "threshold": 1.0' in err


@pytest.mark.parametrize(
    ("arguments", "layer"), [([], 1), (["--full"], 4), (["--layer", 2], 2), (["--entropy", -1], 4)]
)
def test_calibration_is_the_default_and_arguments_win(run, model, audio, arguments, layer):
    write_calibration(model, {"policy": ScoreThreshold("entropy", 1.0).to_dict()})
    _, out, _ = run("transcribe", "--model", model, "--json", *arguments, audio[0])
    assert json.loads(out)["exit_layer"] == layer


def test_a_bad_file_among_good_ones(run, model, audio, tmp_path):
    (tmp_path / "bad.wav").write_bytes(b"no audio")
    status, out, err = run("transcribe", "--model", model, audio[0], tmp_path / "bad.wav", audio[1])
    assert status == 1
    assert [line.split("\t")[0] for line in out.splitlines()] == [str(path) for path in audio]
    assert "bad.wav" in one_line_error(err)


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (RuntimeError("a kernel\nfailed"), "{}: a kernel failed"),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), "{}: not enough memory"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"), "{}: not enough memory"),
        (MemoryError(), "{}: not enough memory"),
    ],
)
def test_one_file_that_fails_does_not_take_the_others_along(run, model, audio, monkeypatch, raised, message):
    transcribe = EarlyExitASR.transcribe_file

    def fail_at_the_first(self, path, **limits):
        if path == audio[0]:
            raise raised
        return transcribe(self, path, **limits)

    monkeypatch.setattr(EarlyExitASR, "transcribe_file", fail_at_the_first)
    status, out, err = run("transcribe", "--model", model, *audio)
    assert (status, [line.split("\t")[0] for line in out.splitlines()]) == (1, [str(audio[1])])
    assert message.format(audio[0]) in one_line_error(err)


NAMES = {"a\tb\n.wav": "a\\tb\\n.wav", os.fsdecode(b"caf\xe9.wav"): "caf\\udce9.wav", "\u0142.wav": "\u0142.wav"}


def named(folder, audio):
    for name in NAMES:
        (folder / name).write_bytes(audio.read_bytes())
    return [folder / name for name in NAMES]


def test_names_that_are_no_line_of_text(run, model, audio, tmp_path):
    files = named(tmp_path, audio[0])
    status, out, _ = run("transcribe", "--model", model, *files)
    assert [line.split("\t")[0] for line in out.splitlines()] == [f"{tmp_path}/{shown}" for shown in NAMES.values()]
    assert status == 0
    status, out, err = run("transcribe", "--model", model, "--json", *files, tmp_path / "none\n.wav")
    assert [json.loads(line)["file"] for line in out.splitlines()] == [str(file) for file in files]
    assert status == 1 and f"audio {tmp_path}/none\\n.wav does not exist" in one_line_error(err)


def test_a_terminal_that_is_not_utf_8(model, audio, tmp_path):
    environment = {**os.environ, "PYTHONUTF8": "0", "PYTHONIOENCODING": "cp1252"}
    command = [sys.executable, "-m", "speechbrain_ee.cli", "transcribe", "--model", str(model), "--json"]
    how = {"capture_output": True, "timeout": 200, "cwd": Path(cli.__file__).parents[1], "env": environment}
    (tmp_path / "\u0142.wav").write_bytes(audio[0].read_bytes())
    done = subprocess.run([*command, tmp_path / "\u0142.wav", tmp_path / "\u0142\u0142.wav"], **how)
    assert json.loads(done.stdout.decode("cp1252"))["file"] == str(tmp_path / "\u0142.wav")
    assert b"\\u0142\\u0142.wav does not exist" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "no-such-model"], "give a run folder, a model folder or a Hub name"),
        (["--model", "MODEL", "--layer", 3], "exit layer 3 is not an exit of this model; choose one of 1, 2, 4"),
    ],
)
def test_failures_are_one_line_and_status_1(run, model, audio, arguments, message):
    arguments = [model if argument == "MODEL" else argument for argument in arguments]
    status, out, err = run("transcribe", *arguments, *audio)
    assert (status, out) == (1, "")
    assert message in one_line_error(err)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "Usage"),
        (["transcribe"], "files"),
        (["transcribe", "a.wav"], "--model"),
        (["transcripe", "a.wav"], "transcripe"),
        (["transcribe", "--model", "m", "--bogus", "a.wav"], "--bogus"),
        (
            ["transcribe", "--model", "m", "--full", "--layer", "2", "a.wav"],
            "give one of --layer, --entropy and --full",
        ),
        (["transcribe", "--model", "m", "--device", "tpu", "a.wav"], "--device tpu: give cpu, cuda"),
        (["transcribe", "--model", "m", "--device", "cuda:99", "a.wav"], "cuda:99: torch finds"),
        (["evaluate", "m", "--manifest", "a.jsonl", "--lm", "a.arpa"], "--lm needs --decoding beam"),
        (["evaluate", "m", "--manifest", "a.jsonl", "--word-bonus", "1"], "--word-bonus needs --decoding beam"),
        (["evaluate", "m", "--manifest", "a.jsonl", "--manifest", "b.jsonl", "--out", "o"], "--out takes"),
        (
            ["evaluate", "m", "--manifest", "a/test.jsonl", "--manifest", "b/test.jsonl"],
            "results are named by the stem",
        ),
    ],
)
def test_bad_calls_are_status_2(run, arguments, message):
    status, out, err = run(*arguments)
    assert status == 2
    assert message.lower() in (out + err).lower()
    assert "Traceback" not in err


def test_ctrl_c_is_status_130(run, monkeypatch, model):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("speechbrain_ee.inference.asr.EarlyExitASR.from_hparams", interrupted)
    status, _, err = run("transcribe", "--model", model, "a.wav")
    assert status == 130
    assert err.splitlines()[-1] == "speechbrain-ee: interrupted"


def test_evaluate_interrupted_by_ctrl_c_says_how_to_resume(run, monkeypatch, model, audio, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("speechbrain_ee.evaluation.batch.evaluate_batch", interrupted)
    status, _, err = run("evaluate", model, "--manifest", manifest(tmp_path / "test.jsonl", audio))
    assert status == 130
    assert "speechbrain-ee: interrupted: run the same command again to resume\n" in err and "Traceback" not in err


def manifest(path, audio):
    utterances = [
        Utterance(file.stem, file, soundfile.info(file).duration, text)
        for file, text in zip(audio, ("the cat", "a hat sat"), strict=True)
    ]
    write_manifest(path, utterances)
    return path


def test_evaluate_prints_a_table_and_fills_the_folder(run, model, audio, tmp_path):
    paths = [manifest(tmp_path / f"{name}.jsonl", audio) for name in ("test", "other")]
    status, out, err = run("evaluate", model, "--manifest", paths[0], "--manifest", paths[1])
    assert status == 0
    for name in ("test", "other"):
        exits = json.loads((model / "eval" / name / "exits.json").read_text())
        assert exits["test_set"] == name
        assert f"{name}: 2 utterances, 5 words, greedy CTC" in out
        assert f"{model / 'eval' / name}" in err
    assert out.count("oracle: WER") == 2


def test_evaluate_writes_where_out_says(run, model, audio, tmp_path):
    arguments = ["--manifest", manifest(tmp_path / "test.jsonl", audio), "--out", tmp_path / "elsewhere"]
    status, _, _ = run("evaluate", model, *arguments, "--decoding", "beam", "--beam-size", 4)
    assert status == 0
    assert json.loads((tmp_path / "elsewhere" / "exits.json").read_text())["decoding"] == "CTC beam 4"
    assert not (model / "eval").exists()


def test_evaluate_finds_the_audio_of_a_manifest_that_lies_elsewhere(run, model, audio, tmp_path):
    (tmp_path / "results").mkdir()
    rows = [f"u{number},0.3,$data_root/{path.name},s,the cat\n" for number, path in enumerate(audio)]
    path = tmp_path / "results" / "test.csv"
    path.write_text("ID,duration,wav,spk_id,wrd\n" + "".join(rows))
    status, out, _ = run("evaluate", model, "--manifest", path, "--data-root", tmp_path)
    assert status == 0 and "test: 2 utterances, 4 words" in out
    status, _, err = run("evaluate", model, "--manifest", path)
    assert status == 1 and f"{tmp_path / 'results' / '0.wav'} does not exist" in err


def test_evaluate_warns_of_references_that_the_model_cannot_write(run, model, audio, tmp_path):
    utterances = [Utterance(path.name, path, 0.5, "The CAT, 12") for path in audio]
    write_manifest(tmp_path / "test.jsonl", utterances)
    status, _, err = run("evaluate", model, "--manifest", tmp_path / "test.jsonl")
    assert status == 0
    assert "warning: test: 6 of 6 words of the references have characters that the model cannot write" in err
    assert "cannot write" not in run("evaluate", model, "--manifest", manifest(tmp_path / "good.jsonl", audio))[2]


def test_results_of_the_beam_do_not_replace_the_greedy_ones(run, model, audio, tmp_path):
    path = manifest(tmp_path / "test.jsonl", audio)
    for arguments in ([], ["--decoding", "beam", "--beam-size", 4]):
        assert run("evaluate", model, "--manifest", path, *arguments)[0] == 0
    found = {file.parent.name: json.loads(file.read_text())["decoding"] for file in model.glob("eval/*/exits.json")}
    assert found == {"test": "greedy CTC", "test-beam": "CTC beam 4"}


@pytest.fixture
def evaluated(run, model, tmp_path):
    """A model that was evaluated on 60 short noises as dev."""
    utterances = []
    for index in range(60):
        path = tmp_path / "noise" / f"{index}.wav"
        path.parent.mkdir(exist_ok=True)
        generator = torch.Generator().manual_seed(index)
        soundfile.write(path, (torch.randn(3000, generator=generator) * 0.1).numpy(), RATE)
        utterances.append(Utterance(str(index), path, 3000 / RATE, "the cat", speaker=f"s{index % 6}"))
    write_manifest(tmp_path / "dev.jsonl", utterances)
    assert run("evaluate", model, "--manifest", tmp_path / "dev.jsonl")[0] == 0
    return model


@pytest.mark.parametrize("score", ["learned", "entropy", "patience"])
def test_calibrate_says_what_holds_and_transcribe_follows(run, evaluated, audio, score):
    status, out, err = run("calibrate", evaluated, "--score", score, "--mean-cost", 0.8)
    assert status == 0
    assert out.startswith("nothing is promised")
    assert re.search(r"on (60|30) utterances of dev: WER [\d.]+ % \(full depth [\d.]+ %\), mean exit layer", out)
    assert f"{evaluated / 'calibration.json'}: written" in err
    _, _, err = run("transcribe", "--model", evaluated, audio[0])
    name = score if score != "entropy" else "score_threshold"
    assert f'policy: {{"policy": "{name}"' in err
    assert len(err.splitlines()[0]) < 300, "not all the numbers of a learned score"


def test_calibrate_promises(run, evaluated, tmp_path):
    arguments = ["--score", "entropy", "--promise", 50, "--delta", 0.2, "--out", tmp_path / "elsewhere"]
    status, out, _ = run("calibrate", evaluated, *arguments, "--same-speakers")
    assert status == 0
    told = r"with probability 0.8 \(gamma test, asymptotic; .*; 60 utterances, assumed to be independent; for 6"
    assert re.search(told, out) or "no threshold cheaper than full depth can be promised" in out
    found = json.loads((tmp_path / "elsewhere" / "calibration.json").read_text())
    assert (found["promise"]["epsilon"], found["tried"]) == (50, {"calibrations": 1, "promises": 1})
    assert not (evaluated / "calibration.json").exists()
    status, out, _ = run("calibrate", evaluated, *arguments, "--same-speakers", "--score", "confidence")
    assert "2 promises were tried on dev with this model" in out
    assert "use --delta 0.1 for each" in out
    status, _, err = run("calibrate", evaluated, *arguments)
    assert status == 1
    assert "a promise with delta 0.2 needs at least 16 speakers, and there are 6: " in one_line_error(err)


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        ([], 2, "--max-wer, --max-cer-increase, --max-cer, --mean-cost"),
        (["--promise", 1, "--max-wer", 5], 2, "give one of"),
        (
            ["--promise", 1, "--score", "entropie"],
            1,
            "unknown exit score 'entropie'; known: learned, patience,",
        ),
        (["--max-wer", 1, "--on", "test"], 1, "evaluate a manifest first"),
        (["--mean-cost", 0.5, "--delta", 0.2], 2, "--delta requires --promise"),
        (["--mean-cost", 0.5, "--same-speakers"], 2, "--same-speakers requires --promise or --average"),
        (["--mean-cost", 0.01], 1, "no exit costs as little as 0.01"),
        (["--max-wer", 0.01], 1, "no exit reaches a WER of 0.01 %"),
    ],
)
def test_calibrate_refuses(run, evaluated, arguments, status, message):
    found, _, err = run("calibrate", evaluated, *arguments)
    assert found == status
    assert message in " ".join(err.replace("│", " ").split())
    assert not (evaluated / "calibration.json").exists()


def test_scores_of_another_model_or_of_a_beam_are_not_calibrated_on(run, evaluated, tmp_path):
    exits = json.loads((evaluated / "eval" / "dev" / "exits.json").read_text())
    (evaluated / "eval" / "dev" / "exits.json").write_text(json.dumps(exits | {"model": "0" * 16}))
    status, _, err = run("calibrate", evaluated, "--mean-cost", 0.8)
    assert status == 1 and "was evaluated with another model (0000000000000000" in one_line_error(err)
    beam = ["--decoding", "beam", "--beam-size", 2]
    assert run("evaluate", evaluated, "--manifest", tmp_path / "dev.jsonl", *beam)[0] == 0
    status, _, err = run("calibrate", evaluated, "--mean-cost", 0.8, "--on", "dev-beam")
    assert status == 1 and "was decoded with CTC beam 2, but transcribe uses greedy CTC" in one_line_error(err)


def test_a_calibration_of_another_model_is_refused_by_transcribe(run, model, audio):
    write_calibration(model, {"policy": ScoreThreshold("entropy", 1.0).to_dict(), "model": "0123456789abcdef"})
    status, _, err = run("transcribe", "--model", model, audio[0])
    assert status == 1
    assert "calibration.json belongs to another model or vocabulary (0123456789abcdef, this" in one_line_error(err)
    assert run("transcribe", "--model", model, "--full", audio[0])[0] == 0, "a policy of one's own needs none"


@pytest.mark.parametrize(
    ("limits", "layer"), [(["--max-layer", 3], 2), (["--budget", 1], 1), (["--deadline-ms", 1e9], 4), ([], 4)]
)
def test_limits_of_a_call(run, model, audio, limits, layer):
    status, out, _ = run("transcribe", "--model", model, "--json", "--full", *limits, audio[0])
    assert status == 0
    assert json.loads(out)["exit_layer"] == layer


def test_evaluate_says_when_a_test_set_is_not_like_the_calibration_set(run, evaluated, audio, tmp_path):
    assert run("calibrate", evaluated, "--score", "entropy", "--mean-cost", 0.8)[0] == 0
    calibration = json.loads((evaluated / "calibration.json").read_text())
    calibration["value_range"] = {layer: [0.9999, 1.0] for layer in calibration["value_range"]}
    write_calibration(evaluated, calibration)
    _, _, err = run("evaluate", evaluated, "--manifest", manifest(tmp_path / "test.jsonl", audio))
    assert "warning: test: 100 % of the scores are outside the range of dev" in err


def test_evaluate_names_what_it_left_out_and_goes_on_with_the_next_manifest(run, model, audio, tmp_path):
    paths = [manifest(tmp_path / f"{name}.jsonl", audio) for name in ("test", "other")]
    good = soundfile.read(audio[0])[0]
    soundfile.write(tmp_path / "half.flac", good, RATE)
    half = (tmp_path / "half.flac").read_bytes()
    text = paths[0].read_text().replace("0.wav", "half.flac")
    paths[0].write_text(text)
    (tmp_path / "half.flac").write_bytes(half[: len(half) // 2])
    status, out, err = run("evaluate", model, "--manifest", paths[0], "--manifest", paths[1])
    assert status == 1
    assert "1 of 2 utterances are missing" in out and "other: 2 utterances" in out
    (line,) = [line for line in err.splitlines() if "error:" in line]
    assert re.search("1 of 2 utterances could not be evaluated .first: 0: .*half.flac.*same command again", line)
    (tmp_path / "half.flac").write_bytes(half)
    status, out, _ = run("evaluate", model, "--manifest", paths[0])
    assert status == 0 and "test: 2 utterances" in out and "missing" not in out


@pytest.mark.parametrize("command", [("calibrate", "--mean-cost", 0.5), ("report",)])
def test_a_hub_name_needs_results(run, tmp_path, monkeypatch, command):
    monkeypatch.chdir(tmp_path)
    status, _, err = run(command[0], "user/model", *command[1:])
    assert status == 1 and "results/user--model: there are no results of user/model yet" in one_line_error(err)
    status, _, err = run(command[0], "a/user/model", *command[1:])
    assert status == 1 and "a/user/model: no such folder; give a run folder" in one_line_error(err)
    assert not list(tmp_path.iterdir())


def test_evaluate_reads_every_manifest_before_it_starts(run, model, audio, tmp_path):
    first = manifest(tmp_path / "test.jsonl", audio)
    status, out, err = run("evaluate", model, "--manifest", first, "--manifest", tmp_path / "none.jsonl")
    assert (status, out) == (1, "")
    assert "none.jsonl does not exist" in one_line_error(err)
    assert not (model / "eval").exists()


def test_evaluate_names_a_broken_audio_file(run, model, audio, tmp_path):
    path = manifest(tmp_path / "test.jsonl", audio)
    audio[1].write_bytes(b"no audio")
    status, out, err = run("evaluate", model, "--manifest", path)
    assert (status, out) == (1, "")
    assert "1.wav" in one_line_error(err)
