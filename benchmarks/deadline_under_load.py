# SPDX-License-Identifier: Apache-2.0
"""Measure how often a deadline is kept while the load of the machine changes.

python benchmarks/deadline_under_load.py EXPORT [--minutes 30] [--threads 1]

Prints the figures as JSON and writes them to results/deadline_under_load.json. EXPORT is a folder of ``speechbrain-ee
export``; its exits are timed at the start, when nothing else runs. Then utterances of 2 to 10 s of noise arrive without
pause, while another process occupies every CPU for 2 to 20 s, pauses for 2 to 20 s, and so on. The deadline of each
utterance is 0.3 to 3 times the measured time of the full encoder.

An utterance is ``granted`` if the deadline allowed at least one segment after the first, which is always run. It is
``kept`` if its text is ready in time.
"""

import argparse
import random
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from common import publish

from ee_runtime import EarlyExitRuntime
from ee_runtime.errors import one_line_errors
from ee_runtime.policies import FixedExit
from ee_runtime.threads import available_cpus

SECONDS, DEADLINES, PAUSES = (2.0, 10.0), (0.3, 3.0), (2.0, 20.0)
# Occupies a CPU from time to time and writes a line at each change; ends when its standard input is closed.
BURN = """
import random, sys, threading, time
generator = random.Random(0)
threading.Thread(target=lambda: (sys.stdin.read(), __import__("os")._exit(0)), daemon=True).start()
while True:
    for state in (0, 1):
        end = time.monotonic() + generator.uniform(*map(float, sys.argv[1:3]))
        print(state, flush=True)
        while time.monotonic() < end:
            if not state:
                time.sleep(0.05)
"""


class Load:
    """Processes that occupy every CPU on and off, at the same times, because their random numbers are the same."""

    def __enter__(self):
        command = [sys.executable, "-c", BURN, *map(str, PAUSES)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        self.processes = [subprocess.Popen(command, **pipes) for _ in range(available_cpus())]
        self.generator, self.ends = random.Random(0), [time.monotonic()]
        return self

    def is_on(self) -> bool:
        """Whether the CPUs are occupied now."""
        while self.ends[-1] < time.monotonic():
            self.ends.append(self.ends[-1] + self.generator.uniform(*PAUSES))
        return len(self.ends) % 2 == 1 and len(self.ends) > 1

    def __exit__(self, *error):
        for process in self.processes:
            process.communicate("")


def run(model: EarlyExitRuntime, minutes: float) -> list[dict]:
    """Transcribe one utterance after another; return a row for each."""
    times = model.time_exits(FixedExit())
    offset, slope = times["seconds_to_exit"][-1]
    generator, rows = random.Random(1), []
    noise = np.random.default_rng(0).standard_normal(int(SECONDS[1] * model.sample_rate), dtype=np.float32) / 10
    with Load() as load:
        end = time.monotonic() + 60 * minutes
        while time.monotonic() < end:
            seconds = generator.uniform(*SECONDS)
            deadline_ms = 1000 * generator.uniform(*DEADLINES) * (offset + slope * seconds)
            waveform, is_loaded = noise[: int(seconds * model.sample_rate)], load.is_on()
            begin = time.perf_counter()
            results = model.transcribe_waveforms([waveform], policy=FixedExit(), deadline_ms=deadline_ms)
            ms = 1000 * (time.perf_counter() - begin)
            row = {"load": is_loaded, "deadline_ms": deadline_ms, "ms": ms, "text": len(results) == 1}
            rows.append(row | {"exit": model.exit_layers.index(results[0].exit_layer)})
    return rows


def summary(rows: list[dict]) -> dict:
    """Return the figures of some utterances."""
    granted = [row for row in rows if row["exit"] > 0]
    kept = [row["ms"] <= row["deadline_ms"] for row in granted]
    late = sorted(row["ms"] / row["deadline_ms"] for row, is_kept in zip(granted, kept, strict=True) if not is_kept)
    return {
        "utterances": len(rows),
        "lost": sum(not row["text"] for row in rows),
        "granted": len(granted),
        "granted_and_late": len(late),
        "kept_of_granted_percent": round(100 * sum(kept) / max(1, len(granted)), 2),
        "largest_overrun": round(late[-1], 2) if late else None,
        "median_overrun": round(late[len(late) // 2], 2) if late else None,
        "mean_exit_index": round(sum(row["exit"] for row in rows) / max(1, len(rows)), 2),
        "mean_used_share_of_deadline": round(sum(row["ms"] / row["deadline_ms"] for row in granted) / len(granted), 3),
    }


def main() -> None:
    """Run the measurement."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("export", type=Path)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--threads", type=int, default=1)
    given = parser.parse_args()
    model = EarlyExitRuntime(given.export, threads=given.threads)
    rows = run(model, given.minutes)
    figures = {
        "minutes": given.minutes,
        "threads": given.threads,
        "precision": model.precision,
        "all": summary(rows),
        "loaded": summary([row for row in rows if row["load"]]),
        "idle": summary([row for row in rows if not row["load"]]),
    }
    publish("deadline_under_load", figures)


if __name__ == "__main__":
    with one_line_errors("deadline_under_load.py"):
        main()
