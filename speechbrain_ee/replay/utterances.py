# SPDX-License-Identifier: Apache-2.0
"""``utterances.jsonl``: what every exit said of each utterance; all reports come from it."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from speechbrain_ee.files import write_whole
from speechbrain_ee.policies.scores import check_score_names


def write_utterances(path: str | Path, utterances: Sequence[Mapping]) -> None:
    """Write one JSON object a line; a score that is no finite number becomes null.

    Arguments
    ---------
    path : str or Path
        Usually ``<run>/eval/<test set>/utterances.jsonl``.
    utterances : sequence of dict
        ``{"id", "audio_filepath", "speaker", "duration", "reference", "num_words", "exits":
        [{"layer", "hypothesis", "errors": {"S", "D", "I"}, "scores": {name: value}, "macs"}]}``.

    Raises
    ------
    ValueError
        If an utterance lacks what a reader needs, or names an unknown score.
    """
    lines = []
    first: dict = {}
    for number, utterance in enumerate(utterances, start=1):
        _check_utterance(utterance, f"{path}:{number}", first)
        lines.append(json_line(utterance))
    write_whole(Path(path), "".join(line + "\n" for line in lines).encode())


def json_line(utterance: Mapping) -> str:
    """Give an utterance as a line of JSON; a score that is no finite number becomes null."""
    exits = [
        {**exit, "scores": {name: _finite(v) for name, v in exit["scores"].items()}} for exit in utterance["exits"]
    ]
    return json.dumps({**utterance, "exits": exits}, ensure_ascii=False, allow_nan=False, default=str)


def parse_line(text: str) -> dict:
    """Read a line of :func:`json_line`; null scores come back as NaN."""
    utterance = json.loads(text)
    for exit in utterance.get("exits", ()) if isinstance(utterance, dict) else ():
        exit["scores"] = {name: math.nan if v is None else v for name, v in exit["scores"].items()}
    return utterance


def read_utterances(path: str | Path) -> list[dict]:
    """Read ``utterances.jsonl``; null scores come back as NaN, at which a policy never stops.

    Arguments
    ---------
    path : str or Path
        A file of ``write_utterances``, or a subset of its form without texts, MACs and durations.

    Returns
    -------
    list of dict
        One per line.

    Raises
    ------
    ValueError
        With file and line number, if a line is no JSON object, lacks ``id``, ``num_words`` or
        ``exits``, names an unknown score, repeats an id, or has other exits than the first line.
    """
    utterances: list[dict] = []
    first: dict = {}
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"cannot read {path}: {error}; evaluate a manifest first") from error
    # Not splitlines(): a text may hold characters that Python takes for line ends, JSON does not.
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        where = f"{path}:{number}"
        try:
            utterance = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f"{where}: not JSON ({error}); remove or repair the line") from error
        _check_utterance(utterance, where, first)
        for exit in utterance["exits"]:
            exit["scores"] = {name: math.nan if v is None else v for name, v in exit["scores"].items()}
        utterances.append(utterance)
    if not utterances:
        raise ValueError(f"{path}: no utterances; evaluate a manifest first")
    return utterances


def _finite(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _check_utterance(utterance: Mapping, where: str, first: dict) -> None:
    """Refuse what readers cannot use; ``first`` remembers exits and ids between calls."""
    try:
        identity, num_words = utterance["id"], utterance["num_words"]
        layers = [exit["layer"] for exit in utterance["exits"]]
        scores = [exit["scores"] for exit in utterance["exits"]]
        errors = [[exit["errors"][kind] for kind in "SDI"] for exit in utterance["exits"]]
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
    if not all(type(n) is int and n >= 0 for n in [num_words, *sum(errors, [])]):
        raise ValueError(f"{where}: num_words and errors must be whole numbers, 0 or more")
    if not layers or layers != sorted(set(layers)) or layers != first.setdefault("exits", layers):
        raise ValueError(
            f"{where}: exit layers {layers} are not those of the first line in rising order, "
            f"{first.get('exits')}; use utterances of one model"
        )
    if identity in first.setdefault("ids", set()):
        raise ValueError(f"{where}: id {identity!r} occurs twice; ids must be unique")
    first["ids"].add(identity)
