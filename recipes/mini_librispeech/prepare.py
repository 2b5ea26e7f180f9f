#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write manifests for an unpacked mini LibriSpeech.

    python recipes/mini_librispeech/prepare.py /path/LibriSpeech --out data/mini_librispeech

Writes train.jsonl (train-clean-5), and dev.jsonl and test.jsonl, which are two halves of dev-clean-2 without a common
speaker: mini LibriSpeech has no test set, and thresholds are chosen on dev. Also writes dev-clean-2.jsonl, the whole
subset. The layout is that of LibriSpeech. No audio is downloaded or copied.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from speechbrain_ee.corpora.librispeech import check_subsets, find_corpus, read_subset
from speechbrain_ee.corpora.preparation import hold_out_speakers, run_script, write_sets

TRAIN, DEV = "train-clean-5", "dev-clean-2"


def prepare(data_folder: Path, out: Path) -> None:
    """Write the manifests.

    Arguments
    ---------
    data_folder : Path
        The folder LibriSpeech, or its parent.
    out : Path
        Folder to write the manifests to; it is created.

    Raises
    ------
    ValueError
        If the folder or a subset is missing, a subset has no utterance, or dev-clean-2 has only one speaker.
    """
    root = find_corpus(data_folder)
    check_subsets(root, [TRAIN, DEV])
    whole = read_subset(root / DEV)
    dev, test = hold_out_speakers(whole, every=2)
    write_sets(out, {"train": read_subset(root / TRAIN), "dev": dev, "test": test, DEV: whole})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit status."""
    return run_script(__doc__, prepare, out="data/mini_librispeech", arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
