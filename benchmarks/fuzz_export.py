# SPDX-License-Identifier: Apache-2.0
"""Damage an export again and again, and run ``ee-transcribe`` on it: no crash, no hang, one line for every refusal.

python benchmarks/fuzz_export.py EXPORT [OTHER_EXPORT ...] [--minutes 10] [--seed 0] [--keep FOLDER]

Each mutant (see export_mutants.py) runs in a child process with limits of time and memory on one second of noise. Right
are: exit status 0 and one line of text; or exit status 1 or 2, no output, and one printable line on standard error that
starts with the name of the program. Everything else is a failure: a traceback, a signal, a timeout, more lines, and a
text from a folder whose graphs do not have their hashes. Failures are written to --keep. Prints the counts by kind of
mutant and outcome as JSON and writes them to results/fuzz_export.json; the exit status is 1 if there was a failure.
Needs Linux and the extra ``onnx``.
"""

import argparse
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
import soundfile
from export_mutants import mutate

import ee_runtime.runtime  # noqa: F401
from ee_runtime.cli import PROGRAM
from ee_runtime.cli import main as transcribe
from ee_runtime.errors import one_line_errors

RESULTS = Path(__file__).parent / "results"
OPTIONS = [[], [], ["--json"], ["--layer", "1"], ["--entropy", "0.3"], ["--decoding", "beam"], ["--max-layer", "2"]]
OPTIONS += [["--budget", "1e6"], ["--full"]]
CHANGE = {"policy": {"policy": "score_threshold", "score": "change", "threshold": 0.0}}


class Limits(NamedTuple):
    """Limits of a child."""

    seconds: float
    memory_gb: float


class Ended(NamedTuple):
    """How a child ended; the status is negative for a signal and None after a timeout."""

    status: int | None
    out: str
    err: str
    seconds: float


def run(arguments: list[str], limits: Limits) -> Ended:
    """Run the command in a forked child."""
    begin = time.monotonic()
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            _child(arguments, limits, out.fileno(), err.fileno())
        status = _wait(child, begin + limits.seconds)
        texts = []
        for file in (out, err):
            file.seek(0)
            texts.append(file.read().decode("utf-8", "backslashreplace"))
        return Ended(status, *texts, time.monotonic() - begin)


def _child(arguments: list[str], limits: Limits, out: int, err: int) -> None:
    status = 70
    try:
        os.dup2(out, 1)
        os.dup2(err, 2)
        os.setsid()  # no terminal
        memory = int(limits.memory_gb * 2**30)
        resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))
        status = transcribe(arguments)
    except SystemExit as ended:
        status = ended.code if isinstance(ended.code, int) else 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os._exit(status)


