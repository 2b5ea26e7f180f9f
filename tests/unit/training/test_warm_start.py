# SPDX-License-Identifier: Apache-2.0
"""Starting from another run: its body, and the heads of the exit layers that both have."""

import pytest
import torch
from unit.models import make_asr, make_encoder, make_features, make_heads

from speechbrain_ee.errors import CheckpointError
from speechbrain_ee.lobes import LogMel
from speechbrain_ee.model.folder import ModelError, save_model
from speechbrain_ee.training.warm_start import warm_start


@pytest.fixture
def trained(tmp_path):
    """A model folder with exits at 1, 2, 4."""
    asr = make_asr(tmp_path)
    save_model(tmp_path / "model", asr.mods, tokenizer=tmp_path / "tokenizer.model")
    return asr, tmp_path / "model"


def fresh(vocab_size, exit_layers=(2, 3, 4), **arguments):
    heads = make_heads(len(exit_layers), vocab_size, **arguments)
    encoder = make_encoder("conformer", exit_layers=list(exit_layers), seed=9)
    return {"features": make_features("conformer"), "encoder": encoder, "heads": heads}


def test_body_and_common_heads_are_taken_over(tmp_path, trained):
    asr, folder = trained
    asr.mods.features.mean += 1
    save_model(folder, asr.mods, tokenizer=tmp_path / "tokenizer.model")
    modules = fresh(asr.hparams.tokenizer.vocab_size)
    new_head = modules["heads"].heads[1][-1].weight.clone()
    assert warm_start(modules, folder, tokenizer_file=tmp_path / "tokenizer.model") == [2, 4]
    assert torch.equal(modules["features"].mean, asr.mods.features.mean)
    for name, value in asr.mods.encoder.state_dict().items():
        assert torch.equal(modules["encoder"].state_dict()[name], value)
    for own, theirs in ((0, 1), (2, 2)):
        assert torch.equal(modules["heads"].heads[own][-1].weight, asr.mods.heads.heads[theirs][-1].weight)
    assert torch.equal(modules["heads"].heads[1][-1].weight, new_head)


def test_heads_of_another_kind_or_of_other_tokens_begin_anew(tmp_path, trained):
    asr, folder = trained
    size = asr.hparams.tokenizer.vocab_size
    assert warm_start(fresh(size, kind="mlp"), folder, tokenizer_file=tmp_path / "tokenizer.model") == []
    other = tmp_path / "other.model"
    other.write_bytes(b"others")
    assert warm_start(fresh(size), folder, tokenizer_file=other) == []


@pytest.mark.parametrize(
    ("part", "module", "message"),
    [
        ("encoder", lambda: make_encoder("conformer", d_ffn=32), "the encoder of .*d_ffn was 24 and is 32"),
        ("encoder", lambda: make_encoder("conformer", nhead=4), "nhead was 2 and is 4"),  # of the same shape
        ("encoder", lambda: make_encoder("transformer"), "class was 'ConformerExitEncoder'"),
        ("features", lambda: LogMel(n_mels=20, hop_length_ms=20), "the features of .*hop_length_ms was 10 and is 20"),
    ],
)
def test_other_settings_are_refused(tmp_path, trained, part, module, message):
    asr, folder = trained
    modules = fresh(asr.hparams.tokenizer.vocab_size) | {part: module()}
    with pytest.raises(ModelError, match=message):
        warm_start(modules, folder, tokenizer_file=tmp_path / "tokenizer.model")


def test_an_encoder_of_fewer_layers_is_refused_by_the_weights(tmp_path, trained):
    asr, folder = trained
    modules = {
        "features": make_features("conformer"),
        "encoder": make_encoder("conformer", num_layers=2, exit_layers=[2]),
        "heads": make_heads(1, asr.hparams.tokenizer.vocab_size),
    }
    with pytest.raises(CheckpointError, match="has in excess"):
        warm_start(modules, folder, tokenizer_file=tmp_path / "tokenizer.model")


def test_dropout_may_differ(tmp_path, trained):
    asr, folder = trained
    modules = fresh(asr.hparams.tokenizer.vocab_size) | {"encoder": make_encoder("conformer", dropout=0.3)}
    modules["heads"] = make_heads(3, asr.hparams.tokenizer.vocab_size)
    assert warm_start(modules, folder, tokenizer_file=tmp_path / "tokenizer.model") == [1, 2, 4]


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match="file not found"):
        warm_start(fresh(12), tmp_path / "nothing", tokenizer_file=tmp_path / "tokenizer.model")
