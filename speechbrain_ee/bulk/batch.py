# SPDX-License-Identifier: Apache-2.0
"""Transcribe one batch of files, in any process: one row per file."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ee_runtime.audio import Excerpt
from ee_runtime.errors import one_line
from ee_runtime.export_folder import ExportError
from ee_runtime.output import file_error, without_nan, word_rows
from ee_runtime.policies import Capped, Policy, RunningBudget, TokenBucket
from ee_runtime.transcriber import Transcriber
from ee_runtime.transcript import Transcript, join_transcripts
from speechbrain_ee.bulk.model_options import ModelOptions
from speechbrain_ee.corpora.batching import run_batch
from speechbrain_ee.corpora.manifest import Utterance


@dataclass(frozen=True)
class TranscribeWork:
    """What a process needs to transcribe batches.

    Arguments
    ---------
    options : ModelOptions
        The model.
    limits : dict
        ``max_layer`` and ``budget`` of :meth:`~ee_runtime.transcriber.Transcriber.transcribe_waveforms`.
    """

    options: ModelOptions
    limits: dict = field(default_factory=dict)

    def expecting(self, settings: Mapping) -> TranscribeWork:
        """See :meth:`ModelOptions.expecting`."""
        return replace(self, options=self.options.expecting(settings))

    def open(self) -> TranscribeBatch:
        """Open the model.

        Raises
        ------
        ValueError
            If the model cannot be opened, or texts would depend on the order of the files or on a clock.
        """
        model = self.options.open()
        model.check_limits(**self.limits)
        _check_policy(model.policy)
        return TranscribeBatch(model, self.limits)


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
    """

    def __init__(self, model: Transcriber, limits: Mapping):
        self.model, self.limits = model, dict(limits)

    def __call__(self, paths: Sequence[str | list]) -> list[dict]:
        """Transcribe files as one batch; a file alone is read part by part, and may be of any length.

        A file is a path, or for a part of a recording the list of :func:`as_file`.

        A file that cannot be read leaves the batch. If the batch then fails, its files are run one by one.

        Returns
        -------
        list of dict
            Of each file ``duration``, ``text``, ``exit_layer``, ``score``, ``macs``, ``words`` and ``expected_wer``,
            or ``error``.
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
        transcripts = iter(self.model.transcribe_waveforms(waveforms, **self.limits))
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
        row = {"duration": round(seconds, 4), "text": transcript.text, "exit_layer": transcript.exit_layer}
        # Rounded, so that the number of threads does not show.
        row |= {"score": _rounded(transcript.policy_value, 4), "macs": transcript.macs}
        return without_nan(row | {"words": word_rows(transcript), "expected_wer": _rounded(transcript.expected_wer, 2)})


class _Counted:
    """Counts the samples of the parts that are taken from it."""

    def __init__(self, parts: Iterable[np.ndarray]):
        self.parts, self.samples = parts, 0

    def __iter__(self) -> Iterator[np.ndarray]:
        for part in self.parts:
            self.samples += len(part)
            yield part


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


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
