# SPDX-License-Identifier: Apache-2.0
"""Sphinx extension: makes a site of the Markdown files of a repository, which have no Sphinx directives.

The navigation is read from the tables of index pages: it lists the page that the first cell of each row links to. A new
page is therefore added to one table only.
"""

import re
from collections.abc import Iterable
from pathlib import Path
from posixpath import join, normpath

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util.nodes import make_refnode

PACKAGES = ("speechbrain_ee", "ee_runtime")

NAVIGATION = {
    "Guides": "docs/README",
    "Reference": "docs/reference/README",
    "Results": "docs/results/README",
    "Recipes": "recipes/README",
    "Examples": "examples/README",
    "Glossary": "docs/glossary",
    "Runtime": "runtime/README",
    "Contributing": "CONTRIBUTING",
    "Security": "SECURITY",
    "Changelog": "CHANGELOG",
}
INDEX_FOLDERS = ("docs/", "examples/", "recipes/")
INDEXES = [page for page in NAVIGATION.values() if page.startswith(INDEX_FOLDERS) and page.endswith("README")]
FIRST_CELL = re.compile(r"^\| \[([^\]]+)\]\(([^)\s]+)\.md\)", re.MULTILINE)
LINK = re.compile(r"(?<!!)\[([^\]]+)\]\((?![a-z]+:|#)([^)#\s]+)\)")


def toctree(entries: dict[str, str]) -> str:
    """Return a hidden table of contents in Markdown from titles and pages."""
    lines = [f"{title} </{target}>" for title, target in entries.items()]
    return "\n\n```{toctree}\n:hidden:\n\n" + "\n".join(lines) + "\n```\n"


def rows(page: str, text: str) -> dict[str, str]:
    """Return the titles and pages of the first cells of an index page's tables.

    Example
    -------
    >>> rows("docs/README", "| [Train](guide/train.md) | train a model |")
    {'Train': 'docs/guide/train'}
    """
    return {title: normpath(join(page, "..", target)) for title, target in FIRST_CELL.findall(text)}


def without_folder_links(page: str, text: str, root: Path) -> str:
    """Return the text with links to folders as plain text, since the site has no page of a folder."""

    def plain(link: re.Match) -> str:
        return link[1] if (root / normpath(join(page, "..", link[2]))).is_dir() else link[0]

    return LINK.sub(plain, text)


def prepare(app: Sphinx, page: str, source: list[str]) -> None:
    """Add the navigation to a page."""
    text = without_folder_links(page, source[0], Path(app.srcdir))
    if page == app.config.root_doc:
        text += toctree(NAVIGATION)
    elif page in INDEXES:
        text += toctree(rows(page, text))
    source[0] = text


def full_name(target: str, names: Iterable[str]) -> str | None:
    """Return the only documented name that a docstring can mean; None if there is none, or more than one.

    A docstring may shorten a name, or name the module of an object that is documented under the package's name.

    Example
    -------
    >>> names = ["speechbrain_ee.lobes.check_exit_layers", "ee_runtime.transcriber.Transcriber.start"]
    >>> full_name("Transcriber.start", names), full_name("speechbrain_ee.lobes.encoder.check_exit_layers", names)
    ('ee_runtime.transcriber.Transcriber.start', 'speechbrain_ee.lobes.check_exit_layers')
    """
    package, _, name = target.partition(".")
    start = f"{package}." if package in PACKAGES else ""
    end = "." + (name.rpartition(".")[2] if start else target)
    found = [one for one in names if one.startswith(start) and one.endswith(end)]
    return found[0] if len(found) == 1 else None


def resolve(app: Sphinx, env: BuildEnvironment, node: pending_xref, shown: nodes.Element) -> nodes.Element | None:
    """Resolve a reference of a docstring that Sphinx did not find."""
    objects = env.domains.python_domain.objects
    if node["refdomain"] != "py":
        return None
    name = full_name(node["reftarget"], (one for one, entry in objects.items() if not entry.aliased))
    if name is None:
        return None
    entry = objects[name]
    return make_refnode(app.builder, node["refdoc"], entry.docname, entry.node_id, shown, name)


def setup(app: Sphinx) -> dict:
    """Register the extension."""
    app.connect("source-read", prepare)
    app.connect("missing-reference", resolve)
    return {"parallel_read_safe": True}
