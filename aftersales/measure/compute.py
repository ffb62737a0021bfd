"""The metric engine: a definition, a grain and a window -> rows with count, base, value, interval and ripeness.

Each side of a ratio is aggregated on its own grain first. What cannot be said is refused with its reason, never
guessed.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from aftersales.lake.store import Snapshot
from aftersales.measure.definitions import SCALE, Metric, metric
from aftersales.measure.dimensions import find_dimension, with_dimensions
from aftersales.measure.exposure import Fleet, fleet, unit_months, unit_months_by_period
from aftersales.measure.grammar import parse
from aftersales.model.errors import MetricError, known_names
from aftersales.model.statistics import net_score_interval, quantile_ranks, rate_interval, share_interval
from aftersales.model.tables import canonical_table

Period = Literal["month", "quarter", "year"]
COVERAGE_GATE = 0.90
"""A rate by a dimension that is unknown for more than a tenth of the base is refused."""

RESULT_COLUMNS = ("count", "base", "value", "low", "high", "ripe", "state", "metric_version")


@dataclass(frozen=True)
class MetricResult:
    """One metric at one grain. `rows` has the dimensions (and `period`), then `RESULT_COLUMNS`."""

    metric_id: str
    metric: Metric
    by: tuple[str, ...]
    rows: pd.DataFrame
    start: dt.date
    end: dt.date
    as_of: dt.datetime
    state: Literal["ok", "no_data", "refused"] = "ok"
    reason: str = ""
    reason_zh: str = ""
    notes: tuple[tuple[str, str], ...] = field(default=())
    """Caveats, each in English and Chinese."""

    def to_frame(self) -> pd.DataFrame:
        return self.rows

    def refusal(self, lang: str) -> str:
        return self.reason_zh if lang == "zh" else self.reason

    def summary(self, lang: str = "en") -> str:
        """One sentence: the whole figure, or why there is none."""
        if self.state == "refused" or self.rows.empty:
            return f"{self.metric.title(lang)}: {self.refusal(lang) or ('无数据' if lang == 'zh' else 'no data')}"
        count, base = int(self.rows["count"].sum()), float(self.rows["base"].sum())
        return f"{self.metric.title(lang)}: {count:,} / {base:,.0f}"


@dataclass(frozen=True)
class _Question:
    snapshot: Snapshot
    metric_id: str
    metric: Metric
    by: tuple[str, ...]
    where: Mapping[str, Sequence[str]]
    start: dt.date
    end: dt.date
    ripe_until: dt.date
    period: Period | None
    as_of: dt.datetime

    @property
    def keys(self) -> list[str]:
        return [*self.by, *(["period"] if self.period else [])]

    @property
    def count_until(self) -> dt.date:
        """Without periods only ripe rows count; with periods all do, and the unripe periods are marked."""
        return self.end if self.period else min(self.end, self.ripe_until)


def compute(snapshot: Snapshot, name: str, by: Sequence[str] = (), *, as_of: dt.datetime,
            where: Mapping[str, Sequence[str]] | None = None, start: dt.date | None = None, end: dt.date | None = None,
            period: Period | None = None) -> MetricResult:
    """The metric `name` per group of `by`, between two days (`end` excluded).

    Parameters
    ----------
    as_of
        The instant that counts as "now": ripeness is judged by it.
    where
        Dimension -> values; only these rows (on both sides of a rate).
    start, end
        Window on the metric's clock; all that is known when absent.
    period
        One row per calendar month, quarter or year; the column `period` is its first day.

    Returns
    -------
    Rows with count, base, value and 95 % interval in the metric's unit. Groups of the base without an event are
    zeros. Groups with an event but no base have value NaN and `state` no_base.

    Raises
    ------
    MetricError
        Unknown metric or dimension.
    """
    definition = metric(name)
    by, where = tuple(dict.fromkeys(by)), dict(where or {})
    _check_dimensions(snapshot, name, definition, (*by, *where))
    now = as_of.date()
    end = min(end or now + dt.timedelta(days=1), now + dt.timedelta(days=1))
    first = start or _first_day(snapshot, definition) or end
    question = _Question(snapshot, name, definition, by, where, first, end, now - dt.timedelta(days=definition.maturity_days),
                         period, as_of)
    blank = MetricResult(name, definition, by, _empty(question.keys), first, end, as_of)
    if not snapshot.has_rows(definition.numerator.table):
        return _without(blank, "no_data", f"no {definition.numerator.table} has been loaded", f"尚未载入 {definition.numerator.table} 数据")
    if definition.statistic == "rate":
        return _rate(question, blank)
    rows = _STATISTICS[definition.statistic](question)
    return _finished(question, blank, rows)


def _without(blank: MetricResult, state: Literal["no_data", "refused"], reason: str, reason_zh: str) -> MetricResult:
    return MetricResult(**{**blank.__dict__, "state": state, "reason": reason, "reason_zh": reason_zh})


def _check_dimensions(snapshot: Snapshot, name: str, definition: Metric, names: Sequence[str]) -> None:
    conformed = definition.statistic == "rate"
    for dimension in names:
        if dimension not in definition.dimensions and not dimension.startswith("x_"):
            raise MetricError(f"metric {name}", f"has no dimension '{dimension}'", rows=known_names(definition.dimensions, 40),
                              fix="ask for one of them, or add it to the definition")
        find_dimension(snapshot, definition.numerator.table, dimension, conformed=conformed)


def _empty(keys: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(columns=[*keys, *RESULT_COLUMNS])


def _first_day(snapshot: Snapshot, definition: Metric) -> dt.date | None:
    events = snapshot.table(definition.numerator.table)
    first = events[definition.clock].min().execute()
    return None if pd.isna(first) else pd.Timestamp(first).date()


# ------------------------------------------------------------------------------------------------------- events


def _events(question: _Question, *, conformed: bool = False) -> ir.Table:
    """Rows of the numerator's table inside the window, with dimensions, `_counts` and `_value`."""
    definition, snapshot = question.metric, question.snapshot
    table = definition.numerator.table
    rows = snapshot.table(table)
    where = f"metric {question.metric_id}"
    marks: dict[str, Any] = {"_in_base": True, "_counts": True}
    if definition.denominator.where:
        marks["_in_base"] = parse(definition.denominator.where, rows, clock=definition.clock, where=f"{where}, denominator.where")
    if definition.numerator.where:
        marks["_counts"] = parse(definition.numerator.where, rows, clock=definition.clock, where=f"{where}, numerator.where")
    if definition.numerator.value:
        marks["_value"] = parse(definition.numerator.value, rows, clock=definition.clock, where=f"{where}, numerator.value")
    rows = rows.mutate(**marks)
    rows = rows.filter(rows._in_base.fill_null(False))
    clock = rows[definition.clock]
    rows = rows.filter((clock >= _instant(question.start)) & (clock < _instant(question.count_until)))
    rows = with_dimensions(snapshot, table, rows, [*question.by, *question.where], conformed=conformed)
    for name, values in question.where.items():
        rows = rows.filter(rows[name].isin(list(values)))
    if question.period:
        rows = rows.mutate(period=rows[definition.clock].truncate({"month": "M", "quarter": "Q", "year": "Y"}[question.period]).date())
    return rows


