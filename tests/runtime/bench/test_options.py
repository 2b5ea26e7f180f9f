# SPDX-License-Identifier: Apache-2.0
"""Wrong options are one line."""

from pathlib import Path

import pytest

from ee_runtime.bench.budget import Budget
from ee_runtime.bench.options import BenchOptions, parse_seconds

WAV = [Path("a.wav")]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rounds": 0}, "--rounds 0: give 1 or more"),
        ({"batch": -1}, "--batch -1: give 1 or more"),
        ({"starts": -1}, "--starts -1: give 0 or more"),
        ({"seconds": [2.0, -1.0]}, "--seconds -1: give a number above 0"),
        ({"seconds": [float("nan")]}, "--seconds nan: give a number above 0"),
        ({"rtf": 0.0}, "--rtf 0: give a number above 0"),
        ({"ms": float("inf")}, "--ms inf: give a number above 0"),
        ({"rtf": 0.1, "ms": 5.0}, "give one of --rtf and --ms"),
        ({"seconds": [2.0], "audio": WAV}, "--seconds is the length of noise, which --audio replaces"),
        ({"ms": 5.0, "batch": 2}, "leave out --batch"),
        ({"out": Path("bench.txt")}, "--out bench.txt: give a file that ends in .json"),
        ({"out": Path("no/such/bench.json")}, "there is no folder no/such: make it first"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message) as caught:
        BenchOptions(**options)
    assert "\n" not in str(caught.value)


def test_a_budget_is_one_of_two():
    assert BenchOptions().budget is None
    assert BenchOptions(rtf=0.1).budget == Budget(rtf=0.1)
    assert BenchOptions(ms=5.0, audio=WAV).budget == Budget(ms=5.0)


def test_lengths_that_are_no_numbers_are_refused():
    assert parse_seconds([]) == []
    with pytest.raises(ValueError, match="--seconds ten: give numbers, e.g. 2,10"):
        parse_seconds(["2,ten"])
