# SPDX-License-Identifier: Apache-2.0
"""Audio files as tensors, and durations as the files have them."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from speechbrain.utils.logger import get_logger
from tqdm import tqdm

from speechbrain_ee.audio import AudioError, audio_duration, read_blocks
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.files import printable

__all__ = ["AudioError", "audio_blocks", "audio_duration", "check_durations", "load_audio"]

logger = get_logger(__name__)


def load_audio(path: str | Path, sample_rate: int = 16000) -> torch.Tensor:
    """Reads a file as one channel at one sample rate.

    Channels are averaged; other rates are resampled. Upsampling is reported once per process,
    since it adds no band that a model trained on wide-band speech expects.

    Arguments
    ---------
    path : str | Path
        Any format that libsndfile reads and whose length can be checked (wav, flac, ogg, mp3, ...), or a pipe.
    sample_rate : int
        Wanted rate in Hz.

    Returns
    -------
    torch.Tensor
        (samples,) float32 in [-1, 1]; what a float file has a little beyond that is clipped.

    Raises
    ------
    AudioError
        See :func:`speechbrain_ee.audio.read_blocks`; everything that is wrong with a file.

    Example
    -------
    >>> import soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, [[0.5, -0.25]] * 8000, 8000)  # 1 s of stereo
    >>> load_audio(path).shape
    torch.Size([16000])
    """
    blocks = list(read_blocks(path, sample_rate))
    try:
        return torch.from_numpy(np.concatenate(blocks))
    except MemoryError:
        raise AudioError(f"audio {printable(path)} needs more memory than there is: cut it into parts") from None


def audio_blocks(path: str | Path, sample_rate: int = 16000) -> Iterator[torch.Tensor]:
    """Reads a file as :func:`load_audio` does, block by block.

    Example
    -------
    >>> import soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, [0.5] * 16000, 16000)
    >>> [block.shape for block in audio_blocks(path)]
    [torch.Size([16000])]
    """
    return map(torch.from_numpy, read_blocks(path, sample_rate))


def check_durations(
    utterances: Sequence[Utterance], *, tolerance_s: float = 0.1, progress: bool = True
) -> list[Utterance]:
    """Compares the manifest's durations with the files', see :func:`speechbrain_ee.audio.audio_duration`.

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
    >>> import soundfile
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
