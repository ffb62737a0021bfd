"""Plausible volume: how many rows a day (or week) should have, judged by what came before it, and what it had."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable
from typing import Literal

import numpy as np
import pandas as pd

from aftersales.lake.store import Snapshot
from aftersales.model.statistics import negative_binomial_quantile
from aftersales.model.tables import canonical_table

Per = Literal["day", "week"]
HISTORY = {"day": 8, "week": 12}
"""Earlier periods a day or week is compared with: the same weekday of eight weeks, or twelve weeks."""

LEAST = {"day": 5, "week": 6}
"""With fewer earlier periods than these nothing is expected yet."""

LEVEL = 0.995
"""A day in two hundred falls outside by chance."""

VOLUME_COLUMNS = ("period", "rows", "expected", "low", "high", "history_n", "state")


def volume(
    snapshot: Snapshot, source: str, *, table: str | None = None, per: Per = "day", since: dt.date | None = None
) -> pd.DataFrame:
    """Rows of a source per day or week of the event clock at the site, against what was to be expected.

    Parameters
    ----------
    table
        The table whose rows are counted; when absent the first one of the source.
    since
        First period to come back; earlier ones still count as history.

    Returns
    -------
    One row per period, also those without any row: period (first day), rows, expected, low and high (rows),
    history_n (earlier periods compared with) and state: `ok`, `too_few`, `too_many`, `missing` (none at all, though
    some were to be expected), `cannot_tell` (not enough history), `open` (still running, not delivered to its end, or
    younger than the time within which nineteen of twenty rows of the source become known).

    Notes
    -----
    Expected is the median of the earlier periods, so one odd period does not move it. The interval is that of a
    negative binomial count whose variance is that of the median absolute deviation of the earlier periods, and never
    less than that of a Poisson count: Hilbe (2011), Negative Binomial Regression, 2nd ed., section 8.
    """
    name = table or _main_table(snapshot, source)
    if name is None:
        return pd.DataFrame(columns=list(VOLUME_COLUMNS))
    counts, until = _daily(snapshot, source, name)
    if counts.empty:
        return pd.DataFrame(columns=list(VOLUME_COLUMNS))
    if per == "week":
        counts = counts.resample("W-MON", label="left", closed="left").sum()
    judged = judge(counts.to_numpy(), per)
    length = pd.Timedelta(days=1 if per == "day" else 7)
    days = pd.DatetimeIndex(counts.index)
    is_open = days + length > pd.Timestamp(until)
    frame = pd.DataFrame({"period": days.date, "rows": counts.to_numpy(), **judged})
    frame["state"] = np.where(is_open, "open", frame["state"])
    return frame[frame["period"] >= since].reset_index(drop=True) if since else frame


def _main_table(snapshot: Snapshot, source: str) -> str | None:
    """The table that accounts for the rows of the source's files, as the ledger says."""
    ledger = snapshot.versions_of("delivery")
    first = ledger.filter((ledger.source == source) & (ledger.place == 0))
    names = snapshot.connection.execute(first.order_by(first.loaded_at.desc()).limit(1).table)
    return str(names.iloc[0]) if len(names) and snapshot.has_rows(names.iloc[0]) else None


def _daily(snapshot: Snapshot, source: str, name: str) -> tuple[pd.Series, dt.date]:
    """Rows per day without gaps, and the first day of which more may still come.

    That is the day of the newest row known, less the whole days within which 95 % of the rows become known.
    """
    table = canonical_table(name)
    rows = snapshot.table(name)
    rows = rows.filter(rows.source_system == source)
    clock = rows[table.clock]
    day = snapshot.site_time(clock).date() if table.column(table.clock).type == "ts" else clock
    seconds = rows.known_at.epoch_seconds() - clock.cast("timestamp('UTC')").epoch_seconds()
    told = snapshot.connection.execute(rows.aggregate(newest=rows.known_at.max(), lag=seconds.quantile(0.95)))
    newest, lag = told["newest"].iloc[0], told["lag"].iloc[0]
    days = rows.select(day=day)
    days = days.filter(days.day.notnull())
    grouped = days.group_by("day").aggregate(rows=days.count())
    found = snapshot.connection.execute(grouped)
    if found.empty or pd.isna(newest):
        return pd.Series(dtype="int64"), dt.date.min
    late = dt.timedelta(days=0 if pd.isna(lag) else max(int(lag // 86_400), 0))
    until = snapshot.day_of(pd.Timestamp(newest).to_pydatetime()) - late
    counts = found.set_index(pd.to_datetime(found["day"]))["rows"].sort_index()
    last = max(counts.index.max(), min(pd.Timestamp(until), counts.index.max() + pd.Timedelta(days=366)))
    return counts.reindex(pd.date_range(counts.index.min(), last), fill_value=0).astype("int64"), until


def judge(counts: np.ndarray, per: Per = "day") -> dict[str, np.ndarray]:
    """Expected, low, high, history_n and state of each count, each judged only by those before it.

    Examples
    --------
    >>> steady = np.array([100, 98, 103, 99, 101, 97, 40])
    >>> found = judge(steady, "week")
    >>> float(found["expected"][-1]), str(found["state"][-1]), str(found["state"][0])
    (99.5, 'too_few', 'cannot_tell')
    """
    counts = np.asarray(counts, dtype=float)
    step, depth = (7, HISTORY["day"]) if per == "day" else (1, HISTORY["week"])
    back = np.arange(1, depth + 1) * step
    places = np.arange(len(counts))[:, None] - back[None, :]
    history = np.where(places >= 0, counts[np.clip(places, 0, None)], np.nan)
    n = (~np.isnan(history)).sum(axis=1)
    enough = n >= LEAST[per]
    expected, low, high = (np.full(len(counts), np.nan) for _ in range(3))
    if enough.any():
        expected[enough], low[enough], high[enough] = _interval(history[enough], n[enough])
    state = np.select(
        [~enough, (counts == 0) & (low > 0), counts < low, counts > high],
        ["cannot_tell", "missing", "too_few", "too_many"],
        "ok",
    )
    return {"expected": expected, "low": low, "high": high, "history_n": n, "state": state}


def _interval(history: np.ndarray, n: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Median, low and high of the count to come."""
    middle = np.nanmedian(history, axis=1)
    deviation = 1.4826 * np.nanmedian(np.abs(history - middle[:, None]), axis=1)
    mean = np.maximum(middle, 0.5)  # a median of zero still leaves room for a row or two
    spread = np.maximum(deviation**2, mean)
    spread = spread * (1 + np.pi / 2 / n)  # the median itself is known from n periods only
    tail = (1 - LEVEL) / 2
    chance = mean / spread
    size = mean * chance / (1 - chance)
    return middle, *(negative_binomial_quantile(share, size, chance) for share in (tail, 1 - tail))


def odd_periods(snapshot: Snapshot, sources: Iterable[str], *, weeks: int = 4, per: Per = "day") -> pd.DataFrame:
    """Days (or weeks) of the last `weeks` whose volume was not to be expected, per source: `source`, then `volume`."""
    frames = []
    for source in sources:
        rows = volume(snapshot, source, per=per)
        closed = rows[rows["state"] != "open"].tail(weeks * 7 if per == "day" else weeks)
        frames.append(closed[closed["state"].isin(["too_few", "too_many", "missing"])].assign(source=source))
    columns = ["source", *VOLUME_COLUMNS]
    return pd.concat(frames, ignore_index=True)[columns] if frames else pd.DataFrame(columns=columns)
