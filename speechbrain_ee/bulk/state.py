# SPDX-License-Identifier: Apache-2.0
"""The state of a run: its settings, its batches and their results, in ``<out>.state``."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from ee_runtime.audio import AudioError, audio_duration
from ee_runtime.files import write_whole
from speechbrain_ee.corpora.batching import length_batches, padded_seconds
from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.corpora.recordings import source_facts
from speechbrain_ee.files import AppendedLines

NO_FILE = [-1, -1]  # the first of the facts of a missing file


class State:
    """Results by position in the manifest, written batch by batch.

    The first line of the file has the settings of the run and the length of each file in seconds, null for a file that
    could not be read. Batches follow from these lengths, so that a resumed run has the same batches. Every other line
    is one batch, or the hash of ``out`` as it is about to be written; a kill leaves a line complete or not at all.

    Arguments
    ---------
    out : Path
        The file of texts; the state is in ``<out>.state``.
    settings : mapping
        All that the texts depend on except the audio, as plain values.
    utterances : sequence of Utterance
        The manifest.

    Raises
    ------
    ValueError
        If the state is of other settings or of another manifest, or is broken, or ``out`` has no state or has been
        written by another program.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> utterances = [Utterance("a", folder / "a.wav", 0.0, "")]
    >>> state = State(folder / "texts.jsonl", {"policy": "full"}, utterances)
    >>> state.batches(batch_seconds=100.0), state.alone()
    ([], [0])
    >>> with state:
    ...     state.append([0], [[-1, -1]], [{"text": "the cat"}])
    >>> State(folder / "texts.jsonl", {"policy": "full"}, utterances).row(0)
    {'text': 'the cat'}
    """

    def __init__(self, out: Path, settings: Mapping, utterances: Sequence[Utterance]):
        self.path = out.with_name(out.name + ".state")
        self.out, self.utterances = out, utterances
        self._rows: dict[int, dict] = {}
        self._files: dict[int, list] = {}
        self._written: set[str] = set()
        self._lines = AppendedLines(self.path)
        settings = json.loads(json.dumps(dict(settings) | {"manifest": _digest(utterances)}))
        if self.path.exists():
            self._read(settings)
            self._check_out()
        elif out.exists():
            raise ValueError(f"{out} exists, but not {self.path.name}, to resume it: remove it or give another --out")
        else:
            self.seconds = _lengths(utterances)
            self._write(settings)

    def row(self, position: int) -> dict | None:
        """Return the result of a file; None if it has none, or the file or the part of it has changed since.

        A text is kept if the file is not there any more, since its drive may be away.
        """
        row = self._rows.get(position)
        file = self._now(position)
        is_kept = file[:2] == NO_FILE and row is not None and "error" not in row
        return row if is_kept or self._files.get(position) == file else None

    @property
    def kept(self) -> list[int]:
        """Files that have a text, but are not there any more."""
        return [
            position
            for position, row in self._rows.items()
            if "error" not in row and self._now(position)[:2] == NO_FILE
        ]

    def _now(self, position: int) -> list:
        return source_facts(self.utterances[position])

    def is_done(self, position: int) -> bool:
        """Whether a file has a text."""
        return "error" not in (self.row(position) or {"error": ""})

    def batches(self, *, batch_seconds: float, min_seconds: float = 0.0) -> list[list[int]]:
        """Return the batches that have not been run, as positions, see :func:`length_batches`.

        A batch is always run as a whole, so that an interruption does not change texts.
        """
        known = [position for position, seconds in enumerate(self.seconds) if seconds is not None]
        padded = padded_seconds([self.seconds[position] for position in known], min_seconds)
        batches = [[known[index] for index in batch] for batch in length_batches(padded, batch_seconds)]
        return [batch for batch in batches if any(position not in self._rows for position in batch)]

    def alone(self) -> list[int]:
        """Return the files that are run alone: unreadable ones, and those that failed or changed since a batch."""
        return [
            position
            for position, seconds in enumerate(self.seconds)
            if (seconds is None or position in self._rows) and not self.is_done(position)
        ]

    def append(self, positions: Sequence[int], files: Sequence[list], rows: Sequence[dict]) -> None:
        """Append the results of a batch, with the facts of its files (:func:`source_facts`) before they were read."""
        batch = list(zip(positions, files, rows, strict=True))
        self._lines.append(json.dumps({"batch": batch}, ensure_ascii=False) + "\n")
        self._take(batch)

    def write_out(self) -> None:
        """Write a line per file in the order of the manifest, unless ``out`` has these lines."""
        lines = []
        for position, one in enumerate(self.utterances):
            row = {"id": one.id, "audio_filepath": str(one.audio_filepath)}
            row |= {} if one.speaker is None else {"speaker": one.speaker}
            offset = self._offset(position)
            row |= {} if offset is None else {"offset": offset}
            row |= {} if one.channel is None else {"channel_selector": one.channel}
            lines.append(json.dumps(row | self._rows[position], ensure_ascii=False) + "\n")
        data = "".join(lines).encode()
        if self.out.exists() and self.out.read_bytes() == data:
            return
        with self:
            self._lines.append(json.dumps({"written": _hash(data)}) + "\n")
        write_whole(self.out, data)

    def _offset(self, position: int) -> float | None:
        """Return the start of a part in seconds; of a file that is not there, as it was when it was transcribed."""
        one, facts = self.utterances[position], self._files[position]
        if one.offset is not None:
            return round(one.offset, 6)
        return facts[2] if one.written_part and len(facts) > 2 else None

    def __enter__(self) -> State:
        self._lines.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._lines.__exit__(*error)

    def _take(self, batch: Sequence) -> None:
        for position, file, row in batch:
            self._rows[position], self._files[position] = row, file

    def _write(self, settings: Mapping) -> None:
        header = {"settings": settings, "seconds": self.seconds}
        write_whole(self.path, (json.dumps(header, ensure_ascii=False) + "\n").encode())

    def _read(self, settings: Mapping) -> None:
        broken = f"{self.path} is broken: remove it and {self.out.name}, or give another --out"
        first, *lines = self.path.read_bytes().decode("utf-8", "replace").split("\n")
        header = _parsed(first, "settings")
        if header is None:
            raise ValueError(broken)
        earlier = header["settings"]
        if not isinstance(earlier, dict):
            raise ValueError(broken)
        if names := [name for name in settings if earlier.get(name) != settings[name]]:
            raise ValueError(
                f"{self.path} has texts of another {' and '.join(names)}: give the same as before or another --out, or "
                f"remove it and {self.out.name}"
            )
        self.seconds = header.get("seconds", [])
        if len(self.seconds) != len(self.utterances):
            raise ValueError(broken)
        for line in filter(None, (_parsed(line, "batch") for line in lines)):
            self._take(line["batch"])
        self._written = {line["written"] for line in filter(None, (_parsed(line, "written") for line in lines))}

    def _check_out(self) -> None:
        if self.out.exists() and _hash(self.out.read_bytes()) not in self._written:
            raise ValueError(f"{self.out} has been changed since it was written: move it away, or give another --out")


def _parsed(line: str, key: str) -> dict | None:
    """Return an object with a key; None if the line was cut off."""
    try:
        value = json.loads(line)
    except ValueError:
        return None
    return value if isinstance(value, dict) and key in value else None


def _digest(utterances: Sequence[Utterance]) -> str:
    rows = [[one.id, str(one.audio_filepath), one.speaker, one.written_part] for one in utterances]
    return _hash(json.dumps(rows).encode())


def _hash(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def _lengths(utterances: Sequence[Utterance]) -> list[float | None]:
    """Return the length of each file in seconds; None if its header cannot be read."""
    lengths = []
    for one in tqdm(utterances, desc="audio headers", delay=2, leave=False):
        try:
            whole = audio_duration(one.audio_filepath)
            lengths.append(whole if one.offset is None else one.duration)
        except AudioError:
            lengths.append(None)
    return lengths
