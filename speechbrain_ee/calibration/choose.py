# SPDX-License-Identifier: Apache-2.0
"""Thresholds from a development set: for a cost, for a WER, or with a promise."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from speechbrain_ee.calibration.confidence import fit_confidence
from speechbrain_ee.calibration.fit_learned import fit_learned_score
from speechbrain_ee.calibration.record import make_calibration
from speechbrain_ee.calibration.risk import (
    PSEUDO_WORDS,
    TEST_NAME,
    LossSums,
    fewest,
    fewest_speakers,
    furthest_safe,
    p_values,
    sum_by_group,
)
from speechbrain_ee.policies import (
    FixedExit,
    LearnedThreshold,
    Patience,
    Policy,
    ScoreThreshold,
    ThresholdPolicy,
)
from speechbrain_ee.policies.scores import SCORES
from speechbrain_ee.replay.replay import ExitCounts, replay
from speechbrain_ee.replay.sweeps import (
    cheapest_threshold,
    choose_threshold,
    exits_taken,
    limits_between,
    unsureness,
    usable_scores,
)
from speechbrain_ee.replay.utterances import split_by_speaker

MIN_UTTERANCES = 50  # for a promise
DEFAULT_DELTA, AVERAGE = 0.1, 0.5  # chance of a broken promise; an average is exceeded about half of the time
OTHER_SCORES = ("learned", "patience")
PATH_LENGTH = 240
TARGETS = {
    "mean_cost": (),
    "max_wer": (),
    "max_wer_increase": (),
    "promise": ("delta", "same_speakers"),
    "average": ("same_speakers",),
}


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
        A name of ``speechbrain_ee.policies.scores.SCORES``, ``patience`` or ``learned``.
    target : mapping
        One of ``mean_cost`` (share of the full model's), ``max_wer`` (percent), ``max_wer_increase`` (points),
        ``promise`` (points, with ``delta`` and ``same_speakers`` of :func:`for_promise`) and ``average`` (points, with
        ``same_speakers``).
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
        If the target is unknown or out of reach, the score unknown or not in the file, or a recording was cut.
    """
    if score not in SCORES and score not in OTHER_SCORES:
        raise ValueError(f"unknown exit score {score!r}; known: {', '.join([*OTHER_SCORES, *SCORES])}")
    if not utterances:
        raise ValueError("no utterances to calibrate on; evaluate a manifest first")
    kind, value, options = _read_target(target)
    check_not_cut(utterances)
    if kind in ("promise", "average"):  # before half of the speakers go to a learned score
        _drawn(utterances, **{"epsilon": value, "delta": DEFAULT_DELTA if kind == "promise" else AVERAGE} | options)
    policy, rest, path = candidate(score, utterances, seed)
    promise = None
    if kind in ("promise", "average"):
        make = {"promise": for_promise, "average": for_average}[kind]
        policy, promise = make(policy, rest, path, epsilon=value, **options)
    else:
        make = {"mean_cost": for_mean_cost, "max_wer": for_max_wer, "max_wer_increase": for_max_wer_increase}
        policy = make[kind](policy, rest, value)
    confidence = fit_confidence(utterances, replay(policy, utterances).exit_indices)
    record = {"score": score, "target": target, "promise": promise, "fitted_on": fitted_on, "model": model}
    return make_calibration(policy, rest, confidence=confidence, **record)


def _read_target(target: Mapping) -> tuple[str, float, dict]:
    """What is asked for, its value and its options."""
    kinds = [name for name in TARGETS if name in target]
    if len(kinds) != 1:
        raise ValueError(f"target {dict(target)} is not one of {', '.join(TARGETS)}: give one of them")
    options = {name: target[name] for name in target if name != kinds[0]}
    if unknown := sorted(set(options) - set(TARGETS[kinds[0]])):
        allowed = ", ".join(TARGETS[kinds[0]]) or "none"
        raise ValueError(f"target {kinds[0]} has no option {', '.join(unknown)}; it has: {allowed}")
    return kinds[0], target[kinds[0]], options


def check_not_cut(utterances: Sequence[Mapping]) -> None:
    """Refuse recordings that were cut: each part decides for itself live, and only their joined scores are known here.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``; ``parts`` says into how many a recording was cut.

    Raises
    ------
    ValueError
        If there is such a recording; names the first.
    """
    cut = [one for one in utterances if one.get("parts", 1) > 1]
    if cut:
        raise ValueError(
            f"{len(cut)} of {len(utterances)} recordings are so long that they were cut into parts, such as "
            f"{cut[0]['id']!r}: each part decides for itself, which cannot be calibrated on; evaluate a manifest of "
            "shorter ones"
        )


