# SPDX-License-Identifier: Apache-2.0
"""Describe a calibration in words. Standard library only."""

from __future__ import annotations

import math
from collections.abc import Mapping

from ee_runtime.calibration.defaults import TEST_NAME
from ee_runtime.text.error_units import WORD, ErrorUnit, unit_of


def promise_sentence(promise: Mapping | None, unit: ErrorUnit = WORD, *, chosen_on: str = "these") -> str:
    """Describe a promise and its assumptions in one sentence.

    Arguments
    ---------
    promise : mapping or None
        Entry of ``calibration.json``.
    unit : ErrorUnit
        What the calibration counts errors in.
    chosen_on : str
        The set on which the threshold was chosen; used if nothing is promised.

    Returns
    -------
    str
        The sentence, without a full stop.
    """
    if promise is None:
        return f"nothing is promised for other utterances: the threshold was chosen by its result on {chosen_on}"
    if not promise["granted"]:
        return f"{_refusal(promise, unit)}; every utterance takes the last exit"
    if promise.get("on_average"):
        told = f"on average over calibration sets, {unit.rate} is at most {promise['epsilon']} points above full depth"
        limit = promise.get(f"bound_{unit.plural}")
        bound = "" if limit is None else f"losses clipped at {limit:g} {unit.plural} per utterance"
        return f"{told} ({', '.join(filter(None, [bound, _units(promise)]))})"
    how = "asymptotic; by simulation valid from this set size on"
    if promise["test"] != TEST_NAME:  # written by an earlier version
        how = "asymptotic, and overconfident if losses are rare: calibrate again"
    if not promise["asymptotic"]:
        how = f"valid in finite samples, losses clipped at {promise['bound_words']:g} words per utterance"
    most = f"{unit.rate} is at most {promise['epsilon']} points above full depth"
    return f"{most}, with probability {1 - promise['delta']:g} ({promise['test']} test, {how}; {_units(promise)})"


def _refusal(promise: Mapping, unit: ErrorUnit) -> str:
    of = "" if unit == WORD else f" of {unit.rate}"
    refusal = f"no threshold cheaper than full depth can be promised at {promise['epsilon']} points{of}"
    if promise.get("num_independent", math.inf) >= promise.get("fewest", 0):
        return refusal
    units = promise["independent"]
    return (
        f"{refusal} from {promise['num_independent']} {units}; at least {promise['fewest']} are required, "
        f"even if stopping early adds no {unit.singular} error"
    )


def _units(promise: Mapping) -> str:
    """Describe the sampling units."""
    if "independent" not in promise:  # written by an earlier version
        return ""
    number, units = promise["num_independent"], promise["independent"]
    if units == "speakers":
        unnamed = promise.get("num_unnamed", 0)
        return f"{number} speakers" + (
            f", counting each of {unnamed} utterances without a speaker as one" if unnamed else ""
        )
    speakers = promise.get("num_speakers")
    of = "speakers unknown" if speakers is None else f"for {speakers} speaker{'s' * (speakers > 1)} only"
    return f"{number} utterances, assumed to be independent; {of}"


def summary(calibration: Mapping) -> str:
    """Describe a calibration for a terminal: promise, result on the set, and number of attempts."""
    reached, unit = calibration["fitted_on"], unit_of(calibration)
    rate, full = reached[unit.key], reached[f"full_{unit.key}"]
    lines = [
        promise_sentence(calibration["promise"], unit),
        f"on {reached['num_utterances']} utterances of {reached['test_set']}: {unit.rate} {rate:.2f} % (full depth "
        f"{full:.2f} %), mean exit layer {reached['mean_layer']:.2f}",
    ]
    tried, delta = calibration.get("tried", {}).get("promises", 1), (calibration["promise"] or {}).get("delta")
    if calibration["promise"] and tried > 1:
        lines.append(
            f"{tried} promises were tried on {reached['test_set']} with this model: each holds only if it was chosen "
            "in advance"
            + (f"; to choose the best of {tried}, use --delta {delta / tried:.2g} for each" if delta else "")
        )
    return "\n".join(lines)
