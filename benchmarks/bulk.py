# SPDX-License-Identifier: Apache-2.0
"""Measure how many utterances per second ``speechbrain-ee transcribe --manifest`` transcribes.

python benchmarks/bulk.py MODEL --manifest test.jsonl dev.jsonl train.jsonl [--files 2000] [--rounds 3]
    [--processes 2] [--batch-seconds 100] [--layer N] [--name bulk] [--no-ray]

MODEL needs a calibration.json. The first --files rows of the manifests are transcribed at full depth and with the
calibrated policy in one process, with the policy in several processes, and, if Ray is installed, on a Ray cluster of
--processes nodes with one CPU each, which the script starts on this machine. ``one by one`` is ``transcribe FILE...``,
whose files are no batch.

Each round runs all of them in turn, on all files and on the first FEW files; the fastest run of each counts.
``seconds`` is the time of the whole command. ``start_s`` is that with few files: imports and models of all processes.
``utterances_per_s`` is computed from the difference of the two, so it is the speed once all processes run.

Then a run in one process and a run in several are killed (SIGKILL, the whole process group) when a random number of
batches is done, and run again: ``equal`` says whether their output equals that of the uninterrupted run.

Prints the figures and writes them to results/<name>.json.
"""

import argparse
import importlib.util
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ee_runtime.errors import one_line_errors
from speechbrain_ee.corpora.manifest import read_manifest, write_manifest

COMMAND = [sys.executable, "-m", "speechbrain_ee.cli", "transcribe"]
PORT = 6398
FEW = 40


def transcribe(model: str, manifest: Path, out: Path, options: list[str]) -> dict:
    """Transcribe the manifest into a new file; return the seconds of the command, and what the files cost."""
    begin = time.perf_counter()
    done = subprocess.run(_command(model, manifest, out, options), stderr=subprocess.PIPE, text=True, check=False)
    seconds = time.perf_counter() - begin
    if done.returncode:
        raise ValueError(f"{out.name}: the command failed: {done.stderr[-1000:]}")
    rows = [json.loads(line) for line in out.read_text("utf-8").splitlines()]
    return {
        "files": len(rows),
        "seconds": round(seconds, 2),
        "audio_s": sum(row["duration"] for row in rows),
        "mean_layer": round(statistics.mean(row["exit_layer"] for row in rows), 3),
        "macs": sum(row["macs"] for row in rows),
    }


def speed(rounds: list[dict], starts: list[dict]) -> dict:
    """Return the figures of a way from its runs on all files and on few files: the fastest of each counts."""
    whole, start = (min(runs, key=lambda one: one["seconds"]) for runs in (rounds, starts))
    files, audio_s, seconds = (whole[key] - start[key] for key in ("files", "audio_s", "seconds"))
    return {
        "seconds": whole["seconds"],
        "start_s": start["seconds"],
        "utterances_per_s": round(files / seconds, 2),
        "audio_h_per_h": round(audio_s / seconds, 1),
        "mean_layer": whole["mean_layer"],
        "macs": whole["macs"],
    }


def _command(model: str, manifest: Path, out: Path, options: list[str]) -> list[str]:
    return [*COMMAND, f"--model={model}", f"--manifest={manifest}", f"--out={out}", *options]


def one_by_one(model: str, manifest: Path, options: list[str]) -> dict:
    """Transcribe the files as arguments of the command, of which each is timed by itself."""
    files = [str(one.audio_filepath) for one in read_manifest(manifest)]
    done = subprocess.run(
        [*COMMAND, f"--model={model}", "--json", *options, *files], capture_output=True, text=True, check=True
    )
    seconds = sum(json.loads(line)["seconds"] for line in done.stdout.splitlines())
    return {"utterances_per_s": round(len(files) / seconds, 2)}


def kill_and_resume(model: str, manifest: Path, whole: Path, out: Path, options: list[str]) -> dict:
    """Kill a run when a random number of batches is done, run it again, and compare its output."""
    batches = _num_lines(whole.with_name(whole.name + ".state")) - 1
    after = random.randrange(1, batches)
    process = subprocess.Popen(
        _command(model, manifest, out, options), stderr=subprocess.DEVNULL, start_new_session=True
    )
    state = out.with_name(out.name + ".state")
    while process.poll() is None and _num_lines(state) - 1 < after:
        time.sleep(0.01)
    was_running = process.poll() is None
    if was_running:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    batches_before = _num_lines(state) - 1
    transcribe(model, manifest, out, options)
    return {
        "batches": batches,
        "killed_after": batches_before if was_running else None,
        "equal": out.read_bytes() == whole.read_bytes(),
        "batches_run": _num_lines(state) - 1,
    }


def _num_lines(path: Path) -> int:
    """Return the number of complete lines of a state: its header, which need not be there yet, and its batches."""
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    return max(1, sum(line.endswith(b"\n") and len(line) > 1 for line in lines))


