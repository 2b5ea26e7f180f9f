# SPDX-License-Identifier: Apache-2.0
"""Detect a test set whose scores differ from those of the calibration set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy import stats

from ee_runtime.policies import Policy, ThresholdPolicy, policy_from_dict
from speechbrain_ee.replay.unsureness import unsureness

SEEN_RANGE = (0.005, 0.995)  # quantiles of the calibration scores that bound the seen range
MAX_SHARE_OUTSIDE = 0.05  # larger shares cause a warning


def share_outside(calibration: Mapping, utterances: Sequence[Mapping]) -> float | None:
    """Return the share of a test set's scores outside the range seen in calibration.

    Without a shift the share is about 0.01.

    Arguments
    ---------
    calibration : mapping
        The contents of ``calibration.json``.
    utterances : sequence of dict
        Lines of ``utterances.jsonl`` of the test set.

    Returns
    -------
    float or None
        The largest share over the exits; None if the policy has no threshold or its scores are missing.
    """
    policy = policy_from_dict(calibration["policy"])
    if not calibration.get("value_range") or not set(policy.score_names) <= set(utterances[0]["exits"][0]["scores"]):
        return None
    layers = [str(exit["layer"]) for exit in utterances[0]["exits"][:-1]]
    if layers != list(calibration["value_range"]):
        raise ValueError(
            f"the calibration has the exits {', '.join(calibration['value_range'])} and the last one, "
            f"these utterances have {', '.join(layers)} and the last one: calibrate again"
        )
    values = unsureness(policy, utterances)
    limits = np.array(list(calibration["value_range"].values()), dtype=float)
    inside = (values >= limits[:, 0]) & (values <= limits[:, 1])  # False for NaN
    return float(1 - inside.mean(axis=0).min())


def shift_warning(calibration: Mapping, utterances: Sequence[Mapping]) -> str | None:
    """Return one line if a test set differs from the calibration set, otherwise None."""
    share = share_outside(calibration, utterances)
    # A small set may exceed the allowed share by chance: require significance at 1 %.
    if share is None or stats.binom.sf(share * len(utterances) - 1, len(utterances), MAX_SHARE_OUTSIDE) > 0.01:
        return None
    return (
        f"{100 * share:.0f} % of the scores are outside the range of {calibration['fitted_on']['test_set']}, where "
        f"{100 * (1 - SEEN_RANGE[1] + SEEN_RANGE[0]):.0f} % were: the calibration may not hold for this set"
    )


def value_range(policy: Policy, utterances: Sequence[Mapping]) -> dict | None:
    """Return the range of a policy's scores by exit layer; None for a policy without a threshold."""
    if not isinstance(policy, ThresholdPolicy):
        return None
    layers = [exit["layer"] for exit in utterances[0]["exits"][:-1]]
    columns = [column[np.isfinite(column)] for column in unsureness(policy, utterances).T]
    ranges = [np.quantile(column, SEEN_RANGE).tolist() if len(column) else [0.0, 0.0] for column in columns]
    return dict(zip(map(str, layers), ranges, strict=True))
