# SPDX-License-Identifier: Apache-2.0
"""All yaml files: every key is used, no key is a run option by accident, and header commands parse."""

import ast
import dataclasses
import pydoc
import re
from pathlib import Path

import pytest
import yaml
from commands import ROOT, BadCommand, check_command, yaml_keys
from speechbrain.utils.run_opts import RunOptions

from speechbrain_ee.training.settings import NULL_IS_NONE, is_path

YAMLS = sorted([*ROOT.glob("hparams/*.yaml"), *ROOT.glob("recipes/*/hparams/*.yaml")])
READERS = [ROOT / "train.py", *sorted((ROOT / "speechbrain_ee" / "training").glob("*.py"))]
OTHER_SCRIPTS = {"lm": ROOT / "recipes" / "LibriSpeech" / "train_lm.py"}  # by the stem of the yaml
RUN_OPTIONS = {field.name for field in dataclasses.fields(RunOptions)}
# SpeechBrain's Brain reads these from the yaml; on the command line they are its options, see parse_arguments
INTENDED_RUN_OPTIONS = {"max_grad_norm", "grad_accumulation_factor", "ckpt_interval_minutes", "precision"}

every_yaml = pytest.mark.parametrize("path", YAMLS, ids=lambda path: str(path.relative_to(ROOT)))


def referenced(text: str) -> set[str]:
    """Return the keys that other keys refer to by !ref or !copy."""
    nodes, found = [yaml.compose(text, Loader=yaml.SafeLoader)], set()
    while nodes:
        node = nodes.pop()
        if isinstance(node, yaml.ScalarNode):
            if node.tag in ("!ref", "!copy"):
                found |= set(re.findall(r"<([^<>\[\].]+)", node.value))
        else:
            children = node.value if isinstance(node, yaml.SequenceNode) else [n for pair in node.value for n in pair]
            nodes += children
    return found


def read_in(source: str) -> set[str]:
    """Return the keys that a script reads, by subscript, `get`, attribute of self.hparams, or in a loop over names."""
    found, tree = set(), ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and getattr(node.value, "attr", None) == "hparams":
            found.add(node.attr)
        elif isinstance(node, ast.Subscript) and getattr(node.value, "id", None) == "hparams":
            found |= {node.slice.value} if isinstance(node.slice, ast.Constant) else set()
        elif isinstance(node, ast.Call) and ast.unparse(node.func) == "hparams.get":
            found |= {node.args[0].value} if isinstance(node.args[0], ast.Constant) else set()
        elif isinstance(node, ast.For):
            found |= _looped(node, node.target, node.iter)
        for loop in getattr(node, "generators", []):
            found |= _looped(node, loop.target, loop.iter)
    return found


def _looped(body: ast.AST, target: ast.AST, names: ast.AST) -> set[str]:
    reads = [n for n in ast.walk(body) if isinstance(n, ast.Subscript) and getattr(n.value, "id", None) == "hparams"]
    if not isinstance(names, ast.Tuple) or not any(ast.dump(n.slice) == _as_read(target) for n in reads):
        return set()
    return {name.value for name in names.elts if isinstance(name, ast.Constant)}


def _as_read(target: ast.AST) -> str:
    return ast.dump(ast.Name(target.id, ast.Load())) if isinstance(target, ast.Name) else ""


def unused(text: str, sources: list[str]) -> set[str]:
    keys = {key.value for key, _ in yaml.compose(text, Loader=yaml.SafeLoader).value}
    used = referenced(text).union(*map(read_in, sources))
    return {key for key in keys - used - INTENDED_RUN_OPTIONS if not key.startswith("__")}


def header_commands(path: Path) -> list[str]:
    """Return the commands in a yaml's header; two spaces end a command, `...` is the training command of the yaml."""
    script = OTHER_SCRIPTS.get(path.stem, ROOT / "train.py").relative_to(ROOT)
    header = re.match(r"(?:#.*\n)+", path.read_text(encoding="utf-8")).group()
    train = f"python {script} {path.relative_to(ROOT)}"
    pieces = [piece for line in re.sub(r"\s*\\\n#\s*", " ", header).splitlines() for piece in re.split(r"\s{2,}", line)]
    found = (
        re.search(r"(?:(?:^|# |: |or )(?:python|torchrun|pip|speechbrain-ee) |\.\.\. --|(?:^|or )--).*", p)
        for p in pieces
    )
    commands = [re.sub(r"^(# |: |or )", "", match.group()) for match in found if match]
    return [re.sub(r"^(\.\.\. )?--", f"{train} --", command) for command in commands]


HEADER_COMMANDS = [(path, command) for path in YAMLS for command in header_commands(path)]


def test_there_are_yamls_with_commands():
    assert len(YAMLS) >= 2
    assert {path for path, _ in HEADER_COMMANDS} == set(YAMLS)


