# SPDX-License-Identifier: Apache-2.0
"""Results of an unfinished evaluation: written batch by batch, and read when the evaluation is resumed."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from speechbrain_ee.corpora.recordings import source_facts
from speechbrain_ee.files import AppendedLines
from speechbrain_ee.replay.utterances import json_line, parse_line

if TYPE_CHECKING:
    from speechbrain_ee.corpora.manifest import Utterance


class PartialResults:
    """Lines of ``utterances.jsonl`` in ``utterances.part-<key>.jsonl``, until the evaluation is complete.

    A line is reused if id, reference, speaker and recording of its utterance are unchanged. Lines that an interruption
    cut off are ignored.

    Arguments
    ---------
    folder : Path
        Folder of the test set; must exist.
    key : str
        Hash of all that the results depend on, except the utterances: model, decoding and code.

    Example
    -------
    >>> from speechbrain_ee.corpora.manifest import Utterance
    >>> folder = getfixture("tmp_path")
    >>> _ = (folder / "a.wav").write_bytes(b"...")
    >>> utterance = Utterance("a", folder / "a.wav", 1.0, "the cat")
    >>> line = {"id": "a", "audio_filepath": str(folder / "a.wav"), "speaker": None, "duration": 1.0}
    >>> line |= {"reference": "the cat", "exits": []}
    >>> with PartialResults(folder, "0123") as partial:
    ...     partial.append([utterance], [line])
    >>> PartialResults(folder, "0123").of([utterance])["a"] == line
    True
    """

    def __init__(self, folder: Path, key: str):
        self.path = folder / f"utterances.part-{key}.jsonl"
        self._lines = AppendedLines(self.path)

    def of(self, utterances: Sequence[Utterance]) -> dict[str, dict]:
        """Return the lines of these utterances, by id."""
        try:
            text = self.path.read_bytes().decode("utf-8", "replace")
        except FileNotFoundError:
            return {}
        wanted = {utterance.id: _facts(utterance) for utterance in utterances}
        found = {}
        for line in filter(None, map(_parse, text.split("\n"))):
            if _facts_of_line(line) == wanted.get(line.get("id")):
                found[line["id"]] = {name: value for name, value in line.items() if name != "file"}
        return found

    def append(self, utterances: Sequence[Utterance], lines: Sequence[dict]) -> None:
        """Append the lines of a batch."""
        rows = zip(utterances, lines, strict=True)
        self._lines.append("".join(json_line(line | {"file": _facts(one)["file"]}) + "\n" for one, line in rows))

    def remove(self) -> None:
        """Remove the partial results of all evaluations in the folder."""
        for path in self.path.parent.glob("utterances.part-*.jsonl"):
            path.unlink(missing_ok=True)

    def __enter__(self) -> PartialResults:
        self._lines.__enter__()
        return self

    def __exit__(self, *error) -> None:
        self._lines.__exit__(*error)


def _parse(text: str) -> dict | None:
    try:
        line = parse_line(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) and "exits" in line else None


def _facts(utterance: Utterance) -> dict:
    """Return the values that a reused line must share with its utterance."""
    return {
        "audio_filepath": str(utterance.audio_filepath),
        "speaker": utterance.speaker,
        "duration": utterance.duration,
        "reference": utterance.text,
        "file": source_facts(utterance),
    }


def _facts_of_line(line: dict) -> dict:
    return {name: line.get(name) for name in ("audio_filepath", "speaker", "duration", "reference", "file")}
