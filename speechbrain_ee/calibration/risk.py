# SPDX-License-Identifier: Apache-2.0
"""The statistical test behind a promise about a threshold.

Let D be the errors at the exit taken minus the errors at the last exit, and n the words of an utterance. A threshold
costs at most epsilon points of WER if E[D] <= epsilon / 100 * E[n]. If errors are counted in characters, n is a number
of characters, and the promise is about CER. Learn-then-Test (Angelopoulos et al., arXiv
2110.01052) tests the null hypothesis that it costs more, for every threshold of a path that was fixed beforehand. It
starts at the safest threshold and stops at the first one that is not rejected (fixed-sequence testing), so the
probability of a broken promise is at most delta.

Losses are rare and some are large. A t test is therefore overconfident on small sets: 50 utterances without a loss
prove little. This module uses the gamma bound for weighted sums of rare events (Fay and Feuer, "Confidence intervals
for directly standardized rates: a method based on the gamma distribution", Statistics in Medicine 16, 1997). It equals
the exact bound of a Poisson count if all losses have the same size, and approaches the normal bound for many losses.
The size of a loss is estimated from the observed losses and one unobserved loss, the pseudo-loss. The test is
asymptotic: ``benchmarks/promise.py`` measures by simulation which set sizes are sufficient.

The p-values do not change if D, n and the pseudo-loss are all multiplied by the same number. Eight words are about 48
characters in languages with spaces, so 48 characters make the same test of characters as eight words of words. Chinese
utterances can be shorter than that: an utterance loses hardly more than all of its characters, so the pseudo-loss is
then the mean length of an utterance, weighted by the length.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy import special

from ee_runtime.text.error_units import CHAR, WORD, ErrorUnit

PSEUDO_LOSSES = {WORD: 8.0, CHAR: 48.0}  # words or characters lost in an utterance that the set may lack by chance
PSEUDO_WORDS = PSEUDO_LOSSES[WORD]
PSEUDO_SPEAKERS = 0.1  # share of speakers with a loss that the set may lack by chance
PSEUDO_WEIGHT = 0.35  # weight of the pseudo-loss; an observed loss has weight 1


def unseen_loss(lengths: np.ndarray, unit: ErrorUnit) -> float:
    """Return the loss of an utterance that a set may lack by chance, without that of other utterances of its speaker.

    Arguments
    ---------
    lengths : np.ndarray
        Words or characters of each utterance, (utterances,).
    unit : ErrorUnit
        What they are.

    Returns
    -------
    float
        8 words; or 48 characters, but not more than an utterance has.

    Example
    -------
    >>> unseen_loss(np.array([3, 3]), WORD), unseen_loss(np.array([90, 90]), CHAR)
    (8.0, 48.0)
    >>> unseen_loss(np.array([10, 20]), CHAR)  # (10 * 100 + 20 * 400) / (100 + 400)
    18.0
    """
    limit = PSEUDO_LOSSES[unit]
    if unit == WORD:
        return limit
    n = np.asarray(lengths, dtype=float)
    return min(limit, float((n**3).sum() / (n**2).sum()))


def pseudo_loss(allowed: np.ndarray | float, by_speaker: bool, unseen: float = PSEUDO_WORDS) -> np.ndarray | float:
    """Return the pseudo-loss: words lost by an utterance or a speaker that the set may lack by chance.

    Arguments
    ---------
    allowed : float or np.ndarray
        Mean words that an utterance or a speaker may lose: epsilon / 100 * n.
    by_speaker : bool
        Whether the sampling unit is a speaker. The pseudo-loss is then 8 words, plus all words that ten speakers
        may lose together.
    unseen : float
        The 8 words, or what :func:`unseen_loss` returns.

    Returns
    -------
    float or np.ndarray
        Words or characters.

    Example
    -------
    >>> pseudo_loss(0.1, by_speaker=False), round(pseudo_loss(2.0, by_speaker=True), 2)
    (8.0, 26.98)
    """
    return unseen - by_speaker * allowed / math.log1p(-PSEUDO_SPEAKERS)


@dataclass(frozen=True)
class LossSums:
    """Sums of powers of D and of the words or characters n over a set, at every threshold of a path.

    They are sufficient for the test, and cheap to compute for many simulated sets.

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
        """Compute the sums.

        Arguments
        ---------
        extra : np.ndarray
            (n, path): D of each utterance or speaker at every threshold of a path.
        words : np.ndarray
            (n,): reference words (or characters) of each.
        counts : np.ndarray, optional
            (draws, n): how often each row is in a simulated set; None is one set that has each row once.

        Returns
        -------
        LossSums
            Sums of shape (path,), or (draws, path).
        """
        some = np.asarray(extra).any(axis=1)  # losses are rare: most rows do not contribute to the sums of D
        d, n = np.asarray(extra, dtype=float)[some], np.asarray(words, dtype=float)
        weights = np.ones(len(n)) if counts is None else np.asarray(counts, dtype=float)
        lost, of_lost = weights[..., some], n[some, None]
        powers = {"d": d, "d2": d**2, "d3": d**3, "dn": d * of_lost, "d2n": d**2 * of_lost, "dn2": d * of_lost**2}
        of_words = {name: (weights @ n**power)[..., None] for name, power in (("n", 1), ("n2", 2), ("n3", 3))}
        sums = {name: lost @ values for name, values in powers.items()}
        return cls(size=weights.sum(axis=-1)[..., None], **sums, **of_words)


