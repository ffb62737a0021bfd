"""Counts, shares, quantiles and scores of a question's own rows: count, base, value, low and high per group."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd

from aftersales.measure.question import Question, events, grouped, with_days
from aftersales.model.statistics import net_score_interval, quantile_ranks, rate_interval, share_interval

DETRACTOR = 6
"""Highest score of a detractor."""


def _count(question: Question) -> pd.DataFrame:
    """Distinct rows that count, with the Poisson interval of a count."""
    rows = events(question)
    rows = rows.filter(rows._counts)
    frame = grouped(rows, question.keys, count=rows[question.table.key].nunique())
    frame["base"], frame["value"] = frame["count"], frame["count"].astype(float)
    frame["low"], frame["high"] = rate_interval(frame["count"], np.ones(len(frame)))
    return frame


def _share_of_total(question: Question) -> pd.DataFrame:
    """Part of all rows that count which is in the group; with several labels a row is part of several groups."""
    rows = events(question)
    rows = rows.filter(rows._counts)
    key = rows[question.table.key]
    frame = grouped(rows, question.keys, count=key.nunique())
    over = ["period"] if question.period else []
    totals = grouped(rows, over, base=key.nunique())
    frame = frame.merge(totals, on=over) if over else frame.assign(base=int(totals["base"].iloc[0]))
    return _with_share(frame)


def _share(question: Question) -> pd.DataFrame:
    """Part of the rows that could count which does."""
    rows = events(question)
    key = rows[question.table.key]
    return _with_share(grouped(rows, question.keys, base=key.nunique(), count=key.nunique(where=rows._counts)))


def _with_share(frame: pd.DataFrame) -> pd.DataFrame:
    frame["value"] = frame["count"] / frame["base"].where(frame["base"] > 0)
    frame["low"], frame["high"] = share_interval(frame["count"], frame["base"])
    return frame


def _net_score(question: Question) -> pd.DataFrame:
    """Promoters (what the numerator counts) less detractors, in points."""
    rows = events(question)
    key = rows[question.table.key]
    frame = grouped(rows, question.keys, base=key.nunique(), count=key.nunique(where=rows._counts),
                    detractors=key.nunique(where=rows.score <= DETRACTOR))  # fmt: skip
    frame["value"], frame["low"], frame["high"] = net_score_interval(frame["count"], frame["detractors"], frame["base"])
    return frame


def _quantile(question: Question) -> pd.DataFrame:
    """Quantile of the known values; `base` also counts the rows that have none yet."""
    rows = events(question).select(*question.keys, "_value")
    q, keys = question.metric.quantile, question.keys
    frame = grouped(rows, keys, base=rows.count(), count=rows._value.count(), value=rows._value.quantile(q))
    low, high = quantile_ranks(frame["count"], q)
    return _at_ranks(rows.filter(rows._value.notnull()), keys, frame.assign(_low=low, _high=high))


def _at_ranks(known: ir.Table, keys: list[str], frame: pd.DataFrame) -> pd.DataFrame:
    """The order statistics at the ranks `_low` and `_high` of each group, as `low` and `high`."""
    window = ibis.window(group_by=keys, order_by="_value") if keys else ibis.window(order_by="_value")
    ranked = known.mutate(_rank=ibis.row_number().over(window) + 1)
    wanted = sorted({int(rank) for side in ("_low", "_high") for rank in frame[side]})
    found = with_days(ranked.filter(ranked._rank.isin(wanted)).execute())
    for side in ("low", "high"):
        column = found.rename(columns={"_value": side, "_rank": f"_{side}"})
        frame = frame.merge(column, on=[*keys, f"_{side}"], how="left")
    return frame.drop(columns=["_low", "_high"])


FIGURES: Mapping[str, Callable[[Question], pd.DataFrame]] = {
    "count": _count, "share_of_total": _share_of_total, "share": _share, "quantile": _quantile,
    "net_score": _net_score,
}  # fmt: skip
