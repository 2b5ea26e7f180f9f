# SPDX-License-Identifier: Apache-2.0
"""The part of an audio file that a row of a manifest names: in seconds, or in samples as SpeechBrain writes it."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

from ee_runtime.audio import AudioError, AudioInfo, Excerpt, audio_info
from ee_runtime.audio.excerpt import MAX_SECONDS, ExcerptError
from ee_runtime.errors import shortened
from speechbrain_ee.corpora.manifest.text import AMBIGUOUS, ManifestError

TOLERANCE_S = 0.1  # between a row's duration and its samples

FileInfo = Callable[[Path], AudioInfo]


def file_info() -> FileInfo:
    """Return a function that reads the header of each file once."""
    return cache(audio_info)


def excerpt_from_row(
    row: dict, audio: Path, duration: float | None, where: str, info: FileInfo, *, needs_file: bool = True
) -> tuple[float | None, float | None, int | None]:
    """Return offset and duration in seconds, and the channel; the offset is None if the row is a whole file.

    ``offset`` is in seconds. ``start`` and ``stop`` are samples of the file; the one at ``stop`` is not read, and
    without ``stop``, or if it equals ``start``, the part goes to the end, as in SpeechBrain's ``read_audio``.

    Arguments
    ---------
    row : dict
        Values by the names of :data:`~speechbrain_ee.corpora.manifest.text.NAMES` and as written.
    audio : Path
        The audio file.
    duration : float | None
        The row's duration; None means to the end, for a part.
    where : str
        File and line, for error messages.
    info : FileInfo
        Gives sample rate and length of the file; called only for a row in samples or without an end.
    needs_file : bool
        Whether a file that cannot be read is an error. Otherwise the offset and the duration of its row are None if
        they depend on the file, and reading it will fail.

    Raises
    ------
    ManifestError
        If a value is not a number, its unit is unclear, or the file has no such part.
    """
    for key in AMBIGUOUS:
        if row.get(key) not in (None, "", 0):
            raise ManifestError(
                f"{where} has {key} {shortened(row[key])}, whose unit depends on the tool: give offset and duration in "
                "seconds, or start and stop in samples"
            )
    channel = _channel(row, where)
    if channel is None and _given(row, "channel") and _is_readable(audio, info) and info(audio).channels > 1:
        raise ManifestError(
            f"{where} has channel {shortened(row['channel'])}, which some tools count from 0 and others from 1: "
            "give channel_selector, counted from 0"
        )
    if any(row.get(key) not in (None, "", 0) for key in ("start", "stop")):
        if _given(row, "offset"):
            raise ManifestError(f"{where} has offset and start or stop: give offset (seconds), or start (samples)")
        if not needs_file and not _is_readable(audio, info):
            return None, duration, channel
        return *_in_seconds(row, audio, duration, where, info), channel
    if not _given(row, "offset"):
        return None, duration, channel
    offset = row["offset"]
    if isinstance(offset, bool) or not isinstance(offset, int | float) or not 0 <= offset <= MAX_SECONDS:
        raise ManifestError(
            f"{where} has offset {shortened(offset)}: it must be a number of seconds from 0 to {MAX_SECONDS}"
        )
    if duration is None:
        if not needs_file and not _is_readable(audio, info):
            return float(offset), None, channel
        rate, start, stop = _samples(Excerpt(float(offset)), audio, where, info)
        duration = (stop - start) / rate
    return float(offset), duration, channel


def written_part(row: dict) -> str:
    """Return what a row says about the part of its file.

    Example
    -------
    >>> written_part({"start": 16000, "stop": 32000, "duration": None})
    'start 16000 stop 32000'
    """
    keys = ("offset", "start", "stop", "duration")
    return " ".join(f"{key} {row[key]}" for key in keys if _given(row, key))


def _in_seconds(row: dict, audio: Path, duration: float | None, where: str, info: FileInfo) -> tuple[float, float]:
    """Convert ``start`` and ``stop`` to offset and duration."""
    start, stop = (_sample(row, key, where) for key in ("start", "stop"))
    if stop is not None and stop < start:
        raise ManifestError(f"{where} has start {start} and stop {stop}: stop must be above start")
    rate, _, end = _samples(Excerpt(), audio, where, info)
    if start >= end or (stop or 0) - end > TOLERANCE_S * rate:
        raise ManifestError(f"{where} has start {start} and stop {stop}, but {audio} has {end} samples: correct them")
    stop = min(end, stop) if stop and stop != start else end
    seconds = (stop - start) / rate
    if duration is not None and abs(seconds - duration) > TOLERANCE_S:
        raise ManifestError(
            f"{where} has duration {duration:g}, but start {start} and stop {stop} are samples, which are "
            f"{seconds:.2f} s at {rate} Hz: correct one of them; a start in seconds is named offset"
        )
    return start / rate, seconds


def _samples(excerpt: Excerpt, audio: Path, where: str, info: FileInfo) -> tuple[int, int, int]:
    """Return sample rate, first sample, and the sample after the last."""
    found = _info(audio, where, info)
    try:
        return found.rate, *excerpt.samples(found.rate, found.frames)
    except ExcerptError as error:
        raise ManifestError(f"{where}: audio {audio} {error}") from None


def _info(audio: Path, where: str, info: FileInfo) -> AudioInfo:
    try:
        return info(audio)
    except AudioError as error:
        raise ManifestError(f"{where}: {error}") from None


def _is_readable(audio: Path, info: FileInfo) -> bool:
    try:
        info(audio)
    except AudioError:  # whoever reads the audio says what is wrong
        return False
    return True


def _given(row: dict, key: str) -> bool:
    return row.get(key) not in (None, "")


def _sample(row: dict, key: str, where: str) -> int | None:
    if not _given(row, key):
        return 0 if key == "start" else None
    value = row[key]
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value % 1:
        raise ManifestError(
            f"{where} has {key} {shortened(value)}: it must be a sample of the file, from 0; a start in seconds is "
            "named offset"
        )
    return int(value)


def _channel(row: dict, where: str) -> int | None:
    if not _given(row, "channel_selector"):
        return None
    value = row["channel_selector"]
    if isinstance(value, bool) or not isinstance(value, int | float) or value < 0 or value % 1:
        raise ManifestError(
            f"{where} has channel_selector {shortened(value)}: it must be the number of one channel, from 0; without "
            "it the channels are averaged"
        )
    return int(value)
