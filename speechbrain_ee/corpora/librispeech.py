# SPDX-License-Identifier: Apache-2.0
"""Read LibriSpeech and corpora of its layout, such as mini LibriSpeech.

The layout is ``LibriSpeech/<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac`` with one
``<speaker>-<chapter>.trans.txt`` per chapter.
"""

from collections.abc import Sequence
from pathlib import Path

from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.corpora.preparation import by_key, pair_files, read_lines
from speechbrain_ee.text.normalize import english


def find_corpus(data_folder: Path) -> Path:
    """Return the folder with the subsets, given this folder or its parent."""
    if not data_folder.is_dir():
        raise ValueError(f"{data_folder} is not a folder: give the unpacked folder LibriSpeech")
    inner = data_folder / "LibriSpeech"
    return inner if inner.is_dir() else data_folder


def find_subsets(root: Path) -> list[str]:
    """Return the names of the folders with transcripts."""
    folders = sorted(folder for folder in root.iterdir() if folder.is_dir())
    return [folder.name for folder in folders if any(folder.glob("*/*/*.trans.txt"))]


def check_subsets(root: Path, subsets: Sequence[str]) -> None:
    """Raise ValueError if a subset is missing, or none was asked for; the message lists those found."""
    found = find_subsets(root)
    missing = [name for name in subsets if name not in found]
    if missing or not subsets:
        raise ValueError(
            f"{root} has no subset {', '.join(missing) or 'that was asked for'}; found: "
            f"{', '.join(found) or 'none (expected LibriSpeech/<subset>/<speaker>/<chapter>)'}"
        )


def read_subset(folder: Path) -> list[Utterance]:
    """Pair the audio files and the transcripts of a subset, sorted by id.

    Unpaired files, unpaired transcripts and unreadable audio files are left out with a warning.

    Arguments
    ---------
    folder : Path
        E.g. LibriSpeech/dev-clean.

    Returns
    -------
    list[Utterance]
        The speaker is LibriSpeech's speaker number.

    Raises
    ------
    ValueError
        If there is no pair.
    """
    lines = (line.strip() for path in sorted(folder.glob("*/*/*.trans.txt")) for line in read_lines(path))
    parts = (line.partition(" ") for line in lines if line)
    texts = by_key(folder, ((name, english(text)) for name, _, text in parts))
    audio = {path.stem: path for path in folder.glob("*/*/*.flac")}
    return pair_files(folder.name, audio, texts, speaker=lambda name: name.split("-")[0])
