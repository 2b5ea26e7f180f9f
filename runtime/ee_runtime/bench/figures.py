# SPDX-License-Identifier: Apache-2.0
"""Measure one or two models; the figures as plain values for JSON."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from ee_runtime.bench.budget import choose
from ee_runtime.bench.inputs import BenchInput, noise_input, recorded_input
from ee_runtime.bench.matrix_product import MatrixProduct
from ee_runtime.bench.opener import Opener
from ee_runtime.bench.options import DEFAULT_SECONDS, BenchOptions
from ee_runtime.bench.starts import measure_starts
from ee_runtime.bench.times import EXIT, POLICY, Measured, measure, ratios, time_row
from ee_runtime.export_folder import Export
from ee_runtime.files import write_whole
from ee_runtime.machine import cpu_name, loaded_versions, logical_cpus
from ee_runtime.transcriber import Transcriber

FORMAT = 1


def bench(openers: Sequence[Opener], options: BenchOptions, *, threads: int, program: str) -> dict:
    """Measure models on this machine.

    Arguments
    ---------
    openers : sequence of Opener
        One model, or two that are compared.
    options : BenchOptions
        What is measured.
    threads : int
        Threads with which the openers open the models.
    program : str
        Start of the lines about the progress, on standard error.

    Returns
    -------
    dict
        The figures, see docs/guide/bench.md.

    Raises
    ------
    ValueError
        If a model cannot be opened, the sample rates differ, or an audio file cannot be read.
    """
    models = [opener.open() for opener in openers]
    inputs = _inputs(models, openers, options)
    product = MatrixProduct(threads)
    measured = []
    for given in inputs:
        _say(program, f"timing {given.name}, {options.rounds} rounds")
        measured.append(
            measure(models, given, rounds=options.rounds, with_policies=bool(options.audio), before_round=product.time)
        )
    figures = {
        "format": FORMAT,
        "machine": {"cpu": cpu_name(), "logical_cpus": logical_cpus(), "gemm_gflops": product.gflops},
        "versions": loaded_versions(),
        "threads": threads,
        "batch": options.batch,
        "rounds": options.rounds,
        "audio": [str(file) for file in options.audio],
        "models": [_model(opener, model) for opener, model in zip(openers, models, strict=True)],
    }
    for number, one in enumerate(figures["models"]):
        gflops = product.gflops if one["device"] == "cpu" else None
        one["times"] = [_times(found, given, number, gflops) for found, given in zip(measured, inputs, strict=True)]
        one["starts"] = []
    if len(models) == 2:
        figures["ratios"] = [
            {"input": given.name} | ratio
            for found, given in zip(measured, inputs, strict=True)
            for ratio in ratios(found)
        ]
    if options.budget:
        figures["answers"] = [
            {"model": opener.source, "input": times["input"]} | choose(times, options.budget, opener.command)
            for opener, one in zip(openers, figures["models"], strict=True)
            for times in one["times"]
        ]
    if options.starts:
        _add_starts(figures, openers, models, inputs, options.starts, program)
    return figures


def write_figures(path: Path, figures: dict) -> None:
    """Write figures as JSON."""
    write_whole(path, (json.dumps(figures, indent=1, allow_nan=False) + "\n").encode("ascii"))  # names may not be UTF-8


def nothing_fits(figures: dict) -> bool:
    """Whether a budget was given and, for some input, no exit or policy of the first model is within it."""
    of_first = figures.get("answers", [])[: len(figures["models"][0]["times"])]  # both may be the same folder
    return any(answer["exit"] is None and answer["policy"] is None for answer in of_first)


def _inputs(models: Sequence[Transcriber], openers: Sequence[Opener], options: BenchOptions) -> list[BenchInput]:
    rates = [model.sample_rate for model in models]
    if len(set(rates)) > 1:
        raise ValueError(
            f"{openers[0].source} takes audio at {rates[0]} Hz and {openers[1].source} at {rates[1]} Hz: compare "
            "models of one sample rate"
        )
    if options.audio:
        return [recorded_input(models, options.audio, options.batch)]
    return [noise_input(models, seconds, options.batch) for seconds in options.seconds or DEFAULT_SECONDS]


def _model(opener: Opener, model: Transcriber) -> dict:
    """Describe a model. Its size up to an exit is that of features, segments, and the head and decoder of the exit."""
    export: Export | None = getattr(model, "export", None)
    sizes = [None] * len(model.exit_layers)
    if export is not None:
        segments = [sum(file.size for file in export.segments[: index + 1]) for index in range(len(export.segments))]
        sizes = [export.features.size + size + head.size for size, head in zip(segments, export.exits, strict=True)]
        if export.attention is not None:
            sizes = [size + export.attention.num_bytes(index) for index, size in enumerate(sizes)]
    rows = zip(model.exit_layers, model.exit_parameters(), sizes, strict=True)
    return {
        "path": opener.source,
        "runtime": "torch" if export is None else "onnx",
        "device": str(getattr(model, "device", "cpu")),
        "precision": model.precision,
        "model": model.fingerprint,
        "has_calibration": model.calibrated_policy is not None,
        "exits": [{"layer": layer, "params": params, "size_bytes": size} for layer, params, size in rows],
    }


def _times(measured: Sequence[Measured], given: BenchInput, model: int, gflops: float | None) -> dict:
    rows = {
        kind: [
            time_row(one, audio_s=given.seconds, gflops=gflops)
            for one in measured
            if (one.run.kind, one.run.model) == (kind, model)
        ]
        for kind in (EXIT, POLICY)
    }
    named = {"input": given.name, "calls": len(given.calls), "audio_s": given.seconds}
    return named | {"exits": rows[EXIT], "policies": rows[POLICY]}


def _add_starts(
    figures: dict,
    openers: Sequence[Opener],
    models: Sequence[Transcriber],
    inputs: Sequence[BenchInput],
    starts: int,
    program: str,
) -> None:
    """Start processes with the longest batch, at the first exit and at full depth."""
    call = max((call for given in inputs for call in given.calls), key=lambda call: sum(map(len, call)))
    layers = [sorted({model.exit_layers[0], model.exit_layers[-1]}) for model in models]
    _say(program, f"starting {starts * sum(map(len, layers))} processes")
    figures["start_audio_s"] = sum(map(len, call)) / models[0].sample_rate
    for one, rows in zip(figures["models"], measure_starts(openers, layers, call, starts=starts), strict=True):
        one["starts"] = rows


def _say(program: str, line: str) -> None:
    print(f"{program}: {line}", file=sys.stderr, flush=True)
