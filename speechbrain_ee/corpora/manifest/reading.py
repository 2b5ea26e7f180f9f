# SPDX-License-Identifier: Apache-2.0
"""Read a manifest of any supported format as a list of utterances."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import replace
from pathlib import Path

from speechbrain_ee.corpora.manifest.csv_rows import csv_rows
from speechbrain_ee.corpora.manifest.excerpts import file_info
from speechbrain_ee.corpora.manifest.json_rows import json_rows
from speechbrain_ee.corpora.manifest.lhotse_cuts import is_lhotse, lhotse_rows
from speechbrain_ee.corpora.manifest.text import NAMES, ManifestError, read_text
from speechbrain_ee.corpora.manifest.utterance import REQUIRED, Utterance, utterance_from_row

CSV_SUFFIXES = (".csv", ".tsv")


def read_manifest(
    path: str | Path, *, data_root: str | Path | None = None, required: Sequence[str] = REQUIRED
) -> list[Utterance]:
    """Read a manifest: SpeechBrain CSV (``.csv``, ``.tsv``), else JSON lines, SpeechBrain JSON or lhotse cuts.

    A JSON line has ``audio_filepath``, ``duration`` and ``text``, and optionally ``speaker`` and ``id``. A CSV has the
    columns ``ID,duration,wav,spk_id,wrd``. SpeechBrain JSON is an object of utterances by id. Every format accepts the
    names of the others, see :data:`~speechbrain_ee.corpora.manifest.text.NAMES`. The default id is the stem of the
    audio file, its path without suffix if two files have the same stem, or else its path; several parts or channels of
    a file get their offset, or first sample, and channel appended.

    A row with ``offset`` (seconds), or with ``start`` and ``stop`` (samples), is a part of its file, see
    :func:`~speechbrain_ee.corpora.manifest.excerpts.excerpt_from_row`.

    Arguments
    ---------
    path : str | Path
        The manifest.
    data_root : str | Path | None
        Folder of relative audio paths, which also replaces ``{data_root}`` and ``$data_root`` at their beginning. None
        means the manifest's folder; for lhotse cuts, the current folder, as in lhotse.
    required : Sequence[str]
        Keys that every row must have; a missing text is empty and a missing duration is 0.

    Returns
    -------
    list[Utterance]
        In the manifest's order, with absolute audio paths.

    Raises
    ------
    ManifestError
        If the file is missing, empty or of an unknown format, a key is missing or has an invalid value, an id is
        repeated, or ``data_root`` is not a folder.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> line = '{"audio_filepath": "a.wav", "duration": 1.5, "text": "the cat"}'
    >>> _ = (folder / "dev.jsonl").write_text(line)
    >>> read_manifest(folder / "dev.jsonl")[0].id
    'a'
    """
    path = Path(path)
    if data_root is not None and not Path(data_root).is_dir():
        raise ManifestError(f"data_root {data_root} is not a folder: give the folder of the manifest's audio paths")
    if data_root is None:
        data_root = Path() if is_lhotse(path) else path.parent
    root = Path(os.path.abspath(data_root))
    utterances, without_id, info = [], [], file_info()
    for where, row in _read_rows(path, required):
        utterances.append(utterance_from_row(row, root, f"{path}, {where}", info, required))
        if not utterances[-1].id:
            without_id.append((len(utterances) - 1, row["audio_filepath"], row))
    if not utterances:
        raise ManifestError(f"{path} has no utterances: give a manifest with at least one line")
    _set_default_ids(utterances, without_id)
    _check_unique(path, utterances)
    return utterances


def _read_rows(path: Path, required: Sequence[str]) -> Iterator[tuple[str, dict]]:
    """Yield the position of each row ("line 3") and its values by the names of :data:`NAMES`."""
    if is_lhotse(path):
        yield from lhotse_rows(path, needs_text="text" in required)
        return
    text = read_text(path)
    rows = csv_rows(path, text, required) if path.suffix.lower() in CSV_SUFFIXES else json_rows(path, text)
    for where, row in rows:
        yield where, _renamed(row)


def _renamed(row: dict) -> dict:
    """Add our names to a row; split SpeechBrain's ``wav: {"file": ..., "start": ...}`` into its parts."""
    named = dict(row)
    for name, others in NAMES.items():
        named[name] = next((row[other] for other in others if row.get(other) is not None), None)
    if isinstance(audio := named["audio_filepath"], dict):
        named |= {key: value for key, value in audio.items() if key in ("start", "stop")}
        named["audio_filepath"] = audio.get("file", audio)
    return named


def _set_default_ids(utterances: list[Utterance], without_id: list[tuple[int, str, dict]]) -> None:
    """Name utterances without id by their audio path as written, which does not depend on the machine or on the file.

    Several parts or channels of a file are told apart by their offsets, or first samples, and channels.
    """
    names = _file_names({audio for _, audio, _ in without_id})
    files = Counter(audio for _, audio, _ in without_id)
    for position, audio, row in without_id:
        name = names[audio]
        if files[audio] > 1:
            name += _part_name(row)
        utterances[position] = replace(utterances[position], id=name)


def _file_names(files: Set[str]) -> dict[str, str]:
    """Return a name for each file: its stem, its path without suffix, or its path, whichever no other file has."""
    names = {}
    for name_of in (lambda one: Path(one).stem, lambda one: Path(one).with_suffix("").as_posix(), str):
        counts = Counter(name_of(one) for one in files)
        names = {one: name_of(one) for one in files if counts[name_of(one)] == 1} | names
    return names


def _part_name(row: dict) -> str:
    """Return what tells a part from others of the same file."""
    name, offset = "", row.get("offset")
    if offset not in (None, ""):
        name = f"-{offset:.3f}" if round(offset, 3) == offset else f"-{offset}"
    elif row.get("start") not in (None, "") or row.get("stop") not in (None, ""):
        name = f"-{int(row.get('start') or 0)}"
    channel = row.get("channel_selector")
    return name if channel in (None, "") else f"{name}-ch{int(channel)}"


def _check_unique(path: Path, utterances: list[Utterance]) -> None:
    counts = Counter(utterance.id for utterance in utterances)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise ManifestError(
            f"{path} has {len(repeated)} repeated ids (first: {repeated[0]!r}): give every utterance a unique id"
        )


def manifest_name(path: str | Path) -> str:
    """Return the name of a set: the file name of its manifest without ending.

    Example
    -------
    >>> manifest_name("data/dev.jsonl"), manifest_name("cuts_dev.jsonl.gz")
    ('dev', 'cuts_dev')
    """
    path = Path(path)
    return Path(path.stem).stem if path.suffix.lower() == ".gz" else path.stem
