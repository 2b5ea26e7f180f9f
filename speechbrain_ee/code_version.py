# SPDX-License-Identifier: Apache-2.0
"""A hash of the code that computes a file, to detect results of another version."""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import ee_runtime

PACKAGES = (Path(__file__).parent, Path(ee_runtime.__file__).parent)


@cache
def code_version(*patterns: str, libraries: tuple[str, ...] = ()) -> str:
    """Hash source files of this package and of ee_runtime, and versions of libraries.

    Unlike a version number, it changes with every change of the code.

    Arguments
    ---------
    *patterns : str
        Glob patterns of files, relative to either package.
    libraries : tuple[str, ...]
        Distributions whose versions are included, also if not installed.

    Returns
    -------
    str
        8 hexadecimal digits.

    Example
    -------
    >>> len(code_version("lobes/*.py", libraries=("speechbrain",)))
    8
    """
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted({path for pattern in patterns for path in package.glob(pattern)}):
            content = path.read_bytes().replace(b"\r\n", b"\n")
            digest.update(f"{path.relative_to(package).as_posix()} {len(content)}\n".encode() + content)
    for library in libraries:
        digest.update(f"{library} {_version(library)}\n".encode())
    return digest.hexdigest()[:8]


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
