"""The metric engine: a definition, a grain and a window -> rows with count, base, value, interval and ripeness.

What cannot be said is refused with its reason, never guessed. Days are days in UTC.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import pandas as pd

from aftersales.lake.store import Snapshot
from aftersales.measure.definitions import Metric, metric
from aftersales.measure.dimensions import find_dimension
from aftersales.measure.exposure import observed_since
from aftersales.measure.figures import FIGURES
from aftersales.measure.gates import gate_refusal
from aftersales.measure.question import Period, Question, first_unripe_day, period_of
from aftersales.measure.rates import COVERAGE_GATE, Rates, rates, refusal
from aftersales.measure.selection import (
    caveat,
    caveat_units,
    failed_only,
    has_other_answers,
    one_sided,
    refused_answers,
)
from aftersales.model.errors import MetricError, known_names
from aftersales.model.tables import SITE_PREFIX

__all__ = ["COVERAGE_GATE", "RESULT_COLUMNS", "MetricResult", "Period", "compute", "first_unripe_day"]

RESULT_COLUMNS = ("count", "base", "value", "low", "high", "ripe", "state", "metric_version")

UNIT_TEXTS: Mapping[str, tuple[str, str]] = {
    "count": ("", ""), "share": ("%", "%"), "hours": (" hours", " 小时"), "points": (" points", " 分"),
    "per_10k_units": (" per 10,000 units", " 每万台"),
    "per_10k_unit_months": (" per 10,000 unit-months", " 每万台月"),
}  # fmt: skip


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
        """One sentence: the whole figure with its interval, how many groups there are, or why there is none."""
        title = self.metric.title(lang)
        if self.state != "ok" or self.rows.empty:
            return f"{title}: {self.refusal(lang) or ('无数据' if lang == 'zh' else 'no data')}"
        if len(self.rows) > 1:
            n = len(self.rows)
            return f"{title}: {n:,} 行" if lang == "zh" else f"{title}: {n:,} rows"
        row = self.rows.iloc[0]
        scale, digits = (100, 1) if self.metric.unit == "share" else (1, 0 if self.metric.unit == "count" else 1)
        value, low, high = (f"{row[name] * scale:,.{digits}f}" for name in ("value", "low", "high"))
        figure = f"{value}{UNIT_TEXTS[self.metric.unit][lang == 'zh']} [{low}, {high}]"
        return f"{title}: {figure}, n {int(row['count']):,} / {float(row['base']):,.0f}"


def compute(
    snapshot: Snapshot,
    name: str,
    by: Sequence[str] = (),
    *,
    as_of: dt.datetime,
    where: Mapping[str, Sequence[str]] | None = None,
    start: dt.date | None = None,
    end: dt.date | None = None,
    period: Period | None = None,
) -> MetricResult:
    """The metric `name` per group of `by`, between two days (`end` excluded).

    Parameters
    ----------
    as_of
        The instant that counts as "now": ripeness is judged by it, its day is the last that counts.
    where
        Dimension -> values; only these rows (on both sides of a rate).
    start, end
        Window on the metric's clock; when absent from the first event on, to the last ripe day (without `period`).
    period
        One row per calendar month, quarter or year; the column `period` is its first day.

    Returns
    -------
    Rows with count, base, value and 95 % interval in the metric's unit. Groups of the base without an event are
    zeros. Groups with an event but no base have value NaN and `state` no_base. A group with few events (a rate) or a
    small base has `state` small_n. Events of unknown units, or of units not yet in service, are in the notes and in
    no rate; so are the answers of a source that only ever gives one answer (`aftersales.measure.selection`). Without
    rows, and with the reason, where a source lies below a gate of data quality (`aftersales.measure.gates`).

    Raises
    ------
    MetricError
        Unknown metric or dimension.
    """
    definition = metric(name)
    by, where = tuple(dict.fromkeys(by)), dict(where or {})
    _check_dimensions(snapshot, name, definition, (*by, *where))
    today = snapshot.day_of(as_of)
    tomorrow = today + dt.timedelta(days=1)
    end = min(end or tomorrow, tomorrow)
    table, clock = definition.numerator.table, definition.clock
    first = start or (observed_since(snapshot, table, clock) if snapshot.has_rows(table) else None) or end
    ripe = first_unripe_day(today, definition.maturity_days)
    question = Question(snapshot, name, definition, by, where, first, end, ripe, period)
    blank = MetricResult(name, definition, by, _empty(question.keys), first, end, as_of)
    if not snapshot.has_rows(table):
        return _without(blank, "no_data", f"no {table} has been loaded", f"尚未载入 {table} 数据")
    if gated := gate_refusal(question):
        return _without(blank, "refused", *gated)
    if definition.statistic != "rate":
        chosen = tuple(source for source in one_sided(question) if source.is_certain)
        question = replace(question, left_out=tuple(source.source for source in chosen))
        if chosen and not has_other_answers(question):
            return _without(blank, "refused", *refused_answers(chosen))
        return _finished(question, blank, FIGURES[definition.statistic](question))
    refused = refusal(question)
    if refused:
        return _without(blank, "refused", *refused)
    found = rates(question)
    return _finished(question, blank, found.frame, found)


def _without(blank: MetricResult, state: Literal["no_data", "refused"], reason: str, reason_zh: str) -> MetricResult:
    return replace(blank, state=state, reason=reason, reason_zh=reason_zh)


def _check_dimensions(snapshot: Snapshot, name: str, definition: Metric, names: Sequence[str]) -> None:
    conformed = definition.statistic == "rate"
    for dimension in names:
        if dimension not in definition.dimensions and not dimension.startswith(SITE_PREFIX):
            raise MetricError(f"metric {name}", f"has no dimension '{dimension}'",
                              rows=known_names(definition.dimensions, 40),
                              fix="ask for one of them, or add it to the definition")  # fmt: skip
        find_dimension(snapshot, definition.numerator.table, dimension, conformed=conformed)


def _empty(keys: Sequence[str]) -> pd.DataFrame:
    return pd.DataFrame(columns=[*keys, *RESULT_COLUMNS])


def _finished(question: Question, blank: MetricResult, frame: pd.DataFrame, found: Rates | None = None) -> MetricResult:
    """The result with ripeness, states and caveats, sorted by its groups."""
    definition = question.metric
    weight = frame["count"] if definition.statistic == "rate" else frame["base"]
    states = [frame["base"] <= 0, weight < definition.minimum_n]
    frame = frame.assign(ripe=_ripe(question, frame), state=np.select(states, ["no_base", "small_n"], "ok"),
                         metric_version=definition.version)[[*question.keys, *RESULT_COLUMNS]]  # fmt: skip
    frame = frame.sort_values(question.keys or ["count"], na_position="last", ignore_index=True)
    for name in question.by:
        frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
    result = replace(blank, rows=frame, notes=_notes(question, frame, found))
    if len(frame) and frame["base"].sum() > 0:
        return result
    return _without(result, "no_data", "no rows in this window", "该时间窗内无数据")


def _ripe(question: Question, frame: pd.DataFrame) -> list[bool]:
    if question.period is None:
        return [question.count_until > question.start] * len(frame)
    return [period_of(day, question.period)[1] <= question.ripe_until for day in frame["period"]]


def _notes(question: Question, frame: pd.DataFrame, found: Rates | None) -> tuple[tuple[str, str], ...]:
    notes = []
    if found is not None and (found.unknown_unit_n or found.out_of_service_n):
        n, unknown = found.unknown_unit_n + found.out_of_service_n, found.unknown_unit_n
        rest = found.out_of_service_n
        notes.append((f"{n:,} events are in no rate: {unknown:,} of unknown units, {rest:,} of units not in service",
                      f"{n:,} 条事件未计入比率:{unknown:,} 条产品未知,{rest:,} 条产品尚未启用"))  # fmt: skip
    if found is not None and found.fleet.estimated_n:
        guessed, n = found.fleet.estimated_n, found.fleet.units_n
        notes.append((f"service start estimated for {guessed:,} of {n:,} units",
                      f"{n:,} 台中 {guessed:,} 台的启用日期为估计值"))  # fmt: skip
    if found is not None and found.fleet.without_start_n:
        n = found.fleet.without_start_n
        notes.append((f"{n:,} units are in stock or have no date: they are not in the base",
                      f"{n:,} 台在库或无日期,未计入基数"))  # fmt: skip
    if question.metric.statistic == "quantile":
        open_n = int(frame["base"].sum() - frame["count"].sum())
        if open_n:
            notes.append((f"{open_n:,} rows have no end yet or no usable times; they are in the base only",
                          f"{open_n:,} 条尚未结束或时间不可用;计入基数,不计入中位数"))  # fmt: skip
    notes += [caveat(source) for source in one_sided(question)]
    if found is not None:
        notes += [caveat_units(source) for source in failed_only(question.snapshot, question.metric.numerator.table)]
    return tuple(notes)
