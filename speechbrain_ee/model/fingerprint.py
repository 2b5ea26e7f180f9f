# SPDX-License-Identifier: Apache-2.0
"""Fingerprints of model files, with cached hashes of large files so that loading need not hash the weights."""

import hashlib
import json
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from ee_runtime.files import write_whole

SMALL_BYTES = 2**20  # smaller files are hashed in milliseconds and not cached
SETTLED_S = 2.0  # a file changed more recently may change again without a new time stamp
MAX_ENTRIES = 200


def file_digest(path: str | Path) -> bytes:
    """Return the SHA-256 of a file.

    The hash of a large file is cached in the user's cache folder with its path, size, times and inode. Programs can
    reset the modification time of a file but not its change time (``st_ctime``), so a changed file is hashed again. If
    the cache cannot be written, every call hashes the file.

    Arguments
    ---------
    path : str | Path
        The file.

    Returns
    -------
    bytes
        32 bytes.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a"
    >>> _ = path.write_bytes(b"abc")
    >>> file_digest(path).hex()[:8]
    'ba7816bf'
    """
    before = os.stat(path)
    if before.st_size < SMALL_BYTES:
        return _hash(path)
    place = str(Path(path).resolve())
    known = _read()
    if (entry := known.get(place)) and entry[:-1] == _facts(before):
        return bytes.fromhex(entry[-1])
    digest = _hash(path)
    after = os.stat(path)
    if _facts(after) == _facts(before) and time.time() - max(after.st_mtime, after.st_ctime) > SETTLED_S:
        known.pop(place, None)
        _write(dict([*known.items(), (place, [*_facts(after), digest.hex()])][-MAX_ENTRIES:]))
    return digest


def memory() -> Path:
    """Return the path of the cache of hashes."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "speechbrain_ee" / "digests.json"


def _facts(found: os.stat_result) -> list[int]:
    return [found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino]


def _hash(path: str | Path) -> bytes:
    digest = hashlib.sha256()
    with open(path, "rb") as opened:
        for block in iter(partial(opened.read, 2**20), b""):
            digest.update(block)
    return digest.digest()


def _read() -> dict[str, list]:
    try:
        known = json.loads(memory().read_text("utf-8"))
        return {name: entry for name, entry in known.items() if isinstance(entry, list) and len(entry) == 5}
    except (OSError, ValueError, AttributeError, RuntimeError):
        return {}


def _write(known: dict[str, list]) -> None:
    try:
        memory().parent.mkdir(parents=True, exist_ok=True)
        write_whole(memory(), json.dumps(known).encode())
    except (OSError, ValueError, RuntimeError):  # read-only, full, or no home: the next call hashes again
        pass


def fingerprint(files: Sequence[str | Path]) -> str:
    """Hash the files of a model, to refuse the calibration of another model.

    Arguments
    ---------
    files : sequence of str or Path
        Configuration, weights and tokenizer.

    Returns
    -------
    str
        16 hexadecimal digits.
    """
    digest = hashlib.sha256()
    for file in files:
        digest.update(file_digest(file))
    return digest.hexdigest()[:16]
