# SPDX-License-Identifier: Apache-2.0
"""The test behind a promise: by hand, against SciPy, and how often it is wrong."""

import math

import numpy as np
import pytest
from scipy import stats

from speechbrain_ee.calibration.risk import (
    LossSums,
    furthest_safe,
    p_values,
    pseudo_loss,
)


def p_of(extra, words, epsilon, **options):
    """One p-value."""
    sums = LossSums.of(np.array(extra, dtype=float)[:, None], np.array(words))
    return float(p_values(sums, epsilon=epsilon, **options)[0])


def test_no_loss_is_no_proof_where_one_of_8_words_may_have_been_missed():
    # 50 utterances of 20 words may lose 10 words at 1 point: a loss of 8 words happens 1.25 times on average
    assert p_of([0] * 50, [20] * 50, 1.0) == pytest.approx(math.exp(-10 / 8))
    assert p_of([0] * 50, [10, 30] * 25, 1.0) == pytest.approx(math.exp(-10 / 8)), "words differ, no loss is lost"
    assert p_of([0] * 200, [20] * 200, 1.0) == pytest.approx(math.exp(-40 / 8))


def test_losses_of_the_pseudo_losss_size_are_a_poisson_count():
    # three utterances lose 8 words; 100 words may be lost, which is 12.5 of them
    extra = [8] * 3 + [0] * 99_997  # so rare that the mean of the others does not matter
    words = np.full(100_000, 100 / 1000)
    assert p_of(extra, words, 1.0) == pytest.approx(stats.poisson.cdf(3, 100 / 8), rel=1e-3)


def test_many_losses_and_gains_are_a_t_test():
    rng = np.random.default_rng(0)
    extra = rng.normal(0.05, 1.0, 20_000)
    by_t = stats.ttest_1samp(extra - 0.06, 0.0, alternative="less").pvalue
    assert p_of(extra, [6] * 20_000, 1.0) == pytest.approx(by_t, rel=0.1)


def test_a_speaker_in_ten_may_have_been_missed():
    # 30 speakers of 1,000 words may lose 10 words each: one in ten 94.9 words, and 8 more
    assert pseudo_loss(10.0, by_speaker=True) == pytest.approx(8 + 10 / -math.log(0.9))
    assert p_of([0] * 30, [1000] * 30, 1.0, by_speaker=True) == pytest.approx(
        math.exp(-300 / (8 + 10 / -math.log(0.9)))
    )
    without_end = p_of([0] * 22, [1e9] * 22, 1.0, by_speaker=True)
    assert without_end == pytest.approx(0.9**22), "what each says then no longer matters"


@pytest.mark.parametrize(("loss", "share"), [(1, 0.05), (2, 0.05), (5, 0.02), (8, 0.02), (8, 0.005)])
@pytest.mark.parametrize("size", [100, 400, 1310])
def test_a_loss_above_epsilon_is_missed_no_more_often_than_delta(loss, share, size):
    """At the edge: rare losses of one size in utterances of 10 words, epsilon exactly what they cost."""
    lost = np.random.default_rng(loss * size).binomial(size, share, size=4000)  # utterances, in each draw
    counts = np.stack([size - lost, lost], axis=1)
    sums = LossSums.of(np.array([[0.0], [loss]]), np.array([10, 10]), counts)
    wrong = (p_values(sums, epsilon=100 * loss * share / 10) <= 0.1).mean()
    assert wrong <= 0.112  # 10 % is allowed; 2.5 standard deviations of 4,000 draws
    assert by_t_test(lost, size, loss, loss * share) > wrong, "the t test is surer than it may be"


def by_t_test(lost, size, loss, allowed):
    """How often the t test is sure; it is of draws without a loss."""
    surely = (lost == 0).mean()
    for number in np.unique(lost[lost > 0]):
        excess = np.repeat([0.0, loss], [size - number, number]) - allowed
        surely += (lost == number).mean() * (stats.ttest_1samp(excess, 0.0, alternative="less").pvalue <= 0.1)
    return surely


def test_counts_are_how_often_a_row_is_there():
    extra, words = np.array([[0, 1], [2, 3], [-1, 0]]), np.array([5, 10, 20])
    drawn = [0, 0, 1, 2, 2, 2]
    of_draw = p_values(LossSums.of(extra, words, np.array([[2, 1, 3], [1, 1, 1]])), epsilon=5.0)
    assert of_draw[0] == pytest.approx(p_values(LossSums.of(extra[drawn], words[drawn]), epsilon=5.0))
    assert of_draw[1] == pytest.approx(p_values(LossSums.of(extra, words), epsilon=5.0))


def test_gains_alone_do_not_break_it():
    # one utterance gains 30 words: the spread that it brings counts, its skew does not make it surer
    p = p_of([-30] + [0] * 99, [10] * 100, 1.0)
    assert 0.0 < p < 0.5


@pytest.mark.parametrize("loss", [0.01, 1, 50])
def test_losing_more_than_epsilon_is_never_promised(loss):
    assert p_of([loss] * 100, [1] * 100, 1.0) > 0.4


def test_a_path_is_followed_to_the_first_step_that_is_not_safe():
    for path, expected in (([0.5, 0.01], 0), ([0.01, 0.5, 0.01], 1), ([0.1, 0.1], 2)):
        assert furthest_safe(np.array(path), 0.1) == expected
    assert furthest_safe(np.array([[0.5, 0.01], [0.01, 0.01]]), 0.1).tolist() == [0, 2]
