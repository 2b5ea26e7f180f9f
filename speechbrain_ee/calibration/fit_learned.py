# SPDX-License-Identifier: Apache-2.0
"""Fit a learned exit score; needs scikit-learn."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ee_runtime.policies.learned import ExitRegression, LearnedScore, exit_features
from speechbrain_ee.replay.replay import ExitCounts

ALPHAS = (30.0, 100.0, 300.0, 1000.0, 3000.0)


def fit_learned_score(
    utterances: Sequence[Mapping], score_names: Sequence[str], *, per_second: bool = False
) -> LearnedScore:
    """Fit a ridge regression per exit; the leave-one-out error chooses its regularisation.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``; must not be those that a threshold is chosen on.
    score_names : sequence of str
        The scores to use; every line must have them at every exit.
    per_second : bool
        Whether cost is layers times seconds of audio, which is proportional to MACs; every line must then have a
        duration. Otherwise cost is layers, for comparisons at equal mean exit layer.

    Returns
    -------
    LearnedScore
        The score, for :class:`~ee_runtime.policies.LearnedThreshold`.

    Raises
    ------
    ValueError
        If there are no utterances, or a score or a duration is missing.
    """
    import numpy as np
    from sklearn.linear_model import RidgeCV  # not on the device

    if not utterances:
        raise ValueError("no utterances to fit a score on; evaluate a manifest first")
    layers = [one["layer"] for one in utterances[0]["exits"]]
    durations = [u.get("duration") or None for u in utterances]
    reads_duration = None not in durations
    if per_second and not reads_duration:
        raise ValueError("some utterances have no duration: fit with per_second=False")
    seconds = np.array(durations) if per_second else np.ones(len(utterances))
    errors = ExitCounts.of(utterances).errors.astype(float)
    exits = []
    for index in range(len(layers) - 1):
        scores = ([one["scores"] for one in u["exits"][: index + 1]] for u in utterances)
        read = durations if reads_duration else [None] * len(utterances)
        pairs = zip(scores, read, strict=True)
        features = np.array([exit_features(up_to, score_names, duration) for up_to, duration in pairs])
        usable = np.isfinite(features).all(axis=1)
        if not usable.any():
            raise ValueError(f"no utterance has all of {', '.join(score_names)} at layer {layers[index]}")
        mean, scale = features[usable].mean(axis=0), features[usable].std(axis=0)
        scale[scale < 1e-9] = 1.0
        gaps = np.array(layers[index + 1 :]) - layers[index]
        audio = seconds[usable]
        saved = (errors[usable, index, None] - errors[usable, index + 1 :]) / (gaps * audio[:, None])
        weights = audio / audio.mean()  # a rate over a longer time has less variance
        ridge = RidgeCV(alphas=ALPHAS).fit((features[usable] - mean) / scale, saved, sample_weight=weights)
        weights, bias = ridge.coef_.reshape(len(gaps), -1), np.atleast_1d(ridge.intercept_)
        exits.append(ExitRegression(mean.tolist(), scale.tolist(), weights.tolist(), bias.tolist()))
    return LearnedScore(list(score_names), layers, exits, per_second, reads_duration)
