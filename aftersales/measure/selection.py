"""Selection: what the collected rows cannot say, because of which rows were collected.

Two ways in which a source misleads are told from its rows alone, each by what would be seen if it were fair:

- **One-sided answers.** Every answer of a source has the same score. If only one customer in fifty
  (`OTHER_SHARE`) felt otherwise, the chance that none of n answers shows it is 0.98^n: below one in a hundred from
  228 answers on. From there on the source's answers are in no figure; between a metric's `minimum_n` and that, the
  figure is given with a caveat.
- **Failed units only.** Every unit of a source has an event. Were it a population with m events per unit, a part
  exp(-m) of it would have none (Poisson); the chance that of n units every one has some is (1 - exp(-m))^n. Below one
  in a thousand the source is a list of failures, and nothing to divide by.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from aftersales.lake.store import Snapshot
from aftersales.measure.memory import once, table_of
from aftersales.measure.question import Question, rows_in_base

SCORES = {"survey": "score", "review": "stars", "complaint": "handling_satisfaction_score"}
"""The column of a table that holds what somebody was asked to judge."""

OTHER_SHARE = 0.02
"""Smallest share of other answers a fair sample of customers is expected to have."""

ANSWER_CHANCE, UNIT_CHANCE = 0.01, 0.001
"""What is less likely than this by chance is taken for selection."""

ENOUGH_ANSWERS = math.ceil(math.log(ANSWER_CHANCE) / math.log(1 - OTHER_SHARE))


@dataclass(frozen=True)
class OneSided:
    """A source whose every answer is the same."""

    source: str
    answers_n: int
    score: float

    @property
    def is_certain(self) -> bool:
        """Whether so many equal answers cannot be chance."""
        return self.answers_n >= ENOUGH_ANSWERS


@dataclass(frozen=True)
class FailedOnly:
    """A source that knows units only by what happened to them."""

    source: str
    units_n: int
    is_all: bool
    """Whether no other source knows a unit."""


def one_sided(question: Question) -> tuple[OneSided, ...]:
    """Sources of the metric's table whose known scores are all equal, of `minimum_n` answers or more.

    Empty for a metric that judges no score. It is a fact about the source: filters and windows do not change it.
    """
    metric = question.metric
    score = SCORES.get(metric.numerator.table, "")
    if metric.statistic not in ("share", "net_score") or not score or score not in metric.numerator.where:
        return ()

    def read() -> tuple[OneSided, ...]:
        rows = rows_in_base(question)
        found = rows.group_by("source_system").aggregate(
            n=rows[score].count(), low=rows[score].min(), high=rows[score].max()
        )
        flat = found.filter((found.n >= max(metric.minimum_n, 2)) & (found.low == found.high)).execute()
        return tuple(
            OneSided(str(row.source_system), int(row.n), float(row.low))
            for row in flat.sort_values("source_system").itertuples()
        )

    return once(question.snapshot, ("one-sided", question.metric_id), read)


def has_other_answers(question: Question) -> bool:
    """Whether answers that could count remain without the sources that are left out."""
    rows = rows_in_base(question)
    return bool(rows.filter(rows.source_system.notin(question.left_out)).limit(1).count().execute())


def failed_only(snapshot: Snapshot, table: str) -> tuple[FailedOnly, ...]:
    """Sources of units of which every one has a row in `table`, too many to be chance."""

    def read() -> tuple[FailedOnly, ...]:
        units, events = table_of(snapshot, "unit"), table_of(snapshot, table)
        counts = events.group_by("unit_id").aggregate(n=events.count())
        joined = units.select("unit_id", "source_system").left_join(counts, "unit_id")
        found = joined.group_by("source_system").aggregate(
            units_n=joined.count(), silent_n=joined.n.isnull().sum(), events_n=joined.n.fill_null(0).sum()
        )
        frame = found.execute().sort_values("source_system")
        listed = [row for row in frame.itertuples() if not row.silent_n and _chance(row.events_n, row.units_n)]
        return tuple(FailedOnly(str(row.source_system), int(row.units_n), len(listed) == len(frame)) for row in listed)

    return once(snapshot, ("failed only", table), read)


def only_failures(snapshot: Snapshot, table: str) -> tuple[FailedOnly, ...]:
    """`failed_only` where no other source knows a unit: then no rate can be given; else empty."""
    listed = failed_only(snapshot, table)
    return listed if listed and all(source.is_all for source in listed) else ()


def _chance(events_n: int, units_n: int) -> bool:
    """Whether a population with so many events would all but never have an event on every unit."""
    silent_share = math.exp(-events_n / units_n)
    return units_n * math.log1p(-silent_share) < math.log(UNIT_CHANCE)


def refused_answers(sources: tuple[OneSided, ...]) -> tuple[str, str]:
    """Why no figure can be given, in English and Chinese."""
    return (
        f"refused: selection, not satisfaction: {'; '.join(_said(source) for source in sources)}. "
        "Where nobody answers otherwise, the answers were chosen.",
        f"拒绝计算:这是样本选择,不是满意度:{';'.join(_said_zh(source) for source in sources)}。"
        "没有任何不同的回答,说明回答经过挑选。",
    )


def caveat(source: OneSided) -> tuple[str, str]:
    """What a figure says about a one-sided source among others, in English and Chinese."""
    if source.is_certain:
        return (
            f"selection: {_said(source)}; they are in no figure",
            f"样本选择:{_said_zh(source)};未计入结果",
        )
    return f"may be selection: {_said(source)}", f"可能存在样本选择:{_said_zh(source)}"


def _said(source: OneSided) -> str:
    return f"every one of {source.answers_n:,} answers of {source.source} is {source.score:g}"


def _said_zh(source: OneSided) -> str:
    return f"来源 {source.source} 的 {source.answers_n:,} 个回答全部为 {source.score:g}"


def refused_units(sources: tuple[FailedOnly, ...]) -> tuple[str, str]:
    """Why a rate has no base, in English and Chinese."""
    n = sum(source.units_n for source in sources)
    names = ", ".join(source.source for source in sources)
    return (
        f"refused: every one of the {n:,} units known ({names}) has such an event: this is a list of failures, not a "
        "population, so a rate has no denominator; counts can be had",
        f"拒绝计算:已知的 {n:,} 台产品({names})全部发生过此类事件:这是故障清单而非在用总体,比率缺少分母;可以查看数量",
    )


def caveat_units(source: FailedOnly) -> tuple[str, str]:
    """What a rate says about such a source among others, in English and Chinese."""
    return (
        f"every one of the {source.units_n:,} units of {source.source} has such an event: its intact units are missing",
        f"来源 {source.source} 的 {source.units_n:,} 台产品全部发生过此类事件:缺少完好产品",
    )
