# SPDX-License-Identifier: Apache-2.0
"""Audio files in: one channel, one sample rate, and durations as the files have them."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import soundfile
import torch
from speechbrain.dataio import audio_io
from speechbrain.dataio.preprocess import AudioNormalizer
from speechbrain.utils.logger import get_logger
from tqdm import tqdm

from speechbrain_ee.corpora.manifest import Utterance

logger = get_logger(__name__)


class AudioError(ValueError):
    """An audio file cannot be used; the message is one line that names it."""


def load_audio(path: str | Path, sample_rate: int = 16000) -> torch.Tensor:
    """Reads a file as one channel at one sample rate.

    Channels are averaged; other rates are resampled. Upsampling is reported once per process,
    since it adds no band that a model trained on wide-band speech expects.

    Arguments
    ---------
    path : str | Path
        Any format that libsndfile reads (wav, flac, ogg, mp3, ...).
    sample_rate : int
        Wanted rate in Hz.

    Returns
    -------
    torch.Tensor
        (samples,) float32 in [-1, 1]; what a float file has beyond that is clipped.

    Raises
    ------
    AudioError
        If the file is missing, is no audio, has no samples, or has samples that are not numbers.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, [[0.5, -0.5]] * 8000, 8000)  # 1 s of stereo
    >>> load_audio(path).shape
    torch.Size([16000])
    """
    path = Path(path)
    if not path.is_file():
        raise AudioError(f"audio {path} does not exist: check the path")
    try:
        audio, file_rate = audio_io.load(path, channels_first=False, dtype=torch.float32)
    except RuntimeError as error:
        raise AudioError(f"audio {path} cannot be read ({_reason(error)}): replace it") from None
    if audio.shape[0] == 0:
        raise AudioError(f"audio {path} is empty (0 samples): leave it out")
    if not torch.isfinite(audio).all():
        raise AudioError(f"audio {path} has samples that are NaN or infinite: replace it")
    # Mixed down first: the mean and the resampling commute, and one channel is cheaper.
    waveform = audio.mean(dim=1)
    if file_rate != sample_rate:
        if file_rate < sample_rate:
            _report_upsampling(path, file_rate, sample_rate)
        waveform = _normalizer(sample_rate)(waveform, file_rate)
    return waveform.clamp_(-1.0, 1.0)


def check_durations(
    utterances: Sequence[Utterance], *, tolerance_s: float = 0.1, progress: bool = True
) -> list[Utterance]:
    """Compares the manifest's durations with the files' headers, which it trusts.

    Batches are made from durations, so a wrong one costs memory or time without a word.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        As read_manifest gives them.
    tolerance_s : float
        Differences up to this many seconds are not reported.
    progress : bool
        Show a progress bar when it takes more than two seconds.

    Returns
    -------
    list[Utterance]
        The same utterances, with the files' durations.

    Raises
    ------
    AudioError
        If any file is missing, corrupt or empty; names the first and counts all.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, [0.0] * 24000, 16000)
    >>> check_durations([Utterance("a", path, 3.0, "the cat")])[0].duration
    1.5
    """
    checked, wrong, broken = [], [], []
    bar = tqdm(utterances, desc="audio headers", delay=2, disable=not progress, leave=False)
    for utterance in bar:
        try:
            seconds = audio_duration(utterance.audio_filepath)
        except AudioError as error:
            broken.append((utterance, error))
            continue
        if abs(seconds - utterance.duration) > tolerance_s:
            wrong.append((utterance, seconds))
        checked.append(replace(utterance, duration=seconds))
    if broken:
        raise AudioError(
            f"{len(broken)} of {len(utterances)} utterances have no usable audio "
            f"(first: {broken[0][0].id}: {broken[0][1]})"
        )
    if wrong:
        first, seconds = wrong[0]
        logger.warning(
            "%d of %d durations in the manifest differ from the audio (first: %s says %.2f s, "
            "the file has %.2f s); the files' are used",
            *(len(wrong), len(utterances), first.id, first.duration, seconds),
        )
    return checked


def audio_duration(path: str | Path) -> float:
    """Reads the length of a file from its header alone.

    Arguments
    ---------
    path : str | Path
        Any format that libsndfile reads.

    Returns
    -------
    float
        Seconds, > 0.

    Raises
    ------
    AudioError
        If the file is missing, is no audio, or has no samples.

    Example
    -------
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, [0.0] * 24000, 16000)
    >>> audio_duration(path)
    1.5
    """
    path = Path(path)
    if not path.is_file():
        raise AudioError(f"audio {path} does not exist: check the path")
    try:
        info = soundfile.info(str(path))
    except soundfile.LibsndfileError as error:
        raise AudioError(f"audio {path} cannot be read ({_reason(error)}): replace it") from None
    if info.frames <= 0:
        raise AudioError(f"audio {path} is empty (0 samples): leave it out")
    return info.frames / info.samplerate


def _reason(error: Exception) -> str:
    """What libsndfile says, without the path, in one line."""
    cause = error.__cause__ or error
    text = getattr(cause, "error_string", None) or str(cause)
    return " ".join(text.split()).rstrip(".")


@cache
def _normalizer(sample_rate: int) -> AudioNormalizer:
    """One per target rate: it keeps the resampling kernels."""
    return AudioNormalizer(sample_rate)


_reported_upsampling: set[int] = set()


def _report_upsampling(path: Path, file_rate: int, sample_rate: int) -> None:
    if _reported_upsampling:
        return
    _reported_upsampling.add(file_rate)
    logger.warning(
        "%s is at %d Hz and is upsampled to %d Hz, which adds no high frequencies: expect more "
        "errors than on recordings at %d Hz (said once)",
        *(path, file_rate, sample_rate, sample_rate),
    )
