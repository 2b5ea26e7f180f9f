# SPDX-License-Identifier: Apache-2.0
"""What the documentation shows: commands parse, code compiles, links lead somewhere, numbers are those of the files."""

import ast
import importlib
import json
import re

import pytest
from commands import PROGRAMS, ROOT, check_command

from speechbrain_ee.evaluation.tables import exits_markdown

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md")),
    *sorted([*ROOT.glob("recipes/**/README.md"), *ROOT.glob("docs/*.md")]),
]
RESULTS = re.compile(r"<!-- results: (\S+) -->\n(.*?)<!-- /results -->", re.DOTALL)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(text: str) -> list[tuple[str, str]]:
    """Fenced blocks of a page: (language, content)."""
    return re.findall(r"^```(\w*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def commands(text: str) -> list[str]:
    """Lines of blocks without a programming language, continued ones joined, that start with a program."""
    shells = [content for language, content in blocks(text) if language in ("", "bash", "sh", "shell", "console")]
    lines = [line.strip().removeprefix("$ ") for c in shells for line in re.sub(r"\s*\\\n\s*", " ", c).splitlines()]
    # A line may call a program after others, as in `cd x && pip install y`
    return [line for line in lines if any(re.search(rf"(?:^|[\s/]){re.escape(name)}\s", line) for name in PROGRAMS)]


COMMANDS = [(str(page.relative_to(ROOT)), line) for page in PAGES for line in commands(page.read_text("utf-8"))]
TABLES = [(str(page.relative_to(ROOT)), *found) for page in PAGES for found in RESULTS.findall(page.read_text("utf-8"))]


@pytest.mark.parametrize(("page", "command"), COMMANDS)
def test_command_parses(page, command):
    check_command(command)


def test_the_pages_have_commands_and_results():
    assert {"README.md", "recipes/LibriSpeech/README.md"} <= {page for page, _ in COMMANDS}
    assert "README.md" in {page for page, *_ in TABLES}


@pytest.mark.parametrize(("page", "path", "table"), TABLES)
def test_table_equals_its_file(page, path, table):
    exits = json.loads((ROOT / path).read_text("utf-8"))
    assert table.strip() == exits_markdown(exits).strip()


MADE = re.compile(r"<!-- table: (\S+) by (\S+) -->\n(.*?)<!-- /table -->", re.DOTALL)
MADE_TABLES = [found for page in PAGES for found in MADE.findall(page.read_text("utf-8"))]


@pytest.mark.parametrize(("path", "module", "table"), MADE_TABLES)
def test_table_is_what_the_benchmark_makes_of_its_file(path, module, table):
    made = importlib.import_module(module).markdown(json.loads((ROOT / path).read_text("utf-8")))
    assert table.strip() == made.strip()


FIGURES = [
    (str(page.relative_to(ROOT)), *found)
    for page in PAGES
    for found in re.findall(r"^\| [^|]+ \| ([\d.]+) \| `([^`#]+)#([^`]+)` \|$", page.read_text("utf-8"), re.MULTILINE)
]


@pytest.mark.parametrize(("page", "value", "path", "keys"), FIGURES)
def test_figure_equals_its_file(page, value, path, keys):
    """Rows of the form | what | value | `file#key.key` |."""
    figure = json.loads((ROOT / path).read_text("utf-8"))
    for key in keys.split("."):
        figure = figure[key]
    assert float(value) == pytest.approx(figure, abs=0.5 * 10 ** -len(value.partition(".")[2]))


def test_the_readme_has_figures():
    assert len(FIGURES) >= 5


@every_page
def test_every_result_marker_is_closed(page):
    text = page.read_text("utf-8")
    assert text.count("<!-- results:") == text.count("<!-- /results -->") == len(RESULTS.findall(text))


@every_page
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#\s]+)", page.read_text("utf-8"))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@every_page
def test_python_compiles_and_imports_what_exists(page):
    for language, content in blocks(page.read_text("utf-8")):
        if language == "python":
            for node in ast.walk(ast.parse(content)):
                if isinstance(node, ast.ImportFrom):
                    module = importlib.import_module(node.module)
                    assert [alias.name for alias in node.names if not hasattr(module, alias.name)] == []


def test_commands_are_found():
    page = "```\ncd x && pip install y\npython a.py \\\n  --b\nls\n```\n```python\npython = 1\n```\npython not.here\n"
    assert commands(page) == ["cd x && pip install y", "python a.py --b"]
    assert len(blocks(page)) == 2


def test_a_results_table_is_found():
    text = "<!-- results: a/exits.json -->\n| x |\n<!-- /results -->\n"
    assert RESULTS.findall(text) == [("a/exits.json", "| x |\n")]
