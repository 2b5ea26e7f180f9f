# SPDX-License-Identifier: Apache-2.0
"""Format the figures of a bench for a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ee_runtime.bench.budget import Budget, answer_lines
from ee_runtime.bench.times import POLICY

HEADER = ["run", "layer", "mean layer", "min ms", "median ms", "RTF", "MMACs/s", "of GEMM", "MB"]


def bench_table(figures: Mapping) -> str:
    """Format the figures of :func:`~ee_runtime.bench.figures.bench`.

    Returns
    -------
    str
        For each model a table per input and the starts; then ratios, the machine, and answers.
    """
    blocks = []
    for model in figures["models"]:
        lines = []
        for times in model["times"]:
            lines += [f"{_title(model, figures)}; {times['input']}, {times['audio_s']:.4g} s of audio in all"]
            lines += _aligned([HEADER, *_rows(model, times)])
        if model["has_calibration"] and not figures["audio"]:
            lines += ["the policy of calibration.json is not timed on noise: give recordings with --audio"]
        blocks.append([*lines, *(start_line(row, figures["start_audio_s"]) for row in model["starts"])])
    blocks.append([ratio_line(row, figures) for row in figures.get("ratios", [])])
    blocks.append([machine_line(figures)])
    blocks.append(
        [
            f"{answer['model']}, {answer['input']}: {line}"
            for answer in figures.get("answers", [])
            for line in answer_lines(answer, Budget(**answer["budget"]))
        ]
    )
    return "\n\n".join("\n".join(lines) for lines in blocks if lines)


def start_line(row: Mapping, audio_s: float) -> str:
    """Describe the starts of processes at one exit."""
    memory = row["peak_memory_bytes"]
    peak = "not measured" if memory is None else f"{memory / 1e6:.1f} MB ({row['memory_source']})"
    return (
        f"start of a process, layer {row['layer']}, {audio_s:.4g} s of audio: first text after "
        f"{row['first_text_s']['median']:.2f} s, {row['after_imports_s']['median']:.2f} s of them after the imports "
        f"(medians of {row['starts']}); peak memory {peak}"
    )


def ratio_line(row: Mapping, figures: Mapping) -> str:
    """Describe the ratio of two models at one exit."""
    one, other = (model["path"] for model in figures["models"])
    what = "policy up to layer" if row["kind"] == POLICY else "layer"
    layers = f"{what} {row['layer']}"
    against = "" if row["layer"] == row["other_layer"] else f", {what} {row['other_layer']}"
    low, high = row["quartiles"]
    return (
        f"{row['input']}, {layers}: {one} takes {row['median']:.3f} times as long as {other}{against} (quartiles "
        f"{low:.3f} to {high:.3f})"
    )


def machine_line(figures: Mapping) -> str:
    """Describe the machine and the versions."""
    machine, threads = figures["machine"], figures["threads"]
    versions = ", ".join(f"{name} {version}" for name, version in figures["versions"].items())
    return (
        f"{machine['cpu']}, {machine['logical_cpus']} logical CPUs; float32 products of 1024 x 1024 matrices at "
        f"{machine['gemm_gflops']:.1f} GFLOP/s on {_threads(threads)}; {versions}"
    )


def _title(model: Mapping, figures: Mapping) -> str:
    place = "" if model["device"] == "cpu" else f" on {model['device']}"
    return (
        f"{model['path']}: {model['runtime']}{place}, {model['precision']}, {_threads(figures['threads'])}, batch "
        f"{figures['batch']}, {figures['rounds']} round{'s' * (figures['rounds'] > 1)}"
    )


def _threads(number: int) -> str:
    return f"{number} thread{'s' * (number > 1)}"


def _rows(model: Mapping, times: Mapping) -> list[list[str]]:
    sizes = {row["layer"]: row["size_bytes"] for row in model["exits"]}
    return [
        [
            name,
            str(row["layer"]),
            f"{row['mean_layer']:.2f}" if "mean_layer" in row else "-",
            f"{1000 * row['min_s']:.2f}",
            f"{1000 * row['median_s']:.2f}",
            f"{row['rtf']:.5f}",
            f"{row['macs_per_s'] / 1e6:.1f}",
            "-" if row["gemm_share"] is None else f"{row['gemm_share']:.0%}",
            "-" if sizes[row["layer"]] is None or "mean_layer" in row else f"{sizes[row['layer']] / 1e6:.1f}",
        ]
        for name, rows in (("exit", times["exits"]), ("policy", times["policies"]))
        for row in rows
    ]


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
