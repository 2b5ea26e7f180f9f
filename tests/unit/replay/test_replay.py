# SPDX-License-Identifier: Apache-2.0
"""Replay and sweep on a file small enough to work out on paper."""

import json
import math
import subprocess
import sys
import time

import numpy as np
import pytest

from ee_runtime.policies import FixedExit, Patience, ScoreThreshold
from speechbrain_ee.replay.equal_cost import errors_at_costs
from speechbrain_ee.replay.replay import oracle, oracle_result, replay, static_wer
from speechbrain_ee.replay.sweeps import cheapest_threshold, choose_threshold, sweep
from speechbrain_ee.replay.unsureness import limits_between

LAYERS = (2, 4, 6)
NAN = float("nan")


def by(score):
    return ScoreThreshold(score, 0.0)


def _utterance(words, errors, entropy, duration=2.0):
    exits = [
        {
            "layer": layer,
            "errors": {"S": wrong, "D": 0, "I": 0},
            "scores": {"entropy": score, "confidence": 1 - score},
            "macs": 100.0 * layer,
        }
        for layer, wrong, score in zip(LAYERS, errors, entropy, strict=True)
    ]
    return {"num_words": words, "duration": duration, "exits": exits}


@pytest.fixture
def utterances():
    """Static WERs of 20 words: 7 -> 35 %, 4 -> 20 %, 2 -> 10 %."""
    return [
        _utterance(4, (0, 0, 0), (0.1, 0.1, 0.1)),
        _utterance(6, (2, 1, 1), (0.3, 0.2, 0.4)),
        _utterance(10, (5, 3, 1), (0.5, 0.4, 0.3)),
    ]


def _random(count, exits=6, seed=0, nan_share=0.05):
    rng = np.random.default_rng(seed)
    scores = rng.random((count, exits))
    scores[rng.random(scores.shape) < nan_share] = NAN
    errors = rng.integers(0, 5, (count, exits))
    macs = np.cumsum(rng.integers(1, 9, (count, exits)), axis=1)
    return [
        {
            "num_words": int(rng.integers(1, 30)),
            "duration": float(rng.random() + 1),
            "exits": [
                {
                    "layer": 2 * e + 2,
                    "errors": {"S": int(errors[u, e]), "D": 0, "I": 0},
                    "scores": {"entropy": float(scores[u, e]), "posterior": float(scores[u, e])},
                    "macs": int(macs[u, e]),
                }
                for e in range(exits)
            ],
        }
        for u in range(count)
    ]


def test_static_wer_and_oracle_by_hand(utterances):
    assert static_wer(utterances) == {2: 35.0, 4: 20.0, 6: 10.0}
    # Earliest exits with the fewest errors: 2 (0 errors), 4 (1), 6 (1).
    assert oracle(utterances) == {"wer": 10.0, "mean_layer": 4.0}
    assert oracle_result(utterances).exit_indices == [0, 1, 2]
    assert oracle_result(utterances).macs_per_s == 1200 / 6


def test_replay_by_hand(utterances):
    result = replay(ScoreThreshold("entropy", 0.3), utterances)
    assert result.exit_indices == [0, 0, 2]
    assert result.wer == 100 * (0 + 2 + 1) / 20
    assert result.mean_layer == (2 + 2 + 6) / 3
    assert result.macs_per_s == 100 * (2 + 2 + 6) / 6
    assert result.histogram == {2: 2, 4: 0, 6: 1}


def test_replay_shows_a_policy_only_the_heads_it_needs(utterances):
    class Recorder(FixedExit):
        looks = []

        def stop(self, look):
            self.looks.append((look.exit_index, len(look.scores), list(look.macs)))
            return super().stop(look)

    assert replay(Recorder(4), utterances[:1]).exit_indices == [1]
    assert Recorder.looks == [(1, 1, [200.0, 400.0, 600.0])]


def test_replay_of_fixed_exits_is_static(utterances):
    for layer, wer in static_wer(utterances).items():
        result = replay(FixedExit(layer), utterances)
        assert (result.wer, result.mean_layer) == (wer, layer)


def test_cost_is_unknown_without_macs_or_duration(utterances):
    del utterances[1]["duration"]
    assert replay(FixedExit(4), utterances).macs_per_s is None
    assert sweep(by("entropy"), utterances, [0.3])[0]["macs_per_s"] is None
    del utterances[0]["exits"][0]["macs"]
    assert replay(FixedExit(4), utterances).mean_layer == 4


def test_sweep_entry_is_the_contract(utterances):
    entry = sweep(by("entropy"), utterances, [0.3])[0]
    assert json.loads(json.dumps(entry)) == {
        "threshold": 0.3,
        "wer": 15.0,
        "mean_layer": 10 / 3,
        "macs_per_s": 1000 / 6,
        "histogram": {"2": 2, "4": 0, "6": 1},
    }


