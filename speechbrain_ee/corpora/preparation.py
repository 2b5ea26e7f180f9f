# SPDX-License-Identifier: Apache-2.0
"""From the folder of a published corpus to manifests: what the scripts ``recipes/*/prepare.py`` have in common."""

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from speechbrain.utils.logger import get_logger
from tqdm import tqdm

from ee_runtime.audio import AudioError, audio_duration
from speechbrain_ee.corpora.manifest import Utterance, write_manifest

logger = get_logger(__name__)
MAX_NAMES = 5  # names in a warning


def find_root(data_folder: Path, inner: Sequence[str], marker: str) -> Path:
    """Return the folder of a corpus, given this folder or one above it.

    Arguments
    ---------
    data_folder : Path
        What the user gave.
    inner : Sequence[str]
        Where the corpus may be below it, e.g. ``TEDLIUM_release-3/legacy``.
    marker : str
        Glob pattern of a file or folder that the corpus has.

    Raises
    ------
    ValueError
        If the folder does not exist or the corpus is not in it.

    Example
    -------
    >>> folder = getfixture("tmp_path")
    >>> (folder / "corpus" / "train" / "stm").mkdir(parents=True)
    >>> find_root(folder, ["corpus"], "*/stm").name
    'corpus'
    """
    if not data_folder.is_dir():
        raise ValueError(f"{data_folder} is not a folder: give the folder of the unpacked corpus")
    for root in (data_folder, *(data_folder / name for name in inner)):
        if next(root.glob(marker), None) is not None:
            return root
    looked = " or ".join(["it", *(f"its {name}" for name in inner)])
    raise ValueError(f"{data_folder}: there is no {marker} in {looked}: give the folder of the unpacked corpus")


def read_lines(path: Path) -> list[str]:
    r"""Return the lines of a text file of a corpus.

    Raises
    ------
    ValueError
        If the file does not exist, or is not UTF-8; the message names the file and the line.

    Example
    -------
    >>> path = getfixture("tmp_path") / "text"
    >>> _ = path.write_bytes(b"a cat\na caf\xe9\n")
    >>> read_lines(path)
    Traceback (most recent call last):
    ValueError: ...text, line 2 is not UTF-8 (...): unpack the corpus again, or convert the file to UTF-8
    """
    if not path.is_file():
        raise ValueError(f"{path} does not exist: unpack the corpus again")
    data = path.read_bytes()
    try:
        return data.decode("utf-8-sig").replace("\r\n", "\n").removesuffix("\n").split("\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {line} is not UTF-8 ({error.reason}): unpack the corpus again, or convert the file to UTF-8"
        ) from None


def read_duration(path: Path) -> float | None:
    """Return the seconds of a recording, or None if it cannot be read."""
    try:
        return audio_duration(path)
    except AudioError:
        return None


def pair_files(
    name: str, audio: Mapping[str, Path], texts: Mapping[str, str], speaker: Callable[[str], str | None]
) -> list[Utterance]:
    """Pair audio files and transcripts by id, one file per utterance, sorted by id.

    Audio without a transcript, transcripts without audio, texts without words and unreadable files are left out, with a
    warning that counts and names them.

    Arguments
    ---------
    name : str
        Name of the set, for messages.
    audio, texts : Mapping
        Audio files and texts by utterance id.
    speaker : Callable
        Returns the speaker of an id.

    Raises
    ------
    ValueError
        If there is no pair.
    """
    warn(name, "transcripts without audio", texts.keys() - audio.keys())
    warn(name, "audio files without transcript", audio.keys() - texts.keys())
    both = sorted(texts.keys() & audio.keys())
    warn(name, "transcripts without words", [one for one in both if not texts[one]])
    ids = [one for one in both if texts[one]]
    seconds = {one: read_duration(audio[one]) for one in tqdm(ids, desc=name, delay=2, leave=False)}
    warn(name, "audio files that cannot be read", [one for one in ids if seconds[one] is None])
    utterances = [
        Utterance(one, audio[one], seconds[one], texts[one], speaker(one)) for one in ids if seconds[one] is not None
    ]
    if not utterances:
        raise ValueError(f"{name} has no usable utterance: unpack the corpus again")
    return utterances


