# SPDX-License-Identifier: Apache-2.0
"""Group utterances by speaker: utterances of one speaker are not independent.

An utterance without a speaker is a group by itself. If all utterances are of one speaker, every utterance is a group.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping, Sequence

import numpy as np


def speaker_groups(speakers: Sequence[Hashable | None]) -> np.ndarray:
    """Number the groups in the order of their first utterance.

    Arguments
    ---------
    speakers : sequence
        Speaker of each utterance; None is unknown.

    Returns
    -------
    np.ndarray
        (utterances,) integers.

    Example
    -------
    >>> speaker_groups(["a", None, "a", None]).tolist(), speaker_groups(["a", "a"]).tolist()
    ([0, 1, 0, 2], [0, 1])
    """
    numbers: dict[Hashable, int] = {}
    keys = [("unknown", row) if speaker is None else speaker for row, speaker in enumerate(speakers)]
    groups = np.array([numbers.setdefault(key, len(numbers)) for key in keys], dtype=int)
    return np.arange(len(speakers)) if len(numbers) < 2 else groups


def sum_by_speaker(values: np.ndarray, speakers: Sequence[Hashable | None] | None) -> np.ndarray:
    """Sum the rows of each group, (utterances, ...) -> (groups, ...).

    Arguments
    ---------
    values : np.ndarray
        One row per utterance.
    speakers : sequence, optional
        See :func:`speaker_groups`; None returns the values unchanged.

    Returns
    -------
    np.ndarray
        One row per group, in the order of :func:`speaker_groups`.

    Raises
    ------
    ValueError
        If there is not one speaker per row.

    Example
    -------
    >>> sum_by_speaker(np.array([1, 2, 3]), ["a", None, "a"])
    array([4, 2])
    """
    if speakers is None:
        return values
    if len(speakers) != len(values):
        raise ValueError(f"got {len(speakers)} speakers for {len(values)} utterances; give one each")
    groups = speaker_groups(speakers)
    sums = np.zeros((groups.max(initial=-1) + 1, *values.shape[1:]), dtype=values.dtype)
    np.add.at(sums, groups, values)
    return sums


def split_by_speaker(utterances: Sequence[Mapping], seed: int = 0) -> tuple[list, list]:
    """Split utterances at random into two halves that share no group.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.
    seed : int
        Seed of the split.

    Returns
    -------
    tuple of list
        Two lists with about the same number of utterances.

    Example
    -------
    >>> first, second = split_by_speaker([{"speaker": name} for name in "aabbccdd"])
    >>> len(first), {one["speaker"] for one in first} & {one["speaker"] for one in second}
    (4, set())
    """
    groups: dict[int, list] = {}
    numbers = speaker_groups([utterance.get("speaker") for utterance in utterances])
    for number, utterance in zip(numbers.tolist(), utterances, strict=True):
        groups.setdefault(number, []).append(utterance)
    halves: tuple[list, list] = ([], [])
    for group in random.Random(seed).sample(list(groups.values()), len(groups)):
        min(halves, key=len).extend(group)
    return halves
