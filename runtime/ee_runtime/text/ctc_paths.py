# SPDX-License-Identifier: Apache-2.0
"""CTC paths: one token per frame, with repetitions and blanks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import numpy as np

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


def align(log_probs: np.ndarray, tokens: Sequence[int]) -> list[int]:
    """Return the most probable CTC path of a token sequence (forced alignment by the Viterbi algorithm).

    Arguments
    ---------
    log_probs : np.ndarray
        (frames, vocab).
    tokens : sequence of int
        Labels, without blanks.

    Returns
    -------
    list of int
        One token or blank per frame; all blank if the frames are too few for the tokens.

    Example
    -------
    >>> log_probs = np.log([[0.1, 0.9, 0.0001], [0.8, 0.1, 0.1], [0.1, 0.0001, 0.9]])
    >>> align(log_probs, [1, 2])
    [1, 0, 2]
    """
    num_frames = len(log_probs)
    if num_frames < ctc_frames_needed(tokens) or not tokens:
        return [BLANK_INDEX] * num_frames
    states = np.full(2 * len(tokens) + 1, BLANK_INDEX)  # blank, token, blank, token, ..., blank
    states[1::2] = tokens
    may_skip = np.zeros(len(states), bool)  # from the token before, over the blank between
    may_skip[3::2] = states[3::2] != states[1:-2:2]
    scores = np.full(len(states), -np.inf)
    scores[:2] = log_probs[0, states[:2]]
    steps = np.zeros((num_frames, len(states)), np.int8)
    for frame in range(1, num_frames):
        one, two = np.full((2, len(states)), -np.inf)
        one[1:] = scores[:-1]
        two[2:] = np.where(may_skip[2:], scores[:-2], -np.inf)
        choices = np.stack([scores, one, two])
        steps[frame] = choices.argmax(0)
        scores = choices.max(0) + log_probs[frame, states]
    state = len(states) - 1 - int(scores[-2] > scores[-1])
    path = []
    for frame in range(num_frames - 1, -1, -1):
        path.append(int(states[state]))
        state -= int(steps[frame, state])  # the difference of an int and an int8 would be an int8
    return path[::-1]
