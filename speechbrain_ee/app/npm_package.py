# SPDX-License-Identifier: Apache-2.0
"""Packages of the npm registry: download a pinned version, check its hash, and read files from it."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
import urllib.request
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from ee_runtime.files import read_bytes, write_whole

MAX_BYTES = 200 * 2**20
TIMEOUT_S = 60


class NpmPackage(NamedTuple):
    """A pinned package.

    Arguments
    ---------
    name : str
        Name in the registry.
    version : str
        Exact version.
    integrity : str
        ``dist.integrity`` of the registry: ``sha512-`` and the hash of the tarball in base64.
    """

    name: str
    version: str
    integrity: str

    @property
    def file(self) -> str:
        """Name of the tarball.

        Example
        -------
        >>> NpmPackage("axe-core", "4.14.1", "sha512-").file
        'axe-core-4.14.1.tgz'
        """
        return f"{self.name}-{self.version}.tgz"


def cache_folder() -> Path:
    """Return the folder of downloaded packages: ``speechbrain_ee/npm`` in the user's cache folder."""
    base = os.environ.get("XDG_CACHE_HOME")
    return Path(base if base and os.path.isabs(base) else Path.home() / ".cache") / "speechbrain_ee" / "npm"


def registry() -> str:
    """Return the address of the registry that npm is configured for.

    Raises
    ------
    OSError
        If neither npm nor the variable ``npm_config_registry`` says which one that is.
    """
    found = os.environ.get("npm_config_registry") or os.environ.get("NPM_CONFIG_REGISTRY")
    if not found and (npm := shutil.which("npm")):
        asked = [npm, "config", "get", "registry"]
        try:
            done = subprocess.run(asked, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise OSError(f"{npm} cannot tell its registry ({error}): repair it or remove it from PATH") from None
        found = done.stdout.strip() if done.returncode == 0 else ""
    if not found or not found.startswith(("https://", "http://")):
        raise OSError("npm does not say which registry it uses: install npm, or set npm_config_registry")
    return found.rstrip("/") + "/"


def download(package: NpmPackage, cache: Path | None = None) -> Path:
    """Return the tarball of a package, from the cache or else from the registry.

    Arguments
    ---------
    package : NpmPackage
        The package.
    cache : Path | None
        Folder for the tarball; None means :func:`cache_folder`.

    Returns
    -------
    Path
        The tarball; its hash is the pinned one.

    Raises
    ------
    OSError
        If the registry cannot be reached or the tarball cannot be written.
    ValueError
        If the hash of the downloaded tarball differs.
    """
    path = (cache_folder() if cache is None else cache) / package.file
    if path.is_file() and integrity_of(path.read_bytes()) == package.integrity:
        return path
    address = f"{registry()}{package.name}/-/{package.file}"
    try:
        with urllib.request.urlopen(address, timeout=TIMEOUT_S) as reply:
            data = reply.read(MAX_BYTES + 1)
    except (OSError, ValueError) as error:  # urllib's errors are OSErrors; a malformed address is a ValueError
        reason = getattr(error, "reason", None) or error
        where = _without_password(address)
        raise OSError(f"cannot download {package.name} {package.version} from {where}: {reason}") from None
    _check(data, package, _without_password(address))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, data)
    return path


def _without_password(address: str) -> str:
    """Return an address without the name and password that a registry can have in it."""
    scheme, _, rest = address.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def integrity_of(data: bytes) -> str:
    """Return the hash of a tarball as npm writes it.

    Example
    -------
    >>> integrity_of(b"")[:20]
    'sha512-z4PhNX7vuL3xV'
    """
    return "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()


def read_members(tarball: Path, package: NpmPackage, names: Iterable[str]) -> dict[str, bytes]:
    """Read files of a tarball after checking its hash; nothing is extracted to the disk.

    Arguments
    ---------
    tarball : Path
        The tarball.
    package : NpmPackage
        The package that it must be.
    names : iterable of str
        Files, relative to the root of the package.

    Returns
    -------
    dict of str to bytes
        Contents by name.

    Raises
    ------
    ValueError
        If the hash differs, or a file is missing.
    """
    try:
        _check(read_bytes(tarball, max_bytes=MAX_BYTES), package, str(tarball))
    except FileNotFoundError:
        raise ValueError(f"{tarball}: no such file or folder") from None
    with tarfile.open(tarball, "r:gz") as archive:
        members = {member.name: member for member in archive if member.isfile()}
        found = {}
        for name in names:
            member = members.get(f"package/{name}")
            if member is None:
                raise ValueError(f"{tarball} has no file {name}: {package.name} {package.version} is needed")
            found[name] = archive.extractfile(member).read()
    return found


def _check(data: bytes, package: NpmPackage, where: str) -> None:
    if len(data) > MAX_BYTES:
        raise ValueError(f"{where} is larger than {MAX_BYTES} bytes")
    if integrity_of(data) != package.integrity:
        raise ValueError(
            f"{where} is not {package.name} {package.version}: its SHA-512 differs from the pinned one; do not use it"
        )
