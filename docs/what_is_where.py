#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write the README's table of packages from their docstrings: python docs/what_is_where.py.

Each row has a package, the first line of its docstring, and its modules. The order is that of the import rules in
pyproject.toml, from top to bottom. A test compares the table with the packages.
"""

import argparse
import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "speechbrain_ee"
START, END = "<!-- what is where: python docs/what_is_where.py -->", "<!-- /what is where -->"


def layers() -> list[str]:
    """Return the names of packages and root modules from top to bottom, as pyproject.toml lists them."""
    block = re.search(r"\nlayers = \[\n(.*?)\n\]", (ROOT / "pyproject.toml").read_text("utf-8"), re.DOTALL)[1]
    return [name.strip() for names in re.findall(r'"([^"]+)"', block) for name in re.split(r"[|:]", names)]


def first_line(folder: Path) -> str:
    """Return the first line of a package's docstring."""
    return ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))).splitlines()[0]


def row(folder: Path) -> str:
    """Return the row of a package."""
    modules = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("__"))
    name = "/".join(folder.relative_to(PACKAGE).parts)
    return f"| `{name}/` | {first_line(folder).replace('``', '`')} | {', '.join(modules)} |"


def table() -> str:
    """Return the table in Markdown."""
    lines = ["| package | contents | modules |", "|---|---|---|"]
    for name in layers():
        if (PACKAGE / name).is_dir():
            lines += [row(path.parent) for path in sorted((PACKAGE / name).rglob("__init__.py"))]
    root = sorted(path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__"))
    return "\n".join([*lines, f"| root | Helpers that every package may import. | {', '.join(root)} |"])


def written(page: str) -> str:
    """Return the page with the current table between its marks."""
    before, _, rest = page.partition(START)
    _, _, after = rest.partition(END)
    return f"{before}{START}\n{table()}\n{END}{after}"


def main() -> None:
    """Read the command line and write the README."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    readme = ROOT / "README.md"
    readme.write_text(written(readme.read_text("utf-8")), "utf-8")


if __name__ == "__main__":
    main()
