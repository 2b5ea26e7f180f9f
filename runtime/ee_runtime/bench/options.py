# SPDX-License-Identifier: Apache-2.0
"""The options of a bench, checked. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ee_runtime.bench.budget import Budget

DEFAULT_SECONDS = (10.0,)
DEFAULT_ROUNDS = 10
DEFAULT_STARTS = 3


@dataclass(frozen=True)
class BenchOptions:
    """What is measured.

    Arguments
    ---------
    seconds : sequence of float
        Lengths of noise; empty for :data:`DEFAULT_SECONDS`.
    audio : sequence of Path
        Recordings, instead of noise.
    batch : int
        Utterances per call.
    rounds : int
        Rounds of alternating runs.
    starts : int
        Fresh processes per model and depth; 0 for none.
    rtf, ms : float | None
        Budget; at most one.
    out : Path | None
        File for the figures, ``.json``.

    Raises
    ------
    ValueError
        If a value is out of range, or two options exclude each other.
    """

    seconds: Sequence[float] = ()
    audio: Sequence[Path] = ()
    batch: int = 1
    rounds: int = DEFAULT_ROUNDS
    starts: int = DEFAULT_STARTS
    rtf: float | None = None
    ms: float | None = None
    out: Path | None = None

    def __post_init__(self):
        for name, least in (("batch", 1), ("rounds", 1), ("starts", 0)):
            if getattr(self, name) < least:
                raise ValueError(f"--{name} {getattr(self, name)}: give {least} or more")
        for name, values in (("seconds", self.seconds), ("rtf", [self.rtf]), ("ms", [self.ms])):
            for value in values:
                if value is not None and not (math.isfinite(value) and value > 0):
                    raise ValueError(f"--{name} {value:g}: give a number above 0")
        if self.seconds and self.audio:
            raise ValueError("--seconds is the length of noise, which --audio replaces: give one of them")
        if self.rtf is not None and self.ms is not None:
            raise ValueError("give one of --rtf and --ms")
        if self.budget and self.batch > 1:
            raise ValueError("--rtf and --ms ask for one recording at a time: leave out --batch")
        if self.out is not None and self.out.suffix != ".json":
            raise ValueError(f"--out {self.out}: give a file that ends in .json")
        if self.out is not None and not self.out.absolute().parent.is_dir():
            raise ValueError(f"--out {self.out}: there is no folder {self.out.parent}: make it first")

    @property
    def budget(self) -> Budget | None:
        """The budget, if one was given."""
        return None if self.rtf is None and self.ms is None else Budget(self.rtf, self.ms)


def parse_seconds(texts: Sequence[str]) -> list[float]:
    """Parse lengths; one text can hold several, with commas.

    Raises
    ------
    ValueError
        If one is not a number.

    Example
    -------
    >>> parse_seconds(["2", "10,30"])
    [2.0, 10.0, 30.0]
    """
    lengths = []
    for text in ",".join(texts).split(",") if texts else []:
        try:
            lengths.append(float(text))
        except ValueError:
            raise ValueError(f"--seconds {text}: give numbers, e.g. 2,10") from None
    return lengths
