# SPDX-License-Identifier: Apache-2.0
"""The command ``speechbrain-ee calibrate``: choose the exit threshold of a model."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ee_runtime.calibration.defaults import DEFAULT_DELTA
from speechbrain_ee.cli.options import RevisionOption, evaluated_folder
from speechbrain_ee.startup import prepare_process


def calibrate(
    model: Annotated[str, typer.Argument(metavar="RUN", help="Export, run folder, model folder, or name on the Hub.")],
    score: Annotated[
        str,
        typer.Option(
            help="The score that the policy compares with the threshold: learned, patience, or the name of an exit "
            "score that greedy decoding computes (not posterior)."
        ),
    ] = "entropy",
    promise: Annotated[
        float | None,
        typer.Option(
            help="Target: maximum WER increase over full depth, in points, promised for new utterances of the same "
            "kind. CER if the set was evaluated with --error-unit char, or the model trained so."
        ),
    ] = None,
    average: Annotated[
        float | None,
        typer.Option(
            help="Target: maximum WER increase over full depth, in points, on new utterances, averaged over many "
            "calibration sets of the same kind. A single calibration may exceed it. WER or CER as for --promise."
        ),
    ] = None,
    max_wer_increase: Annotated[
        float | None,
        typer.Option(
            help="Target: maximum WER increase over full depth, in points, on the calibration set; no promise."
        ),
    ] = None,
    max_wer: Annotated[
        float | None, typer.Option(help="Target: maximum WER in percent on the calibration set; no promise.")
    ] = None,
    max_cer_increase: Annotated[
        float | None,
        typer.Option(help="As --max-wer-increase, for a set whose errors are counted in characters."),
    ] = None,
    max_cer: Annotated[
        float | None, typer.Option(help="As --max-wer, for a set whose errors are counted in characters.")
    ] = None,
    mean_cost: Annotated[
        float | None,
        typer.Option(help="Target: maximum share of the MACs of full depth, from 0 to 1, on the calibration set."),
    ] = None,
    delta: Annotated[float, typer.Option(help="Probability with which a promise may be wrong.")] = DEFAULT_DELTA,
    same_speakers: Annotated[
        bool,
        typer.Option("--same-speakers", help="Limit the promise to new utterances of the speakers of this set."),
    ] = False,
    on: Annotated[
        str,
        typer.Option(
            help="Name of the evaluated set to calibrate on. Prefer a set that was not used to select checkpoints; dev "
            "was used."
        ),
    ] = "dev",
    out: Annotated[Path | None, typer.Option(help="Folder for calibration.json; default: RUN.")] = None,
    revision: RevisionOption = None,
) -> None:
    """Choose the exit threshold of a model.

    Give one target: --promise, --average, --max-wer-increase, --max-wer (or --max-cer-increase, --max-cer) or
    --mean-cost. The threshold is chosen with the cached scores in RUN/eval/SET/utterances.jsonl. The command prints the
    result on this set, and the promise if there is one, and writes calibration.json.
    """
    prepare_process()
    from ee_runtime.calibration.file import CALIBRATION_FILE, write_calibration
    from ee_runtime.calibration.summary import summary
    from ee_runtime.decoders.make import greedy_class
    from ee_runtime.export_folder import read_export
    from speechbrain_ee.calibration.attempts import record_attempt
    from speechbrain_ee.calibration.checks import check_evaluated, evaluated_unit
    from speechbrain_ee.calibration.choose import calibrate as choose
    from speechbrain_ee.inference.open_model import is_export
    from speechbrain_ee.inference.source import ModelSource
    from speechbrain_ee.model.fingerprint import fingerprint
    from speechbrain_ee.model.folder import MODEL_FILES, greedy_name, load_config
    from speechbrain_ee.replay.utterances import read_utterances

    run = evaluated_folder(model, revision)
    targets = {"promise": promise, "average": average, "max_wer_increase": max_wer_increase}
    targets |= {"max_wer": max_wer, "max_cer_increase": max_cer_increase, "max_cer": max_cer, "mean_cost": mean_cost}
    given = {name: value for name, value in targets.items() if value is not None}
    if len(given) != 1:
        raise typer.BadParameter(f"give one of {', '.join('--' + name.replace('_', '-') for name in targets)}")
    if promise is not None:
        given["delta"] = delta
    elif delta != DEFAULT_DELTA:
        raise typer.BadParameter("--delta requires --promise")
    if same_speakers:
        if promise is None and average is None:
            raise typer.BadParameter("--same-speakers requires --promise or --average")
        given["same_speakers"] = True
    folder = run / "eval" / on
    utterances = read_utterances(folder / "utterances.jsonl", evaluated_unit(folder))
    if is_export(run):
        export = read_export(run)
        identity, decoding = export.model, greedy_class(export.attention is not None).name
    else:
        files = ModelSource(model, revision=revision)
        paths = [files.get(name) for name in MODEL_FILES]
        identity, decoding = fingerprint(paths), greedy_name(load_config(paths[0]))
    check_evaluated(folder, identity, decoding)
    found = record_attempt(folder, choose(utterances, score=score, target=given, fitted_on=on, model=identity))
    path = (out or run) / CALIBRATION_FILE
    write_calibration(path.parent, found)
    print(summary(found))
    is_default = path.parent.resolve() == Path(model).resolve()
    print(f"{path}: written" + ("" if is_default else f"; use it with --calibration {path}"), file=sys.stderr)
