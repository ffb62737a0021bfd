"""Pareto: which group has most of the events, and how much of the whole it makes."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, replace

import pandas as pd

from aftersales.lake.audit import asked
from aftersales.lake.expressions import names_in
from aftersales.lake.store import Snapshot
from aftersales.lake.suppression import STATE, blanked, hidden_groups, is_small
from aftersales.measure.dimensions import Filters, find_dimension, matching
from aftersales.measure.grammar import parse
from aftersales.measure.memory import table_of
from aftersales.model.statistics import share_interval
from aftersales.model.tables import canonical_table


@dataclass(frozen=True)
class Pareto:
    """Groups by falling count. `rows`: the dimension, count, share, low, high (95 %), cumulative_share, state.

    Groups of too few cases for the viewer stand last; their figures are missing, and `state` is suppressed.
    """

    dimension: str
    rows: pd.DataFrame
    total: int
    """Distinct events; with a multi-label dimension less than the sum of the counts."""
    is_multiple: bool

    def to_frame(self) -> pd.DataFrame:
        return self.rows

    @property
    def shown(self) -> pd.DataFrame:
        """The groups that are told."""
        return self.rows[self.rows["state"] != STATE]


def pareto(
    snapshot: Snapshot,
    table: str,
    dimension: str,
    *,
    as_of: dt.datetime,
    start: dt.date | None = None,
    end: dt.date | None = None,
    where: Filters | None = None,
    counted: str = "",
) -> Pareto:
    """Events of `table` per value of `dimension`, most frequent first; an unknown value is a group of its own.

    A filter on `dimension` itself is passed over: the other groups stay to be seen. `counted` is an expression of the
    metric grammar: only rows for which it holds, e.g. the `where` of a metric.

    Raises
    ------
    MetricError
        Rows of the table do not have the dimension.
    AccessError
        The viewer may not group by it.
    """
    about = {"start": start, "end": end, "where": where, "counted": counted, "dimension": dimension}
    with asked(snapshot, "pareto", f"{table} by {dimension}", about, [table]) as entry:
        found = _pareto(snapshot, table, dimension, as_of, start, end, where, counted)
        entry.answered(len(found.rows), len(found.rows) - len(found.shown))
        return found


def _pareto(
    snapshot: Snapshot,
    table: str,
    dimension: str,
    as_of: dt.datetime,
    start: dt.date | None,
    end: dt.date | None,
    where: Filters | None,
    counted: str,
) -> Pareto:
    spec = canonical_table(table)
    snapshot.check_columns(table, [spec.clock, *names_in(counted)], joins=[spec.key])
    described = find_dimension(snapshot, table, dimension)
    rows = table_of(snapshot, table)
    clock = rows[spec.clock]
    tomorrow = snapshot.day_of(as_of) + dt.timedelta(days=1)
    inside = clock < snapshot.midnight(min(end or tomorrow, tomorrow))
    rows = rows.filter(inside & (clock >= snapshot.midnight(start)) if start else inside)
    if counted:
        holds = parse(counted, rows, spec, clock=spec.clock, where=f"pareto of {table}")
        rows = rows.filter(holds.fill_null(False))
    others = {name: values for name, values in (where or {}).items() if name != dimension}
    rows = matching(snapshot, table, rows, others, by=[dimension])
    counts = rows.group_by(dimension).aggregate(count=rows[spec.key].nunique()).execute()
    total = int(rows[spec.key].nunique().execute())
    counts = counts.sort_values(["count", dimension], ascending=[False, True], na_position="last", ignore_index=True)
    counts["share"] = counts["count"] / total if total else 0.0
    counts["low"], counts["high"] = share_interval(counts["count"], total)
    counts["cumulative_share"] = counts["count"].cumsum() / counts["count"].sum() if len(counts) else 0.0
    return _told(Pareto(dimension, counts.assign(state="ok"), total, described.is_multiple), snapshot.smallest)


def _told(whole: Pareto, smallest: int) -> Pareto:
    """The Pareto without figures of groups that are too small, which then stand last; nor a total that is."""
    rows = whole.rows
    hidden = hidden_groups(rows, [whole.dimension], "count", is_small(rows["count"], smallest), smallest)
    if not hidden.any():
        return whole
    rows = blanked(rows, hidden, ["count", "share", "low", "high", "cumulative_share"])
    rows = pd.concat([rows[~hidden], rows[hidden]], ignore_index=True)
    counts = rows["count"].astype(float)
    rows["cumulative_share"] = (counts.cumsum() / float(whole.rows["count"].sum())).where(counts.notna())
    return replace(whole, rows=rows, total=0 if whole.total < smallest else whole.total)
