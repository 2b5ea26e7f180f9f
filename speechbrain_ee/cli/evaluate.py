# SPDX-License-Identifier: Apache-2.0
"""``speechbrain-ee evaluate``."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ee_runtime.errors import print_error
from speechbrain_ee.cli.engines import (
    AddressOption,
    BulkEngine,
    EngineOption,
    ProcessesOption,
    bulk_engine,
    threads_of,
)
from speechbrain_ee.cli.options import (
    PROGRAM,
    BeamSizeOption,
    Decoding,
    DecodingOption,
    DeviceOption,
    LMOption,
    LMWeightOption,
    RevisionOption,
    ThreadsOption,
    Unit,
    WordBonusOption,
    device_options,
    results_folder,
)
from speechbrain_ee.startup import prepare_process


def evaluate(
    model: Annotated[str, typer.Argument(metavar="RUN", help="Export, run folder, model folder, or name on the Hub.")],
    manifest: Annotated[
        list[Path],
        typer.Option(
            help="Test manifest: JSON lines, SpeechBrain CSV or JSON, or lhotse cuts. Give the option once for each "
            "manifest."
        ),
    ],
    data_root: Annotated[
        Path | None,
        typer.Option(
            help="Relative audio paths start from this folder. It also replaces $data_root in paths. Default: the "
            "folder of the manifest."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            help="Folder for the results; default: RUN/eval/NAME, or results/USER--MODEL/eval/NAME for a model on the "
            "Hub. NAME is the file name of the manifest without its "
            "ending. If the decoding is not greedy, NAME ends in -beam, -lexicon, -rescore or -ctc. With --lm, -lm "
            "follows."
        ),
    ] = None,
    error_unit: Annotated[
        Unit | None,
        typer.Option(
            help="What oracle, policies and intervals count errors in: word for WER, char for CER. "
            "Default: the error_unit that the model was trained with."
        ),
    ] = None,
    decoding: DecodingOption = Decoding.greedy,
    beam_size: BeamSizeOption = None,
    lm: LMOption = None,
    lm_weight: LMWeightOption = None,
    word_bonus: WordBonusOption = None,
    revision: RevisionOption = None,
    processes: ProcessesOption = None,
    engine: EngineOption = BulkEngine.local,
    address: AddressOption = None,
    device: DeviceOption = None,
    threads: ThreadsOption = None,
) -> None:
    """Evaluate every exit of a model on test sets.

    The command prints a table for each set and writes exits.json, exits.csv, exits.png, policies.json and
    utterances.jsonl. Results are saved while the command runs; run the same command again to resume. All recordings
    must be there. If one turns out to be damaged, an error names it, the tables leave it out, and the exit status is 1.
    Repair the recording and run the same command again; only the missing utterances are then evaluated.
    """
    threads = threads_of(engine, processes, address, threads)
    prepare_process(threads)
    from ee_runtime.policies import FixedExit
    from ee_runtime.text.error_units import error_unit as unit_by_name
    from speechbrain_ee.bulk.model_options import ModelOptions
    from speechbrain_ee.calibration.shift import shift_warning
    from speechbrain_ee.corpora.checks import unwritable_warning
    from speechbrain_ee.corpora.manifest import manifest_name, read_manifest
    from speechbrain_ee.evaluation.batch import EvaluateWork
    from speechbrain_ee.evaluation.evaluate import evaluate as run_evaluation
    from speechbrain_ee.evaluation.tables import exits_table, missing_line, set_size
    from speechbrain_ee.replay.utterances import read_utterances

    if out is not None and len(manifest) > 1:
        raise typer.BadParameter("--out takes the results of one manifest: leave it out, or give one --manifest")
    stems = [manifest_name(path) for path in manifest]
    if len(set(stems)) < len(stems):
        raise typer.BadParameter(
            f"manifests {', '.join(stems)}: results are named by the stem, so give each manifest its own name"
        )
    if decoding in (Decoding.greedy, Decoding.ctc):
        for name, value in (
            ("--lm", lm),
            ("--beam-size", beam_size),
            ("--lm-weight", lm_weight),
            ("--word-bonus", word_bonus),
        ):
            if value is not None:
                raise typer.BadParameter(f"{name} needs --decoding beam, lexicon or rescore")
    # All manifests are read before the first one is evaluated, which can take hours.
    test_sets = [read_manifest(path, data_root=data_root) for path in manifest]
    options = ModelOptions(
        model,
        revision=revision,
        policy=FixedExit(),
        decoding=decoding.value,
        decoder_options={"beam_size": beam_size, "lm": lm, "lm_weight": lm_weight, "word_bonus": word_bonus},
        run_opts=device_options(device),
        threads=threads,
    )
    asr = options.open()
    unit = asr.error_unit if error_unit is None else unit_by_name(error_unit.value)
    how = {"engine": bulk_engine(engine, processes, address, threads, device), "work": EvaluateWork(options)}
    failed = False
    for stem, utterances in zip(stems, test_sets, strict=True):
        suffix = ("" if decoding is Decoding.greedy else f"-{decoding.value}") + ("" if lm is None else "-lm")
        folder = out or results_folder(model, revision) / "eval" / (stem + suffix)
        try:
            exits = run_evaluation(asr, utterances, folder, test_set=stem, error_unit=unit, **how)
        except KeyboardInterrupt:
            raise KeyboardInterrupt("run the same command again to resume") from None
        print(f"{stem}: {set_size(exits)}, {asr.decoder.name}")
        print(exits_table(exits))
        warnings = [unwritable_warning(utterances, asr.tokenizer, unit)]
        if asr.calibration:
            warnings.append(shift_warning(asr.calibration, read_utterances(folder / "utterances.jsonl")))
        for warning in filter(None, warnings):
            print(f"warning: {stem}: {warning}", file=sys.stderr)
        print(f"{folder}: tables, plot and hypotheses", file=sys.stderr)
        if exits.get("missing"):
            print_error(PROGRAM, ValueError(missing_line(exits, folder)))
            failed = True
    if failed:
        raise typer.Exit(1)
