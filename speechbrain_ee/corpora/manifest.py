# SPDX-License-Identifier: Apache-2.0
"""Manifests: the list of utterances of a corpus, as JSON lines or as SpeechBrain CSV."""

import csv
import json
import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from speechbrain_ee.files import write_whole

CSV_COLUMNS = {"ID": "id", "wav": "audio_filepath", "wrd": "text", "spk_id": "speaker"}
REQUIRED = ("audio_filepath", "duration", "text")
# Other tools cut an utterance out of a long file this way; reading the whole file would be wrong.
UNSUPPORTED = ("offset", "start", "stop")
MAX_DURATION_S = 100 * 3600


class ManifestError(ValueError):
    """A manifest cannot be read; the message is one line that says what to do."""


@dataclass(frozen=True)
class Utterance:
    """One utterance of a corpus.

    Arguments
    ---------
    id : str
        Unique within the manifest.
    audio_filepath : Path
        Absolute path of the audio file.
    duration : float
        Seconds, > 0.
    text : str
        What is said; may be empty.
    speaker : str | None
        None where it is not known.

    Example
    -------
    >>> Utterance("a", Path("/corpus/a.wav"), 1.5, "the cat").duration
    1.5
    """

    id: str
    audio_filepath: Path
    duration: float
    text: str
    speaker: str | None = None


def read_manifest(path: str | Path, *, data_root: str | Path | None = None) -> list[Utterance]:
    """Reads a manifest: `.csv` as SpeechBrain CSV, every other suffix as JSON lines.

    A JSON line has `audio_filepath`, `duration`, `text` and may have `speaker` and `id`; a CSV has
    the columns `ID,duration,wav,spk_id,wrd`. Where a JSON line has no id, the file's stem is it
    (or the path without its suffix where two files have the same stem).

    Arguments
    ---------
    path : str | Path
        The manifest.
    data_root : str | Path | None
        What `{data_root}` and `$data_root` in audio paths stand for; None: the manifest's folder.

    Returns
    -------
    list[Utterance]
        In the manifest's order; relative audio paths are taken from the manifest's folder.

    Raises
    ------
    ManifestError
        If the file is missing or empty, a line is no JSON object, a key is missing or has a wrong
        value, or an id is repeated.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> line = '{"audio_filepath": "a.wav", "duration": 1.5, "text": "the cat"}'
    >>> _ = (folder / "dev.jsonl").write_text(line)
    >>> read_manifest(folder / "dev.jsonl")[0].id
    'a'
    """
    path = Path(path)
    root = Path(data_root) if data_root is not None else path.parent
    rows = _csv_rows(path) if path.suffix.lower() == ".csv" else _json_rows(path)
    utterances, without_id = [], []
    for number, row in rows:
        where = f"{path}, line {number}"
        if row.get("id") is None:
            without_id.append((len(utterances), str(row.get("audio_filepath"))))
        utterances.append(_utterance(row, path.parent, root, where))
    if not utterances:
        raise ManifestError(f"{path} has no utterances: give a manifest with at least one line")
    _name_the_unnamed(utterances, without_id)
    _check_unique(path, utterances)
    return utterances


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Writes JSON lines in one step: a reader sees the old file or the whole new one.

    Audio below the manifest's folder, or below its parent, gets a relative path, so that the
    corpus can be moved; other audio an absolute one.

    Arguments
    ---------
    path : str | Path
        The manifest to write; its folder is made.
    utterances : Iterable[Utterance]
        In the order to write.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> write_manifest(folder / "a.jsonl", [Utterance("a", folder / "wav" / "a.wav", 2.0, "cat")])
    >>> (folder / "a.jsonl").read_text().strip()
    '{"id": "a", "audio_filepath": "wav/a.wav", "duration": 2.0, "text": "cat"}'
    """
    path = Path(os.path.abspath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = (json.dumps(_row(utterance, path.parent), ensure_ascii=False) + "\n" for utterance in utterances)
    write_whole(path, "".join(rows).encode())


def _lines(path: Path) -> list[str]:
    """The file's lines; a byte order mark at the start is dropped."""
    if not path.is_file():
        raise ManifestError(f"manifest {path} does not exist: check the path")
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise ManifestError(f"{path} is not UTF-8 text ({error}): convert it") from None