@contextmanager
def cluster(num_nodes: int, folder: Path) -> Iterator[str]:
    """Start Ray nodes of one CPU each on this machine; the value is the address."""
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1", "--disable-usage-stats"]
    head = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={folder}"]
    nodes = []
    try:
        for number in range(num_nodes):
            where = head if number == 0 else [f"--address=127.0.0.1:{PORT}"]
            nodes.append(subprocess.Popen([*ray, *where], stdout=subprocess.PIPE, stderr=subprocess.STDOUT))
            if not any(b"Ray runtime started" in line for line in nodes[-1].stdout):
                raise ValueError(f"node {number} of the Ray cluster did not start")
        yield f"127.0.0.1:{PORT}"
    finally:
        for node in reversed(nodes):
            node.terminate()
            node.wait(timeout=100)


def measure(model: str, manifest: Path, folder: Path, args: argparse.Namespace, address: str | None) -> dict:
    """Run everything in turn; return the figures of the fastest round by name, and those of the killed runs."""
    batch, policy = [f"--batch-seconds={args.batch_seconds:g}"], [] if args.layer is None else [f"--layer={args.layer}"]
    several = f"{args.processes} processes"
    ways = {
        "full depth": ["--full", *batch],
        "policy": [*policy, *batch],
        f"policy, {several}": [*policy, *batch, f"--processes={args.processes}"],
    }
    if address is not None:
        ways[f"policy, Ray with {args.processes} nodes"] = [*policy, *batch, "--engine=ray", f"--address={address}"]
    few = folder / "few.jsonl"
    write_manifest(few, read_manifest(manifest)[:FEW])
    rounds: dict[str, list[dict]] = {name: [] for name in ways}
    starts: dict[str, list[dict]] = {name: [] for name in ways}
    for number in range(args.rounds):
        for name, options in ways.items():
            start = [*options, "--batch-seconds=10"]  # so many batches that all processes start
            starts[name].append(transcribe(model, few, folder / f"{name}-{number}-few.jsonl", start))
            rounds[name].append(transcribe(model, manifest, folder / f"{name}-{number}.jsonl", options))
            print(f"round {number}, {name}: {starts[name][-1]}, {rounds[name][-1]}", file=sys.stderr)
    best = {name: speed(rounds[name], starts[name]) for name in ways}
    for name, found in best.items():
        found["relative_to_full_depth"] = round(found["utterances_per_s"] / best["full depth"]["utterances_per_s"], 3)
        found["equal_to_policy"] = _same(folder / f"{name}-0.jsonl", folder / "policy-0.jsonl")
    best["full depth, one by one"] = one_by_one(model, manifest, ["--full"])
    best["policy, one by one"] = one_by_one(model, manifest, policy)
    killed = {
        name: kill_and_resume(model, manifest, folder / f"{name}-0.jsonl", folder / f"{name}-killed.jsonl", ways[name])
        for name in list(ways)[1:]
    }
    return {"ways": best, "killed": killed}


def markdown(found: dict) -> str:
    """Return a table of the ways in which files are transcribed together."""
    lines = [
        "| files together | seconds of the command | start | utterances per second | hours of audio per hour "
        "| mean exit layer |",
        "|---|---|---|---|---|---|",
    ]
    for name, way in found["ways"].items():
        if "seconds" in way:
            lines.append(
                f"| {name} | {way['seconds']:.1f} | {way['start_s']:.1f} | {way['utterances_per_s']:.0f} "
                f"| {way['audio_h_per_h']:.0f} | {way['mean_layer']:.2f} |"
            )
    return "\n".join(lines)


def _same(one: Path, other: Path) -> bool:
    return one.read_bytes() == other.read_bytes()


def main() -> None:
    """Measure, print and write the figures."""
    from common import publish  # benchmarks/common.py

    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", help="run folder, bundle or export with a calibration.json")
    parser.add_argument("--manifest", type=Path, nargs="+", required=True, help="their first rows are transcribed")
    parser.add_argument("--files", type=int, default=2000, help="number of rows")
    parser.add_argument("--rounds", type=int, default=3, help="the fastest one counts")
    parser.add_argument("--processes", type=int, default=2, help="processes, and nodes of the Ray cluster")
    parser.add_argument("--batch-seconds", type=float, default=100.0, help="seconds of audio in a batch")
    parser.add_argument("--layer", type=int, help="stop always at this layer instead of the calibrated policy")
    parser.add_argument("--name", default="bulk", help="name of the file in results/")
    parser.add_argument("--no-ray", action="store_true", help="leave Ray out although it is installed")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, manifest = Path(temporary), Path(temporary) / "files.jsonl"
        utterances = [one for path in args.manifest for one in read_manifest(path)][: args.files]
        write_manifest(manifest, utterances)
        if args.no_ray or importlib.util.find_spec("ray") is None:
            found = measure(args.model, manifest, folder, args, address=None)
        else:
            with cluster(args.processes, folder / "ray") as address:
                found = measure(args.model, manifest, folder, args, address)
    settings = {"files": len(utterances), "audio_s": round(sum(one.duration for one in utterances), 1)}
    settings |= {"rounds": args.rounds, "batch_seconds": args.batch_seconds, "layer": args.layer}
    publish(args.name, settings | found)


if __name__ == "__main__":
    with one_line_errors("bulk.py"):
        main()
