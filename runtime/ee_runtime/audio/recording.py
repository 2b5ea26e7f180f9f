# SPDX-License-Identifier: Apache-2.0
"""An open audio file, decoded block by block to its end even if its header is wrong."""

import logging
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import soundfile

from ee_runtime.audio import flac, mp3, mp3_start, ogg, wav_family
from ee_runtime.audio.interrupts import interrupts_held
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
# Where libsndfile finds a sample: formats, apart from MP3, that are not listed are decoded from the start.
SAMPLE_BY_SAMPLE = ("PCM_S8", "PCM_U8", "PCM_16", "PCM_24", "PCM_32", "FLOAT", "DOUBLE", "ULAW", "ALAW")
PREROLL_S = {"VORBIS": 1.0, "OPUS": 10.0}  # after which the decoder gives the same samples as from the start
NUM_LAYOUTS = 128  # in memory
INAUDIBLE = 1e-30  # states of the Opus decoder, which it keeps in silence
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


_layouts: dict[tuple, Layout | None] = {}  # by device, inode, size and time of a file


class _Sound(soundfile.SoundFile):
    """A file read from start to end, declared unseekable so that libsndfile does not trust a length in the header."""

    def seekable(self) -> bool:
        return False

    def close(self) -> None:
        with interrupts_held():
            super().close()


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
        self.size = size
        with self._open(self.layout) as sound:
            if sound.format not in FORMATS:
                raise self.error(f"is {sound.format_info}, which is not supported: {conversion_hint(path)}")
            self.rate, self.channels = sound.samplerate, sound.channels
            self.format, self.subtype = sound.format, sound.subtype
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

    def num_frames(self) -> int:
        """Samples per channel, from the header or the bytes; decodes the file if neither gives them."""
        if self.frames >= OPEN_LENGTH:
            self.frames = sum(len(block) for block in self.blocks())
        return self.frames

    def blocks(self, start: int = 0, stop: int | None = None) -> Iterator[np.ndarray]:
        """Decode the file, or a part of it: blocks (samples, channels) of float32.

        The samples of a part are those that decoding the whole file gives at this place.

        Arguments
        ---------
        start : int
            First sample.
        stop : int | None
            The sample after the last; None means to the end.

        Raises
        ------
        AudioError
            If the part is truncated, damaged or empty, or has samples that are not finite.
        """
        stop = self.frames if stop is None else stop
        sound, done = self._open_before(start)
        with sound:
            while done < stop:
                # The decoder's messages about what is not wanted are dropped: there it may lack what came before.
                wanted = done >= start
                messages = None if wanted else len(self.decoder_messages)
                limit = stop if wanted else start
                block = self._read(sound, min(max(1, BLOCK_VALUES // self.channels), limit - done), done, wanted)
                del self.decoder_messages[messages:]
                if len(block) == 0:
                    break
                done += len(block)
                if wanted:
                    yield block
        if self.decoder_messages:
            self.warn(f"its decoder found damage ({self.decoder_messages[-1].strip()}): parts of it may be missing")
        if done == 0:
            raise self._no_samples()
        if stop < OPEN_LENGTH and (stop - done > TOLERANCE_S * self.rate or done <= start):
            raise self.error(
                f"breaks off after {done / self.rate:.2f} s of the {self.frames / self.rate:.2f} s that its header "
                f"claims: {REMEDY}"
            )

    def _open_before(self, start: int) -> tuple[_Sound, int]:
        """Open the file for reading at a sample or, if its decoder cannot begin there, before it; return where."""
        layout, done = self.layout, 0
        if start and self.format == "MP3":
            layout, done = mp3_start.start_near(self.file, layout, start)
        sound = self._open(layout)
        known = PREROLL_S if self.format == "OGG" else SAMPLE_BY_SAMPLE
        if start and layout.can_seek and self.subtype in known and self.frames < OPEN_LENGTH:
            done = max(0, start - round(PREROLL_S.get(self.subtype, 0.0) * self.rate))
            try:
                with self._caught():
                    sound.seek(done)
                self._raise_failure()
            except (soundfile.LibsndfileError, soundfile.SoundFileRuntimeError):
                sound.close()
                sound, done = self._open(layout), 0
        return sound, done

    def _read(self, sound: _Sound, count: int, done: int, wanted: bool) -> np.ndarray:
        try:
            with self._caught():
                block = sound.read(count, dtype="float32", always_2d=True)
            self._raise_failure()
            if self.subtype == "OPUS":
                block[np.abs(block) < INAUDIBLE] = 0.0
            if wanted:
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
            if find in (mp3.mp3_layout, ogg.ogg_layout):  # they read the whole file, of which parts may be wanted
                return self._remembered(find, size) or Layout(can_seek=False)
            return (find and find(self.file, size)) or Layout(can_seek=False)
        except struct.error:  # it ends within its header: the decoder's error is more precise
            return Layout(can_seek=False)

    def _remembered(self, find: Callable, size: int) -> Layout | None:
        found = os.fstat(self.file.fileno())
        key = found.st_dev, found.st_ino, size, found.st_mtime_ns
        if key not in _layouts:
            while len(_layouts) >= NUM_LAYOUTS:
                _layouts.pop(next(iter(_layouts)), None)
            _layouts[key] = find(self.file, size)
        return _layouts[key]

    def _open(self, layout: Layout) -> _Sound:
        segments = [(0, self.size)] if layout.segments is None else layout.segments
        self.stream = Overlay(self.file, segments, patches=layout.patches, prefix=layout.prefix)
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

    @contextmanager
    def _caught(self) -> Iterator[None]:
        """Hold Ctrl-C back around calls of decoders, and capture what the MP3 decoder writes to standard error."""
        with interrupts_held(), capture_stderr(self.decoder_messages) if self.may_be_mpeg else nullcontext():
            yield

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
