# SPDX-License-Identifier: Apache-2.0
"""CTC paths: one token per frame, repetitions and blanks included."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from speechbrain_ee.special_tokens import BLANK_INDEX


def token_runs(path: Sequence[int]) -> list[tuple[int, int, int]]:
    """Tokens of a CTC path, each with its first frame and the frame after its last.

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
    """Counts the frames that CTC needs: one per token, and a blank between equal neighbours.

    Arguments
    ---------
    tokens : Sequence[int]
        Labels of one utterance.

    Returns
    -------
    int
        The fewest frames that can emit them.

    Example
    -------
    >>> ctc_frames_needed([5, 5, 7])  # 5, blank, 5, 7
    4
    """
    return len(tokens) + sum(a == b for a, b in zip(tokens, tokens[1:], strict=False))