def _instant(day: dt.date) -> dt.datetime:
    return dt.datetime(day.year, day.month, day.day, tzinfo=dt.UTC)


def _grouped(rows: ir.Table, keys: list[str], **aggregates: ir.Value) -> pd.DataFrame:
    result = rows.group_by(keys).aggregate(**aggregates) if keys else rows.aggregate(**aggregates)
    frame = result.execute()
    if "period" in frame:
        frame["period"] = pd.to_datetime(frame["period"]).dt.date
    return frame


def _key(question: _Question) -> str:
    return canonical_table(question.metric.numerator.table).key


def _count(question: _Question) -> pd.DataFrame:
    rows = _events(question)
    rows = rows.filter(rows._counts.fill_null(False))
    frame = _grouped(rows, question.keys, count=rows[_key(question)].nunique())
    frame["base"], frame["value"] = frame["count"], frame["count"].astype(float)
    frame["low"], frame["high"] = rate_interval(frame["count"], np.ones(len(frame)))
    return frame


def _share_of_total(question: _Question) -> pd.DataFrame:
    rows = _events(question)
    rows = rows.filter(rows._counts.fill_null(False))
    key = rows[_key(question)]
    frame = _grouped(rows, question.keys, count=key.nunique())
    over = ["period"] if question.period else []
    totals = _grouped(rows, over, base=key.nunique())
    frame = frame.merge(totals, on=over) if over else frame.assign(base=int(totals["base"].iloc[0]))
    frame["value"] = frame["count"] / frame["base"]
    frame["low"], frame["high"] = share_interval(frame["count"], frame["base"])
    return frame


def _share(question: _Question) -> pd.DataFrame:
    rows = _events(question)
    key, counts = rows[_key(question)], rows._counts.fill_null(False)
    frame = _grouped(rows, question.keys, base=key.nunique(), count=key.nunique(where=counts))
    frame["value"] = frame["count"] / frame["base"].where(frame["base"] > 0)
    frame["low"], frame["high"] = share_interval(frame["count"], frame["base"])
    return frame


