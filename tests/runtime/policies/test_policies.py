# SPDX-License-Identifier: Apache-2.0
"""Policies by hand: when they stop, which heads they need, what they refuse."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest

from ee_runtime.policies import (
    Capped,
    FixedExit,
    LearnedThreshold,
    Look,
    Patience,
    RunningBudget,
    ScoreThreshold,
    Slowdown,
    TokenBucket,
    paper_entropy,
    paper_posterior,
    policy_from_dict,
)
from ee_runtime.policies.learned import ExitRegression, LearnedScore

LAYERS = (2, 4, 6)
NAN = float("nan")


def _look(exit_index, score):
    return Look(exit_index=exit_index, exit_layers=LAYERS, scores=[{"entropy": score}])


class TestFixedExit:
    def test_stops_at_its_layer_and_needs_only_that_head(self):
        policy = FixedExit(4)
        assert [policy.stop(_look(i, NAN)) for i in range(3)] == [False, True, True]
        assert [policy.needs_head(i, LAYERS) for i in range(3)] == [False, True, False]
        assert policy.score_names == ()

    def test_none_is_the_last_exit(self):
        assert [FixedExit().needs_head(i, LAYERS) for i in range(3)] == [False, False, True]

    def test_layer_without_exit_is_refused(self):
        with pytest.raises(ValueError, match="exit layer 3 is not an exit .* one of 2, 4, 6"):
            FixedExit(3).stop(_look(0, 0.0))


class TestScoreThreshold:
    def test_lower_is_surer_and_equal_stops(self):
        policy = ScoreThreshold("entropy", 0.2)
        assert [policy.stop(_look(0, score)) for score in (0.1, 0.2, 0.3)] == [True, True, False]

    def test_higher_is_surer_and_equal_stops(self):
        policy = ScoreThreshold("confidence", 0.8)
        looks = [Look(0, LAYERS, [{"confidence": score}]) for score in (0.9, 0.8, 0.7)]
        assert [policy.stop(look) for look in looks] == [True, True, False]

    def test_last_exit_always_stops(self):
        assert ScoreThreshold("entropy", -1.0).stop(_look(2, 0.9))
        assert ScoreThreshold("entropy", -1.0).stop(_look(2, NAN))

    @pytest.mark.parametrize("undefined", [NAN, None])
    def test_an_undefined_score_never_stops(self, undefined):
        assert not ScoreThreshold("entropy", math.inf).stop(_look(0, undefined))

    def test_only_the_current_exit_counts(self):
        look = Look(1, LAYERS, [{"entropy": 0.0}, {"entropy": 0.5}])
        assert not ScoreThreshold("entropy", 0.2).stop(look)

    def test_threshold_per_exit(self):
        policy = ScoreThreshold("entropy", [None, 0.3, None])
        assert [policy.stop(_look(i, 0.25)) for i in range(3)] == [False, True, True]
        assert [policy.needs_head(i, LAYERS) for i in range(3)] == [False, True, True]

    def test_wrong_number_of_thresholds_is_refused(self):
        with pytest.raises(ValueError, match="2 thresholds for 3 exits 2, 4, 6"):
            ScoreThreshold("entropy", [0.1, 0.2]).stop(_look(0, 0.1))

    @pytest.mark.parametrize("threshold", [NAN, None, "0.1", [0.1, NAN]])
    def test_no_number_is_refused(self, threshold):
        with pytest.raises(ValueError, match="FixedExit for full depth"):
            ScoreThreshold("entropy", threshold)

    def test_unknown_score_is_refused(self):
        with pytest.raises(ValueError, match="known: entropy"):
            ScoreThreshold("surprise", 0.1)

    def test_a_score_that_was_not_computed_is_named(self):
        with pytest.raises(ValueError, match="'confidence' was not computed .*: entropy"):
            ScoreThreshold("confidence", 0.5).stop(_look(0, 0.1))


def test_a_score_without_a_direction_has_no_threshold():
    with pytest.raises(ValueError, match="'token_rate' does not measure how sure the model is; use entropy,"):
        ScoreThreshold("token_rate", 0.1)


def test_a_score_that_compares_exits_needs_every_head():
    assert ScoreThreshold("agreement", [None, None, 0.5]).needs_head(0, LAYERS)
    assert not ScoreThreshold("entropy", [None, None, 0.5]).needs_head(0, LAYERS)


def test_the_rules_of_the_paper():
    # 0.004 = 3.2 nats over 4 frames x 200 tokens; ours divides by 4 frames x log 200
    assert paper_entropy(0.004, 200).threshold == pytest.approx(3.2 / (4 * math.log(200)))
    single = Look(0, LAYERS, [{"posterior": 1.0}])
    shared = Look(0, LAYERS, [{"posterior": 0.95}])
    assert [paper_posterior(0.9, as_published=True).stop(look) for look in (single, shared)] == [True, True]
    assert [paper_posterior(0.9).stop(look) for look in (single, shared)] == [False, True]


class TestPatience:
    def looks(self, *agreements):
        scores = [{"agreement": value} for value in agreements]
        return [Look(i, (2, 4, 6, 8, 10), scores[: i + 1]) for i in range(len(scores))]

    def test_counts_agreements_in_a_row(self):
        assert [Patience(2).value(look) for look in self.looks(0.0, 1.0, 1.0, 0.9)] == [0, 1, 2, 0]
        assert [Patience(2).stop(look) for look in self.looks(0.0, 1.0, 1.0)] == [False, False, True]
        assert [Patience(1, level=0.9).stop(look) for look in self.looks(0.0, 0.95)] == [False, True]

    def test_nan_breaks_the_row(self):
        assert Patience(1).value(self.looks(0.0, 1.0, NAN)[-1]) == 0

    @pytest.mark.parametrize("level", [0, 1.1, NAN])
    def test_a_level_that_is_no_agreement_is_refused(self, level):
        with pytest.raises(ValueError, match="level is"):
            Patience(1, level=level)


def learned_score(exit_layers=(2, 4, 6)):
    """Errors saved per layer = log entropy, at every exit and for every deeper one; before: nothing."""
    exits = [
        ExitRegression([0.0] * size, [1.0] * size, [[1.0] + [0.0] * (size - 1)] * deeper, [0.0] * deeper)
        for size, deeper in ((3, 2), (6, 1))
    ]
    return LearnedScore(["entropy"], list(exit_layers), exits)


class TestLearnedThreshold:
    def test_lower_is_surer_and_nan_never_stops(self):
        policy = LearnedThreshold(learned_score(), math.log(0.2))
        assert [policy.stop(_look(0, score)) for score in (0.1, 0.3, NAN)] == [True, False, False]

    def test_another_model_is_refused(self):
        with pytest.raises(ValueError, match=r"for exits \[2, 4, 6\], but the model has exits \[1, 2, 3\]"):
            LearnedThreshold(learned_score(), 0.0).needs_head(0, (1, 2, 3))

    def test_the_last_exit_has_no_value(self):
        scores = [{"entropy": 0.5}] * 3
        assert LearnedThreshold(learned_score(), 0.0).value(Look(2, LAYERS, scores, facts={"duration": 1.0})) is None

    @pytest.mark.parametrize("values", [{}, {"score_names": ["entropy"], "exit_layers": [2, 4], "exits": []}])
    def test_what_is_no_learned_score_is_refused(self, values):
        with pytest.raises(ValueError, match="fit it again"):
            LearnedThreshold(values, 0.0)


def _costly_look(exit_index, duration=2.0, score=0.9, clock=None):
    macs, scores = [100, 300, 600], [{"entropy": score}] * (exit_index + 1)
    return Look(exit_index, LAYERS, scores, macs, {"duration": duration}, clock=clock, started=10.0)


class TestCapped:
    def test_a_layer_that_is_deepest(self):
        for max_layer in (4, 5):  # the exits are at 2, 4, 6
            policy = Capped(FixedExit(), max_layer=max_layer)
            assert [policy.stop(_costly_look(i)) for i in range(3)] == [False, True, True]
        with pytest.raises(ValueError, match="max_layer is 1: give at least the first exit layer, 2"):
            Capped(FixedExit(), max_layer=1).needs_head(0, LAYERS)

    def test_law5_a_budget_is_exceeded_by_the_first_exit_only(self):
        for budget, expected in ((10, 0), (149, 0), (150, 1), (299, 1), (300, 2)):  # x 2 s
            policy = Capped(FixedExit(), macs_per_s=budget)
            stops = [policy.stop(_costly_look(i)) for i in range(3)]
            assert stops.index(True) == expected

    def test_law5_a_deadline_is_kept_by_the_measured_times(self):
        seconds = [(0.1, 0.05), (0.2, 0.2), (0.5, 0.35)]  # 0.2, 0.6 and 1.2 s for 2 s of audio
        for now, expected in (
            (10.0, [False, True]),
            (10.1, [False, True]),
            (10.2, [True, True]),
            (9.8, [False, False]),
        ):
            policy = Capped(FixedExit(), deadline_ms=500, seconds_to_exit=seconds)
            assert [policy.stop(_costly_look(i, clock=lambda now=now: now)) for i in (0, 1)] == expected, now
            assert [policy.cuts(_costly_look(i, clock=lambda now=now: now)) for i in (0, 1, 2)] == [*expected, False]

    @pytest.mark.parametrize(("facts", "text_s"), [({}, 0.2 + 2 * 0.1), ({"call_duration": 9.0}, 0.2 + 9 * 0.1)])
    def test_law5_the_time_of_the_text_is_in_a_deadline(self, facts, text_s):
        times = {"seconds_to_exit": [(0, 0.1), (0, 0.2), (0, 0.3)], "seconds_to_text": (0.2, 0.1)}
        for spare, stops in ((0.001, False), (-0.001, True)):
            deadline_ms = 1000 * (0.2 + text_s + spare)  # 0.2 s to the next exit
            look = _costly_look(0, clock=lambda: 10.0)
            look.facts |= facts
            assert Capped(FixedExit(), deadline_ms=deadline_ms, **times).stop(look) == stops

    def test_a_batch_pays_the_offset_once(self):
        times = {"seconds_to_exit": [(0, 0.0), (0.3, 0.1), (9, 9)]}
        look = _costly_look(0, clock=lambda: 10.0)
        look.facts["batch_duration"] = 10.0  # 0.3 + 10 * 0.1 = 1.3 s
        assert not Capped(FixedExit(), deadline_ms=1301, **times).stop(look)
        assert Capped(FixedExit(), deadline_ms=1299, **times).stop(look)

    def test_only_needed_heads_are_asked_for(self):
        assert [Capped(FixedExit(), max_layer=4).needs_head(i, LAYERS) for i in range(3)] == [False, False, True]
        assert [Capped(FixedExit(), max_layer=4).cuts(_costly_look(i)) for i in range(3)] == [False, True, False]
        entropy = Capped(ScoreThreshold("entropy", [None, 0.5, None]), macs_per_s=100)
        assert [entropy.needs_head(i, LAYERS) for i in range(3)] == [False, True, True]
        assert entropy.cuts(_costly_look(0)) and not FixedExit(4).cuts(_costly_look(0))
        nested = Capped(Capped(FixedExit(), max_layer=2), macs_per_s=1e9)
        assert nested.cuts(_costly_look(0)) and nested.needs_head(2, LAYERS)

    @pytest.mark.parametrize("seconds", [[0.1, 0.2, 0.3], [(1, 2, 3)] * 3, [("a", 1)] * 3])
    def test_times_that_are_no_lines_are_refused(self, seconds):
        with pytest.raises(ValueError, match="give an offset in seconds and seconds per second of audio"):
            Capped(FixedExit(), deadline_ms=5, seconds_to_exit=seconds)

    def test_a_deadline_that_is_just_met_is_met(self):
        seconds = [(0, 0.25), (0, 0.5), (0, 1.0)]  # per second of audio: 0.5 s more for 2 s of audio
        policy = Capped(FixedExit(), deadline_ms=500, seconds_to_exit=seconds)
        assert not policy.stop(_costly_look(0, clock=lambda: 10.0))

    def test_a_deadline_goes_by_the_audio_of_the_whole_batch(self):
        policy = Capped(FixedExit(), deadline_ms=500, seconds_to_exit=[(0, 0.1), (0, 0.3), (0, 0.6)])
        look = _costly_look(0, clock=lambda: 10.0)
        assert not policy.stop(look)  # 0.4 s more for 2 s of audio
        look.facts["batch_duration"] = 3.0  # 0.6 s more for all
        assert policy.stop(look)

    def test_the_policy_inside_may_stop_sooner(self):
        assert Capped(ScoreThreshold("entropy", 1.0), max_layer=6).stop(_costly_look(0))

    @pytest.mark.parametrize(
        ("limits", "message"),
        [
            ({"macs_per_s": 0}, "macs_per_s is 0: give a number above 0"),
            ({"deadline_ms": 5}, "deadline_ms needs seconds_to_exit"),
            ({"max_layer": "all"}, "max_layer is 'all'"),
        ],
    )
    def test_limits_that_are_none_are_refused(self, limits, message):
        with pytest.raises(ValueError, match=message):
            Capped(FixedExit(), **limits)

    def test_a_limit_may_be_a_function_and_may_change_within_an_utterance(self):
        limit = {"layer": 6}
        policy = Capped(FixedExit(), max_layer=lambda: limit["layer"])
        assert not policy.stop(_costly_look(0))
        limit["layer"] = 4
        assert policy.stop(_costly_look(1)) and not policy.stop(_costly_look(0))
        limit["layer"] = None
        assert not policy.cuts(_costly_look(1))
        limit["layer"] = 1  # below the first exit, which has run
        assert policy.needs_head(2, LAYERS) and policy.stop(_costly_look(0))
        limit["layer"] = np.int64(0)
        assert policy.stop(_costly_look(0))
        limit["layer"] = "deep"
        with pytest.raises(ValueError, match="the function max_layer returned 'deep': return a number, or None"):
            policy.stop(_costly_look(0))
        with pytest.raises(ValueError, match="max_layer is a function, which cannot be saved"):
            policy.to_dict()

    def test_a_deadline_may_change_within_an_utterance(self):
        deadline, times = {"ms": None}, [(0, 0.25), (0, 0.5), (0, 1.0)]
        policy = Capped(FixedExit(), deadline_ms=lambda: deadline["ms"], seconds_to_exit=times)
        assert not policy.stop(_costly_look(0, clock=lambda: 10.5))
        deadline["ms"] = 1900  # at 1 s, the last segment takes 1 s more
        assert policy.stop(_costly_look(1, clock=lambda: 11.0))

    def test_a_deadline_goes_by_how_slow_the_last_segment_was(self):
        times = [(0, 0.25), (0, 0.5), (0, 0.75)]  # 0.5 s per segment
        for seconds, stops in ((0.5, False), (0.9, True)):  # of the first segment
            policy = Capped(FixedExit(), deadline_ms=1600, seconds_to_exit=times, slowdown=Slowdown(step=1e-9))
            assert policy.stop(_costly_look(0, clock=lambda seconds=seconds: 10 + seconds)) == stops

    def test_unknown_costs_and_durations_are_said(self):
        look = Look(0, LAYERS, [{}])
        with pytest.raises(ValueError, match="needs the MACs of every exit"):
            Capped(FixedExit(), macs_per_s=1).stop(look)
        look.macs = [1, 2, 3]
        with pytest.raises(ValueError, match="needs the utterance's duration"):
            Capped(FixedExit(), macs_per_s=1).stop(look)


class TestRunningBudget:
    THRESHOLDS = [0.0, 0.25, 0.5, 0.75, 1.0]

    def stream(self, policy, count=2000, seed=0):
        """Average cost after each of many utterances of random scores, and the exits taken."""
        rng = np.random.default_rng(seed)
        spent, seconds, averages, exits = 0.0, 0.0, [], []
        for _ in range(count):
            duration, scores = rng.uniform(0.5, 1.5), rng.uniform(0, 1, 3)
            macs = [duration * cost for cost in (100, 300, 600)]
            for index in range(3):
                look = Look(index, LAYERS, [{"entropy": x} for x in scores[: index + 1]], macs, {"duration": duration})
                if policy.stop(look):
                    break
            spent, seconds = spent + macs[index], seconds + duration
            averages.append(spent / seconds)
            exits.append(index)
        return averages, exits

    @pytest.mark.parametrize("budget", [150, 250, 400, 550])
    def test_law5_the_average_is_held_and_used(self, budget):
        policy = RunningBudget(ScoreThreshold("entropy", 0.0), thresholds=self.THRESHOLDS, macs_per_s=budget)
        averages, exits = self.stream(policy)
        assert max(averages) <= budget * (1 + 1e-9)
        assert averages[-1] >= 0.95 * budget, "what may be spent is spent"
        assert len(set(exits)) > 1

    def test_law5_a_budget_below_the_first_exit_takes_it_all_the_same(self):
        policy = RunningBudget(ScoreThreshold("entropy", 0.0), thresholds=self.THRESHOLDS, macs_per_s=50)
        averages, exits = self.stream(policy, count=20)
        assert set(exits) == {0} and averages[-1] == pytest.approx(100)

    def test_a_budget_that_is_just_enough_is_used(self):
        policy = RunningBudget(ScoreThreshold("entropy", 0.0), thresholds=[-1.0, -1.0], macs_per_s=600)
        assert self.stream_of_seconds(policy, 5) == [2] * 5

    def stream_of_seconds(self, policy, count):
        """Utterances of one second, whose costs are whole numbers."""
        exits = []
        for _ in range(count):
            looks = (
                Look(i, LAYERS, [{"entropy": 0.5}] * (i + 1), [100, 300, 600], {"duration": 1.0}) for i in range(3)
            )
            exits.append(next(look.exit_index for look in looks if policy.stop(look)))
        return exits

    def test_the_place_stays_on_the_thresholds(self):
        # all stop at the first exit, at three times the budget: the place is pushed beyond the end again and again
        policy = RunningBudget(ScoreThreshold("entropy", 0.0), thresholds=[0.0, 1.0], macs_per_s=30, step=0.3)
        assert self.stream_of_seconds(policy, 5) == [0] * 5
        assert policy._threshold() == 1.0

    def test_a_rich_budget_is_full_depth(self):
        policy = RunningBudget(ScoreThreshold("entropy", 0.0), thresholds=self.THRESHOLDS, macs_per_s=1e6)
        _, exits = self.stream(policy, count=200)
        assert set(exits[100:]) == {2}

    def test_what_a_cap_stops_is_not_spent(self):
        inner = RunningBudget(ScoreThreshold("entropy", 0.0), thresholds=self.THRESHOLDS, macs_per_s=1e6)
        policy = Capped(inner, max_layer=LAYERS[0])
        averages, exits = self.stream(policy, count=30)
        assert set(exits) == {0}
        assert inner._spent / inner._seconds == pytest.approx(averages[-1])

    def test_reset_begins_a_new_stream(self):
        policy = RunningBudget(ScoreThreshold("entropy", 0.0), thresholds=self.THRESHOLDS, macs_per_s=250)
        first = self.stream(policy, count=50)
        assert self.stream(policy, count=50) != first
        policy.reset()
        assert self.stream(policy, count=50) == first

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"policy": FixedExit()}, "moves a threshold, but fixed_exit has none"),
            ({"thresholds": [0.1]}, "got 1 thresholds"),
            ({"macs_per_s": -1}, "macs_per_s is -1"),
        ],
    )
    def test_what_cannot_be_held_is_refused(self, arguments, message):
        whole = {"policy": ScoreThreshold("entropy", 0.0), "thresholds": self.THRESHOLDS, "macs_per_s": 1.0}
        with pytest.raises(ValueError, match=message):
            RunningBudget(**whole | arguments)


class TestSlowdown:
    @pytest.mark.parametrize("miss", [0.01, 0.1])
    def test_the_share_of_slow_segments_is_kept_whatever_the_load(self, miss):
        generator, slowdown, misses = np.random.default_rng(0), Slowdown(miss=miss, step=0.3), 0
        for index in range(20000):
            load = 2.5 if index // 700 % 2 else 1.0  # on and off
            seconds = load * generator.lognormal(0.0, 0.1)
            misses += seconds > slowdown.factor
            slowdown.observe(expected=1.0, seconds=seconds)
        assert misses / 20000 == pytest.approx(miss, rel=0.2)

    def test_the_first_utterance_of_a_batch_counts_once(self):
        slowdown = Slowdown()
        policy = Capped(FixedExit(), deadline_ms=9e9, seconds_to_exit=[(0, 1)] * 3, slowdown=slowdown)
        for _ in range(3):
            policy.stop(_costly_look(0, clock=lambda: 20.0))  # 10 s instead of 2
        assert slowdown.factor == pytest.approx(np.exp(0.5 * (1 - 0.005)))

    @pytest.mark.parametrize("arguments", [{"miss": 0}, {"miss": 1}, {"step": 0}])
    def test_arguments_out_of_range(self, arguments):
        with pytest.raises(ValueError, match="give a share in"):
            Slowdown(**arguments)


class TestTokenBucket:
    def stream(self, policy, seconds, *, layers=LAYERS):
        """Return the exits of utterances that arrive at the given times and take no time."""
        taken = []
        for now in seconds:
            for index in range(len(layers)):
                if policy.stop(_costly_look(index, clock=lambda now=now: now)):
                    taken.append(index)
                    break
        return taken

    def test_spends_what_it_has_and_then_what_it_gains(self):
        policy = TokenBucket(FixedExit(), macs_per_s=100, capacity=600)  # exits cost 100, 300 and 600
        assert self.stream(policy, [0, 0, 1, 5, 100]) == [2, 0, 0, 1, 2]
        assert policy.credit == 0
        policy.add(1e9)
        assert policy.credit == 600
        policy.reset()
        assert self.stream(policy, [0]) == [2]

    def test_the_policy_inside_may_stop_sooner_and_then_nothing_more_is_paid(self):
        policy = TokenBucket(ScoreThreshold("entropy", 1.0), macs_per_s=100, capacity=600)
        assert self.stream(policy, [0]) == [0] and policy.credit == 500

    def test_in_the_long_run_it_spends_no_more_than_it_gains(self):
        policy, generator = TokenBucket(FixedExit(), macs_per_s=100, capacity=600), np.random.default_rng(0)
        seconds = np.cumsum(generator.exponential(3.0, 500))
        spent = sum((100, 300, 600)[index] for index in self.stream(policy, seconds))
        assert 0.75 < spent / (100 * seconds[-1] + 600) <= 1.0

    def test_it_cuts_where_no_head_is_needed(self):
        policy = TokenBucket(FixedExit(), macs_per_s=1, capacity=350)
        clock = {"clock": lambda: 0.0}
        assert [policy.cuts(_costly_look(0, **clock)), policy.cuts(_costly_look(1, **clock))] == [False, True]
        assert [policy.needs_head(index, LAYERS) for index in range(3)] == [False, False, True]

    def test_bad_numbers_and_a_missing_clock(self):
        with pytest.raises(ValueError, match="capacity is 0: give a number above 0"):
            TokenBucket(FixedExit(), macs_per_s=1, capacity=0)
        with pytest.raises(ValueError, match="needs a clock"):
            TokenBucket(FixedExit(), macs_per_s=1, capacity=1).stop(_costly_look(0))


@pytest.mark.parametrize(
    "policy",
    [
        Patience(2, level=0.9),
        LearnedThreshold(learned_score(), 0.01),
        Capped(ScoreThreshold("entropy", 0.1), max_layer=4, deadline_ms=20.0, seconds_to_exit=[(0.5, 1.0)] * 3),
        Capped(FixedExit(), deadline_ms=20.0, seconds_to_exit=[(0.5, 1.0)] * 3, seconds_to_text=(0.1, 0.2)),
        RunningBudget(ScoreThreshold("entropy", 0.0), thresholds=[0.0, 1.0], macs_per_s=1e9),
        TokenBucket(ScoreThreshold("entropy", 0.5), macs_per_s=1e9, capacity=2e9),
        ScoreThreshold("posterior", 0.9, guarded=True),
        FixedExit(4),
        FixedExit(),
        ScoreThreshold("entropy", 0.25),
        ScoreThreshold("confidence", np.array([0.5, 0.75, 1.0])),
        ScoreThreshold("entropy", (None, 0.1, None)),
    ],
)
def test_a_policy_survives_json(policy):
    again = policy_from_dict(json.loads(json.dumps(policy.to_dict())))
    assert type(again) is type(policy)
    assert again.to_dict() == policy.to_dict()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"policy": "magic"}, "unknown exit policy 'magic'; known: fixed_exit, score_threshold"),
        ({}, "unknown exit policy None"),
        ({"policy": "score_threshold", "score": "entropy"}, "threshold"),
        ({"policy": "fixed_exit", "depth": 3}, "depth"),
    ],
)
def test_broken_policy_values_are_refused(values, message):
    with pytest.raises(ValueError, match=message):
        policy_from_dict(values)


def test_needs_the_standard_library_alone():
    code = """