def p_values(sums: LossSums, *, epsilon: float, by_speaker: bool = False, unseen: float = PSEUDO_WORDS) -> np.ndarray:
    """Return the probability of losses as low as observed if the true loss were epsilon points.

    A small value is evidence that the true loss is lower.

    Let R be the observed loss per word, r = D - R n, V = sum of r^2, K = sum of r^3, L the pseudo-loss and c its
    weight. The typical size of a loss is s = (K + c L^3) / (V + c L^2). The true total loss is distributed as
    sum of D - V / s + s G, where G has a gamma distribution of shape V / s^2 + 1.

    Arguments
    ---------
    sums : LossSums
        Sums of a set, or of many simulated sets.
    epsilon : float
        Points of WER.
    by_speaker : bool
        See :func:`pseudo_loss`.
    unseen : float
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
    spread = np.maximum(sums.d2 - 2 * rate * sums.dn + rate**2 * sums.n2, 0.0)  # V; not below 0 by rounding
    skew = sums.d3 - 3 * rate * sums.d2n + 3 * rate**2 * sums.dn2 - rate**3 * sums.n3  # K
    allowed = epsilon / 100 * sums.n
    pseudo = pseudo_loss(allowed / sums.size, by_speaker, unseen)  # L
    loss = (skew + PSEUDO_WEIGHT * pseudo**3) / (spread + PSEUDO_WEIGHT * pseudo**2)  # s
    loss = np.maximum(loss, 0.01 * np.sqrt(spread) + 1e-9)  # if gains are skewed: the normal bound
    room = np.maximum(spread / loss + allowed - sums.d, 0.0)
    return special.gammaincc(spread / loss**2 + 1, room / loss)


def furthest_safe(p: np.ndarray, delta: float) -> np.ndarray:
    """Count the thresholds of a path up to the first one that is not shown to be safe.

    Arguments
    ---------
    p : np.ndarray
        (..., path): :func:`p_values` of the path, the safest threshold first.
    delta : float
        Allowed probability of a broken promise.

    Returns
    -------
    np.ndarray
        (...): number of safe thresholds.

    Example
    -------
    >>> int(furthest_safe(np.array([0.01, 0.02, 0.5, 0.01]), delta=0.1))
    2
    """
    unsafe = np.asarray(p) > delta
    return np.where(unsafe.any(axis=-1), unsafe.argmax(axis=-1), unsafe.shape[-1])
