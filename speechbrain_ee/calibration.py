# SPDX-License-Identifier: Apache-2.0
"""Thresholds from a development set: for a cost, for a WER, or with a promise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from speechbrain_ee.calibration_file import make_calibration
from speechbrain_ee.confidence import fit_confidence
from speechbrain_ee.learned import fit_learned_score
from speechbrain_ee.policies import (
    FixedExit,
    LearnedThreshold,
    Patience,
    Policy,
    ScoreThreshold,
    ThresholdPolicy,
)
from speechbrain_ee.replay import ExitCounts, replay
from speechbrain_ee.risk import TESTS, furthest_safe, sum_by_group
from speechbrain_ee.scores import SCORES
from speechbrain_ee.sweeps import cheapest_threshold, choose_threshold, exits_taken, unsureness, usable_scores
from speechbrain_ee.utterances import split_by_speaker

MIN_UTTERANCES, MIN_SPEAKERS = 50, 5  # for a promise
OTHER_SCORES = ("learned", "patience")
PATH_LENGTH = 240
TARGETS = ("mean_cost", "max_wer", "max_wer_increase", "promise", "average")


def calibrate(
    utterances: Sequence[Mapping],
    *,
    score: str,
    target: Mapping,
    fitted_on: str = "dev",
    model: str | None = None,
    seed: int = 0,
) -> dict:
    """Choose a threshold for one target and say what holds of it.

    A learned score is fitted on one half of the utterances (no speaker in both) and its threshold chosen on the other.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``, of a development set.
    score : str
        A name of ``speechbrain_ee.scores.SCORES``, ``patience`` or ``learned``.
    target : mapping
        One of ``mean_cost`` (share of the full model's), ``max_wer`` (percent), ``max_wer_increase`` (points),
        ``promise`` (points, with ``delta``, ``test`` and ``bound`` of :func:`for_promise`) and ``average`` (points).
    fitted_on : str
        Name of the set, for the record.
    model : str, optional
        Fingerprint of the model, for the record.
    seed : int
        Of the halves.

    Returns
    -------
    dict
        The contents of ``calibration.json``.

    Raises
    ------
    ValueError
        If the target is unknown or out of reach, or the score unknown or not in the file.
    """
    if score not in SCORES and score not in OTHER_SCORES:
        raise ValueError(f"unknown exit score {score!r}; known: {', '.join([*OTHER_SCORES, *SCORES])}")
    if not utterances:
        raise ValueError("no utterances to calibrate on; evaluate a manifest first")
    kinds = [name for name in TARGETS if name in target]
    if len(kinds) != 1:
        raise ValueError(f"target {dict(target)} is not one of {', '.join(TARGETS)}: give one of them")
    confidence = fit_confidence(utterances)
    by_speaker = len({one.get("speaker") for one in utterances}) > 1
    policy, utterances, path = _candidate(score, utterances, seed)
    value, options = target[kinds[0]], {name: target[name] for name in target if name not in TARGETS}
    promise = None
    if kinds[0] == "promise":
        policy, promise = for_promise(policy, utterances, path, epsilon=value, by_speaker=by_speaker, **options)
    elif kinds[0] == "average":
        policy, promise = for_average(policy, utterances, path, epsilon=value, by_speaker=by_speaker, **options)
    else:
        make = {"mean_cost": for_mean_cost, "max_wer": for_max_wer, "max_wer_increase": for_max_wer_increase}
        policy = make[kinds[0]](policy, utterances, value, **options)
    record = {"score": score, "target": target, "promise": promise, "fitted_on": fitted_on, "model": model}
    return make_calibration(policy, utterances, confidence=confidence, **record)


def _candidate(score: str, utterances: Sequence[Mapping], seed: int) -> tuple[ThresholdPolicy, Sequence, list[float]]:
    """The policy whose threshold is to be chosen, the utterances for that, and the path to try."""
    num_exits = len(utterances[0]["exits"]) if utterances else 0
    if score != "learned":
        policy = Patience(1) if score == "patience" else ScoreThreshold(score, 0.0, guarded=score == "posterior")
        return policy, utterances, threshold_path(policy, None, num_exits)
    fitting, rest = split_by_speaker(utterances, seed)
    per_second = all(one.get("duration") for one in utterances)
    names = [name for name in usable_scores(utterances) if not SCORES[name].from_decoder]  # known before decoding
    policy = LearnedThreshold(fit_learned_score(fitting, names, per_second=per_second), 0.0)
    return policy, rest, threshold_path(policy, fitting, num_exits)


def threshold_path(policy: ThresholdPolicy, fitted_on: Sequence[Mapping] | None, num_exits: int) -> list[float]:
    """Thresholds from "always the last exit" to "always the first", fixed without the utterances they are tried on.

    Arguments
    ---------
    policy : ThresholdPolicy
        Whose thresholds.
    fitted_on : sequence of dict, optional
        Other utterances, for a learned score, whose scale is not known beforehand.
    num_exits : int
        Exits of the model.

    Returns
    -------
    list of float
        Rising risk.

    Raises
    ------
    ValueError
        If a learned score comes without utterances.
    """
    if isinstance(policy, Patience):
        return [float(row) for row in range(num_exits, 0, -1)]
    if isinstance(policy, LearnedThreshold):
        if not fitted_on:
            raise ValueError("the path of a learned score needs the utterances that it was fitted on")
        values = np.fmin.accumulate(unsureness(policy, fitted_on), axis=1)
        quantiles = np.quantile(values[np.isfinite(values)], np.linspace(0, 1, PATH_LENGTH))
        return [-math.inf, *np.unique(quantiles).tolist()]
    grid = np.geomspace(1e-6, 1.0, PATH_LENGTH)  # all scores lie in [0, 1]
    return [math.inf, *(1 - grid)] if policy.higher_is_surer else [-math.inf, *grid]


def for_max_wer(policy: ThresholdPolicy, utterances: Sequence[Mapping], max_wer: float) -> Policy:
    """Make the cheapest policy whose WER on these utterances is at most a target.

    Raises
    ------
    ValueError
        If the last exit itself does not reach it.
    """
    full = replay(FixedExit(), utterances).wer
    if full > max_wer:
        raise ValueError(f"no exit reaches a WER of {max_wer} %: the last one has {full:.2f} % here")
    return for_max_wer_increase(policy, utterances, max_wer - full)


def for_max_wer_increase(policy: ThresholdPolicy, utterances: Sequence[Mapping], points: float) -> Policy:
    """Make the cheapest policy that loses at most so many points against the last exit on these utterances."""
    threshold = choose_threshold(policy, utterances, points)["threshold"]
    return FixedExit() if threshold is None else policy.with_threshold(threshold)


def for_mean_cost(policy: ThresholdPolicy, utterances: Sequence[Mapping], share: float) -> Policy:
    """Make the policy with the fewest errors whose mean cost is at most a share of the full model's.

    Cost is MACs, or layers where MACs are unknown.

    Raises
    ------
    ValueError
        If the first exit costs more.
    """
    if not 0 < share <= 1:
        raise ValueError(f"mean_cost is {share}: give a share of the full model's cost, above 0 and at most 1")
    threshold, cheapest = cheapest_threshold(policy, utterances, share)
    if threshold is None:
        raise ValueError(
            f"no exit costs as little as {share:.3g} of the full model: the first one costs {cheapest:.3g}"
        )
    return policy.with_threshold(threshold)


def for_promise(
    policy: ThresholdPolicy,
    utterances: Sequence[Mapping],
    path: Sequence[float],
    *,
    epsilon: float,
    delta: float = 0.1,
    test: str = "t",
    bound: float = 3.0,
    by_speaker: bool = False,
) -> tuple[Policy, dict]:
    """Make the policy furthest along a path of which it can be promised that it costs at most ``epsilon`` points.

    The promise: on utterances like these, WER is at most ``epsilon`` points above the last exit's, unless the draw of
    these utterances was one of the ``delta`` share of bad ones. See :mod:`speechbrain_ee.risk`.

    Arguments
    ---------
    policy : ThresholdPolicy
        Its own threshold does not matter.
    utterances : sequence of dict
        Lines of ``utterances.jsonl`` that nothing else was fitted on.
    path : sequence of float
        See :func:`threshold_path`.
    epsilon : float
        Points of WER, above 0.
    delta : float
        In (0, 1).
    test : str
        ``t`` (asymptotic), ``betting`` or ``hoeffding-bentkus`` (finite samples, D - epsilon n clipped).
    bound : float
        Words to which the last two clip the excess of an utterance; what they promise is about this clipped loss.
    by_speaker : bool
        Whether speakers, not utterances, are what is independent; an utterance of unknown speaker is one of its own.

    Returns
    -------
    tuple of Policy and dict
        The policy (the last exit if nothing can be promised), and what was promised, by which test, from how many.

    Raises
    ------
    ValueError
        If there are fewer than 50 utterances or 5 speakers, or a number makes no sense.
    """
    _check_promise(utterances, epsilon, delta, test, bound)
    excess, taken = _excess(policy, utterances, path, epsilon)
    if test != "t":
        excess = np.clip(excess, -bound, bound)
    excess, largest = _independent(excess, utterances, by_speaker)
    safe = furthest_safe(excess, delta=delta, test=test, bound=bound * largest)
    granted = _stops_early(taken, safe)
    record = {
        "granted": granted,
        "epsilon": epsilon,
        "delta": delta,
        "test": test,
        "asymptotic": test == "t",
        "bound_words": None if test == "t" else bound,
        "independent": "speakers" if by_speaker else "utterances",
        "num_independent": len(excess),
        "steps_of_path": [safe, len(path)],
    }
    return (policy.with_threshold(path[safe - 1]) if granted else FixedExit()), record


def for_average(
    policy: ThresholdPolicy,
    utterances: Sequence[Mapping],
    path: Sequence[float],
    *,
    epsilon: float,
    bound: float = 3.0,
    by_speaker: bool = False,
) -> tuple[Policy, dict]:
    """Make the policy furthest along a path that costs at most ``epsilon`` points on average over calibration sets.

    Conformal risk control (Angelopoulos et al., arXiv 2208.02814) on D - epsilon n, clipped, and made to rise along the
    path as the method needs. Weaker than :func:`for_promise`: about half of all calibration sets may do worse.

    Arguments
    ---------
    policy : ThresholdPolicy
        Its own threshold does not matter.
    utterances : sequence of dict
        Lines of ``utterances.jsonl`` that nothing else was fitted on.
    path : sequence of float
        See :func:`threshold_path`.
    epsilon : float
        Points of WER, above 0.
    bound : float
        Words per utterance to which is clipped.
    by_speaker : bool
        See :func:`for_promise`.

    Returns
    -------
    tuple of Policy and dict
        The policy, and what holds of it.
    """
    _check_promise(utterances, epsilon, 0.5, "t", bound)
    excess, taken = _excess(policy, utterances, path, epsilon)
    rising = np.maximum.accumulate(np.clip(excess, -bound, bound), axis=1)
    rising, largest = _independent(rising, utterances, by_speaker)
    risk = (rising.sum(axis=0) + bound * largest) / (len(rising) + 1)
    safe = int((risk <= 0).sum())  # it rises along the path
    granted = _stops_early(taken, safe)
    record = {"granted": granted, "epsilon": epsilon, "on_average": True, "bound_words": bound}
    return (policy.with_threshold(path[safe - 1]) if granted else FixedExit()), record


def _excess(
    policy: ThresholdPolicy, utterances: Sequence[Mapping], path: Sequence[float], epsilon: float
) -> tuple[np.ndarray, np.ndarray]:
    """D - epsilon n in words, and the exits taken, (utterances, path)."""
    counts = ExitCounts.of(utterances)
    taken = exits_taken(policy, utterances, path)
    extra = np.take_along_axis(counts.errors, taken, axis=1) - counts.errors[:, -1:]
    return extra - epsilon / 100 * counts.words[:, None], taken


def _independent(excess: np.ndarray, utterances: Sequence[Mapping], by_speaker: bool) -> tuple[np.ndarray, int]:
    """Sum what belongs to one speaker, and say how many utterances the most talkative one has."""
    if not by_speaker:
        return excess, 1
    speakers = [utterance.get("speaker") for utterance in utterances]
    sums = sum_by_group(excess, speakers)
    if len(sums) < MIN_SPEAKERS:
        raise ValueError(
            f"a promise needs at least {MIN_SPEAKERS} speakers, and there are {len(sums)} (a learned score is fitted "
            "on the other half of them): evaluate more, or calibrate another score"
        )
    return sums, int(sum_by_group(np.ones(len(speakers)), speakers).max())


def _stops_early(taken: np.ndarray, safe: int) -> bool:
    """Whether the last safe step saves anything; the first ones of a path stop nobody."""
    return safe > 0 and bool((taken[:, safe - 1] < taken[:, 0].max()).any())


def _check_promise(utterances: Sequence[Mapping], epsilon: float, delta: float, test: str, bound: float) -> None:
    if len(utterances) < MIN_UTTERANCES:
        raise ValueError(
            f"a promise needs at least {MIN_UTTERANCES} utterances, and there are {len(utterances)} (a learned score "
            "is fitted on the other half)"
        )
    if test not in TESTS:
        raise ValueError(f"unknown test {test!r}; known: {', '.join(TESTS)}")
    if not (epsilon > 0 and 0 < delta < 1 and bound > 0):
        raise ValueError(f"epsilon={epsilon}, delta={delta}, bound={bound}: give points above 0, 0 < delta < 1, words")
