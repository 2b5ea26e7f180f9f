# SPDX-License-Identifier: Apache-2.0
"""Unusable model folders are refused; law 8 in test_laws.py tests that good ones load."""

import json
import resource
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from unit.models import FAMILIES, make_asr

from speechbrain_ee.model.folder import (
    PARTS,
    ModelError,
    _planned,
    build,
    load_config,
    load_model,
    save_model,
    to_config,
)

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0123\nsize 6401960\n"


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
    assert to_config(build(config)) == {name: config[name] for name in ("features", "encoder", "heads")}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object but list"),
        ("[" * 200_000, "not JSON: nested too deeply"),
        ('{"format": 1, "blank_index": NaN}', "not JSON: NaN is not a JSON number"),
        (
            '{"format": 1, "blank_index": 0, "card": "' + "x" * 2**21 + '"}',
            "it has 2 MB, but a configuration has at most 1",
        ),
        (POINTER, "is a pointer of Git LFS, not the file itself: run git lfs pull"),
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
    assert "give a run folder of train.py or a model folder" in refusal(load_config, tmp_path / "none" / "config.json")
    config = load_config(folder / "config.json")
    assert "the model folder is incomplete" in refusal(load_model, config, folder / "none.safetensors")


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("encoder", {"class": "os.system"}, "names the class 'os.system' for 'encoder': choose from Conformer"),
        ("encoder", {"class": "CTCHeads"}, "names the class 'CTCHeads' for 'encoder'"),
        ("encoder", {"class": ["LogMel"]}, "names the class ['LogMel'] for 'encoder'"),
        ("encoder", {"__init__": 1}, "encoder cannot be built"),
        ("encoder", {"stranger": "!apply:os.system"}, "unexpected keyword argument 'stranger'"),
        ("encoder", {"exit_layers": 4}, "encoder cannot be built: exit_layers is 4: it must be list[int]"),
        ("encoder", {"exit_layers": [1, 2.0, 4]}, "exit_layers is [1, 2.0, 4]: it must be list[int]"),
        ("encoder", {"exit_layers": [[1], 2, 4]}, "it must be list[int]"),
        ("encoder", {"exit_layers": ["x" * 10_000]}, "xxx...: it must be list[int]"),
        ("encoder", {"exit_layers": [1, 2]}, "do not end at the full encoder"),
        ("encoder", {"exit_layers": list(range(1, 100_000))}, "leave the encoder"),
        ("encoder", {"nhead": 0}, "encoder cannot be built"),
        ("encoder", {"nhead": 2.0}, "nhead is 2.0: it must be int"),
        ("encoder", {"d_model": -16}, "d_model is -16: it must be from 0 to 1000000000"),
        ("encoder", {"d_model": True}, "d_model is True: it must be int"),
        ("encoder", {"d_model": 10**30}, "it must be from 0 to 1000000000"),
        ("encoder", {"dropout": 1e999}, "dropout is inf: it must be finite"),
        ("encoder", {"attention_type": {}}, "attention_type is {}: it must be str"),
        ("features", {"n_mels": None}, "features cannot be built: n_mels is None: it must be int"),
        ("features", {"n_mels": 1_000_000}, "n_mels is 1000000: it must be above 0 and at most 1024"),
        ("features", {"n_fft": 10**9}, "n_fft is 1000000000: it must be above 0 and at most 16384"),
        ("features", {"sample_rate": 10**9}, "sample_rate is 1000000000: it must be above 0 and at most 400000"),
        ("features", {"hop_length_ms": 1e-9}, "hop_length_ms=1e-09 is less than a sample"),
        (None, {"heads": None}, "has no 'heads'"),
        (None, {"heads": "CTCHeads"}, "has no 'heads'"),
    ],
)
def test_what_cannot_be_built_is_refused_by_part(folder, part, values, message):
    assert message in refusal(build, changed(folder, part, **values))


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("encoder", {"num_layers": 100_000, "exit_layers": [1, 2, 100_000]}, "it has 100000 layers and 3 exits"),
        ("heads", {"num_exits": 10**6}, "it has 4 layers and 1000000 exits, but the weights have"),
        ("encoder", {"channels": [4] * 10_000}, "the two files are not of one model"),
        ("encoder", {"d_model": 10**6, "nhead": 2}, "in another shape"),
        ("encoder", {"d_ffn": 10**9}, "in another shape"),
        ("encoder", {"max_length": 10**9}, "positional_encoding.pe (1, 2500, 16) instead of (1, 1000000000, 16)"),
        ("encoder", {"kernel_size": 10**7 + 1}, "in another shape"),
        ("encoder", {"channels": [10**6, 10**6]}, "in another shape"),
        ("heads", {"vocab_size": 10**9}, "heads.heads.0.1.weight (12, 16) instead of (1000000000, 16)"),
        ("heads", {"kind": "blstm", "hidden_size": 10**6}, "lacks"),
    ],
)
def test_sizes_that_the_weights_do_not_have_are_refused_before_anything_is_allocated(folder, part, values, message):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert message in refusal(load_model, changed(folder, part, **values), folder / "model.safetensors")
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 50 * 1024  # kB


