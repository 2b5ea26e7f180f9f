# SPDX-License-Identifier: Apache-2.0
"""Write a manifest as JSON lines, and hash its ids and texts."""

import hashlib
import json
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from ee_runtime.errors import shortened
from ee_runtime.files import make_folder, write_whole
from speechbrain_ee.corpora.manifest.utterance import Utterance, check_characters


def write_manifest(path: str | Path, utterances: Iterable[Utterance]) -> None:
    """Write JSON lines atomically: a reader sees the old file or the whole new one.

    Audio below the manifest's folder, or below its parent, gets a relative path, so that the corpus can be moved. Other
    audio gets an absolute path.

    Arguments
    ---------
    path : str | Path
        The manifest to write; its folder is created if missing.
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
    make_folder(path.parent)
    rows = (json.dumps(_row(utterance, path.parent), ensure_ascii=False) + "\n" for utterance in utterances)
    write_whole(path, "".join(rows).encode())


def _row(utterance: Utterance, folder: Path) -> dict:
    for text in (utterance.id, utterance.text, utterance.speaker or "", str(utterance.audio_filepath)):
        check_characters(text, f"utterance {shortened(utterance.id)} has")
    audio = Path(os.path.abspath(utterance.audio_filepath))
    near = audio.is_relative_to(folder) or (
        audio.is_relative_to(folder.parent)
        and folder.parent != Path(folder.anchor)
        and not folder.is_symlink()  # the folder above it is another one
    )
    row = {
        "id": utterance.id,
        "audio_filepath": Path(os.path.relpath(audio, folder) if near else audio).as_posix(),
        "duration": utterance.duration,
        "text": utterance.text,
    }
    if utterance.speaker is not None:
        row["speaker"] = utterance.speaker
    if utterance.offset is not None:
        row["offset"] = utterance.offset
    if utterance.channel is not None:
        row["channel_selector"] = utterance.channel
    return row


def digest(utterances: Sequence[Utterance]) -> str:
    """Hash ids and texts in their order, independently of where the audio is stored.

    Returns
    -------
    str
        16 hexadecimal digits.

    Example
    -------
    >>> from dataclasses import replace
    >>> one = Utterance("a", Path("/here/a.wav"), 1.5, "the cat")
    >>> digest([one]) == digest([replace(one, audio_filepath=Path("/there/a.wav"))])
    True
    """
    rows = json.dumps([[utterance.id, utterance.text] for utterance in utterances])
    return hashlib.sha256(rows.encode()).hexdigest()[:16]
