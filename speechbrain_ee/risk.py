# SPDX-License-Identifier: Apache-2.0
"""Tests behind a promise about thresholds: p-values for "the mean excess is above 0", and where they let a path go.

With D = errors at the exit taken - errors at the last exit and n = words of an utterance, a threshold costs at most
epsilon points of WER where E[D - epsilon n] <= 0. Learn-then-Test (Angelopoulos et al., arXiv 2110.01052) tests the
opposite for every threshold of a path that was fixed beforehand, from the safest on, and stops at the first that cannot
be refuted: fixed-sequence testing, so that the chance of any wrong promise is at most delta.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Sequence

import numpy as np
from scipy import stats


def t_p_value(excess: np.ndarray) -> float:
    """One-sided t test; asymptotic, so right only for many utterances (or speakers).

    Arguments
    ---------
    excess : np.ndarray
        (n,) independent values of D - epsilon n.

    Returns
    -------
    float
        Chance of a mean this low if the true one is 0; small means that the mean is below 0.

    Example
    -------
    >>> round(t_p_value(np.array([-1.0, -2.0, -3.0])), 3)
    0.037
    """
    if len(excess) < 2:
        return 1.0
    mean, deviation = excess.mean(), excess.std(ddof=1)
    if deviation == 0:
        return 0.0 if mean < 0 else 1.0
    return float(stats.t.cdf(mean / (deviation / math.sqrt(len(excess))), df=len(excess) - 1))


def hoeffding_bentkus_p_value(excess: np.ndarray, bound: float) -> float:
    """Hoeffding-Bentkus bound, valid for any number of values (Bates et al., arXiv 2101.02703).

    Arguments
    ---------
    excess : np.ndarray
        (n,) independent values; clipped to +-bound, which the promise is then about.
    bound : float
        Words.

    Returns
    -------
    float
        At most 1.

    Example
    -------
    >>> round(hoeffding_bentkus_p_value(np.full(50, -0.5), bound=1.0), 4)
    0.0013
    """
    risk = float((np.clip(excess, -bound, bound).mean() + bound) / (2 * bound))  # in [0, 1]; 1/2 is a mean of 0
    if risk >= 0.5:
        return 1.0
    n, limit = len(excess), 0.5
    divergence = _xlogy(risk, risk / limit) + _xlogy(1 - risk, (1 - risk) / (1 - limit))
    bentkus = math.e * stats.binom.cdf(math.ceil(n * risk), n, limit)
    return float(min(1.0, math.exp(-n * divergence), bentkus))


def betting_p_value(excess: np.ndarray, bound: float) -> float:
    """Test by betting, valid for any number of values and sharper where their spread is small.

    The capital of a gambler who bets that the mean is below 0, with a stake learned from the values before
    (Waudby-Smith and Ramdas, "Estimating means of bounded random variables by betting", arXiv 2010.09686); by Ville's
    inequality it seldom grows large if the mean is not.

    Arguments
    ---------
    excess : np.ndarray
        (n,) independent values in random order; clipped to +-bound, which the promise is then about.
    bound : float
        Words.

    Returns
    -------
    float
        One over the largest capital.

    Example
    -------
    >>> betting_p_value(np.full(50, -0.5), bound=1.0) < 0.0001
    True
    """
    x = np.clip(excess, -bound, bound) / bound  # in [-1, 1]
    count = np.arange(1, len(x) + 1)
    mean = np.cumsum(x) / (count + 1)  # shrunk to 0
    variance = (0.25 + np.cumsum((x - mean) ** 2)) / (count + 1)
    stake = np.clip(-mean / (variance + mean**2), 0.0, 0.5)  # Kelly's, to second order
    stake = np.concatenate([[0.0], stake[:-1]])  # from the values before only
    log_capital = np.cumsum(np.log1p(-stake * x))
    return float(min(1.0, math.exp(-max(0.0, log_capital.max(initial=0.0)))))


TESTS: dict[str, Callable[[np.ndarray, float], float]] = {
    "t": lambda excess, bound: t_p_value(excess),
    "hoeffding-bentkus": hoeffding_bentkus_p_value,
    "betting": betting_p_value,
}


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


def furthest_safe(excess: np.ndarray, *, delta: float, test: str, bound: float) -> int:
    """Go along a path until a step cannot be shown to be safe.

    Arguments
    ---------
    excess : np.ndarray
        (n, path) values of D - epsilon n at every threshold of the path, the safest first.
    delta : float
        Chance of a broken promise that is allowed.
    test : str
        A name of ``TESTS``.
    bound : float
        Words to which a test that is valid in finite samples clips.

    Returns
    -------
    int
        Number of steps that are safe; 0 if none is.

    Example
    -------
    >>> excess = np.stack([np.full(50, -0.1), np.full(50, 0.1), np.full(50, -0.1)], axis=1)
    >>> furthest_safe(excess, delta=0.1, test="betting", bound=1.0)
    1
    """
    # One order for all steps, and none that files have: the betting test goes through the values in turn.
    excess = np.random.default_rng(0).permutation(excess)
    for step in range(excess.shape[1]):
        if TESTS[test](excess[:, step], bound) > delta:
            return step
    return excess.shape[1]


def _xlogy(x: float, y: float) -> float:
    return x * math.log(y) if x > 0 else 0.0
