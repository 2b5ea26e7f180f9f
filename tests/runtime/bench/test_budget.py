# SPDX-License-Identifier: Apache-2.0
"""The exit and the policy that fit a budget."""

import pytest

from ee_runtime.bench.budget import Budget, answer_lines, choose


def row(layer, seconds, **more):
    return {"layer": layer, "rtf": seconds / 10, "slowest_call_s": seconds} | more


EXITS = [row(2, 0.1), row(4, 0.2), row(6, 0.3)]
POLICIES = [row(2, 0.11, mean_layer=2.0), row(4, 0.15, mean_layer=3.0), row(6, 0.21, mean_layer=3.5)]


@pytest.mark.parametrize(
    ("budget", "layer", "taken"),
    [
        (Budget(ms=200), 4, 200),
        (Budget(ms=199.9), 2, 100),
        (Budget(ms=1000), 6, 300),
        (Budget(rtf=0.02), 4, 0.02),
        (Budget(rtf=0.01), 2, 0.01),
    ],
)
def test_the_deepest_exit_that_fits_is_taken(budget, layer, taken):
    found = choose({"exits": EXITS, "policies": []}, budget, "ee-transcribe --model m")
    assert (found["exit"]["layer"], found["exit"]["taken"]) == (layer, pytest.approx(taken))
    assert found["exit"]["command"] == f"ee-transcribe --model m --layer {layer} FILE"
    assert found["policy"] is None


@pytest.mark.parametrize(
    ("budget", "layer", "options"),
    [
        (Budget(ms=205), 4, " --max-layer 4 --deadline-ms 205"),
        (Budget(ms=210), 6, " --deadline-ms 210"),
        (Budget(rtf=0.02), 4, " --max-layer 4"),
        (Budget(rtf=0.021), 6, ""),
    ],
)
def test_the_policy_gets_the_limit_that_fits(budget, layer, options):
    found = choose({"exits": EXITS, "policies": POLICIES}, budget, "ee-transcribe --model m")["policy"]
    assert (found["layer"], found["command"]) == (layer, f"ee-transcribe --model m{options} FILE")
    assert found["mean_layer"] == {4: 3.0, 6: 3.5}[layer]


def test_the_slowest_call_counts_for_milliseconds_and_the_mean_for_rtf():
    uneven = {"layer": 2, "rtf": 0.001, "slowest_call_s": 0.5}
    assert Budget(rtf=0.001).fits(uneven) and not Budget(ms=499).fits(uneven) and Budget(ms=500).fits(uneven)


def test_answers_are_lines():
    lines = answer_lines(choose({"exits": EXITS, "policies": POLICIES}, Budget(ms=205), "x"), Budget(ms=205))
    assert lines == [
        "within 205 ms: static exit at layer 4, 200.00 ms: x --layer 4 FILE",
        "within 205 ms: policy up to layer 4, 150.00 ms, mean layer 3.00: x --max-layer 4 --deadline-ms 205 FILE",
    ]


def test_nothing_that_fits_says_what_the_first_exit_takes():
    found = choose({"exits": EXITS, "policies": POLICIES}, Budget(rtf=0.009), "x")
    assert found["exit"] is None and found["policy"] is None
    assert answer_lines(found, Budget(rtf=0.009)) == [
        "within RTF 0.009: nothing fits: the first exit, layer 2, takes RTF 0.01000"
    ]
