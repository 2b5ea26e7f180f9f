# SPDX-License-Identifier: Apache-2.0
"""One utterance of a corpus, checked when it is read from a manifest."""

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ee_runtime.audio import Excerpt
from ee_runtime.audio.excerpt import MAX_SECONDS
from ee_runtime.errors import shortened
from ee_runtime.text.normal_form import normal_form
from speechbrain_ee.corpora.manifest.excerpts import FileInfo, excerpt_from_row, written_part
from speechbrain_ee.corpora.manifest.text import ManifestError

REQUIRED = ("audio_filepath", "duration", "text")
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
        Seconds, > 0; 0 if the manifest has none and need not have one.
    text : str
        Transcript; may be empty. It is converted to Unicode NFC.
    speaker : str | None
        None if unknown.
    offset : float | None
        Start in the file, in seconds; None if the utterance is the whole file.
    channel : int | None
        Its channel in the file, from 0; None if all channels are mixed.
    written_part : str
        What the manifest writes about the part, such as ``start 16000 stop 32000``, which does not depend on the file;
        empty for a whole file. Not compared.

    Example
    -------
    >>> Utterance("a", Path("/corpus/a.wav"), 1.5, "the cat").duration
    1.5
    >>> Utterance("a", Path("/corpus/talk.wav"), 1.5, "the cat", offset=600.0).excerpt
    Excerpt(offset=600.0, duration=1.5, channel=None)
    """

    id: str
    audio_filepath: Path
    duration: float
    text: str
    speaker: str | None = None
    offset: float | None = None
    channel: int | None = None
    written_part: str = field(default="", compare=False)

    @property
    def excerpt(self) -> Excerpt | None:
        """The part of the file to read; None for all of it."""
        if self.offset is None and self.channel is None:
            return None
        return Excerpt(self.offset or 0.0, None if self.offset is None else self.duration or None, self.channel)

    def __post_init__(self):
        object.__setattr__(self, "text", normal_form(self.text))


def utterance_from_row(
    row: dict, root: Path, where: str, info: FileInfo, required: Sequence[str] = REQUIRED
) -> Utterance:
    """Check one row of a manifest and make an utterance of it.

    Arguments
    ---------
    row : dict
        Values by the names of :data:`~speechbrain_ee.corpora.manifest.text.NAMES`.
    root : Path
        Folder of relative audio paths.
    where : str
        File and line, for error messages.
    info : FileInfo
        Facts of audio files, for rows in samples or without the end of a part.
    required : Sequence[str]
        Keys that the row must have. Without ``duration``, a part of a file that cannot be read may have no offset.

    Returns
    -------
    Utterance
        Its id is empty if the row has none.

    Raises
    ------
    ManifestError
        If a value is missing or invalid.
    """
    is_part = any(row.get(key) not in (None, "") for key in ("offset", "start", "stop"))
    for key in required:
        if row[key] is None and not (is_part and key == "duration"):
            raise ManifestError(f"{where} has no {key}: give {', '.join(required)} for every utterance")
    if row["text"] is None:
        row = row | {"text": ""}
    for key in ("audio_filepath", "text"):
        if not isinstance(row[key], str) or (key == "audio_filepath" and not row[key].strip()):
            raise ManifestError(f"{where} has {key} {shortened(row[key])}: it must be a string")
    names = {key: _name(row[key], key, where) for key in ("id", "speaker")}
    audio = _audio_path(row["audio_filepath"], root, where)
    for key, text in {**names, "text": row["text"], "audio path": str(audio)}.items():
        check_characters(text or "", f"{where} has {key}")
    duration = None if row["duration"] is None else _duration(row["duration"], where)
    needs_file = "duration" in required
    offset, duration, channel = excerpt_from_row(row, audio, duration, where, info, needs_file=needs_file)
    return Utterance(
        id=names["id"] or "",
        audio_filepath=audio,
        duration=duration or 0.0,  # 0 if it need not be given
        text=row["text"],
        speaker=names["speaker"],
        offset=offset,
        channel=channel,
        written_part=written_part(row) if is_part else "",
    )


def check_characters(text: str, what: str) -> None:
    """Refuse characters that a UTF-8 file cannot hold, such as half of an emoji: results could not be written."""
    if found := SURROGATE.search(text):
        raise ManifestError(
            f"{what} {shortened(text)} with half of a surrogate pair (U+{ord(found[0]):04X}), which UTF-8 cannot hold: "
            "remove the character, or rename the file"
        )
    if "\0" in text:
        raise ManifestError(f"{what} {shortened(text)} with a null character: remove it")


def _name(value: object, key: str, where: str) -> str | None:
    """Return an id or a speaker as a string; blank strings and the NaN of pandas mean None."""
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
            f"{where} has {match[0]} in the middle of the path {shortened(audio)}: put it at the beginning"
        )
    if match:
        rest = audio[match.end() :]
        audio = rest.lstrip("/") if rest[:1] in ("", "/") else f"{root}{rest}"
    path = root / audio
    if ".." in path.parts:  # through a link, it is not the folder above in the path as written
        return Path(os.path.realpath(path.parent), path.name)
    return Path(os.path.abspath(path))


def _duration(value: object, where: str) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value <= MAX_SECONDS:
        raise ManifestError(
            f"{where} has duration {shortened(value)}: it must be a number of seconds above 0 and at most {MAX_SECONDS}"
        )
    return float(value)
