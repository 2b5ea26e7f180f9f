# SPDX-License-Identifier: Apache-2.0
"""Confidence intervals of pooled error rates by a bootstrap over speakers.

kaldialign's bootstrap is not used, because it resamples utterances only, and utterances of one speaker are not
independent.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from speechbrain_ee.replay.speakers import sum_by_speaker
from speechbrain_ee.text.metrics import check_counts


def bootstrap_ci95(
    errors: Sequence[int] | np.ndarray,
    words: Sequence[int],
    speakers: Sequence[Hashable | None] | None = None,
    num_samples: int = 1000,
    seed: int = 0,
) -> np.ndarray:
    """Return the 95 % percentile interval of the pooled WER by a bootstrap over speakers.

    Source: Bisani and Ney, "Bootstrap estimates for confidence intervals in ASR performance
    evaluation", ICASSP 2004; speakers are resampled as clusters because the errors of one speaker's
    utterances are correlated. With fewer than about ten speakers the interval is too narrow.

    Arguments
    ---------
    errors : sequence of int or np.ndarray
        Errors (S + D + I) of each utterance, (utterances,) or (utterances, columns).
    words : sequence of int
        Reference words of each utterance.
    speakers : sequence, optional
        Speaker of each utterance; see :func:`~speechbrain_ee.replay.speakers.speaker_groups`. None resamples
        utterances.
    num_samples : int
        Number of bootstrap samples.
    seed : int
        Seed of the samples. The same seed draws the same speakers, so intervals of several exits are comparable.

    Returns
    -------
    np.ndarray
        (2,) or (columns, 2): lower and upper end in percent.

    Raises
    ------
    ValueError
        If there is no reference word, or lengths differ.

    Example
    -------
    >>> bootstrap_ci95([1, 1, 1], [10, 10, 10]).tolist()
    [10.0, 10.0]
    """
    errors, words = (sum_by_speaker(values, speakers).astype(float) for values in check_counts(errors, words))
    rng = np.random.default_rng(seed)
    rates = np.full((num_samples, *errors.shape[1:]), np.nan)  # a sample without words remains NaN
    for sample in range(num_samples):  # A matrix of all samples would need GBs for 100,000 utterances.
        counts = np.bincount(rng.integers(len(words), size=len(words)), minlength=len(words)).astype(float)
        if num_words := counts @ words:
            rates[sample] = 100.0 * (counts @ errors) / num_words
    return np.nanpercentile(rates, [2.5, 97.5], axis=0).T
