# SPDX-License-Identifier: Apache-2.0
"""Policies by hand: when they stop, which heads they need, what they refuse."""

import json
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import speechbrain_ee.scores
from speechbrain_ee.policies import FixedExit, Look, ScoreThreshold, policy_from_dict

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
        with pytest.raises(ValueError, match="2 thresholds for the 3 exits 2, 4, 6"):
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


@pytest.mark.parametrize(
    "policy",
    [
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
    package = str(Path(speechbrain_ee.scores.__file__).parent)
    code = f"""
import sys, types
sys.modules.update(torch=None, numpy=None)  # every import of theirs fails
package = types.ModuleType("speechbrain_ee")  # a device has these files without the rest
package.__path__ = [{package!r}]
sys.modules["speechbrain_ee"] = package
from speechbrain_ee.policies import Look, ScoreThreshold
print(ScoreThreshold("entropy", 0.2).stop(Look(0, (2, 4), [{{"entropy": 0.1}}])))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.strip() == "True"
