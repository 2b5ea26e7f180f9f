# SPDX-License-Identifier: Apache-2.0
"""``speechbrain-ee transcribe --manifest``: many files into one file of texts."""

import sys
from pathlib import Path

import typer

from speechbrain_ee.cli.engines import BulkEngine, bulk_engine, threads_of
from speechbrain_ee.cli.options import PROGRAM, device_options
from speechbrain_ee.startup import prepare_process


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

    ``model`` has the arguments of :class:`~speechbrain_ee.bulk.model_options.ModelOptions` except those of the device.
    """
    threads = threads_of(engine, processes, address, model["threads"])
    from speechbrain_ee.inference.open_model import needs_torch

    if needs_torch(model["source"], model["runtime"]):
        prepare_process(threads)
    from speechbrain_ee.bulk.batch import TranscribeWork
    from speechbrain_ee.bulk.model_options import ModelOptions
    from speechbrain_ee.bulk.transcribe import transcribe_manifest
    from speechbrain_ee.corpora.manifest import read_manifest

    if out.exists() and manifest.exists() and out.samefile(manifest):
        raise typer.BadParameter(f"--out {out} is the manifest: give another file")
    utterances = read_manifest(manifest, data_root=data_root, required=("audio_filepath",))
    options = ModelOptions(**model | {"run_opts": device_options(device), "threads": threads})
    try:
        summary = transcribe_manifest(
            TranscribeWork(options, limits),
            utterances,
            out,
            batch_seconds=batch_seconds,
            engine=bulk_engine(engine, processes, address, threads, device),
            program=PROGRAM,
        )
    except KeyboardInterrupt:
        raise KeyboardInterrupt("run the same command again to resume") from None
    rate = ""
    if summary.transcribed:
        rate = f" in {summary.seconds:.1f} s: {summary.audio_s / summary.seconds:.0f} h of audio per hour"
    failed = f", {summary.failed} failed (run the same command again to retry)" if summary.failed else ""
    print(f"{out}: {len(utterances)} files, {summary.transcribed} transcribed now{rate}{failed}", file=sys.stderr)
    return not summary.failed
