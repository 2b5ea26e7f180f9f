# SPDX-License-Identifier: Apache-2.0
"""Read and write ``utterances.jsonl``: the results of every exit for each utterance, the source of all tables."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from ee_runtime.files import write_whole
from ee_runtime.policies.scores import check_score_names
from ee_runtime.text.error_units import CHAR, WORD, ErrorUnit, counted_in


def write_utterances(path: str | Path, utterances: Sequence[Mapping]) -> None:
    """Write one JSON object per line; a score that is not finite becomes null.

    Arguments
    ---------
    path : str or Path
        Usually ``<run>/eval/<test set>/utterances.jsonl``.
    utterances : sequence of dict
        ``{"id", "audio_filepath", "speaker", "duration", "reference", "num_words", "num_chars", "exits": [{"layer",
        "hypothesis", "errors": {"S", "D", "I"}, "char_errors": {"S", "D", "I"}, "scores": {name: value}, "macs"}]}``;
        ``num_chars`` and ``char_errors`` may be missing.

    Raises
    ------
    ValueError
        If an utterance lacks a required value, or a score is unknown.
    """
    lines = []
    first: dict = {}
    for number, utterance in enumerate(utterances, start=1):
        _check_utterance(utterance, f"{path}:{number}", first)
        lines.append(json_line(utterance))
    write_whole(Path(path), "".join(line + "\n" for line in lines).encode())


def json_line(utterance: Mapping) -> str:
    """Format an utterance as a line of JSON; a score that is not finite becomes null."""
    exits = [
        {**exit, "scores": {name: _finite(v) for name, v in exit["scores"].items()}} for exit in utterance["exits"]
    ]
    return json.dumps({**utterance, "exits": exits}, ensure_ascii=False, allow_nan=False, default=str)


def parse_line(text: str) -> dict:
    """Parse a line of :func:`json_line`; null scores become NaN."""
    utterance = json.loads(text)
    return _nulls_to_nan(utterance) if isinstance(utterance, dict) else utterance


def read_utterances(path: str | Path, unit: ErrorUnit = WORD) -> list[dict]:
    """Read ``utterances.jsonl``; null scores become NaN, at which a policy never stops.

    Arguments
    ---------
    path : str or Path
        A file of :func:`write_utterances`; texts, MACs and durations may be missing.
    unit : ErrorUnit
        What to count errors in, see :func:`~ee_runtime.text.error_units.counted_in`.

    Returns
    -------
    list of dict
        One per line.

    Raises
    ------
    ValueError
        If a line is not a JSON object, lacks ``id``, ``num_words`` or ``exits``, has an unknown score, repeats an id,
        or has other exits than the first line; the message starts with file and line number. If characters are to be
        counted, and the file has none.
    """
    utterances: list[dict] = []
    first: dict = {}
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}; evaluate a manifest first") from error
    # Not splitlines(): it splits at characters that JSON allows in a text.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            utterance = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not JSON ({error}); remove or repair the line") from error
        _check_utterance(utterance, where, first)
        utterances.append(_nulls_to_nan(utterance))
    if not utterances:
        raise ValueError(f"{path}: no utterances; evaluate a manifest first")
    return utterances if unit == WORD else counted_in(utterances, unit)


def _nulls_to_nan(utterance: dict) -> dict:
    for exit in utterance.get("exits", ()):
        exit["scores"] = {name: math.nan if value is None else value for name, value in exit["scores"].items()}
    return utterance


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _check_utterance(utterance: Mapping, where: str, first: dict) -> None:
    """Check the values that readers need; ``first`` keeps the exits and ids of earlier lines."""
    try:
        identity, num_words = utterance["id"], utterance["num_words"]
        layers = [exit["layer"] for exit in utterance["exits"]]
        scores = [exit["scores"] for exit in utterance["exits"]]
        errors = [[exit["errors"][kind] for kind in "SDI"] for exit in utterance["exits"]]
        num_chars = utterance.get(CHAR.length, 0)
        errors += [[exit[CHAR.errors][kind] for kind in "SDI"] for exit in utterance["exits"] if CHAR.errors in exit]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{where}: {error} is missing or of a wrong type; "
            "an utterance needs id, num_words and exits with layer, errors (S, D, I) and scores"
        ) from error
    try:
        for names in scores:
            check_score_names(names)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    if not all(type(n) is int and n >= 0 for n in [num_words, num_chars, *sum(errors, [])]):
        raise ValueError(f"{where}: num_words, num_chars and errors must be whole numbers, 0 or more")
    if not layers or layers != sorted(set(layers)) or layers != first.setdefault("exits", layers):
        raise ValueError(
            f"{where}: exit layers {layers} must be in rising order and equal to those of the first line, "
            f"{first.get('exits')}; use utterances of one model"
        )
    if identity in first.setdefault("ids", set()):
        raise ValueError(f"{where}: id {identity!r} occurs twice; ids must be unique")
    first["ids"].add(identity)
