# SPDX-License-Identifier: Apache-2.0
"""``speechbrain-ee bench``: the measurement of ``ee-bench`` for models of every kind, with a plot."""

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from ee_runtime.bench.opener import Opener, export_opener
from ee_runtime.bench.options import DEFAULT_ROUNDS, DEFAULT_STARTS, BenchOptions, parse_seconds
from ee_runtime.threads import default_threads
from speechbrain_ee.cli.options import (
    PROGRAM,
    DeviceOption,
    RevisionOption,
    RuntimeOption,
    ThreadsOption,
    device_options,
)
from speechbrain_ee.hub_download import may_be_on_hub, onnx_folder
from speechbrain_ee.startup import prepare_process


def bench(
    model: Annotated[str, typer.Argument(help="Export, run folder, model folder, or name on the HuggingFace Hub.")],
    more_audio: Annotated[
        list[Path] | None, typer.Argument(metavar="[FILE]...", help="More recordings, after --audio.")
    ] = None,
    against: Annotated[str | None, typer.Option(help="Another model; all runs of both alternate.")] = None,
    seconds: Annotated[
        list[str] | None,
        typer.Option(help="Lengths of noise in seconds, e.g. 2,10; default: 10. The option can be repeated."),
    ] = None,
    audio: Annotated[
        list[Path] | None,
        typer.Option(help="Recordings instead of noise. The policy of calibration.json is timed on recordings only."),
    ] = None,
    batch: Annotated[int, typer.Option(help="Utterances per call.")] = 1,
    rounds: Annotated[int, typer.Option(help="Alternating rounds.")] = DEFAULT_ROUNDS,
    starts: Annotated[int, typer.Option(help="Fresh processes per model and depth; 0: none.")] = DEFAULT_STARTS,
    rtf: Annotated[float | None, typer.Option(help="Budget: seconds of computation per second of audio.")] = None,
    ms: Annotated[
        float | None, typer.Option(help="Budget: milliseconds per recording, or per part of a long one (30 s).")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="JSON file for the figures; a plot is written beside it (.png).")
    ] = None,
    revision: RevisionOption = None,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Measure a model on this machine: time of each exit, start of a process, peak memory and size.

    With --rtf or --ms, the command prints the deepest exit, and the policy, that are fast enough, with the command line
    that uses them. The exit status is 1 if nothing is fast enough.
    """
    try:
        options = BenchOptions(
            seconds=parse_seconds(seconds or []),
            audio=[*(audio or []), *(more_audio or [])],
            batch=batch,
            rounds=rounds,
            starts=starts,
            rtf=rtf,
            ms=ms,
            out=out,
        )
        if more_audio and not audio:
            raise ValueError(f"{more_audio[0]}: give recordings after --audio")
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    sources = [model] if against is None else [model, against]
    openers, threads = _openers(sources, revision, runtime and runtime.value, device, threads)
    from ee_runtime.bench.figures import bench as measure
    from ee_runtime.bench.figures import nothing_fits, write_figures
    from ee_runtime.bench.table import bench_table
    from ee_runtime.sessions import silence

    silence()
    figures = measure(openers, options, threads=threads, program=PROGRAM)
    print(bench_table(figures))
    if out is not None:
        from speechbrain_ee.evaluation.plot_times import draw_times

        write_figures(out, figures)
        out.with_suffix(".png").write_bytes(draw_times(figures))
        print(f"{out}: figures; plot: {out.with_suffix('.png').name}", file=sys.stderr)
    if nothing_fits(figures):
        raise typer.Exit(1)


def _openers(
    sources: list[str], revision: str | None, runtime: str | None, device: str | None, threads: int | None
) -> tuple[list[Opener], int]:
    """Return what opens each model, and the number of threads of all of them."""
    from speechbrain_ee.inference.open_model import needs_torch

    in_torch = [needs_torch(source, runtime) for source in sources]
    if any(in_torch):
        prepare_process(threads)
        import torch

        threads = torch.get_num_threads()
    elif device is not None:
        raise typer.BadParameter("--device is for models in torch: an export runs on the CPU")
    threads = threads or default_threads()
    return [
        torch_opener(source, threads, device, revision if may_be_on_hub(source) else None)
        if torch_runs
        else export_opener(str(onnx_folder(source, revision)), threads)
        for source, torch_runs in zip(sources, in_torch, strict=True)
    ], threads


def torch_opener(source: str, threads: int, device: str | None, revision: str | None = None) -> Opener:
    """Return what opens a model in torch."""
    command = f"{PROGRAM} transcribe --model {shlex.quote(source)} --threads {threads}"
    if device is not None:
        command += f" --device {device}"
    options = {"run_opts": device_options(device)}
    if revision is not None:
        command += f" --revision {shlex.quote(revision)}"
        options["revision"] = revision
    return Opener(source, "speechbrain_ee.inference.asr", "EarlyExitASR.from_hparams", options, command)
