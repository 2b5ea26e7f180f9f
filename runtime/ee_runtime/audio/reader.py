# SPDX-License-Identifier: Apache-2.0
"""Read an audio file block by block, as one channel at one sample rate, or its true duration."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, NamedTuple

import numpy as np

from ee_runtime.audio.excerpt import Excerpt, ExcerptError
from ee_runtime.audio.mixing import LevelError, mix_down
from ee_runtime.audio.resampling import resample
from ee_runtime.audio.source import AudioError, open_source
from ee_runtime.files import printable

if TYPE_CHECKING:
    from ee_runtime.audio.recording import Recording

logger = logging.getLogger(__name__)


class AudioInfo(NamedTuple):
    """What a file holds: sample rate in Hz, number of channels, and samples per channel."""

    rate: int
    channels: int
    frames: int

    @property
    def seconds(self) -> float:
        """Duration in seconds."""
        return self.frames / self.rate


def audio_info(path: str | Path) -> AudioInfo:
    """Return sample rate, channels and length of a file, if possible without decoding it.

    If the header leaves the length open or is wrong, the duration comes from the size of the file (WAV and similar
    formats), the last frame (FLAC), the last page (Ogg) or the number of frames (MP3).

    Arguments
    ---------
    path : str | Path
        A file of any format that :func:`read_blocks` reads.

    Returns
    -------
    AudioInfo
        With at least one sample.

    Raises
    ------
    AudioError
        If the file is missing, not audio, truncated, or has no samples.

    Example
    -------
    >>> import soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, [0.0] * 24000, 16000)
    >>> audio_info(path)
    AudioInfo(rate=16000, channels=1, frames=24000)
    """
    with _name_file_in_errors(path), open_source(path) as file:
        recording = _open_recording(path, file)
        return AudioInfo(recording.rate, recording.channels, recording.num_frames())


def audio_duration(path: str | Path) -> float:
    """Return the duration of a file in seconds, see :func:`audio_info`."""
    return audio_info(path).seconds


def read_blocks(path: str | Path, sample_rate: int = 16000, *, excerpt: Excerpt | None = None) -> Iterator[np.ndarray]:
    """Read a file as one channel at one sample rate, in blocks, with memory independent of its length.

    A part of a file gives the same samples as a file that was cut to this part at its own sample rate. WAV and related
    formats, FLAC, Ogg and MP3 are decoded from the part on, or a few seconds before it; compressed WAV, and files whose
    header has no length, are decoded from their start.

    Arguments
    ---------
    path : str | Path
        Any format that libsndfile reads (wav, flac, ogg, opus, mp3, aiff, au, caf, ...), or a pipe.
    sample_rate : int
        Sample rate of the blocks in Hz.
    excerpt : Excerpt | None
        The part or channel to read; None means all.

    Yields
    ------
    ndarray
        (samples,) float32 in [-1, 1]; the samples do not depend on the size of the blocks.

    Raises
    ------
    AudioError
        If the file is missing, not audio, truncated or damaged, has no samples, has samples that are not finite or far
        out of range, has no such excerpt, or needs more memory than available.

    Example
    -------
    >>> import soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, [[0.5, 0.25]] * 8000, 8000)  # 1 s of stereo
    >>> sum(len(block) for block in read_blocks(path))
    16000
    """
    with _name_file_in_errors(path), open_source(path, may_be_pipe=True) as file:
        recording = _open_recording(path, file)
        if recording.layout.note:
            recording.warn(recording.layout.note)
        if recording.rate < sample_rate:
            _report_upsampling(recording.name, recording.rate, sample_rate)
        read, channels = recording.blocks, recording.channels
        if excerpt is not None:
            read, channels = _reader_of(excerpt, recording)
        how = {"channels": channels, "is_float": recording.is_float, "warn": recording.warn}
        for block in resample(mix_down(read, **how), recording.rate, sample_rate):
            yield np.clip(block, -1.0, 1.0)


def _reader_of(excerpt: Excerpt, recording: "Recording") -> tuple[Callable[[], Iterator[np.ndarray]], int]:
    """Return what gives the blocks of an excerpt, and their number of channels."""
    excerpt.check_channel(recording.channels)
    start, stop = 0, None
    if excerpt.offset or excerpt.duration is not None:
        start, stop = excerpt.samples(recording.rate, recording.num_frames())
    one = excerpt.channel
    if one is None:
        return lambda: recording.blocks(start, stop), recording.channels
    return lambda: (block[:, one : one + 1] for block in recording.blocks(start, stop)), 1


def _open_recording(path: str | Path, file: BinaryIO) -> "Recording":
    from ee_runtime.audio.recording import Recording  # loads libsndfile, which callers with waveforms need not

    return Recording(path, file)


@contextmanager
def _name_file_in_errors(path: str | Path) -> Iterator[None]:
    """Convert errors to an :class:`AudioError` that names the file."""
    try:
        yield
    except (LevelError, ExcerptError) as error:
        raise AudioError(f"audio {printable(path)} {error}") from None
    except MemoryError:
        raise AudioError(f"audio {printable(path)} needs more memory than available: cut it into parts") from None
    except OSError as error:
        reason = error.strerror or error
        raise AudioError(f"audio {printable(path)} cannot be read ({reason}): check its disk, and free space") from None


@lru_cache(maxsize=1)
def _upsampling_to(sample_rate: int) -> list[str]:
    return []


def _report_upsampling(name: str, rate: int, sample_rate: int) -> None:
    reported = _upsampling_to(sample_rate)
    if reported:
        return
    reported.append(name)
    logger.warning(
        "%s is at %d Hz and is upsampled to %d Hz, which adds no high frequencies: expect more errors than on "
        "recordings at %d Hz (reported once)",
        *(name, rate, sample_rate, sample_rate),
    )
