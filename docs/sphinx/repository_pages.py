# SPDX-License-Identifier: Apache-2.0
"""Sphinx extension: makes a site of the Markdown files of a repository, which have no Sphinx directives.

The navigation is read from the tables of index pages: it lists the page that the first cell of each row links to. A new
page is therefore added to one table only.
"""

import re
from pathlib import Path
from posixpath import join, normpath

from sphinx.application import Sphinx

NAVIGATION = {
    "Guides": "docs/README",
    "Reference": "docs/reference/README",
    "Results": "docs/results/README",
    "Recipes": "recipes/README",
    "Glossary": "docs/glossary",
    "Runtime": "runtime/README",
    "Contributing": "CONTRIBUTING",
    "Security": "SECURITY",
    "Changelog": "CHANGELOG",
}
INDEXES = [page for page in NAVIGATION.values() if page.startswith(("docs/", "recipes/")) and page.endswith("README")]
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


def setup(app: Sphinx) -> dict:
    """Register the extension."""
    app.connect("source-read", prepare)
    return {"parallel_read_safe": True}
