"""Pareto: which group has most of the events, and how much of the whole it makes."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from aftersales.lake.store import Snapshot
from aftersales.measure.dimensions import find_dimension, with_dimensions
from aftersales.model.statistics import share_interval
from aftersales.model.tables import canonical_table


@dataclass(frozen=True)
class Pareto:
    """Groups by falling count. `rows`: the dimension, count, share, low, high (95 %), cumulative_share."""

    dimension: str
    rows: pd.DataFrame
    total: int
    """Distinct events; with a multi-label dimension less than the sum of the counts."""
    is_multiple: bool

    def to_frame(self) -> pd.DataFrame:
        return self.rows


def pareto(snapshot: Snapshot, table: str, dimension: str, *, as_of: dt.datetime, start: dt.date | None = None,
           end: dt.date | None = None, where: Mapping[str, Sequence[str]] | None = None) -> Pareto:
    """Events of `table` per value of `dimension`, most frequent first; an unknown value is a group of its own.

    Raises
    ------
    MetricError
        Rows of the table do not have the dimension.
    """
    spec = canonical_table(table)
    rows = snapshot.table(table)
    day = rows[spec.clock].date()
    rows = rows.filter(day <= as_of.date())
    rows = rows.filter(day >= start) if start else rows
    rows = rows.filter(day < end) if end else rows
    where = where or {}
    described = find_dimension(snapshot, table, dimension)
    for name, values in where.items():
        if name != dimension:  # each filter on its own, so that a multi-label filter does not multiply rows
            matching = with_dimensions(snapshot, table, rows, [name])
            keys = matching.filter(matching[name].isin(list(values)))[spec.key]
            rows = rows.filter(rows[spec.key].isin(keys))
    spread = with_dimensions(snapshot, table, rows, [dimension])
    key = spread[spec.key]
    counts = spread.group_by(dimension).aggregate(count=key.nunique()).execute()
    total = int(rows[spec.key].nunique().execute())
    counts = counts.sort_values(["count", dimension], ascending=[False, True], na_position="last", ignore_index=True)
    counts["share"] = counts["count"] / total if total else 0.0
    counts["low"], counts["high"] = share_interval(counts["count"], total)
    counts["cumulative_share"] = counts["count"].cumsum() / counts["count"].sum() if len(counts) else 0.0
    return Pareto(dimension, counts, total, described.is_multiple)
