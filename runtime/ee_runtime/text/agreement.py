# SPDX-License-Identifier: Apache-2.0
"""Agreement of two token sequences: the exit score that compares the texts of successive exits."""

from __future__ import annotations

from collections.abc import Sequence


def token_agreement(a: Sequence[int], b: Sequence[int]) -> float:
    """Compute 1 - edit distance / longer length of two token sequences; 0 if both are empty, the least sure value.

    Example
    -------
    >>> token_agreement([5, 6], [5, 7]), token_agreement([], [])
    (0.5, 0.0)
    """
    return 1 - edit_distance(a, b) / max(len(a), len(b)) if a or b else 0.0


def edit_distance(a: Sequence[int], b: Sequence[int]) -> int:
    """Count the insertions, deletions and substitutions between two sequences (the Levenshtein distance).

    A column of the distance matrix is a few bit operations on integers of ``len(a)`` bits.

    Source: Hyyrö, "Explaining and extending the bit-parallel approximate string matching algorithm of Myers", 2001.

    Example
    -------
    >>> edit_distance("kitten", "sitting"), edit_distance([], [1, 2])
    (3, 2)
    """
    if not a:
        return len(b)
    positions: dict[int, int] = {}
    for row, token in enumerate(a):
        positions[token] = positions.get(token, 0) | 1 << row
    mask, last = (1 << len(a)) - 1, 1 << len(a) - 1
    rises, falls, distance = mask, 0, len(a)  # bits where the distance grows or shrinks from one row to the next
    for token in b:
        equal = positions.get(token, 0)
        zeros = ((((equal & rises) + rises) ^ rises) | equal | falls) & mask
        right_rises = falls | ~(zeros | rises) & mask
        right_falls = rises & zeros
        distance += bool(right_rises & last) - bool(right_falls & last)
        right_rises = right_rises << 1 | 1
        rises = (right_falls << 1 | ~(zeros | right_rises)) & mask
        falls = right_rises & zeros & mask
    return distance
