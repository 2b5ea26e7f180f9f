# SPDX-License-Identifier: Apache-2.0
"""Shared by the benchmarks: a model of the paper's shape, interleaved timing, peak memory of a step, output files."""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from speechbrain_ee.export.export import export_model
from speechbrain_ee.inference.asr import EarlyExitASR
from speechbrain_ee.lobes import ConformerExitEncoder, CTCHeads
from speechbrain_ee.lobes.cost import machine
from speechbrain_ee.model.folder import save_model
from speechbrain_ee.text.tokenizer import Tokenizer

PAPER = {"n_mels": 80, "d_model": 256, "nhead": 8, "d_ffn": 2048, "kernel_size": 31, "channels": [64, 32]}
VOCAB_SIZE = 256
LETTERS = "abcdefghijklmnopqrstuvwxyz"
EXIT_LAYERS = [2, 4, 6, 8, 10, 12]
RESULTS = Path(__file__).parent / "results"


def make_model(exit_layers=EXIT_LAYERS, num_layers=12, **arguments):
    """Return an encoder and heads of the paper's shape with random weights."""
    torch.manual_seed(0)
    encoder = ConformerExitEncoder(num_layers=num_layers, exit_layers=exit_layers, **PAPER | arguments)
    return encoder, CTCHeads(num_exits=len(exit_layers), d_model=PAPER["d_model"], vocab_size=VOCAB_SIZE)


def export_modules(modules: dict[str, torch.nn.Module], folder: Path, name: str, *, int8: bool = False) -> Path:
    """Export a model of features, encoder and heads, with a tokenizer of two-letter words; return the folder."""
    words = [first + second for first in LETTERS for second in LETTERS]
    tokenizer = folder / "tokenizer.model"
    Tokenizer.train([" ".join(words)] * 3, path=tokenizer, model_type="bpe", vocab_size=VOCAB_SIZE)
    save_model(folder / f"{name}-torch", torch.nn.ModuleDict(modules), tokenizer=tokenizer)
    export_model(EarlyExitASR.from_hparams(folder / f"{name}-torch"), folder / name, int8=int8)
    return folder / name


def alternate(runs: dict[str, Callable[[], object]], num_rounds: int) -> dict[str, list[float]]:
    """Call every function once to warm up, then time them in turn; returns the seconds of all rounds by name."""
    for run in runs.values():
        run()
    seconds = {name: [] for name in runs}
    for _ in range(num_rounds):
        for name, run in runs.items():
            begin = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - begin)
    return seconds


def ratio(seconds: dict[str, list[float]], name: str, base: str) -> dict:
    """Return the median of the ratios per round, and the ratio of the minima."""
    pairs = [a / b for a, b in zip(seconds[name], seconds[base], strict=True)]
    return {
        "median_of_ratios": round(statistics.median(pairs), 4),
        "ratio_of_minima": round(min(seconds[name]) / min(seconds[base]), 4),
    }


def peak_memory_mb(script: str, name: str) -> float:
    """Return the memory that a training step adds to its process, in MB, measured in a separate process.

    The process runs ``script --memory name``, which calls :func:`print_peak_memory`. The environment variables make
    the C library return the memory of every freed large tensor to the system. Otherwise the peak includes fragments of
    freed memory and differs by 15 % between runs of the same step.
    """
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": str(2**18), "MALLOC_TRIM_THRESHOLD_": "0"}
    command = [sys.executable, script, "--memory", name]
    output = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
    return float(output.split()[-1])


def print_peak_memory(make_step: Callable[[], Callable[[], object]]) -> None:
    """Print the peak memory of two steps minus the peak before the model was built, in MB."""
    torch.set_num_threads(1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    step = make_step()
    step()
    step()
    print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)


def publish(name: str, figures: dict) -> None:
    """Add the machine to the figures, print them as JSON and write them to results/<name>.json."""
    figures = {"benchmark": name} | figures | {"machine": machine(), "torch": torch.__version__}
    text = json.dumps(figures, indent=2)
    print(text)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(text + "\n", "utf-8")
