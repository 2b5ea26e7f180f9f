# SPDX-License-Identifier: Apache-2.0
"""Edit distances compared with the textbook's table."""

import random

import pytest

from ee_runtime.text.agreement import edit_distance, token_agreement


def table_distance(a, b):
    row = list(range(len(b) + 1))
    for i, one in enumerate(a, 1):
        row, above = [i], row
        for j, other in enumerate(b, 1):
            row.append(min(above[j] + 1, row[-1] + 1, above[j - 1] + (one != other)))
    return row[-1]


@pytest.mark.parametrize("seed", range(20))
def test_the_distance_is_that_of_the_table(seed):
    rng = random.Random(seed)
    for _ in range(20):
        a, b = (rng.choices(range(3 + seed), k=rng.randrange(90)) for _ in range(2))
        assert edit_distance(a, b) == edit_distance(b, a) == table_distance(a, b)


def test_agreement_is_between_0_and_1():
    assert token_agreement([1, 2, 3], [1, 2, 3]) == 1.0
    assert token_agreement([1, 2, 3], [4, 5]) == 0.0
    assert token_agreement([], [1]) == token_agreement([], []) == 0.0
