"""Which messages belong together, and which one began a thread. A message keeps the thread it was once given."""

from __future__ import annotations

import datetime as dt
import json
import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import duckdb

from aftersales.lake.engine import literal, path_literal

DAYS_APART = 90
"""A reply that names no message joins the newest thread of its subject and correspondent, so many days back at most."""

_FIELDS = ("message_id", "thread_id", "topic", "correspondent", "sent_at", "is_first")


class Threads:
    """All messages of earlier fetches, as `data/raw/<source>/` has them, and those of this one."""

    def __init__(self, folder: Path) -> None:
        self._known = sqlite3.connect(":memory:")
        self._known.execute(f"create table message ({', '.join(_FIELDS)})")
        for file in sorted(folder.glob("*.jsonl")) if folder.is_dir() else []:
            self._known.executemany("insert into message values (?, ?, ?, ?, ?, ?)", _landed(file))
        for number, columns in enumerate(("message_id", "thread_id", "topic, correspondent, sent_at")):
            self._known.execute(f"create index by_{number} on message ({columns})")

    def __enter__(self) -> Threads:
        return self

    def __exit__(self, *_: object) -> None:
        self._known.close()

    def place(self, messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        """The messages, oldest first, each with `thread_id` and `is_first`."""
        placed = []
        for message in sorted(messages, key=lambda each: each["sent_at"] or ""):
            thread, is_first = self._thread(message)
            placed.append({**message, "thread_id": thread, "is_first": is_first})
            row = [placed[-1][name] for name in _FIELDS]
            self._known.execute("insert into message values (?, ?, ?, ?, ?, ?)", row)
        return placed

    def _thread(self, message: dict[str, Any]) -> tuple[str, bool]:
        """The thread of a message, and whether it began it."""
        own = self._one("select thread_id, is_first from message where message_id = ?", message["message_id"])
        if own:
            return str(own[0]), bool(own[1])
        named = [*message["references"], *([message["in_reply_to"]] if message["in_reply_to"] else [])]
        thread = self._thread_of(named) or (named[0] if named else None)
        if thread is None and message["is_reply"] and message["topic"] and message["sent_at"]:
            thread = self._thread_by_subject(message)
        thread = thread or message["message_id"]
        return thread, self._one("select 1 from message where thread_id = ? limit 1", thread) is None

    def _thread_of(self, named: Sequence[str]) -> str | None:
        for message_id in reversed(named):
            if found := self._one("select thread_id from message where message_id = ?", message_id):
                return str(found[0])
        return None

    def _thread_by_subject(self, message: dict[str, Any]) -> str | None:
        sent = message["sent_at"]
        earliest = dt.datetime.fromisoformat(sent) - dt.timedelta(days=DAYS_APART)
        found = self._one(
            "select thread_id from message where topic = ? and correspondent = ? and sent_at between ? and ? "
            "order by sent_at desc limit 1",
            message["topic"], message["correspondent"], earliest.isoformat(timespec="seconds"), sent,
        )  # fmt: skip
        return None if found is None else str(found[0])

    def _one(self, query: str, *values: Any) -> tuple[Any, ...] | None:
        row: tuple[Any, ...] | None = self._known.execute(query, values).fetchone()
        return row


def _landed(file: Path) -> list[tuple[Any, ...]]:
    """What a landed file says about its messages; DuckDB skips over the bodies."""
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in _FIELDS)
    reader = f"read_json({path_literal(file)}, format='newline_delimited', columns={{{columns}}}, ignore_errors=true"
    with duckdb.connect() as connection:
        return connection.execute(
            f"select * replace (is_first = 'true' as is_first) from {reader}, maximum_object_size={64 << 20}) "
            "where message_id is not null"
        ).fetchall()


def as_lines(messages: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Records for the landed file: lists as JSON texts, flags as words."""
    return [
        {
            key: json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value
            for key, value in each.items()
        }
        for each in messages
    ]