@pytest.mark.parametrize("score", ["entropy", "posterior"])
def test_sweep_equals_replay(score):
    utterances = _random(60)
    observed = [u["exits"][0]["scores"][score] for u in utterances[:5]]  # ties with scores
    thresholds = [x for x in observed if x == x] + [0.31, -1.0, 2.0, math.inf, -math.inf]
    for threshold, entry in zip(thresholds, sweep(by(score), utterances, thresholds), strict=True):
        result = replay(ScoreThreshold(score, threshold), utterances)
        assert entry["threshold"] == threshold
        assert entry["wer"] == pytest.approx(result.wer, rel=1e-12)
        assert entry["mean_layer"] == result.mean_layer
        assert entry["macs_per_s"] == pytest.approx(result.macs_per_s, rel=1e-12)
        assert entry["histogram"] == {str(k): v for k, v in result.histogram.items()}


@pytest.mark.parametrize("score", ["entropy", "posterior"])
def test_law5_default_sweep_runs_from_the_last_exit_to_the_first(score):
    utterances = _random(40, nan_share=0.0)
    entries = sweep(by(score), utterances)
    never, always = entries[0], entries[-1]
    assert (never["mean_layer"], always["mean_layer"]) == (12.0, 2.0)
    assert never["wer"] == pytest.approx(static_wer(utterances)[12])
    assert always["wer"] == pytest.approx(static_wer(utterances)[2])
    layers = [entry["mean_layer"] for entry in entries]
    assert layers == sorted(layers, reverse=True)
    assert len(entries) <= 200
    json.dumps(entries, allow_nan=False)  # every threshold is a finite number


def test_law5_a_nan_score_never_stops():
    utterances = _random(30, nan_share=1.0)
    assert {e["mean_layer"] for e in sweep(by("entropy"), utterances, [-1, 0.5, math.inf])} == {12.0}
    assert [e["mean_layer"] for e in sweep(by("entropy"), utterances)] == [12.0]
    assert choose_threshold(by("entropy"), utterances, 50)["threshold"] is None


def test_a_file_of_librispeech_size_is_swept_in_a_second():
    utterances = _random(2600)
    begin = time.perf_counter()
    assert len(sweep(by("entropy"), utterances)) == 200
    assert time.perf_counter() - begin < 1.0  # measured: 0.03 s


def test_choose_threshold_by_hand(utterances):
    # Last exit 10 %. From 0.1 on: exits 2, 6, 6 and 10 %. From 0.2 on: 2, 4, 6 and 10 %. From 0.3 on: 2, 2, 6
    # and 15 %. From 0.4 on: 2, 2, 4 and 25 %. From 0.5 on: 2, 2, 2 and 35 %. A threshold lies between two of them.
    assert choose_threshold(by("entropy"), utterances, 0)["threshold"] == pytest.approx(0.25)
    assert choose_threshold(by("entropy"), utterances, 4.9)["threshold"] == pytest.approx(0.25)
    assert choose_threshold(by("entropy"), utterances, 5)["threshold"] == pytest.approx(0.35)
    assert choose_threshold(by("confidence"), utterances, 5)["threshold"] == pytest.approx(0.65)
    entry = choose_threshold(by("entropy"), utterances, 25)
    assert entry == sweep(by("entropy"), utterances, [entry["threshold"]])[0]
    assert entry["threshold"] == pytest.approx(0.55)


def test_choose_threshold_without_costs_counts_layers(utterances):
    for utterance in utterances:
        del utterance["duration"]
        for exit in utterance["exits"]:
            del exit["macs"]
    assert choose_threshold(by("entropy"), utterances, 5)["threshold"] == pytest.approx(0.35)


def test_choose_threshold_keeps_full_depth_when_none_is_good_enough():
    utterances = [_utterance(5, (1, 1, 0), (0.1, 0.1, 0.9)), _utterance(5, (1, 1, 0), (0.2,) * 3)]
    entry = choose_threshold(by("entropy"), utterances, 9.9)
    assert (entry["threshold"], entry["wer"], entry["mean_layer"]) == (None, 0.0, 6.0)
    assert choose_threshold(by("entropy"), utterances, 10)["threshold"] == pytest.approx(0.15)


def with_heads(utterances, head=30.0):
    """The same where a head costs something: ``macs`` has every head on the way, ``static_macs`` the exit's own."""
    for utterance in utterances:
        for index, exit in enumerate(utterance["exits"]):
            exit["static_macs"] = exit["macs"] + head
            exit["macs"] += head * (index + 1)
    return utterances


