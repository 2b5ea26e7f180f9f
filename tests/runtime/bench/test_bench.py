# SPDX-License-Identifier: Apache-2.0
"""The command ``ee-bench`` on a tiny export: figures, table, answers and refusals."""

import json

import numpy as np
import pytest
import soundfile
from runtime.bench.tiny_export import write_export

from ee_runtime import EarlyExitRuntime
from ee_runtime.bench.cli import main, make_parser
from ee_runtime.bench.opener import export_opener
from ee_runtime.bench.starts import start
from ee_runtime.calibration.file import write_calibration
from ee_runtime.policies import ScoreThreshold

QUICK = ["--threads", "1", "--rounds", "2", "--starts", "0"]


@pytest.fixture
def export(tmp_path):
    return write_export(tmp_path / "export")


@pytest.fixture
def audio(tmp_path):
    paths = []
    for index, seconds in enumerate((0.3, 0.5)):
        paths.append(tmp_path / f"{index}.wav")
        noise = np.random.default_rng(index).standard_normal(round(seconds * 16000)) / 10
        soundfile.write(paths[-1], noise, 16000)
    return paths


def run(capsys, *arguments):
    """Return the exit status, standard output and standard error."""
    try:
        status = main([str(argument) for argument in arguments])
    except SystemExit as stopped:
        status = stopped.code
    return status, *capsys.readouterr()


def test_help_shows_an_example_that_parses(capsys):
    status, text, _ = run(capsys, "--help")
    program, *arguments = " ".join(text.split()).partition("Example: ")[2].split()
    assert (status, program) == (0, "ee-bench")
    assert make_parser().parse_args(arguments).folder == "exported"


def test_figures_of_the_whole_command(export, tmp_path, capsys):
    out = tmp_path / "bench.json"
    arguments = ["--threads", 1, "--rounds", 2, "--starts", 1, "--seconds", "0.2,1", "--out", out]
    status, text, err = run(capsys, export, *arguments)
    figures = json.loads(out.read_text("utf-8"))
    assert status == 0
    assert list(figures) == [
        *("format", "machine", "versions", "threads", "batch", "rounds", "audio", "models", "start_audio_s"),
    ]
    assert figures["machine"]["gemm_gflops"] > 0 and figures["machine"]["cpu"] in text
    assert {"python", "numpy", "onnxruntime", "ee_runtime"} <= set(figures["versions"])
    (model,) = figures["models"]
    assert [model[name] for name in ("path", "runtime", "device", "precision")] == [str(export), "onnx", "cpu", "fp32"]
    size = {path.stem: path.stat().st_size for path in export.glob("*.onnx")}
    sizes = [size["features"] + size["segment0"] + size["exit0"]]
    sizes.append(sizes[0] - size["exit0"] + size["segment1"] + size["exit1"])
    expected = [{"layer": layer, "params": 1000 * layer, "size_bytes": sizes[layer - 1]} for layer in (1, 2)]
    assert model["exits"] == expected
    assert [(times["input"], times["audio_s"]) for times in model["times"]] == [
        ("0.2 s of noise", 0.2),
        ("1 s of noise", 1.0),
    ]
    for times in model["times"]:
        assert times["policies"] == []
        for row, layer in zip(times["exits"], (1, 2), strict=True):
            assert row["macs_per_s"] == 100 * (64 * layer + 48), "100 frames a second, one head"
            assert 0 < row["min_s"] <= row["median_s"] == row["slowest_call_s"]
            assert row["rtf"] == row["median_s"] / times["audio_s"]
    for row, layer in zip(model["starts"], (1, 2), strict=True):
        assert (row["layer"], row["starts"]) == (layer, 1)
        assert 0 < row["after_imports_s"]["min"] < row["first_text_s"]["min"] < 100
        assert 2**24 < row["peak_memory_bytes"] < 2**31
    assert figures["start_audio_s"] == 1.0
    assert err == (
        "ee-bench: timing 0.2 s of noise, 2 rounds\nee-bench: timing 1 s of noise, 2 rounds\n"
        "ee-bench: starting 2 processes\n"
    )
    assert text.count("start of a process, layer") == 2 and text.count(f"{export}: onnx, fp32, 1 thread") == 2


def threshold_that_stops_one(export, audio):
    """Return an entropy threshold at which one recording stops at layer 1 and the other does not."""
    model = EarlyExitRuntime(export, policy=ScoreThreshold("entropy", -1.0), threads=1)
    values = [model.transcribe_file(path, max_layer=1).policy_value for path in audio]
    assert values[0] != values[1]
    return sum(values) / 2


