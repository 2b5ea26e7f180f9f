# SPDX-License-Identifier: Apache-2.0
"""Calibrated confidence: isotonic maps, reliability, and what is fitted on a development set."""

import math

import numpy as np
import pytest

from ee_runtime.policies.confidence import confidence_map, isotonic_value
from speechbrain_ee.calibration.confidence import fit_confidence, fit_isotonic, held_out, reliability


def test_an_isotonic_map_pools_what_goes_the_wrong_way():
    knots = fit_isotonic([0.1, 0.2, 0.3, 0.4], [0, 1, 0, 1])
    found = [isotonic_value(knots, value) for value in (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)]
    assert found == pytest.approx([0.0, 0.0, 0.5, 0.5, 1.0, 1.0])
    falling = fit_isotonic([0.0, 1.0], [40.0, 10.0], rising=False)
    assert isotonic_value(falling, 0.5) == 25.0


def test_nan_is_not_sure():
    assert math.isnan(isotonic_value({"x": [0.0, 1.0], "y": [0.0, 1.0]}, math.nan))


def test_weights_count():
    knots = fit_isotonic([0.1, 0.2], [1, 0], weights=[3, 1])
    assert isotonic_value(knots, 0.15) == 0.75


def test_reliability_by_hand():
    bins, error = reliability([0.05, 0.95, 1.0], [0, 1, 0], weights=[1, 1, 2])
    assert [one["weight"] for one in bins] == [1, 3]
    assert bins[1]["predicted"] == pytest.approx((0.95 + 2) / 3)
    assert bins[1]["observed"] == pytest.approx(1 / 3)
    assert error == pytest.approx((0.05 + (0.95 + 2 - 1)) / 4)
    assert reliability([], []) == ([], 0.0)


def overconfident(count=600, seed=0):
    """Words are right with the square of their confidence; utterances have two words."""
    rng = np.random.default_rng(seed)
    found = []
    for number in range(count):
        confidences = rng.uniform(0.3, 1.0, 2)
        right = rng.random(2) < confidences**2
        hypothesis = " ".join("ab"[i] if ok else "x" for i, ok in enumerate(right))
        exit = {
            "layer": 2,
            "hypothesis": hypothesis,
            "errors": {"S": int((~right).sum()), "D": 0, "I": 0},
            "scores": {"confidence": float(confidences.mean())},
            "word_confidence": confidences.tolist(),
        }
        found.append({"id": str(number), "reference": "a b", "num_words": 2, "exits": [exit]})
    return found


def test_what_is_fitted_is_calibrated_on_the_other_half():
    found = fit_confidence(overconfident())
    words, wer = found["words"]["2"], found["wer"]["2"]
    for confidence in (0.5, 0.7, 0.9):
        assert isotonic_value(words, confidence) == pytest.approx(confidence**2, abs=0.12)
    assert isotonic_value(wer, 0.4) > isotonic_value(wer, 0.9)
    raw = [
        (c, float(h == r))
        for one in overconfident()
        for c, h, r in zip(one["exits"][0]["word_confidence"], one["exits"][0]["hypothesis"].split(), "ab", strict=True)
    ]
    _, before = reliability(*zip(*raw, strict=True))
    assert found["ece"]["2"]["words"] < 0.05 < before
    predicted, observed, weights = held_out("wer", overconfident(), 0)
    assert len(predicted) == 600 and sum(weights) == 1200
    assert np.mean(predicted) == pytest.approx(np.mean(observed), abs=0.02)


def test_nothing_is_certain_after_a_few_words():
    # 20 utterances of two words, all right: 40 words cannot show that every 41st is not wrong
    utterances = overconfident(20)
    for one in utterances:
        one["exits"][0] |= {"hypothesis": "a b", "errors": {"S": 0, "D": 0, "I": 0}}
    found = fit_confidence(utterances)
    assert isotonic_value(found["words"]["2"], 1.0) == pytest.approx(1 - 0.5 / 41)
    assert isotonic_value(found["wer"]["2"], 1.0) == pytest.approx(100 * 0.5 / 41)
    for one in utterances:
        one["exits"][0] |= {"hypothesis": "x x", "errors": {"S": 2, "D": 0, "I": 0}}
    assert isotonic_value(fit_confidence(utterances)["words"]["2"], 0.3) == pytest.approx(0.5 / 41)
    predicted, *_ = held_out("words", utterances, 0)
    assert set(predicted) == {0.5 / 21}, "what is judged is clipped, too"


def test_the_utterances_that_stop_have_maps_of_their_own():
    hard, easy = overconfident(200, seed=1), overconfident(200, seed=2)
    for one in easy:  # the policy stops those of which the model is right at any confidence
        one["exits"][0] |= {"hypothesis": "a b", "errors": {"S": 0, "D": 0, "I": 0}}
    utterances = [{**one, "exits": [one["exits"][0], one["exits"][0] | {"layer": 4}]} for one in hard + easy]
    found = fit_confidence(utterances, [1] * 200 + [0] * 200)
    for kind, surer in (("words", 1), ("wer", -1)):
        of_all = confidence_map(found, kind, 2, is_calibrated=False)
        stopped = confidence_map(found, kind, 2, is_calibrated=True)
        assert of_all == fit_confidence(utterances)[kind]["2"]
        assert surer * isotonic_value(stopped, 0.6) > surer * isotonic_value(of_all, 0.6) + 0.1
        assert confidence_map(found, kind, 4, is_calibrated=True) == fit_confidence(utterances[:200])[kind]["4"]
    assert found["stopped"]["ece"]["2"]["words"] < 0.02


def test_an_exit_at_which_few_stop_has_the_map_of_all():
    utterances = overconfident(200)
    utterances = [{**one, "exits": [one["exits"][0], one["exits"][0] | {"layer": 4}]} for one in utterances]
    found = fit_confidence(utterances, [0] * 49 + [1] * 151)
    assert list(found["stopped"]["words"]) == ["4"]
    assert confidence_map(found, "words", 2, is_calibrated=True) == found["words"]["2"]
    assert confidence_map({"words": {}, "wer": {}, "ece": {}}, "words", 2, is_calibrated=True) is None, "an old file"


def test_a_file_without_texts_gives_less():
    utterances = overconfident()
    for one in utterances:
        del one["exits"][0]["word_confidence"], one["exits"][0]["hypothesis"], one["reference"]
    found = fit_confidence(utterances)
    assert found["words"] == {} and list(found["wer"]) == ["2"] and list(found["ece"]["2"]) == ["wer"]
    for one in utterances:
        one["exits"][0]["scores"] = {"entropy": 0.1}
    assert fit_confidence(utterances) == {"words": {}, "wer": {}, "ece": {}}
