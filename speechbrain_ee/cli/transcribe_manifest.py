# SPDX-License-Identifier: Apache-2.0
"""``speechbrain-ee transcribe --manifest``: many files into one file of texts."""

import sys
from enum import Enum
from pathlib import Path

import typer

from ee_runtime.threads import default_threads
from speechbrain_ee.cli.options import PROGRAM, device_options
from speechbrain_ee.startup import prepare_process


class BulkEngine(str, Enum):
    """What runs the batches of a manifest."""

    local = "local"
    ray = "ray"


def transcribe_to_file(
    manifest: Path,
    out: Path,
    *,
    data_root: Path | None,
    limits: dict,
    processes: int | None,
    batch_seconds: float,
    engine: BulkEngine,
    address: str | None,
    model: dict,
    device: str | None,
) -> bool:
    """Transcribe the files of a manifest into ``out``; return whether every file has a text.

    ``model`` has the arguments of :class:`~speechbrain_ee.bulk.batch.ModelOptions` except those of the device. The
    threads of each process are ``OMP_NUM_THREADS``, or the CPUs divided by the processes; on Ray one.
    """
    if address is not None and engine is not BulkEngine.ray:
        raise typer.BadParameter("--address is the address of a Ray cluster: add --engine ray")
    on_ray = engine is BulkEngine.ray
    threads = model["threads"] or (1 if on_ray else default_threads(processes or 1))
    from speechbrain_ee.inference.open_model import needs_torch

    if needs_torch(model["source"], model["runtime"]):
        prepare_process(threads)
    from speechbrain_ee.bulk.batch import ModelOptions, TranscribeWork
    from speechbrain_ee.bulk.transcribe import transcribe_manifest
    from speechbrain_ee.corpora.manifest import read_manifest

    utterances = read_manifest(manifest, data_root=data_root, required=("audio_filepath",))
    options = ModelOptions(**model | {"run_opts": device_options(device), "threads": threads})
    try:
        summary = transcribe_manifest(
            TranscribeWork(options, limits),
            utterances,
            out,
            batch_seconds=batch_seconds,
            engine=_engine(on_ray, processes, address, threads, num_gpus=int((device or "").startswith("cuda"))),
            program=PROGRAM,
        )
    except KeyboardInterrupt:
        print(f"{PROGRAM}: interrupted: run the same command again to resume", file=sys.stderr)
        raise typer.Exit(130) from None
    rate = ""
    if summary.transcribed:
        rate = f" in {summary.seconds:.1f} s: {summary.audio_s / summary.seconds:.0f} h of audio per hour"
    failed = f", {summary.failed} failed (run the same command again to retry)" if summary.failed else ""
    print(f"{out}: {len(utterances)} files, {summary.transcribed} transcribed now{rate}{failed}", file=sys.stderr)
    return not summary.failed


def _engine(on_ray: bool, processes: int | None, address: str | None, threads: int, num_gpus: int):
    """Return the engine of the options; None means this process."""
    if on_ray:
        from speechbrain_ee.bulk.ray_engine import RayCluster

        return RayCluster(address=address, workers=processes, cpus=threads, gpus=num_gpus)
    if processes is None or processes == 1:
        return None
    from speechbrain_ee.bulk.engines import Processes

    return Processes(processes)
