"""Statistics of tables against scipy and closed forms."""

import statistics

import numpy as np
import pytest
from scipy import stats

from kdviz.base.check import KdvizError
from kdviz.base.statistics import difference, improvement, over_columns, spread, student_interval

RNG = np.random.default_rng(7)
BASE, OTHER = RNG.normal(0.70, 0.01, 12), RNG.normal(0.71, 0.01, 12)


def test_spread_is_pythons():
    mean, deviation = spread(list(BASE))
    assert mean == pytest.approx(statistics.fmean(BASE))
    assert deviation == pytest.approx(statistics.stdev(BASE))


def test_the_spread_of_one_run_is_unknown():
    assert np.isnan(spread([0.5])[1])
    assert np.isnan(spread([])).all()


def test_improvement_is_mann_and_whitneys_u():
    base, other = RNG.integers(0, 5, 9), RNG.integers(1, 6, 7)  # with ties
    expected = stats.mannwhitneyu(other, base).statistic / (len(base) * len(other))
    assert improvement(base, other) == pytest.approx(expected)


def test_students_interval_is_scipys():
    found = stats.ttest_rel(OTHER, BASE).confidence_interval(0.95)
    assert student_interval(OTHER - BASE) == pytest.approx((found.low, found.high))


def test_the_interval_over_seeds_is_scipys_bootstrap_widened_by_the_factor_of_small_samples():
    gaps = OTHER - BASE
    scipys = stats.bootstrap((gaps,), np.mean, method="percentile", n_resamples=20000, rng=1).confidence_interval
    ours = difference(BASE, OTHER, resamples=20000)
    factor = np.sqrt(len(gaps) / (len(gaps) - 1))
    expected = gaps.mean() + factor * (np.array([scipys.low, scipys.high]) - gaps.mean())
    assert (ours.low, ours.high) == pytest.approx(expected, abs=0.03 * np.ptp(expected))
    assert ours.gain == pytest.approx(gaps.mean())
    assert ours.images == 0


def hits(seeds, images, rate, generator):
    return generator.random((seeds, images)) < rate


def test_one_seed_draws_images_within_classes():
    """Closed form: the variance of a stratified mean is the sum of n_c^2 / n^2 * var_c / n_c."""
    target = np.repeat([0, 1, 2], [300, 200, 100])
    rates = np.array([0.9, 0.5, 0.1])[target]
    base, other = hits(1, 600, 0.5, RNG), RNG.random((1, 600)) < rates
    gap = (other.astype(float) - base)[0]
    variance = sum(np.sum(target == c) * gap[target == c].var() for c in range(3)) / 600**2
    found = difference(base.mean(1), other.mean(1), base_hits=base, other_hits=other, target=target, resamples=20000)
    reach = 1.959964 * np.sqrt(variance)
    assert (found.low, found.high) == pytest.approx((gap.mean() - reach, gap.mean() + reach), abs=0.05 * reach)
    assert reach < 0.97 * 1.959964 * gap.std() / np.sqrt(600)  # drawing from all classes would be wider
    assert np.isnan([found.t_low, found.improvement]).all()
    assert not found.clear


def test_seeds_and_images_add_their_variances():
    base = np.stack([hits(1, 2000, rate, RNG)[0] for rate in (0.68, 0.70, 0.72, 0.74)])
    other = np.stack([hits(1, 2000, rate, RNG)[0] for rate in (0.78, 0.74, 0.80, 0.76)])
    gap = other.astype(float) - base
    over_images, seeds = gap.mean(0).var() / 2000, gap.mean(1).var(ddof=1) / 4
    left = (gap - gap.mean(0)).var(1).mean() / 2000 / 4  # images of the seeds that were not drawn
    found = difference(base.mean(1), other.mean(1), base_hits=base, other_hits=other, resamples=20000)
    reach = (found.high - found.low) / 2 / 1.959964
    assert reach == pytest.approx(np.sqrt(over_images + seeds + left), rel=0.08)
    assert found.images == 2000


@pytest.mark.parametrize(
    ("gaps", "clear"),
    [([0.02, 0.021, 0.019], True), ([-0.02, -0.021, -0.019], True), ([0.02, 0.04, 0.001], False), ([0.02], False)],
)
def test_a_gain_is_clear_where_several_seeds_agree(gaps, clear):
    base = np.full(len(gaps), 0.5)
    assert difference(base, base + gaps).clear is clear


def test_students_interval_keeps_three_lucky_seeds_inside_the_noise():
    found = difference([0.5, 0.5, 0.5], [0.51, 0.515, 0.503])
    assert found.low > 0 > found.t_low
    assert not found.clear


def test_no_gain_is_not_clear():
    assert not difference([0.5, 0.5], [0.5, 0.5]).clear


def test_draws_depend_on_the_seed_alone():
    assert difference(BASE, OTHER, resamples=100) == difference(BASE, OTHER, resamples=100)
    assert difference(BASE, OTHER, resamples=100) != difference(BASE, OTHER, resamples=100, seed=1)


def test_pairs_must_match():
    with pytest.raises(KdvizError, match="paired by seed"):
        difference([0.1, 0.2], [0.1])
    with pytest.raises(KdvizError, match="hits are"):
        difference([0.1], [0.1], base_hits=np.ones((1, 3)), other_hits=np.ones((1, 4)))


def test_the_mean_over_columns_draws_seeds_within_each():
    columns = [RNG.normal(0.01, 0.004, 5), RNG.normal(0.03, 0.002, 5), np.array([])]
    mean, low, high = over_columns(columns, resamples=20000)
    assert mean == pytest.approx((columns[0].mean() + columns[1].mean()) / 2)
    deviation = np.sqrt(sum(one.var(ddof=1) / 5 for one in columns[:2])) / 2
    assert (high - low) / 2 / 1.959964 == pytest.approx(deviation, rel=0.08)
    assert np.isnan(over_columns([[0.1]])[1])
    assert np.isnan(over_columns([])).all()
