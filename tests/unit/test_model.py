# SPDX-License-Identifier: Apache-2.0
"""Model folders that cannot be used; that good ones load is law 8 in test_laws.py."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from unit.models import make_asr

from speechbrain_ee.model import ModelError, build, describe, load_config, load_model, save_model


@pytest.fixture
def folder(tmp_path):
    asr = make_asr(tmp_path)
    save_model(tmp_path / "model", asr.mods, tokenizer=tmp_path / "tokenizer.model")
    return tmp_path / "model"


def refusal(call, *arguments):
    with pytest.raises(ModelError) as raised:
        call(*arguments)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def changed(folder, part, **values):
    config = json.loads((folder / "config.json").read_text())
    if part is None:
        config |= values
    else:
        config[part] |= values
    return config


def test_folder_holds_three_files_and_nothing_half_written(folder):
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "model.safetensors", "tokenizer.model"]


def test_saving_again_replaces_and_keeps_a_tokenizer_that_is_there(folder, tmp_path):
    modules = load_model(load_config(folder / "config.json"), folder / "model.safetensors")
    tokenizer = (folder / "tokenizer.model").read_bytes()
    modules["features"].mean += 2.0
    save_model(folder, modules, tokenizer=folder / "tokenizer.model")
    again = load_model(load_config(folder / "config.json"), folder / "model.safetensors")
    assert torch.equal(again["features"].mean, modules["features"].mean)
    assert (folder / "tokenizer.model").read_bytes() == tokenizer


def test_described_parts_build_again(folder):
    config = load_config(folder / "config.json")
    assert describe(build(config)) == {name: config[name] for name in ("features", "encoder", "heads")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "format 'list' is not 1"),
        ("{}", "format None is not 1"),
        ('{"format": 2}', "format 2 is not 1"),
        ('{"format": 1}', "blank_index is None, and the tokenizer's blank is 0"),
        ('{"format": 1, "blank_index": "0"}', "blank_index is '0', and the tokenizer's blank is 0"),
        ('{"format": 1, "blank_index": 5}', "blank_index is 5, and the tokenizer's blank is 0"),
        ('{"format": 1, "blank_index": -1}', "blank_index is -1, and"),
        (b"\xff\xfe", "not JSON"),
    ],
)
def test_broken_config_is_refused(tmp_path, text, message):
    path = tmp_path / "config.json"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    assert message in refusal(load_config, path)


def test_missing_files_are_refused(folder, tmp_path):
    assert "give a run folder of train.py or a bundle" in refusal(load_config, tmp_path / "none" / "config.json")
    config = load_config(folder / "config.json")
    assert "the model folder is not complete" in refusal(load_model, config, folder / "none.safetensors")


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("encoder", {"class": "os.system"}, "names the class 'os.system' for 'encoder': known are Conformer"),
        ("encoder", {"class": "CTCHeads"}, "names the class 'CTCHeads' for 'encoder'"),
        ("encoder", {"class": ["LogMel"]}, "names the class ['LogMel'] for 'encoder'"),
        ("encoder", {"__init__": 1}, "encoder cannot be built"),
        ("encoder", {"stranger": "!apply:os.system"}, "unexpected keyword argument 'stranger'"),
        ("encoder", {"exit_layers": 4}, "encoder cannot be built"),
        ("encoder", {"exit_layers": [1, 2]}, "do not end at the full encoder"),
        ("encoder", {"nhead": 0}, "encoder cannot be built"),
        ("encoder", {"d_model": -16}, "encoder cannot be built"),
        ("features", {"n_mels": None}, "features cannot be built"),
        (None, {"heads": None}, "describes no 'heads'"),
        (None, {"heads": "CTCHeads"}, "describes no 'heads'"),
    ],
)
def test_what_cannot_be_built_is_refused_by_part(folder, part, values, message):
    assert message in refusal(build, changed(folder, part, **values))


def test_keys_of_a_later_version_beside_the_parts_are_ignored(folder):
    config = changed(folder, None, card={"license": "apache-2.0"})
    assert load_model(config, folder / "model.safetensors")["heads"].num_exits == 3


def rebuilt(folder, config):
    """Weights that fit the config, so that only the parts' fit is left to refuse."""
    save_file(build(config).state_dict(), folder / "other.safetensors")
    return refusal(load_model, config, folder / "other.safetensors")


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("features", {"n_mels": 24}, "numbers in a frame of features and encoder are 24 and 20"),
        ("heads", {"num_exits": 2}, "exits of encoder and heads are 3 and 2"),
        ("heads", {"d_model": 8}, "d_model of encoder and heads are 16 and 8"),
    ],
)
def test_parts_of_different_models_are_refused(folder, part, values, message):
    assert message in rebuilt(folder, changed(folder, part, **values))


def test_broken_weights_are_refused(folder):
    config, path = load_config(folder / "config.json"), folder / "model.safetensors"
    content = path.read_bytes()
    for broken in (b"", b"not safetensors at all", content[: len(content) // 2]):
        path.write_bytes(broken)
        assert "not a safetensors file" in refusal(load_model, config, path)


def test_weights_of_another_shape_are_refused_by_name(folder):
    path = folder / "model.safetensors"
    state = load_file(path)
    state["heads.heads.1.1.weight"] = torch.zeros(3, 16)
    save_file(state, path)
    message = refusal(load_model, load_config(folder / "config.json"), path)
    assert "heads.heads.1.1.weight (3, 16) instead of (12, 16)" in message
