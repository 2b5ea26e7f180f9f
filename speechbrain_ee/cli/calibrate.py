# SPDX-License-Identifier: Apache-2.0
"""The command ``speechbrain-ee calibrate``: choose the exit threshold of a model."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from ee_runtime.calibration.defaults import DEFAULT_DELTA
from speechbrain_ee.cli.options import check_folder
from speechbrain_ee.startup import prepare_process


def calibrate(
    run: Annotated[Path, typer.Argument(help="Run folder or bundle.")],
    score: Annotated[
        str, typer.Option(help="The score to compare: learned, patience, or the name of an exit score.")
    ] = "entropy",
    promise: Annotated[
        float | None, typer.Option(help="Maximum WER increase in points, promised for further utterances.")
    ] = None,
    average: Annotated[
        float | None, typer.Option(help="Maximum WER increase in points, on average over calibration sets.")
    ] = None,
    max_wer_increase: Annotated[
        float | None, typer.Option(help="Maximum WER increase in points on this set; no promise.")
    ] = None,
    max_wer: Annotated[float | None, typer.Option(help="Maximum WER in percent on this set; no promise.")] = None,
    mean_cost: Annotated[
        float | None, typer.Option(help="Maximum share of the MACs of full depth, on this set.")
    ] = None,
    delta: Annotated[float, typer.Option(help="Allowed probability of a broken promise.")] = DEFAULT_DELTA,
    same_speakers: Annotated[
        bool,
        typer.Option("--same-speakers", help="Promise for further utterances of this set's speakers only."),
    ] = False,
    on: Annotated[
        str,
        typer.Option(help="The evaluated set to calibrate on; preferably one that chose no checkpoint, unlike dev."),
    ] = "dev",
    out: Annotated[Path | None, typer.Option(help="Folder for calibration.json; RUN by default.")] = None,
) -> None:
    """Choose the exit threshold for one target from RUN/eval/<set>/utterances.jsonl, and print the promise."""
    prepare_process()
    from ee_runtime.calibration.file import CALIBRATION_FILE, write_calibration
    from ee_runtime.calibration.summary import summary
    from speechbrain_ee.calibration.attempts import record_attempt
    from speechbrain_ee.calibration.checks import check_evaluated
    from speechbrain_ee.calibration.choose import calibrate as choose
    from speechbrain_ee.model.fingerprint import fingerprint
    from speechbrain_ee.model.folder import CONFIG_FILE, MODEL_FILES, greedy_name, load_config
    from speechbrain_ee.replay.utterances import read_utterances

    check_folder(run)
    targets = {"promise": promise, "average": average, "max_wer_increase": max_wer_increase}
    targets |= {"max_wer": max_wer, "mean_cost": mean_cost}
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
    utterances = read_utterances(folder / "utterances.jsonl")
    model = fingerprint([run / name for name in MODEL_FILES])
    check_evaluated(folder, model, greedy_name(load_config(run / CONFIG_FILE)))
    found = record_attempt(folder, choose(utterances, score=score, target=given, fitted_on=on, model=model))
    write_calibration(out or run, found)
    print(summary(found))
    print(f"{(out or run) / CALIBRATION_FILE}: written", file=sys.stderr)