def test_sizes_of_a_pretrained_shape_are_refused_too(tmp_path):
    asr = make_asr(tmp_path, "wav2vec2")
    save_model(tmp_path / "model", asr.mods, tokenizer=tmp_path / "tokenizer.model")
    backbone = json.loads((tmp_path / "model" / "config.json").read_text())["encoder"]["backbone"]
    for settings, message in (
        ({"intermediate_size": 10**8}, "in another shape"),
        ({"conv_dim": [6] * 100_000}, "the two files are not of one model"),
        ({"conv_stride": [0] * 7}, "30 s of audio are 0 encoder frames, but at most 1000 per second"),
        ({"conv_stride": [1] * 7}, "30 s of audio are 479981 encoder frames"),
        ({"hidden_size": -8}, "backbone is -8: it must be from 0"),
    ):
        config = changed(tmp_path / "model", "encoder", backbone=backbone | settings)
        assert message in refusal(load_model, config, tmp_path / "model" / "model.safetensors")


@pytest.mark.parametrize("family", sorted(FAMILIES))
def test_the_planned_state_is_the_state(tmp_path, family):
    asr = make_asr(tmp_path, family)
    state = torch.nn.ModuleDict({name: asr.mods[name] for name in PARTS}).state_dict()
    planned = _planned(to_config({name: asr.mods[name] for name in PARTS}), num_tensors=len(state))
    assert {name: value.shape for name, value in planned.items()} == {name: v.shape for name, v in state.items()}
    assert {str(value.device) for name, value in planned.items() if not name.startswith("features")} == {"meta"}


@pytest.mark.skipif(torch.__version__ < "2.13", reason="older releases of torch import sympy themselves")
def test_planning_takes_no_seconds():
    code = """
import sys
from speechbrain_ee.lobes import ConformerExitEncoder
from speechbrain_ee.model.checks import ShapesOnly
with ShapesOnly():
    ConformerExitEncoder(n_mels=8, num_layers=2, exit_layers=[1, 2], d_model=8, nhead=2, d_ffn=8)
print("sympy" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "False", "torch's library for symbolic mathematics was imported: " + done.stderr


def test_keys_of_a_later_version_beside_the_parts_are_ignored(folder):
    config = changed(folder, None, card={"license": "apache-2.0"})
    assert load_model(config, folder / "model.safetensors")["heads"].num_exits == 3


def rebuilt(folder, config):
    """Weights that fit the configuration, so that only the check of the parts can fail."""
    save_file(build(config).state_dict(), folder / "other.safetensors")
    return refusal(load_model, config, folder / "other.safetensors")


@pytest.mark.parametrize(
    ("part", "values", "message"),
    [
        ("features", {"n_mels": 24}, "frame sizes of features and encoder are 24 and 20"),
        ("heads", {"num_exits": 2}, "numbers of exits of encoder and heads are 3 and 2"),
        ("heads", {"d_model": 8}, "d_model of encoder and heads are 16 and 8"),
    ],
)
def test_parts_of_different_models_are_refused(folder, part, values, message):
    assert message in rebuilt(folder, changed(folder, part, **values))


def test_broken_weights_are_refused(folder):
    config, path = load_config(folder / "config.json"), folder / "model.safetensors"
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    header["heads.heads.0.1.bias"]["data_offsets"] = [0, 2**40]
    lying = json.dumps(header).encode()
    for broken in (
        b"",
        b"not safetensors at all",
        content[: len(content) // 2],
        (2**60).to_bytes(8, "little") + content[8:],
        len(lying).to_bytes(8, "little") + lying + content[8 + size :],
        b"\0" * len(content),
    ):
        path.write_bytes(broken)
        assert "not a safetensors file" in refusal(load_model, config, path)
    path.write_text(POINTER)
    assert "model.safetensors: it is a pointer of Git LFS" in refusal(load_model, config, path)


@pytest.mark.parametrize(("kind", "message"), [(torch.int64, "in another type"), (torch.float8_e4m3fn, "of type F8")])
def test_weights_of_a_type_that_no_weight_has_are_refused(folder, kind, message):
    path = folder / "model.safetensors"
    state = load_file(path)
    state["heads.heads.1.1.weight"] = state["heads.heads.1.1.weight"].to(kind)
    save_file(state, path)
    assert message in refusal(load_model, load_config(folder / "config.json"), path)


def test_half_precision_is_taken(folder):
    path = folder / "model.safetensors"
    save_file({name: value.half() for name, value in load_file(path).items()}, path)
    modules = load_model(load_config(folder / "config.json"), path)
    assert {value.dtype for value in modules.parameters()} == {torch.float32}


def test_folders_links_and_no_permission_are_refused_by_name(folder, tmp_path):
    (tmp_path / "loop.json").symlink_to(tmp_path / "loop.json")
    (tmp_path / "folder.json").mkdir()
    for name in ("loop.json", "folder.json"):
        assert name in refusal(load_config, tmp_path / name)
        assert name in refusal(load_model, load_config(folder / "config.json"), tmp_path / name)


def test_weights_of_another_shape_are_refused_by_name(folder):
    path = folder / "model.safetensors"
    state = load_file(path)
    state["heads.heads.1.1.weight"] = torch.zeros(3, 16)
    save_file(state, path)
    message = refusal(load_model, load_config(folder / "config.json"), path)
    assert "heads.heads.1.1.weight (3, 16) instead of (12, 16)" in message
