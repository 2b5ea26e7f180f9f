#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write manifests for the transcribed English part of VoxPopuli.

    python recipes/VoxPopuli/prepare.py /path/voxpopuli --out data/voxpopuli

Writes train.jsonl, dev.jsonl and test.jsonl. The expected layout is what VoxPopuli's own scripts download and cut:
transcribed_data/en/asr_{train,dev,test}.tsv and transcribed_data/en/<year>/<id>.ogg; the first four characters of an id
are the year. Utterances without audio, without a normalised text, or with audio that cannot be read are left out.
Training utterances longer than --longest seconds are left out. No audio is downloaded or copied.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path

from speechbrain_ee.corpora.preparation import (
    by_key,
    find_root,
    leave_out_long,
    pair_files,
    read_lines,
    run_script,
    write_sets,
)
from speechbrain_ee.text.normalize import english

SETS = ("train", "dev", "test")
COLUMNS = ("id", "normalized_text", "speaker_id")


def read_table(path: Path) -> dict[str, dict[str, str]]:
    """Read a table of VoxPopuli; returns its rows by id.

    Raises
    ------
    ValueError
        If the file is missing or has not the columns of VoxPopuli.
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist: cut the recordings with `python -m voxpopuli.get_asr_data --lang en`")
    rows = csv.DictReader(read_lines(path), delimiter="\t", quoting=csv.QUOTE_NONE)
    missing = [name for name in COLUMNS if name not in (rows.fieldnames or [])]
    if missing:
        raise ValueError(f"{path} has no column {', '.join(missing)}: give the table that VoxPopuli's script wrote")
    return by_key(path, ((row["id"], row) for row in rows))


def prepare(data_folder: Path, out: Path, *, longest: float = 30.0) -> None:
    """Write the manifests.

    Arguments
    ---------
    data_folder : Path
        VoxPopuli's root, its transcribed_data, or transcribed_data/en.
    out : Path
        Folder to write the manifests to; it is created.
    longest : float
        Longest training utterance in seconds.

    Raises
    ------
    ValueError
        If the folder or a table is missing, or a set has no utterance.
    """
    root = find_root(data_folder, ["en", "transcribed_data/en"], "asr_*.tsv")
    sets = {}
    for name in SETS:
        rows = read_table(root / f"asr_{name}.tsv")
        files = {one: root / one[:4] / f"{one}.ogg" for one in rows}
        audio = {one: path for one, path in files.items() if path.exists()}
        texts = {one: english(row["normalized_text"] or "") for one, row in rows.items()}
        sets[name] = pair_files(name, audio, texts, speaker=lambda one, rows=rows: rows[one]["speaker_id"] or None)
    sets["train"] = leave_out_long("train", sets["train"], longest)
    write_sets(out, sets)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit status."""
    longest = {"type": float, "default": 30.0, "metavar": "SECONDS", "help": "longest training utterance (default: 30)"}
    return run_script(__doc__, prepare, out="data/voxpopuli", arguments=arguments, options={"--longest": longest})


if __name__ == "__main__":
    sys.exit(main())
