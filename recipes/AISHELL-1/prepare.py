#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write manifests for an unpacked AISHELL-1.

    python recipes/AISHELL-1/prepare.py /path/data_aishell --out data/aishell

Writes train.jsonl, dev.jsonl and test.jsonl. The expected layout is data_aishell/transcript/aishell_transcript_v0.8.txt
and data_aishell/wav/{train,dev,test}/S<number>/<utterance>.wav: unpack the archives of the speakers in data_aishell/wav
first. Some 300 recordings have no transcript; a warning counts them. No audio is downloaded or copied.
"""

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from speechbrain_ee.corpora.preparation import by_key, find_root, pair_files, read_lines, run_script, warn, write_sets
from speechbrain_ee.text.normalize import mandarin

SETS = ("train", "dev", "test")
TRANSCRIPT = "transcript/aishell_transcript_v0.8.txt"
SPEAKER = re.compile(r"S\d{4}")  # in the name of an utterance: BAC009S0002W0122


def read_transcripts(path: Path) -> dict[str, str]:
    """Return the texts by utterance id."""
    lines = (line.split(maxsplit=1) for line in read_lines(path))
    return by_key(path, ((parts[0], mandarin(parts[1]) if len(parts) > 1 else "") for parts in lines if parts))


def speaker_of(name: str) -> str | None:
    """Return the speaker of an utterance.

    >>> speaker_of("BAC009S0002W0122")
    'S0002'
    """
    match = SPEAKER.search(name)
    return match and match[0]


def prepare(data_folder: Path, out: Path) -> None:
    """Write the manifests.

    Arguments
    ---------
    data_folder : Path
        The folder data_aishell, or its parent.
    out : Path
        Folder to write the manifests to; it is created.

    Raises
    ------
    ValueError
        If the folder, the transcripts or a set is missing.
    """
    root = find_root(data_folder, ["data_aishell"], TRANSCRIPT)
    texts = read_transcripts(root / TRANSCRIPT)
    sets, known = {}, set()
    for name in SETS:
        audio = {path.stem: path for path in (root / "wav" / name).glob("*/*.wav")}
        if not audio:
            raise ValueError(f"{root / 'wav' / name} has no recordings: unpack the archives in {root / 'wav'}")
        speakers = {path.parent.name for path in audio.values()}
        own = {one: text for one, text in texts.items() if speaker_of(one) in speakers}
        sets[name] = pair_files(name, audio, own, speaker=speaker_of)
        known |= own.keys()
    warn("AISHELL-1", "transcripts of speakers without recordings", texts.keys() - known)
    write_sets(out, sets)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit status."""
    return run_script(__doc__, prepare, out="data/aishell", arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
