#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write manifests for an unpacked SpeechOcean762.

    python recipes/SpeechOcean762/prepare.py /path/speechocean762 --out data/speechocean762

Writes train.jsonl, dev.jsonl and test.jsonl. The corpus has no development set: dev is every tenth speaker of its
training set. The expected layout is that of the corpus: train/ and test/ with Kaldi's files wav.scp, text, utt2spk and
spk2utt, and WAVE/SPEAKER<number>/<utterance>.WAV, to which wav.scp refers. No audio is downloaded or copied.
"""

import sys
from collections.abc import Sequence
from pathlib import Path

from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.corpora.preparation import (
    by_key,
    find_root,
    hold_out_speakers,
    pair_files,
    read_lines,
    run_script,
    write_sets,
)
from speechbrain_ee.text.normalize import english

DEV_EVERY = 10  # one of ten training speakers is in dev: 12 of 125


def read_kaldi_file(path: Path) -> dict[str, str]:
    """Read a file of Kaldi, with a key and, after white space, a value on each line.

    Raises
    ------
    ValueError
        If the file is missing, or has a key twice.
    """
    lines = (line.split(maxsplit=1) for line in read_lines(path))
    return by_key(path, ((parts[0], parts[1].strip() if len(parts) > 1 else "") for parts in lines if parts))


def read_speakers(folder: Path) -> dict[str, str]:
    """Return the speaker of each utterance by utt2spk.

    Raises
    ------
    ValueError
        If spk2utt, which says the same by speaker, disagrees.
    """
    speakers = read_kaldi_file(folder / "utt2spk")
    by_speaker = read_kaldi_file(folder / "spk2utt")
    others = {name: speaker for speaker, names in by_speaker.items() for name in names.split()}
    for name in sorted(speakers.keys() | others.keys()):
        if speakers.get(name) != others.get(name):
            raise ValueError(
                f"{folder}: utterance {name} is of speaker {others.get(name)} in spk2utt and {speakers.get(name)} in "
                "utt2spk: unpack the corpus again"
            )
    return speakers


def read_set(root: Path, name: str) -> list[Utterance]:
    """Read a set of the corpus, sorted by id; wav.scp has paths that start from the corpus folder."""
    folder = root / name
    wavs, speakers = read_kaldi_file(folder / "wav.scp"), read_speakers(folder)
    pipes = [one for one, wav in wavs.items() if wav.endswith("|")]
    if pipes:
        raise ValueError(
            f"{folder / 'wav.scp'}: {pipes[0]} is a command: give the corpus itself, whose lines are paths"
        )
    audio = {one: root / wav for one, wav in wavs.items() if (root / wav).exists()}
    texts = {one: english(text) for one, text in read_kaldi_file(folder / "text").items()}
    if nobody := sorted(texts.keys() - speakers.keys()):
        raise ValueError(f"{folder}: {len(nobody)} texts have no speaker in utt2spk (first: {nobody[0]}): unpack again")
    return pair_files(name, audio, texts, speaker=speakers.get)


def prepare(data_folder: Path, out: Path) -> None:
    """Write the manifests.

    Arguments
    ---------
    data_folder : Path
        The folder speechocean762, or its parent.
    out : Path
        Folder to write the manifests to; it is created.

    Raises
    ------
    ValueError
        If the folder or a file is missing, the files contradict each other, or a set has no utterance.
    """
    root = find_root(data_folder, ["speechocean762"], "*/wav.scp")
    train, dev = hold_out_speakers(read_set(root, "train"), every=DEV_EVERY)
    write_sets(out, {"train": train, "dev": dev, "test": read_set(root, "test")})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit status."""
    return run_script(__doc__, prepare, out="data/speechocean762", arguments=arguments)


if __name__ == "__main__":
    sys.exit(main())
