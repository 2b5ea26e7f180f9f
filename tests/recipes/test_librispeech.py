# SPDX-License-Identifier: Apache-2.0
"""The LibriSpeech recipe: preparation and training on a small generated corpus, and the yaml at full size."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from recipes.scripts import load_script

from recipes import corpora
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.replay.utterances import read_utterances

ROOT = Path(__file__).parents[2]
RECIPE = ROOT / "recipes" / "LibriSpeech"
YAML = RECIPE / "hparams" / "conformer_ee.yaml"
AED_YAML = RECIPE / "hparams" / "conformer_aed_ee.yaml"
SUBSETS = {"train-clean-100": 6, "train-other-500": 6, "dev-clean": 3, "test-clean": 4, "test-other": 2}
SMALL = corpora.SMALL | {"vocab_size": 36}


@pytest.fixture(scope="module")
def librispeech(tmp_path_factory) -> Path:
    """Write one speaker per subset."""
    root = tmp_path_factory.mktemp("corpora") / "LibriSpeech"
    subsets = {subset: {str(speaker): number} for speaker, (subset, number) in enumerate(SUBSETS.items(), start=19)}
    return corpora.write_librispeech(root, subsets)


@pytest.fixture(scope="module")
def manifests(librispeech) -> Path:
    script = load_script(RECIPE / "prepare.py")
    out = librispeech.parent / "manifests"
    assert script.main([str(librispeech), "--out", str(out), "--train", "train-clean-100", "train-other-500"]) == 0
    return out


def train(*arguments: object, yaml=YAML, script="train.py", **options) -> subprocess.CompletedProcess:
    flags = [part for key, value in options.items() for part in (f"--{key}", value)]
    command = [sys.executable, ROOT / script, yaml, "--device", "cpu", "--noprogressbar", *arguments, *flags]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT, env=environment)


def test_from_the_corpus_to_a_run_folder_that_transcribes(manifests, librispeech, tmp_path):
    done = train(data_folder=manifests, output_folder=tmp_path / "run", **SMALL)
    assert done.returncode == 0, done.stderr[-3000:]
    run = tmp_path / "run"
    steps = re.search(r"epoch: 1, .*steps: (\d+)", (run / "train_log.txt").read_text())
    assert int(steps.group(1)) >= 2  # at least 12 s, in batches of 6 s
    for name, subset in (("dev", "dev-clean"), ("test-clean", "test-clean"), ("test-other", "test-other")):
        exits = json.loads((run / "eval" / name / "exits.json").read_text())
        assert [row["layer"] for row in exits["exits"]] == [1, 3]
        assert exits["num_utterances"] == SUBSETS[subset]
    lines = read_utterances(run / "eval" / "test-other" / "utterances.jsonl")
    transcript = next(librispeech.glob("test-other/*/*/*.trans.txt")).read_text().lower()
    assert [f"{line['id']} {line['reference']}" for line in lines] == transcript.splitlines()
    assert json.loads((run / "calibration.json").read_text())
    asr = EarlyExitASR.from_hparams(run)
    result = asr.transcribe_file(next(librispeech.glob("test-other/*/*/*.flac")))
    assert result.exit_layer in (1, 3)


def test_missing_data_folder_is_one_line_that_names_it():
    done = train()
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith("train.py: error: 'data_folder' is a !PLACEHOLDER")


def test_the_attention_family_with_a_language_model_of_its_own(manifests, tmp_path):
    run, texts = tmp_path / "run", tmp_path / "texts.txt"
    done = train(yaml=AED_YAML, data_folder=manifests, output_folder=run, **SMALL, num_decoder_layers=1)
    assert done.returncode == 0, done.stderr[-3000:]
    texts.write_text("MISTER QUILTER\n\nIS THE APOSTLE\n")
    small = {"d_model": 16, "num_layers": 1, "d_ffn": 32, "number_of_epochs": 2, "warmup_steps": 1, "vocab_size": 36}
    files = {"data_folder": manifests, "tokenizer_file": run / "tokenizer.model", "text_file": texts}
    lm = {"yaml": RECIPE / "hparams" / "lm.yaml", "script": RECIPE / "train_lm.py", "output_folder": tmp_path / "lm"}
    done = train(**lm, **files, **small)
    assert done.returncode == 0, done.stderr[-3000:]
    assert re.search(r"model\.ckpt: perplexity \d+\.\d\d on dev", done.stdout)
    asr = EarlyExitASR.from_hparams(run)
    asr.decoder = asr.make_decoder("beam", beam_size=2, lm=tmp_path / "lm" / "model.ckpt")
    assert asr.decoder.name == "attention beam 2, CTC weight 0.4, TransformerLM weight 0.6"
    assert asr.transcribe_waveforms([0.1 * torch.randn(16000)])[0].exit_layer in (1, 3)
    wrong = train(**lm, **files, **small | {"vocab_size": 40})
    assert wrong.returncode == 1
    assert wrong.stderr.strip().splitlines()[-1].startswith("train_lm.py: error: ")


def test_a_text_file_is_read_line_by_line_where_it_lies(manifests, tmp_path):
    script = load_script(RECIPE / "train_lm.py")
    (tmp_path / "texts.txt").write_text("ONE TWO\n\nDEUX ÉTÉ  TROIS\nEND")
    texts = script.Texts(str(manifests / "dev-clean.jsonl"), str(tmp_path / "texts.txt"))
    own = len(texts) - 4
    assert [texts[own + i] for i in range(4)] == ["one two", "", "deux été trois", "end"]
    assert own == SUBSETS["dev-clean"] and texts[0] == texts[0].lower()


def load_full_size(yaml, folder, **overrides) -> dict:
    with open(yaml, encoding="utf-8") as file:
        return load_hyperpyyaml(file, {"data_folder": "unused", "output_folder": str(folder)} | overrides)


def count(hparams) -> int:
    return sum(p.numel() for module in hparams["modules"].values() for p in module.parameters())


@pytest.fixture(scope="module", params=[YAML, AED_YAML], ids=["ctc", "aed"])
def full_size(request, tmp_path_factory) -> dict:
    return load_full_size(request.param, tmp_path_factory.mktemp("run")) | {"yaml": request.param}


def test_full_size_has_the_stated_number_of_parameters(full_size):
    stated = re.findall(r"([\d,]+) parameters", full_size["yaml"].read_text())
    assert count(full_size) in [int(number.replace(",", "")) for number in stated]


def test_the_parameters_are_those_of_the_paper(tmp_path):
    ctc = load_full_size(YAML, tmp_path)
    assert count(ctc) == pytest.approx(31.54e6, rel=0.02)
    single_exit = load_full_size(AED_YAML, tmp_path, exit_layers=[12], vocab_size=5000)
    assert count(single_exit) == 13_327_296 == pytest.approx(13.3e6, rel=0.02)
    assert count(load_full_size(AED_YAML, tmp_path, decoders="per_exit")) == 21_105_040


def test_one_step_at_full_size(full_size):
    features, encoder, heads = (full_size[name].train() for name in ("features", "encoder", "heads"))
    num_samples = torch.tensor([32000, 24000])
    states, lengths = encoder(*features(torch.randn(2, 32000), num_samples))
    tokens, token_lengths = torch.randint(3, full_size["vocab_size"], (2, 8)), torch.tensor([8, 5])
    outputs = heads(states, lengths, tokens, token_lengths)
    loss, per_exit = full_size["loss"](outputs, tokens, token_lengths)
    assert len(per_exit) == 6
    assert lengths.tolist() == [51, 38]  # 40 ms per frame
    loss.backward()
    assert torch.isfinite(loss)
    for module in (encoder, heads):
        for name, parameter in module.named_parameters():
            assert parameter.grad is not None and torch.isfinite(parameter.grad).all(), name
