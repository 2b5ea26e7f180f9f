# SPDX-License-Identifier: Apache-2.0
"""Recordings and an export of milliseconds, and work that kills a process; also a program that runs it."""

import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from speechbrain_ee.bulk.batch import TranscribeWork
from speechbrain_ee.bulk.engines import Processes
from speechbrain_ee.bulk.model_options import ModelOptions
from speechbrain_ee.bulk.transcribe import transcribe_manifest
from speechbrain_ee.corpora.manifest import read_manifest

NUM_FILES = 12
BATCH_SECONDS = 0.6  # one to three files a batch
RATE = 16000


def write_manifest(folder, num_files=NUM_FILES):
    """Write recordings of noise of 0.1 to 0.43 s in no order, and a manifest without texts and durations."""
    rows = []
    for number in range(num_files):
        generator = np.random.default_rng(number)
        waveform = generator.standard_normal(1600 + 480 * ((5 * number) % num_files))
        soundfile.write(folder / f"{number:02}.wav", waveform / 10, RATE, subtype="FLOAT")
        rows.append({"audio_filepath": f"{number:02}.wav", "speaker": f"s{number % 2}"})
    (folder / "m.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows), "utf-8")
    return folder / "m.jsonl"


def read(manifest):
    """Read a manifest as the command does."""
    return read_manifest(manifest, required=("audio_filepath",))


@dataclass(frozen=True)
class Killing(TranscribeWork):
    """Work during which a process is killed once, before a batch is done: ``of`` is "this" one or the "parent"."""

    folder: Path = Path()
    of: str = "this"
    after: int = 0

    def open(self):
        function = super().open()
        calls = []

        def run(paths):
            calls.append(paths)
            (self.folder / f"process-{os.getpid()}").touch()
            if len(calls) > self.after and not (self.folder / "killed").exists():
                (self.folder / "killed").touch()
                os.kill(os.getpid() if self.of == "this" else os.getppid(), signal.SIGKILL)
            return function(paths)

        run.model, run.limits, run.settings = function.model, function.limits, function.settings
        return run


def main():
    """Transcribe in two processes, one of which kills this one: MODEL MANIFEST OUT AFTER."""
    model, manifest, out, after = sys.argv[1:]
    work = Killing(ModelOptions(model, threads=1), folder=Path(out).parent, of="parent", after=int(after))
    transcribe_manifest(work, read(Path(manifest)), out, batch_seconds=BATCH_SECONDS, engine=Processes(2))


def wait_for(is_true, seconds=20.0):
    """Wait until a condition is true."""
    end = time.monotonic() + seconds
    while not is_true():
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


if __name__ == "__main__":
    main()
