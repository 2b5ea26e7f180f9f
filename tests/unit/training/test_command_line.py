# SPDX-License-Identifier: Apache-2.0
"""The command line of train.py: every kind of value, and one line for what cannot be meant."""

import pytest
from speechbrain.utils.run_opts import RunOptions

from speechbrain_ee.training.command_line import log_config, parse_arguments
from speechbrain_ee.training.hparams import load_hparams
from speechbrain_ee.training.settings import read_setting

YAML = """precision: fp32
max_grad_norm: 5.0
ckpt_interval_minutes: 15
lr: 0.1
layers: 3
shared: True
exit_layers: [1, 2]
speeds: [1.0]
unfreeze: []
exit_weights: depth
freeze: nothing
alphabet: abc
head_size: null
init_from: null
output_folder: results
tokenizer_file: !ref <output_folder>/tokenizer.model
prepare: !name:builtins.print
loss: !name:builtins.dict
  distillation: 0.0
valid_decoder: !name:builtins.dict
options:
  size: 1
masks:
  - !name:builtins.dict
    size: 1
test_manifests:
  - !ref <output_folder>/test.jsonl
"""


@pytest.fixture
def parse(tmp_path):
    (tmp_path / "a.yaml").write_text(YAML)
    return lambda *words: parse_arguments([str(tmp_path / "a.yaml"), *words])


def refused(parse, *words):
    with pytest.raises(ValueError) as caught:
        parse(*words)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_run_options_that_the_yaml_names_become_settings(parse):
    options = [
        "--precision",
        "bf16",
        "--max_grad_norm=1",
        "--lr",
        "0.2",
        "--device",
        "cpu",
        "--debug",
        "--noprogressbar",
    ]
    file, run_opts, settings = parse(*options)
    assert (run_opts.device, run_opts.debug, run_opts.noprogressbar, run_opts.param_file) == ("cpu", True, True, file)
    assert settings == {"precision": "bf16", "max_grad_norm": 1.0, "lr": 0.2}
    assert load_hparams(file, settings)["lr"] == 0.2


def test_the_yaml_may_follow_run_options(tmp_path):
    (tmp_path / "a.yaml").write_text("lr: 1")
    words = ["--device", "cpu", "--debug", str(tmp_path / "a.yaml"), "--lr", "2"]
    path, run_opts, settings = parse_arguments(words)
    assert (path, run_opts.device, run_opts.debug, settings) == (str(tmp_path / "a.yaml"), "cpu", True, {"lr": 2})


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["--optimizer_step_limit", "3"], "optimizer_step_limit", 3),
        (["--eval_precision=bf16"], "eval_precision", "bf16"),
        (["--debug=True"], "debug", True),
        (["--debug=false"], "debug", False),
        (["--compile_module_keys", "encoder", "heads"], "compile_module_keys", ["encoder", "heads"]),
        (["--max_grad_norm", "-1"], "max_grad_norm", -1.0),
    ],
)
def test_run_options_have_their_type(parse, words, name, value):
    _, run_opts, _ = parse(*words)
    assert run_opts[name] == value and type(run_opts[name]) is type(value)
    assert name in run_opts.overridden_args


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--optimizer_step_limit", "x"], "--optimizer_step_limit x: give a whole number"),
        (["--optimizer_step_limit", "0"], "--optimizer_step_limit 0: give 1 or more"),
        (["--optimizer_step_limit", "1.5"], "--optimizer_step_limit 1.5: give a whole number"),
        (["--optimizer_step_limit"], "--optimizer_step_limit needs a value"),
        (["--grad_accumulation_factor", "0"], "--grad_accumulation_factor 0: give 1 or more"),
        (["--max_grad_norm", "nan"], "--max_grad_norm nan: give a number"),
        (["--precision", "half"], "--precision half: choose from fp32, fp16, bf16"),
        (["--compile_mode", "fast"], "--compile_mode fast: choose from default, reduce-overhead, max-autotune"),
        (["--distributed_backend", "x"], "--distributed_backend x: choose from nccl, gloo, mpi"),
        (["--debug", "True"], "'True' belongs to no option"),
        (["--debug=2"], "--debug=2: it is a flag, give --debug alone"),
        (["--device", "--debug"], "--device needs a value: The device to run the experiment on"),
        (["--skip_nonfinite_grads"], "--skip_nonfinite_grads is not supported"),
        (["--nonfinite_patience", "4"], "--nonfinite_patience is not supported"),
        (["b.yaml"], "'b.yaml' belongs to no option"),
        (["--lr", "1", "--lr", "2"], "--lr is given twice"),
        (["--lrr", "1"], "--lrr is neither a key of"),
        (["--exit_layer", "1"], "do you mean --exit_layers?"),
        (["--test", "1"], "--test is neither a key of"),  # no beginning of an option is the option
    ],
)
def test_calls_that_cannot_be_meant(parse, words, message):
    assert message in refused(parse, *words)


