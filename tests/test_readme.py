# SPDX-License-Identifier: Apache-2.0
"""What the documentation shows: commands parse, code compiles, links lead somewhere, numbers are those of the files."""

import ast
import importlib.util
import json
import pydoc
import re

import pytest
from commands import PROGRAMS, ROOT, check_command

from speechbrain_ee.evaluation.tables import exits_markdown

PAGES = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "runtime/README.md")),
    *sorted([*ROOT.glob("recipes/**/README.md"), *ROOT.glob("examples/**/README.md"), *ROOT.glob("docs/**/*.md")]),
]
RESULTS = re.compile(r"<!-- results: (\S+) -->\n(.*?)<!-- /results -->", re.DOTALL)

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def blocks(text: str) -> list[tuple[str, str]]:
    """Fenced blocks of a page: (language, content)."""
    return re.findall(r"^```([\w{}-]*)\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def without_code(text: str) -> str:
    """A page without its Python code and diffs, which have tests of their own."""
    return re.sub(r"^```(?:python|pycon|diff)\n.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


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
    guides = {str(path.relative_to(ROOT)) for path in ROOT.glob("docs/guide/*.md")}
    assert {"README.md", "recipes/LibriSpeech/README.md"} | guides <= {page for page, _ in COMMANDS}
    assert "README.md" in {page for page, *_ in TABLES}


@pytest.mark.parametrize(("page", "path", "table"), TABLES)
def test_table_equals_its_file(page, path, table):
    exits = json.loads((ROOT / path).read_text("utf-8"))
    assert table.strip() == exits_markdown(exits).strip()


MADE = re.compile(r"<!-- table: (\S+) by (\S+) -->\n(.*?)<!-- /table -->", re.DOTALL)
MADE_TABLES = [found for page in PAGES for found in MADE.findall(page.read_text("utf-8"))]


@pytest.mark.parametrize(("path", "module", "table"), MADE_TABLES)
def test_table_is_what_the_benchmark_makes_of_its_file(path, module, table):
    module, _, function = module.partition(":")
    make = getattr(importlib.import_module(module), function or "markdown")
    made = make(json.loads((ROOT / path).read_text("utf-8")))
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


def test_the_pages_have_figures():
    assert len(FIGURES) >= 5


def load_script(path):
    """A script of docs/, which is no package."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_where_equals_the_packages():
    page = (ROOT / "README.md").read_text("utf-8")
    assert page == load_script(ROOT / "docs" / "what_is_where.py").written(page), "run python docs/what_is_where.py"


def test_what_is_where_names_every_module():
    table = load_script(ROOT / "docs" / "what_is_where.py").table()
    named = {name for line in table.splitlines() for name in re.split(r", ", line.split(" | ")[-1].removesuffix(" |"))}
    modules = {path.stem for path in ROOT.glob("speechbrain_ee/**/*.py") if not path.stem.startswith("__")}
    assert modules <= named


@pytest.mark.parametrize("figure", ["architecture", "policies"])
def test_a_figure_is_what_its_script_draws(figure):
    script = load_script(ROOT / "docs" / "figures" / f"{figure}.py")
    assert script.OUT.read_text("utf-8") == script.draw()


def test_the_readme_is_short():
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) < 200


@every_page
def test_every_result_marker_is_closed(page):
    text = page.read_text("utf-8")
    assert text.count("<!-- results:") == text.count("<!-- /results -->") == len(RESULTS.findall(text))


@every_page
def test_links_lead_to_files(page):
    links = re.findall(r"\]\(([^)#\s]+)", without_code(page.read_text("utf-8")))
    missing = [link for link in links if "://" not in link and not (page.parent / link).exists()]
    assert missing == []


@every_page
def test_named_modules_exist(page):
    names = re.findall(r"\b(?:speechbrain_ee|ee_runtime)(?:\.[A-Za-z_]\w*)+", without_code(page.read_text("utf-8")))
    assert [name for name in names if pydoc.locate(name) is None] == []


@every_page
def test_named_files_exist(page):
    """Paths in backticks that begin with a folder of ours."""
    ours = r"`((?:benchmarks|examples|hparams|locks|recipes|speechbrain_ee|tests)/[\w./-]*)[`#]"
    paths = re.findall(ours, page.read_text("utf-8"))
    assert [path for path in paths if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/*/*.md")), ids=lambda page: page.stem)
def test_every_page_links_to_the_glossary(page):
    assert "(../glossary.md)" in page.read_text("utf-8")


@pytest.mark.parametrize("page", sorted(ROOT.glob("docs/guide/*.md")), ids=lambda page: page.stem)
def test_guides_are_read_in_five_minutes(page):
    assert len(page.read_text("utf-8").split()) <= 950


def anchors(page):
    """Anchors that GitHub makes of a page's headings."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"^```.*?^```", "", page.read_text("utf-8"), flags=re.S | re.M), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@every_page
def test_anchors_lead_to_headings(page):
    links = re.findall(r"\]\(([^)#\s]*)#([^)\s]+)\)", page.read_text("utf-8"))
    ours = [(page.parent / path if path else page, anchor) for path, anchor in links if "://" not in path]
    assert [(str(path), anchor) for path, anchor in ours if path.suffix == ".md" and anchor not in anchors(path)] == []


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
