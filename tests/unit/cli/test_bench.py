# SPDX-License-Identifier: Apache-2.0
"""The command ``speechbrain-ee bench``: an export against a model in torch, the plot, and refusals."""

import io
import json
import sys

import matplotlib.image
import pytest
import soundfile
import torch
from runtime.bench.tiny_export import write_export

from speechbrain_ee.cli import app as cli
from speechbrain_ee.evaluation.plot_times import draw_times

QUICK = ["--rounds", "1", "--starts", "0", "--seconds", "0.2"]


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command as a shell does, but in this process."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["speechbrain-ee", "bench", *map(str, arguments)])
        with pytest.raises(SystemExit) as raised:
            cli.main()
        return raised.value.code, *capsys.readouterr()

    return call


@pytest.fixture
def export(tmp_path):
    return write_export(tmp_path / "export", (1, 2))


def test_an_export_against_a_model_in_torch(run, model, export, tmp_path):
    out = tmp_path / "bench.json"
    status, text, err = run(export, "--against", model, *QUICK, "--ms", 60000, "--out", out)
    figures = json.loads(out.read_text("utf-8"))
    assert status == 0
    assert [one["runtime"] for one in figures["models"]] == ["onnx", "torch"]
    assert [row["size_bytes"] for row in figures["models"][1]["exits"]] == [None] * 3
    assert [(one["layer"], one["other_layer"]) for one in figures["ratios"]] == [(1, 1), (2, 2), (2, 4)]
    assert figures["versions"]["torch"] == torch.__version__ and figures["threads"] == torch.get_num_threads()
    answers = [line for line in text.splitlines() if "within 60" in line]
    threads = figures["threads"]
    assert answers[0].endswith(f": ee-transcribe --model {export} --threads {threads} --layer 2 FILE")
    assert answers[1].endswith(f": speechbrain-ee transcribe --model {model} --threads {threads} --layer 4 FILE")
    assert matplotlib.image.imread(out.with_suffix(".png")).shape == (690, 1080, 4)
    assert f"{out}: figures; plot: bench.png" in err


def test_recordings_follow_audio_as_a_shell_lists_them(run, export, tmp_path):
    files = []
    for index in range(3):
        files.append(tmp_path / f"{index}.wav")
        soundfile.write(files[-1], torch.randn(4000).numpy() / 10, 16000)
    status, text, _ = run(export, "--rounds", 1, "--starts", 0, "--threads", 1, "--audio", *files)
    assert status == 0 and "; 3 recordings, 0.75 s of audio in all" in text


def test_nothing_fits_is_status_1(run, export):
    status, text, _ = run(export, *QUICK, "--ms", 1e-6)
    assert status == 1 and text.splitlines()[-1].startswith(f"{export}, 0.2 s of noise: within 1e-06 ms: nothing fits")


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["no-such-model"], 1, "give a run folder, a model folder or a Hub name"),
        (["EXPORT", "--rtf", "1", "--ms", "1"], 2, "give one of --rtf and --ms"),
        (["EXPORT", "--rounds", "0"], 2, "--rounds 0: give 1 or more"),
        (["EXPORT", "a.wav"], 2, "a.wav: give recordings after --audio"),
        (["EXPORT", "--device", "cpu"], 2, "--device is for models in torch"),
        (["EXPORT", "--threads", "0"], 2, "--threads"),
    ],
)
def test_wrong_calls(run, export, arguments, status, message):
    found, out, err = run(*(export if one == "EXPORT" else one for one in arguments))
    assert (found, out) == (status, "")
    assert message in " ".join(err.split()) and "Traceback" not in err


def figures_of(rtfs, budget=None):
    rows = [{"layer": index + 1, "rtf": rtf, "min_s": 0.9 * rtf} for index, rtf in enumerate(rtfs)]
    policies = [row | {"mean_layer": 0.7 * row["layer"]} for row in rows]
    times = {"input": "1 s of noise", "audio_s": 1.0, "exits": rows, "policies": policies}
    answers = {} if budget is None else {"answers": [{"budget": {"rtf": budget}}]}
    machine = {"cpu": "Tiny CPU", "gemm_gflops": 1.0}
    return {"models": [{"path": "m", "times": [times]}], "machine": machine, "threads": 1, "batch": 1} | answers


def pixels(figures):
    return matplotlib.image.imread(io.BytesIO(draw_times(figures)))


def test_the_plot_shows_times_and_budget():
    plain = pixels(figures_of([0.01, 0.02]))
    assert (plain == pixels(figures_of([0.01, 0.02]))).all()
    assert (plain != pixels(figures_of([0.01, 0.025]))).any(), "another time is another plot"
    assert (plain != pixels(figures_of([0.01, 0.02], budget=0.015))).any(), "a budget is a line"
