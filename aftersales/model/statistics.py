"""Intervals and tests for counts, shares, rates and scores. No after-sales word in here.

All functions take arrays (or numbers) and are vectorised. `level` is the confidence level, 0.95 unless said.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import special

Numbers = npt.ArrayLike
Floats = npt.NDArray[np.float64]


def normal_quantile(level: float) -> float:
    """Two-sided normal quantile of a confidence level: 1.96 for 0.95."""
    return float(special.ndtri(0.5 + level / 2))


def share_interval(successes: Numbers, trials: Numbers, level: float = 0.95) -> tuple[Floats, Floats]:
    """Low and high end of a share (0..1); NaN where there are no trials.

    Notes
    -----
    Score interval without continuity correction: Wilson (1927), JASA 22:209-212.

    Examples
    --------
    >>> low, high = share_interval(380, 400)
    >>> round(float(low), 3), round(float(high), 3)
    (0.924, 0.967)
    """
    k, n = np.asarray(successes, dtype=float), np.asarray(trials, dtype=float)
    z = normal_quantile(level)
    with np.errstate(divide="ignore", invalid="ignore"):
        center = (k + z**2 / 2) / (n + z**2)
        half = z / (n + z**2) * np.sqrt(k * (n - k) / n + z**2 / 4)
        low = np.where(n > 0, np.where(k == 0, 0.0, center - half), np.nan)
        high = np.where(n > 0, np.where(k == n, 1.0, center + half), np.nan)
    return low, high


def rate_interval(events: Numbers, exposure: Numbers, level: float = 0.95) -> tuple[Floats, Floats]:
    """Low and high end of events per unit of exposure; NaN where there is no exposure.

    Notes
    -----
    Exact Poisson interval: Garwood (1936), Biometrika 28:437-442.

    Examples
    --------
    >>> low, high = rate_interval([0, 10], [5_000.0, 20_000.0])
    >>> (low * 10_000).round(3).tolist(), (high * 10_000).round(3).tolist()
    ([0.0, 2.398], [7.378, 9.195])
    """
    n, t = np.asarray(events, dtype=float), np.asarray(exposure, dtype=float)
    tail = (1 - level) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        low = np.where(n > 0, special.gammaincinv(np.maximum(n, 1e-300), tail), 0.0) / t
        high = special.gammaincinv(n + 1, 1 - tail) / t
    missing = ~(t > 0)
    return np.where(missing, np.nan, low), np.where(missing, np.nan, high)


def rate_ratio_interval(
    events: Numbers, expected: Numbers, rest_events: Numbers, rest_expected: Numbers, level: float = 0.95
) -> tuple[Floats, Floats, Floats]:
    """Ratio of two rates, its low and its high end: (events/expected) / (rest_events/rest_expected).

    `expected` is any measure of exposure on one scale for both sides: unit-months, or failures expected at equal age.
    The ratio is NaN where either side has no exposure, infinite where the rest has no event.

    Notes
    -----
    Exact and conditional on the sum of both counts, through the Clopper-Pearson interval of a binomial share:
    Przyborowski and Wilenski (1940), Biometrika 31:313-323.

    Examples
    --------
    >>> ratio, low, high = rate_ratio_interval(20, 1000.0, 10, 1000.0)
    >>> round(float(ratio), 2), round(float(low), 2), round(float(high), 2)
    (2.0, 0.89, 4.78)
    """
    a, ta = np.asarray(events, dtype=float), np.asarray(expected, dtype=float)
    b, tb = np.asarray(rest_events, dtype=float), np.asarray(rest_expected, dtype=float)
    tail = (1 - level) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        share_low = np.where(a > 0, special.betaincinv(np.maximum(a, 1e-300), b + 1, tail), 0.0)
        share_high = np.where(b > 0, special.betaincinv(a + 1, np.maximum(b, 1e-300), 1 - tail), 1.0)
        scale = tb / ta
        ratio = a / b * scale
        low = share_low / (1 - share_low) * scale
        high = share_high / (1 - share_high) * scale
    missing = ~((ta > 0) & (tb > 0))
    return np.where(missing, np.nan, ratio), np.where(missing, np.nan, low), np.where(missing, np.nan, high)


def rate_excess_p(events: Numbers, expected: Numbers, rest_events: Numbers, rest_expected: Numbers) -> Floats:
    """One-sided p-value: chance of at least `events` on this side if both sides had one rate.

    Notes
    -----
    Conditional binomial test, same source as `rate_ratio_interval`.
    """
    a, ta = np.asarray(events, dtype=float), np.asarray(expected, dtype=float)
    b, tb = np.asarray(rest_events, dtype=float), np.asarray(rest_expected, dtype=float)
    with np.errstate(divide="ignore", invalid="ignore"):
        share = ta / (ta + tb)
    p = np.where(a > 0, special.betainc(np.maximum(a, 1e-300), b + 1, np.clip(share, 0.0, 1.0)), 1.0)
    return np.where((ta > 0) & (tb > 0), p, 1.0)


def false_discovery_q(p_values: Numbers) -> Floats:
    """q-values: the false discovery rate at which each test would just be reported.

    Notes
    -----
    Benjamini and Hochberg (1995), J. R. Stat. Soc. B 57:289-300.

    Examples
    --------
    >>> false_discovery_q([0.01, 0.04, 0.03, 0.5]).round(3).tolist()
    [0.04, 0.053, 0.053, 0.5]
    """
    p = np.asarray(p_values, dtype=float)
    order = np.argsort(p)[::-1]
    ranks = np.arange(len(p), 0, -1)
    q = np.empty_like(p)
    q[order] = np.minimum.accumulate(p[order] * len(p) / ranks) if len(p) else p
    return np.minimum(q, 1.0)


def net_score_interval(
    promoters: Numbers, detractors: Numbers, answers: Numbers, level: float = 0.95
) -> tuple[Floats, Floats, Floats]:
    """Net promoter score in points (-100..100), its low and its high end.

    Notes
    -----
    Standard error 100 * sqrt((p + d - (p - d)^2) / n) of a three-valued answer (+1, 0, -1); normal interval,
    cut at -100 and 100.

    Examples
    --------
    >>> score, low, high = net_score_interval(50, 20, 100)
    >>> float(score), round(float(high - low) / 2 / 1.96, 2)
    (30.0, 7.81)
    """
    p, d, n = (np.asarray(value, dtype=float) for value in (promoters, detractors, answers))
    with np.errstate(divide="ignore", invalid="ignore"):
        share_p, share_d = p / n, d / n
        score = np.where(n > 0, 100 * (share_p - share_d), np.nan)
        error = 100 * np.sqrt((share_p + share_d - (share_p - share_d) ** 2) / n)
    z = normal_quantile(level)
    return score, np.maximum(score - z * error, -100.0), np.minimum(score + z * error, 100.0)


def quantile_ranks(n: Numbers, q: float = 0.5, level: float = 0.95) -> tuple[npt.NDArray[np.int64], ...]:
    """Ranks (from 1) of the order statistics that bound the q-quantile of n values.

    Notes
    -----
    Distribution-free; normal approximation of the binomial ranks, rounded outward: Conover (1999), Practical
    Nonparametric Statistics, 3.2. Ranks are cut to 1..n, so a few values give their whole range.

    Examples
    --------
    >>> low, high = quantile_ranks(100)
    >>> int(low), int(high)
    (40, 61)
    """
    count = np.asarray(n, dtype=float)
    half = normal_quantile(level) * np.sqrt(count * q * (1 - q))
    low = np.clip(np.floor(count * q - half), 1, np.maximum(count, 1))
    high = np.clip(np.ceil(count * q + half) + 1, 1, np.maximum(count, 1))
    return low.astype("int64"), high.astype("int64")


def agreement_alpha(counts: Numbers) -> float:
    """Agreement of codings beyond chance: 1 is perfect, 0 is chance, below 0 is systematic disagreement.

    Parameters
    ----------
    counts
        One row per thing that was coded, one column per code: how many codings gave it that code. Rows with fewer than
        two codings say nothing and are left out.

    Returns
    -------
    Krippendorff's alpha for nominal codes; NaN where all codings are the same or none is left.

    Notes
    -----
    Krippendorff (2011), Computing Krippendorff's Alpha-Reliability, sections A and C.

    Examples
    --------
    Two observers, ten units, codes 0 and 1 (section A of the source): they agree on six units.

    >>> first, second = [0, 1, 0, 0, 0, 0, 0, 0, 1, 0], [1, 1, 1, 0, 0, 1, 0, 0, 0, 0]
    >>> round(agreement_alpha([[(a == c) + (b == c) for c in (0, 1)] for a, b in zip(first, second)]), 3)
    0.095
    """
    table = np.atleast_2d(np.asarray(counts, dtype=float))
    table = table[table.sum(axis=1) >= 2]
    n = table.sum()
    if n == 0:
        return float("nan")
    rows = table.sum(axis=1)
    observed = ((rows**2 - (table**2).sum(axis=1)) / (rows - 1)).sum()
    expected = (n**2 - (table.sum(axis=0) ** 2).sum()) / (n - 1)
    return float(1 - observed / expected) if expected > 0 else float("nan")


def negative_binomial_quantile(share: float, size: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """The least count that a negative binomial stays at or below with probability `share`, element by element.

    The inverse of the regularised incomplete beta function, then one step down or up to the exact count: the same
    counts as `scipy.stats.nbinom.ppf`, whose import alone costs half a second.

    Examples
    --------
    >>> negative_binomial_quantile(0.975, np.array([20.0]), np.array([0.5])).tolist()
    [34.0]
    """

    def reaches(count: np.ndarray) -> np.ndarray:
        return special.betainc(size, np.maximum(count, 0) + 1, chance) >= share

    count = np.maximum(np.ceil(special.nbdtrik(share, size, chance)), 0)
    count = np.where((count > 0) & reaches(count - 1), count - 1, count)
    return np.where(reaches(count), count, count + 1)