def candidate(score: str, utterances: Sequence[Mapping], seed: int) -> tuple[ThresholdPolicy, Sequence, list[float]]:
    """Make the policy whose threshold is to be chosen; a learned score is fitted on one half of the utterances.

    Arguments
    ---------
    score : str
        A name of ``speechbrain_ee.policies.scores.SCORES``, ``patience`` or ``learned``.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.
    seed : int
        Of the halves.

    Returns
    -------
    tuple
        The policy, the utterances to choose its threshold on, and the path of thresholds to try.
    """
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
        limits = limits_between(policy, np.fmin.accumulate(unsureness(policy, fitted_on), axis=1))
        chosen = np.linspace(0, len(limits) - 1, PATH_LENGTH).round().astype(int)
        return [-math.inf, *np.unique(limits[chosen]).tolist()]
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

    Cost is MACs, or layers where MACs are unknown; the full model runs its last head alone.

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
    found = policy.with_threshold(threshold)
    is_full_better = share == 1 and replay(FixedExit(), utterances).wer < replay(found, utterances).wer
    return FixedExit() if is_full_better else found


def for_promise(
    policy: ThresholdPolicy,
    utterances: Sequence[Mapping],
    path: Sequence[float],
    *,
    epsilon: float,
    delta: float = DEFAULT_DELTA,
    same_speakers: bool = False,
) -> tuple[Policy, dict]:
    """Make the policy furthest along a path of which it can be promised that it costs at most ``epsilon`` points.

    The promise: on utterances like these, WER is at most ``epsilon`` points above the last exit's, unless the draw of
    these utterances was one of the ``delta`` share of bad ones. See :mod:`speechbrain_ee.calibration.risk`.
    Where several speakers are named, they and not their utterances are what was drawn.

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
    same_speakers : bool
        Whether the promise is about further utterances of the same speakers, so that utterances are what was drawn.

    Returns
    -------
    tuple of Policy and dict
        The policy (the last exit if nothing can be promised), and what was promised, from how many.

    Raises
    ------
    ValueError
        If there are fewer than 50 utterances or too few speakers, or a number makes no sense.
    """
    halved = isinstance(policy, LearnedThreshold)
    groups, drawn = _drawn(utterances, epsilon, delta, same_speakers, halved)
    extra, taken, counts = _extra(policy, utterances, path)
    extra, words = (sum_by_group(values, groups) for values in (extra, counts.words))
    by_speaker = groups is not None
    p = p_values(LossSums.of(extra, words), epsilon=epsilon, by_speaker=by_speaker)
    safe = int(furthest_safe(p, delta))
    granted = _saves(policy, counts, taken, safe)
    record = {
        "granted": granted,
        "epsilon": epsilon,
        "delta": delta,
        "test": TEST_NAME,
        "asymptotic": True,
        **drawn,
        "fewest": fewest(delta, epsilon / 100 * words.mean(), by_speaker),
        "steps_of_path": [safe, len(path)],
    }
    return (policy.with_threshold(path[safe - 1]) if granted else FixedExit()), record


def for_average(
    policy: ThresholdPolicy,
    utterances: Sequence[Mapping],
    path: Sequence[float],
    *,
    epsilon: float,
    same_speakers: bool = False,
) -> tuple[Policy, dict]:
    """Make the policy furthest along a path that costs at most ``epsilon`` points on average over calibration sets.

    Conformal risk control (Angelopoulos et al., arXiv 2208.02814) on D - epsilon n, clipped to 8 words either way, and
    made to rise along the path as the method needs. Weaker than :func:`for_promise`: about half of all calibration sets
    may do worse.

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
    same_speakers : bool
        See :func:`for_promise`.

    Returns
    -------
    tuple of Policy and dict
        The policy, and what holds of it.

    Raises
    ------
    ValueError
        As :func:`for_promise`; as many speakers are needed as for a promise with a delta of 0.5.
    """
    halved = isinstance(policy, LearnedThreshold)
    groups, drawn = _drawn(utterances, epsilon, AVERAGE, same_speakers, halved)
    extra, taken, counts = _extra(policy, utterances, path)
    excess = np.clip(extra - epsilon / 100 * counts.words[:, None], -PSEUDO_WORDS, PSEUDO_WORDS)
    rising = sum_by_group(np.maximum.accumulate(excess, axis=1), groups)
    largest = PSEUDO_WORDS * sum_by_group(np.ones(len(utterances)), groups).max()
    risk = (rising.sum(axis=0) + largest) / (len(rising) + 1)
    safe = int((risk <= 0).sum())  # it rises along the path
    granted = _saves(policy, counts, taken, safe)
    record = {"granted": granted, "epsilon": epsilon, "on_average": True, "bound_words": PSEUDO_WORDS}
    return (policy.with_threshold(path[safe - 1]) if granted else FixedExit()), record | drawn


