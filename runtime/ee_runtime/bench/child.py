# SPDX-License-Identifier: Apache-2.0
"""A fresh process that opens a model, transcribes once and prints what this took, as JSON; see :mod:`.starts`."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout

from ee_runtime.bench.opener import Opener
from ee_runtime.errors import one_line_errors
from ee_runtime.machine import peak_memory


def main(opener: Sequence, layer: int, waveforms: str) -> None:
    """Print the result of :func:`first_text`, and nothing else, to standard output."""
    with one_line_errors("start of a process"), redirect_stdout(sys.stderr):
        found = first_text(Opener(*opener), layer, waveforms)
    print(json.dumps(found), flush=True)


def first_text(opener: Opener, layer: int, waveforms: str) -> dict:
    """Import the libraries, open a model and transcribe at one exit.

    Arguments
    ---------
    opener : Opener
        The model.
    layer : int
        The static exit.
    waveforms : str
        File of :func:`numpy.savez` with the batch.

    Returns
    -------
    dict
        ``imported_s``, ``opened_s`` and ``text_s``: seconds of each step; ``peak_memory_bytes`` and ``memory_source``.
    """
    times = [time.perf_counter()]
    import numpy as np

    opener.load()
    from ee_runtime.policies import FixedExit

    times.append(time.perf_counter())
    model = opener.open()
    times.append(time.perf_counter())
    with np.load(waveforms) as arrays:
        batch = list(arrays.values())
    model.transcribe_waveforms(batch, policy=FixedExit(layer))
    times.append(time.perf_counter())
    memory, source = peak_memory()
    steps = {
        name: end - begin
        for name, begin, end in zip(("imported_s", "opened_s", "text_s"), times, times[1:], strict=False)
    }
    return steps | {"peak_memory_bytes": memory, "memory_source": source}
