# SPDX-License-Identifier: Apache-2.0
"""The contents of ``calibration.json``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from ee_runtime.policies import FixedExit, Policy
from ee_runtime.text.error_units import unit_of_lines
from speechbrain_ee.calibration.shift import value_range
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
    """Collect the contents of ``calibration.json``.

    Arguments
    ---------
    policy : Policy
        The chosen policy.
    utterances : sequence of dict
        Lines of ``utterances.jsonl`` that its threshold was chosen on.
    score : str
        The score that the policy compares: a name, ``patience`` or ``learned``.
    target : mapping
        The requested target; see :func:`~speechbrain_ee.calibration.targets.target_from_dict`.
    promise : mapping, optional
        The record of :class:`~speechbrain_ee.calibration.targets.Promise` or ``Average``.
    fitted_on : str
        Name of the set that the threshold was chosen on.
    model : str, optional
        :func:`~speechbrain_ee.model.fingerprint.fingerprint` of the model.
    confidence : mapping, optional
        The maps of :func:`~speechbrain_ee.calibration.confidence.fit_confidence`.

    Returns
    -------
    dict
        ``policy``, ``score``, ``error_unit``, ``target``, ``promise``, ``fitted_on`` (the set with its WER, or its CER
        if it is counted in characters, and its mean exit layer), ``value_range`` by exit layer, ``model`` and
        ``confidence``.
    """
    reached, unit = replay(policy, utterances), unit_of_lines(utterances)
    return {
        "policy": policy.to_dict(),
        "score": score,
        "error_unit": unit.name,
        "target": dict(target),
        "promise": None if promise is None else dict(promise),
        "fitted_on": {
            "test_set": fitted_on,
            "num_utterances": len(utterances),
            unit.key: reached.error_rate,
            f"full_{unit.key}": replay(FixedExit(), utterances).error_rate,
            "mean_layer": reached.mean_layer,
        },
        "value_range": value_range(policy, utterances),
        "model": model,
        "confidence": dict(confidence or {}),
    }
