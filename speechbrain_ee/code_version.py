# SPDX-License-Identifier: Apache-2.0
"""What code computed a file: results that another version computed must not be used in silence."""

import hashlib
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGE = Path(__file__).parent


@cache
def code_version(*patterns: str, libraries: tuple[str, ...] = ()) -> str:
    """Hash of source files of this package and of the versions of libraries.

    Unlike a version number it cannot be forgotten when the code is changed.

    Arguments
    ---------
    *patterns : str
        Files as glob patterns below the package.
    libraries : tuple[str, ...]
        Distributions whose version counts; one that is not installed counts too.

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
    for path in sorted({path for pattern in patterns for path in PACKAGE.glob(pattern)}):
        content = path.read_bytes().replace(b"\r\n", b"\n")
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {len(content)}\n".encode() + content)
    for library in libraries:
        digest.update(f"{library} {_version(library)}\n".encode())
    return digest.hexdigest()[:8]


def _version(library: str) -> str | None:
    try:
        return version(library)
    except PackageNotFoundError:
        return None
