# SPDX-License-Identifier: Apache-2.0
"""``speechbrain-ee transcribe``."""

from pathlib import Path
from typing import Annotated

import typer

from ee_runtime.output import policy_of_options, transcribe_files
from speechbrain_ee.cli.engines import AddressOption, BulkEngine, EngineOption, ProcessesOption
from speechbrain_ee.cli.options import (
    PROGRAM,
    BeamSizeOption,
    Decoding,
    DecodingOption,
    DeviceOption,
    LMOption,
    LMWeightOption,
    ModelOption,
    RevisionOption,
    RuntimeOption,
    ThreadsOption,
    WordBonusOption,
    device_options,
)
from speechbrain_ee.cli.transcribe_manifest import transcribe_to_file
from speechbrain_ee.startup import prepare_process


def transcribe(
    model: ModelOption,
    files: Annotated[
        list[Path] | None, typer.Argument(help="Audio files (wav, flac, ogg, mp3, ...) or /dev/stdin.")
    ] = None,
    manifest: Annotated[
        Path | None,
        typer.Option(
            help="Instead of files: JSON lines, SpeechBrain CSV or JSON; texts and durations are not needed. Needs "
            "--out."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="JSON lines with the text of each file of --manifest, in its order. Run the same command again to "
            "resume."
        ),
    ] = None,
    data_root: Annotated[
        Path | None, typer.Option(help="Folder of relative audio paths of --manifest; default: its own folder.")
    ] = None,
    processes: ProcessesOption = None,
    batch_seconds: Annotated[
        float | None,
        typer.Option(min=0.1, help="Seconds of audio in a batch of --manifest, padding included; default: 100."),
    ] = None,
    engine: EngineOption = BulkEngine.local,
    address: AddressOption = None,
    layer: Annotated[int | None, typer.Option(help="Always stop at this exit layer.")] = None,
    entropy: Annotated[
        float | None,
        typer.Option(
            help="Stop at the first exit whose mean frame entropy is at most this number between 0 and 1; a higher "
            "number stops earlier."
        ),
    ] = None,
    full: Annotated[bool, typer.Option("--full", help="Always run all encoder layers.")] = False,
    max_layer: Annotated[int | None, typer.Option(help="Deepest encoder layer that is run.")] = None,
    budget: Annotated[
        float | None,
        typer.Option(help="Largest number of MACs per second of audio; an attention decoder is not counted."),
    ] = None,
    deadline_ms: Annotated[
        float | None,
        typer.Option(
            help="Largest time in ms for a file. A file longer than 30 s is cut into parts; the limit then applies to "
            "each group of four parts."
        ),
    ] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="A calibration.json of this model; default: the one in the model folder.")
    ] = None,
    decoding: DecodingOption = Decoding.greedy,
    beam_size: BeamSizeOption = None,
    lm: LMOption = None,
    lm_weight: LMWeightOption = None,
    word_bonus: WordBonusOption = None,
    revision: RevisionOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per line.")] = False,
    runtime: RuntimeOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Transcribe audio files.

    The command prints one line FILE<tab>TEXT per file. With --manifest, it transcribes many files in batches and writes
    --out. The exit policy decides at which exit each file stops. --layer, --entropy and --full set the policy. The
    default is the policy of calibration.json, or full depth if the model has no calibration.json.
    """
    if sum((layer is not None, entropy is not None, full)) > 1:
        raise typer.BadParameter("give one of --layer, --entropy and --full")
    policy = policy_of_options(layer, entropy, full)
    limits = {"max_layer": max_layer, "budget": budget, "deadline_ms": deadline_ms}
    language_model = {"lm": lm, "lm_weight": lm_weight, "word_bonus": word_bonus}
    if manifest is not None:
        _refuse_for_manifest({"FILE": files, "--json": as_json, "--deadline-ms": deadline_ms is not None})
        if out is None:
            raise typer.BadParameter("--manifest needs --out, the file of texts")
        done = transcribe_to_file(
            manifest,
            out,
            data_root=data_root,
            limits={"max_layer": max_layer, "budget": budget},
            processes=processes,
            batch_seconds=100.0 if batch_seconds is None else batch_seconds,
            engine=engine,
            address=address,
            model={
                "source": model,
                "revision": revision,
                "runtime": runtime and runtime.value,
                "policy": policy,
                "calibration_file": calibration,
                "decoding": decoding.value,
                "decoder_options": {"beam_size": beam_size} | language_model,
                "threads": threads,
            },
            device=device,
        )
        if not done:
            raise typer.Exit(1)
        return
    if not files:
        raise typer.BadParameter("give audio files, or --manifest and --out")
    for name, is_given in {
        "--out": out is not None,
        "--data-root": data_root is not None,
        "--processes": processes is not None,
        "--batch-seconds": batch_seconds is not None,
        "--engine": engine is not BulkEngine.local,
        "--address": address is not None,
    }.items():
        if is_given:
            raise typer.BadParameter(f"{name} is for --manifest; FILE arguments are transcribed one by one")
    from speechbrain_ee.inference.open_model import needs_torch, open_model

    runtime_name = runtime and runtime.value
    if needs_torch(model, runtime_name):
        prepare_process(threads)  # imports torchaudio, which an export does not need
    asr = open_model(
        model,
        revision=revision,
        runtime=runtime_name,
        policy=policy,
        calibration_file=calibration,
        decoding=decoding.value,
        decoder_options={"beam_size": beam_size} | language_model,
        run_opts=device_options(device),
        threads=threads,
    )
    if not transcribe_files(asr, files, limits=limits, as_json=as_json, program=PROGRAM):
        raise typer.Exit(1)


def _refuse_for_manifest(options: dict[str, object]) -> None:
    for name, is_given in options.items():
        if is_given:
            raise typer.BadParameter(f"{name} cannot be used with --manifest: leave one of them out")