def _net_score(question: _Question) -> pd.DataFrame:
    rows = _events(question)
    key = rows[_key(question)]
    frame = _grouped(rows, question.keys, base=key.nunique(), count=key.nunique(where=rows.score >= 9),
                     detractors=key.nunique(where=rows.score <= 6))
    frame["value"], frame["low"], frame["high"] = net_score_interval(frame["count"], frame["detractors"], frame["base"])
    return frame


def _quantile(question: _Question) -> pd.DataFrame:
    """Quantile of the known values; `base` also counts the rows that have none yet."""
    rows = _events(question)
    q, keys = question.metric.quantile, question.keys
    known = rows.filter(rows._value.notnull())
    window = ibis.window(group_by=keys, order_by="_value") if keys else ibis.window(order_by="_value")
    ranked = known.mutate(_rank=ibis.row_number().over(window) + 1)
    frame = _grouped(ranked, keys, count=ranked.count(), value=ranked._value.quantile(q))
    base = _grouped(rows, keys, base=rows.count())
    frame = base.merge(frame, on=keys, how="left") if keys else pd.concat([base, frame], axis=1)
    frame["count"] = frame["count"].fillna(0).astype("int64")
    low, high = quantile_ranks(frame["count"], q)
    return _at_ranks(ranked, keys, frame.assign(_low=low, _high=high))


def _at_ranks(ranked: ir.Table, keys: list[str], frame: pd.DataFrame) -> pd.DataFrame:
    """The order statistics at the ranks `_low` and `_high` of each group, as `low` and `high`."""
    wanted = pd.unique(frame[["_low", "_high"]].to_numpy().ravel())
    found = ranked.filter(ranked._rank.isin([int(rank) for rank in wanted])).select(*keys, "_rank", "_value").execute()
    if "period" in found:
        found["period"] = pd.to_datetime(found["period"]).dt.date
    for side in ("low", "high"):
        column = found.rename(columns={"_value": side, "_rank": f"_{side}"})
        frame = frame.merge(column, on=[*keys, f"_{side}"], how="left")
    return frame.drop(columns=["_low", "_high"])


_STATISTICS = {"count": _count, "share_of_total": _share_of_total, "share": _share, "quantile": _quantile,
               "net_score": _net_score}


# -------------------------------------------------------------------------------------------------------- rates


def _rate(question: _Question, blank: MetricResult) -> MetricResult:
    if not question.snapshot.has_rows("unit"):
        return _without(blank, "refused", "refused: no units in service are known, so a rate has no denominator; counts can be had",
                        "拒绝计算:没有在用产品数据,比率缺少分母;可以查看数量")
    whole = fleet(question.snapshot, question.by, where=question.where)
    refused = _coverage_refusal(question, whole)
    if refused:
        return _without(blank, "refused", *refused)
    events = _events(question, conformed=True)
    events = events.filter(events._counts.fill_null(False))
    placed, orphans_n = _with_a_base(question, events)
    counts = _grouped(placed, question.keys, count=placed[_key(question)].nunique())
    base = _base(question, whole)
    frame = base.merge(counts, on=question.keys, how="outer") if question.keys else pd.concat([base, counts], axis=1)
    frame["count"] = frame["count"].fillna(0).astype("int64")
    frame["base"] = frame["base"].fillna(0.0)
    scale = SCALE[question.metric.unit]
    frame["value"] = frame["count"] / frame["base"].where(frame["base"] > 0) * scale
    low, high = rate_interval(frame["count"], frame["base"])
    frame["low"], frame["high"] = low * scale, high * scale
    return _finished(question, blank, frame, whole, orphans_n)


def _with_a_base(question: _Question, events: ir.Table) -> tuple[ir.Table, int]:
    """Events that belong to a group of the base, and how many do not: their unit is unknown, and so is the group."""
    if not question.by:
        return events, 0
    units = question.snapshot.table("unit").select("unit_id").distinct()
    orphan = ~events.unit_id.isin(units.unit_id).fill_null(False) & ibis.or_(*[events[name].isnull() for name in question.by])
    return events.filter(~orphan), int(orphan.sum().execute() or 0)


def _base(question: _Question, whole: Fleet) -> pd.DataFrame:
    column = question.metric.denominator.exposure
    if question.period:
        base = unit_months_by_period(whole, question.by, _periods(question))
        base["period"] = pd.to_datetime(base["period"]).dt.date
    else:
        base = unit_months(whole, question.by, question.start, question.count_until)
    return base[[*question.keys, column]].rename(columns={column: "base"})


