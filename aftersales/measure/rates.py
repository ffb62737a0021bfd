"""Rates: events of units in service over their exposure, each side aggregated on its own grain first."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from aftersales.measure.definitions import SCALE
from aftersales.measure.dimensions import dimension_title
from aftersales.measure.exposure import Fleet, fleet, unit_months, unit_months_by_period, with_service
from aftersales.measure.memory import table_of
from aftersales.measure.question import Question, events, grouped, with_days
from aftersales.measure.selection import only_failures, refused_units
from aftersales.model.statistics import rate_interval

COVERAGE_GATE = 0.90
"""A rate by (or filtered on) a dimension that is unknown for more than a tenth of the base is refused."""


@dataclass(frozen=True)
class Rates:
    """Count, base, value, low and high per group, and the events that are in no rate."""

    frame: pd.DataFrame
    fleet: Fleet
    unknown_unit_n: int
    out_of_service_n: int


def rates(question: Question) -> Rates:
    """The rate per group of the base; a group without an event is a zero row."""
    whole = fleet(question.snapshot, question.by, where=question.where)
    rows = events(question, conformed=True)
    rows = with_service(question.snapshot, rows.filter(rows._counts), question.metric.clock)
    counts = grouped(rows, [*question.keys, "_place"], count=rows[question.table.key].nunique())
    placed = counts[counts["_place"] == "in_service"].drop(columns="_place")
    frame = _joined(_base(question, whole), placed, question.keys)
    scale = SCALE[question.metric.unit]
    frame["value"] = frame["count"] / frame["base"].where(frame["base"] > 0) * scale
    low, high = rate_interval(frame["count"], frame["base"])
    frame["low"], frame["high"] = low * scale, high * scale
    left = counts.groupby("_place")["count"].sum()
    return Rates(frame, whole, int(left.get("unknown_unit", 0)), int(left.get("out_of_service", 0)))


def _joined(base: pd.DataFrame, counts: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Base and count side by side; what one side lacks is zero."""
    frame = base.merge(counts, on=keys, how="outer") if keys else base.assign(count=counts["count"].sum())
    frame["count"] = frame["count"].fillna(0).astype("int64")
    frame["base"] = frame["base"].fillna(0.0).astype(float)
    return frame


def _base(question: Question, whole: Fleet) -> pd.DataFrame:
    column = str(question.metric.denominator.exposure)
    if question.period:
        parts = question.periods()
        base = unit_months_by_period(whole, question.by, [(start, end) for _, start, end in parts])
        firsts = {start: first for first, start, _ in parts}  # a window that starts in mid-month cuts its first month
        base["period"] = [firsts[start] for start in base["period"]]
    else:
        base = unit_months(whole, question.by, question.start, question.count_until)
    return with_days(base)[[*question.keys, column]].rename(columns={column: "base"})


def refusal(question: Question) -> tuple[str, str] | None:
    """Why the rate would mislead, in English and Chinese; None when it can be given."""
    if not question.snapshot.has_rows("unit"):
        return (
            "refused: no units in service are known, so a rate has no denominator; counts can be had",
            "拒绝计算:没有在用产品数据,比率缺少分母;可以查看数量",
        )
    if listed := only_failures(question.snapshot, question.metric.numerator.table):
        return refused_units(listed)
    whole = fleet(question.snapshot, tuple(question.where))
    split = fleet(question.snapshot, question.by, where=question.where)
    shares = {**(whole.known if whole.units_n else {}), **(split.known if split.units_n else {})}
    thin = {name: share for name, share in shares.items() if share < COVERAGE_GATE}
    return _thin_text(question, whole, thin) if thin else None


def _thin_text(question: Question, whole: Fleet, thin: dict[str, float]) -> tuple[str, str]:
    n = whole.units_n
    known = ", ".join(
        f"{dimension_title(name).lower()} is known for {share:.0%} of {n:,} units" for name, share in thin.items()
    )
    known_zh = "、".join(
        f"{dimension_title(name, 'zh')} 仅 {share:.0%} 的产品已知(共 {n:,} 台)" for name, share in thin.items()
    )
    start, start_zh = _registration_text(question, whole)
    return (
        f"refused: {known}, below the gate of {COVERAGE_GATE:.0%}{start}. The known ones are not a fair sample.",
        f"拒绝计算:{known_zh},低于 {COVERAGE_GATE:.0%} 的门槛{start_zh}。已知部分并非公平样本。",
    )


def _registration_text(question: Question, whole: Fleet) -> tuple[str, str]:
    """Whether the day service starts is unknown too, and whether that is so mainly for units without an event."""
    if whole.estimated_share <= 1 - COVERAGE_GATE:
        return "", ""
    units = table_of(question.snapshot, "unit")
    unregistered = units.filter(units.in_service_at.isnull())
    reported = table_of(question.snapshot, question.metric.numerator.table).unit_id
    failed = unregistered.aggregate(n=unregistered.unit_id.isin(reported).fill_null(False).sum()).execute()["n"].iloc[0]
    intact = (", most of them intact", ",多数未发生过事件") if 2 * int(failed or 0) < whole.estimated_n else ("", "")
    return (
        f"; the day of going into service (registration) is unknown for {whole.estimated_n:,} units{intact[0]}",
        f";{whole.estimated_n:,} 台的启用(注册)日期未知{intact[1]}",
    )
