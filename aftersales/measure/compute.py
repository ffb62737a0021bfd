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

from aftersales.lake.audit import asked
from aftersales.lake.expressions import names_in
from aftersales.lake.store import Snapshot
from aftersales.lake.suppression import STATE, blanked, hidden_groups, is_small, told
from aftersales.measure.definitions import Metric, metric
from aftersales.measure.dimensions import find_dimension
from aftersales.measure.exposure import check_service, observed_since
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
from aftersales.model.errors import AccessError, MetricError, known_names
from aftersales.model.tables import SITE_PREFIX, canonical_table

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
    state: Literal["ok", "no_data", "refused", "suppressed"] = "ok"
    reason: str = ""
    reason_zh: str = ""
    notes: tuple[tuple[str, str], ...] = field(default=())
    """Caveats, each in English and Chinese."""

    def to_frame(self) -> pd.DataFrame:
        return self.rows

    @property
    def shown(self) -> pd.DataFrame:
        """The rows that are told: without those of too few cases."""
        return self.rows[self.rows["state"] != STATE] if self.suppressed_n else self.rows

    @property
    def suppressed_n(self) -> int:
        """Rows whose figures are blank, because they or a neighbour have too few cases."""
        return int((self.rows["state"] == STATE).sum())

    def refusal(self, lang: str) -> str:
        return self.reason_zh if lang == "zh" else self.reason

    def summary(self, lang: str = "en") -> str:
        """One sentence: the whole figure with its interval, how many groups there are, or why there is none."""
        title = self.metric.title(lang)
        if self.state != "ok" or self.rows.empty:
            return f"{title}: {self.refusal(lang) or ('无数据' if lang == 'zh' else 'no data')}"
        if len(self.rows) > 1:
            n, hidden = len(self.rows), self.suppressed_n
            left = (
                (f",其中 {hidden:,} 行已隐藏" if lang == "zh" else f", {hidden:,} of them suppressed") if hidden else ""
            )
            return f"{title}: {n:,} 行{left}" if lang == "zh" else f"{title}: {n:,} rows{left}"
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
    To a viewer who may not be told of small groups, their figures are missing and `state` is suppressed.

    Raises
    ------
    MetricError
        Unknown metric or dimension.
    AccessError
        The viewer may not group or filter by one of the dimensions.
    """
    definition = metric(name)
    by, where = tuple(dict.fromkeys(by)), dict(where or {})
    question = {"by": by, "where": where, "start": start, "end": end, "period": period, "as_of": as_of}
    with asked(snapshot, "metric", name, question, _tables_of(definition)) as entry:
        result = _computed(snapshot, name, definition, by, where, as_of, start, end, period)
        entry.answered(len(result.rows), result.suppressed_n)
        return result


def _tables_of(definition: Metric) -> list[str]:
    return [definition.numerator.table, *(["unit"] if definition.statistic == "rate" else [])]


def _computed(
    snapshot: Snapshot,
    name: str,
    definition: Metric,
    by: tuple[str, ...],
    where: Mapping[str, Sequence[str]],
    as_of: dt.datetime,
    start: dt.date | None,
    end: dt.date | None,
    period: Period | None,
) -> MetricResult:
    if unseen := _unseen(snapshot, definition):
        today = snapshot.day_of(as_of)
        keys = [*by, *(["period"] if period else [])]
        return _without(MetricResult(name, definition, by, _empty(keys), today, today, as_of), "refused", *unseen)
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


def _unseen(snapshot: Snapshot, definition: Metric) -> tuple[str, str] | None:
    """Why the viewer cannot be given this metric at all, in English and Chinese; None when it can."""
    if snapshot.access is None:
        return None
    table = definition.numerator.table
    spec = canonical_table(table)
    texts = (definition.numerator.where, definition.numerator.value, definition.denominator.where)
    named = [column for text in texts for column in names_in(text)]
    repeats = ["fault_code"] if any("has_repeat_within" in text for text in texts) else []
    score = ["score"] if definition.statistic == "net_score" else []
    try:
        joins = [spec.key, *(["unit_id"] if repeats or definition.statistic == "rate" else [])]
        snapshot.check_columns(table, [*named, *repeats, *score, definition.clock], joins=joins)
        if definition.statistic == "rate":
            check_service(snapshot, table)
    except AccessError as error:
        return f"refused: {error.where} {error.what} ({error.rows})", f"无权查看:{error.where},{error.rows}"
    return None


def _without(
    blank: MetricResult, state: Literal["no_data", "refused", "suppressed"], reason: str, reason_zh: str
) -> MetricResult:
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
                         metric_version=definition.version)  # fmt: skip
    frame = frame.sort_values(question.keys or ["count"], na_position="last", ignore_index=True)
    for name in question.by:
        frame[name] = frame[name].astype(object).where(frame[name].notna(), None)
    result = replace(blank, rows=_told(question, frame), notes=_notes(question, frame, found))
    if not len(frame) or not frame["base"].sum() > 0:
        return _without(result, "no_data", "no rows in this window", "该时间窗内无数据")
    if result.suppressed_n == len(frame):
        n = question.snapshot.smallest
        return _without(result, STATE, f"suppressed: groups of fewer than {n} cases are not shown",
                        f"已隐藏:少于 {n} 例的分组不予显示")  # fmt: skip
    return result


def _told(question: Question, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows with the columns of a result; blank where so few cases tell of persons.

    The parts that figures of a row give away count as well: what is left of the base in a share, detractors of a score.
    """
    smallest, statistic = question.snapshot.smallest, question.metric.statistic
    columns = [*question.keys, *RESULT_COLUMNS]
    if not smallest:
        return frame[columns]
    small = is_small(frame["count"], smallest)
    if question.metric.unit != "per_10k_unit_months":
        small = small | is_small(frame["base"], smallest)
    if statistic in ("share", "share_of_total", "net_score"):
        small = small | is_small(frame["base"] - frame["count"], smallest)
    if statistic == "net_score":
        rest = frame["base"] - frame["count"] - frame["detractors"]
        small = small | is_small(frame["detractors"], smallest) | is_small(rest, smallest)
    hidden = hidden_groups(frame, question.keys, "count", small, smallest)
    return blanked(frame[columns], hidden, ["count", "base", "value", "low", "high"])


