# SPDX-License-Identifier: Apache-2.0
"""Load audio files as tensors, and check the durations of a manifest."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from speechbrain.utils.logger import get_logger
from tqdm import tqdm

from ee_runtime.audio import AudioError, AudioInfo, Excerpt, audio_info, read_blocks
from ee_runtime.audio.excerpt import ExcerptError
from ee_runtime.files import printable
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.files import size_and_time

logger = get_logger(__name__)


def load_audio(path: str | Path, sample_rate: int = 16000, *, excerpt: Excerpt | None = None) -> torch.Tensor:
    """Read a file as one channel at one sample rate.

    Channels are averaged; other sample rates are resampled. Upsampling is reported once per process: it adds none of
    the high frequencies that a model trained on wide-band speech expects.

    Arguments
    ---------
    path : str | Path
        A file in a format of :func:`ee_runtime.audio.read_blocks` (wav, flac, ogg, mp3, ...), or a pipe.
    sample_rate : int
        Sample rate of the result in Hz.
    excerpt : Excerpt | None
        The part or channel to read; None means all.

    Returns
    -------
    torch.Tensor
        (samples,) float32 in [-1, 1].

    Raises
    ------
    AudioError
        If the file cannot be used, see :func:`ee_runtime.audio.read_blocks`.

    Example
    -------
    >>> import soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, [[0.5, -0.25]] * 8000, 8000)  # 1 s of stereo
    >>> load_audio(path).shape
    torch.Size([16000])
    """
    blocks = list(read_blocks(path, sample_rate, excerpt=excerpt))
    try:
        return torch.from_numpy(np.concatenate(blocks))
    except MemoryError:
        raise AudioError(f"audio {printable(path)} needs more memory than available: cut it into parts") from None


def check_durations(
    utterances: Sequence[Utterance], *, tolerance_s: float = 0.1, progress: bool = True
) -> list[Utterance]:
    """Replace the durations of a manifest by those of the files, and check that the files have the parts.

    The times of a part are rounded to samples. Batches are made from durations: a wrong one would silently cost memory
    or time.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        The utterances of a manifest.
    tolerance_s : float
        Largest difference in seconds that is not reported.
    progress : bool
        Show a progress bar if it takes more than two seconds.

    Returns
    -------
    list[Utterance]
        The same utterances with the durations of the files or parts.

    Raises
    ------
    AudioError
        If any file is missing, corrupt or empty, or has no such part; the message counts them and names the first.

    Example
    -------
    >>> import soundfile
    >>> path = getfixture("tmp_path") / "a.wav"
    >>> soundfile.write(path, [0.0] * 24000, 16000)
    >>> check_durations([Utterance("a", path, 3.0, "the cat")])[0].duration
    1.5
    """
    checked, wrong, broken = [], [], []
    info = cache(audio_info)
    bar = tqdm(utterances, desc="audio headers", delay=2, disable=not progress, leave=False)
    for utterance in bar:
        try:
            found = _with_times(utterance, info(utterance.audio_filepath))
        except AudioError as error:
            broken.append((utterance, error))
            continue
        if abs(found.duration - utterance.duration) > tolerance_s:
            wrong.append((utterance, found.duration))
        checked.append(found)
    if broken:
        raise AudioError(
            f"{len(broken)} of {len(utterances)} utterances have no usable audio (first: {broken[0][0].id}: "
            f"{broken[0][1]})"
        )
    if wrong:
        first, seconds = wrong[0]
        logger.warning(
            "%d of %d durations in the manifest differ from the audio (first: %s says %.2f s, the file has "
            "%.2f s); the durations of the files are used",
            *(len(wrong), len(utterances), first.id, first.duration, seconds),
        )
    return checked


def _with_times(utterance: Utterance, info: AudioInfo) -> Utterance:
    """Return an utterance with its duration and, if it is a part, its offset, both in whole samples of its file."""
    excerpt = utterance.excerpt
    if excerpt is None:
        return replace(utterance, duration=info.seconds)
    try:
        excerpt.check_channel(info.channels)
        start, stop = excerpt.samples(info.rate, info.frames)
    except ExcerptError as error:
        raise AudioError(f"audio {printable(utterance.audio_filepath)} {error}") from None
    offset = None if utterance.offset is None else start / info.rate
    return replace(utterance, offset=offset, duration=(stop - start) / info.rate)


def source_facts(utterance: Utterance) -> list[int | float | None]:
    """Return facts of an utterance's audio that change when it is replaced: the file's, and those of the part.

    Example
    -------
    >>> source_facts(Utterance("a", Path("no such file"), 1.5, "the cat", offset=2.0))
    [-1, -1, 2.0, 1.5, None]
    """
    facts = size_and_time(utterance.audio_filepath)
    excerpt = utterance.excerpt
    if excerpt is None:
        return facts
    times = [None if one is None else round(one, 6) for one in (excerpt.offset, excerpt.duration)]
    return [*facts, *times, excerpt.channel]