def _periods(question: _Question) -> list[tuple[dt.date, dt.date]]:
    """The calendar periods that touch the window, cut at its end."""
    code = {"month": "M", "quarter": "Q", "year": "Y"}[question.period or "month"]
    periods = pd.period_range(question.start, question.end - dt.timedelta(days=1), freq=code)
    edges = [*(period.start_time.date() for period in periods), question.end]
    return list(zip(edges[:-1], edges[1:], strict=True))


def _coverage_refusal(question: _Question, whole: Fleet) -> tuple[str, str] | None:
    """Why a rate by these dimensions would mislead: too many units of the base lack one."""
    if not question.by or not whole.units_n:
        return None
    shares = whole.units.aggregate(**{name: whole.units[name].notnull().mean() for name in question.by}).execute().iloc[0]
    thin = {name: float(share) for name, share in shares.items() if share < COVERAGE_GATE}
    if not thin:
        return None
    known = ", ".join(f"{name} is known for {share:.0%} of {whole.units_n:,} units" for name, share in thin.items())
    known_zh = "、".join(f"{name} 仅 {share:.0%} 的产品已知(共 {whole.units_n:,} 台)" for name, share in thin.items())
    start = ""
    if whole.estimated_share > 1 - COVERAGE_GATE:
        start = f"; the day of going into service (registration) is unknown for {whole.estimated_n:,} units, most of them intact"
    return (f"refused: {known}, below the gate of {COVERAGE_GATE:.0%}{start}. The known ones are not a fair sample.",
            f"拒绝计算:{known_zh},低于 {COVERAGE_GATE:.0%} 的门槛;已知部分并非公平样本。")


# ------------------------------------------------------------------------------------------------------ finish


def _finished(question: _Question, blank: MetricResult, frame: pd.DataFrame, whole: Fleet | None = None,
              orphans_n: int = 0) -> MetricResult:
    definition = question.metric
    frame["ripe"] = _ripe(question, frame)
    frame["state"] = np.select([frame["base"] <= 0, frame["base"].lt(definition.minimum_n) & ~_is_rate(definition)],
                               ["no_base", "small_n"], "ok")
    if _is_rate(definition):
        frame.loc[(frame["state"] == "ok") & (frame["count"] < definition.minimum_n), "state"] = "small_n"
    frame["metric_version"] = definition.version
    frame = frame[[*question.keys, *RESULT_COLUMNS]].sort_values(question.keys or ["count"], na_position="last", ignore_index=True)
    for name in question.by:
        frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
    notes = _notes(question, frame, whole, orphans_n)
    state: Literal["ok", "no_data"] = "ok" if len(frame) and frame["base"].sum() > 0 else "no_data"
    result = MetricResult(**{**blank.__dict__, "rows": frame, "notes": notes})
    return result if state == "ok" else _without(result, "no_data", "no rows in this window", "该时间窗内无数据")


def _is_rate(definition: Metric) -> bool:
    return definition.statistic == "rate"


def _ripe(question: _Question, frame: pd.DataFrame) -> Any:
    if not question.period:
        return question.count_until > question.start
    length = {"month": 1, "quarter": 3, "year": 12}[question.period]
    ends = [(pd.Timestamp(day) + pd.DateOffset(months=length)).date() for day in frame["period"]]
    return [end <= question.ripe_until for end in ends]


def _notes(question: _Question, frame: pd.DataFrame, whole: Fleet | None, orphans_n: int) -> tuple[tuple[str, str], ...]:
    notes = []
    orphans = orphans_n + int(frame.loc[frame["state"] == "no_base", "count"].sum())
    if orphans:
        notes.append((f"{orphans:,} events have no unit in the base (unknown or not yet in service) and no rate",
                      f"{orphans:,} 条事件找不到对应的在用产品,无法计算比率"))
    if whole is not None and whole.estimated_n:
        notes.append((f"service start estimated for {whole.estimated_n:,} of {whole.units_n:,} units",
                      f"{whole.units_n:,} 台中 {whole.estimated_n:,} 台的启用日期为估计值"))
    if question.metric.statistic == "quantile":
        open_n = int(frame["base"].sum() - frame["count"].sum())
        if open_n:
            notes.append((f"{open_n:,} rows have no end yet or no usable times; they are in the base, not in the median",
                          f"{open_n:,} 条尚未结束或时间不可用;计入基数,不计入中位数"))
    return tuple(notes)