def hold_out_speakers(utterances: Sequence[Utterance], *, every: int) -> tuple[list[Utterance], list[Utterance]]:
    """Split a set by speakers, for corpora without a development or test set; the same corpus gives the same split.

    Arguments
    ---------
    utterances : Sequence[Utterance]
        All with speakers.
    every : int
        Every so many speakers, in the order of their names, one is held out; 2 is half of them.

    Returns
    -------
    tuple
        The utterances that remain, and those of the speakers held out.

    Raises
    ------
    ValueError
        If there are fewer speakers than ``every``.

    Example
    -------
    >>> from pathlib import Path
    >>> spoken = [Utterance(f"{who}{n}", Path("a.wav"), 1.0, "hi", who) for who in "abcde" for n in range(2)]
    >>> rest, held_out = hold_out_speakers(spoken, every=2)
    >>> [one.id for one in held_out]
    ['b0', 'b1', 'd0', 'd1']
    """
    speakers = sorted({str(one.speaker) for one in utterances})
    if len(speakers) < every:
        raise ValueError(f"{len(speakers)} speakers are too few: {every} are needed to hold one out")
    chosen = set(speakers[every - 1 :: every])
    return (
        [one for one in utterances if str(one.speaker) not in chosen],
        [one for one in utterances if str(one.speaker) in chosen],
    )


def leave_out_long(name: str, utterances: Sequence[Utterance], longest_s: float) -> list[Utterance]:
    """Return the utterances of at most so many seconds; a warning counts the others.

    Raises
    ------
    ValueError
        If none remains.
    """
    kept = [one for one in utterances if one.duration <= longest_s]
    if not kept:
        raise ValueError(f"{name} has no utterance of at most {longest_s:g} s: give a larger --longest")
    warn(name, f"utterances longer than {longest_s:g} s", [one.id for one in utterances if one.duration > longest_s])
    return kept


def write_sets(out: Path, sets: Mapping[str, Sequence[Utterance]]) -> None:
    """Write one manifest per set, and print how much each has.

    Raises
    ------
    ValueError
        If a set has an utterance twice; then nothing is written.
    """
    for name, utterances in sets.items():
        counts = Counter(one.id for one in utterances)
        if repeated := [one for one, count in counts.items() if count > 1]:
            raise ValueError(
                f"{name} has {len(repeated)} utterances twice (first: {repeated[0]}): leave out one of its parts"
            )
    for name, utterances in sets.items():
        path = Path(out) / f"{name}.jsonl"
        write_manifest(path, utterances)
        hours = sum(utterance.duration for utterance in utterances) / 3600
        speakers = len({utterance.speaker for utterance in utterances} - {None})
        print(f"{path}: {len(utterances)} utterances, {hours:.2f} h" + (f", {speakers} speakers" if speakers else ""))


T = TypeVar("T")


def by_key(path: Path, pairs: Iterable[tuple[str, T]]) -> dict[str, T]:
    """Return the entries of a file of the corpus.

    Raises
    ------
    ValueError
        If a key occurs twice.

    Example
    -------
    >>> by_key(Path("text"), [("a", "one"), ("a", "two")])
    Traceback (most recent call last):
    ValueError: text has a twice: unpack the corpus again
    """
    found = {}
    for key, value in pairs:
        if key in found:
            raise ValueError(f"{path} has {key} twice: unpack the corpus again")
        found[key] = value
    return found


def warn(name: str, what: str, ids: Iterable[str]) -> None:
    """Warn of utterances that are left out, with their number and the first ids; says nothing if there are none."""
    if found := sorted(ids):
        more = ", ..." if len(found) > MAX_NAMES else ""
        logger.warning("%s: %d %s: %s%s", name, len(found), what, ", ".join(found[:MAX_NAMES]), more)


def run_script(
    doc: str,
    prepare: Callable[..., None],
    *,
    out: str,
    arguments: Sequence[str] | None = None,
    options: Mapping[str, dict] | None = None,
) -> int:
    """Run a preparation script: parse its arguments, call ``prepare``, and report errors in one line.

    Arguments
    ---------
    doc : str
        Docstring of the script, for ``--help``.
    prepare : Callable
        Is called with the corpus folder, the folder to write to, and the further options by name.
    out : str
        Default folder to write to.
    arguments : Sequence[str] | None
        None takes those of the command line.
    options : Mapping | None
        Further options: for each flag, the keyword arguments of ``add_argument``.

    Returns
    -------
    int
        Exit status.
    """
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_folder", type=Path, help="folder of the unpacked corpus")
    parser.add_argument("--out", type=Path, default=Path(out), help="folder to write the manifests to")
    for flag, settings in (options or {}).items():
        parser.add_argument(flag, **settings)
    given = vars(parser.parse_args(arguments))
    try:
        prepare(given.pop("data_folder"), given.pop("out"), **given)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0
