#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Build and check the distributions, and install the wheels in empty environments: make release-check.

python tests/release.py [--tag v0.1.0]

Writes dist/. Installs the runtime's wheel alone, then both wheels, with the newest packages of PyPI, and runs the
commands. Takes some minutes, and 6 GB of disk for torch. Ends with status 1 at the first failure.
"""

import argparse
import re
import shutil
import subprocess
import tarfile
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV = ROOT / ".venv" / "bin" / "uv"
DIST = ROOT / "dist"
BUILD, TWINE = "build==1.6.1", "twine==7.0.0"
FOLDERS = {"speechbrain_ee": ROOT, "speechbrain_ee_runtime": ROOT / "runtime"}
PACKAGES = {"speechbrain_ee": ROOT / "speechbrain_ee", "speechbrain_ee_runtime": ROOT / "runtime" / "ee_runtime"}
# What a source distribution has besides its package.
SOURCE_FILES = {
    "speechbrain_ee": {"setup.py", "MANIFEST.in", "CHANGELOG.md", "CITATION.cff", "SECURITY.md"},
    "speechbrain_ee_runtime": set(),
}
COMMON_SOURCE_FILES = {"LICENSE", "PKG-INFO", "README.md", "pyproject.toml", "setup.cfg"}


def run(*command: str | Path, **options) -> subprocess.CompletedProcess:
    """Run a command outside the repository's root, so that the installed package is imported and not the source."""
    return subprocess.run([str(one) for one in command], check=True, **options)


def version_of(name: str) -> str:
    """Return the version that a distribution states."""
    text = (PACKAGES[name] / "__init__.py").read_text("utf-8")
    return re.search(r'^__version__ = "([^"]+)"', text, re.MULTILINE).group(1)


def package_files(name: str) -> set[str]:
    """Return the files that a package must contain."""
    package = PACKAGES[name]
    paths = (path for path in package.rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(package.parent).as_posix() for path in paths}


def difference(found: set[str], wanted: set[str]) -> str:
    """Return what is missing and what must not be there, in words; empty if nothing."""
    missing, extra = sorted(wanted - found), sorted(found - wanted)
    return "; ".join(f"{what}: {', '.join(names)}" for what, names in (("missing", missing), ("extra", extra)) if names)


def check_wheel(name: str, wheel: Path) -> None:
    """Check that a wheel has the package, its metadata and the licence, and nothing else."""
    info = f"{name}-{version_of(name)}.dist-info"
    metadata = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "top_level.txt", "licenses/LICENSE"}
    with zipfile.ZipFile(wheel) as archive:
        found = {file for file in archive.namelist() if not file.endswith("/")}
    if wrong := difference(found, package_files(name) | {f"{info}/{file}" for file in metadata}):
        raise SystemExit(f"{wheel.name}: {wrong}")


def check_source(name: str, source: Path) -> None:
    """Check that a source distribution has the package and what its build needs, and nothing else."""
    with tarfile.open(source) as archive:
        files = {one.name.partition("/")[2] for one in archive.getmembers() if one.isfile()}
    found = {file for file in files if ".egg-info/" not in file}
    if wrong := difference(found, package_files(name) | COMMON_SOURCE_FILES | SOURCE_FILES[name]):
        raise SystemExit(f"{source.name}: {wrong}")


def build() -> list[Path]:
    """Build both distributions into dist/ and check their contents and metadata; return the wheels."""
    for folder in (DIST, ROOT / "build", ROOT / "runtime" / "build"):
        shutil.rmtree(folder, ignore_errors=True)  # setuptools would add files that it finds there
    for name, folder in FOLDERS.items():
        run(UV, "tool", "run", "--from", BUILD, "pyproject-build", "--outdir", DIST, folder, stdout=subprocess.DEVNULL)
        check_source(name, DIST / f"{name}-{version_of(name)}.tar.gz")
        check_wheel(name, DIST / f"{name}-{version_of(name)}-py3-none-any.whl")
    run(UV, "tool", "run", TWINE, "check", "--strict", *sorted(DIST.iterdir()))
    return sorted(DIST.glob("*.whl"))


def try_installed(wheels: list[Path], *commands: tuple[str, ...]) -> None:
    """Install wheels in an empty environment and run commands of it in an empty folder."""
    with tempfile.TemporaryDirectory() as folder:
        binaries = Path(folder) / "environment" / "bin"
        run(UV, "venv", "--quiet", binaries.parent)
        run(UV, "pip", "install", "--quiet", "--python", binaries / "python", *wheels)
        for program, *words in commands:
            run(binaries / program, *words, cwd=folder, stdout=subprocess.DEVNULL)
        print(f"installed and ran: {', '.join(wheel.name for wheel in wheels)}")


def check_versions(tag: str | None) -> None:
    """Check that both distributions have one version, and that a tag names it."""
    versions = {name: version_of(name) for name in PACKAGES}
    if len(set(versions.values())) > 1:
        raise SystemExit(f"the versions differ: {versions}: run make version NEW=...")
    version = versions["speechbrain_ee"]
    if tag and tag != f"v{version}":
        raise SystemExit(f"the tag is {tag}, but the version is {version}: tag v{version}, or run make version NEW=...")
    if tag and f"## {version}" not in (ROOT / "CHANGELOG.md").read_text("utf-8"):
        raise SystemExit(f'CHANGELOG.md has no section "## {version}": rename "## Unreleased"')


def main() -> None:
    """Read the command line, then build, check and install."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tag", default="", help="fail unless this tag is the version, and CHANGELOG.md has its section"
    )
    check_versions(parser.parse_args().tag)
    wheels = build()
    runtime = [wheel for wheel in wheels if wheel.name.startswith("speechbrain_ee_runtime-")]
    try_installed(
        runtime,
        ("ee-transcribe", "--help"),
        ("ee-bench", "--help"),
        ("python", "-c", "from ee_runtime import EarlyExitRuntime"),
    )
    try_installed(
        wheels,
        ("speechbrain-ee", "--help"),
        ("speechbrain-ee", "transcribe", "--help"),
        ("ee-transcribe", "--help"),
        ("python", "-c", "import speechbrain_ee as s; [getattr(s, name) for name in s.__all__]"),
    )


if __name__ == "__main__":
    main()