@every_yaml
def test_every_key_is_used(path):
    readers = [OTHER_SCRIPTS[path.stem]] if path.stem in OTHER_SCRIPTS else READERS
    assert unused(path.read_text(encoding="utf-8"), [reader.read_text(encoding="utf-8") for reader in readers]) == set()


@pytest.mark.parametrize(
    "source",
    [
        'hparams["b"]',
        'hparams.get("b")',
        "self.hparams.b",
        '{k: hparams[k] for k in ("b",)}',
        'for k in ("b",):\n    f(hparams[k])',
    ],
)
def test_a_dead_key_is_found(source):
    text = "a: 1\nb: !ref <a> * 2\nc: [1, !ref '<d[x]>']\nd: {x: 1}\n__seed: 0\nmax_grad_norm: 5\n"
    assert unused(text, [source]) == {"c"}
    assert unused(text, ['"b"', "hparams[c]"]) == {"b", "c"}


@every_yaml
def test_keys_that_are_run_options_are_meant_to_be(path):
    keys = yaml_keys(path)
    assert keys & RUN_OPTIONS <= INTENDED_RUN_OPTIONS


@every_yaml
def test_every_path_is_known_as_one_by_its_name(path):
    node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    scalars = {key.value: value for key, value in node.value if isinstance(value, yaml.ScalarNode)}
    paths = {key for key, value in scalars.items() if "/" in value.value and not value.tag.startswith("!apply")}
    paths |= {key for key, value in scalars.items() if value.tag == "!PLACEHOLDER"}
    paths |= {key for key in scalars if re.search("folder|file|manifest|root|path|cache$|_from$|^source", key)}
    assert {key for key in paths if not is_path(key)} == set()
    assert {key for key in paths if scalars[key].value == "null"} <= NULL_IS_NONE


@every_yaml
def test_the_data_root_is_that_of_the_noise_too(path):
    text = path.read_text(encoding="utf-8")
    given = re.findall(r"\n( +)noise_manifest: !ref <noise_manifest>\n\1data_root: !ref <data_root>\n", text)
    assert len(given) == len(re.findall(r"\ndata_root: ", text))


@every_yaml
def test_every_named_object_exists(path):
    names = re.findall(r"!(?:new|name|apply):([\w.]+)", path.read_text(encoding="utf-8"))
    assert names
    assert [name for name in names if pydoc.locate(name) is None] == []


@every_yaml
def test_every_yaml_is_in_a_readme(path):
    readmes = [ROOT / "README.md", *ROOT.glob("recipes/**/README.md")]
    shown = str(path.relative_to(ROOT))
    assert any(shown in readme.read_text(encoding="utf-8") for readme in readmes)


@pytest.mark.parametrize(("path", "command"), HEADER_COMMANDS)
def test_header_command_parses(path, command):
    check_command(command)


def test_header_commands_are_found(tmp_path, monkeypatch):
    monkeypatch.setitem(globals(), "ROOT", tmp_path)
    monkeypatch.setitem(globals(), "OTHER_SCRIPTS", {})
    path = tmp_path / "a.yaml"
    path.write_text(
        "# One: python train.py a.yaml    (twice)\n# Two: ... --a 1  or --b \\\n#     2  by default\n"
        "# Three: theirs: speechbrain-ee transcribe --full\n\nkey: 1  # ... --not this\n"
    )
    expected = ["python train.py a.yaml", "python train.py a.yaml --a 1", "python train.py a.yaml --b 2"]
    assert header_commands(path) == [*expected, "speechbrain-ee transcribe --full"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("python train.py hparams/none.yaml", "hparams/none.yaml does not exist"),
        ("python train.py hparams/conformer_ee.yaml --layers 3", "--layers is neither a key of"),
        (
            "torchrun --nproc_per_node=2 train.py hparams/conformer_ee.yaml --lrr 1",
            "--lrr is neither a key of .*: do you mean --lr?",
        ),
        (
            ".venv/bin/python train.py hparams/conformer_ee.yaml --precision fp7",
            "--precision fp7: choose from fp32, fp16, bf16",
        ),
        ("CUDA_VISIBLE_DEVICES=0 python benchmark/none.py", "benchmark/none.py does not exist"),
        ("python recipes/LibriSpeech/prepare.py /corpus --outt data", "unrecognized arguments: --outt"),
        ("python -m speechbrain_ee.corpora.synthetic --hours 3", "the following arguments are required: --out"),
        ("python -m speechbrain_ee.none", "no module speechbrain_ee.none"),
        ("cd x && .venv/bin/pip install -e '.[synthesis]'", "no extra synthesis"),
        ("make tests", "no target tests"),
        ("speechbrain-ee recognise a.wav", "no command recognise"),
        ("speechbrain-ee transcribe --model m --exit 3 a.wav", "No such option"),
        ("speechbrain-ee evaluate run", "Missing parameter: manifest"),
    ],
)
def test_bad_commands_are_found(command, message):
    with pytest.raises(BadCommand, match=message):
        check_command(command)
