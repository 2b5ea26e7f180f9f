# SPDX-License-Identifier: Apache-2.0
"""The units in which errors are counted: words for WER, characters for CER. Standard library only.

One unit applies to everything that is chosen or promised for a model: checkpoints, oracle, policies, thresholds. In
languages without spaces between words, a sentence would be a single word, so errors must be counted in characters.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class ErrorUnit:
    """A unit of errors and its names.

    Arguments
    ---------
    name : str
        Value of the setting ``error_unit``.
    singular, plural : str
        In texts.
    rate : str
        Name of the error rate.
    key : str
        Key of the error rate in files.
    errors : str
        Key of the errors of an exit in ``utterances.jsonl``.
    length : str
        Key of the length of the reference in ``utterances.jsonl``.
    """

    name: str
    singular: str
    plural: str
    rate: str
    key: str
    errors: str
    length: str


WORD = ErrorUnit("word", "word", "words", "WER", "wer", "errors", "num_words")
CHAR = ErrorUnit("char", "character", "characters", "CER", "cer", "char_errors", "num_chars")
UNITS = {unit.name: unit for unit in (WORD, CHAR)}


def error_unit(name: object) -> ErrorUnit:
    """Return a unit by its name.

    Raises
    ------
    ValueError
        If there is no such unit.

    Example
    -------
    >>> error_unit("char").rate
    'CER'
    >>> error_unit("letter")
    Traceback (most recent call last):
    ValueError: error_unit is 'letter': choose from word, char
    """
    unit = UNITS.get(name) if isinstance(name, str) else None
    if unit is None:
        raise ValueError(f"error_unit is {str(name)[:40]!r}: choose from {', '.join(UNITS)}")
    return unit


def unit_of(values: Mapping) -> ErrorUnit:
    """Return the unit of a file's contents (``exits.json``, ``calibration.json``); files of earlier versions have none.

    Example
    -------
    >>> unit_of({"exits": []}).name, unit_of({"error_unit": "char"}).name
    ('word', 'char')
    """
    return error_unit(values.get("error_unit", WORD.name))


def unit_of_lines(utterances: Sequence[Mapping]) -> ErrorUnit:
    """Return the unit in which lines of ``utterances.jsonl`` are counted.

    The file has the errors of both units; :func:`counted_in` marks the lines in memory.

    Raises
    ------
    ValueError
        If the lines are counted in different units.
    """
    names = {utterance.get("error_unit", WORD.name) for utterance in utterances}
    if len(names) > 1:
        raise ValueError(f"the utterances are counted in {' and '.join(sorted(names))}: read them with one error_unit")
    return error_unit(names.pop() if names else WORD.name)


def counted_in(utterances: Sequence[Mapping], unit: ErrorUnit) -> list[dict]:
    """Mark lines of ``utterances.jsonl``, so that replay, calibration and tables count their errors in a unit.

    Raises
    ------
    ValueError
        If a line has no errors in this unit, as in files of earlier versions, or without a reference.

    Example
    -------
    >>> counted_in([{"id": "a", "num_words": 2, "exits": []}], WORD)[0]["error_unit"]
    'word'
    """
    for one in utterances:
        if unit.length not in one or not all(unit.errors in exit for exit in one["exits"]):
            raise ValueError(
                f"utterance {one.get('id')!r} has no {unit.length} and {unit.errors}: evaluate the set again"
            )
    return [{**one, "error_unit": unit.name} for one in utterances]
