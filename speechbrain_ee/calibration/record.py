# SPDX-License-Identifier: Apache-2.0
"""What goes into ``calibration.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from speechbrain_ee.calibration.shift import value_range
from speechbrain_ee.policies import FixedExit, Policy
from speechbrain_ee.replay.replay import replay


def make_calibration(
    policy: Policy,
    utterances: Sequence[Mapping],
    *,
    score: str,
    target: Mapping,
    promise: Mapping | None = None,
    fitted_on: str = "dev",
    model: str | None = None,
    confidence: Mapping | None = None,
) -> dict:
    """Collect what goes into ``calibration.json``.

    Arguments
    ---------
    policy : Policy
        What was chosen.
    utterances : sequence of dict
        Lines of ``utterances.jsonl`` that it was chosen on.
    score : str
        What the policy looks at: a score's name, ``patience`` or ``learned``.
    target : mapping
        What was asked for.
    promise : mapping, optional
        The record of :func:`for_promise` or :func:`for_average`.
    fitted_on : str
        Name of the set.
    model : str, optional
        :func:`fingerprint` of the model.
    confidence : mapping, optional
        What :func:`~speechbrain_ee.calibration.confidence.fit_confidence` gives.

    Returns
    -------
    dict
        ``policy``, ``score``, ``target``, ``promise``, ``fitted_on`` with what was reached there, ``value_range`` by
        exit layer, ``model`` and ``confidence``.
    """
    reached = replay(policy, utterances)
    return {
        "policy": policy.to_dict(),
        "score": score,
        "target": dict(target),
        "promise": None if promise is None else dict(promise),
        "fitted_on": {
            "test_set": fitted_on,
            "num_utterances": len(utterances),
            "wer": reached.wer,
            "full_wer": replay(FixedExit(), utterances).wer,
            "mean_layer": reached.mean_layer,
        },
        "value_range": value_range(policy, utterances),
        "model": model,
        "confidence": dict(confidence or {}),
    }
