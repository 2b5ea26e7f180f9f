# SPDX-License-Identifier: Apache-2.0
"""Which exit policies and scores the page can run, and their plain values for its JavaScript."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ee_runtime.path_scores import PATH_SCORES
from ee_runtime.policies import Capped, FixedExit, LearnedThreshold, Patience, Policy, ScoreThreshold
from ee_runtime.policies.scores import SCORES

RUNNABLE = (FixedExit, ScoreThreshold, Patience, LearnedThreshold, Capped)  # POLICIES in page/policy.js
OF_PAGE = ("change", *PATH_SCORES)  # scores that the page computes; the graphs compute the others


def check_policy(policy: Policy, exit_layers: Sequence[int], score_names: Iterable[str]) -> None:
    """Check that the page can run a policy.

    Arguments
    ---------
    policy : Policy
        The policy of ``calibration.json``.
    exit_layers : sequence of int
        Exit layers of the model.
    score_names : iterable of str
        Scores that the graphs compute.

    Raises
    ------
    ValueError
        If the policy, one of its limits or one of its scores is not supported, or it does not fit the exits.

    Example
    -------
    >>> check_policy(ScoreThreshold("entropy", 0.1), (2, 4), ["entropy"])
    >>> check_policy(FixedExit(3), (2, 4), [])
    Traceback (most recent call last):
    ValueError: exit layer 3 is not an exit of this model; choose one of 2, 4
    """
    if type(policy) not in RUNNABLE:
        known = ", ".join(kind.name for kind in RUNNABLE)
        raise ValueError(
            f"the page cannot run the exit policy {policy.name!r} of calibration.json: it runs {known}; calibrate again"
        )
    if isinstance(policy, Capped):
        if policy.limits["deadline_ms"] is not None:
            raise ValueError(
                "the page cannot keep the limit deadline_ms of calibration.json, because its times were measured on "
                "another machine: remove the limit"
            )
        check_policy(policy.policy, exit_layers, score_names)
    known = {*score_names, *OF_PAGE}
    for name in policy.score_names:
        if name not in known:
            raise ValueError(
                f"the page cannot compute the exit score {name!r} of calibration.json: calibrate with another score, "
                f"such as {', '.join(sorted(known)[:4])}"
            )
    for exit_index in range(len(exit_layers)):
        policy.needs_head(exit_index, tuple(exit_layers))


def plain(policy: Policy) -> dict:
    """Return the values of a policy for JSON, which has no infinity: it becomes text.

    Example
    -------
    >>> plain(ScoreThreshold("entropy", [0.5, math.inf, None]))["threshold"]
    [0.5, 'Infinity', None]
    """
    return _plain(policy.to_dict())


def _plain(value: object) -> object:
    if isinstance(value, dict):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, list):
        return [_plain(one) for one in value]
    if isinstance(value, float) and math.isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value


def score_table(policies: Iterable[Policy]) -> dict[str, dict]:
    """Return what the page must know about the scores that policies compare.

    Example
    -------
    >>> score_table([ScoreThreshold("change", 0.1)])
    {'change': {'higher_is_surer': False, 'needs_previous': True}}
    """
    names = sorted({name for policy in policies for name in policy.score_names})
    return {
        name: {"higher_is_surer": SCORES[name].higher_is_surer, "needs_previous": SCORES[name].needs_previous}
        for name in names
    }


def describe(policy: Policy, exit_layers: Sequence[int]) -> str:
    """Describe in a few words when a policy stops.

    Example
    -------
    >>> describe(ScoreThreshold("entropy", 0.03), (2, 4)), describe(FixedExit(2), (2, 4)), describe(FixedExit(), (2, 4))
    ('stops when entropy is at most 0.03', 'always stops after layer 2', 'always runs all 4 layers')
    """
    if isinstance(policy, Capped):
        limits = [f"at most layer {policy.limits['max_layer']}"] if policy.limits["max_layer"] is not None else []
        if policy.limits["macs_per_s"] is not None:
            limits.append(f"at most {policy.limits['macs_per_s']:.3g} MACs per second of audio")
        return ", ".join([describe(policy.policy, exit_layers), *limits])
    if isinstance(policy, FixedExit):
        if policy.layer in (None, exit_layers[-1]):
            return f"always runs all {exit_layers[-1]} layers"
        return f"always stops after layer {policy.layer}"
    if isinstance(policy, Patience):
        texts = f"the texts of {_number(policy.threshold, shift=1)} exits in a row"
        return f"stops when {texts} agree" + ("" if policy.level == 1 else f" by {policy.level:.3g}")
    what = "the predicted gain of deeper layers" if isinstance(policy, LearnedThreshold) else policy.label
    side = "at least" if policy.higher_is_surer else "at most"
    return f"stops when {what} is {side} {_number(policy.threshold)}"


def _number(threshold: float | Sequence[float | None], shift: float = 0) -> str:
    return "a threshold of the exit" if isinstance(threshold, list) else f"{threshold + shift:.3g}"
