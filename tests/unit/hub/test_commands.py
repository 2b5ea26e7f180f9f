# SPDX-License-Identifier: Apache-2.0
"""Every command that takes a model takes a name on the Hub; its results never hide the name."""

import json

import pytest
import soundfile
import torch
from hub import files_of
from typer.testing import CliRunner

from speechbrain_ee.cli.app import app
from speechbrain_ee.hub.bundle import make_bundle
from speechbrain_ee.hub.card import CardFacts
from speechbrain_ee.hub.push import push

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning:httpx2"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:speechbrain_ee"),  # of torch's export
]
NAME = "user/tiny"


def run(*arguments):
    done = CliRunner().invoke(app, list(map(str, arguments)))
    assert done.exit_code == 0, (done.output, done.exception)
    return done


@pytest.fixture(scope="module")
def with_onnx(run_folder, tmp_path_factory):
    pytest.importorskip("onnxscript")
    if torch.__version__ < "2.8":
        pytest.skip("export needs torch 2.8 or newer")
    out = tmp_path_factory.mktemp("onnx") / "tiny"
    make_bundle(run_folder, out, author=CardFacts(hub_name=NAME), onnx="fp32")
    return out


@pytest.fixture
def working_folder(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    generator = torch.Generator().manual_seed(0)
    lines = []
    for number in range(4):
        soundfile.write(tmp_path / f"{number}.wav", torch.randn(8000, generator=generator).numpy() / 10, 16000)
        line = {"audio_filepath": f"{number}.wav", "text": "the cat sat", "duration": 0.5, "speaker": str(number)}
        lines.append(json.dumps(line))
    (tmp_path / "dev.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path


def test_from_evaluation_to_calibrated_texts(hub, working_folder, bundle):
    push(bundle, NAME)
    run("evaluate", NAME, "--manifest", "dev.jsonl")
    run("calibrate", NAME, "--max-wer-increase", "50")
    results = working_folder / "results" / "user--tiny"
    assert not (working_folder / "user").exists()
    assert {path.name for path in results.iterdir()} == {"eval", "calibration.json"}
    run("report", NAME)
    assert (results / "report.html").is_file()
    texts = run("transcribe", "--model", NAME, "--calibration", results / "calibration.json", "0.wav", "1.wav").stdout
    local = run("transcribe", "--model", bundle, "--calibration", results / "calibration.json", "0.wav", "1.wav")
    assert texts == local.stdout and texts.startswith("0.wav\t")


def test_a_revision_has_results_of_its_own(hub, working_folder, bundle):
    push(bundle, NAME)
    hub.repositories[NAME].tags["v1"] = 1
    hub.repositories[NAME].commits.append({})  # today's revision has no files
    run("evaluate", NAME, "--manifest", "dev.jsonl", "--revision", "v1")
    run("calibrate", NAME, "--max-wer-increase", "50", "--revision", "v1")
    assert (working_folder / "results" / "user--tiny@v1" / "calibration.json").is_file()
    texts = run("transcribe", "--model", NAME, "--revision", "v1", "--full", "0.wav").stdout
    assert texts == run("transcribe", "--model", bundle, "--full", "0.wav").stdout


def test_the_graphs_of_a_bundle_run_from_the_hub_and_from_its_folder(hub, working_folder, with_onnx):
    push(with_onnx, NAME)
    in_torch = run("transcribe", "--model", NAME, "--full", "0.wav", "1.wav").stdout
    hub.asked.clear()
    in_runtime = run("transcribe", "--model", NAME, "--runtime", "onnx", "--full", "0.wav", "1.wav").stdout
    asked = [one for one in hub.asked if "/resolve/" in one]
    assert in_runtime == in_torch and asked and all("/onnx/" in one for one in asked)
    local = run("transcribe", "--model", with_onnx, "--runtime", "onnx", "--full", "0.wav", "1.wav").stdout
    assert local == in_torch
    run("bench", NAME, "--runtime", "onnx", "--seconds", "0.5", "--rounds", "1", "--starts", "0", "--threads", "1")


def test_a_bundle_without_graphs_says_so(hub, working_folder, bundle):
    push(bundle, NAME)
    done = CliRunner().invoke(app, ["transcribe", "--model", NAME, "--runtime", "onnx", "0.wav"])
    assert done.exit_code == 1 and "user/tiny has no folder onnx/" in str(done.exception)


def test_a_model_on_the_hub_is_exported_and_timed(hub, working_folder, bundle):
    pytest.importorskip("onnxscript")
    push(bundle, NAME)
    run("export", NAME, "--out", "cut", "--truncate", "2")
    assert set(files_of(working_folder / "cut")) == {"config.json", "model.safetensors", "tokenizer.model"}
    told = run("bench", NAME, "--seconds", "0.5", "--rounds", "1", "--starts", "0", "--threads", "1").stdout
    assert NAME in told


def test_a_page_has_the_graphs_of_a_bundle(hub, working_folder, with_onnx, monkeypatch):
    push(with_onnx, NAME)
    monkeypatch.setattr("speechbrain_ee.app.build.read_files", lambda given: {"ort.js": b"of onnxruntime-web"})
    run("app", NAME, "--out", "page", "--revision", "main")
    run("app", with_onnx, "--out", "local")
    assert files_of("page") == files_of("local")
    assert files_of("page")["model/segment0.onnx"] == files_of(with_onnx)["onnx/segment0.onnx"]
    done = CliRunner().invoke(app, ["app", str(with_onnx), "--out", "other", "--revision", "v1"])
    assert "revision v1 is of a model on the Hub" in str(done.exception)
