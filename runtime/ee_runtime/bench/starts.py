# SPDX-License-Identifier: Apache-2.0
"""Start fresh processes: seconds to the first text, and peak memory."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ee_runtime.bench.opener import Opener

# The process imports from where this process imports, and not from the folder in which it is started.
CHILD = """
import json, sys
request = json.loads(sys.argv[1])
sys.path[:] = request.pop("path")
from ee_runtime.bench.child import main
main(**request)
"""


def measure_starts(
    openers: Sequence[Opener], layers: Sequence[Sequence[int]], call: Sequence[np.ndarray], *, starts: int
) -> list[list[dict]]:
    """Start processes that open a model and transcribe one batch; the models alternate.

    Arguments
    ---------
    openers : sequence of Opener
        The models.
    layers : sequence of sequence of int
        Exit layers of each model at which to transcribe.
    call : sequence of np.ndarray
        The batch: waveforms (samples,).
    starts : int
        Processes per model and layer.

    Returns
    -------
    list of list of dict
        By model and layer, see :func:`start_row`.
    """
    found = {(model, layer): [] for model, own in enumerate(layers) for layer in own}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "waveforms.npz"
        np.savez(path, *call)
        for _ in range(starts):
            for model, layer in found:
                found[model, layer].append(start(openers[model], layer, path))
    return [[start_row(layer, found[model, layer]) for layer in own] for model, own in enumerate(layers)]


def start(opener: Opener, layer: int, waveforms: Path) -> dict:
    """Start one process; return what it printed, and ``first_text_s``, seconds from its start to this print.

    Raises
    ------
    ValueError
        If the process fails; the message has its last line.
    """
    request = json.dumps({"path": sys.path, "opener": opener, "layer": layer, "waveforms": str(waveforms)})
    pipes = {"stdout": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    with tempfile.TemporaryFile() as errors:
        begin = time.perf_counter()
        with subprocess.Popen([sys.executable, "-c", CHILD, request], stderr=errors, **pipes) as process:
            line = process.stdout.readline()
            seconds = time.perf_counter() - begin
        if process.returncode:
            errors.seek(0)
            lines = errors.read().decode("utf-8", errors="replace").split("\n")
            reason = next((text for text in reversed(lines) if text.strip()), f"status {process.returncode}")
            raise ValueError(f"{opener.source}: a fresh process failed: {reason}")
    return json.loads(line) | {"first_text_s": seconds}


def start_row(layer: int, found: Sequence[dict]) -> dict:
    """Return the figures of several starts at one exit.

    Returns
    -------
    dict
        ``layer``, ``starts``, ``first_text_s`` (from the start of the process), ``after_imports_s`` (from the end of
        the imports), each ``{"min", "median"}``; ``peak_memory_bytes``, the largest; ``memory_source``.

    Example
    -------
    >>> one = {"first_text_s": 1.0, "opened_s": 0.25, "text_s": 0.5, "peak_memory_bytes": 9, "memory_source": "VmHWM"}
    >>> start_row(4, [one, one | {"text_s": 0.25, "peak_memory_bytes": 8}])["after_imports_s"]
    {'min': 0.5, 'median': 0.625}
    """
    memory = [one["peak_memory_bytes"] for one in found]
    return {
        "layer": layer,
        "starts": len(found),
        "first_text_s": _summary([one["first_text_s"] for one in found]),
        "after_imports_s": _summary([one["opened_s"] + one["text_s"] for one in found]),
        "peak_memory_bytes": None if None in memory else max(memory),
        "memory_source": found[0]["memory_source"],
    }


def _summary(seconds: Sequence[float]) -> dict[str, float]:
    return {"min": min(seconds), "median": statistics.median(seconds)}
