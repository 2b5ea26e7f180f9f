# SPDX-License-Identifier: Apache-2.0
"""Batches by length, computed by hand; a failed item does not affect the others."""

import pytest

from speechbrain_ee.corpora.batching import length_batches, padded_seconds, run_batch


@pytest.mark.parametrize(
    ("seconds", "limit", "size", "expected"),
    [
        ([], 4.0, None, []),
        ([5.0], 4.0, None, [[0]]),  # longer than the limit, alone
        ([1.0, 5.0, 2.0, 2.0], 4.0, None, [[1], [2, 3], [0]]),
        ([1.0, 1.0, 1.0, 1.0], 4.0, None, [[0, 1, 2, 3]]),
        ([1.0, 1.0, 1.0, 1.0], 4.0, 3, [[0, 1, 2], [3]]),
        ([1.0, 1.0, 1.0, 1.0], 3.9, None, [[0, 1, 2], [3]]),
    ],
)
def test_batches_by_hand(seconds, limit, size, expected):
    assert length_batches(seconds, limit, max_batch_size=size) == expected


def test_clips_of_a_second_padded_to_30_do_not_fill_a_batch_thirtyfold():
    seconds = padded_seconds([1.0] * 100, min_seconds=30.0)
    assert {len(batch) for batch in length_batches(seconds, 100.0)} == {3, 1}
    assert len(length_batches(padded_seconds([1.0] * 100), 100.0)) == 1


@pytest.mark.parametrize("error", [RuntimeError("odd"), MemoryError("odd"), ValueError("odd"), OSError("odd")])
def test_one_that_fails_does_not_take_the_others_along(error):
    calls = []

    def run(numbers):
        calls.append(list(numbers))
        if 3 in numbers:
            raise error
        return [2 * number for number in numbers]

    assert run_batch(run, [1, 3, 5]) == [2, error, 10]
    assert calls == [[1, 3, 5], [1], [3], [5]]
    assert run_batch(run, [1, 5]) == [2, 10]
    assert run_batch(run, [3]) == [error]


def test_our_own_bugs_are_not_hidden():
    def run(numbers):
        raise KeyError(numbers[0])

    with pytest.raises(KeyError):
        run_batch(run, [1, 2])