def test_a_call_without_a_yaml_or_with_none():
    with pytest.raises(ValueError, match="the first argument must be a yaml"):
        parse_arguments([])
    with pytest.raises(FileNotFoundError):
        parse_arguments(["none.yaml"])


@pytest.mark.parametrize(
    ("text", "message"), [("a: [1", "is not valid YAML"), ("- 1", "is not a mapping of settings"), ("", "settings")]
)
def test_a_file_that_is_no_yaml_of_settings(tmp_path, text, message):
    (tmp_path / "a.yaml").write_text(text)
    with pytest.raises(ValueError, match=message):
        parse_arguments([str(tmp_path / "a.yaml")])
    with pytest.raises(ValueError, match=message):
        log_config(RunOptions(log_config=str(tmp_path / "a.yaml")))


def test_a_log_config_must_be_there(tmp_path):
    with pytest.raises(ValueError, match="--log_config .*none.yaml does not exist"):
        log_config(RunOptions(log_config=str(tmp_path / "none.yaml")))
    (tmp_path / "log.yaml").write_text("version: 1")
    assert log_config(RunOptions(log_config=str(tmp_path / "log.yaml"))) == {"log_config": str(tmp_path / "log.yaml")}


NAMES = "1e5|null|yes|~|a: b|[x]|{a}|2024-01-01|*x|&x|!x|'q'|\"q\"|x | x|my run #1|(1, 2)|a=b|- x|@x|1:30|0x1F"
NAMES = NAMES.split("|")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("option", ["output_folder", "tokenizer_file", "init_from"])
def test_a_path_is_what_it_is_whatever_it_means_in_yaml(parse, option, name):
    path, _, settings = parse(f"--{option}", name)
    expected = None if (option, name) == ("init_from", "null") else name
    assert settings == {option: expected}
    assert load_hparams(path, settings)[option] == expected
    if option == "output_folder":
        hparams = load_hparams(path, settings)
        assert hparams["tokenizer_file"] == f"{name}/tokenizer.model"
        assert hparams["test_manifests"] == [f"{name}/test.jsonl"]


@pytest.mark.parametrize("name", ["?", "1/0", "3*2"])
def test_a_path_that_hyperpyyaml_would_misread_is_the_same_path(parse, name):
    path, _, settings = parse("--output_folder", name)
    hparams = load_hparams(path, settings)
    assert hparams["output_folder"] == f"./{name}"
    assert hparams["test_manifests"] == [f"./{name}/test.jsonl"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty: give a path"),
        (" ", "is empty"),
        ("a<lr>b", "would be read as a reference to a setting"),
        ("a\udce9", "is not UTF-8"),
    ],
)
def test_a_path_that_cannot_be(parse, text, message):
    assert message in refused(parse, "--output_folder", text)


@pytest.mark.parametrize("text", ["0123", "", "abc #", "null", "''"])
def test_an_alphabet_is_its_letters(parse, text):
    path, _, settings = parse("--alphabet", text)
    assert load_hparams(path, settings)["alphabet"] == text


@pytest.mark.parametrize(
    ("words", "items"),
    [
        (["a.jsonl"], ["a.jsonl"]),
        (["a.jsonl", "b.jsonl"], ["a.jsonl", "b.jsonl"]),
        (["a.jsonl,b.jsonl"], ["a.jsonl", "b.jsonl"]),
        (["a.jsonl, b.jsonl"], ["a.jsonl", "b.jsonl"]),
        (["a.jsonl b.jsonl"], ["a.jsonl", "b.jsonl"]),
        (["[a.jsonl, b.jsonl]"], ["a.jsonl", "b.jsonl"]),
        (["[a.jsonl,", "b.jsonl]"], ["a.jsonl", "b.jsonl"]),
        (["[a.jsonl]"], ["a.jsonl"]),
        (["2024"], ["2024"]),
        (["[2024, ~, yes, 1e5]"], ["2024", "~", "yes", "1e5"]),
        (['["a #1.jsonl", b]'], ["a #1.jsonl", "b"]),
        (["a #1.jsonl"], ["a", "#1.jsonl"]),
        (["is there.jsonl", "b"], ["is there.jsonl", "b"]),
        (["with,comma.jsonl"], ["with,comma.jsonl"]),
        (["a,is there.jsonl"], ["a", "is there.jsonl"]),
        (["a.jsonl,", "b.jsonl"], ["a.jsonl", "b.jsonl"]),
        (["a.jsonl,"], ["a.jsonl"]),
        (["a.jsonl", ",", "", "b.jsonl"], ["a.jsonl", "b.jsonl"]),
        (["[a.jsonl, ]"], ["a.jsonl"]),
        (["[]"], []),
    ],
)
def test_a_list_of_paths(parse, tmp_path, monkeypatch, words, items):
    monkeypatch.chdir(tmp_path)
    for name in ("is there.jsonl", "with,comma.jsonl"):
        (tmp_path / name).touch()
    path, _, settings = parse("--test_manifests", *words)
    assert settings == {"test_manifests": items}
    assert load_hparams(path, settings)["test_manifests"] == items


