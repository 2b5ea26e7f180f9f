# SPDX-License-Identifier: Apache-2.0
"""The documentation site: its navigation, links, and pages as GitHub shows them; `make docs` also checks docstrings."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest
from commands import ROOT

if sys.version_info < (3, 11):
    pytest.skip("the tools of the site need Python 3.11", allow_module_level=True)

import bs4
import markdown_it

SAME = ("h1", "h2", "h3", "li", "tr", "td", "pre", "img", "strong", "em")


@pytest.fixture(scope="module")
def repository_pages():
    spec = importlib.util.spec_from_file_location("repository_pages", ROOT / "docs/sphinx/repository_pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """The pages without the reference, which takes most of the time; returns the pages by path."""
    out = tmp_path_factory.mktemp("site")
    excluded = ",".join(["docs/reference", ".*", "build", "data", "dist", "results", "site", "tests"])
    folders = ["-c", str(ROOT / "docs/sphinx"), "-d", str(out / ".doctrees"), str(ROOT), str(out)]
    command = [sys.executable, "-m", "sphinx", "-Q", "-D", f"exclude_patterns={excluded}", *folders]
    paths = os.pathsep.join([str(ROOT), str(ROOT / "runtime"), os.environ.get("PYTHONPATH", "")])
    subprocess.run(command, env=os.environ | {"PYTHONPATH": paths}, check=True)
    return out, {
        path: bs4.BeautifulSoup(path.read_text("utf-8"), "html.parser") for path in sorted(out.rglob("*.html"))
    }


def test_the_navigation_is_read_from_the_first_cells(repository_pages):
    table = (
        "| page | see |\n|---|---|\n| [Train](guide/train.md) | [x](y.md) |\n| [Home](../README.md) | |\n| none | |\n"
    )
    assert repository_pages.rows("docs/README", table) == {"Train": "docs/guide/train", "Home": "README"}


def test_links_to_folders_become_text(repository_pages):
    text = "[locks](../locks), [file](../Makefile), [site](https://a.b), [part](#part), ![figure](figures)"
    expected = text.replace("[locks](../locks)", "locks")
    assert repository_pages.without_folder_links("docs/README", text, ROOT) == expected


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("Policy.stop", "ee_runtime.policies.Policy.stop"),
        ("ee_runtime.policies.base.Policy", "ee_runtime.policies.Policy"),
        ("speechbrain_ee.lobes.heads.Policy", None),  # of another package
        ("stop", None),  # of two classes
        ("Unknown", None),
    ],
)
def test_a_reference_of_a_docstring_is_resolved_if_it_means_one_name(repository_pages, target, name):
    names = ["ee_runtime.policies.Policy", "ee_runtime.policies.Policy.stop", "ee_runtime.policies.FixedExit.stop"]
    assert repository_pages.full_name(target, names) == name


def test_links_lead_to_pages_and_anchors(site):
    out, pages = site
    broken = []
    for path, page in pages.items():
        for link in (one["href"] for one in page.find_all("a", href=True)):
            file, _, anchor = link.partition("#")
            target = (path.parent / file).resolve() if file else path
            if re.match(r"[a-z]+:", link) or "reference/" in link:
                continue
            if not target.exists() or (anchor and target in pages and pages[target].find(id=anchor) is None):
                broken.append(f"{path.relative_to(out)}: {link}")
    assert broken == []


def test_nothing_is_loaded_from_other_sites(site):
    _, pages = site
    loaded = {
        one.get("src") or one.get("href")
        for page in pages.values()
        for one in page.find_all(["script", "link", "img", "iframe"])
    }
    assert len(loaded) > 10
    assert [link for link in loaded if link and re.match(r"(?:https?:)?//", link)] == []


def test_the_address_of_the_site_leads_to_the_readme(site):
    out, pages = site
    assert pages[out / "index.html"].find("meta", attrs={"http-equiv": "refresh"})["content"] == "0; url=README.html"
    assert pages[out / "README.html"].h1.text.startswith("speechbrain_ee")


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md", "docs/glossary.md", "docs/guide/train.md"]
)
def test_a_page_has_the_elements_that_github_shows(site, name):
    """Sphinx's Markdown and GitHub's differ in details, such as lists without a blank line above them."""
    out, pages = site
    markdown = markdown_it.MarkdownIt("commonmark", {"html": True}).enable("table")
    github = bs4.BeautifulSoup(markdown.render((ROOT / name).read_text("utf-8")), "html.parser")
    ours = pages[(out / name).with_suffix(".html")].find("article")
    assert {tag: len(ours.find_all(tag)) for tag in SAME} == {tag: len(github.find_all(tag)) for tag in SAME}
