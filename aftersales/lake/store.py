"""The lake: canonical tables as Delta tables. The only importer of deltalake.

A row is never overwritten. A corrected row is a new version of its key; the old one gets `superseded_at`. Hence
"now" is every row that is not superseded, and `as_of(t)` every row that was known and not yet superseded at t.

Two sets of rows go to a table in one commit, both named by (key, row_hash): *inserts*, and *closures* that set
`superseded_at` on a version that is there. A commit either happened or did not; readers never wait.
"""

from __future__ import annotations

import datetime as dt
import os
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError
from ibis.backends.duckdb import Backend

from aftersales.lake.engine import literal
from aftersales.model.errors import SchemaError, SourceError, known_names
from aftersales.model.tables import BOOKKEEPING, Table, canonical_tables

ARROW_TYPES: Mapping[str, pa.DataType] = {
    "id": pa.string(), "cat": pa.string(), "str": pa.string(), "text": pa.string(),
    "int": pa.int64(), "num": pa.float64(), "bool": pa.bool_(), "day": pa.date32(),
    "ts": pa.timestamp("us", tz="UTC"),  # naive times would raise the Delta protocol version
}  # fmt: skip

SYSTEM_TABLES: Mapping[str, pa.Schema] = {
    # rows and values that were set aside on the way in, with every reason
    "quarantine": pa.schema([
        ("quarantine_id", pa.string()), ("kind", pa.string()), ("source", pa.string()), ("table", pa.string()),
        ("source_file", pa.string()), ("source_row", pa.int64()), ("reasons", pa.list_(pa.string())),
        ("raw", pa.string()), ("loaded_at", ARROW_TYPES["ts"]), ("ingest_run_id", pa.string()),
    ]),
    # one row per delivered file and table fed: the ledger
    "delivery": pa.schema([
        ("delivery_id", pa.string()), ("source", pa.string()), ("table", pa.string()), ("source_file", pa.string()),
        ("sha256", pa.string()), ("mapping_hash", pa.string()), ("bytes", pa.int64()), ("encoding", pa.string()),
        ("rows_read", pa.int64()), ("accepted", pa.int64()), ("rejected", pa.int64()), ("duplicate", pa.int64()),
        ("left_out", pa.int64()), ("inserted", pa.int64()), ("corrected", pa.int64()), ("unchanged", pa.int64()),
        ("values_set_aside", pa.int64()), ("newest_event_at", ARROW_TYPES["ts"]),
        ("loaded_at", ARROW_TYPES["ts"]), ("seconds", pa.float64()), ("ingest_run_id", pa.string()),
    ]),
}  # fmt: skip

ATTEMPTS = 6


def arrow_schema(table: Table, site_columns: list[str] | None = None) -> pa.Schema:
    """Columns of a canonical table in the lake: its own, the site's (`x_...`), the bookkeeping."""
    names = [*table.columns, *sorted(site_columns or []), *BOOKKEEPING]
    return pa.schema([(name, ARROW_TYPES[table.column(name).type]) for name in names])


def with_retry(action: Callable[[], Any]) -> Any:
    """Run `action` again when another writer committed first; it must read the table anew each time."""
    for attempt in range(ATTEMPTS):
        try:
            return action()
        except CommitFailedError:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0.05, 0.2) * 2**attempt)


