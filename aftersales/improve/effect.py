"""Before and after an action, described: counts, exposure, intervals and a comparison group that got no action.

This is a description, not yet a verdict: both cohorts are followed over the same months in service, so that ageing
alone cannot look like a change, but luck, selection and other events are not ruled out.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from aftersales.lake.audit import asked
from aftersales.lake.expressions import names_in
from aftersales.lake.store import Snapshot
from aftersales.lake.suppression import STATE, blanked, is_small
from aftersales.measure.definitions import Metric, metric
from aftersales.measure.dimensions import Filters, matching
from aftersales.measure.exposure import DAYS_PER_MONTH, Fleet, check_service, epoch_day, fleet, with_service
from aftersales.measure.grammar import parse
from aftersales.measure.memory import table_of
from aftersales.measure.question import first_unripe_day
from aftersales.measure.rates import COVERAGE_GATE
from aftersales.model.errors import MetricError
from aftersales.model.statistics import normal_quantile, rate_interval, rate_ratio_interval
from aftersales.model.tables import canonical_table

PER = 10_000
MIN_FAILURES = 5
ARMS = ("action", "comparison")
PHASES = ("before", "after")


@dataclass(frozen=True)
class BeforeAfter:
    """A descriptive comparison at equal months in service.

    `rows`: one per arm (action, comparison) and phase (before, after): failures, unit_months, units, value, low, high
    (per 10,000 unit-months), state. Ratios are after / before, with a 95 % interval. Where a cohort has too few
    failures for the viewer, no cohort is told: `state` is suppressed, and the ratios are NaN.
    """

    rows: pd.DataFrame
    months: int
    """Months in service every unit is followed for (a removed one until then)."""
    action_ratio: tuple[float, float, float]
    comparison_ratio: tuple[float, float, float]
    relative_ratio: tuple[float, float, float]
    """The action's ratio over the comparison's: what is left when what happened to all is taken out."""
    counted_until: dt.date
    label: str = "descriptive"

    @property
    def is_suppressed(self) -> bool:
        """Whether the figures are withheld from the viewer."""
        return bool((self.rows["state"] == STATE).any())

    @property
    def is_thin(self) -> bool:
        """Whether a cohort is too small to show anything: at its arm's rate it would have had too few failures."""
        if self.is_suppressed:
            return True
        sums = self.rows.groupby("arm")[["failures", "unit_months"]].transform("sum")
        return bool((self.rows["unit_months"] * sums["failures"] / sums["unit_months"] < MIN_FAILURES).any())

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
            f"Described: after the action the rate is {ratio:.2f} times what it was [{low:.2f}, {high:.2f}]; in the "
            f"comparison group {other:.2f} times [{other_low:.2f}, {other_high:.2f}]; "
            f"net of what happened to both {left:.2f} times "
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
        Follow every unit for its first `months` months in service; fewer where half of a cohort is younger. Units
        that were not yet in service that long are left out, so that no cohort looks good for being young.
    events_where
        Column of the event table -> values, e.g. one failure mode.

    Raises
    ------
    MetricError
        `name` is no rate, no units are known, the group is known for too few of them, or a cohort has no unit.
    AccessError
        The viewer may not see what the rate or the cohorts are made of.
    """
    cohorts = {dimension: value, cut_dimension: [list(before), list(after)]}
    about = {"cohorts": cohorts, "months": months, "as_of": as_of, "where": events_where}
    with asked(snapshot, "effect", name, about, [metric(name).numerator.table, "unit"]) as entry:
        found = _described(snapshot, name, dimension, value, cut_dimension, before, after, as_of, months, events_where)
        entry.answered(len(found.rows), int((found.rows["state"] == STATE).sum()))
        return found


def _described(
    snapshot: Snapshot,
    name: str,
    dimension: str,
    value: str,
    cut_dimension: str,
    before: Sequence[str],
    after: Sequence[str],
    as_of: dt.datetime,
    months: int,
    events_where: Mapping[str, Sequence[str]] | None,
) -> BeforeAfter:
    definition = metric(name)
    if definition.statistic != "rate":
        raise MetricError(f"metric {name}", "is no rate", fix="use failure_rate or complaint_rate")
    table = definition.numerator.table
    named = [definition.clock, *names_in(definition.numerator.where)]
    snapshot.check_columns(table, named, joins=[canonical_table(table).key])
    check_service(snapshot, table)
    marks = _Cohorts(dimension, value, cut_dimension, tuple(before), tuple(after))
    until = first_unripe_day(snapshot.day_of(as_of), definition.maturity_days)
    whole = fleet(snapshot, [dimension, cut_dimension], keep=["unit_id"])
    marks.check(whole)
    units = marks.mark(whole.units)
    months = _months_followed(units, until, months)
    limit = round(months * DAYS_PER_MONTH)
    units = units.filter(units.starts + limit <= epoch_day(until))
    rows = _all_cohorts(_exposed(units, limit), _failed(snapshot, definition, units, limit, until, events_where or {}))
    if (rows["unit_months"] <= 0).any():
        raise marks.nobody(rows[rows["unit_months"] <= 0], until)
    low, high = rate_interval(rows["failures"], rows["unit_months"])
    rows["value"], rows["low"], rows["high"] = rows["failures"] / rows["unit_months"] * PER, low * PER, high * PER
    rows["state"] = "ok"
    if is_small(rows["failures"], snapshot.smallest).any():
        columns = ["failures", "unit_months", "units", "value", "low", "high"]
        rows = blanked(rows, np.ones(len(rows), bool), columns)
        nothing = (float("nan"),) * 3
        return BeforeAfter(rows, months, nothing, nothing, nothing, until)
    ratios = {arm: _ratio(rows[rows["arm"] == arm]) for arm in ARMS}
    return BeforeAfter(rows, months, ratios["action"], ratios["comparison"], _relative(rows), until)


@dataclass(frozen=True)
class _Cohorts:
    dimension: str
    value: str
    cut_dimension: str
    before: tuple[str, ...]
    after: tuple[str, ...]

    def check(self, whole: Fleet) -> None:
        """Refuse cohorts that overlap, and a selection by what is known only of some units."""
        if both := sorted(set(self.before) & set(self.after)):
            raise MetricError(
                "before/after",
                f"{', '.join(both)} is both before and after",
                rows=f"{self.cut_dimension}: before {', '.join(self.before)}; after {', '.join(self.after)}",
                fix="give each value of the cut to one side",
            )
        thin = {name: share for name, share in whole.known.items() if share < COVERAGE_GATE}
        if thin:
            known = ", ".join(
                f"{name} is known for {share:.0%} of {whole.units_n:,} units" for name, share in thin.items()
            )
            raise MetricError("before/after", f"refused: {known}, below the gate of {COVERAGE_GATE:.0%}",
                              fix="the known ones are not a fair sample: fill the dimension at the source")  # fmt: skip

    def mark(self, rows: ir.Table) -> ir.Table:
        """`rows` with `arm` (action, comparison) and `phase` (before, after); rows of no arm or phase are left out."""
        cut, group = rows[self.cut_dimension], rows[self.dimension]
        phase = ibis.cases((cut.isin(self.before), "before"), (cut.isin(self.after), "after"))
        arm = ibis.cases((group == self.value, "action"), (group != self.value, "comparison"))
        marked = rows.mutate(arm=arm, phase=phase)
        return marked.filter(marked.phase.notnull() & marked.arm.notnull() & marked.starts.notnull())

    def nobody(self, cohorts: pd.DataFrame, until: dt.date) -> MetricError:
        """The error of cohorts without a unit that was followed."""
        named = ", ".join(f"{row.arm} {row.phase}" for row in cohorts.itertuples())
        cut = f"{self.cut_dimension} {', '.join([*self.before, *self.after])}"
        return MetricError(
            "before/after",
            f"no unit in service for a month by {until} in: {named}",
            rows=f"{self.dimension} {self.value}; {cut}",
            fix="check the action's batches and group, or wait",
        )


def _months_followed(units: ir.Table, until: dt.date, months: int) -> int:
    """Whole months, at most `months`, that at least half of the units of every cohort have behind them."""
    ages = (epoch_day(until) - units.starts).cast("float64")
    medians = units.mutate(age=ages).group_by(["arm", "phase"]).aggregate(age=lambda t: t.age.quantile(0.5)).execute()
    reached = int(medians["age"].min() // DAYS_PER_MONTH) if len(medians) else months
    while reached > 0 and round(reached * DAYS_PER_MONTH) > medians["age"].min():
        reached -= 1
    return max(1, min(months, reached))


def _exposed(units: ir.Table, limit: int) -> pd.DataFrame:
    """Units and their unit-months in the first `limit` days of service, per cohort."""
    days = ibis.greatest(ibis.least(units.stops - units.starts, limit), 0)
    grouped = units.mutate(days=days).group_by(["arm", "phase"])
    found: pd.DataFrame = grouped.aggregate(
        unit_months=lambda t: t.days.sum() / DAYS_PER_MONTH, units=lambda t: t.count()
    ).execute()
    return found


def _failed(
    snapshot: Snapshot, definition: Metric, units: ir.Table, limit: int, until: dt.date, events_where: Filters
) -> pd.DataFrame:
    """Failures of these units in their first `limit` days of service, per cohort."""
    table = definition.numerator.table
    spec = canonical_table(table)
    rows = table_of(snapshot, table)
    if definition.numerator.where:
        rows = rows.filter(parse(definition.numerator.where, rows, spec, clock=definition.clock, where=table))
    rows = matching(snapshot, table, rows.filter(rows[definition.clock] < snapshot.midnight(until)), events_where)
    rows = with_service(snapshot, rows.select(spec.key, "unit_id", definition.clock), definition.clock)
    rows = rows.filter((rows._place == "in_service") & (rows._day < rows._starts + limit))
    side = units.select(_member=units.unit_id, arm=units.arm, phase=units.phase)
    joined = rows.join(side, rows.unit_id == side._member)
    found: pd.DataFrame = joined.group_by(["arm", "phase"]).aggregate(failures=joined[spec.key].nunique()).execute()
    return found


def _all_cohorts(base: pd.DataFrame, counts: pd.DataFrame) -> pd.DataFrame:
    every = pd.MultiIndex.from_product([ARMS, PHASES], names=["arm", "phase"])
    rows = base.merge(counts, on=["arm", "phase"], how="left").set_index(["arm", "phase"]).reindex(every).reset_index()
    rows["failures"] = rows["failures"].fillna(0).astype("int64")
    rows["units"] = rows["units"].fillna(0).astype("int64")
    rows["unit_months"] = rows["unit_months"].fillna(0.0)
    return rows


def _ratio(pair: pd.DataFrame) -> tuple[float, float, float]:
    """After over before, exact interval."""
    rows = pair.set_index("phase")
    (n0, n1), (t0, t1) = ([float(v) for v in rows.loc[list(PHASES), name]] for name in ("failures", "unit_months"))
    ratio, low, high = rate_ratio_interval(n1, t1, n0, t0)
    return float(ratio), float(low), float(high)


def _relative(rows: pd.DataFrame) -> tuple[float, float, float]:
    """Ratio of the two ratios; log-normal interval with variance 1/n summed over the four counts.

    Without any failure after the action the ratio is 0 and its high end is that of half a failure more in every
    count. NaN where another count is 0: there is nothing to compare with.
    """
    counts = rows["failures"].to_numpy(float)
    if (np.delete(counts, 1) == 0).any():
        return (float("nan"),) * 3
    shifted = counts + 0.5 if counts[1] == 0 else counts
    rates = shifted / rows["unit_months"].to_numpy(float)
    left = rates[1] / rates[0] / (rates[3] / rates[2])
    spread = np.exp(normal_quantile(0.95) * np.sqrt((1 / shifted).sum()))
    if counts[1] == 0:
        return 0.0, 0.0, float(left * spread)
    return float(left), float(left / spread), float(left * spread)
