"""Aggregates and intervals over runs, held against scipy and against what is known exactly."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats

from pistar import statistics

numbers = st.floats(-1e6, 1e6)


@given(arrays.arrays(np.float64, st.integers(1, 40), elements=numbers))
def test_the_interquartile_mean_is_scipys_trimmed_mean(scores):
    expected = stats.trim_mean(scores, 0.25)
    assert abs(statistics.interquartile_mean(scores) - expected) <= 1e-12 * max(1.0, np.abs(scores).max())


def test_the_interquartile_mean_is_scipys_to_1e_12_for_every_number_of_runs():
    generator = np.random.default_rng(0)
    for count in range(1, 200):
        scores = generator.normal(size=count)
        assert abs(statistics.interquartile_mean(scores) - stats.trim_mean(scores, 0.25)) <= 1e-12
    table = generator.normal(size=(7, 3))
    np.testing.assert_allclose(
        statistics.interquartile_mean(table, axis=0), stats.trim_mean(table, 0.25, axis=0), atol=1e-12
    )


def test_outliers_do_not_move_the_interquartile_mean():
    scores = np.arange(8.0)
    wild = scores.copy()
    wild[[0, 7]] = -1e9, 1e9
    assert statistics.interquartile_mean(wild) == statistics.interquartile_mean(scores) == 3.5
    with pytest.raises(ValueError, match="at least one"):
        statistics.interquartile_mean(np.empty(0))


def scipys_interval(strata, statistic, seed, resamples=4000):
    return stats.bootstrap(
        strata,
        statistic,
        n_resamples=resamples,
        method="percentile",
        confidence_level=0.95,
        vectorized=True,
        rng=np.random.default_rng(seed),
    ).confidence_interval


def trimmed(*strata, axis=-1):
    return stats.trim_mean(np.concatenate(strata, axis=axis), 0.25, axis=axis)


@pytest.mark.parametrize("sizes", [(5,), (3, 8), (10, 10, 4)])
def test_the_stratified_bootstrap_is_scipys_over_the_same_strata(sizes):
    """Both draw the same indices from the same seed, so that the intervals agree to rounding and not only on average."""
    generator = np.random.default_rng(1)
    strata = [generator.normal(3 * k, 1 + k, size) for k, size in enumerate(sizes)]
    ours = statistics.stratified_bootstrap(strata, statistics.pooled_interquartile_mean, resamples=4000, seed=7)
    np.testing.assert_allclose(ours, scipys_interval(strata, trimmed, 7), atol=1e-12)
    other = scipys_interval(strata, trimmed, 8)  # of another seed: the same but for the noise of the resamples
    np.testing.assert_allclose(ours, other, atol=0.1 * (other.high - other.low))


def test_strata_are_kept_apart():
    """Two groups without any spread leave none, however far apart; pooling them first would not."""
    strata = [np.zeros(5), np.full(5, 100.0)]
    ours = statistics.stratified_bootstrap(strata, statistics.pooled_interquartile_mean)
    assert ours == (50.0, 50.0)
    pooled = statistics.stratified_bootstrap([np.concatenate(strata)], statistics.pooled_interquartile_mean)
    assert pooled[0] < 10
    assert pooled[1] > 90


def test_the_interval_of_the_difference_is_scipys():
    generator = np.random.default_rng(2)
    x, y = generator.normal(1, 1, 9), generator.normal(0, 2, 6)
    ours = statistics.stratified_bootstrap([x, y], statistics.probability_of_improvement, resamples=4000, seed=3)

    def shares(a, b, axis=-1):
        wins = [np.mean([[(p > q) + 0.5 * (p == q) for q in v] for p in u]) for u, v in zip(a, b, strict=True)]
        return np.array(wins)

    def statistic(a, b, axis=-1):
        return shares(np.atleast_2d(a), np.atleast_2d(b)) if a.ndim > 1 else shares(a[None], b[None])[0]

    np.testing.assert_allclose(ours, scipys_interval([x, y], statistic, 3), atol=1e-12)


def test_an_interval_covers_the_truth_about_as_often_as_it_says():
    generator = np.random.default_rng(3)
    covered = 0
    for trial in range(200):
        low, high = statistics.stratified_bootstrap(
            [generator.normal(size=30)], statistics.pooled_interquartile_mean, resamples=500, seed=trial
        )
        covered += low <= 0.0 <= high
    assert 0.87 * 200 <= covered <= 200


def test_one_run_says_nothing_of_its_spread():
    assert statistics.stratified_bootstrap([np.ones(1)], statistics.pooled_interquartile_mean) == (-math.inf, math.inf)
    assert statistics.median_interval(np.ones(1)) == (-math.inf, math.inf)
    with pytest.raises(ValueError, match="at least one run"):
        statistics.resampled([np.empty(0)], 3, 0)


@given(
    arrays.arrays(np.int64, st.integers(1, 12), elements=st.integers(0, 5)),
    arrays.arrays(np.int64, st.integers(1, 12), elements=st.integers(0, 5)),
)
def test_the_probability_of_improvement_is_mann_and_whitneys_u(x, y):
    share = statistics.probability_of_improvement(x, y)
    assert share == pytest.approx(stats.mannwhitneyu(x, y).statistic / (len(x) * len(y)), abs=1e-12)
    assert share + statistics.probability_of_improvement(y, x) == pytest.approx(1.0, abs=1e-12)


def test_a_profile_falls_from_one_to_zero_and_its_area_is_the_mean():
    scores = np.random.default_rng(4).uniform(0, 10, 17)
    thresholds = np.linspace(0, 10, 20_001)
    profile = statistics.performance_profile(scores, thresholds)
    assert profile[0] == 1.0
    assert profile[-1] == 0.0
    assert (np.diff(profile) <= 0).all()
    assert profile.mean() * 10 == pytest.approx(scores.mean(), abs=1e-3)
    np.testing.assert_allclose(profile, stats.ecdf(scores).sf.evaluate(thresholds), rtol=1e-12)
    low, high = statistics.profile_band(scores, thresholds[::500])
    assert (low <= profile[::500]).all()
    assert (profile[::500] <= high).all()


def test_a_band_is_the_bootstrap_of_every_point():
    curves = np.random.default_rng(5).normal(size=(6, 4))
    centre, low, high = statistics.bootstrap_band(curves, resamples=1000, seed=9)
    for point in range(4):
        alone = statistics.stratified_bootstrap(
            [curves[:, point]], statistics.pooled_interquartile_mean, resamples=1000, seed=9
        )
        assert (low[point], high[point]) == pytest.approx(alone, abs=1e-12)
    np.testing.assert_allclose(centre, stats.trim_mean(curves, 0.25, axis=0), atol=1e-12)


def test_steps_to_a_threshold_are_those_of_the_first_point_at_or_above_it():
    steps, values = np.array([10.0, 20.0, 30.0, 40.0]), np.array([1.0, 5.0, 4.0, 6.0])
    assert [statistics.steps_to_threshold(steps, values, t) for t in (0.0, 5.0, 5.5, 7.0)] == [10, 20, 40, math.inf]


def test_the_median_of_steps_is_infinite_only_where_half_the_runs_never_got_there():
    assert statistics.upper_median(np.array([1.0, 2.0, math.inf])) == 2.0
    assert statistics.upper_median(np.array([1.0, math.inf])) == math.inf
    low, high = statistics.median_interval(np.array([1.0, 2.0, 3.0, math.inf, 2.0]))
    assert (low, high) == (1.0, math.inf)
    assert not math.isnan(low + high)