def test_the_calibrated_policy_is_timed_on_recordings(export, audio, tmp_path, capsys):
    policy = ScoreThreshold("entropy", threshold_that_stops_one(export, audio))
    write_calibration(export, {"policy": policy.to_dict()})
    out = tmp_path / "bench.json"
    status, text, _ = run(capsys, export, *QUICK, "--ms", "10000", "--out", out, "--audio", *audio)
    (times,) = json.loads(out.read_text("utf-8"))["models"][0]["times"]
    assert status == 0 and "not timed on noise" not in text
    assert (times["input"], times["calls"], times["audio_s"]) == ("2 recordings", 2, pytest.approx(0.8))
    assert [row["mean_layer"] for row in times["policies"]] == [1.0, 1.5]
    answers = text.splitlines()[-2:]
    assert answers[0].endswith(f"ee-transcribe --model {export} --threads 1 --layer 2 FILE")
    assert answers[1].endswith(f"mean layer 1.50: ee-transcribe --model {export} --threads 1 --deadline-ms 10000 FILE")
    status, text, _ = run(capsys, export, *QUICK)
    assert "the policy of calibration.json is not timed on noise: give recordings with --audio" in text


def test_a_budget_that_nothing_fits_is_status_1(export, capsys):
    status, text, _ = run(capsys, export, *QUICK, "--seconds", "0.2", "--rtf", "1e-9")
    (line,) = [line for line in text.splitlines() if "within" in line]
    assert status == 1
    assert line.startswith(f"{export}, 0.2 s of noise: within RTF 1e-09: nothing fits: the first exit, layer 1, takes")


def test_two_exports_of_different_exits(export, tmp_path, capsys):
    other = write_export(tmp_path / "other", (2, 3))
    out = tmp_path / "bench.json"
    arguments = ["--against", other, "--seconds", "0.2", "--batch", "2", "--out", out]
    status, text, _ = run(capsys, export, *QUICK, *arguments)
    figures = json.loads(out.read_text("utf-8"))
    assert status == 0
    assert [model["path"] for model in figures["models"]] == [str(export), str(other)]
    assert [(one["layer"], one["other_layer"]) for one in figures["ratios"]] == [(2, 2), (2, 3)]
    assert figures["models"][0]["times"][0]["audio_s"] == 0.4, "two utterances"
    assert f"0.2 s of noise, layer 2: {export} takes " in text and f"{other}, layer 3 (quartiles" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere/export.json: file not found: give a folder that speechbrain-ee export wrote"),
        (["EXPORT", "--against", "nowhere"], "nowhere/export.json: file not found"),
        (["EXPORT", "--against", "SLOW"], "8000 Hz: compare models of one sample rate"),
        (["EXPORT", "--against", "SHORT"], "--seconds 10: the model takes at most 5 s at once: give less"),
        (["EXPORT", "--audio", "nowhere.wav"], "nowhere.wav does not exist"),
        (["EXPORT", "--audio", "EXPORT/export.json"], "export.json"),
    ],
)
def test_failures_are_one_line_and_status_1(export, tmp_path, capsys, arguments, message):
    write_export(tmp_path / "slow", sample_rate=8000)
    write_export(tmp_path / "short", max_part_s=5.0)
    names = {"EXPORT": export, "SLOW": tmp_path / "slow", "SHORT": tmp_path / "short"}
    arguments = [str(names.get(one, one)).replace("EXPORT", str(export)) for one in arguments]
    status, out, err = run(capsys, *arguments, *QUICK)
    assert (status, out) == (1, "")
    (line,) = err.splitlines()
    assert line.startswith("ee-bench: error: ") and message in line


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "required: DIR"),
        (["x", "--rounds", "0"], "--rounds 0: give 1 or more"),
        (["x", "--threads", "0"], "--threads 0: give 1 or more"),
        (["x", "--rtf", "0.1", "--ms", "3"], "give one of --rtf and --ms"),
        (["x", "--seconds", "two"], "--seconds two: give numbers"),
    ],
)
def test_bad_calls_are_status_2(capsys, arguments, message):
    status, out, err = run(capsys, *arguments)
    assert (status, out) == (2, "") and message in err


def test_a_process_that_fails_is_named(export, tmp_path):
    (export / "segment1.onnx").write_bytes(b"changed")
    np.savez(tmp_path / "waveforms.npz", np.zeros(1600, np.float32))
    with pytest.raises(ValueError, match="export: a fresh process failed: .*segment1.onnx has 7 bytes") as caught:
        start(export_opener(str(export), threads=1), 1, tmp_path / "waveforms.npz")
    assert "\n" not in str(caught.value)


def test_a_process_imports_what_this_process_imports(export, tmp_path, monkeypatch):
    (tmp_path / "ee_runtime").mkdir()
    (tmp_path / "ee_runtime" / "__init__.py").write_text("raise SystemExit('the package of the working folder')")
    np.savez(tmp_path / "waveforms.npz", np.zeros(1600, np.float32))
    monkeypatch.chdir(tmp_path)
    found = start(export_opener("export", threads=1), 1, tmp_path / "waveforms.npz")
    assert found["first_text_s"] > found["imported_s"] + found["opened_s"] + found["text_s"] > 0
