# SPDX-License-Identifier: Apache-2.0
"""CTC paths: one token per frame, with repetitions and blanks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from ee_runtime.special_tokens import BLANK_INDEX


def collapse(path: Sequence[int], blank_index: int = BLANK_INDEX) -> list[int]:
    """Return the tokens of a CTC path: repetitions merged, blanks removed.

    Example
    -------
    >>> collapse([0, 5, 5, 0, 5, 6])
    [5, 5, 6]
    """
    return [token for token, _ in groupby(path) if token != blank_index]


def token_runs(path: Sequence[int]) -> list[tuple[int, int, int]]:
    """Return the tokens of a CTC path as :func:`collapse` does, each with its first frame and the frame after its last.

    Example
    -------
    >>> token_runs([0, 5, 5, 0, 5, 6])
    [(5, 1, 3), (5, 4, 5), (6, 5, 6)]
    """
    found, frame = [], 0
    for token, run in groupby(path):
        start, frame = frame, frame + len(list(run))
        if token != BLANK_INDEX:
            found.append((token, start, frame))
    return found


def ctc_frames_needed(tokens: Sequence[int]) -> int:
    """Count the frames that CTC needs to emit tokens: one per token, and a blank between equal neighbours.

    Arguments
    ---------
    tokens : Sequence[int]
        Labels of one utterance.

    Returns
    -------
    int
        The smallest number of frames.

    Example
    -------
    >>> ctc_frames_needed([5, 5, 7])  # 5, blank, 5, 7
    4
    """
    return len(tokens) + sum(a == b for a, b in zip(tokens, tokens[1:], strict=False))
