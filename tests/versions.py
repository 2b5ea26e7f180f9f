#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Run the tests with the oldest, the locked and the newest packages, and write README's table of tested versions.

python tests/versions.py [oldest] [locked] [newest] [--folder FOLDER]

Creates one environment per column in FOLDER (.venv/versions) and runs the columns in parallel: the lowest versions that
setup.py allows on the oldest Python, the lock files, and the newest versions on the newest Python. The slow tests of
the recipes are skipped. Missing Python versions are downloaded by uv.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".venv" / "bin" / "uv"
README = ROOT / "README.md"
START, END = "<!-- versions: make test-versions -->", "<!-- /versions -->"
SHOWN = ("torch", "torchaudio", "speechbrain", "transformers", "numpy", "scipy", "scikit-learn", "soundfile")
PYTHONS = {"oldest": "3.10", "locked": "3.11", "newest": "3.13"}
# Packages that only the tests need; their newest versions are used, also with the oldest other packages.
TOOLS = ("pytest", "pytest-timeout", "pytest-xdist", "playwright")


def run(*command: str | Path, **options) -> subprocess.CompletedProcess:
    """Run a command in the project's folder; raises an error if it fails."""
    return subprocess.run([str(one) for one in command], cwd=ROOT, check=True, **options)


def find_python(wanted: str) -> str:
    """Return pyenv's newest Python of a minor version, or the version itself, which uv then searches."""
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    releases = [path for path in versions.glob(f"{wanted}.*/bin/python") if re.fullmatch(r"[\d.]+", path.parts[-3])]
    found = sorted(releases, key=lambda path: int(path.parts[-3].split(".")[2]))
    return str(found[-1]) if found else wanted


def install(column: str, folder: Path) -> Path:
    """Create the environment of a column; returns the path of its Python."""
    run(UV, "venv", "--quiet", "--clear", "--python", find_python(PYTHONS[column]), folder)
    python = folder / "bin" / "python"
    pip = (UV, "pip", "install", "--quiet", "--compile-bytecode", "--python", python)
    if column == "locked":
        run(*pip, "--require-hashes", "-r", "locks/run.txt")
        run(*pip, "--require-hashes", "-r", "locks/dev.txt")
        run(*pip, "--no-deps", "--editable", "./runtime", "--editable", ".")
    elif column == "newest":
        run(*pip, "--upgrade", "--editable", "./runtime", "--editable", ".[dev,lm]")
    else:
        lowest = folder / "lowest.txt"
        extras = [
            word for extra in ("synth", "report", "ssl", "tensorboard", "lm", "onnx") for word in ("--extra", extra)
        ]
        compile_ = (
            UV,
            "pip",
            "compile",
            "--quiet",
            "--python-version",
            PYTHONS[column],
            "--resolution",
            "lowest-direct",
        )
        local = ("--no-emit-package", "speechbrain-ee-runtime")
        run(*compile_, "-", "setup.py", *extras, *local, "--output-file", lowest, input="./runtime\n", text=True)
        run(*pip, "-r", lowest, "--no-deps", "--editable", "./runtime", "--editable", ".")
        run(*pip, *TOOLS, "--constraints", lowest)
    return python


def try_column(column: str, python: Path, folder: Path) -> dict:
    """Run the tests of a column; returns its versions and test counts."""
    begin = time.monotonic()
    # Tests find the programs that they start beside their Python.
    environment = os.environ | {"PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    tests = [python, "-m", "pytest", "-q", "--ignore", "tests/recipes", "--deselect", "tests/test_readme.py"]
    tests += ["--ignore", "tests/test_site.py"]  # the tools of the site are not in these environments
    done = subprocess.run([str(one) for one in tests], cwd=ROOT, env=environment, capture_output=True, text=True)
    (folder / f"{column}.log").write_text(done.stdout + done.stderr, "utf-8")
    counts = {
        name: int(number) for number, name in re.findall(r"(\d+) (passed|failed|skipped|error)", done.stdout[-300:])
    }
    listed = run(UV, "pip", "list", "--quiet", "--format", "json", "--python", python, capture_output=True, text=True)
    versions = {one["name"]: one["version"] for one in json.loads(listed.stdout)}
    row = {"python": run(python, "--version", capture_output=True, text=True).stdout.split()[1], "counts": counts}
    row |= {"packages": {name: versions.get(name) for name in SHOWN}, "status": done.returncode}
    minutes = (time.monotonic() - begin) / 60
    print(f"{column}: {counts} in {minutes:.1f} min; {folder / column}.log", flush=True)
    return row


def table(found: dict[str, dict]) -> str:
    """Return a Markdown table with a column per environment."""
    lines = ["| | " + " | ".join(found) + " |", "|---|" + "---|" * len(found)]
    lines.append("| Python | " + " | ".join(row["python"] for row in found.values()) + " |")
    for name in SHOWN:
        lines.append(f"| {name} | " + " | ".join(row["packages"][name] or "" for row in found.values()) + " |")
    tests = [", ".join(f"{number} {name}" for name, number in row["counts"].items()) for row in found.values()]
    lines.append("| tests | " + " | ".join(tests) + " |")
    return "\n".join(lines)


def write_table(text: str) -> None:
    """Write the table between its markers in the README."""
    before, _, rest = README.read_text("utf-8").partition(START)
    _, _, after = rest.partition(END)
    README.write_text(f"{before}{START}\n{text}\n{END}{after}", "utf-8")


def main() -> int:
    """Run the columns; writes the table to the README if all columns were run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("columns", nargs="*", metavar="COLUMN", help="oldest, locked, newest; default: all")
    parser.add_argument("--folder", type=Path, default=ROOT / ".venv" / "versions", help="for environments and logs")
    args = parser.parse_args()
    if unknown := set(args.columns) - set(PYTHONS):
        parser.error(f"{', '.join(sorted(unknown))}: give some of {', '.join(PYTHONS)}")
    folder = args.folder.absolute()
    folder.mkdir(parents=True, exist_ok=True)
    columns = args.columns or list(PYTHONS)
    begin = time.monotonic()
    pythons = [install(column, folder / column) for column in columns]
    print(f"installed in {(time.monotonic() - begin) / 60:.1f} min", flush=True)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        rows = pool.map(try_column, columns, pythons, [folder] * len(columns))
        found = dict(zip(columns, rows, strict=True))
    print(table(found))
    if len(found) == len(PYTHONS):
        write_table(table(found))
    return int(any(row["status"] for row in found.values()))


if __name__ == "__main__":
    sys.exit(main())
