"""The leaf table of a drill-down: events and exposure per combination of dimensions and age band.

One row per combination that had a unit in service. Every coarser cell is a sum of these rows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from aftersales.lake.store import Snapshot
from aftersales.measure.definitions import Metric, metric
from aftersales.measure.dimensions import with_dimensions
from aftersales.measure.exposure import age_band, epoch_day, fleet, unit_months_by_age
from aftersales.measure.grammar import parse
from aftersales.model.errors import MetricError
from aftersales.model.tables import canonical_table

MISSING = "(unknown)"


@dataclass(frozen=True)
class Cells:
    """Events and exposure to be explained.

    `leaves` has one row per combination: the dimensions (text), `age_band`, `failures` (count), `unit_months`.
    """

    leaves: pd.DataFrame
    dimensions: tuple[str, ...]
    events_n: int
    events_without_base_n: int
    """Events whose unit is unknown or was not in service: they are in no cell."""
    units_n: int
    estimated_n: int
    start: dt.date
    end: dt.date
    skipped: Mapping[str, float]
    """Dimensions left out because too few units have them: name -> known share."""


def failure_cells(snapshot: Snapshot, name: str, dimensions: Sequence[str], *, as_of: dt.datetime,
                  start: dt.date | None = None, end: dt.date | None = None,
                  where: Mapping[str, Sequence[str]] | None = None,
                  events_where: Mapping[str, Sequence[str]] | None = None, gate: float = 0.9) -> Cells:
    """The leaf table of the rate `name` over `dimensions`.

    Parameters
    ----------
    where
        Dimension -> values, on events and units alike.
    events_where
        Column of the event table -> values, on events only (failure mode): the exposure stays that of all units.
    gate
        Dimensions known for a smaller share of the units are left out and reported in `skipped`.

    Raises
    ------
    MetricError
        `name` is no rate, or no unit in service is known.
    """
    definition = metric(name)
    if definition.statistic != "rate":
        raise MetricError(f"metric {name}", "is no rate: a drill-down compares events with exposure",
                          fix="use complaint_rate or failure_rate")
    where, events_where = dict(where or {}), dict(events_where or {})
    ripe_until = as_of.date() - dt.timedelta(days=definition.maturity_days)
    end = min(end or ripe_until, ripe_until)
    units = fleet(snapshot, dimensions, where=where)
    known = units.units.aggregate(**{d: units.units[d].notnull().mean() for d in dimensions}).execute().iloc[0]
    skipped = {d: float(known[d]) for d in dimensions if units.units_n and known[d] < gate}
    dimensions = tuple(d for d in dimensions if d not in skipped)
    first = start or _first_service(units.units) or end
    exposure = unit_months_by_age(units, dimensions, first, end)
    events = _events_by_age(snapshot, definition, dimensions, first, end, where, events_where)
    keys = [*dimensions, "age_band"]
    for frame in (exposure, events):
        for d in dimensions:
            frame[d] = frame[d].astype(object).where(frame[d].notna(), MISSING).astype(str)
    exposure["age_band"] = exposure["age_band"].astype("int64")
    placed = events[events["age_band"].notna()].astype({"age_band": "int64"})
    leaves = exposure.merge(placed, on=keys, how="left")
    leaves["failures"] = leaves["failures"].fillna(0).astype("int64")
    total = int(events["failures"].sum())
    return Cells(leaves[[*keys, "failures", "unit_months"]], dimensions, total, total - int(leaves["failures"].sum()),
                 units.units_n, units.estimated_n, first, end, skipped)


def _first_service(units: object) -> dt.date | None:
    first = units.starts.min().execute()  # type: ignore[attr-defined]
    return None if pd.isna(first) else dt.date(1970, 1, 1) + dt.timedelta(days=int(first))


def _events_by_age(snapshot: Snapshot, definition: Metric, dimensions: Sequence[str], start: dt.date, end: dt.date,
                   where: Mapping[str, Sequence[str]], events_where: Mapping[str, Sequence[str]]) -> pd.DataFrame:
    """Events per combination of dimensions and age band; the band is missing where the unit is unknown."""
    table = definition.numerator.table
    rows = snapshot.table(table)
    if definition.numerator.where:
        rows = rows.filter(parse(definition.numerator.where, rows, clock=definition.clock, where=table))
    for column, values in events_where.items():
        rows = rows.filter(rows[column].isin(list(values)))
    day = rows[definition.clock].date()
    rows = rows.mutate(_day=day.epoch_days()).filter((day >= start) & (day < end))
    rows = with_dimensions(snapshot, table, rows, [*dimensions, *where], conformed=True)
    for name, values in where.items():
        rows = rows.filter(rows[name].isin(list(values)))
    service = fleet(snapshot, keep=["unit_id"]).units
    service = service.select(_serviced=service.unit_id, starts=service.starts, stops=service.stops)
    rows = rows.left_join(service, rows.unit_id == service._serviced)
    inside = (rows._day < rows.stops) & (rows._day >= rows.starts) & (rows._day >= epoch_day(start))
    band = inside.ifelse(age_band(rows._day - rows.starts), None)
    rows = rows.mutate(age_band=band)
    key = rows[canonical_table(table).key]
    return rows.group_by([*dimensions, "age_band"]).aggregate(failures=key.nunique()).execute()
