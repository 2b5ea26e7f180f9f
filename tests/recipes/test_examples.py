# SPDX-License-Identifier: Apache-2.0
"""Every example runs; SpeechBrain's own recipes get exits, and become calibrated run folders."""

import importlib.util
import json
import re
import shutil

import pytest
import torch
from hyperpyyaml import load_hyperpyyaml
from recipes.stock_recipes import RECIPES, ROOT, YAMLS, run_recipe, write_data
from speechbrain.utils.checkpoints import Checkpointer, average_checkpoints
from typer.testing import CliRunner
from unit.cases import many

from ee_runtime.policies import FixedExit
from speechbrain_ee import EarlyExitASR
from speechbrain_ee.cli.app import app
from speechbrain_ee.lobes import JointHeads
from speechbrain_ee.replay.replay import replay

MAX_LINES, MAX_LINES_TO_RUN_FOLDER = 15, 5
GUIDE = (ROOT / "docs/guide/recipes.md").read_text("utf-8")
every_recipe = pytest.mark.parametrize("name", YAMLS)


def load_example(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "examples" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def new_lines(diff):
    return [line for line in diff.splitlines() if line.startswith("+") and not line.startswith("+++")]


def command(*words):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == 0, result.output + repr(result.exception)
    return result.output


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_data(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def runs(tmp_path_factory, corpus):
    return {name: run_recipe(name, tmp_path_factory.mktemp(name), corpus) for name in YAMLS}


@every_recipe
def test_the_changes_of_a_recipe_are_short(name):
    exits, run_folder = ((RECIPES / name / f"{diff}.diff").read_text("utf-8") for diff in ("exits", "run_folder"))
    commands = re.findall(r"^speechbrain-ee (?:evaluate|calibrate) results/.*$", GUIDE, re.MULTILINE)
    assert len(commands) == 2
    assert 0 < len(new_lines(exits)) <= MAX_LINES
    assert 0 < len(new_lines(run_folder)) + len(commands) <= MAX_LINES_TO_RUN_FOLDER


def test_the_guide_shows_the_changes():
    shown = re.findall(r"^```diff\n(.*?)^```", GUIDE, re.DOTALL | re.MULTILINE)
    assert shown == [(RECIPES / "ctc" / f"{diff}.diff").read_text("utf-8") for diff in ("exits", "run_folder")]


@every_recipe
def test_a_recipe_with_exits_trains_and_tests(runs, name):
    log = (runs[name] / "train_log.txt").read_text("utf-8")
    first, second = map(float, re.findall(r"train loss: ([\d.e+]+)", log))
    assert second < first
    assert "test WER" in log


@every_recipe
def test_the_run_folder_has_the_average_of_the_checkpoints(runs, name):
    asr = EarlyExitASR.from_hparams(runs[name])
    checkpoints = Checkpointer(runs[name] / "save").find_checkpoints()
    # The CTC recipe keeps the checkpoints; the Transformer recipe keeps only their average.
    state = average_checkpoints(checkpoints, recoverable_name="model")
    assert len(checkpoints) == {"ctc": 2, "transformer": 1}[name]
    for index, part in enumerate((asr.mods.encoder, asr.mods.heads)):
        for key, value in part.state_dict().items():
            if f"{index}.{key}" in state:  # the rest are tables of positions
                torch.testing.assert_close(value, state[f"{index}.{key}"], rtol=0, atol=0)
    assert {key.split(".")[0] for key in state} == {"0", "1"}
    statistics = torch.load(checkpoints[0].paramfiles["normalizer"], weights_only=True)
    torch.testing.assert_close(asr.mods.features.mean, statistics["glob_mean"], rtol=0, atol=0)
    assert isinstance(asr.mods.heads, JointHeads) == (name == "transformer")
    assert asr.mods.encoder.config["padding_mode"] == "reflect"


@every_recipe
def test_the_run_folder_is_evaluated_calibrated_and_reported(runs, corpus, tmp_path, name):
    run = shutil.copytree(runs[name], tmp_path / "run", ignore=shutil.ignore_patterns("save"))
    for split in ("dev", "test"):
        command("evaluate", run, "--manifest", corpus / f"{split}.csv", "--data-root", corpus)
    command("calibrate", run, "--max-wer-increase", "1")
    command("report", run)
    exits = json.loads((run / "eval/test/exits.json").read_text("utf-8"))["exits"]
    assert [one["layer"] for one in exits] == [1, 2]
    assert json.loads((run / "calibration.json").read_text("utf-8"))["score"] == "entropy"
    assert (run / "report.html").stat().st_size > 10**6
    assert EarlyExitASR.from_hparams(run).transcribe_file(corpus / "test00.wav").exit_layer in (1, 2)


ASR_YAML = """
compute_features: !new:speechbrain.lobes.features.Fbank
  n_fft: 512
  n_mels: 80
normalizer: !new:speechbrain.processing.features.InputNormalization
CNN: !new:speechbrain.lobes.models.convolution.ConvolutionFrontEnd
  input_shape: (8, 10, 80)
  num_blocks: 2
  num_layers_per_block: 1
  out_channels: (64, 32)
  kernel_sizes: (3, 3)
  strides: (2, 2)
  residuals: (False, False)
Transformer: !new:speechbrain.lobes.models.transformer.TransformerASR.TransformerASR
  input_size: 640
  tgt_vocab: 11
  d_model: 16
  nhead: 2
  num_encoder_layers: 2
  num_decoder_layers: 0
  d_ffn: 24
  activation: !name:torch.nn.GELU
  encoder_module: conformer
  attention_type: RelPosMHAXL
  normalize_before: True
  causal: False
ctc_lin: !new:speechbrain.nnet.linear.Linear
  input_size: 16
  n_neurons: 11
tokenizer: !new:sentencepiece.SentencePieceProcessor
asr_model: !new:torch.nn.ModuleList
  - [!ref <CNN>, !ref <Transformer>, !ref <ctc_lin>]
pretrainer: !new:speechbrain.utils.parameter_transfer.Pretrainer
  loadables:
    normalizer: !ref <normalizer>
    asr: !ref <asr_model>
    tokenizer: !ref <tokenizer>
"""


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory, corpus):
    """Return a folder as SpeechBrain publishes it, of a model that the unchanged recipe trained."""
    folder = tmp_path_factory.mktemp("asr-conformer")
    run = run_recipe("ctc", tmp_path_factory.mktemp("stock"), corpus, diffs=())
    (checkpoint, *_) = Checkpointer(run / "save").find_checkpoints()
    shutil.copy(checkpoint.paramfiles["model"], folder / "asr.ckpt")
    shutil.copy(checkpoint.paramfiles["normalizer"], folder / "normalizer.ckpt")
    shutil.copy(run / "save/11_char.model", folder / "tokenizer.ckpt")
    (folder / "hyperparams.yaml").write_text(ASR_YAML, "utf-8")
    return folder


def test_retrofit(pretrained, corpus, tmp_path, capsys):
    example = load_example("retrofit")
    options = ["--data-root", str(corpus), "--exit-layers", "1,2", "--epochs", "3", "--lr", "0.02"]
    example.main([str(pretrained), str(corpus / "train.csv"), *options, "--out", str(tmp_path)])
    first, *_, last = map(float, re.findall(r"new exits ([\d.]+)", capsys.readouterr().out))
    assert last < first
    asr, stock = EarlyExitASR.from_hparams(tmp_path, policy=FixedExit()), example.load_pretrained(pretrained)
    for one in stock.values():
        if isinstance(one, torch.nn.Module):
            one.eval()
    wavs = torch.randn(1, 20000)
    with torch.no_grad():
        feats = stock["normalizer"](stock["compute_features"](wavs))
        logits = stock["ctc_lin"](stock["Transformer"].encode(stock["CNN"](feats)))
        states, lengths = asr.mods.encoder(*asr.mods.features(wavs, torch.tensor([20000])))
        output = asr.mods.heads(states, lengths)[-1]
    # the same layers, but attention maps are not kept, and torch chooses other kernels
    torch.testing.assert_close(output.log_probs, logits.log_softmax(-1), atol=1e-4, rtol=1e-4)


def test_retrofit_keeps_an_attention_decoder_at_the_last_exit(pretrained, corpus, tmp_path):
    """The decoder is not trained: only its place matters here."""
    folder = shutil.copytree(pretrained, tmp_path / "asr")
    yaml = ASR_YAML.replace("num_decoder_layers: 0", "num_decoder_layers: 1")
    yaml = yaml.replace("!ref <ctc_lin>]", "!ref <ctc_lin>, !ref <seq_lin>]")
    seq_lin = ASR_YAML[ASR_YAML.index("ctc_lin:") : ASR_YAML.index("tokenizer:")].replace("ctc_lin", "seq_lin")
    (folder / "hyperparams.yaml").write_text(yaml.replace("tokenizer: !new", f"{seq_lin}tokenizer: !new"), "utf-8")
    example = load_example("retrofit")
    torch.save(
        load_hyperpyyaml((folder / "hyperparams.yaml").read_text("utf-8"))["asr_model"].state_dict(),
        folder / "asr.ckpt",
    )
    options = ["--data-root", str(corpus), "--exit-layers", "1,2", "--epochs", "1", "--attention"]
    example.main([str(folder), str(corpus / "dev.csv"), *options, "--out", str(tmp_path / "run")])
    heads, stock = EarlyExitASR.from_hparams(tmp_path / "run").mods.heads, example.load_pretrained(folder)
    assert heads.decoder(0) is None
    states, tokens = torch.randn(1, 9, 16), torch.tensor([[1, 5, 4]])
    with torch.no_grad():
        prediction, _ = stock["Transformer"].eval().decode(tokens, states)
        expected = stock["seq_lin"](prediction).log_softmax(-1)
        torch.testing.assert_close(heads.decoder(1)(tokens, states, torch.tensor([9])), expected)


def test_losses(capsys):
    history = load_example("losses").main(["--steps", "15"])
    assert all(after < 0.8 * before for before, after in zip(history[0], history[-1], strict=True))
    assert len(capsys.readouterr().out.splitlines()) == 3


def test_policies(tmp_path, capsys):
    """The other toolkit's files are made of known utterances; the words of a hypothesis are right or wrong."""
    paths = [tmp_path / "dev.jsonl", tmp_path / "test.jsonl"]
    for seed, path in enumerate(paths):
        rows = []
        for one in many(100, seed=seed):
            exits = []
            for found in one["exits"]:
                wrong = min(10, found["errors"]["S"])
                hypothesis = " ".join(["x"] * wrong + ["w"] * (10 - wrong))
                exits.append({"block": found["layer"], "hyp": hypothesis, "sure": found["scores"]["confidence"]})
            rows.append({"utt": one["id"], "ref": " ".join(["w"] * 10), "exits": exits})
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    example = load_example("policies")
    policy = example.main([*map(str, paths), "--max-wer-increase", "1"])
    utterances = example.read(paths[1])
    taken = replay(policy, utterances)
    assert f"WER {taken.wer:.2f} % at mean layer {taken.mean_layer:.2f}" in capsys.readouterr().out
    assert 2 < taken.mean_layer < 6
    layers = (2, 4, 6)
    for utterance, index in zip(utterances, taken.exit_indices, strict=True):
        sure = [one["scores"]["confidence"] for one in utterance["exits"]]
        assert example.decide(policy, sure, layers) == layers[index]
