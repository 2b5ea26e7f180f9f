# SPDX-License-Identifier: Apache-2.0
"""Measure the real-time factor of every static exit."""

import time
from collections.abc import Sequence

import numpy as np
from tqdm import tqdm

from ee_runtime.audio import read_blocks
from ee_runtime.long_audio import cut_at_pauses
from ee_runtime.policies import FixedExit
from ee_runtime.transcriber import Transcriber
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.lobes.cost import machine


def real_time_factors(asr: Transcriber, utterances: Sequence[Utterance], *, seconds: float, num_runs: int = 3) -> dict:
    """Measure the real-time factor of each static exit, on one thread and one utterance at a time.

    Arguments
    ---------
    asr : Transcriber
        The model.
    utterances : Sequence[Utterance]
        The first ones are used; the last of them is cut.
    seconds : float
        Seconds of audio to run.
    num_runs : int
        Number of runs of every exit, interleaved with the other exits; the fastest counts.

    Returns
    -------
    dict
        ``rtf``: seconds of computation per second of audio, by exit, for features, encoder, head and decoding, without
        the reading of files. ``machine``: CPU, threads and GEMM rate, measured by the same process.
    """
    rate = asr.sample_rate
    waveforms, missing = [], round(seconds * rate)
    for utterance in utterances:
        if missing <= 0:
            break
        waveforms += cut_at_pauses(_beginning(utterance, rate, missing), rate, max_seconds=asr.max_part_s)
        missing = round(seconds * rate) - sum(map(len, waveforms))
    total = sum(map(len, waveforms)) / rate
    with asr.on_one_thread() as model:
        best = [float("inf")] * len(model.exit_layers)
        runs = [*enumerate(model.exit_layers)] * num_runs
        for index, layer in tqdm(runs, desc="real-time factor", delay=2, leave=False):
            begin = time.perf_counter()
            for waveform in waveforms:
                model.transcribe_waveforms([waveform], policy=FixedExit(layer))
            best[index] = min(best[index], time.perf_counter() - begin)
        device = getattr(model, "device", "cpu")
        return {"rtf": [value / total for value in best], "machine": machine() | {"device": device}}


def _beginning(utterance: Utterance, rate: int, num_samples: int) -> np.ndarray:
    """Read the first samples of an utterance."""
    blocks, found = [], 0
    for block in read_blocks(utterance.audio_filepath, rate, excerpt=utterance.excerpt):
        blocks.append(block)
        found += len(block)
        if found >= num_samples:
            break
    return np.concatenate(blocks)[:num_samples]
