#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write manifests for an unpacked LibriSpeech.

    python recipes/LibriSpeech/prepare.py /path/LibriSpeech --out data/librispeech \
        --train train-clean-100 train-clean-360 train-other-500

Writes data/librispeech/<subset>.jsonl for each subset, and train.jsonl with all training subsets. The expected layout
is LibriSpeech/<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac with one <speaker>-<chapter>.trans.txt per
chapter. No audio is downloaded or copied. Mini LibriSpeech (train-clean-5, dev-clean-2) has a recipe of its own; here,
its subsets are taken only if they are named.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from speechbrain_ee.corpora.librispeech import check_subsets, find_corpus, find_subsets, read_subset
from speechbrain_ee.corpora.preparation import run_script, write_sets

PREFIXES = ("train", "dev", "test")
OF_MINI = ("train-clean-5", "dev-clean-2")  # parts of the other subsets


def prepare(data_folder: str | Path, out_dir: str | Path, splits: Sequence[str]) -> None:
    """Write one manifest per subset, and train.jsonl with all subsets named train-...

    Arguments
    ---------
    data_folder : str | Path
        The folder LibriSpeech, or its parent.
    out_dir : str | Path
        Folder to write the manifests to; it is created.
    splits : Sequence[str]
        Subsets, e.g. dev-clean; train.jsonl contains the training subsets in this order.

    Raises
    ------
    ValueError
        If the folder or a subset is missing, or a subset has no utterance.
    """
    root = find_corpus(Path(data_folder))
    splits = list(dict.fromkeys(splits))
    check_subsets(root, splits)
    train = []
    for name in splits:
        utterances = read_subset(root / name)
        write_sets(Path(out_dir), {name: utterances})
        if name.startswith("train"):
            train += utterances
    if train:
        write_sets(Path(out_dir), {"train": train})


def _prepare_chosen(data_folder: Path, out: Path, **chosen: list[str] | None) -> None:
    """Prepare the chosen subsets; by default every one that is found."""
    found = find_subsets(find_corpus(data_folder))
    splits = []
    for prefix in PREFIXES:
        default = [name for name in found if name.startswith(prefix) and name not in OF_MINI]
        splits += default if chosen[prefix] is None else chosen[prefix]
    prepare(data_folder, out, splits)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit status."""
    options = {
        f"--{prefix}": {
            "nargs": "*",
            "metavar": "SUBSET",
            "help": f"subsets (default: every {prefix}-* found, without those of mini LibriSpeech)",
        }
        for prefix in PREFIXES
    }
    return run_script(__doc__, _prepare_chosen, out="data/librispeech", arguments=arguments, options=options)


if __name__ == "__main__":
    sys.exit(main())
