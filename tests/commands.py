# SPDX-License-Identifier: Apache-2.0
"""Parse the commands in the documentation and in yaml headers without running them."""

import argparse
import contextlib
import importlib.util
import io
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import typer
import yaml

from ee_runtime import cli
from ee_runtime.bench import cli as bench_cli
from speechbrain_ee.cli.app import app
from speechbrain_ee.cli.options import PROGRAM
from speechbrain_ee.training.command_line import parse_arguments

ROOT = Path(__file__).parents[1]
OURS = ("examples/", "hparams/", "recipes/", "tests/", "benchmarks/", "speechbrain_ee/")
DEVICE_PARSERS = {cli.PROGRAM: cli.make_parser, bench_cli.PROGRAM: bench_cli.make_parser}
TRAIN_SCRIPTS = ("train.py", "recipes/LibriSpeech/train_lm.py")  # their first argument is a yaml
PAPER_YAML = "recipes/LibriSpeech/hparams/conformer_ee.yaml"
PROGRAMS = ("python", "python3", "torchrun", "pip", "make", PROGRAM, *DEVICE_PARSERS)


class BadCommand(ValueError):
    """A command that would not run as shown."""


def yaml_keys(path: Path) -> set[str]:
    """Return the top-level keys of a HyperPyYAML file without building objects."""
    node = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    return {key.value for key, _ in node.value}


def check_command(command: str) -> None:
    """Parse one line of shell; programs that are not in `PROGRAMS` are ignored.

    Raises
    ------
    BadCommand
        If a file, option, key, target or extra in it does not exist.
    """
    for part in re.split(r"\s(?:&&|\||>|;)\s", command):
        words = shlex.split(part, comments=True)
        while words and re.match(r"[A-Z_]+=", words[0]):
            words.pop(0)
        if words and Path(words[0]).name in PROGRAMS:
            _check_files(words)
            _CHECKS[Path(words[0]).name](words[1:])


def _check_files(words: list[str]) -> None:
    for word in words:
        if word.startswith(OURS) and not (ROOT / word).exists():
            raise BadCommand(f"{word} does not exist")


def _python(words: list[str]) -> None:
    if words[0] == "-m":
        if importlib.util.find_spec(words[1]) is None:
            raise BadCommand(f"there is no module {words[1]}")
        if words[1].startswith("speechbrain_ee"):
            origin = Path(importlib.util.find_spec(words[1]).origin)
            _parse(_parser_of(origin.with_name("__main__.py") if origin.name == "__init__.py" else origin), words[2:])
    elif words[0] in TRAIN_SCRIPTS:
        _train(words[1:])
    elif not words[0].startswith("-"):
        if not (ROOT / words[0]).is_file():
            raise BadCommand(f"{words[0]} does not exist")
        own, _, overrides = _cut(words[1:])
        _parse(_parser_of(ROOT / words[0]), own)
        if overrides:  # words after `--` are options of train.py, whose yaml is the first argument, or of paper.py
            _train([own[0] if own[0].endswith(".yaml") else PAPER_YAML, *overrides])


def _cut(words: list[str]) -> tuple[list[str], list[str], list[str]]:
    """Return the words before `--`, `--` itself, and the words after it."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at : at + 1], words[at + 1 :]


def _train(words: list[str]) -> None:
    if not (ROOT / words[0]).is_file():
        raise BadCommand(f"{words[0]} does not exist")
    try:
        parse_arguments([str(ROOT / words[0]), *words[1:]])
    except ValueError as error:
        raise BadCommand(str(error)) from None


def _torchrun(words: list[str]) -> None:
    _python(words[words.index("train.py") :])


def _pip(words: list[str]) -> None:
    setup = (ROOT / "setup.py").read_text(encoding="utf-8")
    extras = set(re.findall(r'^    "(\w+)": \[|^EXTRAS\["(\w+)"\]', setup, re.MULTILINE))
    for name in re.findall(r"(?:^|\s|speechbrain_ee|\.)\[([\w,]+)\]", " ".join(words)):
        if not set(name.split(",")) <= {a or b for a, b in extras}:
            raise BadCommand(f"setup.py has no extra {name}")


def _make(words: list[str]) -> None:
    words = [word for word in words if "=" not in word]  # variables, as in make version NEW=0.2.0
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    if not set(words) <= set(targets):
        raise BadCommand(f"the Makefile has no target {', '.join(set(words) - set(targets))}")


def _ours(words: list[str]) -> None:
    commands = typer.main.get_command(app).commands
    if words[0] not in commands:
        raise BadCommand(f"{PROGRAM} has no command {words[0]}")
    try:
        commands[words[0]].make_context(words[0], list(words[1:]))
    except Exception as error:  # click's exceptions; their module depends on typer's version
        raise BadCommand(f"{PROGRAM} {words[0]}: {error}") from None


_CHECKS = {"python": _python, "python3": _python, "torchrun": _torchrun, "pip": _pip, "make": _make, PROGRAM: _ours}
_CHECKS |= {name: lambda words, make=make: _parse(make(), words) for name, make in DEVICE_PARSERS.items()}


class _Caught(Exception):
    pass


def _parser_of(script: Path) -> argparse.ArgumentParser:
    """Return the argument parser that the `main` of a script creates; `main` is stopped there."""
    spec = importlib.util.spec_from_file_location(f"shown_{script.stem}", script)
    module = importlib.util.module_from_spec(spec)

    def catch(self, *_):
        raise _Caught(self)

    sys.modules[spec.name] = module  # needed by dataclasses
    sys.path.insert(0, str(script.parent))
    try:
        with mock.patch.object(argparse.ArgumentParser, "parse_args", catch):
            spec.loader.exec_module(module)
            module.main()
    except _Caught as caught:
        return caught.args[0]
    finally:
        sys.path.remove(str(script.parent))
        del sys.modules[spec.name]
    raise BadCommand(f"{script} parses no arguments")


def _parse(parser: argparse.ArgumentParser, words: list[str]) -> None:
    with _no_exit():
        parser.parse_args(words)


@contextlib.contextmanager
def _no_exit() -> Iterator[None]:
    stderr = io.StringIO()
    try:
        with contextlib.redirect_stderr(stderr):
            yield
    except SystemExit:
        raise BadCommand(stderr.getvalue().strip().splitlines()[-1]) from None