@dataclass(frozen=True)
class Snapshot:
    """One pinned version of every table; all queries of a page or report go through one of these.

    `as_of` hides every row, and every time inside a row, later than that instant.
    """

    connection: Backend
    tables: Mapping[str, tuple[int, tuple[str, ...], pa.Schema]]
    as_of: dt.datetime | None = None

    @property
    def versions(self) -> dict[str, int]:
        """Table -> version, for `run.json`."""
        return {name: version for name, (version, _, _) in sorted(self.tables.items())}

    def has_rows(self, name: str) -> bool:
        """Whether the table exists and has files."""
        return name in self.tables and bool(self.tables[name][1])

    def table(self, name: str) -> ibis.Table:
        """The current (or `as_of`) rows of a canonical or system table.

        An absent or empty table comes back with its columns and no rows.

        Raises
        ------
        SchemaError
            No table of that name.
        """
        table = self.versions_of(name)
        if name in SYSTEM_TABLES:
            return table if self.as_of is None else table.filter(table.loaded_at <= self.as_of)
        if self.as_of is None:
            return table.filter(table.superseded_at.isnull())
        seen = (table.known_at <= self.as_of) & (table.superseded_at.isnull() | (table.superseded_at > self.as_of))
        return _times_until(table.filter(seen), canonical_tables()[name], self.as_of)

    def versions_of(self, name: str) -> ibis.Table:
        """Every version of every row, superseded ones too."""
        if name not in SYSTEM_TABLES and name not in canonical_tables():
            raise SchemaError(name, "no such table", rows=known_names(canonical_tables()), fix="use one of them")
        if not self.has_rows(name):
            schema = self.tables[name][2] if name in self.tables else _schema_of(name)
            return ibis.memtable(schema.empty_table())
        version, uris, _ = self.tables[name]
        view = f"lake_{name}_v{version}"
        if view not in self.connection.list_tables():
            self.connection.raw_sql(f"create or replace temp view {view} as select * from {_scan(uris)}")
        return self.connection.table(view)


def _schema_of(name: str) -> pa.Schema:
    return SYSTEM_TABLES[name] if name in SYSTEM_TABLES else arrow_schema(canonical_tables()[name])


def _scan(uris: tuple[str, ...]) -> str:
    """SQL that reads Delta's data files; columns added later are null in older files."""
    files = ", ".join(literal(uri) for uri in uris)
    return f"read_parquet([{files}], union_by_name=true, hive_partitioning=true, hive_types_autocast=false)"


def _times_until(table: ibis.Table, spec: Table, as_of: dt.datetime) -> ibis.Table:
    """`table` with every event time after `as_of` blanked: it had not happened yet."""
    hidden = {}
    for name, column in spec.columns.items():
        if column.clock == "E" and name in table.columns:
            limit = as_of.date() if column.type == "day" else as_of
            hidden[name] = ibis.ifelse(table[name] <= limit, table[name], ibis.null(table[name].type()))
    return table.mutate(**hidden)


