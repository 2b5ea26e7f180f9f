# SPDX-License-Identifier: Apache-2.0
"""Choose the threshold of an exit policy on a development set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ee_runtime.policies import LearnedThreshold, Patience, ScoreThreshold, ThresholdPolicy
from ee_runtime.policies.scores import SCORES
from speechbrain_ee.calibration.checks import check_not_cut
from speechbrain_ee.calibration.confidence import fit_confidence
from speechbrain_ee.calibration.fit_learned import fit_learned_score
from speechbrain_ee.calibration.path import threshold_path
from speechbrain_ee.calibration.record import make_calibration
from speechbrain_ee.calibration.targets import target_from_dict
from speechbrain_ee.replay.available_scores import usable_scores
from speechbrain_ee.replay.replay import replay
from speechbrain_ee.replay.speakers import split_by_speaker

OTHER_SCORES = ("learned", "patience")


def calibrate(
    utterances: Sequence[Mapping],
    *,
    score: str,
    target: Mapping,
    fitted_on: str = "dev",
    model: str | None = None,
    seed: int = 0,
) -> dict:
    """Choose a threshold for one target and record what is promised.

    A learned score is fitted on one half of the utterances (no speaker is in both halves), and its threshold is chosen
    on the other half.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl`` of a development set.
    score : str
        A name of ``ee_runtime.policies.scores.SCORES``, ``patience`` or ``learned``.
    target : mapping
        One of ``mean_cost`` (share of the cost of full depth), ``max_wer`` (percent), ``max_wer_increase`` (points),
        ``max_cer`` and ``max_cer_increase`` (the same of utterances that are counted in characters), ``promise``
        (points; options ``delta`` and ``same_speakers``) and ``average`` (points; option ``same_speakers``). See
        :mod:`speechbrain_ee.calibration.targets`.
    fitted_on : str
        Name of the set; recorded.
    model : str, optional
        Fingerprint of the model; recorded.
    seed : int
        Seed of the split into halves.

    Returns
    -------
    dict
        The contents of ``calibration.json``.

    Raises
    ------
    ValueError
        If the target is unknown or cannot be reached, the score is unknown or missing in the file, or a recording was
        cut into parts.
    """
    if score not in SCORES and score not in OTHER_SCORES:
        raise ValueError(f"unknown exit score {score!r}; known: {', '.join([*OTHER_SCORES, *SCORES])}")
    if not utterances:
        raise ValueError("no utterances to calibrate on; evaluate a manifest first")
    chooser = target_from_dict(target)
    check_not_cut(utterances)
    chooser.check(utterances)
    policy, rest, path = candidate(score, utterances, seed)
    policy, promise = chooser.choose(policy, rest, path)
    confidence = fit_confidence(utterances, replay(policy, utterances).exit_indices)
    record = {"score": score, "target": target, "promise": promise, "fitted_on": fitted_on, "model": model}
    return make_calibration(policy, rest, confidence=confidence, **record)


def candidate(score: str, utterances: Sequence[Mapping], seed: int) -> tuple[ThresholdPolicy, Sequence, list[float]]:
    """Make the policy whose threshold is to be chosen; fits a learned score on one half of the utterances.

    Arguments
    ---------
    score : str
        A name of ``ee_runtime.policies.scores.SCORES``, ``patience`` or ``learned``.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.
    seed : int
        Seed of the split into halves.

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
