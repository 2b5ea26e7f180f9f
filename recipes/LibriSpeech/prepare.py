#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write manifests for an unpacked LibriSpeech or mini LibriSpeech.

    python recipes/LibriSpeech/prepare.py /path/LibriSpeech --out data/librispeech \
        --train train-clean-100 train-clean-360 train-other-500

Writes data/librispeech/<subset>.jsonl for each subset, and train.jsonl with all training subsets. The expected layout
is LibriSpeech/<subset>/<speaker>/<chapter>/<speaker>-<chapter>-<number>.flac with one <speaker>-<chapter>.trans.txt per
chapter. No audio is downloaded or copied.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from speechbrain.utils.logger import get_logger
from tqdm import tqdm

from ee_runtime.audio import AudioError, audio_duration
from speechbrain_ee.corpora.manifest import Utterance, write_manifest

logger = get_logger(__name__)


def find_subsets(data_folder: Path) -> list[str]:
    """Return the subsets of an unpacked LibriSpeech, i.e. the folders with transcripts."""
    folders = sorted(folder for folder in data_folder.iterdir() if folder.is_dir())
    return [folder.name for folder in folders if any(folder.glob("*/*/*.trans.txt"))]


def read_transcripts(subset_folder: Path) -> dict[str, str]:
    """Read all transcripts of a subset; returns lower-case texts by utterance id."""
    texts = {}
    for path in sorted(subset_folder.glob("*/*/*.trans.txt")):
        for line in path.read_text(encoding="utf-8").splitlines():
            if line.strip():
                name, _, text = line.strip().partition(" ")
                texts[name] = text.strip().lower()
    return texts


def read_subset(subset_folder: Path) -> list[Utterance]:
    """Pair the audio files and the transcripts of a subset, sorted by id.

    Unpaired files, unpaired transcripts and unreadable audio files are skipped with a warning.

    Arguments
    ---------
    subset_folder : Path
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
    texts = read_transcripts(subset_folder)
    audio = {path.stem: path for path in subset_folder.glob("*/*/*.flac")}
    _warn(subset_folder.name, "transcripts without audio", sorted(texts.keys() - audio.keys()))
    _warn(subset_folder.name, "audio files without transcript", sorted(audio.keys() - texts.keys()))
    utterances, unreadable = [], []
    names = sorted(texts.keys() & audio.keys())
    for name in tqdm(names, desc=subset_folder.name, delay=2, leave=False):
        try:
            seconds = audio_duration(audio[name])
        except AudioError:
            unreadable.append(name)
            continue
        speaker = name.split("-")[0]
        utterances.append(Utterance(name, audio[name], seconds, texts[name], speaker))
    _warn(subset_folder.name, "audio files that cannot be read", unreadable)
    if not utterances:
        raise ValueError(f"{subset_folder} has no usable utterance: unpack the subset again")
    return utterances


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
    root = _root(Path(data_folder))
    found = find_subsets(root)
    splits = list(dict.fromkeys(splits))
    missing = [name for name in splits if name not in found]
    if missing or not splits:
        raise ValueError(
            f"{root} has no subset {', '.join(missing) or 'that was asked for'}; found: "
            f"{', '.join(found) or 'none (expected LibriSpeech/<subset>/<speaker>/<chapter>)'}"
        )
    train = []
    for name in splits:
        utterances = read_subset(root / name)
        _write(Path(out_dir) / f"{name}.jsonl", utterances)
        if name.startswith("train"):
            train += utterances
    if train:
        _write(Path(out_dir) / "train.jsonl", train)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_folder", type=Path, help="the unpacked folder LibriSpeech")
    parser.add_argument("--out", type=Path, default=Path("data/librispeech"), help="folder to write the manifests to")
    for name in ("train", "dev", "test"):
        parser.add_argument(
            f"--{name}",
            nargs="*",
            metavar="SUBSET",
            help=f"subsets (default: every {name}-* found)",
        )
    options = parser.parse_args(arguments)
    try:
        found = find_subsets(_root(options.data_folder))
        splits = []
        for prefix, chosen in vars(options).items():
            if prefix in ("train", "dev", "test"):
                default = [name for name in found if name.startswith(prefix)]
                splits += default if chosen is None else chosen
        prepare(options.data_folder, options.out, splits)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _root(data_folder: Path) -> Path:
    """Return the folder with the subsets, given this folder or its parent."""
    if not data_folder.is_dir():
        raise ValueError(f"{data_folder} is not a folder: give the unpacked folder LibriSpeech")
    inner = data_folder / "LibriSpeech"
    return inner if inner.is_dir() else data_folder


def _write(path: Path, utterances: list[Utterance]) -> None:
    write_manifest(path, utterances)
    hours = sum(utterance.duration for utterance in utterances) / 3600
    speakers = len({utterance.speaker for utterance in utterances})
    print(f"{path}: {len(utterances)} utterances, {hours:.2f} h, {speakers} speakers")


def _warn(subset: str, what: str, names: Sequence[str]) -> None:
    if names:
        more = ", ..." if len(names) > 5 else ""
        logger.warning("%s: %d %s: %s%s", subset, len(names), what, ", ".join(names[:5]), more)


if __name__ == "__main__":
    sys.exit(main())
