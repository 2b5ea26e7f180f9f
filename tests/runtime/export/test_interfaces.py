# SPDX-License-Identifier: Apache-2.0
"""What graphs take and return is checked: names, types, shapes, lengths, token ids and log-probabilities."""

import numpy as np
import pytest

from ee_runtime.interfaces import EXIT, FIRST_SEGMENT, SEGMENT, check_arrays, check_names

X = np.zeros((2, 5, 8), np.float32)
INPUTS = {"x": X, "lengths": np.array([5, 3])}
SIZES = {"vocab": 4, "scores": 1}
NAMES = {"x": "tensor(float)", "lengths": "tensor(int64)"}


def outputs(**changes):
    log_probs = np.log(np.full((2, 5, 4), 0.25, np.float32))
    usual = {"log_probs": log_probs, "best_log_probs": log_probs[..., 0], "best_tokens": np.full((2, 5), 3)}
    return list((usual | {"scores": np.zeros((2, 1), np.float32)} | changes).values())


def test_right_outputs_are_taken():
    check_names(SEGMENT, NAMES, {"y": "tensor(float)"})
    check_arrays(SEGMENT, INPUTS, [X], {})
    check_arrays(FIRST_SEGMENT, INPUTS, [np.zeros((2, 3, 6), np.float32), np.array([3, 2])], {})
    check_arrays(EXIT, INPUTS, outputs(), SIZES)
    check_arrays(EXIT, INPUTS, outputs(best_log_probs=np.full((2, 5), np.nan, np.float32)), SIZES)


@pytest.mark.parametrize(
    ("inputs", "given", "message"),
    [
        (NAMES, {"y": "tensor(double)"}, "outputs are y tensor"),
        (NAMES, {}, "outputs are "),
        ({"x": "tensor(float)"}, {"y": "tensor(float)"}, "instead of x tensor"),
        (NAMES | {"z" * 1000: "tensor(float)"}, {"y": "tensor(float)"}, "inputs are x"),
    ],
)
def test_other_names_and_types_are_refused(inputs, given, message):
    with pytest.raises(ValueError, match=message) as caught:
        check_names(SEGMENT, inputs, given)
    assert len(str(caught.value)) < 400


def test_the_order_of_outputs_counts():
    names = {"out_lengths": "tensor(int64)", "y": "tensor(float)"}
    with pytest.raises(ValueError, match="instead of y"):
        check_names(FIRST_SEGMENT, NAMES, names)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"log_probs": np.zeros((2, 5, 3), np.float32)}, r"log_probs has the shape \(2, 5, 3\).*\(2, 5, 4\)"),
        ({"best_log_probs": np.zeros(5, np.float32)}, "best_log_probs has the shape"),
        ({"best_log_probs": np.ones((2, 5), np.float32)}, "values above 0"),
        ({"best_tokens": np.full((2, 5), 4)}, "best_tokens has values outside of 0 to 3"),
        ({"best_tokens": np.full((2, 5), -1)}, "best_tokens has values outside of 0 to 3"),
        ({"scores": np.zeros((1, 1), np.float32)}, "scores has the shape"),
    ],
)
def test_other_results_of_an_exit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        check_arrays(EXIT, INPUTS, outputs(**changes), SIZES)


@pytest.mark.parametrize("lengths", [[4, 1], [0, 1], [-1, 1]])
def test_lengths_outside_of_the_frames_are_refused(lengths):
    with pytest.raises(ValueError, match="out_lengths has values outside of 1 to 3"):
        check_arrays(FIRST_SEGMENT, INPUTS, [np.zeros((2, 3, 6), np.float32), np.array(lengths)], {})
