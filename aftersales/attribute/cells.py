"""The leaf table of a drill-down: events and exposure per combination of dimensions and age band.

One row per combination that had a unit in service. Every coarser cell is a sum of these rows.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from aftersales.lake.audit import asked
from aftersales.lake.expressions import names_in
from aftersales.lake.store import Snapshot
from aftersales.measure.definitions import Metric, metric
from aftersales.measure.dimensions import MISSING, Filters, matching
from aftersales.measure.exposure import age_band, check_service, fleet, observed_since, unit_months_by_age, with_service
from aftersales.measure.grammar import parse
from aftersales.measure.memory import table_of
from aftersales.measure.question import first_unripe_day
from aftersales.measure.selection import only_failures, refused_units
from aftersales.model.errors import MetricError
from aftersales.model.tables import canonical_table

__all__ = ["MISSING", "Cells", "failure_cells"]


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
    smallest: int = 0
    """Cells of fewer events may not be told to the viewer; the leaves are for computing, never to be shown."""


def failure_cells(
    snapshot: Snapshot,
    name: str,
    dimensions: Sequence[str],
    *,
    as_of: dt.datetime,
    start: dt.date | None = None,
    end: dt.date | None = None,
    where: Filters | None = None,
    events_where: Filters | None = None,
    gate: float = 0.9,
) -> Cells:
    """The leaf table of the rate `name` over `dimensions`.

    Parameters
    ----------
    where
        Dimension -> values, on events and units alike.
    events_where
        Dimension of the event table -> values, on events only (failure mode): the exposure stays that of all units.
    gate
        Dimensions known for a smaller share of the units are left out and reported in `skipped`.

    Raises
    ------
    MetricError
        `name` is no rate, no unit in service is known, or only units are that had such an event.
    AccessError
        The viewer may not see what the rate or a filter is made of.
    """
    about = {"dimensions": dimensions, "start": start, "end": end, "where": where, "events_where": events_where}
    tables = [metric(name).numerator.table, "unit"]
    with asked(snapshot, "drilldown", name, about, tables) as entry:
        found = _cells(snapshot, name, dimensions, as_of, start, end, where, events_where, gate)
        entry.answered(len(found.leaves))
        return found


def _cells(
    snapshot: Snapshot,
    name: str,
    dimensions: Sequence[str],
    as_of: dt.datetime,
    start: dt.date | None,
    end: dt.date | None,
    where: Filters | None,
    events_where: Filters | None,
    gate: float,
) -> Cells:
    definition = metric(name)
    if definition.statistic != "rate":
        raise MetricError(f"metric {name}", "is no rate: a drill-down compares events with exposure",
                          fix="use complaint_rate or failure_rate")  # fmt: skip
    table = definition.numerator.table
    named = [definition.clock, *names_in(definition.numerator.where)]
    snapshot.check_columns(table, named, joins=[canonical_table(table).key])
    check_service(snapshot, table)
    where = dict(where or {})
    ripe = first_unripe_day(snapshot.day_of(as_of), definition.maturity_days)
    end = min(end or ripe, ripe)
    units = fleet(snapshot, dimensions, where=where)
    if listed := only_failures(snapshot, table):
        raise MetricError(f"metric {name}", refused_units(listed)[0], fix="load the intact units, too")
    skipped = {d: share for d, share in units.known.items() if units.units_n and share < gate}
    kept = tuple(d for d in units.known if d not in skipped)
    first = start or observed_since(snapshot, definition.numerator.table, definition.clock) or end
    exposure = _with_text(unit_months_by_age(units, kept, first, end), kept)
    events = _with_text(_events_by_age(snapshot, definition, kept, first, end, where, events_where or {}), kept)
    keys = [*kept, "age_band"]
    placed = events[events["age_band"].notna()].astype({"age_band": "int64"})
    leaves = exposure.astype({"age_band": "int64"})
    leaves = leaves.merge(placed, on=keys, how="left") if len(placed) else leaves.assign(failures=0)
    leaves["failures"] = leaves["failures"].fillna(0).astype("int64")
    leaves = leaves[[*keys, "failures", "unit_months"]].sort_values(keys, ignore_index=True)
    total = int(events["failures"].sum())
    lost = total - int(leaves["failures"].sum())
    least = snapshot.smallest
    return Cells(leaves, kept, total, lost, units.units_n, units.estimated_n, first, end, skipped, least)


def _with_text(frame: pd.DataFrame, dimensions: Sequence[str]) -> pd.DataFrame:
    """Missing values are a value of their own."""
    return frame.assign(**{d: frame[d].astype(object).where(frame[d].notna(), MISSING).astype(str) for d in dimensions})


def _events_by_age(
    snapshot: Snapshot,
    definition: Metric,
    dimensions: Sequence[str],
    start: dt.date,
    end: dt.date,
    where: Filters,
    events_where: Filters,
) -> pd.DataFrame:
    """Events per combination of dimensions and age band; the band is missing where the unit is not in service."""
    table = definition.numerator.table
    spec = canonical_table(table)
    rows = table_of(snapshot, table)
    if definition.numerator.where:
        rows = rows.filter(parse(definition.numerator.where, rows, spec, clock=definition.clock, where=table))
    clock = rows[definition.clock]
    rows = rows.filter((clock >= snapshot.midnight(start)) & (clock < snapshot.midnight(end)))
    rows = matching(snapshot, table, rows, events_where)
    rows = rows.select(
        *dict.fromkeys(c for c in (spec.key, definition.clock, "unit_id", "product_id") if c in rows.columns)
    )
    rows = with_service(
        snapshot, matching(snapshot, table, rows, where, by=dimensions, conformed=True), definition.clock
    )
    rows = rows.mutate(age_band=age_band(rows._age_days))
    key = rows[spec.key]
    found: pd.DataFrame = rows.group_by([*dimensions, "age_band"]).aggregate(failures=key.nunique()).execute()
    return found
