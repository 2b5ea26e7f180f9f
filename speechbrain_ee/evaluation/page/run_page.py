# SPDX-License-Identifier: Apache-2.0
"""The report page of a run and the same tables as Markdown: the command ``speechbrain-ee report``."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

from ee_runtime.calibration.file import CALIBRATION_FILE, read_calibration
from ee_runtime.files import make_folder, write_whole
from ee_runtime.text.error_units import ErrorUnit, unit_of
from speechbrain_ee.evaluation.page.data import SHARES, collect
from speechbrain_ee.evaluation.page.html import write_page
from speechbrain_ee.evaluation.tables import exits_markdown, json_bytes
from speechbrain_ee.replay.utterances import read_utterances


def write_run_page(run: str | Path, page: str | Path) -> None:
    """Write the page of all evaluated sets of a run, and the tables as a Markdown file with the same stem.

    Rewrites ``policies.json`` of every set, to include the learned policy of ``calibration.json``.

    Arguments
    ---------
    run : str or Path
        Folder with ``eval/<test set>/``; its ``calibration.json`` is used if there is one.
    page : str or Path
        The HTML file; its folder is created if missing.

    Raises
    ------
    ValueError
        If nothing was evaluated, or a file is broken.
    """
    run, page = Path(run), Path(page)
    folders = sorted(path.parent for path in run.glob("eval/*/exits.json"))
    if not folders:
        raise ValueError(f"{run} has no eval/<test set>/exits.json: evaluate a manifest first")
    calibration_file = run / CALIBRATION_FILE
    calibration = read_calibration(calibration_file) if calibration_file.exists() else None
    sets, markdown = {}, [f"# {run.name}", ""]
    for folder in folders:
        exits = json.loads((folder / "exits.json").read_text("utf-8"))
        unit = unit_of(exits)
        utterances = read_utterances(folder / "utterances.jsonl", unit)
        models = {(calibration or {}).get("model"), exits.get("model")} - {None}
        if calibration and len(models) > 1:
            raise ValueError(f"{folder} and {calibration_file} are of different models: evaluate the set again")
        found = collect(exits, utterances, calibration=calibration, folder=page.parent)
        curves = {name: [_without_band(one) for one in entries] for name, entries in found["policies"].items()}
        write_whole(folder / "policies.json", json_bytes(curves))
        sets[folder.name] = found
        picture = Path(os.path.relpath(folder / "exits.png", page.parent)).as_posix()
        markdown += [
            f"## {folder.name}",
            "",
            *_set_markdown(found, unit),
            f"![{unit.rate} against cost]({picture})",
            "",
        ]
    make_folder(page.parent)
    write_page(page, sets, title=f"Early exits of {run.resolve().parent.name}/{run.resolve().name}")
    write_whole(page.with_suffix(".md"), "\n".join(markdown).encode())


def _without_band(entry: Mapping) -> dict:
    return {name: value for name, value in entry.items() if not name.endswith("_ci95")}


def policies_markdown(at_cost: Mapping) -> str:
    """Format the error rate of every policy at equal cost as a Markdown table."""
    heads = [f"{100 * share:.0f} % of MACs" for share in SHARES]
    lines = [f"| policy | {' | '.join(heads)} |", "|---" * (len(heads) + 1) + "|"]
    for name, rates in at_cost.items():
        cells = ["" if rate is None else f"{rate:.2f}" for rate in rates]
        lines.append(f"| {name.replace('_', ' ')} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _set_markdown(found: Mapping, unit: ErrorUnit) -> list[str]:
    lines = [exits_markdown(found["exits"])]
    if found["at_cost"]:
        lines.append(f"{unit.rate} in percent at equal cost:\n\n{policies_markdown(found['at_cost'])}")
    point = found["calibrated"]
    if point:
        lines.append(
            f"Calibrated: {point['label']}, {unit.rate} {point[unit.key]:.2f} % at mean exit layer "
            f"{point['mean_layer']:.2f}; {point['promise']}.\n"
        )
    if found["warning"]:
        lines.append(f"Warning: {found['warning']}.\n")
    return lines
