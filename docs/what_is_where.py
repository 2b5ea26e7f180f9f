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
PACKAGES = (ROOT / "speechbrain_ee", ROOT / "runtime" / "ee_runtime")  # in the order of pyproject.toml
START, END = "<!-- what is where: python docs/what_is_where.py -->", "<!-- /what is where -->"


def layers() -> list[list[str]]:
    """Return the names of packages and root modules from top to bottom, as pyproject.toml lists them, by package."""
    blocks = re.findall(r"\nlayers = \[\n(.*?)\n\]", (ROOT / "pyproject.toml").read_text("utf-8"), re.DOTALL)
    found = [
        [name for names in re.findall(r'"([^"]+)"', block) for name in re.split(r"[|:]", names)] for block in blocks
    ]
    return [[name.strip() for name in names] for names in found]


def first_line(folder: Path) -> str:
    """Return the first line of a package's docstring."""
    return ast.get_docstring(ast.parse((folder / "__init__.py").read_text("utf-8"))).splitlines()[0]


def row(folder: Path, package: Path) -> str:
    """Return the row of a folder of a package."""
    modules = sorted(path.stem for path in folder.glob("*.py") if not path.stem.startswith("__"))
    name = "/".join(folder.relative_to(package).parts)
    return f"| `{name}/` | {first_line(folder).replace('``', '`')} | {', '.join(modules)} |"


def table() -> str:
    """Return the table in Markdown."""
    lines = []
    for package, names in zip(PACKAGES, layers(), strict=True):
        title = "/".join(package.relative_to(ROOT).parts)
        lines += ["", f"| `{title}/` | contents | modules |", "|---|---|---|"]
        for name in names:
            folders = sorted((package / name).rglob("__init__.py")) if (package / name).is_dir() else []
            lines += [row(path.parent, package) for path in folders]
        root = sorted(path.stem for path in package.glob("*.py") if not path.stem.startswith("__"))
        lines.append(f"| root | {first_line(package)} | {', '.join(root)} |")
    return "\n".join(lines[1:])


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
