"""Quality after a replay: what was measured on the delivery, moved by the rows that came through."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import duckdb
import pyarrow as pa

from aftersales.collect.checks import expected_columns
from aftersales.collect.delivery import Load
from aftersales.collect.ledger import Entry, Offered
from aftersales.collect.quality import coded_columns, coverage_of, unmapped_values
from aftersales.lake.engine import literal, quoted


def measured_again(
    load: Load,
    connection: duckdb.DuckDBPyConnection,
    name: str,
    offered: Offered,
    releases: Sequence[Mapping[str, Any]],
) -> list[dict[str, Any]]:
    """The newest facts of the delivery in one table, with what the released rows add to `good` and `base`."""
    released: dict[int, Counter[str]] = {}
    for row in releases:
        released.setdefault(row["source_row"], Counter())[row["outcome"]] += row["rows"]
    kinds = {row: offered[row][0].kind for row in released}
    came = {row: n for row, n in released.items() if kinds[row] != "value"}
    freed = [row for row, n in came.items() if n.total() > n["rejected"]]
    freed_n = sum(n.total() - n["rejected"] for n in came.values())
    copies = sum(n["duplicate"] for n in came.values())
    new = [row for row in released if kinds[row] == "left_out"]
    new_n = sum(released[row].total() for row in new)
    mended = [row for row in released if kinds[row] == "value"]
    added: dict[tuple[str, str], tuple[int, int]] = {
        ("validity", ""): (freed_n, new_n),
        ("uniqueness", ""): (freed_n - copies, freed_n),
    }
    for column in expected_columns(load.checks[name], load.source, name):
        filled = f"{quoted(column)} is not null and _reasons is null"
        was_aside = [row for row in mended if _has_reason(offered[row], f"{column}:")]
        added["completeness", column] = (
            _count(connection, filled, freed) + _count(connection, filled, was_aside),
            freed_n,
        )
    for column in coded_columns(load.source.tables[name]):
        measure = coverage_of(load.source.tables[name], column)
        known = quoted(f"_coded_{column}")
        lacked = [row for row, entries in offered.items() if _has_reason(entries, f"{column}:unknown_value")]
        good = _count(connection, known, lacked) + _count(connection, known, new)
        added[measure, column] = good, _count(connection, f"{known} is not null", new)
    nothing = (0, 0)
    return [
        {
            **{key: row[key] for key in ("source", "table", "dimension", "column", "map", "costs_row")},
            "good": row["good"] + added.get((row["dimension"], row["column"]), nothing)[0],
            "base": row["base"] + added.get((row["dimension"], row["column"]), nothing)[1],
        }
        for row in _newest(load, "quality", name)
    ]


def _has_reason(entries: Sequence[Entry], start: str) -> bool:
    return any(reason.startswith(start) for entry in entries for reason in entry.reasons)


def _count(connection: duckdb.DuckDBPyConnection, condition: str, rows: Sequence[int]) -> int:
    """How many of the staged rows meet a condition."""
    connection.register("asked_rows", pa.table({"_row": pa.array(rows, pa.int64())}))
    found = connection.execute(
        f"select count(*) from staged where ({condition}) and _row in (select _row from asked_rows)"
    ).fetchone()
    return int(found[0]) if found else 0


def values_lacking(load: Load, connection: duckdb.DuckDBPyConnection, name: str) -> list[dict[str, Any]]:
    """Values the code lists still lack: those of the rows held back, and those that were kept as they are."""
    kept = [
        {key: value for key, value in row.items() if key in _VALUE_KEYS}
        for row in _newest(load, "unmapped", name)
        if row["otherwise"] == "keep"
    ]
    again = unmapped_values(connection, load.source, name)
    return kept + [row for row in again if row["otherwise"] != "keep"]


_VALUE_KEYS = ("source", "table", "column", "map", "otherwise", "value", "rows", "first_seen", "last_seen")


def _newest(load: Load, table: str, name: str) -> list[dict[str, Any]]:
    """What the newest measurement of this file left in one table; every measurement has a row in `quality`."""
    where = (
        f'source = {literal(load.source.name)} and "table" = {literal(name)} and sha256 = {literal(load.file.sha256)}'
    )
    measured = load.store.rows("quality", where).to_pylist() if load.store.exists("quality") else []
    _, run = max(((row["loaded_at"], row["ingest_run_id"]) for row in measured), default=(None, ""))
    rows = (
        measured
        if table == "quality"
        else load.store.rows(table, where).to_pylist()
        if load.store.exists(table)
        else []
    )
    return [row for row in rows if row["ingest_run_id"] == run]
