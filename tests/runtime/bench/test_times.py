# SPDX-License-Identifier: Apache-2.0
"""Times of exits, with a clock that only the runs move."""

from types import SimpleNamespace

import numpy as np
import pytest

from ee_runtime.bench.inputs import BenchInput, noise_input
from ee_runtime.bench.times import EXIT, POLICY, measure, ratios, time_row
from ee_runtime.policies import FixedExit, Patience

WAVEFORM = np.zeros(16000, np.float32)


class ClockModel:
    """Takes, for an utterance of 1 s at layer n, n ms times ``slowness`` and one more ms for each earlier call."""

    sample_rate, max_part_s = 16000, 30.0

    def __init__(self, exit_layers, slowness=1.0, policy=None, drift=0.0):
        self.exit_layers, self.calibrated_policy = exit_layers, policy
        self.slowness, self.drift, self.now, self.calls = slowness, drift, 0.0, []

    def clock(self):
        return self.now

    def transcribe_waveforms(self, waveforms, policy=None, max_layer=None):
        layer = policy.layer if isinstance(policy, FixedExit) else max_layer or self.exit_layers[-1]
        self.calls.append((type(policy).__name__, layer))
        seconds = sum(map(len, waveforms)) / self.sample_rate
        self.now += (layer * seconds * self.slowness + self.drift * len(self.calls)) / 1000
        return [SimpleNamespace(macs=10**6 * layer, exit_layer=layer) for _ in waveforms]


def given(*calls):
    return BenchInput("noise", [list(call) for call in calls], sum(len(one) for call in calls for one in call) / 16000)


def test_every_round_times_every_exit_and_every_other_round_is_reversed():
    model, rounds = ClockModel((2, 4, 6)), []
    measured = measure([model], given([WAVEFORM]), rounds=3, before_round=lambda: rounds.append(len(model.calls)))
    layers = [layer for _, layer in model.calls]
    assert layers == [2, 4, 6] + [2] + [2, 4, 6] + [6] + [6, 4, 2] + [2] + [2, 4, 6], "all once, then one per round"
    assert rounds == [3, 7, 11]
    np.testing.assert_allclose([one.seconds for one in measured], [[[0.002]] * 3, [[0.004]] * 3, [[0.006]] * 3])


def test_a_row_has_minimum_median_slowest_call_and_macs():
    model = ClockModel((2,), drift=1.0)  # calls 4, 5, 7 and 8 are timed, the others warm up
    (measured,) = measure([model], given([WAVEFORM, WAVEFORM], [WAVEFORM]), rounds=2)
    np.testing.assert_allclose(measured.seconds, [[0.008, 0.007], [0.011, 0.010]])
    assert time_row(measured, audio_s=3.0, gflops=1.0) == pytest.approx(
        {
            "layer": 2,
            "min_s": 0.015,
            "median_s": 0.018,
            "slowest_call_s": 0.0095,
            "rtf": 0.006,
            "macs_per_s": 2e6,
            "gemm_share": 0.012 / 0.015,  # 6 * 10^6 MACs are 0.012 s at 10^9 operations per second
        }
    )
    assert time_row(measured, audio_s=3.0, gflops=None)["gemm_share"] is None


def test_the_policy_is_timed_with_each_limit_and_only_where_it_is_wanted():
    model = ClockModel((2, 4), policy=Patience(2))
    measured = measure([model], given([WAVEFORM]), rounds=1, with_policies=True)
    assert [one.run[:3] for one in measured] == [(EXIT, 2, 0), (EXIT, 4, 0), (POLICY, 2, 0), (POLICY, 4, 0)]
    assert [one.run.options for one in measured[2:]] == [{"max_layer": 2}, {"max_layer": None}]
    assert time_row(measured[2], audio_s=1.0, gflops=1.0)["mean_layer"] == 2
    assert {one.run.kind for one in measure([model], given([WAVEFORM]), rounds=1)} == {EXIT}
    assert len(measure([ClockModel((2, 4))], given([WAVEFORM]), rounds=1, with_policies=True)) == 2, "no calibration"


def test_ratios_are_of_the_same_round_common_exits_and_the_last():
    models = [ClockModel((2, 4, 6), slowness=3.0), ClockModel((2, 6, 12))]
    found = ratios(measure(models, given([WAVEFORM]), rounds=3))
    assert [(one["layer"], one["other_layer"]) for one in found] == [(2, 2), (6, 6), (6, 12)]
    assert [one["median"] for one in found] == pytest.approx([3.0, 3.0, 1.5])
    drifting = [
        ClockModel((1,), drift=1.0),
        ClockModel((1,)),
        # Calls 3, 4 and 6 of the first model are timed and take 4, 5 and 7 ms; in round 2, the other model warms up.
    ]
    (found,) = ratios(measure(drifting, given([WAVEFORM]), rounds=3))
    assert (found["kind"], found["median"]) == (EXIT, pytest.approx(5.0))
    assert found["range"] == pytest.approx([4.0, 7.0]) and found["quartiles"] == pytest.approx([4.5, 6.0])


def test_both_models_stand_side_by_side_in_a_round():
    models = [ClockModel((2, 4)), ClockModel((2, 4))]
    measured = measure(models, given([WAVEFORM]), rounds=1)
    assert [one.run[1:3] for one in measured] == [(2, 0), (2, 1), (4, 0), (4, 1)]


def test_noise_is_the_same_every_time_and_within_what_the_model_takes():
    model = ClockModel((2,))
    one, other = noise_input([model], 0.5, 2), noise_input([model], 0.5, 2)
    assert (one.name, one.seconds, [len(wav) for wav in one.calls[0]]) == ("0.5 s of noise", 1.0, [8000, 8000])
    np.testing.assert_array_equal(one.calls, other.calls)
    assert 0.09 < np.std(one.calls) < 0.11
    with pytest.raises(ValueError, match="--seconds 31: the model takes at most 30 s at once: give less"):
        noise_input([model], 31, 1)
    with pytest.raises(ValueError, match="--seconds 1e-05 is less than one sample at 16000 Hz"):
        noise_input([model], 1e-5, 1)
