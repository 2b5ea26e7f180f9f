# SPDX-License-Identifier: Apache-2.0
"""Rows of a JSON manifest: lines of objects, a list of objects, or SpeechBrain's object of utterances by id."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from ee_runtime.errors import shortened
from speechbrain_ee.corpora.manifest.text import ManifestError, line_of

FORMS = (
    "give JSON lines (on each line one object with audio_filepath, duration and text), "
    "SpeechBrain's JSON (an object of utterances by id), or a .csv file"
)


def json_rows(path: Path, text: str) -> Iterator[tuple[str, dict]]:
    """Yield the position and the values of each utterance.

    A single JSON value is read as a list or a table of utterances, several values are read as JSON lines.

    Raises
    ------
    ManifestError
        If the file is not JSON of one of these formats.

    Example
    -------
    >>> [where for where, _ in json_rows(Path("a.json"), '{"u1": {"wav": "a.wav"}, "u2": {"wav": "b.wav"}}')]
    ["utterance 'u1'", "utterance 'u2'"]
    """
    start = len(text) - len(text.lstrip())
    if start == len(text):
        return
    value, end = _decode(path, text, start)
    if not text[end:].strip():
        yield from _rows_of_value(path, value, line_of(text, start))
        return
    for number, line in enumerate(text.split("\n"), start=1):
        if line.strip():
            value, end = _decode(path, line, len(line) - len(line.lstrip()), line=number)
            if line[end:].strip():
                raise ManifestError(f"{path}, line {number} is not JSON (text after the object): {FORMS}")
            yield f"line {number}", _object(path, value, f"line {number}")


def _decode(path: Path, text: str, start: int, line: int = 1) -> tuple[object, int]:
    """Decode the JSON value at ``start``; return it and its end."""
    try:
        return _DECODER.raw_decode(text, start)
    except json.JSONDecodeError as error:
        line, reason = line + error.lineno - 1, error.msg
    except _RepeatedKey as error:
        raise ManifestError(
            f"{path} has the key {shortened(error.args[0])} twice in one object: give each utterance a unique id"
        ) from None
    except RecursionError:
        reason = "nested too deep"
    except ValueError:  # Python limits the number of digits
        reason = "a number of thousands of digits"
    raise ManifestError(f"{path}, line {line} is not JSON ({reason}): {FORMS}") from None


class _RepeatedKey(Exception):
    pass


def _unique(pairs: list[tuple[str, object]]) -> dict:
    """Build an object and refuse repeated keys, of which ``json`` would silently keep the last."""
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _RepeatedKey(next(key for key, count in Counter(key for key, _ in pairs).items() if count > 1))
    return found


_DECODER = json.JSONDecoder(object_pairs_hook=_unique)


def _rows_of_value(path: Path, value: object, line: int) -> Iterator[tuple[str, dict]]:
    """Yield the utterances of a list, of a table by id, of either below a single key, or the object itself."""
    if isinstance(value, dict) and len(value) == 1:
        inner = next(iter(value.values()))
        value = inner if isinstance(inner, list) or (inner and _is_table(inner)) else value
    if isinstance(value, list):
        for number, row in enumerate(value, start=1):
            yield f"utterance {number}", _object(path, row, f"line {line}, item {number}")
    elif _is_table(value):
        for name, row in value.items():
            yield f"utterance {shortened(name)}", {**row, "id": name}
    else:
        yield f"line {line}", _object(path, value, f"line {line}")


def _is_table(value: object) -> bool:
    """Whether all values are objects; the values of a single utterance are numbers and strings."""
    return isinstance(value, dict) and all(isinstance(row, dict) for row in value.values())


def _object(path: Path, value: object, where: str) -> dict:
    if not isinstance(value, dict):
        raise ManifestError(f"{path}, {where} is a JSON {type(value).__name__}: {FORMS}")
    return value
