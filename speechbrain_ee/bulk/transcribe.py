# SPDX-License-Identifier: Apache-2.0
"""Transcribe the files of a manifest into one file of texts; a run that was stopped resumes."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ee_runtime.errors import print_error
from ee_runtime.files import make_folder
from ee_runtime.output import print_policy
from speechbrain_ee.bulk.batch import TranscribeWork, as_file
from speechbrain_ee.bulk.engines import Engine
from speechbrain_ee.bulk.state import State
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.corpora.recordings import source_facts
from speechbrain_ee.files import only_process


class Summary(NamedTuple):
    """What a call of :func:`transcribe_manifest` did.

    Arguments
    ---------
    transcribed : int
        Files that it transcribed.
    failed : int
        Files without a text.
    audio_s : float
        Seconds of audio that it transcribed.
    seconds : float
        Time that it took, without the start of the model.
    """

    transcribed: int
    failed: int
    audio_s: float
    seconds: float


def transcribe_manifest(
    work: TranscribeWork,
    utterances: Sequence[Utterance],
    out: str | Path,
    *,
    batch_seconds: float = 100.0,
    engine: Engine | None = None,
    program: str = "transcribe",
) -> Summary:
    """Transcribe files, and write one JSON object per line in the order of the manifest.

    Each batch is written to ``<out>.state`` when it is done. The same call resumes after an interruption: finished
    files are not decoded again, and ``out`` equals that of an uninterrupted call. Files that failed have a line with
    ``error``; the next call tries them again, and files that have changed.

    Arguments
    ---------
    work : TranscribeWork
        Model and limits.
    utterances : sequence of Utterance
        The files; texts and durations are ignored.
    out : str or Path
        The file of texts; its folder is created if missing.
    batch_seconds : float
        Seconds of audio in a batch, padding included.
    engine : Engine | None
        What runs the batches; None means this process.
    program : str
        Start of error lines.

    Returns
    -------
    Summary
        Counts and times.

    Raises
    ------
    ValueError
        If an earlier call into ``out`` had other settings or another manifest, another process is writing it, or the
        model cannot be opened.
    OSError
        If a file cannot be written.
    """
    out = Path(out)
    if out.exists() and not out.is_file():
        raise ValueError(f"{out} is {'a folder' if out.is_dir() else 'no regular file'}: give a file as --out")
    out = out.resolve() if out.is_symlink() else out
    if not batch_seconds > 0:
        raise ValueError(f"batch_seconds={batch_seconds}: give a number of seconds above 0")
    make_folder(out.parent)
    with only_process(out.with_name(out.name + ".lock"), doing=f"writing {out}"):
        work = replace(work, batch_seconds=batch_seconds)
        function = work.open()
        settings = function.settings
        state = State(out, settings, utterances)
        print_policy(function.model, function.limits)
        min_seconds = function.model.min_seconds
        if engine is None:

            def engine(_, tasks):
                return ((position, function(task)) for position, task in enumerate(tasks))

        else:
            del function  # the processes have their own
        summary = _run(engine, work.expecting(settings), state, batch_seconds, min_seconds, program)
        state.write_out()
    return summary


def _run(
    engine: Engine, work: TranscribeWork, state: State, batch_seconds: float, min_seconds: float, program: str
) -> Summary:
    """Run all missing batches, and the files that are run alone."""
    batches = state.batches(batch_seconds=batch_seconds, min_seconds=min_seconds)
    batches += [[position] for position in state.alone()]
    num_files = len(state.utterances)
    done = num_files - sum(map(len, batches))
    if 0 < done < num_files:
        print(f"{state.out}: {done} of {num_files} files are done: transcribing only the others", file=sys.stderr)
    if kept := len(state.kept):
        print(f"{state.out}: {kept} files are not there any more: their texts are kept", file=sys.stderr)
    tasks = [[as_file(state.utterances[position]) for position in batch] for batch in batches]
    # Taken now: a file that is replaced while it is read counts as changed.
    files = [[source_facts(state.utterances[position]) for position in batch] for batch in batches]
    transcribed, failed, audio_s, begin = 0, 0, 0.0, time.monotonic()
    with state, tqdm(total=num_files, initial=done, desc="transcribe", unit="file", file=sys.stderr) as bar:
        for position, rows in engine(work, tasks):
            state.append(batches[position], files[position], rows)
            for row in rows:
                if "error" in row:
                    with tqdm.external_write_mode(file=sys.stderr):
                        print_error(program, ValueError(row["error"]))
            failed += sum("error" in row for row in rows)
            transcribed += sum("error" not in row for row in rows)
            audio_s += sum(row.get("duration", 0.0) for row in rows)
            bar.set_postfix_str(f"{audio_s / (time.monotonic() - begin):.0f} h of audio per hour", refresh=False)
            bar.update(len(rows))
    return Summary(transcribed, failed, audio_s, time.monotonic() - begin)
