"""Before and after an action, described: counts, exposure, intervals and a comparison group that got no action.

This is a description, not yet a verdict: both cohorts are followed over the same months in service, so that ageing
alone cannot look like a change, but luck, selection and other events are not ruled out.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ibis
import numpy as np
import pandas as pd

from aftersales.lake.store import Snapshot
from aftersales.measure.definitions import metric
from aftersales.measure.dimensions import with_dimensions
from aftersales.measure.exposure import DAYS_PER_MONTH, epoch_day, fleet, service_days
from aftersales.measure.grammar import parse
from aftersales.model.errors import MetricError
from aftersales.model.statistics import normal_quantile, rate_interval, rate_ratio_interval
from aftersales.model.tables import canonical_table

PER = 10_000
MIN_FAILURES = 5


@dataclass(frozen=True)
class BeforeAfter:
    """A descriptive comparison at equal months in service.

    `rows`: one per arm (action, comparison) and phase (before, after): failures, unit_months, units, value, low, high
    (per 10,000 unit-months). Ratios are after / before, with a 95 % interval.
    """

    rows: pd.DataFrame
    months: int
    """Months in service both cohorts are followed for."""
    action_ratio: tuple[float, float, float]
    comparison_ratio: tuple[float, float, float]
    relative_ratio: tuple[float, float, float]
    """The action's ratio over the comparison's: what is left when what happened to all is taken out."""
    counted_until: dt.date
    label: str = "descriptive"

    @property
    def is_thin(self) -> bool:
        """Whether a cohort has too few failures to say anything."""
        return bool((self.rows["failures"] < MIN_FAILURES).any())

    def to_frame(self) -> pd.DataFrame:
        return self.rows

    def summary(self, lang: str = "en") -> str:
        """One sentence, with its interval and the comparison group."""
        ratio, low, high = self.action_ratio
        other, other_low, other_high = self.comparison_ratio
        left, left_low, left_high = self.relative_ratio
        if self.is_thin or np.isnan(left):
            return "故障太少,尚无法描述前后差异。" if lang == "zh" else "Too few failures to describe a difference yet."
        if lang == "zh":
            return (
                f"描述性结果:措施后故障率为之前的 {ratio:.2f} 倍 [{low:.2f}, {high:.2f}];对照组 {other:.2f} 倍 "
                f"[{other_low:.2f}, {other_high:.2f}];扣除共同变化后 {left:.2f} 倍 [{left_low:.2f}, {left_high:.2f}]。"
            )
        return (
            f"Described: after the action the rate is {ratio:.2f} times what it was [{low:.2f}, {high:.2f}]; in the comparison "
            f"group {other:.2f} times [{other_low:.2f}, {other_high:.2f}]; net of what happened to both {left:.2f} times "
            f"[{left_low:.2f}, {left_high:.2f}]."
        )


def describe_before_after(
    snapshot: Snapshot,
    name: str,
    *,
    dimension: str,
    value: str,
    cut_dimension: str,
    before: Sequence[str],
    after: Sequence[str],
    as_of: dt.datetime,
    months: int = 12,
    events_where: Mapping[str, Sequence[str]] | None = None,
) -> BeforeAfter:
    """Failure rate of the cohorts before and after a cut, for the group that got the action and for the rest.

    Parameters
    ----------
    dimension, value
        The group that got the action, e.g. supplier S07; every other value is the comparison group.
    cut_dimension, before, after
        The cohorts: batches built before and after the change.
    months
        Follow every unit for its first `months` months in service.
    events_where
        Column of the event table -> values, e.g. one failure mode.

    Raises
    ------
    MetricError
        `name` is no rate, no units are known, or a cohort has no unit.
    """
    definition = metric(name)
    if definition.statistic != "rate":
        raise MetricError(f"metric {name}", "is no rate", fix="use failure_rate or complaint_rate")
    until = as_of.date() - dt.timedelta(days=definition.maturity_days)
    limit = round(months * DAYS_PER_MONTH)
    marks = _Cohorts(dimension, value, cut_dimension, tuple(before), tuple(after))
    units = marks.mark(fleet(snapshot, [dimension, cut_dimension], keep=["unit_id"]).units)
    units = units.mutate(stops=ibis.least(units.stops, units.starts + limit))
    days = service_days(units, 0, epoch_day(until))
    base = (
        units.mutate(days=days)
        .filter(lambda t: t.days > 0)
        .group_by(["arm", "phase"])
        .aggregate(unit_months=lambda t: t.days.sum() / DAYS_PER_MONTH, units=lambda t: t.count())
        .execute()
    )
    counts = _events(
        snapshot,
        definition.numerator.table,
        definition.numerator.where,
        definition.clock,
        units,
        until,
        events_where or {},
    )
    rows = _all_cohorts(base, counts)
    empty = rows[rows["unit_months"] <= 0]
    if len(empty):
        named = ", ".join(f"{row.arm} {row.phase}" for row in empty.itertuples())
        raise MetricError(
            "before/after",
            f"no unit in service in: {named}",
            rows=f"{dimension} {value}; {cut_dimension} {', '.join([*before, *after])}",
            fix="check the action's batches and group",
        )
    low, high = rate_interval(rows["failures"], rows["unit_months"])
    rows["value"], rows["low"], rows["high"] = rows["failures"] / rows["unit_months"] * PER, low * PER, high * PER
    ratios = {arm: _ratio(rows[rows["arm"] == arm]) for arm in ("action", "comparison")}
    return BeforeAfter(rows, months, ratios["action"], ratios["comparison"], _relative(rows, ratios), until)


@dataclass(frozen=True)
class _Cohorts:
    dimension: str
    value: str
    cut_dimension: str
    before: tuple[str, ...]
    after: tuple[str, ...]

    def mark(self, rows: ibis.Table) -> ibis.Table:
        """`rows` with `arm` (action, comparison) and `phase` (before, after); rows of neither phase are left out."""
        cut, group = rows[self.cut_dimension], rows[self.dimension]
        phase = ibis.cases((cut.isin(self.before), "before"), (cut.isin(self.after), "after"))
        arm = ibis.ifelse(group == self.value, "action", "comparison")
        marked = rows.mutate(arm=arm, phase=phase)
        return marked.filter(marked.phase.notnull() & marked.arm.notnull())


def _events(
    snapshot: Snapshot,
    table: str,
    where: str,
    clock: str,
    units: ibis.Table,
    until: dt.date,
    events_where: Mapping[str, Sequence[str]],
) -> pd.DataFrame:
    rows = snapshot.table(table)
    if where:
        rows = rows.filter(parse(where, rows, clock=clock, where=table))
    for column, values in events_where.items():
        rows = with_dimensions(snapshot, table, rows, [column])
        rows = rows.filter(rows[column].isin(list(values)))
    day = rows[clock].date()
    rows = rows.filter(day < until).select(
        _unit=rows.unit_id, _day=day.epoch_days(), _key=rows[canonical_table(table).key]
    )
    joined = rows.join(units, rows._unit == units.unit_id)
    inside = joined.filter((joined._day >= joined.starts) & (joined._day < joined.stops))
    return inside.group_by(["arm", "phase"]).aggregate(failures=inside._key.nunique()).execute()


def _all_cohorts(base: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    every = pd.MultiIndex.from_product([["action", "comparison"], ["before", "after"]], names=["arm", "phase"])
    rows = base.merge(counts, on=["arm", "phase"], how="left").set_index(["arm", "phase"]).reindex(every).reset_index()
    rows["failures"] = rows["failures"].fillna(0).astype("int64")
    rows["units"] = rows["units"].fillna(0).astype("int64")
    rows["unit_months"] = rows["unit_months"].fillna(0.0)
    return rows


def _ratio(pair: pd.DataFrame) -> tuple[float, float, float]:
    """After over before, exact interval."""
    rows = pair.set_index("phase")
    found = rate_ratio_interval(
        rows.loc["after", "failures"],
        rows.loc["after", "unit_months"],
        rows.loc["before", "failures"],
        rows.loc["before", "unit_months"],
    )
    return tuple(float(part) for part in found)  # type: ignore[return-value]


def _relative(rows: pd.DataFrame, ratios: Mapping[str, tuple[float, float, float]]) -> tuple[float, float, float]:
    """Ratio of the two ratios; log-normal interval with variance 1/n summed over the four counts."""
    counts = rows["failures"].to_numpy(float)
    if (counts == 0).any():
        return (float("nan"),) * 3
    left = ratios["action"][0] / ratios["comparison"][0]
    spread = np.exp(normal_quantile(0.95) * np.sqrt((1 / counts).sum()))
    return float(left), float(left / spread), float(left * spread)
