"""Gates: a figure whose sources are not good enough is refused, with the source and the column named.

Judged are the sources whose rows a question counts: by the files those rows came from, in the columns it uses. A
value that a code list lacks and that costs the row counts for every question about the table, used or not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import pandas as pd

from aftersales.collect.quality import LEAST_BASE, TITLES, facts
from aftersales.lake.expressions import names_in
from aftersales.lake.store import Snapshot
from aftersales.measure.definitions import Metric
from aftersales.measure.dimensions import find_dimension
from aftersales.measure.memory import once, table_of
from aftersales.measure.question import Question

MATERIAL = 0.01
"""A source that brings less than this share of the rows cannot bend the figure and is not judged."""

BY_COLUMN = ("mapping_coverage", "completeness")
"""Dimensions judged column by column; the others are judged for the table (timeliness for the source)."""


@dataclass(frozen=True)
class Breach:
    """One source below one gate."""

    dimension: str
    source: str
    place: str
    good: int
    base: int
    gate: float

    @property
    def share(self) -> float:
        return self.good / self.base


def gate_refusal(question: Question) -> tuple[str, str] | None:
    """Why the figure is refused, in English and Chinese; None where every source passes its gates."""
    found = breaches(question)
    return _words(found, tells_counts=question.snapshot.access is None) if found else None


def breaches(question: Question) -> list[Breach]:
    """The sources of a question that lie below a gate, the worst first."""
    gates = gates_of(question.snapshot, question.metric)
    whole = _owner(question.snapshot)
    if not any(gates.values()) or not whole.has_rows("quality"):
        return []
    measured = once(whole, "quality facts", lambda: facts(whole))
    found: list[Breach] = []
    for table, columns in _columns_used(question).items():
        rows = measured.merge(_feeding(question, whole, table), on=["source", "source_file"])
        rows = rows[(rows["table"] == table) | (rows["dimension"] == "timeliness")]
        found += _below(rows, columns, gates)
    return sorted(found, key=lambda one: (one.share - one.gate, one.source, one.place))


def gates_of(snapshot: Snapshot, metric: Metric) -> dict[str, float]:
    """The gates of a metric: those of workbench.yml, and its own where it has some."""
    return {**snapshot.gates.model_dump(), **{str(name): gate for name, gate in metric.gates.items()}}


def _owner(snapshot: Snapshot) -> Snapshot:
    """The same versions without a viewer: how good a source is depends on nobody's rights, and no row is shown."""
    if snapshot.access is None:
        return snapshot
    return once(snapshot, "owner's view", lambda: replace(snapshot, access=None))


def _columns_used(question: Question) -> Mapping[str, set[str]]:
    """Table -> columns that decide which rows count and in which group they are."""
    definition, spec = question.metric, question.table
    texts = (definition.numerator.where, definition.numerator.value, definition.denominator.where)
    used: dict[str, set[str]] = {definition.numerator.table: {name for text in texts for name in names_in(text)}}
    used[definition.numerator.table] |= {name for name in spec.columns if any(f"'{name}'" in text for text in texts)}
    conformed = definition.statistic == "rate"
    if conformed:
        used.setdefault("unit", set())
    for name in (*question.by, *question.where):
        dimension = find_dimension(question.snapshot, definition.numerator.table, name, conformed=conformed)
        home = definition.numerator.table if dimension.home == "own" else dimension.home
        used.setdefault(home, set()).add("tag" if home == "tag" else name)
        if home == "product":
            used[definition.numerator.table].add("product_id")
    return used


def _feeding(question: Question, whole: Snapshot, table: str) -> pd.DataFrame:
    """Files the rows of `table` in the question's window came from: source, source_file; only material sources."""

    def read() -> pd.DataFrame:
        rows = table_of(whole, table)
        if table == question.metric.numerator.table:
            clock, midnight = rows[question.metric.clock], whole.midnight
            rows = rows.filter((clock >= midnight(question.start)) & (clock < midnight(question.end)))
        grouped = rows.group_by(source=rows.source_system, source_file=rows.source_file).aggregate(n=rows.count())
        found = whole.connection.execute(grouped)
        of_source = found.groupby("source")["n"].transform("sum")
        return found[of_source >= MATERIAL * found["n"].sum()][["source", "source_file"]]

    if not whole.has_rows(table):
        return pd.DataFrame(columns=["source", "source_file"], dtype=object)
    return once(whole, ("feeding", table, question.metric.clock, question.start, question.end), read)


def _below(rows: pd.DataFrame, columns: set[str], gates: Mapping[str, float]) -> list[Breach]:
    rows = rows[rows["dimension"].isin(list(gates))]
    by_column = rows["dimension"].isin(BY_COLUMN)
    rows = rows[~by_column | rows["column"].isin(columns) | rows["costs_row"]]
    pooled = rows.groupby(["dimension", "source", "table", "column"], as_index=False)[["good", "base"]].sum()
    return [
        Breach(row["dimension"], row["source"], ".".join(filter(None, (row["table"], row["column"]))),
               int(row["good"]), int(row["base"]), gates[row["dimension"]])
        for row in pooled.to_dict("records")
        if row["base"] >= LEAST_BASE and row["good"] < gates.get(row["dimension"], 0) * row["base"]
    ]  # fmt: skip


def _words(found: list[Breach], *, tells_counts: bool) -> tuple[str, str]:
    """The worst breach; how many rows a source has is not told to viewers who may not see them all."""
    worst, more = found[0], len(found) - 1
    title, title_zh = TITLES[worst.dimension]
    figures = f"{percent(worst.share, worst.gate)} < {worst.gate:.0%}".replace("%", " %")
    counts = f": {worst.good:,} / {worst.base:,}" if tells_counts else ""
    rest, rest_zh = (f"; {more} more below a gate", f";另有 {more} 项低于门槛") if more else ("", "")
    return (
        f"refused: {title} {figures} (source {worst.source}, {worst.place}{counts}{rest})",
        f"拒绝计算:{title_zh} {figures}(来源 {worst.source},{worst.place}{counts.replace(': ', ':')}{rest_zh})",
    )


def percent(share: float, gate: float) -> str:
    """A share below a gate in percent, with as many digits as it takes to look below it.

    Examples
    --------
    >>> percent(0.71, 0.9), percent(0.8996, 0.9)
    ('71%', '89.9%')
    """
    if round(share, 2) < gate and abs(gate - share) >= 0.05:
        return f"{share:.0%}"
    return f"{math.floor(share * 1000) / 10:.1f}%"