def _ripe(question: Question, frame: pd.DataFrame) -> list[bool]:
    if question.period is None:
        return [question.count_until > question.start] * len(frame)
    return [period_of(day, question.period)[1] <= question.ripe_until for day in frame["period"]]


def _notes(question: Question, frame: pd.DataFrame, found: Rates | None) -> tuple[tuple[str, str], ...]:
    notes, least = [], question.snapshot.smallest
    if found is not None and (found.unknown_unit_n or found.out_of_service_n):
        unknown, rest = found.unknown_unit_n, found.out_of_service_n
        n = unknown + rest
        if is_small([n, unknown, rest], least).any():
            notes.append(("some events are in no rate: of unknown units, or of units not in service",
                          "部分事件未计入比率:产品未知或尚未启用"))  # fmt: skip
        else:
            notes.append((f"{n:,} events are in no rate: "
                          f"{unknown:,} of unknown units, {rest:,} of units not in service",
                          f"{n:,} 条事件未计入比率:{unknown:,} 条产品未知,{rest:,} 条产品尚未启用"))  # fmt: skip
    if found is not None and found.fleet.estimated_n:
        guessed, n = told(found.fleet.estimated_n, least), found.fleet.units_n
        notes.append((f"service start estimated for {guessed} of {n:,} units",
                      f"{n:,} 台中 {guessed} 台的启用日期为估计值"))  # fmt: skip
    if found is not None and found.fleet.without_start_n:
        lost = told(found.fleet.without_start_n, least)
        notes.append((f"{lost} units are in stock or have no date: they are not in the base",
                      f"{lost} 台在库或无日期,未计入基数"))  # fmt: skip
    if question.metric.statistic == "quantile":
        open_n = int(frame["base"].sum() - frame["count"].sum())
        if open_n:
            still = told(open_n, least)
            notes.append((f"{still} rows have no end yet or no usable times; they are in the base only",
                          f"{still} 条尚未结束或时间不可用;计入基数,不计入中位数"))  # fmt: skip
    notes += [caveat(source) for source in one_sided(question)]
    if found is not None:
        notes += [caveat_units(source) for source in failed_only(question.snapshot, question.metric.numerator.table)]
    return tuple(notes)