@pytest.mark.parametrize("words", [["3"], ["1,2"], ["1", "2"], ["1 2"], ["[1, 2]"], ["1, 2"], ["[1,", "2]"], ["1.0 2"]])
@pytest.mark.parametrize("option", ["exit_layers", "speeds", "unfreeze"])
def test_a_list_of_numbers(parse, option, words):
    expected = [3] if words == ["3"] else [1, 2]
    assert parse(f"--{option}", *words)[2] == {option: expected}


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        ("exit_layers", "(1, 2)", "give a list of numbers, such as [1, 2]"),
        ("exit_layers", "[1, a]", "give a list of numbers"),
        ("exit_layers", "[true]", "give a list of numbers"),
        ("exit_layers", "{a: 1}", "give a list of numbers"),
        ("exit_layers", "[1, .nan]", "give a list of numbers"),
        ("speeds", "[1, .nan]", "give a list of numbers"),
        ("speeds", "null", "or [] for none"),
        ("speeds", "1 , ]", "not valid YAML"),
        ("test_manifests", "null", "or [] for none"),
        ("test_manifests", "", "or [] for none"),
        ("test_manifests", " , ,", "or [] for none"),
        ("test_manifests", "[a: b]", "with quotation marks"),
        ("test_manifests", "[a #1.jsonl]", "with quotation marks"),
        ("test_manifests", "[[a]]", "with quotation marks"),
        ("lr", "abc", "--lr abc: give a number (0.1 by default)"),
        ("lr", ".inf", "--lr .inf: give a number"),
        ("lr", "[1]", "--lr [1]: give a number"),
        ("layers", "2.5", "--layers 2.5: give a whole number (3 by default)"),
        ("layers", "true", "--layers true: give a number"),
        ("layers", "[3]", "--layers [3]: give a number"),
        ("shared", "maybe", "--shared maybe: give True or False"),
        ("shared", "1", "--shared 1: give True or False"),
        ("exit_weights", "[1", "--exit_weights [1: not valid YAML"),
        ("loss", "null", "--loss is an object in the yaml: change its settings instead, or copy the yaml"),
        ("loss", "ctc", "--loss is an object in the yaml"),
        ("loss", "[1]", "--loss is an object in the yaml"),
        ("valid_decoder", "null", "--valid_decoder is an object in the yaml"),
        ("valid_decoder", "{beam_size: 2}", "--valid_decoder is an object in the yaml"),
        ("prepare", "5", "--prepare is an object in the yaml"),
        ("options", "3", "--options is an object in the yaml"),
        ("masks", "3", "--masks is a list of objects in the yaml: give [] for none"),
    ],
)
def test_a_value_of_another_kind(parse, option, text, message):
    assert message in refused(parse, f"--{option}", text)


def test_arguments_of_an_object_can_be_given_and_what_may_be_missing_left_away(parse):
    words = ["--loss", "{distillation: 0.5}", "--prepare", "null", "--options", "{size: 2}", "--masks", "[]"]
    path, _, settings = parse(*words)
    hparams = load_hparams(path, settings)
    assert hparams["loss"]() == {"distillation": 0.5}
    assert (hparams["prepare"], hparams["options"], hparams["masks"]) == (None, {"size": 2}, [])


@pytest.mark.parametrize(
    ("name", "word", "default", "value"),
    [
        ("lr", "1e-3", 0.1, 0.001),
        ("lr", "1", 0.1, 1),
        ("layers", "1e1", 3, 10),
        ("shared", "false", True, False),
        ("exit_weights", "[0.1, 2]", "depth", [0.1, 2]),
        ("exit_weights", "uniform", "depth", "uniform"),
        ("freeze", "3", "nothing", 3),
        ("head_size", "64", None, 64),
        ("prepare", "null", {}, None),
    ],
)
def test_other_values_are_yaml(name, word, default, value):
    found = read_setting(name, [word], default)
    assert found == value and isinstance(found, type(value))
