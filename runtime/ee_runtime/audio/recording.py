# SPDX-License-Identifier: Apache-2.0
"""An open audio file, decoded block by block to its end even if its header is wrong."""

import logging
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from ee_runtime.audio import flac, mp3, ogg, wav_family
from ee_runtime.audio.layout import Layout, read_at, skip_id3
from ee_runtime.audio.mixing import LevelError, check_numbers
from ee_runtime.audio.source import AudioError, Overlay
from ee_runtime.audio.stderr_capture import capture_stderr
from ee_runtime.audio.unsupported import HEAD_BYTES, KNOWN, conversion_hint, unknown_format, why_unsupported
from ee_runtime.files import printable

logger = logging.getLogger(__name__)

MIN_RATE, MAX_RATE = 4000, 768_000
BLOCK_VALUES = 1 << 19  # samples times channels, 2 MB
OPEN_LENGTH = 1 << 62  # libsndfile's value for "unknown" is above this
TOLERANCE_S = 0.1
REMEDY = "fetch it again; if its header is wrong, convert it, e.g. with ffmpeg; or leave it out"
FORMATS = (
    "WAV",
    "WAVEX",
    "RF64",
    "W64",
    "AIFF",
    "AU",
    "CAF",
    "FLAC",
    "OGG",
    "MP3",
    "NIST",
)  # formats with a length check
LAYOUTS = {
    b"RIFF": wav_family.riff_layout,
    b"RIFX": wav_family.riff_layout,
    b"RF64": wav_family.riff_layout,
    b"BW64": wav_family.riff_layout,
}
LAYOUTS |= {
    b"riff": wav_family.w64_layout,
    b"FORM": wav_family.aiff_layout,
    b".snd": wav_family.au_layout,
    b"dns.": wav_family.au_layout,
}
LAYOUTS |= {
    b"caff": wav_family.caf_layout,
    b"NIST": wav_family.nist_layout,
    b"fLaC": flac.flac_layout,
    b"OggS": ogg.ogg_layout,
}


class _Sound(soundfile.SoundFile):
    """A file read from start to end, declared unseekable so that libsndfile does not trust a length in the header."""

    def seekable(self) -> bool:
        return False


