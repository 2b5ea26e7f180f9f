# SPDX-License-Identifier: Apache-2.0
"""Times of exits and texts."""

import pytest

from ee_runtime.timing import _line_through, timed_batches


def test_times_are_lines_through_two_lengths():
    assert _line_through([2.0, 10.0], (0.5, 0.9)) == pytest.approx([0.4, 0.05])
    assert _line_through([2.0, 10.0], (0.5, 0.4)) == [0.5, 0.0]


@pytest.mark.parametrize(
    ("limits", "batches"),
    [
        ((30.0, 0.0), [(1, 2.0), (1, 10.0)]),
        ((5.0, 0.0), [(1, 1.0), (1, 5.0)]),
        ((30.0, 4.0), [(1, 4.0), (1, 10.0)]),
        ((30.0, 6.0), [(1, 6.0), (2, 6.0)]),
    ],
)
def test_two_batches_differ_in_length_after_padding(limits, batches):
    assert timed_batches(*limits) == batches
