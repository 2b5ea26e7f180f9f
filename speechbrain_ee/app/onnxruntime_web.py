# SPDX-License-Identifier: Apache-2.0
"""The files of onnxruntime-web that the page needs: its build for WebAssembly, pinned by hash."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import NamedTuple

from speechbrain_ee.app.npm_package import NpmPackage, download, read_members

PACKAGE = NpmPackage(
    "onnxruntime-web",
    "1.30.0",
    "sha512-q0y+JrrtukXSzsBWEMccVfqX25LRmosXHF+CaRJmg8pZClzcV7svNc4rKY3jL02Vb7QmRMDs1SigqR4CXAfKYQ==",
)
OPTION = "--onnxruntime-web"


class VendoredFile(NamedTuple):
    """A file of the package.

    Arguments
    ---------
    source : str
        Path in the package.
    sha256 : str
        64 hexadecimal digits.
    """

    source: str
    sha256: str


# By name in the site. The names end in .js instead of .mjs, because some web servers do not serve .mjs as JavaScript.
FILES = {
    "ort.js": VendoredFile("dist/ort.wasm.min.mjs", "219e6a1fc8a9938268d18efca3c91d310bd2f4a59bbd13744df5b2b7fc6cee3b"),
    "ort-wasm.js": VendoredFile(
        "dist/ort-wasm-simd-threaded.mjs", "e13f7f94fc51b4ca72b12faeb1ee95f4ace6dfbc8939bc718aabdc0a27c4299b"
    ),
    "ort-wasm.wasm": VendoredFile(
        "dist/ort-wasm-simd-threaded.wasm", "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2"
    ),
}


def read_files(given: Path | None = None) -> dict[str, bytes]:
    """Return the files of onnxruntime-web by their names in the site.

    Arguments
    ---------
    given : Path | None
        The tarball of the pinned version, or a folder with the package, such as ``node_modules/onnxruntime-web``; None
        means the registry that npm is configured for, or an earlier download.

    Returns
    -------
    dict of str to bytes
        Contents by name.

    Raises
    ------
    OSError
        If the registry cannot be reached.
    ValueError
        If a file is missing, or is not that of the pinned version.
    """
    sources = [file.source for file in FILES.values()]
    if given is not None and given.is_dir():
        found = _read_folder(given, sources)
    else:
        found = read_members(_tarball() if given is None else given, PACKAGE, sources)
    for file in FILES.values():
        if hashlib.sha256(found[file.source]).hexdigest() != file.sha256:
            raise ValueError(
                f"{given}: {file.source} is not that of {PACKAGE.name} {PACKAGE.version}: its SHA-256 differs; give "
                "another folder"
            )
    return {name: found[file.source] for name, file in FILES.items()}


def _tarball() -> Path:
    try:
        return download(PACKAGE)
    except OSError as error:
        raise OSError(
            f"{error}; without a connection, give {OPTION} {PACKAGE.file}, which npm pack "
            f"{PACKAGE.name}@{PACKAGE.version} downloads on another machine"
        ) from None


def _read_folder(folder: Path, names: list[str]) -> dict[str, bytes]:
    found = {}
    for name in names:
        path = folder / name
        if not path.is_file():
            raise ValueError(
                f"{folder} has no file {name}: give a folder with {PACKAGE.name} {PACKAGE.version}, or its tarball"
            )
        found[name] = path.read_bytes()
    return found
