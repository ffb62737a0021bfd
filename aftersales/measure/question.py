"""A question to the metric engine: which metric, at which grain, over which rows and days."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import pandas as pd

from aftersales.lake.store import Snapshot
from aftersales.measure.definitions import Metric
from aftersales.measure.dimensions import Filters, matching
from aftersales.measure.grammar import parse
from aftersales.measure.memory import table_of
from aftersales.model.tables import Table, canonical_table

Period = Literal["month", "quarter", "year"]
MONTHS: dict[str, int] = {"month": 1, "quarter": 3, "year": 12}


@dataclass(frozen=True)
class Question:
    """One metric at one grain, with its window settled."""

    snapshot: Snapshot
    metric_id: str
    metric: Metric
    by: tuple[str, ...]
    where: Filters
    start: dt.date
    end: dt.date
    """First day after the window."""
    ripe_until: dt.date
    """First day that is not ripe."""
    period: Period | None
    left_out: tuple[str, ...] = ()
    """Sources whose rows are in no figure."""

    @property
    def table(self) -> Table:
        return canonical_table(self.metric.numerator.table)

    @property
    def keys(self) -> list[str]:
        return [*self.by, *(["period"] if self.period else [])]

    @property
    def count_until(self) -> dt.date:
        """Without periods only ripe rows count; with periods all do, and the unripe periods are marked."""
        return self.end if self.period else min(self.end, self.ripe_until)

    def periods(self) -> list[tuple[dt.date, dt.date, dt.date]]:
        """Calendar periods that touch the window: first day, and the part of it inside the window."""
        found = []
        day = self.start
        while day < self.end:
            first, following = period_of(day, self.period or "month")
            found.append((first, day, min(following, self.end)))
            day = following
        return found


def first_unripe_day(today: dt.date, maturity_days: int) -> dt.date:
    """The first day of which something may still change: at `maturity_days` 0 that is the day after `today`.

    Examples
    --------
    >>> first_unripe_day(dt.date(2025, 12, 31), 7).isoformat()
    '2025-12-24'
    """
    return today - dt.timedelta(days=maturity_days) if maturity_days else today + dt.timedelta(days=1)


def period_of(day: dt.date, period: Period) -> tuple[dt.date, dt.date]:
    """First day of the calendar period of `day`, and of the one after it.

    Examples
    --------
    >>> [part.isoformat() for part in period_of(dt.date(2024, 12, 31), "quarter")]
    ['2024-10-01', '2025-01-01']
    """
    length = MONTHS[period]
    months = day.year * 12 + (day.month - 1) // length * length
    return _month(months), _month(months + length)


def _month(number: int) -> dt.date:
    return dt.date(number // 12, number % 12 + 1, 1)


def events(question: Question, *, conformed: bool = False) -> ir.Table:
    """Rows of the metric's table inside the window that could count.

    Columns: key, clock, unit, the dimensions, `period`, `_counts` and, for a quantile, `_value`.
    """
    definition, spec = question.metric, question.table
    rows = table_of(question.snapshot, definition.numerator.table)
    rows = rows.mutate(**_marks(question, rows))
    if question.left_out:
        rows = rows.filter(rows.source_system.notin(question.left_out))
    clock, midnight = rows[definition.clock], question.snapshot.midnight
    inside = (clock >= midnight(question.start)) & (clock < midnight(question.count_until))
    rows = rows.filter(rows._in_base.fill_null(False) & inside)
    rows = matching(question.snapshot, definition.numerator.table, rows, question.where, by=question.by,
                    conformed=conformed)  # fmt: skip
    if question.period:
        unit: Any = {"month": "M", "quarter": "Q", "year": "Y"}[question.period]
        rows = rows.mutate(period=question.snapshot.site_time(rows[definition.clock]).truncate(unit).date())
    kept = [spec.key, definition.clock, "unit_id", "score", *question.keys, "_counts", "_value"]
    return rows.select(*dict.fromkeys(name for name in kept if name in rows.columns))


def rows_in_base(question: Question) -> ir.Table:
    """All rows of the metric's table that could count, whatever the window and the filters."""
    rows = table_of(question.snapshot, question.metric.numerator.table)
    return rows.filter(_marks(question, rows)["_in_base"].fill_null(False))


def _marks(question: Question, rows: ir.Table) -> dict[str, ir.Value]:
    """What the definition's expressions say about each row: they see the whole table, before any filter."""
    definition = question.metric

    def read(text: str, place: str) -> ir.Value:
        if not text:
            return ibis.literal(True)
        where = f"metric {question.metric_id}, {place}"
        return parse(text, rows, question.table, clock=definition.clock, where=where)

    marks = {"_in_base": read(definition.denominator.where, "denominator.where"),
             "_counts": read(definition.numerator.where, "numerator.where").fill_null(False)}  # fmt: skip
    if definition.numerator.value:
        marks["_value"] = read(definition.numerator.value, "numerator.value").cast("float64")
    return marks


def grouped(rows: ir.Table, keys: Sequence[str], **aggregates: ir.Value) -> pd.DataFrame:
    """The aggregates per group; `period` as days."""
    result = rows.group_by(list(keys)).aggregate(**aggregates) if keys else rows.aggregate(**aggregates)
    return with_days(result.execute())


def with_days(frame: pd.DataFrame) -> pd.DataFrame:
    """`frame` with its `period` as days and its texts as plain objects: pandas cannot join empty Arrow texts."""
    frame = frame.astype(dict.fromkeys(frame.select_dtypes("str").columns, object))
    if "period" in frame:
        frame["period"] = pd.to_datetime(frame["period"]).dt.date
    return frame
