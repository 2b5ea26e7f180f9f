# SPDX-License-Identifier: Apache-2.0
"""The scores that ``utterances.jsonl`` has, and the policies that can use them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ee_runtime.policies import Patience, ScoreThreshold, ThresholdPolicy
from ee_runtime.policies.scores import SCORES, score_value


def common_scores(utterances: Sequence[Mapping]) -> list[str]:
    """Return the names of the scores that every exit of every utterance has, in the order of the registry."""
    there = set.intersection(*(set(exit["scores"]) for one in utterances for exit in one["exits"]))
    return [name for name in SCORES if name in there]


def usable_scores(utterances: Sequence[Mapping]) -> list[str]:
    """Return the scores that a learned score can use: for each exit, some utterance must have a value.

    Raises
    ------
    ValueError
        If there is no such score.
    """

    def has_values(name: str) -> bool:
        values = np.array([[score_value(exit["scores"], name) for exit in one["exits"]] for one in utterances])
        return bool(np.isfinite(values).any(axis=0).all())

    found = [name for name in common_scores(utterances) if has_values(name)]
    if not found:
        raise ValueError("no score has values at every exit, as a learned score requires: evaluate again")
    return found


def threshold_policies(utterances: Sequence[Mapping]) -> list[ThresholdPolicy]:
    """Return every policy that the scores of a file allow and that needs no fitting.

    Arguments
    ---------
    utterances : sequence of dict
        Lines of ``utterances.jsonl``.

    Returns
    -------
    list of ThresholdPolicy
        One per score that has a direction, and :class:`Patience` if exits are compared. Their thresholds are
        placeholders.
    """
    there = common_scores(utterances)
    found = [ScoreThreshold(name, 0.0) for name in SCORES if name in there and SCORES[name].higher_is_surer is not None]
    return found + ([Patience(1)] if "agreement" in there else [])
