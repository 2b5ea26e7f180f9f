# SPDX-License-Identifier: Apache-2.0
"""Measure the speed of inference by OpenMP wait setting, on an idle machine and with one core busy.

python benchmarks/busy_machine.py RUN [--seconds N] [--rounds N]

Prints batches per second as JSON and writes them to results/busy_machine.json. For each setting, a separate process
repeatedly transcribes a batch of eight utterances of RUN's test set at full depth. The settings take turns, and the
median of the rounds is reported. Requires Linux and at least two cores.
"""

import argparse
import multiprocessing
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from ee_runtime.audio import Excerpt
from ee_runtime.errors import one_line_errors
from ee_runtime.threads import available_cpus

SETTINGS = {
    "torch's default": {},
    "OMP_WAIT_POLICY=PASSIVE": {"OMP_WAIT_POLICY": "PASSIVE"},
    "GOMP_SPINCOUNT=100": {"GOMP_SPINCOUNT": "100"},
    "GOMP_SPINCOUNT=1000": {"GOMP_SPINCOUNT": "1000"},
    "GOMP_SPINCOUNT=10000": {"GOMP_SPINCOUNT": "10000"},
}


def measure(run: Path, seconds: float) -> float:
    """Return the batches per second of this process."""
    from torch.nn.utils.rnn import pad_sequence

    from ee_runtime.policies import FixedExit
    from speechbrain_ee.inference.asr import EarlyExitASR
    from speechbrain_ee.replay.utterances import read_utterances

    asr = EarlyExitASR.from_hparams(run, policy=FixedExit())
    utterances = read_utterances(run / "eval" / "test" / "utterances.jsonl")[:8]
    waveforms = [asr.load_audio(one["audio_filepath"], excerpt=Excerpt.of_line(one)) for one in utterances]
    lengths = pad_sequence([one.new_ones(len(one)) for one in waveforms], batch_first=True).sum(1)
    wavs, wav_lens = pad_sequence(waveforms, batch_first=True), lengths / lengths.max()
    asr.transcribe_batch(wavs, wav_lens)
    begin, count = time.perf_counter(), 0
    while time.perf_counter() - begin < seconds or count < 2:
        asr.transcribe_batch(wavs, wav_lens)
        count += 1
    return count / (time.perf_counter() - begin)


def rate(run: Path, seconds: float, setting: dict[str, str]) -> float:
    """Return the batches per second of a new process with the given environment variables."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OMP_", "GOMP_"))}
    environment = clean | setting | {"OMP_NUM_THREADS": str(available_cpus())}
    command = [sys.executable, __file__, str(run), "--seconds", str(seconds), "--measure"]
    done = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    return float(done.stdout.split()[-1])


def keep_busy(cpu: int) -> None:
    """Keep one core busy until the process is killed."""
    os.sched_setaffinity(0, [cpu])
    while True:
        pass


def markdown(found: dict) -> str:
    """Return a table of batches per second by setting."""
    lines = ["| setting | batches/s, idle machine | batches/s, one core busy |", "|---|---|---|"]
    for name, row in found["batches_per_s"].items():
        lines.append(
            f"| {name if name.startswith('torch') else f'`{name}`'} | {row['alone']:.2f} | {row['busy']:.2f} |"
        )
    return "\n".join(lines)


def main() -> None:
    """Measure all settings and publish the medians."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="run folder with an evaluated set named test")
    parser.add_argument("--seconds", type=float, default=6.0, help="length of each measurement")
    parser.add_argument("--rounds", type=int, default=3, help="measurements of each setting")
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.measure:
        print(measure(args.run, args.seconds))
        return
    from common import publish  # imports torch

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
