"""The clean demo world: every table before the systems write it down, and the rate ratios that are true in it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from .failures import LEAK, make_failures
from .tickets import make_orders, make_repairs, make_surveys, make_tickets
from .units import BAD_BATCH, BAD_SUPPLIER, OLD_REGION, UNITS_PER_TICKET, in_bad_cell, make_units

DAYS_PER_MONTH = 30.4375
MONTHS = 48


@dataclass(frozen=True)
class World:
    """The clean tables; `unit`, `ticket` and `failure` columns are positions in the table of that name."""

    units: pd.DataFrame
    failures: pd.DataFrame
    tickets: pd.DataFrame
    repairs: pd.DataFrame
    surveys: pd.DataFrame
    orders: pd.DataFrame


def make_world(*, tickets: int, seed: int) -> World:
    """The clean world with exactly `tickets` tickets; each table has its own stream of random numbers."""
    if tickets < 1_000:
        raise ValueError(f"demo world: tickets = {tickets}; at least 1000 are needed for every kind of row to appear")
    streams = [np.random.default_rng([seed, i]) for i in range(6)]
    units = make_units(streams[0], int(tickets * UNITS_PER_TICKET))
    failures = make_failures(streams[1], units, tickets)
    table = make_tickets(streams[2], units, failures, tickets)
    repairs = make_repairs(streams[3], table, failures)
    surveys = make_surveys(streams[4], table)
    orders = make_orders(streams[5], int(tickets * UNITS_PER_TICKET * 0.6))
    return World(units, failures, table, repairs, surveys, orders)


def confirmed_failures(world: World) -> pd.DataFrame:
    """One row per confirmed repair: unit (position), failure_mode, age_days (in service when it occurred)."""
    confirmed = world.repairs[world.repairs["result"] != "ntf"]
    tickets = world.tickets.iloc[confirmed["ticket"].to_numpy()]
    unit = tickets["unit"].to_numpy()
    age = tickets["occurred_at"].to_numpy() - world.units["in_service_at"].to_numpy()[unit]
    mode = confirmed["failure_mode"].to_numpy()
    return pd.DataFrame({"unit": unit, "failure_mode": mode, "age_days": age / np.timedelta64(1, "D")})


def _events_by_age(failures: pd.DataFrame, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Failures per month in service, inside and outside a group of units."""
    month = np.clip((failures["age_days"].to_numpy() / DAYS_PER_MONTH).astype(int), 0, MONTHS - 1)
    is_in = inside[failures["unit"].to_numpy()]
    return np.bincount(month[is_in], minlength=MONTHS), np.bincount(month[~is_in], minlength=MONTHS)


def _unit_months_by_age(units: pd.DataFrame, inside: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit-months per month in service, inside and outside a group of units."""
    life = units["exposure_days"].to_numpy() / DAYS_PER_MONTH
    in_band = [np.clip(life - month, 0, 1) for month in range(MONTHS - 1)] + [np.clip(life - MONTHS + 1, 0, None)]
    total = np.array([band.sum() for band in in_band])
    within = np.array([band[inside].sum() for band in in_band])
    return within, total - within


def rate_ratios(world: World, inside: np.ndarray, failure_mode: str | None = None) -> dict[str, float | int]:
    """Failures, unit-months and rate ratios of a group of units against all others, crude and at equal age.

    The age-matched ratio is Mantel-Haenszel's over months in service.

    Notes
    -----
    Rothman, Greenland, Lash (2008), Modern Epidemiology, 3rd ed., ch. 15: person-time Mantel-Haenszel ratio.
    """
    failures = confirmed_failures(world)
    if failure_mode:
        failures = failures[failures["failure_mode"] == failure_mode]
    a, b = _events_by_age(failures, inside)
    t1, t0 = _unit_months_by_age(world.units, inside)
    both = t1 + t0 > 0
    matched = (a * t0)[both] / (t1 + t0)[both], (b * t1)[both] / (t1 + t0)[both]
    return {
        "failures": int(a.sum()),
        "unit_months": round(float(t1.sum()), 1),
        "crude_ratio": round(float(a.sum() / t1.sum() / (b.sum() / t0.sum())), 4),
        "age_matched_ratio": round(float(matched[0].sum() / matched[1].sum()), 4),
    }


def world_figures(world: World) -> dict[str, dict[str, float | int]]:
    """The true figures of the planted cell, of the same supplier later, of the distractor and of the decoy."""
    units = world.units
    supplier, batch = units["supplier"].astype("str"), units["batch"].astype("str")
    cell = in_bad_cell(units)
    old_region = (units["region"] == OLD_REGION).to_numpy()
    later = (supplier.eq(BAD_SUPPLIER) & batch.gt(BAD_BATCH)).to_numpy()
    decoy_cell = (supplier.eq("S03") & batch.eq(BAD_BATCH)).to_numpy()
    return {
        "planted_all": rate_ratios(world, cell),
        "planted_leak": rate_ratios(world, cell, LEAK),
        "after_change_all": rate_ratios(world, later),
        "after_change_leak": rate_ratios(world, later, LEAK),
        "distractor_all": rate_ratios(world, old_region),
        "distractor_leak": rate_ratios(world, old_region, LEAK),
        "decoy_batch_all": rate_ratios(world, decoy_cell),
        "decoy_batch_leak": rate_ratios(world, decoy_cell, LEAK),
        "decoy_leak": rate_ratios(world, supplier.eq("S03").to_numpy(), LEAK),
        "supplier_leak": rate_ratios(world, supplier.eq(BAD_SUPPLIER).to_numpy(), LEAK),
        "shares": {
            "cell_of_units": round(float(cell.mean()), 4),
            "batch_of_units": round(float((batch == BAD_BATCH).mean()), 4),
            "supplier_of_units": round(float((supplier == BAD_SUPPLIER).mean()), 4),
            "cell_of_distractor_units": round(float(cell[old_region].mean()), 4),
            "cell_of_other_units": round(float(cell[~old_region].mean()), 4),
            "confirmed_repairs_per_ticket": round(len(confirmed_failures(world)) / len(world.tickets), 4),
        },
    }
