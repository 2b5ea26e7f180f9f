# SPDX-License-Identifier: Apache-2.0
"""Transcribe one batch of files, in any process: one row per file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ee_runtime.audio import Excerpt
from ee_runtime.errors import one_line
from ee_runtime.export_folder import ExportError
from ee_runtime.output import file_error, result_row, without_nan
from ee_runtime.policies import Capped, Policy, RunningBudget, TokenBucket
from ee_runtime.transcriber import Transcriber
from ee_runtime.transcript import Transcript, join_transcripts
from speechbrain_ee.bulk.model_options import ModelOptions
from speechbrain_ee.corpora.batching import length_batches, padded_seconds, run_batch
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.inference.settings import result_settings

SAME_EVERYWHERE = ("runtime", "precision", "policy", "confidence")  # in all processes, besides model and code


@dataclass(frozen=True)
class TranscribeWork:
    """What a process needs to transcribe batches.

    Arguments
    ---------
    options : ModelOptions
        The model.
    limits : dict
        ``max_layer`` and ``budget`` of :meth:`~ee_runtime.transcriber.Transcriber.transcribe_waveforms`.
    batch_seconds : float
        Seconds of audio that are computed at a time, padding included.
    expected : dict, optional
        What other processes must have, see :meth:`expecting`.
    """

    options: ModelOptions
    limits: dict = field(default_factory=dict)
    batch_seconds: float = 100.0
    expected: dict | None = None

    def expecting(self, settings: Mapping) -> TranscribeWork:
        """Return work for processes whose :attr:`TranscribeBatch.settings` must be these."""
        expected = {name: settings[name] for name in SAME_EVERYWHERE}
        return replace(self, options=self.options.expecting(settings), expected=expected)

    def open(self) -> TranscribeBatch:
        """Open the model.

        Raises
        ------
        ValueError
            If the model cannot be opened or is not as expected, or texts would depend on the order of the files or on
            a clock.
        """
        model = self.options.open()
        model.check_limits(**self.limits)
        _check_policy(model.policy)
        batch = TranscribeBatch(model, self.limits, self.batch_seconds)
        found = batch.settings if self.expected else {}
        for name, value in (self.expected or {}).items():
            if found[name] != value:
                raise ValueError(f"a process has another {name} than the first: install and copy the same everywhere")
        return batch


def as_file(utterance: Utterance) -> str | list:
    """Return what a batch reads of an utterance, in plain values: a path, or path, offset, duration and channel.

    Example
    -------
    >>> as_file(Utterance("a", Path("a.wav"), 2.5, "", offset=1.0))
    ['a.wav', 1.0, 2.5, None]
    """
    path, excerpt = str(utterance.audio_filepath), utterance.excerpt
    return path if excerpt is None else [path, excerpt.offset, excerpt.duration, excerpt.channel]


class ReadFile(NamedTuple):
    """A file in memory, as parts (samples,) of at most 30 s."""

    path: str | list
    parts: list[np.ndarray]


class TranscribeBatch:
    """Transcribes batches of files.

    Arguments
    ---------
    model : Transcriber
        The model.
    limits : mapping
        See :class:`TranscribeWork`.
    batch_seconds : float
        See :class:`TranscribeWork`.
    """

    def __init__(self, model: Transcriber, limits: Mapping, batch_seconds: float = 100.0):
        self.model, self.limits, self.batch_seconds = model, dict(limits), batch_seconds

    @property
    def settings(self) -> dict:
        """All that the results depend on except the audio, as plain values."""
        limits = {name: limit for name, limit in self.limits.items() if limit is not None}
        confidence = json.dumps((self.model.calibration or {}).get("confidence"))
        return result_settings(self.model) | {
            "runtime": type(self.model).__name__,
            "policy": self.model.policy.to_dict() | limits,
            "confidence": hashlib.sha256(confidence.encode()).hexdigest()[:16],
            "batch_seconds": self.batch_seconds,
        }

    def __call__(self, paths: Sequence[str | list]) -> list[dict]:
        """Transcribe files as one batch; a file alone is read part by part, and may be of any length.

        A file is a path, or for a part of a recording the list of :func:`as_file`.

        A file that cannot be read leaves the batch. If the batch then fails, its files are run one by one.

        Returns
        -------
        list of dict
            Of each file ``duration`` and the values of :func:`~ee_runtime.output.result_row`, or ``error``.
        """
        if len(paths) == 1:
            results = run_batch(self._alone, paths)
        else:
            results = [run_batch(self._read, [path])[0] for path in paths]
            usable = [index for index, one in enumerate(results) if isinstance(one, ReadFile)]
            done = run_batch(self._together, [results[index] for index in usable]) if usable else []
            for index, result in zip(usable, done, strict=True):
                results[index] = result
        return [self._row(*pair) for pair in zip(paths, results, strict=True)]

    def _read(self, paths: Sequence[str | list]) -> list[ReadFile]:
        return [ReadFile(path, list(self._parts(path))) for path in paths]

    def _parts(self, file: str | list) -> Iterable[np.ndarray]:
        path, excerpt = (file, None) if isinstance(file, str) else (file[0], Excerpt(*file[1:]))
        return self.model.read_parts(path, excerpt=excerpt)

    def _alone(self, paths: Sequence[str | list]) -> list[tuple[Transcript, float]]:
        (path,) = paths
        counted = _Counted(self._parts(path))
        result = self.model.transcribe_parts(counted, **self.limits)
        return [(result, counted.samples / self.model.sample_rate)]

    def _together(self, files: Sequence[ReadFile]) -> list[tuple[Transcript, float]]:
        waveforms = [part for file in files for part in file.parts]
        seconds = padded_seconds([len(one) / self.model.sample_rate for one in waveforms], self.model.min_seconds)
        found = {}
        for batch in length_batches(seconds, self.batch_seconds):
            transcripts = self.model.transcribe_waveforms([waveforms[index] for index in batch], **self.limits)
            found |= zip(batch, transcripts, strict=True)
        transcripts = (found[index] for index in range(len(waveforms)))
        results = []
        for file in files:
            seconds = [len(part) / self.model.sample_rate for part in file.parts]
            own = [next(transcripts) for _ in file.parts]
            results.append((own[0] if len(own) == 1 else join_transcripts(own, seconds), sum(seconds)))
        return results

    def _row(self, file: str | list, result: tuple[Transcript, float] | Exception) -> dict:
        if isinstance(result, ExportError):  # of the model, and not of the file
            raise result
        if isinstance(result, Exception):
            path = file if isinstance(file, str) else file[0]
            return {"error": one_line(file_error(Path(path), result))}
        transcript, seconds = result
        row = {"duration": round(seconds, 4)} | result_row(transcript)
        for name, digits in {"score": 4, "expected_wer": 2, "expected_cer": 2}.items():  # the threads do not show
            if row.get(name) is not None:
                row[name] = round(row[name], digits)
        return without_nan(row)


class _Counted:
    """Counts the samples of the parts that are taken from it."""

    def __init__(self, parts: Iterable[np.ndarray]):
        self.parts, self.samples = parts, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for part in self.parts:
            self.samples += len(part)
            yield part


def _check_policy(policy: Policy) -> None:
    """Check that what a policy decides does not depend on the order of the files or on a clock."""
    while policy is not None:
        has_deadline = isinstance(policy, Capped) and policy.limits["deadline_ms"] is not None
        if has_deadline or isinstance(policy, RunningBudget | TokenBucket):
            name = "a deadline" if has_deadline else f"the policy {policy.name}"
            raise ValueError(
                f"with {name}, texts would depend on the order of the files and on the load: give --full, --layer, "
                "--entropy, --max-layer or --budget"
            )
        policy = getattr(policy, "policy", None)
