# SPDX-License-Identifier: Apache-2.0
"""Checks whether an evaluated set can be used for calibration."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from ee_runtime.text.error_units import ErrorUnit, unit_of


def check_not_cut(utterances: Sequence[Mapping]) -> None:
    """Refuse recordings that were cut into parts.

    Each part stops by itself when transcribed, but the file has only the joined scores of the recording.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``; ``parts`` is the number of parts of a recording.

    Raises
    ------
    ValueError
        If a recording was cut; the message names the first.
    """
    cut = [one for one in utterances if one.get("parts", 1) > 1]
    if cut:
        raise ValueError(
            f"{len(cut)} of {len(utterances)} recordings are too long and were cut into parts, such as "
            f"{cut[0]['id']!r}: each part stops by itself, so their scores cannot be used for calibration; evaluate "
            "a manifest of shorter recordings"
        )


def evaluated_unit(folder: str | Path) -> ErrorUnit:
    """Return what the errors of an evaluated set are counted in, from its ``exits.json``.

    Raises
    ------
    ValueError
        If the set was not evaluated.
    """
    path = Path(folder) / "exits.json"
    if not path.exists():
        raise ValueError(f"{path} does not exist: evaluate a manifest first")
    return unit_of(json.loads(path.read_text("utf-8")))


def check_evaluated(folder: str | Path, model: str, decoding: str) -> None:
    """Check that a set was evaluated completely, with this model and this decoding.

    Arguments
    ---------
    folder : str or Path
        ``RUN/eval/<set>``.
    model : str
        :func:`~speechbrain_ee.model.fingerprint.fingerprint` of the model in the run.
    decoding : str
        Name of the decoder that ``transcribe`` uses.

    Raises
    ------
    ValueError
        If the set was evaluated with another model or decoder, or utterances are missing.
    """
    exits = json.loads((Path(folder) / "exits.json").read_text("utf-8"))
    if exits.get("model") not in (None, model):
        raise ValueError(
            f"{folder} was evaluated with another model ({exits['model']}, this one is {model}): evaluate it again"
        )
    if missing := exits.get("missing"):
        raise ValueError(
            f"{folder} lacks {len(missing)} utterances that could not be evaluated (first: {next(iter(missing))}): "
            "repair them or remove them from the manifest, and evaluate it again"
        )
    if exits["decoding"] != decoding:
        raise ValueError(
            f"{folder} was decoded with {exits['decoding']}, but transcribe uses {decoding}: evaluate it so"
        )
