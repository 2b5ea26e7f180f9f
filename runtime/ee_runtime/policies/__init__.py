# SPDX-License-Identifier: Apache-2.0
"""Exit scores and exit policies: decide after each exit whether an utterance stops.

A policy reads scores and costs, never the model, and this package needs only the standard library. The same object
therefore runs live, in a replay of cached scores, and on a device. Every utterance stops at the last exit, whatever the
policy decides.

A threshold policy compares one value per exit with its threshold: a score (:class:`ScoreThreshold`, the rules of
Wright et al., arXiv 2309.09546), the number of successive exits that agree (:class:`Patience`), or a prediction
(:class:`LearnedThreshold`). :class:`Capped` limits the cost of each utterance under any policy, :class:`RunningBudget`
the average cost of a stream of utterances, and :class:`TokenBucket` its cost per second of time.
"""

from collections.abc import Mapping

from ee_runtime.policies.base import FixedExit, Look, Policy
from ee_runtime.policies.deadline import Slowdown
from ee_runtime.policies.limits import Capped
from ee_runtime.policies.streams import RunningBudget, TokenBucket
from ee_runtime.policies.thresholds import (
    LearnedThreshold,
    Patience,
    ScoreThreshold,
    ThresholdPolicy,
    paper_entropy,
    paper_posterior,
)

__all__ = [
    "POLICIES",
    "Capped",
    "FixedExit",
    "LearnedThreshold",
    "Look",
    "Patience",
    "Policy",
    "RunningBudget",
    "ScoreThreshold",
    "Slowdown",
    "ThresholdPolicy",
    "TokenBucket",
    "paper_entropy",
    "paper_posterior",
    "policy_from_dict",
]

POLICIES: dict[str, type[Policy]] = {
    policy.name: policy
    for policy in (FixedExit, ScoreThreshold, Patience, LearnedThreshold, Capped, RunningBudget, TokenBucket)
}

MAX_DEPTH = 10


def policy_from_dict(values: Mapping) -> Policy:
    """Build a policy from plain values, as written by ``to_dict``.

    Arguments
    ---------
    values : mapping
        ``{"policy": name, ...}``.

    Returns
    -------
    Policy
        The policy.

    Raises
    ------
    ValueError
        If the policy's name or one of its values is unknown or missing.

    Example
    -------
    >>> policy_from_dict({"policy": "fixed_exit", "layer": 4}).to_dict()
    {'policy': 'fixed_exit', 'layer': 4}
    """
    return _from_dict(values, MAX_DEPTH)


def _from_dict(values: Mapping, depth: int) -> Policy:
    if not isinstance(values, Mapping):
        raise ValueError("an exit policy is not an object of names and values")
    if depth == 0:
        raise ValueError(f"there are more than {MAX_DEPTH} exit policies within each other")
    options = dict(values)
    name = options.pop("policy", None)
    if not isinstance(name, str) or name not in POLICIES:
        raise ValueError(f"unknown exit policy {name!r}; known: {', '.join(POLICIES)}")
    if "of" in options:  # the inner policy of one that limits the cost
        options["policy"] = _from_dict(options.pop("of"), depth - 1)
    try:
        return POLICIES[name](**options)
    except (TypeError, AttributeError) as error:
        raise ValueError(f"exit policy {name!r} does not take {options}: {error}") from error
