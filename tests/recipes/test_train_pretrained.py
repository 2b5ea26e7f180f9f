# SPDX-License-Identifier: Apache-2.0
"""train.py with the yamls of pretrained encoders and tiny sources: all training methods."""

import json
import re
import signal
from functools import partial

import pytest
import torch
from recipes.processes import train_on_two
from recipes.test_train import assert_same_training
from recipes.tiny import SAVING_OFTEN, arguments, command, curve, train
from safetensors.torch import load_file, save_file

from recipes import tiny
from speechbrain_ee.lobes.pretrained.sources import pretrained_source

SHAPE = dict.fromkeys(("n_mels", "d_model", "nhead", "d_ffn", "kernel_size", "channels"))  # not in these yamls
UNFREEZING = {"freeze": "encoder", "unfreeze": "[[8, 2], [16, nothing]]"}


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return tiny.write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources")
    families = ("wav2vec2", "hubert", "wavlm", "whisper")
    return {one: pretrained_source(source=None, family=one, folder=str(folder / one)) for one in families}


def options(sources, family="whisper", **more):
    return {"yaml": f"{family}_ee", "source": sources[family], **SHAPE, **more}


def run_of(corpus, run, **options):
    ended = train(arguments(corpus, run, **options), run / "output")
    assert ended.status == 0, ended.stderr
    return run


@pytest.fixture(scope="module")
def gradual(corpus, sources, tmp_path_factory):
    run = tmp_path_factory.mktemp("runs") / "whisper"
    return run_of(corpus, run, **options(sources, **UNFREEZING, ckpt_interval_steps=2))


@pytest.mark.parametrize("family", ["wav2vec2", "hubert", "wavlm"])
def test_a_run_trains_evaluates_and_transcribes_without_its_source(corpus, sources, tmp_path, family):
    run = run_of(corpus, tmp_path / "run", **options(sources, family, number_of_epochs=1, warmup_steps=1))
    config = json.loads((run / "config.json").read_text("utf-8"))
    assert sources[family] not in json.dumps(config)
    ended = command(tmp_path, "transcribe", "--model", run, corpus / "test00.wav", "--full")
    assert ended.status == 0, ended.stderr


def test_law_7_whisper_killed_and_resumed_while_layers_are_freed(corpus, sources, gradual, tmp_path):
    run = tmp_path / "run"
    argv = arguments(corpus, run, **options(sources, **UNFREEZING), **SAVING_OFTEN)
    assert train(argv, tmp_path, partial(tiny.kill_at, 2, 5)).status == -signal.SIGKILL
    ended = train(argv, tmp_path)
    assert ended.status == 0, ended.stderr
    assert_same_training(run, gradual)


def weights_of(run):
    return load_file(run / "model.safetensors")


def test_two_learning_rates_and_what_is_frozen(corpus, sources, tmp_path):
    once = {"number_of_epochs": 1, "warmup_steps": 1, "average_checkpoints": 1}
    runs = {
        what: weights_of(run_of(corpus, tmp_path / what, **options(sources, **once, freeze=freeze)))
        for what, freeze in (("front", "front_end"), ("two", 2), ("all", "encoder"))
    }
    first = load_file(f"{sources['whisper']}/model.safetensors")
    for name, before in first.items():
        if (
            not name.startswith("encoder.")
            or "embed_positions" in name
            or ".layers." in name
            and int(name.split(".")[2]) > 2
        ):
            continue
        own = name.replace("encoder.", "encoder.backbone.", 1)
        layer = int(name.split(".")[2]) + 1 if ".layers." in name else 9 if "layer_norm" in name else 0
        for what, frozen in (("front", 0), ("two", 2), ("all", 9)):
            moved = not torch.equal(runs[what][own], before)
            assert moved == (layer > frozen), f"{what}: {name}"


def test_retrofit_on_cached_states_is_retrofit_on_audio(corpus, sources, tmp_path):
    plain = options(sources, freeze="encoder", time_masks=0, freq_masks=0)
    cached = options(sources, freeze="encoder", state_cache=tmp_path / "states")
    runs = [run_of(corpus, tmp_path / str(number), **one) for number, one in enumerate((plain, cached, cached))]
    losses = [[float(re.search("train loss: ([0-9.]+)", line)[1]) for line in curve(run)] for run in runs]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3)  # half precision keeps eleven bits
    assert losses[1] == losses[2]
    assert len(list((tmp_path / "states").glob("*.f16"))) == 2, "train and dev, used twice"
    before, after = load_file(f"{sources['whisper']}/model.safetensors"), weights_of(runs[1])
    assert torch.equal(after["encoder.backbone.conv1.weight"], before["encoder.conv1.weight"])


