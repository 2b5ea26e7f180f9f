# SPDX-License-Identifier: Apache-2.0
"""Train a model with exits and its single-exit twins, and compare their WER.

python benchmarks/twins.py hparams/conformer_ee.yaml --depths 2 4 --out results/twins -- --number_of_epochs 8

Prints a Markdown table per set and writes OUT/twins.json and OUT/twins-<set>.png. The options after ``--`` are passed
to train.py for every model, so that data, seed and steps are the same. A twin of depth k has k layers and one exit.
With ``--jobs 2``, two models train at a time on half of the cores each, and their output goes to OUT/NAME.log. Run the
same command again to resume.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ee_runtime.errors import one_line_errors
from ee_runtime.files import write_whole
from ee_runtime.threads import available_cpus

ROOT = Path(__file__).resolve().parent.parent
FINISHED = "finished.json"  # in a run folder: minutes and arguments of the training


def train_command(hparams: str, folder: Path, overrides: list[str]) -> list[str]:
    """Return the command that trains into a folder."""
    return [sys.executable, str(ROOT / "train.py"), hparams, "--output_folder", str(folder), *overrides]


def train(hparams: str, folder: Path, overrides: list[str], jobs: int = 1) -> float:
    """Train into a folder unless the same command has done this; train.py refuses settings that do not fit the run.

    Arguments
    ---------
    hparams : str
        The yaml.
    folder : Path
        Run folder; an interrupted run in it is resumed.
    overrides : list[str]
        Options of train.py.
    jobs : int
        Number of models that are trained at a time. With more than one, the output goes to ``<folder>.log``.

    Returns
    -------
    float
        The minutes that the training took, without what it did before an interruption.

    Raises
    ------
    ValueError
        If the training fails, or another process trains in the folder.
    """
    from run_lock import run_lock

    minutes = finished(hparams, folder, overrides)
    if minutes is None:
        begin = time.monotonic()
        command = train_command(hparams, folder, overrides)
        with run_lock(folder) as lock:
            if jobs == 1:
                status = subprocess.run(command, pass_fds=[lock]).returncode
            else:
                threads = {"OMP_NUM_THREADS": str(max(1, available_cpus() // jobs))}
                with open(f"{folder}.log", "ab") as log:
                    output = {"stdout": log, "stderr": subprocess.STDOUT, "env": os.environ | threads}
                    status = subprocess.run(command, pass_fds=[lock], **output).returncode
        if status:
            where = "see its message above" if jobs == 1 else f"see {folder}.log"
            raise ValueError(f"train.py ended with status {status} in {folder}: {where}; the same command resumes")
        minutes = (time.monotonic() - begin) / 60
        record = json.dumps({"minutes": minutes, "arguments": [hparams, *overrides]})
        write_whole(folder / FINISHED, (record + "\n").encode())
    return minutes


def finished(hparams: str, folder: Path, overrides: list[str]) -> float | None:
    """Return the minutes that this training took; None if it is not finished, or its options were others."""
    record = folder / FINISHED
    found = json.loads(record.read_text("utf-8")) if record.exists() else {}
    return found["minutes"] if found.get("arguments") == [hparams, *overrides] else None


def without(overrides: list[str], names: list[str]) -> list[str]:
    """Remove the named options and their values.

    >>> without(["--lr", "1", "--num_layers", "12", "--compile"], ["--num_layers"])
    ['--lr', '1', '--compile']
    """
    kept, skip = [], False
    for word in overrides:
        if word.startswith("--"):
            skip = word.split("=")[0] in names
        if not skip:
            kept.append(word)
    return kept


def main() -> None:
    """Train all models and publish their figures."""
    from side_by_side import publish, read

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("hparams", help="yaml of the model with exits")
    parser.add_argument("--depths", type=int, nargs="*", default=[], help="numbers of layers of the twins")
    parser.add_argument("--out", type=Path, default=Path("results/twins"), help="folder to write")
    parser.add_argument("--jobs", type=int, default=1, help="models to train at a time")
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args, overrides = parser.parse_args(sys.argv[1:at]), sys.argv[at + 1 :]
    runs = {"exits": []} | {
        f"twin_{depth}": ["--num_layers", str(depth), "--exit_layers", f"[{depth}]"] for depth in args.depths
    }
    results = {"command": " ".join(sys.argv), "runs": {}}
    args.out.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(args.jobs) as pool:
        minutes = {
            name: pool.submit(train, args.hparams, args.out / name, without(overrides, own[::2]) + own, args.jobs)
            for name, own in runs.items()
        }
    for name in runs:
        results["runs"][name] = {"minutes": round(minutes[name].result(), 1), "sets": read(args.out / name)}
    publish(results, args.out / "twins")


if __name__ == "__main__":
    with one_line_errors("twins.py"):
        main()
