"""Where a table read by a cursor column stands: the newest value, and the value the next fetch starts at."""

from __future__ import annotations

import datetime as dt
import decimal
import math
import re
from collections.abc import Sequence
from typing import Any

from aftersales.collect.channels import duration
from aftersales.collect.landing import Cursor
from aftersales.model.errors import SourceError

CURSOR_TYPES = {"instant": dt.datetime.fromisoformat, "day": dt.date.fromisoformat, "number": decimal.Decimal}


def newest_cursor(newest: Cursor | None, values: Sequence[Any], counts_up: bool) -> Cursor | None:
    """The cursor after rows in its order whose cursor column holds `values`.

    `counts_up` says that texts are numbers. A time in the future moves nothing.
    """
    now = dt.datetime.now(dt.UTC)
    last: Any = next((value for value in reversed(values) if value is not None and not _is_future(value, now)), None)
    if last is None:
        return newest
    value: Any = decimal.Decimal(last) if counts_up else last
    kind = (
        "instant" if isinstance(value, dt.datetime) else "day" if isinstance(value, dt.date)
        else "number" if isinstance(value, int | float | decimal.Decimal) else "text"
    )  # fmt: skip
    reached = {"kind": kind, "value": str(value) if kind in ("number", "text") else value.isoformat()}
    if newest is not None and newest.get("kind") == kind and _value(newest) >= _value(reached):
        return newest
    return reached


def _is_future(value: Any, now: dt.datetime) -> bool:
    """Whether a time lies ahead on every clock: as a watermark it would hide all that comes until then."""
    if isinstance(value, str):
        try:
            value = dt.datetime.fromisoformat(value)
        except ValueError:
            return False
    if isinstance(value, dt.datetime):
        local = (now + dt.timedelta(hours=14)).replace(tzinfo=None)
        return value > now + dt.timedelta(minutes=1) if value.tzinfo else value > local
    return isinstance(value, dt.date) and value > (now + dt.timedelta(hours=14)).date()


def _value(cursor: Cursor) -> Any:
    return CURSOR_TYPES.get(cursor["kind"], str)(cursor["value"])  # type: ignore[operator]


def start_value(since: Cursor, overlap: str | int | None, where: str) -> Any:
    """Where the next fetch starts: the watermark minus the overlap, as the database compares it.

    Raises
    ------
    SourceError
        The cursor column holds texts that are no times, and the overlap is a duration.
    """
    value = _value(since)
    if since["kind"] == "number":
        number = value - (overlap if isinstance(overlap, int) else 0)
        return int(number) if number == number.to_integral_value() else number
    if isinstance(overlap, str) and since["kind"] == "instant":
        return value - duration(overlap)
    if isinstance(overlap, str) and since["kind"] == "day":
        return value - dt.timedelta(days=math.ceil(duration(overlap) / dt.timedelta(days=1)))
    if isinstance(overlap, str) and since["kind"] == "text":
        return _earlier(value, overlap, where)
    return value


def _earlier(text: str, overlap: str, where: str) -> str:
    """A time kept as text, earlier by `overlap`, written as it was."""
    try:
        moment = dt.datetime.fromisoformat(text) - duration(overlap)
    except ValueError:
        raise SourceError(
            where,
            f"the cursor column holds texts that are no times: '{overlap}' cannot be taken off",
            rows="nothing was fetched",
            fix="leave 'overlap' out, or take a cursor column that holds times or numbers",
        ) from None
    if len(text) == 10:
        return moment.date().isoformat()
    fraction = re.search(r"\.(\d+)", text)
    timespec = "seconds" if not fraction else "milliseconds" if len(fraction[1]) == 3 else "microseconds"
    written = moment.isoformat(sep=text[10], timespec=timespec)
    return written.replace("+00:00", "Z") if text.endswith("Z") else written