def test_a_cache_of_an_encoder_that_is_trained_is_refused(corpus, sources, tmp_path):
    argv = arguments(corpus, tmp_path / "run", **options(sources, state_cache=tmp_path / "states"))
    ended = train(argv, tmp_path)
    assert ended.status == 1
    assert ended.error_lines[-1].endswith("give --freeze encoder and no --unfreeze")


def test_two_stages_keep_the_body_and_the_last_head(corpus, sources, tmp_path):
    first = run_of(corpus, tmp_path / "last", **options(sources, exit_weights="[0, 0, 1]"))
    stage2 = options(
        sources,
        init_from=first,
        freeze="encoder",
        exit_weights="[1, 1, 0]",
        select="mean",
        state_cache=tmp_path / "states",
        tokenizer_file=first / "save" / "tokenizer.model",
    )
    second = run_of(corpus, tmp_path / "stage2", **stage2, number_of_epochs=1)
    before, after = weights_of(first), weights_of(second)
    for name, value in before.items():
        moved = name.startswith(("heads.heads.0.", "heads.heads.1."))
        assert torch.equal(value, after[name]) != moved, name

    save_file({name: value + 1 for name, value in before.items()}, first / "model.safetensors")  # as if trained on
    run_of(corpus, second, **stage2, number_of_epochs=2)
    assert len(list((tmp_path / "states").glob("*.f16"))) == 2, "states of the encoder at the start of stage 2"
    assert torch.equal(weights_of(second)["encoder.backbone.conv1.weight"], before["encoder.backbone.conv1.weight"])


def test_a_finished_run_gets_a_share_of_what_it_began_with(corpus, sources, gradual, tmp_path):
    begun = {"init_from": gradual, "tokenizer_file": gradual / "save" / "tokenizer.model", "number_of_epochs": 1}
    begun |= options(sources, warmup_steps=1, lr=1e-2)
    run = run_of(corpus, tmp_path / "run", **begun)
    before, trained = weights_of(gradual), weights_of(run)
    mixed = weights_of(run_of(corpus, run, **begun, init_share=0.25))
    assert any(not torch.equal(before[name], trained[name]) for name in before)
    for name, value in mixed.items():
        torch.testing.assert_close(value, 0.75 * trained[name] + 0.25 * before[name])
    assert len(curve(run)) == 1, "nothing is trained again"
    ended = train(arguments(corpus, tmp_path / "new", **begun | {"head_kind": "mlp"}, init_share=0.25), tmp_path)
    assert ended.status == 1
    assert "which has no matching heads at the layers [" in ended.error_lines[-1]


@pytest.mark.parametrize(
    ("share", "message"), [(0.5, "needs the weights of init_from: give --init_from"), (1, "give a number in [0, 1)")]
)
def test_a_share_of_nothing_is_refused(corpus, sources, tmp_path, share, message):
    ended = train(arguments(corpus, tmp_path / "run", **options(sources, init_share=share)), tmp_path)
    assert ended.status == 1
    assert message in ended.error_lines[-1]


def test_distillation_and_downsampling_run(corpus, sources, tmp_path):
    more = {"distillation": 0.5, "downsample": 2, "head_kind": "blstm", "number_of_epochs": 1, "warmup_steps": 1}
    run = run_of(corpus, tmp_path / "run", **options(sources, **more))
    config = json.loads((run / "config.json").read_text("utf-8"))
    assert config["features"]["downsample"] == 2 and config["heads"]["kind"] == "blstm"


@pytest.mark.parametrize("family", ["wavlm", "whisper"])
def test_two_processes_train_while_layers_are_freed(corpus, sources, tmp_path, family):
    run = tmp_path / "run"
    freeing = {"freeze": "encoder", "unfreeze": "[[2, 2], [4, nothing]]", "warmup_steps": 1}
    one, other = train_on_two(corpus, run, **options(sources, family, **freeing))
    assert one["weights"] == other["weights"]


def test_a_source_that_does_not_fit_is_one_line(corpus, sources, tmp_path):
    argv = arguments(corpus, tmp_path / "run", **options(sources) | {"source": sources["wavlm"]})
    ended = train(argv, tmp_path)
    assert ended.status == 1
    assert len(ended.error_lines) == 1
    assert "was trained on features of Wav2Vec2FeatureExtractor" in ended.error_lines[0]
