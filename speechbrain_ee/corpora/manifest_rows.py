# SPDX-License-Identifier: Apache-2.0
"""Rows of a manifest file, whatever its form: JSON lines, SpeechBrain JSON, or SpeechBrain CSV."""

from collections.abc import Iterator
from pathlib import Path

from speechbrain_ee.corpora.manifest_csv import csv_rows
from speechbrain_ee.corpora.manifest_json import json_rows
from speechbrain_ee.corpora.manifest_text import NAMES, read_text

CSV_SUFFIXES = (".csv", ".tsv")


def read_rows(path: Path) -> Iterator[tuple[str, dict]]:
    """Reads the rows of a manifest with the names of :data:`NAMES` brought to one.

    Arguments
    ---------
    path : Path
        ``.csv`` and ``.tsv`` are read as CSV, every other suffix as JSON.

    Yields
    ------
    tuple[str, dict]
        Where the row stands ("line 3"), and its values by name.

    Raises
    ------
    ManifestError
        If the file has no known form; names the line.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.json"
    >>> _ = path.write_text('{"u1": {"wav": "a.wav", "length": 1.5, "words": "the cat"}}')
    >>> next(read_rows(path))[1]["text"]
    'the cat'
    """
    text = read_text(path)
    rows = csv_rows(path, text) if path.suffix.lower() in CSV_SUFFIXES else json_rows(path, text)
    for where, row in rows:
        yield where, _renamed(row)


def _renamed(row: dict) -> dict:
    """Adds our names to a row; SpeechBrain's `wav: {"file": ..., "start": ...}` is taken apart."""
    named = dict(row)
    for name, others in NAMES.items():
        named[name] = next((row[other] for other in others if row.get(other) is not None), None)
    if isinstance(audio := named["audio_filepath"], dict):
        named |= {key: value for key, value in audio.items() if key in ("start", "stop")}
        named["audio_filepath"] = audio.get("file", audio)
    return named
