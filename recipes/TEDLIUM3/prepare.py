#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write manifests for an unpacked TED-LIUM 3.

    python recipes/TEDLIUM3/prepare.py /path/TEDLIUM_release-3 --out data/tedlium3

Writes train.jsonl, dev.jsonl and test.jsonl of the legacy split, whose dev and test sets are those of TED-LIUM 1 and 2.
The expected layout is TEDLIUM_release-3/legacy/{train,dev,test} with sph/<talk>.sph and stm/<talk>.stm. Each line of an
STM file is an utterance: a row of the manifest names the recording of the talk, and the offset and the duration of the
utterance in it. No audio is downloaded, cut or copied.
"""

import re
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from speechbrain_ee.corpora.manifest import Utterance
from speechbrain_ee.corpora.preparation import (
    find_root,
    leave_out_long,
    read_duration,
    read_lines,
    run_script,
    warn,
    write_sets,
)
from speechbrain_ee.text.normalize import ted_lium

SETS = ("train", "dev", "test")
UNKNOWN = "<unk>"
IGNORED = "ignore_time_segment_in_scoring"
SLACK_S = 1.0  # by which a segment may reach beyond the end of its recording
TIME = r"\d+(?:\.\d*)?|\.\d+"
LINE = re.compile(
    rf"(?P<talk>\S+)\s+\S+\s+(?P<speaker>\S+)\s+(?P<start>{TIME})\s+(?P<end>{TIME})"
    r"(?:\s+<(?!unk>|sil>)[^>]*>)?(?:\s+(?P<text>.*))?$"
)


@dataclass(frozen=True)
class Segment:
    """A line of an STM file; ``start`` and ``end`` are seconds into the recording of the talk."""

    talk: str
    speaker: str
    start: float
    end: float
    text: str

    @property
    def id(self) -> str:
        """Talk, start and end in hundredths of a second."""
        return f"{self.talk}-{round(self.start * 100):07}-{round(self.end * 100):07}"


def read_stm(path: Path) -> Iterator[Segment]:
    """Yield the segments of an STM file: talk, channel, speaker, start, end, label in angle brackets, text.

    Raises
    ------
    ValueError
        If a line has another form, or a segment does not end after its start.
    """
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip() or line.startswith(";;"):
            continue
        match = LINE.match(line.strip())
        if match is None or not float(match["start"]) < float(match["end"]):
            raise ValueError(f"{path}, line {number} is not a segment of an STM file: unpack the corpus again")
        yield Segment(
            match["talk"], match["speaker"], float(match["start"]), float(match["end"]), (match["text"] or "").strip()
        )


def read_set(folder: Path, *, unknown: str) -> list[Utterance]:
    """Read the utterances of a set, in the order of talks and times.

    Segments that are not to be scored are left out. Segments without words, of a recording that is missing or cannot be
    read, or beyond its end are left out with a warning. A segment that reaches up to 1 s beyond the end of its
    recording is shortened.

    Arguments
    ---------
    folder : Path
        E.g. legacy/dev.
    unknown : str
        For segments with ``<unk>``, a word that the transcript lacks: ``remove`` leaves out the word, ``drop`` the
        segment.

    Raises
    ------
    ValueError
        If an STM file is damaged, or there is no utterance.
    """
    utterances, left_out = [], defaultdict(list)
    for path in tqdm(sorted((folder / "stm").glob("*.stm")), desc=folder.name, delay=2, leave=False):
        audio = folder / "sph" / f"{path.stem}.sph"
        seconds = read_duration(audio)
        if seconds is None:
            left_out["talks whose recording is missing or cannot be read"].append(path.stem)
            continue
        for segment in read_stm(path):
            text = ted_lium(segment.text)
            if IGNORED in segment.text.lower():
                continue
            if unknown == "drop" and UNKNOWN in segment.text.lower():
                left_out["segments with an unknown word"].append(segment.id)
            elif not text:
                left_out["segments without words"].append(segment.id)
            elif segment.start >= seconds or segment.end > seconds + SLACK_S:
                left_out["segments beyond the end of the recording"].append(segment.id)
            else:
                duration = round(min(segment.end, seconds) - segment.start, 6)
                utterances.append(Utterance(segment.id, audio, duration, text, segment.speaker, offset=segment.start))
    for what, names in left_out.items():
        warn(folder.name, what, names)
    if not utterances:
        raise ValueError(f"{folder} has no usable utterance: unpack the corpus again")
    return utterances


def prepare(data_folder: Path, out: Path, *, unknown: str = "remove", longest: float = 30.0) -> None:
    """Write the manifests.

    Arguments
    ---------
    data_folder : Path
        The folder TEDLIUM_release-3, its folder legacy, or the parent of TEDLIUM_release-3.
    out : Path
        Folder to write the manifests to; it is created.
    unknown : str
        What happens to training segments with ``<unk>``, see :func:`read_set`. From dev and test, the word is removed.
    longest : float
        Longest training utterance in seconds.

    Raises
    ------
    ValueError
        If the folder or a set is missing, an STM file is damaged, or a set has no utterance.
    """
    root = find_root(data_folder, ["legacy", "TEDLIUM_release-3/legacy"], "train/stm")
    sets = {name: read_set(root / name, unknown=unknown if name == "train" else "remove") for name in SETS}
    sets["train"] = leave_out_long("train", sets["train"], longest)
    write_sets(out, sets)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the script; returns the exit status."""
    options = {
        "--unknown": {
            "choices": ("remove", "drop"),
            "default": "remove",
            "help": "training segments with <unk>: remove the word, or drop the segment (default: remove)",
        },
        "--longest": {
            "type": float,
            "default": 30.0,
            "metavar": "SECONDS",
            "help": "longest training utterance (default: 30)",
        },
    }
    return run_script(__doc__, prepare, out="data/tedlium3", arguments=arguments, options=options)


if __name__ == "__main__":
    sys.exit(main())