import sys
sys.modules.update(torch=None, numpy=None)  # every import of theirs fails
from ee_runtime.policies import Look, ScoreThreshold
print(ScoreThreshold("entropy", 0.2).stop(Look(0, (2, 4), [{"entropy": 0.1}])))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.strip() == "True"


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (FixedExit(), "FixedExit()"),
        (Patience(2), "Patience(2.0, level=1.0)"),
        (
            ScoreThreshold("posterior", [0.9, None], guarded=True),
            "ScoreThreshold('posterior', threshold=[0.9, None], guarded=True)",
        ),
        (
            RunningBudget(ScoreThreshold("entropy", 0.0), thresholds=[0.1, 0.2], macs_per_s=5.0),
            "RunningBudget(ScoreThreshold('entropy', threshold=0.1), macs_per_s=5.0, step=0.02)",
        ),
        (TokenBucket(FixedExit(), macs_per_s=5, capacity=9), "TokenBucket(FixedExit(), macs_per_s=5, capacity=9.0)"),
    ],
)
def test_a_repr_says_what_a_policy_is(policy, expected):
    assert repr(policy) == expected


def test_the_repr_of_a_learned_policy_is_short():
    assert repr(LearnedThreshold(learned_score(), 0.5)).endswith(", threshold=0.5)")
    assert len(repr(LearnedThreshold(learned_score(), 0.5))) < 200