class Store:
    """The Delta tables below one folder."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, name: str) -> Path:
        return self.root / name

    def exists(self, name: str) -> bool:
        return DeltaTable.is_deltatable(str(self.path(name)))

    def names(self) -> list[str]:
        """Tables that exist, sorted."""
        if not self.root.is_dir():
            return []
        return sorted(folder.name for folder in self.root.iterdir() if self.exists(folder.name))

    def open(self, name: str, version: int | None = None) -> DeltaTable:
        """The Delta table, at `version` when given.

        Raises
        ------
        SchemaError
            It does not exist, that version is gone, or its files need a reader we do not have.
        """
        try:
            table = DeltaTable(str(self.path(name)), version=version)
        except (TableNotFoundError, DeltaError) as error:
            known = f"version {version}" if version is not None else "table"
            raise SchemaError(f"lake/{name}", f"no such {known}", rows=str(error).splitlines()[0],
                              fix="aftersales status lists tables and versions") from error
        features = set(table.protocol().reader_features or []) & {"deletionVectors", "columnMapping"}
        if features:
            raise SchemaError(f"lake/{name}", f"uses {', '.join(sorted(features))}, which plain readers misread",
                              fix="rewrite the table without that feature")
        return table

    def version(self, name: str) -> int:
        return self.open(name).version()

    def pin(self, connection: Backend, *, as_of: dt.datetime | None = None,
            versions: Mapping[str, int] | None = None) -> Snapshot:
        """All tables at their newest (or the given) versions, readable through `connection`."""
        pinned = {}
        for name in self.names():
            delta = self.open(name, (versions or {}).get(name))
            pinned[name] = (delta.version(), tuple(sorted(delta.file_uris())), pa.schema(delta.schema().to_arrow()))
        return Snapshot(connection, pinned, as_of)

    def merge(self, name: str, rows: Callable[[DeltaTable | None], pa.RecordBatchReader | None], *,
              key: str, partition: str | None, message: Mapping[str, str]) -> bool:
        """Commit inserts and closures in one step; True when a new version was written.

        Parameters
        ----------
        rows
            Called with the current table (None: not there yet), again after each lost race. It returns the inserts
            (`_closes` false) and closures (`_closes` true) to commit, or None when there is nothing to do.
        key
            Key column; (key, `row_hash`) names a version.
        partition
            Partition column that bounds the merge, if the table has one.
        message
            Facts kept with the commit.

        Raises
        ------
        SourceError
            The disk is full or not writable; the last version stays readable.
        """
        try:
            return bool(with_retry(lambda: self._merge_once(name, rows, key, partition, message)))
        except OSError as error:
            raise _not_written(name, error) from error
        except DeltaError as error:
            if isinstance(error, CommitFailedError) or not _is_disk_problem(error):
                raise
            raise _not_written(name, error) from error

    def _merge_once(self, name: str, rows: Callable[[DeltaTable | None], pa.RecordBatchReader | None],
                    key: str, partition: str | None, message: Mapping[str, str]) -> bool:
        current = self.open(name) if self.exists(name) else None
        reader = rows(current)
        if reader is None:
            return False
        commit = CommitProperties(custom_metadata=dict(message))
        if current is None:
            self._create(name, reader, partition, commit)
        else:
            _merge_into(current, reader, key, partition, commit)
        return True

    def _create(self, name: str, reader: pa.RecordBatchReader, partition: str | None, commit: CommitProperties) -> None:
        keep = [i for i, column in enumerate(reader.schema.names) if column != "_closes"]
        schema = pa.schema([reader.schema.field(i) for i in keep])
        stream = pa.RecordBatchReader.from_batches(schema, (batch.select(keep) for batch in reader))
        self.root.mkdir(parents=True, exist_ok=True)
        write_deltalake(str(self.path(name)), stream, mode="error", partition_by=[partition] if partition else None,
                        commit_properties=commit)


def _merge_into(current: DeltaTable, reader: pa.RecordBatchReader, key: str, partition: str | None,
                commit: CommitProperties) -> None:
    batch = reader.read_all()
    columns = [name for name in batch.schema.names if name != "_closes"]
    predicate = f't."{key}" = s."{key}"'
    if "row_hash" in columns:
        predicate += " and t.row_hash = s.row_hash"
    if partition:
        values = ", ".join(literal(value) for value in sorted(set(batch[partition].to_pylist())))
        predicate += f" and t.{partition} = s.{partition} and t.{partition} in ({values})"
    merge = current.merge(batch, predicate, source_alias="s", target_alias="t", merge_schema=True,
                          commit_properties=commit)
    if "superseded_at" in columns:
        merge = merge.when_matched_update({"superseded_at": "s.superseded_at"},
                                          predicate="s._closes and t.superseded_at is null")
    merge.when_not_matched_insert({f'"{name}"': f's."{name}"' for name in columns},
                                  predicate="not s._closes").execute()


def _is_disk_problem(error: Exception) -> bool:
    text = str(error).lower()
    return any(word in text for word in ("no space left", "os error 28", "os error 27", "file too large",
                                         "permission denied", "read-only file system", "os error 122"))


def _not_written(name: str, error: Exception) -> SourceError:
    return SourceError(f"lake/{name}", f"could not be written: {str(error).splitlines()[0]}",
                       rows="none lost: the last version stays readable",
                       fix=f"free disk space or mend the rights (process {os.getpid()}), then run the command again")
