# SPDX-License-Identifier: Apache-2.0
"""Renew the demo's published figures from its run folder: the files of docs/results/demo, and README.md.

python benchmarks/demo.py [results/conformer_ee/1234]

Copies calibration.json and the test set's exits.json and exits.png, and writes policy.json: the result of the
calibrated policy on the test set, replayed from cached scores. Rewrites the table and the sentence in README.md between
the markers that name these files.
"""

import argparse
import json
import re
import shutil
from dataclasses import asdict
from pathlib import Path

from ee_runtime.calibration.file import CALIBRATION_FILE
from ee_runtime.errors import one_line_errors
from ee_runtime.policies import policy_from_dict
from speechbrain_ee.evaluation.tables import exits_markdown
from speechbrain_ee.replay.replay import replay
from speechbrain_ee.replay.utterances import read_utterances

ROOT = Path(__file__).parents[1]
TEST_SET = "test"


def policy_figures(run: Path) -> dict:
    """Return the result of a run's calibrated policy on its test set."""
    folder = run / "eval" / TEST_SET
    policy = json.loads((run / CALIBRATION_FILE).read_text("utf-8"))["policy"]
    result = replay(policy_from_dict(policy), read_utterances(folder / "utterances.jsonl"))
    figures = {"wer": result.wer} | asdict(result)
    for name in ("exit_indices", "error_rate", "unit"):
        del figures[name]
    last = json.loads((folder / "exits.json").read_text("utf-8"))["exits"][-1]
    return (
        {"policy": policy, "test_set": TEST_SET}
        | figures
        | {"full": {key: last[key] for key in ("layer", "macs_per_s")}}
    )


def markdown(figures: dict) -> str:
    """Return the sentence for the README."""
    full = figures["full"]
    return (
        f"With the {figures['policy']['score']} threshold that was chosen on dev, the mean exit layer is "
        f"{figures['mean_layer']:.2f} of {full['layer']} and WER is {figures['wer']:.2f} %. This policy needs\n"
        f"{100 * figures['macs_per_s'] / full['macs_per_s']:.1f} % of the MACs of full depth. It was replayed on the "
        "scores of the evaluation above ([policy.json](docs/results/demo/policy.json))."
    )


def between_markers(page: str, marker: str, end: str, content: str) -> str:
    r"""Replace the content between two markers of a page.

    Raises
    ------
    ValueError
        If the page does not have the markers exactly once.

    Example
    -------
    >>> between_markers("a <!-- x --> old <!-- /x --> b", "<!-- x -->", "<!-- /x -->", "new")
    'a <!-- x -->\nnew\n<!-- /x --> b'
    """
    page, count = re.subn(
        f"({re.escape(marker)}).*?({re.escape(end)})",
        lambda found: f"{found[1]}\n{content}\n{found[2]}",
        page,
        flags=re.S,
    )
    if count != 1:
        raise ValueError(f"the page has {marker} {count} times: give it once, followed by {end}")
    return page


def renew(run: Path, root: Path) -> None:
    """Write the files and the README."""
    folder, out = run / "eval" / TEST_SET, root / "docs" / "results" / "demo"
    files = [folder / "exits.json", folder / "exits.png", run / CALIBRATION_FILE]
    if missing := [str(file) for file in (*files, folder / "utterances.jsonl") if not file.is_file()]:
        raise ValueError(f"{run} lacks {', '.join(missing)}: train it with python train.py hparams/conformer_ee.yaml")
    figures = policy_figures(run)
    exits = json.loads(files[0].read_text("utf-8"))
    page = (root / "README.md").read_text("utf-8")
    page = between_markers(
        page, "<!-- results: docs/results/demo/exits.json -->", "<!-- /results -->", exits_markdown(exits).strip()
    )
    page = between_markers(
        page, "<!-- table: docs/results/demo/policy.json by benchmarks.demo -->", "<!-- /table -->", markdown(figures)
    )
    out.mkdir(parents=True, exist_ok=True)
    for file in files:
        shutil.copyfile(file, out / file.name)
    (out / "policy.json").write_text(json.dumps(figures, indent=2) + "\n", "utf-8")
    (root / "README.md").write_text(page, "utf-8")


def main() -> None:
    """Parse the command line and renew the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "run", type=Path, nargs="?", default=ROOT / "results" / "conformer_ee" / "1234", help="run folder"
    )
    renew(parser.parse_args().run, ROOT)


if __name__ == "__main__":
    with one_line_errors("demo.py"):
        main()
