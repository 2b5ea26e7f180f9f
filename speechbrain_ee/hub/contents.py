# SPDX-License-Identifier: Apache-2.0
"""The list of files of a bundle, ``bundle.json``: what belongs to it, with sizes and hashes.

Only listed files are published, and only if they are unchanged; a file that somebody put into the folder later is
refused by name.
"""

import json
import os
from collections.abc import Iterable
from pathlib import Path

from ee_runtime.files import parse_json, read_bytes, write_whole
from speechbrain_ee.model.fingerprint import file_digest

CONTENTS_FILE = "bundle.json"
FORMAT = 1
MAX_BYTES = 2**20
AGAIN = "make the bundle again"
MAX_NAMED = 5  # files in an error


class ContentsError(ValueError):
    """A folder is not an unchanged bundle.

    Arguments
    ---------
    what : str
        What is wrong.
    remedy : str
        What to do.
    """

    def __init__(self, what: str, remedy: str):
        super().__init__(f"{what}: {remedy}")
        self.what = what


def write_contents(folder: str | Path) -> dict:
    """Write ``bundle.json`` for all files of a folder; return its contents.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "a.txt").write_text("abc")
    >>> write_contents(folder)["files"]["a.txt"]["bytes"]
    3
    """
    folder = Path(folder)
    files = {name: _facts(folder / name) for name in _files(folder) if name != CONTENTS_FILE}
    contents = {"format": FORMAT, "files": files}
    write_whole(folder / CONTENTS_FILE, (json.dumps(contents, indent=1) + "\n").encode())
    return contents


def check_contents(folder: str | Path) -> dict[str, int]:
    """Check that a folder is an unchanged bundle.

    Arguments
    ---------
    folder : str | Path
        A folder that ``speechbrain-ee bundle`` wrote.

    Returns
    -------
    dict[str, int]
        Size in bytes of every file by its name in the folder, ``bundle.json`` included.

    Raises
    ------
    ContentsError
        If the folder is not a bundle, a file is missing, changed, a link, or not listed.
    """
    folder = Path(folder)
    listed = _read(folder)
    there = set(_files(folder)) - {CONTENTS_FILE}
    if extra := sorted(there - set(listed)):
        raise ContentsError(f"{folder} has files that do not belong to the bundle: {_named(extra)}", "remove them")
    if missing := sorted(set(listed) - there):
        raise ContentsError(f"{folder} lacks files of the bundle: {_named(missing)}", AGAIN)
    if changed := sorted(name for name, facts in listed.items() if _facts(folder / name) != facts):
        raise ContentsError(
            f"{folder} has files that changed after the bundle was made: {_named(changed)}",
            "restore them, or make the bundle again in another folder; options of speechbrain-ee bundle set what the "
            "model card says",
        )
    sizes = {name: facts["bytes"] for name, facts in listed.items()}
    return sizes | {CONTENTS_FILE: (folder / CONTENTS_FILE).stat().st_size}


def check_private(folder: str | Path, words: Iterable[str]) -> None:
    """Check that no file of a folder contains words that must stay private, such as paths of this machine.

    Raises
    ------
    ValueError
        If a file does; the message names the file and the word.
    """
    wanted = {word: word.encode() for word in words if word}
    for name in _files(Path(folder)):
        data = (Path(folder) / name).read_bytes()
        for word, sequence in wanted.items():
            if sequence in data:
                raise ValueError(f"{name} would publish {word}: remove it from the source of this file")


def private_words(run: str | Path) -> list[str]:
    """Return what must not be in a bundle: the user's home, the working folder and the run folder.

    Folders near the root of the file system, which say nothing about a user, are left out.
    """
    folders = [Path.home(), Path.cwd(), Path(run).resolve(), Path(run).absolute()]
    return sorted({str(folder) for folder in folders if len(folder.parts) > 2})


def _files(folder: Path) -> list[str]:
    """Return the names of all files below a folder, with ``/`` between parts; a link is an error."""
    names = []
    for place, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            path = Path(place) / name
            if path.is_symlink() or not (path.is_dir() or path.is_file()):
                what = "a symbolic link" if path.is_symlink() else "no regular file"
                raise ContentsError(f"{path} is {what}", "a bundle has regular files only, remove it")
        names += [(Path(place) / name).relative_to(folder).as_posix() for name in files]
    return sorted(names)


def _facts(path: Path) -> dict:
    return {"bytes": path.stat().st_size, "sha256": file_digest(path).hex()}


def _read(folder: Path) -> dict[str, dict]:
    """Read and check ``bundle.json``."""
    path = folder / CONTENTS_FILE
    try:
        contents = parse_json(read_bytes(path, max_bytes=MAX_BYTES))
    except (FileNotFoundError, NotADirectoryError):
        what = f"{folder} is no bundle, since it has no {CONTENTS_FILE}"
        raise ContentsError(what, "give a folder that speechbrain-ee bundle made") from None
    except (OSError, ValueError) as error:
        raise ContentsError(f"{path}: {getattr(error, 'strerror', None) or error}", AGAIN) from None
    if not isinstance(contents, dict) or contents.get("format") != FORMAT:
        raise ContentsError(f"{path} is not of format {FORMAT}", f"{AGAIN} with this version of speechbrain_ee")
    files = contents.get("files")
    if not isinstance(files, dict) or not files:
        raise ContentsError(f"{path} lists no files", AGAIN)
    return files


def _named(names: list[str]) -> str:
    more = len(names) - MAX_NAMED
    return ", ".join(names[:MAX_NAMED]) + (f" and {more} more" if more > 0 else "")
