"""Exposure: how many units were in service, for how long, at which age. The denominator of every field rate.

Service starts when a unit goes into service. Where that day is unknown it is estimated as the day it was sold,
shipped or built plus the median delay of the units whose day is known; estimated units are counted and shown.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
import pandas as pd

from aftersales.lake.store import Snapshot
from aftersales.measure.dimensions import with_dimensions
from aftersales.model.errors import MetricError

DAYS_PER_MONTH = 30.4375
AGE_BANDS = tuple(range(0, 60, 3))
"""Lower ends of the bands of months in service in which rates are compared; the last one is open."""


@dataclass(frozen=True)
class Fleet:
    """Units with the day service starts and stops, one row per unit and the dimensions asked for."""

    units: ir.Table
    """Columns: the dimensions, `starts` and `stops` (days since 1970, `stops` is the first day out)."""
    units_n: int
    estimated_n: int
    without_start_n: int

    @property
    def estimated_share(self) -> float:
        return self.estimated_n / self.units_n if self.units_n else 0.0


def epoch_day(day: dt.date) -> int:
    """Days since 1970-01-01."""
    return (day - dt.date(1970, 1, 1)).days


def fleet(snapshot: Snapshot, by: Iterable[str] = (), *, where: Mapping[str, Sequence[str]] | None = None,
          keep: Iterable[str] = ()) -> Fleet:
    """The units in service with their dimensions.

    Parameters
    ----------
    where
        Dimension -> values; only these units.
    keep
        Further columns of `unit` to keep.

    Raises
    ------
    MetricError
        No unit is known: a rate has no denominator.
    """
    if not snapshot.has_rows("unit"):
        raise MetricError("exposure", "no units in service are known, so a rate has no denominator",
                          rows="table unit is empty", fix="add a source that fills 'unit' (build, sale, in-service dates); "
                          "counts and shares can be had without it")
    where = where or {}
    names = list(dict.fromkeys([*by, *where]))
    units = snapshot.table("unit")
    delays = _median_delays(units)
    units = with_dimensions(snapshot, "unit", units, names, conformed=True)
    for name, values in where.items():
        units = units.filter(units[name].isin(list(values)))
    known = units.in_service_at.epoch_days()
    guesses = [units[column].epoch_days() + days for column, days in delays.items()]
    starts = ibis.coalesce(known, *guesses) if guesses else known
    last = ibis.least(*[ibis.coalesce(units[column].epoch_days(), 10**6) for column in ("removed_at", "end_of_observation")])
    units = units.mutate(starts=starts.cast("int64"), stops=last.cast("int64"), is_estimated=known.isnull() & starts.notnull())
    counted = units.aggregate(n=units.count(), guessed=units.is_estimated.sum(), lost=units.starts.isnull().sum()).execute()
    n, guessed, lost = (int(counted[column].fillna(0).iloc[0]) for column in ("n", "guessed", "lost"))
    return Fleet(units.select(*dict.fromkeys([*by, *keep, "starts", "stops"])), n, guessed, lost)


def _median_delays(units: ir.Table) -> dict[str, int]:
    """Median days from sale, shipment and build to service, of units where both are known."""
    columns = ("sold_at", "shipped_at", "built_at")
    spans = {column: (units.in_service_at.epoch_days() - units[column].epoch_days()).cast("float64") for column in columns}
    medians = units.aggregate(**{column: span.quantile(0.5) for column, span in spans.items()}).execute().iloc[0]
    return {column: 0 if pd.isna(medians[column]) else max(0, round(medians[column])) for column in columns}


def service_days(table: ir.Table, start: ir.Value | int, stop: ir.Value | int) -> ir.Value:
    """Days of service of each row of `table` (columns `starts`, `stops`) inside [start, stop), never negative."""
    return ibis.greatest(ibis.least(table.stops, stop) - ibis.greatest(table.starts, start), 0)


def unit_months(fleet_: Fleet, by: Sequence[str], start: dt.date, end: dt.date) -> pd.DataFrame:
    """Unit-months in service and units in service per group, between two days (`end` excluded).

    Returns
    -------
    One row per group that had a unit in service: by..., unit_months (float), units (count).

    Notes
    -----
    A month is 30.4375 days.
    """
    units = fleet_.units
    days = service_days(units, epoch_day(start), epoch_day(end))
    served = units.mutate(days=days).filter(lambda t: t.days > 0)
    return _summed(served, list(by))


def unit_months_by_period(fleet_: Fleet, by: Sequence[str], periods: Sequence[tuple[dt.date, dt.date]]) -> pd.DataFrame:
    """As `unit_months`, one row per group and period; the column `period` is the period's first day."""
    grouped = _packed(fleet_.units, list(by))
    frame = pd.DataFrame({"period": [start for start, _ in periods],
                          "opens": [epoch_day(start) for start, _ in periods],
                          "closes": [epoch_day(end) for _, end in periods]})
    crossed = grouped.cross_join(ibis.memtable(frame))
    served = crossed.mutate(days=service_days(crossed, crossed.opens, crossed.closes)).filter(lambda t: t.days > 0)
    return _summed(served, [*by, "period"], weight="n")


def unit_months_by_age(fleet_: Fleet, by: Sequence[str], start: dt.date, end: dt.date,
                       bands: Sequence[int] = AGE_BANDS) -> pd.DataFrame:
    """As `unit_months`, one row per group and band of months in service; the column `age_band` is its lower end.

    Rates of groups of different age are compared inside these bands, or the young ones look good.
    """
    grouped = _packed(fleet_.units, list(by))
    edges = [round(band * DAYS_PER_MONTH) for band in bands] + [10**6]
    frame = pd.DataFrame({"age_band": list(bands), "opens": edges[:-1], "closes": edges[1:]})
    crossed = grouped.cross_join(ibis.memtable(frame))
    opens = ibis.greatest(crossed.starts + crossed.opens, epoch_day(start))
    closes = ibis.least(crossed.starts + crossed.closes, epoch_day(end))
    served = crossed.mutate(days=service_days(crossed, opens, closes)).filter(lambda t: t.days > 0)
    return _summed(served, [*by, "age_band"], weight="n")


def age_band(age_days: ir.Value, bands: Sequence[int] = AGE_BANDS) -> ir.Value:
    """The band of months in service of an event at `age_days`; null before service starts."""
    edges = [round(band * DAYS_PER_MONTH) for band in bands]
    cases = [(age_days >= edge, ibis.literal(band, type="int64")) for edge, band in reversed(list(zip(edges, bands, strict=True)))]
    return ibis.cases(*cases, else_=ibis.null("int64"))


def _packed(units: ir.Table, by: list[str]) -> ir.Table:
    """Units with equal dimensions and service days counted together: far fewer rows to cross."""
    return units.group_by([*by, "starts", "stops"]).aggregate(n=units.count())


def _summed(served: ir.Table, by: list[str], weight: str | None = None) -> pd.DataFrame:
    n = served[weight] if weight else ibis.literal(1)
    sums = {"unit_months": (served.days * n).sum().cast("float64") / DAYS_PER_MONTH, "units": n.sum() if weight else served.count()}
    return (served.group_by(by).aggregate(**sums) if by else served.aggregate(**sums)).execute()