class Recording:
    """An open audio file.

    Arguments
    ---------
    path : str | Path
        Path for error messages.
    file : BinaryIO
        The open file; it is not closed here.

    Raises
    ------
    AudioError
        If the format is unsupported, the sample rate is out of range, or the file is truncated.
    """

    def __init__(self, path: str | Path, file: BinaryIO):
        self.path, self.file, self.name = path, file, printable(path)
        self.decoder_messages: list[str] = []
        size = file.seek(0, 2)
        self.head = read_at(file, 0, HEAD_BYTES)
        if (why := why_unsupported(path, self.head)) is not None:
            raise self.error(why)
        self.layout = self._find_layout(size)
        if self.layout.refusal:
            raise self.error(f"{self.layout.refusal}: {conversion_hint(path)}")
        if self.layout.present == 0:
            raise self._no_samples()
        self.segments = [(0, size)] if self.layout.segments is None else self.layout.segments
        with self._open() as sound:
            if sound.format not in FORMATS:
                raise self.error(f"is {sound.format_info}, which is not supported: {conversion_hint(path)}")
            self.rate, self.channels = sound.samplerate, sound.channels
            self.is_float = sound.subtype in ("FLOAT", "DOUBLE")
            self.frames = sound.frames if self.layout.frames is None else self.layout.frames
        if not MIN_RATE <= self.rate <= MAX_RATE:
            raise self.error(
                f"has a sample rate of {self.rate} Hz in its header, and {MIN_RATE} to {MAX_RATE} Hz are read: correct "
                "the header, or leave it out"
            )
        if self.frames == 0:
            raise self._no_samples()
        missing = self.frames / self.layout.present - self.frames if self.layout.present else self.frames
        if missing > TOLERANCE_S * self.rate:
            raise self._broken_off(f" ({self.frames / self.rate:.2f} s)")

    def error(self, message: str) -> AudioError:
        """Return an error that names the file."""
        return AudioError(f"audio {self.name} {message}")

    def warn(self, message: str) -> None:
        """Log a warning about a file that is read in spite of a defect, once per process."""
        _warn_once(f"audio {self.name}: {message}")

    @property
    def seconds(self) -> float:
        """Duration from the header, or from the bytes if the header is wrong; decodes the file if neither gives it."""
        frames = self.frames if self.frames < OPEN_LENGTH else sum(len(block) for block in self.blocks())
        return frames / self.rate

    def blocks(self) -> Iterator[np.ndarray]:
        """Decode the file from its start: blocks (samples, channels) of float32.

        Raises
        ------
        AudioError
            If it is truncated, damaged or empty, or has samples that are not finite.
        """
        done = 0
        with self._open() as sound:
            while done < self.frames:
                block = self._read(sound, min(max(1, BLOCK_VALUES // self.channels), self.frames - done), done)
                if len(block) == 0:
                    break
                done += len(block)
                yield block
        if self.decoder_messages:
            self.warn(f"its decoder found damage ({self.decoder_messages[-1].strip()}): parts of it may be missing")
        if done == 0:
            raise self._no_samples()
        if self.frames < OPEN_LENGTH and self.frames - done > TOLERANCE_S * self.rate:
            raise self.error(
                f"breaks off after {done / self.rate:.2f} s of the {self.frames / self.rate:.2f} s that its header "
                f"claims: {REMEDY}"
            )

    def _read(self, sound: _Sound, count: int, done: int) -> np.ndarray:
        try:
            with self._caught():
                block = sound.read(count, dtype="float32", always_2d=True)
            self._raise_failure()
            check_numbers(block)
        except (soundfile.LibsndfileError, soundfile.SoundFileRuntimeError) as error:
            first, last = done / self.rate, (done + count) / self.rate
            raise self.error(f"is damaged between {first:.2f} and {last:.2f} s ({_reason(error)}): {REMEDY}") from None
        except LevelError as error:
            raise self.error(str(error)) from None
        return block

    def _find_layout(self, size: int) -> Layout:
        start = skip_id3(self.file)
        magic = read_at(self.file, start, 4)
        self.may_be_mpeg = magic not in LAYOUTS
        find = LAYOUTS.get(magic, mp3.mp3_layout if start or magic[:1] == b"\xff" else None)
        try:
            return (find and find(self.file, size)) or Layout()
        except struct.error:  # it ends within its header: the decoder's error is more precise
            return Layout()

    def _open(self) -> _Sound:
        layout = self.layout
        self.stream = Overlay(self.file, self.segments, patches=layout.patches, prefix=layout.prefix)
        try:
            with self._caught():
                return _Sound(self.stream)
        except (soundfile.LibsndfileError, soundfile.SoundFileRuntimeError) as error:
            self._raise_failure()
            if layout.present < 1:
                raise self._broken_off() from None
            if layout.note:
                raise self._no_samples() from None
            if self.head.startswith(KNOWN):
                raise self.error(f"cannot be read ({_reason(error)}): {REMEDY}") from None
            raise self.error(unknown_format(self.path)) from None

    def _raise_failure(self) -> None:
        """Raise the error with which reading the file failed; the decoder only sees a short read."""
        if self.stream.failure is not None:
            raise self.stream.failure

    def _caught(self) -> AbstractContextManager:
        """Capture standard error around calls of the MP3 decoder, which writes messages there."""
        return capture_stderr(self.decoder_messages) if self.may_be_mpeg else nullcontext()

    def _broken_off(self, seconds: str = "") -> AudioError:
        return self.error(
            f"breaks off: only {self.layout.present:.0%} of the audio that its header claims{seconds}: {REMEDY}"
        )

    def _no_samples(self) -> AudioError:
        if self.layout.note or self.layout.present < 1:
            return self.error(f"breaks off before its first sample: {REMEDY}")
        return self.error("is empty (0 samples): leave it out")


def _reason(error: Exception) -> str:
    """Return libsndfile's message in one line, without the path."""
    text = getattr(error, "error_string", None) or str(error)
    return " ".join(text.split()).removeprefix("Error : ").rstrip(".")


@lru_cache(maxsize=10_000)
def _warn_once(message: str) -> None:
    logger.warning("%s", message)
