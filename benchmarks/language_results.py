# SPDX-License-Identifier: Apache-2.0
"""Collect the CER of the exits of runs in several languages, and what their calibrated policies do on the test set.

python benchmarks/language_results.py chinese=results/chinese arabic=results/arabic german=results/german --out FILE

Each run needs a calibration.json and the evaluated set ``test``. Prints Markdown tables and writes FILE.
"""

import argparse
import json
from pathlib import Path

from ee_runtime.errors import one_line_errors
from ee_runtime.policies import FixedExit, policy_from_dict
from ee_runtime.text.error_units import CHAR
from speechbrain_ee.replay.replay import replay
from speechbrain_ee.replay.utterances import read_utterances


def collect(run: Path) -> dict:
    """Return CER with its interval by exit layer, and the result of the calibrated policy on the test set."""
    exits = json.loads((run / "eval" / "test" / "exits.json").read_text("utf-8"))
    calibration = json.loads((run / "calibration.json").read_text("utf-8"))
    lines = read_utterances(run / "eval" / "test" / "utterances.jsonl", CHAR)
    full, found = (replay(one, lines) for one in (FixedExit(), policy_from_dict(calibration["policy"])))
    epochs = (run / "train_log.txt").read_text("utf-8").splitlines()
    return {
        "epochs": len(epochs),
        "exits": [{key: one[key] for key in ("layer", "cer", "cer_ci95")} for one in exits["exits"]],
        "target": calibration["target"],
        "full_cer": full.error_rate,
        "cer": found.error_rate,
        "mean_layer": found.mean_layer,
        "macs_share": found.macs_per_s / full.macs_per_s,
    }


def markdown(found: dict) -> str:
    """Return a table of the CER by exit layer and language."""
    runs = found["runs"]
    lines = ["| layer | " + " | ".join(runs) + " |", "|---" * (len(runs) + 1) + "|"]
    for row in zip(*(one["exits"] for one in runs.values()), strict=True):
        cells = ["{:.1f} [{:.1f}, {:.1f}]".format(one["cer"], *one["cer_ci95"]) for one in row]
        lines.append(f"| {row[0]['layer']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def promise_markdown(found: dict) -> str:
    """Return a table of what the policies with a promise do on the test sets."""
    lines = [
        "| language | promise | CER on test: policy, full depth | mean exit layer | MACs |",
        "|---|---|---|---|---|",
    ]
    for name, one in found["runs"].items():
        lines.append(
            f"| {name} | {one['target']['promise']:g} points | {one['cer']:.1f}, {one['full_cer']:.1f} "
            f"| {one['mean_layer']:.2f} | {100 * one['macs_share']:.0f} % |"
        )
    return "\n".join(lines)


def main() -> None:
    """Collect, print and write."""
    from side_by_side import named_runs  # benchmarks/side_by_side.py

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", help="LANGUAGE=RUN")
    parser.add_argument("--out", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    with one_line_errors("language_results.py"):
        found = {"runs": {name: collect(Path(run)) for name, run in named_runs(args.runs).items()}}
        args.out.write_text(json.dumps(found, indent=1) + "\n", "utf-8")
        print(markdown(found), promise_markdown(found), sep="\n\n")


if __name__ == "__main__":
    main()
