# SPDX-License-Identifier: Apache-2.0
"""The tests behind a promise: by hand, against others, and how often they are wrong."""

import math

import numpy as np
import pytest
from scipy import stats

from speechbrain_ee.risk import (
    TESTS,
    betting_p_value,
    furthest_safe,
    hoeffding_bentkus_p_value,
    sum_by_group,
    t_p_value,
)


def test_t_is_scipys():
    x = np.random.default_rng(0).normal(-0.1, 1.0, 50)
    assert t_p_value(x) == pytest.approx(stats.ttest_1samp(x, 0.0, alternative="less").pvalue)


def test_hoeffding_bentkus_by_hand():
    # 100 values of -1 or +1, 30 of them +1: risk 0.3 against 0.5
    x = np.repeat([-1.0, 1.0], [70, 30])
    hoeffding = math.exp(-100 * (0.3 * math.log(0.6) + 0.7 * math.log(1.4)))
    bentkus = math.e * sum(math.comb(100, k) for k in range(31)) / 2**100
    assert hoeffding_bentkus_p_value(x, bound=1.0) == pytest.approx(min(hoeffding, bentkus))


def test_hoeffding_bentkus_is_mapies():
    mapie = pytest.importorskip("mapie.risk_control.methods")  # older releases have it elsewhere
    rng = np.random.default_rng(3)
    for size, mean in ((50, -0.5), (200, -0.1), (1000, -0.05), (1000, 0.1)):
        x = np.clip(rng.normal(mean, 0.7, size), -3, 3)
        risk = np.array([(x.mean() + 3) / 6])  # losses between 0 and 1, and a level of 1/2
        theirs = mapie.compute_hoeffding_bentkus_p_value(risk, size, 0.5)[0, 0]
        assert hoeffding_bentkus_p_value(x, bound=3.0) == pytest.approx(min(1.0, theirs))


def test_betting_by_hand():
    # the first stake is 0; the second comes from a mean of -1/2 and a variance of (1/4 + 1/4) / 2: cut to 0.5
    assert betting_p_value(np.array([-1.0, -1.0]), bound=1.0) == pytest.approx(1 / 1.5)
    assert betting_p_value(np.array([1.0, 1.0, 1.0]), bound=1.0) == 1.0


@pytest.mark.parametrize("test", TESTS)
def test_a_mean_above_0_is_refuted_no_more_often_than_delta(test):
    rng = np.random.default_rng(1)
    size = 5000 if test == "t" else 200  # t is asymptotic, and these values are skewed
    values, shares = np.array([-0.5, -0.1, 2.0]), np.array([0.3, 0.65, 0.05])
    values -= values @ shares  # mean 0: the edge
    wrong = sum(TESTS[test](rng.choice(values, p=shares, size=size), 3.0) <= 0.1 for _ in range(1000))
    assert wrong <= 125  # 100 expected at most; 2.6 standard deviations


@pytest.mark.parametrize("test", TESTS)
def test_a_mean_far_below_0_is_seen(test):
    x = np.random.default_rng(2).normal(-1.0, 0.5, 200)
    assert TESTS[test](x, 3.0) < 0.01


@pytest.mark.parametrize("test", TESTS)
@pytest.mark.parametrize("values", [[], [0.5], [0.0] * 10])
def test_nothing_is_proved_by_nothing(test, values):
    assert TESTS[test](np.array(values, dtype=float), 3.0) == 1.0 if values else True


def test_clipping_is_what_the_bound_says():
    x = np.array([-0.5] * 99 + [1000.0])
    clipped = np.array([-0.5] * 99 + [3.0])
    for test in (hoeffding_bentkus_p_value, betting_p_value):
        assert test(x, 3.0) == test(clipped, 3.0)


def test_a_path_is_followed_to_the_first_step_that_is_not_safe():
    good, bad = np.full(100, -1.0), np.full(100, 1.0)
    for path, expected in (([bad, good], 0), ([good, bad, good], 1), ([good, good], 2)):
        assert furthest_safe(np.stack(path, axis=1), delta=0.1, test="t", bound=3.0) == expected


def test_rows_of_a_speaker_are_summed():
    values = np.array([[1, 10], [2, 20], [3, 30], [4, 40]])
    assert sum_by_group(values, ["a", "b", "a", None]).tolist() == [[4, 40], [2, 20], [4, 40]]
    assert sum_by_group(values, None) is values
