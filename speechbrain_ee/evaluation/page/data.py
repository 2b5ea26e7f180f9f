# SPDX-License-Identifier: Apache-2.0
"""Data of the report page: the results of one test set as plain values."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np

from ee_runtime.calibration.summary import promise_sentence
from ee_runtime.policies import LearnedThreshold, ThresholdPolicy, policy_from_dict
from ee_runtime.text.error_units import ErrorUnit, unit_of, unit_of_lines
from speechbrain_ee.calibration.confidence import held_out, reliability
from speechbrain_ee.calibration.shift import shift_warning
from speechbrain_ee.replay.available_scores import common_scores, threshold_policies
from speechbrain_ee.replay.equal_cost import errors_at_costs, static_errors_at_cost
from speechbrain_ee.replay.replay import ExitCounts, oracle_result, replay
from speechbrain_ee.replay.sweeps import sweep
from speechbrain_ee.replay.unsureness import exits_taken, sign_of, unsureness
from speechbrain_ee.text.bootstrap import bootstrap_ci95

NUM_BOOTSTRAPS = 200
SHARES = (0.5, 0.6, 0.7, 0.8, 0.9)


def collect(
    exits: Mapping, utterances: Sequence[Mapping], *, calibration: Mapping | None, folder: Path, sizes: bool = True
) -> dict:
    """Collect the data of one test set.

    Arguments
    ---------
    exits : mapping
        Contents of ``exits.json``.
    utterances : sequence of dict
        Lines of ``utterances.jsonl``; the page counts errors as they are counted.
    calibration : mapping, optional
        Contents of ``calibration.json``.
    folder : Path
        Folder of the page; paths of audio files are relative to it.
    sizes : bool
        Whether to look for the audio files.

    Returns
    -------
    dict
        Plain values; ``policies`` are the entries of ``policies.json`` with 95 % intervals.
    """
    oracle = oracle_result(utterances)
    policies = all_policies(utterances, calibration)
    return {
        "exits": dict(exits),
        "unit": asdict(oracle.unit),
        "oracle": {
            oracle.unit.key: oracle.error_rate,
            "mean_layer": oracle.mean_layer,
            "macs_per_s": oracle.macs_per_s,
        },
        "policies": {policy.label: policy_curve(policy, utterances) for policy in policies},
        "stops": {policy.label: _stops(policy, utterances) for policy in policies},
        "at_cost": rates_at_cost(policies, utterances),
        "calibrated": calibrated_point(calibration, utterances),
        "warning": shift_warning(calibration, utterances) if calibration else None,
        "reliability": reliability_of_exits(utterances),
        "utterances": [_row(utterance, oracle.unit, folder, sizes) for utterance in utterances],
    }


def all_policies(utterances: Sequence[Mapping], calibration: Mapping | None) -> list[ThresholdPolicy]:
    """Return every policy that the scores allow, and the learned policy of a calibration."""
    found = threshold_policies(utterances)
    policy = policy_from_dict(calibration["policy"]) if calibration else None
    if isinstance(policy, LearnedThreshold):
        if set(policy.score_names) <= set(common_scores(utterances)):
            found.append(policy)
    return found


def rates_at_cost(policies: Sequence[ThresholdPolicy], utterances: Sequence[Mapping]) -> dict[str, list[float | None]]:
    """Return the error rate of static exits and policies at ``SHARES`` of full depth's MACs; empty without MACs."""
    counts = ExitCounts.of(utterances)
    if counts.macs is None:
        return {}

    def rate(errors: np.ndarray | None) -> float | None:
        return None if errors is None else float(100.0 * errors.sum() / counts.lengths.sum())

    found = {"static": [rate(static_errors_at_cost(counts, share)) for share in SHARES]}
    for policy in policies:
        found[policy.label] = [rate(errors) for errors in errors_at_costs(policy, utterances, SHARES)]
    return found


def policy_curve(policy: ThresholdPolicy, utterances: Sequence[Mapping]) -> list[dict]:
    """Return the entries of ``policies.json`` with intervals, bootstrapped over speakers where they are known."""
    counts, entries = ExitCounts.of(utterances), sweep(policy, utterances)
    taken = exits_taken(policy, utterances, [entry["threshold"] for entry in entries])
    errors = np.take_along_axis(counts.errors, taken, axis=1)
    speakers = [utterance.get("speaker") for utterance in utterances]
    bands = bootstrap_ci95(errors, counts.lengths, speakers, NUM_BOOTSTRAPS).round(3)
    name = f"{counts.unit.key}_ci95"
    return [entry | {name: band} for entry, band in zip(entries, bands.tolist(), strict=True)]


def calibrated_point(calibration: Mapping | None, utterances: Sequence[Mapping]) -> dict | None:
    """Return the result of the calibrated policy and its promise; None if its scores or costs are missing."""
    if not calibration:
        return None
    policy = policy_from_dict(calibration["policy"])
    try:
        result = replay(policy, utterances)
    except ValueError:  # this file lacks a score of a beam, or costs
        return None
    return {
        "label": policy.label,
        result.unit.key: result.error_rate,
        "mean_layer": result.mean_layer,
        "macs_per_s": result.macs_per_s,
        "promise": promise_sentence(
            calibration.get("promise"), unit_of(calibration), chosen_on=calibration["fitted_on"]["test_set"]
        ),
        "threshold": getattr(policy, "threshold", None),
    }


def reliability_of_exits(utterances: Sequence[Mapping]) -> dict[str, dict[str, dict]]:
    """Return bins and calibration error of words and utterances by exit layer, cross-fitted on two halves."""
    found: dict[str, dict[str, dict]] = {}
    kinds = {"words": "words", unit_of_lines(utterances).key: "utterances"}
    for index, exit in enumerate(utterances[0]["exits"]):
        for kind, name in kinds.items():
            rows = held_out(kind, utterances, index)
            if rows[0]:
                bins, error = reliability(*rows)
                found.setdefault(str(exit["layer"]), {})[name] = {"bins": bins, "ece": error}
    return found


def _row(utterance: Mapping, unit: ErrorUnit, folder: Path, look: bool) -> dict:
    audio = utterance.get("audio_filepath")
    there = look and audio is not None and os.path.isfile(audio)
    row = {
        "id": str(utterance["id"]),
        "s": utterance.get("speaker"),
        "d": utterance.get("duration"),
        "n": utterance[unit.length],
        "r": utterance.get("reference"),
        "e": [sum(exit[unit.errors].values()) for exit in utterance["exits"]],
        "h": _texts([exit.get("hypothesis") for exit in utterance["exits"]]),
    }
    if there:
        row["a"] = Path(os.path.relpath(audio, folder)).as_posix()
        if (offset := utterance.get("offset")) is not None:
            row["t"] = [offset, offset + utterance["duration"]]
    return row


def _texts(hypotheses: Sequence[str | None]) -> list[str | int | None]:
    """Replace a text that an earlier exit has, too, by the index of that exit; this saves space."""
    return [hypotheses.index(text) if hypotheses.index(text) < i else text for i, text in enumerate(hypotheses)]


def _stops(policy: ThresholdPolicy, utterances: Sequence[Mapping]) -> list[list[int | None]]:
    """Return the first entry of the policy's curve that stops at an exit, by utterance and exit except the last."""
    limits = [sign_of(policy) * entry["threshold"] for entry in sweep(policy, utterances)]  # in rising order
    values = unsureness(policy, utterances)
    first = np.searchsorted(limits, values, side="left")
    return [
        [None if math.isnan(value) or index == len(limits) else int(index) for value, index in zip(*row, strict=True)]
        for row in zip(values, first, strict=True)
    ]