def _wait(child: int, until: float) -> int | None:
    """Wait for a child; kill it at a time."""
    while True:
        pid, status = os.waitpid(child, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() > until:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return None
        time.sleep(0.002)


def verdict(ended: Ended, must_refuse: bool) -> str:
    """Return ``text`` or ``refused``, or what is wrong."""
    said = [line for line in ended.err.splitlines() if not line.startswith("policy: ")]
    if ended.status is None:
        return "FAILED: timeout"
    if ended.status < 0:
        return f"FAILED: {signal.Signals(-ended.status).name}"
    if "Traceback" in ended.err or ended.status not in (0, 1, 2):
        return f"FAILED: traceback {(said or [''])[-1][:80]}"
    if any(not line.startswith(f"{PROGRAM}: ") or not line.isprintable() or len(line) > 2000 for line in said):
        return "FAILED: a line that is not an error of the program"
    if ended.status:
        return "refused" if len(said) == 1 and not ended.out else f"FAILED: {len(said)} lines of error, or a text too"
    if must_refuse:
        return "FAILED: not refused"
    lines = ended.out.split("\n")
    is_text = len(lines) == 2 and not lines[1] and all(c.isprintable() or c == "\t" for c in lines[0])
    return "text" if is_text and not said else "FAILED: not one line of text"


def fuzz(exports: list[Path], args: argparse.Namespace, work: Path) -> tuple[Counter, float]:
    """Run mutants until the time is over; return the number of each kind and outcome, and the longest time."""
    wav, limits, counts = work / "noise.wav", Limits(args.timeout, args.memory), Counter()
    soundfile.write(wav, np.random.default_rng(0).standard_normal(16000) / 10, 16000)
    for export in exports:
        ended = run(["--model", str(export), str(wav)], limits)
        if verdict(ended, False) != "text":
            raise ValueError(f"{export} does not work before it is damaged: {ended.err.strip()[-300:]}")
    end, number, slowest = time.monotonic() + 60 * args.minutes, args.first, 0.0
    while time.monotonic() < end and number != args.last:
        rng, folder = random.Random(f"{args.seed} {number}"), work / str(number)
        source, *others = rng.sample(exports, len(exports))
        shutil.copytree(source, folder)
        if not (folder / "calibration.json").exists() and rng.random() < 0.5:
            (folder / "calibration.json").write_text(json.dumps(CHANGE), "utf-8")
        kind, must_refuse = mutate(rng, folder, others or exports)
        options = [*rng.choice(OPTIONS), "--threads", rng.choice("112")]
        ended = run(["--model", str(folder), *options, str(wav)], limits)
        outcome = verdict(ended, must_refuse)
        counts[kind, outcome] += 1
        slowest = max(slowest, ended.seconds)
        if outcome.startswith("FAILED") and args.keep:
            (args.keep / f"{number}").mkdir(parents=True, exist_ok=True)
            report = f"{kind} of {source}: {outcome}\n{' '.join(options)}\n{ended.err[-3000:]}\n{ended.out[-500:]}"
            (args.keep / f"{number}" / "report.txt").write_text(report, "utf-8")
            os.replace(folder, args.keep / f"{number}" / "export")
        else:
            _remove(folder)
        number += 1
    return counts, slowest


def figures(counts: Counter, slowest: float, args: argparse.Namespace) -> dict:
    """Return counts by outcome, and by kind of mutant and outcome."""
    found = {"benchmark": "fuzz_export", "minutes": args.minutes, "seed": args.seed, "timeout_s": args.timeout}
    found |= {"memory_gb": args.memory, "slowest_s": round(slowest, 1), "mutants": counts.total()}
    by_outcome, by_kind = Counter({"refused": 0, "text": 0, "failed": 0}), {}
    for (kind, outcome), count in sorted(counts.items()):
        by_outcome["failed" if outcome.startswith("FAILED") else outcome] += count
        by_kind.setdefault(kind, {})[outcome] = count
    return found | dict(by_outcome) | {"by_kind": by_kind}


def _remove(folder: Path) -> None:
    for path in folder.iterdir():
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    folder.rmdir()


def main() -> int:
    """Read the command line and fuzz."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("exports", nargs="+", type=Path, help="folders of speechbrain-ee export")
    parser.add_argument("--minutes", type=float, default=10, help="default: %(default)s")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    parser.add_argument("--first", type=int, default=0, help="number of the first mutant (default: %(default)s)")
    parser.add_argument("--last", type=int, default=-1, help="stop before this mutant; default: none")
    parser.add_argument("--timeout", type=float, default=60, help="seconds per mutant (default: %(default)s)")
    parser.add_argument("--memory", type=float, default=6, help="GiB per mutant (default: %(default)s)")
    parser.add_argument("--keep", type=Path, help="folder for failures")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        found = figures(*fuzz([one.resolve() for one in args.exports], args, Path(work)), args)
    text = json.dumps(found, indent=2)
    print(text)
    (RESULTS / "fuzz_export.json").write_text(text + "\n", "utf-8")
    return 1 if found["failed"] else 0


if __name__ == "__main__":
    with one_line_errors("fuzz_export.py"):
        sys.exit(main())
