# SPDX-License-Identifier: Apache-2.0
"""The pages of the API reference: every name exists, and every export of the packages is on a page."""

import importlib
import inspect
import pydoc
import re

import pytest
from commands import ROOT

DIRECTIVE = re.compile(r"^\.\. auto(class|function|module):: (\S+)\n((?:   :.*\n)*)", re.MULTILINE)
DIRECTIVES = [
    found for page in sorted(ROOT.glob("docs/reference/*.md")) for found in DIRECTIVE.findall(page.read_text("utf-8"))
]


def members(name: str, options: str) -> list:
    """What Sphinx shows of a module: its exports, or the public classes and functions that it defines."""
    module = importlib.import_module(name)
    if ":no-members:" in options:
        return []
    if ":imported-members:" in options:
        return [getattr(module, one) for one in module.__all__]
    return [
        thing
        for one, thing in vars(module).items()
        if not one.startswith("_") and getattr(thing, "__module__", None) == name
    ]


def documented() -> list:
    things = []
    for kind, name, options in DIRECTIVES:
        things += members(name, options) if kind == "module" else [pydoc.locate(name)]
    return things


@pytest.mark.parametrize(("kind", "name", "options"), DIRECTIVES)
def test_a_name_of_the_reference_exists(kind, name, options):
    is_kind = {"class": inspect.isclass, "function": inspect.isfunction, "module": inspect.ismodule}[kind]
    assert is_kind(pydoc.locate(name))
    assert kind != "module" or ":no-members:" in options or members(name, options)


@pytest.mark.parametrize("package", ["speechbrain_ee", "ee_runtime", "ee_runtime.policies", "speechbrain_ee.lobes"])
def test_the_reference_has_every_export(package):
    module = importlib.import_module(package)
    exports = [getattr(module, name) for name in module.__all__]
    shown = documented()
    assert [thing for thing in exports if callable(thing) and thing not in shown] == []


def test_nothing_is_on_two_pages():
    names = [f"{thing.__module__}.{thing.__qualname__}" for thing in documented() if hasattr(thing, "__qualname__")]
    assert sorted({name for name in names if names.count(name) > 1}) == []
