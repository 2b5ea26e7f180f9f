# SPDX-License-Identifier: Apache-2.0
"""Manifests: the list of utterances of a corpus, as JSON lines, SpeechBrain JSON or SpeechBrain CSV."""

import hashlib
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from speechbrain_ee.corpora.manifest_rows import read_rows
from speechbrain_ee.corpora.manifest_text import PARTS, ManifestError, shortened
from speechbrain_ee.files import write_whole

__all__ = ["ManifestError", "Utterance", "digest", "read_manifest", "write_manifest"]

REQUIRED = ("audio_filepath", "duration", "text")
MAX_DURATION_S = 100 * 3600
DATA_ROOT = re.compile(r"\$\{?(?:data_root|data_folder)\b\}?|\{(?:data_root|data_folder)\}")
SURROGATE = re.compile("[\ud800-\udfff]")


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
    """Reads a manifest: `.csv` as SpeechBrain CSV, every other suffix as JSON lines or SpeechBrain JSON.

    A JSON line has `audio_filepath`, `duration`, `text` and may have `speaker` and `id`; a CSV has the columns
    `ID,duration,wav,spk_id,wrd`; SpeechBrain JSON is an object of utterances by id. The names of the one form, and
    other usual ones, are taken in the others too. Where a JSON line has no id, the file's stem is it (or the path
    without its suffix where two files have the same stem).

    Arguments
    ---------
    path : str | Path
        The manifest.
    data_root : str | Path | None
        The folder that relative audio paths start from, and that `{data_root}` and `$data_root` at their beginning
        stand for; None: the manifest's folder.

    Returns
    -------
    list[Utterance]
        In the manifest's order, with absolute audio paths.

    Raises
    ------
    ManifestError
        If the file is missing or empty or has no known form, a key is missing or has a wrong value, an id is repeated,
        or data_root is no folder.

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
        raise ManifestError(f"data_root {data_root} is no folder: give the one that the audio paths start from")
    root = Path(os.path.abspath(path.parent if data_root is None else data_root))
    utterances, without_id = [], []
    for where, row in read_rows(path):
        where = f"{path}, {where}"
        utterances.append(_utterance(row, root, where))
        if not utterances[-1].id:
            without_id.append((len(utterances) - 1, row["audio_filepath"]))
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

    Raises
    ------
    ManifestError
        If a text, id, speaker or path has a character that UTF-8 cannot hold.

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


def digest(utterances: Sequence[Utterance]) -> str:
    """Gives a fingerprint of ids and texts in their order: the same wherever the audio lies.

    Example
    -------
    >>> one = Utterance("a", Path("/here/a.wav"), 1.5, "the cat")
    >>> digest([one]) == digest([replace(one, audio_filepath=Path("/there/a.wav"))])
    True
    """
    rows = json.dumps([[utterance.id, utterance.text] for utterance in utterances])
    return hashlib.sha256(rows.encode()).hexdigest()[:16]


def _utterance(row: dict, root: Path, where: str) -> Utterance:
    """Checks one row, whatever file form it came from."""
    for key in REQUIRED:
        if row[key] is None:
            raise ManifestError(f"{where} has no {key}: give {', '.join(REQUIRED)} for every utterance")
    for key in PARTS:
        if row.get(key) not in (None, "", 0):
            raise ManifestError(
                f"{where} has {key} {shortened(row[key])}, parts of a file are not supported: "
                "cut the audio into one file per utterance"
            )
    for key in ("audio_filepath", "text"):
        if not isinstance(row[key], str) or (key == "audio_filepath" and not row[key].strip()):
            raise ManifestError(f"{where} has {key} {shortened(row[key])}: it must be a string")
    names = {key: _name(row[key], key, where) for key in ("id", "speaker")}
    audio = _audio_path(row["audio_filepath"], root, where)
    for key, text in {**names, "text": row["text"], "audio path": str(audio)}.items():
        _check_characters(text or "", f"{where} has {key}")
    return Utterance(
        id=names["id"] or "",
        audio_filepath=audio,
        duration=_duration(row["duration"], where),
        text=row["text"],
        speaker=names["speaker"],
    )


def _name(value: object, key: str, where: str) -> str | None:
    """An id or a speaker as a string; blanks, and pandas' NaN, are none."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return None
    if isinstance(value, str) and not value.strip():
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ManifestError(f"{where} has {key} {shortened(value)}: it must be a string or a number")
    return str(value)


def _audio_path(audio: str, root: Path, where: str) -> Path:
    match = DATA_ROOT.search(audio)
    if match and match.start() > 0:
        raise ManifestError(
            f"{where} has {match[0]} in the middle of the path {shortened(audio)}: it must stand at the beginning"
        )
    if match:
        rest = audio[match.end() :]
        audio = rest.lstrip("/") if rest[:1] in ("", "/") else f"{root}{rest}"
    return Path(os.path.abspath(root / audio))  # without `..`


def _check_characters(text: str, what: str) -> None:
    """Refuses what no UTF-8 file can hold, such as half an emoji: results with it could not be written."""
    if found := SURROGATE.search(text):
        raise ManifestError(
            f"{what} {shortened(text)} with half of a surrogate pair (U+{ord(found[0]):04X}), which UTF-8 cannot hold: "
            "remove the character, or rename the file"
        )
    if "\0" in text:
        raise ManifestError(f"{what} {shortened(text)} with a null character: remove it")


def _duration(value: object, where: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= MAX_DURATION_S:
        raise ManifestError(
            f"{where} has duration {shortened(value)}: it must be a number of seconds above 0 and at most "
            f"{MAX_DURATION_S}"
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
    for text in (utterance.id, utterance.text, utterance.speaker or "", str(utterance.audio_filepath)):
        _check_characters(text, f"utterance {shortened(utterance.id)} has")
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
