"""How far a web service has been read: the newest time of an item, or the service's own cursor."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping
from typing import Any

from aftersales.collect.channels import RestSettings, Since, duration
from aftersales.collect.landing import Cursor

_JSON_DATE = re.compile(r"^/Date\((-?\d{1,15})([+-]\d{4})?\)/$")


class Reached:
    """The newest time seen, or the service's own cursor."""

    def __init__(self, settings: RestSettings, since: Cursor | None, now: dt.datetime) -> None:
        self._settings, self._now = settings, now
        self.cursor: Cursor | None = since

    def see(self, item: Mapping[str, Any]) -> None:
        """Take the item's time into account; one in the future counts as now, or nothing would be read until then."""
        since = self._settings.since
        if since is None or since.path is None:
            return
        value = item.get(since.path)
        held = None if self.cursor is None else self.cursor.get("since")
        if since.format == "text":
            if value is not None and (held is None or _in_order(held) < _in_order(str(value))):
                self.cursor = {"since": str(value)}
        elif moment := _moment(value):
            newest = min(moment, self._now)
            if held is None or dt.datetime.fromisoformat(held) < newest:
                self.cursor = {"since": newest.isoformat()}

    def after_page(self, cursor: str | None) -> Cursor | None:
        """Take the service's own cursor after a page; it holds where each page counts for itself."""
        if self._settings.page is None or not self._settings.page.resume or cursor is None:
            return None
        self.cursor = {"resume": cursor}
        return self.cursor


def _in_order(text: str) -> tuple[int, str]:
    """Numbers by size, other texts by their letters."""
    return (len(text.lstrip("0")), text.lstrip("0")) if text.isdigit() else (1 << 30, text)


def _moment(value: Any) -> dt.datetime | None:
    """An instant from ISO text, seconds or milliseconds since 1970, or `/Date(...)/`; None from anything else."""
    try:
        if isinstance(value, str) and (found := _JSON_DATE.match(value)):
            value = int(found[1])
        elif isinstance(value, str) and not value.isdigit():
            moment = dt.datetime.fromisoformat(value)
            return moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        if isinstance(value, int | float | str) and not isinstance(value, bool):
            number = float(value)
            return dt.datetime.fromtimestamp(number / 1000 if abs(number) > 1e11 else number, dt.UTC)
    except (ValueError, OverflowError, OSError):
        return None
    return None


def since_value(since: Since, reached: str, overlap: str) -> str | int:
    """The watermark minus the overlap, as the service wants it."""
    if since.format == "text":
        return reached
    moment = dt.datetime.fromisoformat(reached) - duration(overlap)
    written: dict[str, str | int] = {
        "iso": moment.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "date": moment.strftime("%Y-%m-%d"),
        "epoch_s": int(moment.timestamp()),
        "epoch_ms": int(moment.timestamp() * 1000),
    }
    return written[since.format]
