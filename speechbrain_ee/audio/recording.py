# SPDX-License-Identifier: Apache-2.0
"""An audio file that is open: what is in it, whatever its header says, decoded block by block."""

import logging
import struct
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from speechbrain_ee.audio import chunks, flac, mp3, ogg
from speechbrain_ee.audio.kinds import HEAD_BYTES, KNOWN, convert, unknown, why_not_read
from speechbrain_ee.audio.layout import Layout, read_at, skip_id3
from speechbrain_ee.audio.mixing import LevelError, check_numbers
from speechbrain_ee.audio.said import caught_lines
from speechbrain_ee.audio.source import AudioError, Overlay
from speechbrain_ee.files import printable

logger = logging.getLogger(__name__)

MIN_RATE, MAX_RATE = 4000, 768_000
BLOCK_VALUES = 1 << 19  # samples times channels, 2 MB
OPEN_LENGTH = 1 << 62  # libsndfile's number for "not known" is above this
TOLERANCE_S = 0.1
MEND = "fetch it again; if its header is wrong, write it anew, e.g. with ffmpeg; or leave it out"
FORMATS = ("WAV", "WAVEX", "RF64", "W64", "AIFF", "AU", "CAF", "FLAC", "OGG", "MP3", "NIST")  # whose length is checked
LAYOUTS = {b"RIFF": chunks.of_riff, b"RIFX": chunks.of_riff, b"RF64": chunks.of_riff, b"BW64": chunks.of_riff}
LAYOUTS |= {b"riff": chunks.of_w64, b"FORM": chunks.of_aiff, b".snd": chunks.of_au, b"dns.": chunks.of_au}
LAYOUTS |= {b"caff": chunks.of_caf, b"NIST": chunks.of_nist, b"fLaC": flac.of_flac, b"OggS": ogg.of_ogg}


class _Sound(soundfile.SoundFile):
    """Read from start to end: as if it could not seek, so that nothing is looked up in a header that may be wrong."""

    def seekable(self) -> bool:
        return False


class Recording:
    """An open file, one that can be read as far as its first bytes tell.

    Arguments
    ---------
    path : str | Path
        Names it in errors.
    file : BinaryIO
        Its bytes; left open.

    Raises
    ------
    AudioError
        If it is of no kind that is read, has a rate that no speech has, or has broken off.
    """

    def __init__(self, path: str | Path, file: BinaryIO):
        self.path, self.file, self.name = path, file, printable(path)
        self.said: list[str] = []
        size = file.seek(0, 2)
        self.head = read_at(file, 0, HEAD_BYTES)
        if (why := why_not_read(path, self.head)) is not None:
            raise self.error(why)
        self.layout = self._find_layout(size)
        if self.layout.refusal:
            raise self.error(f"{self.layout.refusal}: {convert(path)}")
        if self.layout.present == 0:
            raise self._no_samples()
        self.segments = [(0, size)] if self.layout.segments is None else self.layout.segments
        with self._open() as sound:
            if sound.format not in FORMATS:
                raise self.error(f"is {sound.format_info}, which is not read here: {convert(path)}")
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

    def error(self, what: str) -> AudioError:
        """An error that names the file."""
        return AudioError(f"audio {self.name} {what}")

    def warn(self, what: str) -> None:
        """Say once in a process what is odd about a file that is read all the same."""
        _warn_once(f"audio {self.name}: {what}")

    @property
    def seconds(self) -> float:
        """Its duration from the header, or from the bytes where that is wrong; decoded where neither says it."""
        frames = self.frames if self.frames < OPEN_LENGTH else sum(len(block) for block in self.blocks())
        return frames / self.rate

    def blocks(self) -> Iterator[np.ndarray]:
        """Decode it from the start: blocks (samples, channels) of float32.

        Raises
        ------
        AudioError
            If it breaks off, is damaged, empty, or has samples that are no numbers.
        """
        done = 0
        with self._open() as sound:
            while done < self.frames:
                block = self._read(sound, min(max(1, BLOCK_VALUES // self.channels), self.frames - done), done)
                if len(block) == 0:
                    break
                done += len(block)
                yield block
        if self.said:
            self.warn(f"its decoder found damage ({self.said[-1].strip()}): parts of it may be missing")
        if done == 0:
            raise self._no_samples()
        if self.frames < OPEN_LENGTH and self.frames - done > TOLERANCE_S * self.rate:
            raise self.error(
                f"breaks off after {done / self.rate:.2f} s of the {self.frames / self.rate:.2f} s that its header "
                f"claims: {MEND}"
            )

    def _read(self, sound: _Sound, count: int, done: int) -> np.ndarray:
        try:
            with self._caught():
                block = sound.read(count, dtype="float32", always_2d=True)
            self._raise_failure()
            check_numbers(block)
        except (soundfile.LibsndfileError, soundfile.SoundFileRuntimeError) as error:
            first, last = done / self.rate, (done + count) / self.rate
            raise self.error(f"is damaged between {first:.2f} and {last:.2f} s ({_reason(error)}): {MEND}") from None
        except LevelError as error:
            raise self.error(str(error)) from None
        return block

    def _find_layout(self, size: int) -> Layout:
        start = skip_id3(self.file)
        magic = read_at(self.file, start, 4)
        self.may_be_mpeg = magic not in LAYOUTS
        find = LAYOUTS.get(magic, mp3.of_mp3 if start or magic[:1] == b"\xff" else None)
        try:
            return (find and find(self.file, size)) or Layout()
        except struct.error:  # it ends within its header, of which the decoder knows more
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
                raise self.error(f"cannot be read ({_reason(error)}): {MEND}") from None
            raise self.error(unknown(self.path)) from None

    def _raise_failure(self) -> None:
        """Raise what happened while the decoder read the file: it knows of a short read alone."""
        if self.stream.failure is not None:
            raise self.stream.failure

    def _caught(self) -> AbstractContextManager:
        """Around calls of the decoder: that of MP3 writes to standard error."""
        return caught_lines(self.said) if self.may_be_mpeg else nullcontext()

    def _broken_off(self, seconds: str = "") -> AudioError:
        return self.error(f"breaks off: {self.layout.present:.0%} of what its header claims is there{seconds}: {MEND}")

    def _no_samples(self) -> AudioError:
        if self.layout.note or self.layout.present < 1:
            return self.error(f"breaks off before its first sample: {MEND}")
        return self.error("is empty (0 samples): leave it out")


def _reason(error: Exception) -> str:
    """What libsndfile says, without the path, in one line."""
    text = getattr(error, "error_string", None) or str(error)
    return " ".join(text.split()).removeprefix("Error : ").rstrip(".")


@lru_cache(maxsize=10_000)
def _warn_once(message: str) -> None:
    logger.warning("%s", message)
