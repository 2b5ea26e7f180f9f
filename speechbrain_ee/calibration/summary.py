# SPDX-License-Identifier: Apache-2.0
"""A calibration in words."""

from __future__ import annotations

import math
from collections.abc import Mapping

from speechbrain_ee.calibration.risk import TEST_NAME


def promise_sentence(promise: Mapping | None) -> str:
    """One sentence that says what is promised, and on what assumptions."""
    if promise is None:
        return "nothing is promised: the threshold was chosen by what it did on these utterances"
    if not promise["granted"]:
        return f"{_refusal(promise)}: every utterance takes the last exit"
    if promise.get("on_average"):
        told = f"on average over calibration sets, WER is at most {promise['epsilon']} points above the full model's"
        bound = (
            f"losses counted up to {promise['bound_words']:g} words an utterance" if "bound_words" in promise else ""
        )
        return f"{told} ({', '.join(filter(None, [bound, _drawn(promise)]))})"
    how = "asymptotic: right for many, and by simulation from this many on"
    if promise["test"] != TEST_NAME:  # of an earlier version
        how = "asymptotic, too sure where losses are rare: calibrate again"
    if not promise["asymptotic"]:
        how = f"in finite samples, an utterance's loss counted up to {promise['bound_words']:g} words"
    return (
        f"WER is at most {promise['epsilon']} points above the full model's, with probability {1 - promise['delta']:g} "
        f"({promise['test']} test, {how}; {_drawn(promise)})"
    )


def _refusal(promise: Mapping) -> str:
    refusal = f"nothing cheaper than full depth can be promised at {promise['epsilon']} points"
    if promise.get("num_independent", math.inf) >= promise.get("fewest", 0):
        return refusal
    units = promise["independent"]
    return (
        f"{refusal} from {promise['num_independent']} {units}, {promise['fewest']} are needed where none of them loses "
        "a word"
    )


def _drawn(promise: Mapping) -> str:
    """What was taken for independent."""
    if "independent" not in promise:  # of an earlier version
        return ""
    number, units = promise["num_independent"], promise["independent"]
    if units == "speakers":
        unnamed = promise.get("num_unnamed", 0)
        return f"{number} speakers" + (f", {unnamed} utterances without one as a speaker each" if unnamed else "")
    speakers = promise.get("num_speakers")
    of = "no speakers are named" if speakers is None else f"of {speakers} speaker{'s' * (speakers > 1)} and no others"
    return f"{number} utterances, taken as independent: {of}"


def summary(calibration: Mapping) -> str:
    """Lines for a terminal: what is promised, what was reached, and how often it was tried."""
    reached = calibration["fitted_on"]
    lines = [
        promise_sentence(calibration["promise"]),
        f"on {reached['num_utterances']} utterances of {reached['test_set']}: WER {reached['wer']:.2f} % (full depth "
        f"{reached['full_wer']:.2f} %), mean exit layer {reached['mean_layer']:.2f}",
    ]
    tried, delta = calibration.get("tried", {}).get("promises", 1), (calibration["promise"] or {}).get("delta")
    if calibration["promise"] and tried > 1:
        lines.append(
            f"{tried} promises were tried on {reached['test_set']} with this model: what is said holds for one that "
            "was chosen beforehand"
            + (f"; for the best of {tried}, ask each with --delta {delta / tried:.2g}" if delta else "")
        )
    return "\n".join(lines)
