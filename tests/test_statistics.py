"""Intervals and tests against statsmodels, scipy and published figures."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from aftersales.model.statistics import (
    false_discovery_q,
    negative_binomial_quantile,
    net_score_interval,
    quantile_ranks,
    rate_excess_p,
    rate_interval,
    rate_ratio_interval,
    share_interval,
)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        (81, 263, 0.25529, 0.36621),
        (15, 148, 0.06239, 0.16049),
        (0, 20, 0.0, 0.16113),
        (1, 29, 0.00611, 0.17176),
    ],
)
def test_score_interval_gives_the_published_figures(successes: int, trials: int, low: float, high: float) -> None:
    """Newcombe (1998), Statistics in Medicine 17:857-872, table I, method 3."""
    found = share_interval(successes, trials)
    assert found[0] == pytest.approx(low, abs=6e-6)
    assert found[1] == pytest.approx(high, abs=6e-6)


@given(
    st.integers(1, 5000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))), st.sampled_from([0.8, 0.95, 0.99])
)
def test_score_interval_agrees_with_statsmodels(counts: tuple[int, int], level: float) -> None:
    low, high = share_interval(*counts, level)
    expected = proportion_confint(*counts, alpha=1 - level, method="wilson")
    assert (float(low), float(high)) == pytest.approx(expected, abs=1e-12)


def test_a_share_without_trials_has_no_interval() -> None:
    low, high = share_interval([0, 3], [0, 3])
    assert np.isnan(low[0])
    assert np.isnan(high[0])
    assert high[1] == 1.0
    assert low[1] == pytest.approx(0.43850, abs=6e-6)


@pytest.mark.parametrize(
    ("events", "low", "high"), [(0, 0.0, 3.6889), (1, 0.0253, 5.5716), (10, 4.7954, 18.3904), (20, 12.2165, 30.8884)]
)
def test_poisson_interval_gives_the_published_figures(events: int, low: float, high: float) -> None:
    """Garwood (1936), Biometrika 28:437-442; also in Ulm (1990)."""
    found = rate_interval(events, 1.0)
    assert (float(found[0]), float(found[1])) == pytest.approx((low, high), abs=6e-5)


@given(st.integers(0, 100_000), st.floats(1e-3, 1e9))
def test_poisson_interval_is_the_chi_square_one(events: int, exposure: float) -> None:
    low, high = rate_interval(events, exposure)
    expected_low = stats.chi2.ppf(0.025, 2 * events) / 2 / exposure if events else 0.0
    assert float(low) == pytest.approx(expected_low, rel=1e-9)
    assert float(high) == pytest.approx(stats.chi2.ppf(0.975, 2 * events + 2) / 2 / exposure, rel=1e-9)


@pytest.mark.parametrize("exposure", [0.0, -1.0, np.nan])
def test_a_rate_without_exposure_has_no_interval(exposure: float) -> None:
    assert np.isnan(rate_interval(3, exposure)).all()


@pytest.mark.parametrize(
    ("a", "ta", "b", "tb"),
    [(20, 1000.0, 10, 1000.0), (0, 5.0, 3, 9.0), (7, 2.5, 0, 8.0), (120, 4e5, 900, 9e6), (1, 1.0, 1, 1.0)],
)
def test_rate_ratio_is_the_conditional_binomial_one(a: int, ta: float, b: int, tb: float) -> None:
    ratio, low, high = (float(x) for x in rate_ratio_interval(a, ta, b, tb))
    share = stats.binomtest(a, a + b).proportion_ci(0.95, method="exact")
    odds = [s / (1 - s) * tb / ta if s < 1 else np.inf for s in share]
    assert (low, high) == pytest.approx(tuple(odds), rel=1e-9)
    assert ratio == pytest.approx(a / b * tb / ta if b else np.inf)
    p = stats.binomtest(a, a + b, ta / (ta + tb), alternative="greater").pvalue
    assert float(rate_excess_p(a, ta, b, tb)) == pytest.approx(p, rel=1e-9)


def test_two_sides_without_events_have_no_ratio_and_no_excess() -> None:
    ratio, low, high = rate_ratio_interval(0, 10.0, 0, 10.0)
    assert np.isnan(ratio)
    assert low == 0.0
    assert np.isinf(high)
    assert rate_excess_p([0, 4], [10.0, 0.0], [0, 4], [10.0, 5.0]).tolist() == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60))
def test_false_discovery_agrees_with_scipy(p_values: list[float]) -> None:
    assert false_discovery_q(p_values) == pytest.approx(stats.false_discovery_control(p_values, method="bh"), abs=1e-12)


def test_no_test_has_no_q() -> None:
    assert false_discovery_q([]).tolist() == []


def test_net_score_error_is_7_81_points_for_50_promoters_and_20_detractors_of_100() -> None:
    score, low, high = net_score_interval(50, 20, 100)
    answers = np.array([1] * 50 + [0] * 30 + [-1] * 20)
    assert float(score) == 30.0
    assert float(high - score) == pytest.approx(1.959964 * 7.8102, abs=1e-3)
    assert float(score - low) == pytest.approx(1.959964 * 100 * answers.std() / 10, abs=1e-4)


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_net_score_and_its_ends_stay_within_100_points(promoters: int, passives: int, detractors: int) -> None:
    answers = promoters + passives + detractors
    score, low, high = (float(x) for x in net_score_interval(promoters, detractors, answers))
    if answers == 0:
        assert np.isnan(score)
    else:
        assert -100 <= low <= score <= high <= 100


def test_ranks_around_the_median_cover_it_as_often_as_said() -> None:
    rng = np.random.default_rng(11)
    values = np.sort(rng.exponential(size=(4000, 101)), axis=1)
    low, high = (int(x) for x in quantile_ranks(101))
    inside = (values[:, low - 1] <= np.log(2)) & (np.log(2) <= values[:, high - 1])
    assert 0.95 <= inside.mean() <= 0.98


@pytest.mark.parametrize(("n", "ranks"), [(1, (1, 1)), (3, (1, 3)), (0, (1, 1)), (100, (40, 61))])
def test_few_values_give_their_whole_range(n: int, ranks: tuple[int, int]) -> None:
    assert tuple(int(x) for x in quantile_ranks(n)) == ranks


@pytest.mark.parametrize("share", [0.0025, 0.5, 0.9975])
def test_the_negative_binomial_quantile_is_that_of_scipy(share: float) -> None:
    rng = np.random.default_rng(20_261_122)
    mean = rng.uniform(0.5, 500, 2_000)
    chance = 1 / rng.uniform(1.001, 30, 2_000)
    size = mean * chance / (1 - chance)
    assert negative_binomial_quantile(share, size, chance).tolist() == stats.nbinom.ppf(share, size, chance).tolist()
