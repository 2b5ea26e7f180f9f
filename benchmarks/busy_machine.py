# SPDX-License-Identifier: Apache-2.0
"""How waiting threads are set to wait, alone and beside a process that keeps one core busy.

python benchmarks/busy_machine.py RUN [--seconds N] [--rounds N]

For each setting of OpenMP a process of its own transcribes a batch of eight utterances of RUN's test set to full depth,
again and again. The settings take turns; the median of the rounds counts. Linux, at least two cores.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from speechbrain_ee.errors import one_line_errors
from speechbrain_ee.startup import available_cpus

SETTINGS = {
    "torch's default": {},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "GOMP_SPINCOUNT=100": {"GOMP_SPINCOUNT": "100"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
}


def measure(run: Path, seconds: float) -> float:
    """Batches a second in this process."""
    from torch.nn.utils.rnn import pad_sequence

    from speechbrain_ee.inference.asr import EarlyExitASR
    from speechbrain_ee.policies import FixedExit
    from speechbrain_ee.replay.utterances import read_utterances

    asr = EarlyExitASR.from_hparams(run, policy=FixedExit())
    utterances = read_utterances(run / "eval" / "test" / "utterances.jsonl")[:8]
    waveforms = [asr.load_audio(one["audio_filepath"]) for one in utterances]
    lengths = pad_sequence([one.new_ones(len(one)) for one in waveforms], batch_first=True).sum(1)
    wavs, wav_lens = pad_sequence(waveforms, batch_first=True), lengths / lengths.max()
    asr.transcribe_batch(wavs, wav_lens)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds or count < 2:
        asr.transcribe_batch(wavs, wav_lens)
        count += 1
    return count / (time.perf_counter() - begin)


def rate(run: Path, seconds: float, setting: dict[str, str]) -> float:
    """Batches a second in a process with a setting."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment = clean | setting | {"OMP_NUM_THREADS": str(available_cpus())}
    command = [sys.executable, __file__, str(run), "--seconds", str(seconds), "--measure"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def keep_busy(cpu: int) -> None:
    """Take one core until the process is ended."""
    os.sched_setaffinity(0, [cpu])
    while True:
        pass


def markdown(found: dict) -> str:
    """A table: batches a second by setting."""
    lines = ["| setting | alone | beside a busy core |", "|---|---|---|"]
    for name, row in found["batches_per_s"].items():
        lines.append(
            f"| {name if name.startswith('torch') else f'`{name}`'} | {row['alone']:.2f} | {row['busy']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder with an evaluated set named test")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(measure(args.run, args.seconds))
        return
    from common import publish  # a module beside this script; imports torch

    with one_line_errors("busy_machine.py"):
        found = {name: {"alone": [], "busy": []} for name in SETTINGS}
        for _ in range(args.rounds):
            for name, setting in SETTINGS.items():
                found[name]["alone"].append(rate(args.run, args.seconds, setting))
                other = multiprocessing.Process(target=keep_busy, args=[min(os.sched_getaffinity(0))], daemon=True)
                other.start()
                try:
                    found[name]["busy"].append(rate(args.run, args.seconds, setting))
                finally:
                    other.kill()
        medians = {
            name: {key: round(statistics.median(rows), 2) for key, rows in row.items()} for name, row in found.items()
        }
        publish("busy_machine", {"batches_per_s": medians, "rounds": found, "cpus": available_cpus()})


if __name__ == "__main__":
    main()