def _json_rows(path: Path) -> Iterator[tuple[int, dict]]:
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            raise ManifestError(
                f"{path}, line {number} is not JSON ({error.msg}): "
                "each line must be one object with audio_filepath, duration and text"
            ) from None
        if not isinstance(row, dict):
            raise ManifestError(
                f"{path}, line {number} is a JSON {type(row).__name__}: "
                "each line must be one object with audio_filepath, duration and text"
            )
        yield number, row


def _csv_rows(path: Path) -> Iterator[tuple[int, dict]]:
    reader = csv.DictReader(_lines(path), skipinitialspace=True)
    columns = reader.fieldnames or []
    missing = [name for name in ("ID", "duration", "wav", "wrd") if name not in columns]
    if columns and missing:
        raise ManifestError(
            f"{path} has no column {', '.join(missing)}: its first line must name ID,duration,wav,spk_id,wrd"
        )
    for row in _whole_rows(reader, path):
        # A short row gives None, a long one puts what is left under the key None.
        if None in row or None in row.values():
            raise ManifestError(
                f"{path}, line {reader.line_num} does not have {len(columns)} columns: quote texts that contain a comma"
            )
        named = {CSV_COLUMNS.get(name, name): value for name, value in row.items()}
        named["speaker"] = named.get("speaker") or None
        yield reader.line_num, {**named, "duration": _csv_number(named["duration"])}


def _whole_rows(reader: csv.DictReader, path: Path) -> Iterator[dict]:
    try:
        yield from reader
    except csv.Error as error:
        raise ManifestError(f"{path}, after line {reader.line_num}, is not CSV ({error}): mend the line") from None


def _csv_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text  # refused, and shown, by the check that JSON lines go through too


def _utterance(row: dict, folder: Path, data_root: Path, where: str) -> Utterance:
    """Checks one row, whatever file form it came from."""
    for key in REQUIRED:
        if row.get(key) is None:
            raise ManifestError(f"{where} has no {key}: give {', '.join(REQUIRED)} on every line")
    for key in UNSUPPORTED:
        if row.get(key) not in (None, "", 0, 0.0):
            raise ManifestError(
                f"{where} has {key} {row[key]}, parts of a file are not supported: "
                "cut the audio into one file per utterance"
            )
    for key in ("audio_filepath", "text"):
        if not isinstance(row[key], str) or (key == "audio_filepath" and not row[key].strip()):
            raise ManifestError(f"{where} has {key} {row[key]!r}: it must be a string")
    audio = row["audio_filepath"]
    for name in ("{data_root}", "$data_root"):
        audio = audio.replace(name, str(data_root))
    return Utterance(
        id=str(row["id"]) if row.get("id") is not None else "",
        audio_filepath=Path(os.path.abspath(folder / audio)),  # without `..`
        duration=_duration(row["duration"], where),
        text=row["text"],
        speaker=str(row["speaker"]) if row.get("speaker") is not None else None,
    )


def _duration(value: object, where: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= MAX_DURATION_S:
        raise ManifestError(
            f"{where} has duration {value!r}: it must be a number of seconds above 0 and at most {MAX_DURATION_S}"
        )
    return float(value)


def _name_the_unnamed(utterances: list[Utterance], without_id: list[tuple[int, str]]) -> None:
    """Gives utterances without an id one that does not depend on the machine where it can."""
    stems = Counter(Path(audio).stem for _, audio in without_id)
    for position, audio in without_id:
        stem = Path(audio).stem
        name = stem if stems[stem] == 1 else Path(audio).with_suffix("").as_posix()
        utterances[position] = replace(utterances[position], id=name)


def _check_unique(path: Path, utterances: list[Utterance]) -> None:
    counts = Counter(utterance.id for utterance in utterances)
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise ManifestError(
            f"{path} has {len(repeated)} repeated ids (first: {repeated[0]!r}): give every utterance an id of its own"
        )


def _row(utterance: Utterance, folder: Path) -> dict:
    audio = Path(os.path.abspath(utterance.audio_filepath))
    near = audio.is_relative_to(folder) or (
        audio.is_relative_to(folder.parent) and folder.parent != Path(folder.anchor)
    )
    row = {
        "id": utterance.id,
        "audio_filepath": Path(os.path.relpath(audio, folder) if near else audio).as_posix(),
        "duration": utterance.duration,
        "text": utterance.text,
    }
    if utterance.speaker is not None:
        row["speaker"] = utterance.speaker
    return row
