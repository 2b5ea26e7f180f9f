# SPDX-License-Identifier: Apache-2.0
"""The path of thresholds that a promise is tested along, and the words (or characters) lost at each of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ee_runtime.policies import LearnedThreshold, Patience, ThresholdPolicy
from speechbrain_ee.replay.replay import ExitCounts
from speechbrain_ee.replay.unsureness import exits_taken, limits_between, unsureness

PATH_LENGTH = 240


def threshold_path(policy: ThresholdPolicy, fitted_on: Sequence[Mapping] | None, num_exits: int) -> list[float]:
    """Return thresholds from "always the last exit" to "always the first", in order of rising risk.

    The path must not depend on the utterances that the promise is tested on.

    Arguments
    ---------
    policy : ThresholdPolicy
        The policy; its own threshold is ignored.
    fitted_on : sequence of dict, optional
        The utterances that a learned score was fitted on; they give its range. Other policies ignore them.
    num_exits : int
        Number of exits of the model.

    Returns
    -------
    list of float
        The thresholds.

    Raises
    ------
    ValueError
        If the policy uses a learned score and ``fitted_on`` is empty.
    """
    if isinstance(policy, Patience):
        return [float(row) for row in range(num_exits, 0, -1)]
    if isinstance(policy, LearnedThreshold):
        if not fitted_on:
            raise ValueError("the path of a learned score needs the utterances that it was fitted on")
        limits = limits_between(policy, np.fmin.accumulate(unsureness(policy, fitted_on), axis=1))
        chosen = np.linspace(0, len(limits) - 1, PATH_LENGTH).round().astype(int)
        return [-math.inf, *np.unique(limits[chosen]).tolist()]
    grid = np.geomspace(1e-6, 1.0, PATH_LENGTH)  # all scores are in [0, 1]
    return [math.inf, *(1 - grid)] if policy.higher_is_surer else [-math.inf, *grid]


@dataclass(frozen=True)
class PathLosses:
    """Words (or characters) lost and exits taken at every threshold of a path.

    Arguments
    ---------
    extra_errors : np.ndarray
        (utterances, path): errors at the exit taken minus errors at the last exit.
    exits : np.ndarray
        (utterances, path): exit indices.
    counts : ExitCounts
        Errors, lengths and cost of the utterances.
    """

    extra_errors: np.ndarray
    exits: np.ndarray
    counts: ExitCounts

    @classmethod
    def of(cls, policy: ThresholdPolicy, utterances: Sequence[Mapping], path: Sequence[float]) -> PathLosses:
        """Compute them for lines of ``utterances.jsonl``; MACs are those that the policy spends."""
        counts = ExitCounts.of(utterances)
        exits = exits_taken(policy, utterances, path)
        extra_errors = np.take_along_axis(counts.errors, exits, axis=1) - counts.errors[:, -1:]
        return cls(extra_errors, exits, counts.paid_by(policy))

    def saves_cost(self, step: int) -> bool:
        """Return whether a threshold costs less than full depth, which runs the last head only."""
        exits, macs = self.exits[:, step], self.counts.macs
        if macs is None:
            return bool((exits < len(self.counts.exit_layers) - 1).any())
        return float(macs[np.arange(len(exits)), exits].sum()) < self.counts.full_macs
