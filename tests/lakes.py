"""Tiny lakes for tests: rows as dicts, written as Delta tables in the layout of an ingest, read through a snapshot."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pyarrow as pa
from deltalake import write_deltalake

from aftersales.lake.engine import connect
from aftersales.lake.store import ARROW_TYPES, Snapshot, Store, arrow_schema
from aftersales.model.settings import WorkbenchFile, Workspace
from aftersales.model.tables import SITE_PREFIX, canonical_table

LONG_AGO = dt.datetime(2000, 1, 1, tzinfo=dt.UTC)


def day(text: str) -> dt.date:
    return dt.date.fromisoformat(text)


def at(text: str) -> dt.datetime:
    """`2024-01-31` or `2024-01-31 08:30`, UTC."""
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def _value(value: Any, kind: str) -> Any:
    if isinstance(value, str) and kind == "day":
        return day(value)
    if isinstance(value, str) and kind == "ts":
        return at(value)
    return value


def _written(root: Path, name: str, rows: list[dict[str, Any]]) -> None:
    table = canonical_table(name)
    site = sorted({column for row in rows for column in row if column.startswith(SITE_PREFIX)})
    schema = arrow_schema(table, site)
    unknown = {column for row in rows for column in row} - set(schema.names)
    assert not unknown, f"{name} has no {unknown}"
    full = []
    for i, row in enumerate(rows):
        values = {column: _value(row.get(column), table.column(column).type) for column in schema.names}
        if values[table.key] is None:
            values[table.key] = f"{name}-{i:05d}"
        clock = values.get(table.clock)
        values |= {"source_system": row.get("source_system", "test"), "source_row": i, "loaded_at": LONG_AGO, "row_hash": i,
                   "known_at": values["known_at"] or LONG_AGO, "yr": str(clock.year) if clock else "none"}  # fmt: skip
        full.append(values)
    frame = pa.Table.from_pylist(full, schema=schema)
    assert frame.schema.field("yr").type == ARROW_TYPES["cat"]
    write_deltalake(str(root / name), frame, partition_by=["yr"])


def lake(tmp_path: Path, *, as_of: dt.datetime | None = None, **tables: list[dict[str, Any]]) -> Snapshot:
    """A snapshot of a fresh lake below `tmp_path` with these rows; what a row does not say is missing."""
    root = tmp_path / f"lake{len(list(tmp_path.glob('lake*')))}"
    for name, rows in tables.items():
        if rows:
            _written(root, name, rows)
    workspace = Workspace(tmp_path, WorkbenchFile())
    return Store(root).pin(connect(workspace), as_of=as_of)
