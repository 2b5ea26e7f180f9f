# SPDX-License-Identifier: Apache-2.0
"""The test behind a promise about thresholds, and how many utterances or speakers a promise needs.

With D = errors at the exit taken - errors at the last exit and n = words of an utterance, a threshold costs at most
epsilon points of WER where E[D] <= epsilon / 100 * E[n]. Learn-then-Test (Angelopoulos et al., arXiv 2110.01052) tests
the opposite for every threshold of a path that was fixed beforehand, from the safest on, and stops at the first that
cannot be refuted: fixed-sequence testing, so that the chance of any wrong promise is at most delta.

Losses are rare and some are large, so a t test is far too sure of a small set: 50 utterances without a loss prove
little. The bound here is the gamma bound for weighted sums of rare events (Fay and Feuer, "Confidence intervals for
directly standardized rates: a method based on the gamma distribution", Statistics in Medicine 16, 1997). It is the
exact bound of a Poisson count where all losses have one size, and the normal one where there are many. The size of a
loss is estimated together with one that was not observed, the pseudo-loss. ``benchmarks/promise.py`` shows by
simulation at which sizes of set this is enough; it is no proof for all distributions.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

PSEUDO_WORDS = 8.0  # what an utterance loses that may have been missed by chance
PSEUDO_SPEAKERS = 0.1  # share of speakers with a loss that may have been missed by chance
PSEUDO_WEIGHT = 0.35  # of the pseudo-loss among those that were observed
TEST_NAME = "gamma"


def pseudo_loss(allowed: np.ndarray | float, by_speaker: bool) -> np.ndarray | float:
    """Words that an utterance or a speaker loses who may have been missed by chance.

    Arguments
    ---------
    allowed : float or np.ndarray
        Mean words that an utterance or a speaker may lose, epsilon / 100 * n.
    by_speaker : bool
        Whether a row is a speaker. One speaker in ten then may lose all that ten may lose together, and 8 words more.

    Returns
    -------
    float or np.ndarray
        Words.

    Example
    -------
    >>> pseudo_loss(0.1, by_speaker=False), round(pseudo_loss(2.0, by_speaker=True), 2)
    (8.0, 26.98)
    """
    return PSEUDO_WORDS - by_speaker * allowed / math.log1p(-PSEUDO_SPEAKERS)


def fewest(delta: float, allowed: float, by_speaker: bool) -> int:
    """How many utterances or speakers without any loss are enough for a promise.

    Arguments
    ---------
    delta : float
        Chance of a broken promise that is allowed.
    allowed : float
        See :func:`pseudo_loss`.
    by_speaker : bool
        Whether speakers are counted.

    Returns
    -------
    int
        With fewer, nothing can be promised.

    Example
    -------
    >>> fewest(0.1, 0.2, by_speaker=False)  # 1 point, 20 words: exp(-93 * 0.2 / 8) is below 0.1
    93
    """
    return math.ceil(-math.log(delta) * pseudo_loss(allowed, by_speaker) / allowed)


def fewest_speakers(delta: float) -> int:
    """How many speakers a promise needs, however much each of them says.

    With fewer, a failure of one speaker in ten is absent from the set with a chance above ``delta``.

    Example
    -------
    >>> fewest_speakers(0.1), fewest_speakers(0.05)  # 0.9 ** 22 is below 0.1
    (22, 29)
    """
    return math.ceil(math.log(delta) / math.log1p(-PSEUDO_SPEAKERS))


@dataclass(frozen=True)
class LossSums:
    """Sums over a set of powers of D and of the words n, at every threshold of a path; all that a promise looks at.

    Arguments
    ---------
    size : np.ndarray
        Number of utterances or speakers.
    d, d2, d3 : np.ndarray
        Sums of D, D^2 and D^3.
    dn, d2n, dn2 : np.ndarray
        Sums of D n, D^2 n and D n^2.
    n, n2, n3 : np.ndarray
        Sums of n, n^2 and n^3.
    """

    size: np.ndarray
    d: np.ndarray
    d2: np.ndarray
    d3: np.ndarray
    dn: np.ndarray
    d2n: np.ndarray
    dn2: np.ndarray
    n: np.ndarray
    n2: np.ndarray
    n3: np.ndarray

    @classmethod
    def of(cls, extra: np.ndarray, words: np.ndarray, counts: np.ndarray | None = None) -> LossSums:
        """Add up.

        Arguments
        ---------
        extra : np.ndarray
            (n, path): D of independent utterances or speakers at every threshold of a path.
        words : np.ndarray
            (n,): reference words of each.
        counts : np.ndarray, optional
            (draws, n): how often each row is in a set; None is one set with each row once. For simulations.

        Returns
        -------
        LossSums
            Of shape (path,), or (draws, path).
        """
        some = np.asarray(extra).any(axis=1)  # losses are rare: most rows add nothing to the sums of D
        d, n = np.asarray(extra, dtype=float)[some], np.asarray(words, dtype=float)
        weights = np.ones(len(n)) if counts is None else np.asarray(counts, dtype=float)
        lost, of_lost = weights[..., some], n[some, None]
        powers = {"d": d, "d2": d**2, "d3": d**3, "dn": d * of_lost, "d2n": d**2 * of_lost, "dn2": d * of_lost**2}
        of_words = {name: (weights @ n**power)[..., None] for name, power in (("n", 1), ("n2", 2), ("n3", 3))}
        sums = {name: lost @ values for name, values in powers.items()}
        return cls(size=weights.sum(axis=-1)[..., None], **sums, **of_words)


def p_values(sums: LossSums, *, epsilon: float, by_speaker: bool = False) -> np.ndarray:
    """Chance of losses this few if the true loss is epsilon points; small means that it is less.

    Let R be the observed loss per word, r = D - R n, V = sum of r^2, K = sum of r^3, L the pseudo-loss and c its
    weight. The typical size of a loss is s = (K + c L^3) / (V + c L^2), and what could truly be lost is distributed
    as sum of D - V / s + s G, where G has a gamma distribution of shape V / s^2 + 1.

    Arguments
    ---------
    sums : LossSums
        Of a set, or of many draws.
    epsilon : float
        Points of WER.
    by_speaker : bool
        See :func:`pseudo_loss`.

    Returns
    -------
    np.ndarray
        (path,), or (draws, path).

    Example
    -------
    >>> nothing_lost = LossSums.of(np.zeros((100, 1)), np.full(100, 20))
    >>> p_values(nothing_lost, epsilon=1.0).round(4)  # exp(-100 * 0.2 / 8)
    array([0.0821])
    """
    rate = sums.d / sums.n
    spread = np.maximum(sums.d2 - 2 * rate * sums.dn + rate**2 * sums.n2, 0.0)  # V; rounding
    skew = sums.d3 - 3 * rate * sums.d2n + 3 * rate**2 * sums.dn2 - rate**3 * sums.n3  # K
    allowed = epsilon / 100 * sums.n
    unseen = pseudo_loss(allowed / sums.size, by_speaker)  # L
    loss = (skew + PSEUDO_WEIGHT * unseen**3) / (spread + PSEUDO_WEIGHT * unseen**2)  # s
    loss = np.maximum(loss, 0.01 * np.sqrt(spread) + 1e-9)  # where gains are skewed: the normal bound
    room = np.maximum(spread / loss + allowed - sums.d, 0.0)
    return special.gammaincc(spread / loss**2 + 1, room / loss)


def furthest_safe(p: np.ndarray, delta: float) -> np.ndarray:
    """Go along a path until a step cannot be shown to be safe.

    Arguments
    ---------
    p : np.ndarray
        (..., path): :func:`p_values` of the path, the safest step first.
    delta : float
        Chance of a broken promise that is allowed.

    Returns
    -------
    np.ndarray
        (...): number of steps that are safe; 0 if none is.

    Example
    -------
    >>> int(furthest_safe(np.array([0.01, 0.02, 0.5, 0.01]), delta=0.1))
    2
    """
    unsafe = np.asarray(p) > delta
    return np.where(unsafe.any(axis=-1), unsafe.argmax(axis=-1), unsafe.shape[-1])


def sum_by_group(values: np.ndarray, groups: Sequence[Hashable | None] | None) -> np.ndarray:
    """Sum rows of one speaker, (utterances, ...) -> (speakers, ...): utterances of a speaker are not independent.

    Arguments
    ---------
    values : np.ndarray
        One row per utterance.
    groups : sequence, optional
        Speaker of each; None is a speaker of its own.

    Returns
    -------
    np.ndarray
        One row per speaker, in the order of their first utterance.

    Example
    -------
    >>> sum_by_group(np.array([1, 2, 3]), ["a", None, "a"])
    array([4, 2])
    """
    if groups is None:
        return values
    index: dict[Hashable, int] = {}
    keys = [("unknown", i) if group is None else group for i, group in enumerate(groups)]
    rows = [index.setdefault(key, len(index)) for key in keys]
    found = np.zeros((len(index), *values.shape[1:]), dtype=values.dtype)
    np.add.at(found, rows, values)
    return found
