# SPDX-License-Identifier: Apache-2.0
"""Measure exported models: onnxruntime against torch and against the rate of matrix products of the machine.

python benchmarks/device_speed.py [--rounds 15]

Prints the figures as JSON and writes them to results/device_speed.json. The model has the paper's shape (12 Conformer
layers, d 256, FFN 2048, six exits, 256 tokens) and random weights; the input is noise of 2, 10 and 30 s. All runs of
one length and number of threads alternate. ``floor`` is the time of the model's multiply-accumulates at the rate of
float32 products of 1024 x 1024 matrices in the same run. Times include the last head, but not the features.

* ``onnx``: six segments with the last head; ``heads``: with all heads and scores; ``uncut``: the same encoder exported
  with one exit; ``int8``: six segments, quantised.
* ``torch_regular``, ``torch_relpos``: the front-end and SpeechBrain's ``TransformerASR.encode`` in eager mode, with
  absolute positions (the exported model) and with relative positions; ``torch_compiled``: the same as
  ``torch_regular``, with ``encode`` compiled by ``torch.compile`` for each length.
* ``process``: one process of the runtime that transcribes 10 s: seconds to the first text, import and peak memory.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from common import EXIT_LAYERS, alternate, export_modules, make_model, publish

from ee_runtime import EarlyExitRuntime
from speechbrain_ee.lobes import LogMel

SECONDS = (2, 10, 30)
CHILD = """
import sys, time
begin = time.perf_counter()
import numpy, onnxruntime
libraries = time.perf_counter() - begin
from ee_runtime import EarlyExitRuntime
own = time.perf_counter() - begin - libraries
model = EarlyExitRuntime(sys.argv[1], threads=1)
model.transcribe_waveforms([numpy.random.default_rng(0).standard_normal(160000, dtype="float32") / 10])
peak = int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0]) / 1024
print(libraries, own, time.perf_counter() - begin, peak)
"""


def export(folder: Path, name: str, exit_layers: list[int], *, int8: bool = False) -> Path:
    """Export a model of the paper's shape; all have the same weights in the encoder."""
    encoder, heads = make_model(exit_layers)
    modules = {"features": LogMel(), "encoder": encoder, "heads": heads}
    return export_modules(modules, folder, name, int8=int8)


def run_segments(model: EarlyExitRuntime, batch, *, heads: bool) -> None:
    """Run all segments on features, with all heads and scores or with the last head."""
    run, _ = batch(model)
    for index in range(len(model.exit_layers)):
        run.advance()
        if heads or index == len(model.exit_layers) - 1:
            run.output()


def measure(folders: dict[str, Path], seconds: int, threads: int, rounds: int) -> dict:
    """Return milliseconds (minimum) and ratios (median of the rounds) for one length and number of threads."""
    torch.set_num_threads(threads)
    models = {name: EarlyExitRuntime(folder, threads=threads) for name, folder in folders.items()}
    wav = np.random.default_rng(0).standard_normal(seconds * 16000, dtype=np.float32) / 10
    started = {name: model.start(model.make_batch([wav])) for name, model in models.items()}
    frames = started["onnx"][1][0]
    feats = torch.randn(1, frames, 80)
    lengths, matrix = torch.tensor([frames]), torch.randn(1024, 1024)
    eager = {name: make_model(attention_type=kind)[0].eval() for name, kind in ATTENTION.items()}

    def onnx(name, heads=False):
        model = models[name]
        run_segments(model, lambda _: model.start(model.make_batch([wav])), heads=heads)

    compiled = torch.compile(eager["torch_regular"].transformer.encode, dynamic=False)

    @torch.inference_mode()
    def encode(encoder, run=None):
        x, _ = encoder.frontend(feats, lengths)
        (run or encoder.transformer.encode)(x, torch.ones(1))

    runs = {
        "gemm": lambda: torch.mm(matrix, matrix),
        "features": lambda: models["onnx"].start(models["onnx"].make_batch([wav])),
        "onnx": lambda: onnx("onnx"),
        "heads": lambda: onnx("onnx", heads=True),
        "uncut": lambda: onnx("uncut"),
        "uncut_again": lambda: onnx("uncut"),
        "int8": lambda: onnx("int8"),
        **{name: lambda encoder=encoder: encode(encoder) for name, encoder in eager.items()},
        "torch_compiled": lambda: encode(eager["torch_regular"], compiled),
    }
    times = alternate(runs, rounds)
    rate = 2 * 1024**3 / min(times["gemm"])
    floor = 2 * models["onnx"].exit_macs(frames, heads_run=1)[-1] / rate
    features = times["features"]
    for name in ("onnx", "heads", "uncut", "uncut_again", "int8"):  # they include the features
        times[name] = [one - own for one, own in zip(times[name], features, strict=True)]
    return {
        "gemm_gflops": round(rate / 1e9, 1),
        "ms": {name: round(1000 * min(column), 2) for name, column in times.items() if name != "gemm"}
        | {"floor": round(1000 * floor, 2)},
        "onnx_over_floor": round(min(times["onnx"]) / floor, 3),
        **{
            f"{name}_over_{base}": round(
                statistics.median(a / b for a, b in zip(times[name], times[base], strict=True)), 3
            )
            for name, base in PAIRS
        },
    }


ATTENTION = {"torch_regular": "regularMHA", "torch_relpos": "RelPosMHAXL"}
PAIRS = [
    ("heads", "uncut"),
    ("uncut_again", "uncut"),
    ("onnx", "torch_regular"),
    ("onnx", "torch_relpos"),
    ("torch_compiled", "torch_regular"),
    ("onnx", "torch_compiled"),
    ("int8", "onnx"),
]


def process(folder: Path) -> dict:
    """Return figures of one process that transcribes 10 s, the minimum of five."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    found = []
    for _ in range(5):
        begin = time.perf_counter()
        output = subprocess.run(
            [sys.executable, "-c", CHILD, str(folder)], env=environment, check=True, capture_output=True, text=True
        ).stdout
        found.append([time.perf_counter() - begin, *map(float, output.split())])
    whole, libraries, own, inside, peak = (min(column) for column in zip(*found, strict=True))
    size = sum(path.stat().st_size for path in folder.glob("*.onnx")) / 2**20
    return {
        "seconds_to_first_text": round(whole, 2),
        "import_of_numpy_and_onnxruntime_s": round(libraries, 3),
        "own_import_s": round(own, 3),
        "seconds_after_start_of_python": round(inside, 2),
        "peak_memory_mb": round(peak, 1),
        "graphs_mb": round(size, 1),
        "limit_mb": round(2.5 * size + 60, 1),
    }


def main() -> None:
    """Run the measurements."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15, help="rounds of alternating runs (default: %(default)s)")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        folders = {
            "onnx": export(folder, "onnx", EXIT_LAYERS),
            "uncut": export(folder, "uncut", [12]),
            "int8": export(folder, "int8", EXIT_LAYERS, int8=True),
        }
        figures = {"rounds": rounds}
        for threads in (1, 2):
            for seconds in SECONDS:
                key = f"{seconds} s, {threads} thread{'s' * (threads > 1)}"
                figures[key] = measure(folders, seconds, threads, max(5, rounds if seconds < 30 else rounds // 2))
                print(json.dumps({key: figures[key]}), flush=True)
        figures["process"] = {name: process(folders[name]) for name in ("onnx", "int8")}
    publish("device_speed", figures)


if __name__ == "__main__":
    main()