def _drawn(
    utterances: Sequence[Mapping], epsilon: float, delta: float, same_speakers: bool = False, halved: bool = False
) -> tuple[list | None, dict]:
    """Speakers by which utterances are grouped, if they are what was drawn; and the record of what was drawn."""
    of_half = " in the half that the learned score was not fitted on" if halved else ""
    _check_promise(utterances, epsilon, delta, of_half)
    speakers = [one.get("speaker") for one in utterances]
    num_named, num_unnamed = len(set(speakers) - {None}), speakers.count(None)
    if same_speakers or num_named == 0 or (num_named == 1 and num_unnamed == 0):
        return None, {"independent": "utterances", "num_independent": len(speakers), "num_speakers": num_named or None}
    number = num_named + num_unnamed
    if number < fewest_speakers(delta):
        raise ValueError(
            f"a promise with delta {delta:g} needs at least {fewest_speakers(delta)} speakers, and there are {number}"
            f"{of_half}: from fewer, a failure of one speaker in ten is too often "
            "absent. Evaluate more speakers, or ask for a promise about these speakers alone (--same-speakers)"
        )
    return speakers, {"independent": "speakers", "num_independent": number, "num_unnamed": num_unnamed}


def _extra(
    policy: ThresholdPolicy, utterances: Sequence[Mapping], path: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, ExitCounts]:
    """D in words and the exits taken, (utterances, path)."""
    counts = ExitCounts.of(utterances)
    taken = exits_taken(policy, utterances, path)
    return np.take_along_axis(counts.errors, taken, axis=1) - counts.errors[:, -1:], taken, counts


def _saves(policy: ThresholdPolicy, counts: ExitCounts, taken: np.ndarray, safe: int) -> bool:
    """Whether the last safe step is cheaper than full depth, which runs one head where a policy runs them all."""
    if safe == 0:
        return False
    exits, paid = taken[:, safe - 1], counts.paid_by(policy)
    if paid.macs is None:
        return bool((exits < len(counts.exit_layers) - 1).any())
    return float(paid.macs[np.arange(len(exits)), exits].sum()) < counts.full_macs


def _check_promise(utterances: Sequence[Mapping], epsilon: float, delta: float, of_half: str) -> None:
    if len(utterances) < MIN_UTTERANCES:
        raise ValueError(
            f"a promise needs at least {MIN_UTTERANCES} utterances, and there are {len(utterances)}{of_half}; "
            "evaluate more"
        )
    if not (epsilon > 0 and 0 < delta < 1):
        raise ValueError(f"epsilon={epsilon}, delta={delta}: give points of WER above 0, and 0 < delta < 1")


def check_evaluated(folder: str | Path, model: str, decoding: str) -> None:
    """Check that an evaluated set can be calibrated on.

    Arguments
    ---------
    folder : str or Path
        ``RUN/eval/<set>``.
    model : str
        :func:`fingerprint` of the model in the run.
    decoding : str
        Name of the decoder that transcription runs.

    Raises
    ------
    ValueError
        If another model was evaluated, or with a decoder that transcription does not run.
    """
    exits = json.loads((Path(folder) / "exits.json").read_text("utf-8"))
    if exits.get("model") not in (None, model):
        raise ValueError(
            f"{folder} was evaluated with another model ({exits['model']}, this one is {model}): evaluate it again"
        )
    if missing := exits.get("missing"):
        raise ValueError(
            f"{folder} lacks {len(missing)} utterances that could not be evaluated (first: {next(iter(missing))}): "
            "mend them or leave them out of the manifest, and evaluate it again"
        )
    if exits["decoding"] != decoding:
        raise ValueError(
            f"{folder} was decoded with {exits['decoding']}, and transcribe decodes with {decoding}: evaluate it so"
        )
