# SPDX-License-Identifier: Apache-2.0
"""What the models are timed on: noise of given lengths, or recordings."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ee_runtime.transcriber import Transcriber


class BenchInput(NamedTuple):
    """Waveforms that are transcribed in one or more calls.

    Arguments
    ---------
    name : str
        Name in tables.
    calls : list of list of np.ndarray
        The batch of each call: waveforms (samples,).
    seconds : float
        Seconds of audio of all calls.
    """

    name: str
    calls: list[list[np.ndarray]]
    seconds: float


def noise_input(models: Sequence[Transcriber], seconds: float, batch: int) -> BenchInput:
    """Make one call with noise, which is the same in every run.

    Arguments
    ---------
    models : sequence of Transcriber
        The models, of one sample rate.
    seconds : float
        Length of each utterance.
    batch : int
        Number of utterances.

    Raises
    ------
    ValueError
        If a model takes only shorter audio, or the length is less than one sample.
    """
    longest, rate = min(model.max_part_s for model in models), models[0].sample_rate
    if seconds > longest:
        raise ValueError(f"--seconds {seconds:g}: the model takes at most {longest:g} s at once: give less")
    num_samples = round(seconds * rate)
    if num_samples < 1:
        raise ValueError(f"--seconds {seconds:g} is less than one sample at {rate} Hz: give more")
    noise = np.random.default_rng(0).standard_normal((batch, num_samples), dtype=np.float32) / 10
    return BenchInput(f"{seconds:g} s of noise", [list(noise)], batch * num_samples / rate)


def recorded_input(models: Sequence[Transcriber], files: Sequence[Path], batch: int) -> BenchInput:
    """Read recordings, cut the long ones at pauses, and make calls of ``batch`` parts.

    Arguments
    ---------
    models : sequence of Transcriber
        The models, of one sample rate.
    files : sequence of Path
        Audio files.
    batch : int
        Number of parts of each call.

    Raises
    ------
    ValueError
        If a file cannot be read.
    """
    reader = min(models, key=lambda model: model.max_part_s)
    parts = [part for file in files for part in reader.read_parts(file)]
    calls = [parts[start : start + batch] for start in range(0, len(parts), batch)]
    name = "1 recording" if len(files) == 1 else f"{len(files)} recordings"
    return BenchInput(name, calls, sum(map(len, parts)) / reader.sample_rate)
