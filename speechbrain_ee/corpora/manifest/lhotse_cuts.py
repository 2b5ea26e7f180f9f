# SPDX-License-Identifier: Apache-2.0
"""Rows of a lhotse cut manifest (``cuts.jsonl`` or ``cuts.jsonl.gz``), read with lhotse."""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from ee_runtime.errors import one_line, shortened
from speechbrain_ee.corpora.manifest.text import ManifestError

if TYPE_CHECKING:
    from lhotse.cut import MonoCut

GZIP = b"\x1f\x8b"
PEEKED_BYTES = 1 << 20
CUT = re.compile(rb'"type"\s*:\s*"\w+Cut"|"supervisions"\s*:\s*\[')
OTHER = re.compile(rb'"sources"\s*:\s*\[|"recording_id"\s*:\s*"')  # recordings and supervisions
TOLERANCE_S = 0.1  # of a supervision's ends
SAVE = "save its audio with lhotse (cut.save_audio, CutSet.save_audios) and give the manifest of that"


def is_lhotse(path: Path) -> bool:
    """Whether the first line of a file is a cut of lhotse.

    Raises
    ------
    ManifestError
        If it is another manifest of lhotse, or another compressed file.
    """
    if not path.is_file():
        return False
    with open(path, "rb") as file:
        is_packed = file.read(2) == GZIP
    try:
        with gzip.open(path) if is_packed else open(path, "rb") as file:
            first = file.readline(PEEKED_BYTES)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ManifestError(f"manifest {path} is a broken gzip file ({error}): write it again") from None
    if CUT.search(first):
        return True
    if OTHER.search(first) and b'"audio_filepath"' not in first:
        raise ManifestError(
            f"{path} is a manifest of lhotse, but not of cuts: make cuts of recordings and supervisions with lhotse "
            "(CutSet.from_manifests, then trim_to_supervisions)"
        )
    if is_packed:
        raise ManifestError(f"manifest {path} is compressed, which only lhotse cuts may be: unpack it")
    return False


def lhotse_rows(path: Path, *, needs_text: bool = True) -> Iterator[tuple[str, dict]]:
    """Yield the position of each cut and its values by our names.

    A cut gives its supervision's text and speaker, and its recording's file, from the start of the cut on. The channel
    is given if the file has several. If texts are not needed, a cut may have no supervision.

    Raises
    ------
    ManifestError
        If lhotse is not installed, or a cut is not one supervised part of one channel of an audio file.
    """
    try:
        from lhotse import CutSet
    except ImportError:
        raise ManifestError(
            f'{path} has lhotse cuts, which need lhotse: pip install "speechbrain_ee[lhotse]"'
        ) from None
    cuts, number = iter(CutSet.from_jsonl_lazy(path)), 0
    while True:
        number += 1
        try:
            cut = next(cuts)
        except StopIteration:
            return
        except Exception as error:  # lhotse passes on whatever its decoding meets
            raise ManifestError(
                f"{path}, cut {number} cannot be read with lhotse ({type(error).__name__}: {one_line(error)}): write "
                "the manifest again"
            ) from None
        where = f"cut {number} ({shortened(str(cut.id))})"
        yield where, _row(cut, f"{path}, {where}", needs_text=needs_text)


def _row(cut: MonoCut, where: str, *, needs_text: bool) -> dict:
    kind = type(cut).__name__
    if kind != "MonoCut":
        advice = {
            "MultiCut": "select one channel of each with CutSet.trim_to_supervisions(keep_all_channels=False)",
            "PaddingCut": "remove it",
        }
        raise ManifestError(f"{where} is a {kind}, but only MonoCuts are read: {advice.get(kind, SAVE)}")
    if not cut.has_recording:
        raise ManifestError(f"{where} has no recording, but features are computed from audio: make it with recordings")
    recording = cut.recording
    if transforms := [_transform_name(one) for one in recording.transforms or ()]:
        raise ManifestError(f"{where} has a recording with {', '.join(transforms)}, which is not applied: {SAVE}")
    supervision = cut.supervisions[0] if cut.supervisions else None
    if len(cut.supervisions) > 1 or (needs_text and supervision is None):
        remedy = (
            "split it with CutSet.trim_to_supervisions(keep_overlapping=False)" if cut.supervisions else "remove it"
        )
        raise ManifestError(f"{where} has {len(cut.supervisions)} supervisions, but one is read: {remedy}")
    if supervision and (supervision.start < -TOLERANCE_S or supervision.end - cut.duration > TOLERANCE_S):
        raise ManifestError(
            f"{where} has a supervision from {supervision.start:.2f} to {supervision.end:.2f} s, which is not all in "
            f"its {cut.duration:.2f} s: cut it with CutSet.trim_to_supervisions"
        )
    source = next((one for one in recording.sources if cut.channel in one.channels), None)
    if source is None:
        raise ManifestError(f"{where} has channel {shortened(cut.channel)}, which its recording lacks: correct it")
    if source.type != "file":
        raise ManifestError(f"{where} has audio of type {source.type!r}, but files are read: {SAVE}")
    is_whole = cut.start == 0 and cut.duration == recording.duration
    return {
        "id": cut.id,
        "audio_filepath": str(source.source),
        "duration": cut.duration,
        "text": supervision and supervision.text,
        "speaker": supervision and supervision.speaker,
        "offset": None if is_whole else cut.start,
        "channel_selector": source.channels.index(cut.channel) if len(source.channels) > 1 else None,
    }


def _transform_name(transform: object) -> str:
    return str(transform["name"]) if isinstance(transform, dict) else type(transform).__name__
