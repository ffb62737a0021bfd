"""Data files of the lake: Parquet written by the engine, with the counts and limits that the commit tells readers.

A file is not part of a table before a commit names it. Every write has a `mark` in the names of its files, so that
what a failed write left behind can be told from everything else.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from aftersales.lake.engine import literal, path_literal, quoted

ROWS_PER_FILE = 500_000
"""Few enough that a correction, which rewrites the files it touches, stays cheap; enough that scans stay fast."""

LONGEST_LIMIT = 64
"""A longer key is no useful limit, and limits of text columns would carry content into the log."""

ROW_GROUP = 100_000
FEW_ROWS = 20_000
_PARQUET = f"format parquet, compression zstd, compression_level 1, row_group_size {ROW_GROUP}, return_stats"


@dataclass(frozen=True)
class TableFolder:
    """Where the files of a table go, and what of them the log tells."""

    path: Path
    schema: pa.Schema
    key: str
    partition: str | None


@dataclass(frozen=True)
class DataFile:
    """One Parquet file below the folder of its table."""

    path: str
    """Relative to the table's folder, with `/`."""
    size: int
    rows: int
    partition: Mapping[str, str | None] = field(default_factory=dict)
    stats: str = "{}"
    """Row count, null counts and limits as Delta's log keeps them."""
    written_ms: int = 0


def parquet_scan(paths: Sequence[str], more: str = "") -> str:
    """SQL that reads data files; columns added later are null in older files. `more` are options of the reader."""
    files = ", ".join(path_literal(path) for path in paths)
    options = "union_by_name=true, hive_partitioning=true, hive_types_autocast=false"
    return f"read_parquet([{files}], {options}{more})"


def write_rows(connection: duckdb.DuckDBPyConnection, query: str, table: TableFolder, mark: str) -> list[DataFile]:
    """Write the rows of `query`: files of one partition value each, of about ROWS_PER_FILE; none without rows.

    Raises
    ------
    duckdb.IOException
        The disk is full or not writable.
    """
    if table.partition is None:
        return write_files(connection, query, table, {}, mark)
    name = quoted(table.partition)
    counts = connection.execute(f"select {name}, count(*) from ({query}) group by all order by all").fetchall()
    if sum(count for _, count in counts) < len(counts) * FEW_ROWS:
        return _write_split(connection, query, table, mark)
    return [
        file
        for value, _ in counts
        for file in write_files(
            connection,
            f"select * exclude ({name}) from ({query}) where {name} = {literal(value)}",
            table,
            {table.partition: value},
            mark,
        )
    ]


def _write_split(connection: duckdb.DuckDBPyConnection, query: str, table: TableFolder, mark: str) -> list[DataFile]:
    """All partition values in one pass: less work for few rows, twice the work for many."""
    assert table.partition
    table.path.mkdir(parents=True, exist_ok=True)
    split = f"partition_by ({quoted(table.partition)}), append, filename_pattern {_pattern(mark)}"
    written = connection.execute(f"copy ({query}) to {literal(str(table.path))} ({_PARQUET}, {split})").fetchall()
    return [_described(table, row, row[5]) for row in written]


def write_files(
    connection: duckdb.DuckDBPyConnection,
    query: str,
    table: TableFolder,
    partition: Mapping[str, str | None],
    mark: str,
) -> list[DataFile]:
    """Write the rows of `query`, which lack the partition column, to files of one partition; none without rows."""
    folder = table.path.joinpath(*(f"{name}={value}" for name, value in partition.items()))
    folder.mkdir(parents=True, exist_ok=True)
    groups = f"row_groups_per_file {ROWS_PER_FILE // ROW_GROUP}, append, filename_pattern {_pattern(mark)}"
    written = connection.execute(f"copy ({query}) to {literal(str(folder))} ({_PARQUET}, {groups})").fetchall()
    for path, rows, *_ in written:
        if not rows:
            Path(path).unlink()
    return [_described(table, row, partition) for row in written if row[1]]


def _pattern(mark: str) -> str:
    return literal(f"{mark}-{{uuid}}")


def _described(table: TableFolder, written: Sequence[Any], partition: Mapping[str, str | None]) -> DataFile:
    path, rows, size, _, columns, *_ = written
    relative = Path(path).relative_to(table.path).as_posix()
    return DataFile(relative, size, rows, dict(partition), _stats(table, rows, columns), int(time.time() * 1000))


def _stats(table: TableFolder, rows: int, columns: Mapping[str, Mapping[str, str]]) -> str:
    low: dict[str, Any] = {}
    high: dict[str, Any] = {}
    nulls: dict[str, int] = {}
    for column in table.schema:
        seen = columns.get(quoted(column.name))
        if seen is None:  # the partition column, or nested
            continue
        nulls[column.name] = int(seen["null_count"])
        limits = [_limit(seen.get(end), column.type, is_key=column.name == table.key) for end in ("min", "max")]
        if None not in limits and seen.get("has_nan") != "true":
            low[column.name], high[column.name] = limits
    return json.dumps({"numRecords": rows, "minValues": low, "maxValues": high, "nullCount": nulls}, ensure_ascii=False)


def _limit(text: str | None, kind: pa.DataType, *, is_key: bool) -> str | int | float | None:
    """The smallest or largest value as the log writes it; null where readers are told none."""
    if text is None:
        return None
    if pa.types.is_integer(kind):
        return int(text)
    if pa.types.is_floating(kind):
        return float(text)
    if pa.types.is_timestamp(kind):
        return text.replace(" ", "T").replace("+00", "Z")
    if pa.types.is_date(kind):
        return text
    return text if is_key and pa.types.is_string(kind) and len(text) <= LONGEST_LIMIT else None