def test_a_share_of_the_cost_is_one_of_full_depth_with_its_last_head_alone(utterances):
    # Full depth: 3 * 630. Exits 2, 2, 6 with every head on the way: 230 + 230 + 690.
    share = (230 + 230 + 690) / (3 * 630)
    threshold, cheapest = cheapest_threshold(by("entropy"), with_heads(utterances), share + 1e-9)
    assert (threshold, cheapest) == (pytest.approx(0.35), 230 / 630)
    assert cheapest_threshold(by("entropy"), utterances, share - 1e-9)[0] == pytest.approx(0.45), "2, 2, 4"
    result = replay(by("entropy").with_threshold(threshold), utterances)
    assert result.macs_per_s / replay(FixedExit(), utterances).macs_per_s == pytest.approx(share)
    (errors,) = errors_at_costs(by("entropy"), utterances, [share])
    assert errors.sum() == 3, "the tables mean the same share"


def test_heads_that_a_policy_does_not_need_cost_nothing(utterances):
    with_heads(utterances)
    for layer, macs in ((2, 230), (4, 430), (6, 630)):
        assert replay(FixedExit(layer), utterances).macs_per_s == 3 * macs / 6
    skips_one = ScoreThreshold("entropy", [None, 0.2, None])  # exits 2, 4, 6 become 4, 4, 6
    assert replay(skips_one, utterances).macs_per_s == (430 + 430 + 660) / 6


def test_a_policy_that_costs_more_than_full_depth_is_not_chosen(utterances):
    # Only the first utterance may stop, at layer 4: 460, 690, 690 with all heads, 3 * 630 without.
    utterances[0]["exits"][0]["scores"]["entropy"] = 0.9
    for utterance in utterances[1:]:
        for exit in utterance["exits"]:
            exit["scores"]["entropy"] = 0.9
    assert choose_threshold(by("entropy"), with_heads(utterances), 0)["threshold"] == pytest.approx(0.5)
    dear = choose_threshold(by("entropy"), with_heads(utterances, 300.0), 0)
    assert (dear["threshold"], dear["macs_per_s"]) == (None, replay(FixedExit(), utterances).macs_per_s)


@pytest.mark.parametrize("score", ["entropy", "confidence", "posterior"])
def test_a_chosen_threshold_is_on_no_score(score):
    """Live, a score is off by rounding: nothing may hang on it."""
    utterances = _random(60)
    for utterance in utterances:
        for exit in utterance["exits"]:
            exit["scores"]["confidence"] = 1 - exit["scores"]["entropy"]
    scores = np.array([[exit["scores"][score] for exit in one["exits"]] for one in utterances])
    chosen = [choose_threshold(by(score), utterances, points)["threshold"] for points in (20, 50, 500)]
    chosen += [cheapest_threshold(by(score), utterances, share)[0] for share in (0.5, 0.8)]
    chosen += [entry["threshold"] for entry in sweep(by(score), utterances)]
    for threshold in filter(None, chosen):
        assert np.nanmin(np.abs(scores - threshold)) > 1e-7


def test_neighbours_in_floating_point_have_nothing_between_them():
    values = np.array([[0.5, np.nextafter(0.5, 1), 1.0]])
    assert limits_between(by("entropy"), values)[0] == 0.5
    assert limits_between(by("entropy"), np.array([[0.5]]))[0] > 0.5
    assert limits_between(by("entropy"), np.array([[NAN]])).size == 0
    assert limits_between(Patience(1), np.array([[-2.0, -1.0]])).tolist() == [-2.0, -1.0]


@pytest.mark.parametrize("increase", [-0.1, NAN])
def test_choose_threshold_refuses_a_negative_increase(utterances, increase):
    with pytest.raises(ValueError, match="0 or more"):
        choose_threshold(by("entropy"), utterances, increase)


def test_bad_files_are_refused(utterances):
    with pytest.raises(ValueError, match="no utterances"):
        sweep(by("entropy"), [])
    with pytest.raises(ValueError, match="'posterior' was not computed here.*entropy, confidence"):
        sweep(by("posterior"), utterances)
    with pytest.raises(ValueError, match="known: entropy"):
        sweep(by("surprise"), utterances)
    other = {**utterances[0], "exits": utterances[0]["exits"][:2]}
    with pytest.raises(ValueError, match=r"utterance 2 has exit layers \(2, 4\)"):
        static_wer([utterances[0], other])
    with pytest.raises(ValueError, match="reference words"):
        static_wer([{**utterances[0], "num_words": 0}])


def test_needs_no_torch():
    code = """
import sys
sys.modules.update(torch=None)  # every import of it fails
from ee_runtime.policies import ScoreThreshold
from speechbrain_ee.replay.replay import replay
exits = [{"layer": l, "errors": {"S": 0, "D": 0, "I": 0}, "scores": {"entropy": 0.1}}
         for l in (2, 4)]
print(replay(ScoreThreshold("entropy", 0.2), [{"num_words": 3, "exits": exits}]).histogram)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.strip() == "{2: 1, 4: 0}"
