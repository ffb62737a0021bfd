"""Failures of units: a wear-out hazard, a season, the planted leak and the way to the workshop's books."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .units import END, categories, in_bad_cell

WEIBULL_SHAPE = 1.8  # wear-out: the hazard grows with age to the power 0.8
SEASON_SWING = 0.15
LEAK = "battery_leakage"
LEAK_FACTOR = 5.0  # K05: leak 0.25 x 5 + 0.75 = total x 2.0, leak = 62.5 % of failures in the cell
FAILURES_PER_TICKET = 0.20
REPEAT_SHARE = 0.065  # of repairs come back within 30 days (some of them after AS_OF)
LAG_MEDIAN_DAYS, LAG_SIGMA = 3.0, np.log(21 / 3) / 1.645  # occurrence -> booked: median 3 d, P95 21 d
MODES = {
    LEAK: 0.25,
    "fingerprint_fault": 0.20,
    "motor_stall": 0.18,
    "wifi_drop": 0.14,
    "keypad_fault": 0.13,
    "mechanical_jam": 0.10,
}
SECONDS_PER_DAY = 86_400


def season(moments: np.ndarray) -> np.ndarray:
    """Seasonal factor around 1 of each moment; wet summers are worst (peak in mid July)."""
    day_of_year = (moments.astype("datetime64[D]") - moments.astype("datetime64[Y]").astype("datetime64[D]")).astype(
        int
    )
    return 1 + SEASON_SWING * np.cos(2 * np.pi * (day_of_year - 196) / 365.25)


def seconds(days: np.ndarray) -> np.ndarray:
    """Days (float) as a numpy duration in whole seconds."""
    return (np.asarray(days) * SECONDS_PER_DAY).astype("timedelta64[s]")


def _occurrences(rng: np.random.Generator, units: pd.DataFrame, expected: float) -> tuple[np.ndarray, np.ndarray]:
    """Unit positions and moments of a Poisson process whose hazard wears out with age (minimal repair)."""
    factor = np.where(in_bad_cell(units), 1 + (LEAK_FACTOR - 1) * MODES[LEAK], 1.0)
    life = units["exposure_days"].to_numpy()
    shape_part = (life / 730) ** WEIBULL_SHAPE * factor
    peak = 1 + SEASON_SWING
    counts = rng.poisson(shape_part * (expected / shape_part.sum() * peak))
    unit = np.repeat(np.arange(len(units)), counts)
    age_days = life[unit] * rng.random(len(unit)) ** (1 / WEIBULL_SHAPE)
    moment = units["in_service_at"].to_numpy().astype("datetime64[s]")[unit] + seconds(age_days)
    kept = rng.random(len(unit)) < season(moment) / peak
    return unit[kept], moment[kept]


def _modes(rng: np.random.Generator, is_bad: np.ndarray) -> pd.Categorical:
    """A failure mode each; in the planted cell the leak takes 62.5 %."""
    names, share = list(MODES), np.array(list(MODES.values()))
    bad_share = share * np.where(np.array(names) == LEAK, LEAK_FACTOR, 1.0)
    u = rng.random(len(is_bad))
    normal = np.searchsorted(np.cumsum(share), u, side="right")
    planted = np.searchsorted(np.cumsum(bad_share / bad_share.sum()), u, side="right")
    return categories(np.minimum(np.where(is_bad, planted, normal), len(names) - 1), names)


def opening_hours(rng: np.random.Generator, moments: np.ndarray) -> np.ndarray:
    """The moments moved to an hour at which customers write: mostly 8 to 22 h, never earlier than 5 minutes before."""
    hour = np.clip(rng.normal(14.5, 4.2, len(moments)), 0.1, 23.8)
    moved = moments.astype("datetime64[D]").astype("datetime64[s]") + seconds(hour / 24)
    return np.maximum(moved, moments + seconds(rng.uniform(0.004, 0.1, len(moments))))


def _to_the_workshop(rng: np.random.Generator, failures: pd.DataFrame, longest_days: float) -> pd.DataFrame:
    """Adds created, received, started, finished and booked moments; the whole way takes the reporting lag."""
    size = len(failures)
    lag = np.minimum(np.exp(rng.normal(np.log(LAG_MEDIAN_DAYS), LAG_SIGMA, size)), longest_days)
    occurred = failures["occurred_at"].to_numpy()
    created = opening_hours(rng, occurred + seconds(0.15 * lag))
    received = np.maximum(occurred + seconds(0.45 * lag), created + seconds(rng.uniform(0.02, 0.2, size)))
    started = received + seconds(0.15 * lag * rng.random(size) + 0.01)
    finished = np.maximum(occurred + seconds(0.9 * lag), started + seconds(rng.uniform(0.02, 0.1, size)))
    booked = np.maximum(occurred + seconds(lag), finished + seconds(rng.uniform(0.01, 0.05, size)))
    moments = {"created_at": created, "received_at": received, "started_at": started}
    return failures.assign(**moments, finished_at=finished, booked_at=booked)


def _repeats(rng: np.random.Generator, failures: pd.DataFrame) -> pd.DataFrame:
    """The failures that come back: same unit, same mode, reported within 30 days after the first repair."""
    again = failures[rng.random(len(failures)) < REPEAT_SHARE]
    occurred = again["finished_at"].to_numpy() + seconds(rng.uniform(1, 26, len(again)))
    table = again[["unit", "failure_mode"]].assign(occurred_at=occurred, is_repeat=True)
    return _to_the_workshop(rng, table, longest_days=8)


def make_failures(rng: np.random.Generator, units: pd.DataFrame, tickets: int) -> pd.DataFrame:
    """One row per confirmed failure reported by AS_OF, in order of its report.

    Returns
    -------
    unit (position in `units`), failure_mode, occurred_at, is_repeat, created_at, received_at, started_at,
    finished_at, booked_at (local moments; booked_at may lie after AS_OF: then the repair is not known yet).
    """
    unit, occurred = _occurrences(rng, units, expected=FAILURES_PER_TICKET * tickets)
    first = pd.DataFrame({"unit": unit, "failure_mode": _modes(rng, in_bad_cell(units)[unit]), "occurred_at": occurred})
    first = _to_the_workshop(rng, first.assign(is_repeat=False), longest_days=90)
    both = pd.concat([first, _repeats(rng, first)], ignore_index=True)
    both = both[both["created_at"] < END]
    return both.sort_values(["created_at", "unit"], kind="stable", ignore_index=True)
