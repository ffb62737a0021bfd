"""Exposure: how many units were in service, for how long, at which age. The denominator of every field rate.

Service starts when a unit goes into service. Where that day is unknown it is estimated as the day it was sold,
shipped or built plus the median delay of the units whose day is known; estimated units are counted and shown. A unit
still in stock is not in service.

An event belongs to a unit from the first day in service on. Reports that come in after a unit was taken out count,
the failure that ended its service is often among them; after the end of observation nothing counts.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import ibis
import ibis.expr.types as ir
import pandas as pd

from aftersales.lake.store import Snapshot
from aftersales.measure.dimensions import Filters, matching
from aftersales.measure.memory import once, table_of
from aftersales.model.errors import MetricError

DAYS_PER_MONTH = 30.4375
NEVER = 10**6
"""A day since 1970 that does not come."""
SERVICE_COLUMNS = ("unit_id", "status", "in_service_at", "sold_at", "shipped_at", "built_at", "removed_at",
                   "end_of_observation")  # fmt: skip
"""Columns of `unit` that say when a unit is in service."""
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
    known: Mapping[str, float] = field(default_factory=dict)
    """Share of the units that have each dimension."""

    @property
    def estimated_share(self) -> float:
        return self.estimated_n / self.units_n if self.units_n else 0.0


def epoch_day(day: dt.date) -> int:
    """Days since 1970-01-01."""
    return (day - dt.date(1970, 1, 1)).days


def fleet(
    snapshot: Snapshot, by: Iterable[str] = (), *, where: Filters | None = None, keep: Iterable[str] = ()
) -> Fleet:
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
    check_service(snapshot)
    if not snapshot.has_rows("unit"):
        raise MetricError("exposure", "no units in service are known, so a rate has no denominator",
                          rows="table unit is empty", fix="add a source that fills 'unit' (build, sale, in-service "
                          "dates); counts and shares can be had without it")  # fmt: skip
    by, keep, where = tuple(dict.fromkeys(by)), tuple(keep), where or {}
    asked = tuple(sorted((name, tuple(values)) for name, values in where.items()))
    return once(snapshot, ("fleet", by, asked, keep), lambda: _fleet(snapshot, by, where, keep))


def check_service(snapshot: Snapshot, events: str = "") -> None:
    """Refuse exposure to a viewer who does not see the units, when they were in service, or which `events` are theirs.

    Raises
    ------
    AccessError
        The base of a rate would be wrong.
    """
    snapshot.check_columns("unit", SERVICE_COLUMNS[1:], joins=["unit_id"])
    if events and snapshot.access is not None:
        snapshot.access.check_join(events, "unit", "unit_id")


def _fleet(snapshot: Snapshot, by: tuple[str, ...], where: Filters, keep: tuple[str, ...]) -> Fleet:
    units = matching(snapshot, "unit", _service(snapshot), where, by=by, conformed=True)
    shares = {f"known_{i}": units[name].notnull().mean() for i, name in enumerate(by)}
    counted = units.aggregate(n=units.count(), guessed=units.is_estimated.sum(), lost=units.starts.isnull().sum(),
                              **shares).execute().fillna(0).iloc[0]  # fmt: skip
    known = {name: float(counted[f"known_{i}"]) for i, name in enumerate(by)}
    kept = units.select(*dict.fromkeys([*by, *keep, "starts", "stops"]))
    return Fleet(kept, int(counted["n"]), int(counted["guessed"]), int(counted["lost"]), known)


def _service(snapshot: Snapshot) -> ir.Table:
    """Units with `starts`, `stops` and whether the start `is_estimated`."""
    units = table_of(snapshot, "unit")
    delays = once(snapshot, "median delays", lambda: _median_delays(units))
    known = units.in_service_at.epoch_days()
    guess = ibis.coalesce(*[units[column].epoch_days() + days for column, days in delays.items()])
    guess = ibis.ifelse(units.status.fill_null("") == "stock", ibis.null("int64"), guess)
    starts = ibis.coalesce(known, guess).cast("int64")
    ends = [ibis.coalesce(units[column].epoch_days(), NEVER) for column in SERVICE_COLUMNS[-2:]]
    return units.mutate(starts=starts, stops=ibis.least(*ends).cast("int64"),
                        is_estimated=known.isnull() & starts.notnull())  # fmt: skip


def _median_delays(units: ir.Table) -> dict[str, int]:
    """Median days from sale, shipment and build to service, of units where both are known; 0 where there are none."""
    columns = SERVICE_COLUMNS[3:6]
    in_service = units.in_service_at.epoch_days()
    spans = {column: (in_service - units[column].epoch_days()).cast("float64") for column in columns}
    medians = units.aggregate(**{column: span.quantile(0.5) for column, span in spans.items()}).execute().iloc[0]
    return {column: 0 if pd.isna(medians[column]) else max(0, round(medians[column])) for column in columns}


def observed_since(snapshot: Snapshot, table: str, clock: str) -> dt.date | None:
    """Day of the first event of `table`: where the record of events starts, and with it the exposure to count."""

    def read() -> dt.date | None:
        first = table_of(snapshot, table)[clock].min().execute()
        return None if pd.isna(first) else snapshot.day_of(pd.Timestamp(first).to_pydatetime())

    return once(snapshot, ("observed since", table, clock), read)


def with_service(snapshot: Snapshot, rows: ir.Table, clock: str) -> ir.Table:
    """Events with the service of their unit: `_day` and `_starts` (since 1970), `_age_days` and `_place`.

    `_place` is `in_service`, `unknown_unit`, or `out_of_service` (before service starts, after observation ends).
    The age of an event after a unit was taken out is the age at which it was taken out.
    """
    units = fleet(snapshot, keep=("unit_id", "end_of_observation")).units
    side = units.select(_unit=units.unit_id, _starts=units.starts, _stops=units.stops,
                        _unseen=units.end_of_observation.epoch_days())  # fmt: skip
    joined = rows.mutate(_day=snapshot.site_time(rows[clock]).date().epoch_days()).left_join(
        side, rows.unit_id == side._unit
    )
    started = (joined._day >= joined._starts).fill_null(False) & (joined._day <= joined._unseen).fill_null(True)
    place = ibis.cases((joined._unit.isnull(), "unknown_unit"), (started, "in_service"), else_="out_of_service")
    age = ibis.greatest(ibis.least(joined._day, joined._stops - 1) - joined._starts, 0)
    return joined.mutate(_place=place, _age_days=ibis.ifelse(started, age, ibis.null("int64"))).drop("_unit", "_unseen")


def service_days(table: ir.Table, start: ir.Value | int, stop: ir.Value | int) -> ir.Value:
    """Days of service of each row of `table` (columns `starts`, `stops`) inside [start, stop), never negative.

    A unit whose start is unknown has none: DuckDB's greatest and least pass over nulls.
    """
    days = ibis.greatest(ibis.least(table.stops, stop) - ibis.greatest(table.starts, start), 0)
    return ibis.ifelse(table.starts.isnull(), 0, days)


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
    frame = pd.DataFrame({"period": pd.Series([start for start, _ in periods], dtype=object),
                          "opens": pd.Series([epoch_day(start) for start, _ in periods], dtype="int64"),
                          "closes": pd.Series([epoch_day(end) for _, end in periods], dtype="int64")})  # fmt: skip
    named = frame.assign(_number=range(len(frame)))
    crossed = grouped.cross_join(ibis.memtable(named[["_number", "opens", "closes"]]))
    served = crossed.mutate(days=service_days(crossed, crossed.opens, crossed.closes)).filter(lambda t: t.days > 0)
    found = _summed(served, [*by, "_number"], weight="n")
    return found.merge(named[["_number", "period"]], on="_number")[[*by, "period", "unit_months", "units"]]


def unit_months_by_age(
    fleet_: Fleet, by: Sequence[str], start: dt.date, end: dt.date, bands: Sequence[int] = AGE_BANDS
) -> pd.DataFrame:
    """As `unit_months`, one row per group and band of months in service; the column `age_band` is its lower end.

    Rates of groups of different age are compared inside these bands, or the young ones look good.
    """
    grouped = _packed(fleet_.units, list(by))
    edges = [*_edges(bands), NEVER]
    frame = pd.DataFrame({"age_band": list(bands), "opens": edges[:-1], "closes": edges[1:]})
    crossed = grouped.cross_join(ibis.memtable(frame))
    opens = ibis.greatest(crossed.starts + crossed.opens, epoch_day(start))
    closes = ibis.least(crossed.starts + crossed.closes, epoch_day(end))
    served = crossed.mutate(days=service_days(crossed, opens, closes)).filter(lambda t: t.days > 0)
    return _summed(served, [*by, "age_band"], weight="n")


def age_band(age_days: ir.Value, bands: Sequence[int] = AGE_BANDS) -> ir.Value:
    """The band of months in service of an event at `age_days`; null before service starts."""
    steps = reversed(list(zip(_edges(bands), bands, strict=True)))
    cases = [(age_days >= edge, ibis.literal(band, type="int64")) for edge, band in steps]
    return ibis.cases(*cases, else_=ibis.null("int64"))


def _edges(bands: Sequence[int]) -> list[int]:
    """First day of each band of months in service."""
    return [round(band * DAYS_PER_MONTH) for band in bands]


def _packed(units: ir.Table, by: list[str]) -> ir.Table:
    """Units with equal dimensions and service days counted together: far fewer rows to cross."""
    return units.group_by([*by, "starts", "stops"]).aggregate(n=units.count())


def _summed(served: ir.Table, by: list[str], weight: str | None = None) -> pd.DataFrame:
    n = served[weight] if weight else ibis.literal(1)
    days = (served.days * n).sum().cast("float64")
    sums = {"unit_months": days / DAYS_PER_MONTH, "units": n.sum() if weight else served.count()}
    found: pd.DataFrame = (served.group_by(by).aggregate(**sums) if by else served.aggregate(**sums)).execute()
    return found
