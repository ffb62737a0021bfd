"""The lake: canonical tables as Delta tables. The only importer of deltalake.

A row is never overwritten. A corrected row is a new version of its key; the old one gets `superseded_at`. Hence
"now" is every row that is not superseded, and `as_of(t)` every row that was known and not yet superseded at t.

Two sets of rows go to a table in one commit: *inserts*, and *closures* that set `superseded_at` on the current version
of a key. The engine writes the data files: new ones for the inserts, and the files that hold a closed version once
more. Then one commit names them all. It either happened or did not; readers never wait.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import zoneinfo
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa
from deltalake import DeltaTable, Schema
from deltalake.exceptions import CommitFailedError, DeltaError, TableNotFoundError

from aftersales.lake.commits import (
    KEEP_VERSIONS,
    Changes,
    commit_files,
    data_files,
    new_files,
    only_after,
    with_closures,
    with_retry,
    writing,
)
from aftersales.lake.datafiles import DataFile, TableFolder, parquet_scan, write_rows
from aftersales.lake.engine import quoted, site_time
from aftersales.lake.vault import readable
from aftersales.model.errors import SchemaError, SettingsError, known_names
from aftersales.model.settings import Gates
from aftersales.model.tables import BOOKKEEPING, SQL_TYPES, Table, canonical_tables

if TYPE_CHECKING:
    import ibis
    import ibis.expr.types as ir
    from ibis.backends.duckdb import Backend

    from aftersales.lake.access import Access

    Unseal = Callable[[Backend, str, ibis.Table, tuple[str, ...]], ibis.Table]
    """Rows of a table with these of its free texts in plain words; the others stay as they are."""

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
        ("place", pa.int64()),
        ("rows_read", pa.int64()), ("accepted", pa.int64()), ("rejected", pa.int64()), ("duplicate", pa.int64()),
        ("left_out", pa.int64()), ("inserted", pa.int64()), ("corrected", pa.int64()), ("unchanged", pa.int64()),
        ("values_set_aside", pa.int64()), ("refused", pa.string()), ("newest_known_at", ARROW_TYPES["ts"]),
        ("loaded_at", ARROW_TYPES["ts"]), ("seconds", pa.float64()), ("ingest_run_id", pa.string()),
        ("replay_run_id", pa.string()),
    ]),
    # entries of the quarantine that a replay closed, and what became of their rows: `rows` of the ledger
    "release": pa.schema([
        ("release_id", pa.string()), ("quarantine_id", pa.string()), ("kind", pa.string()), ("outcome", pa.string()),
        ("rows", pa.int64()),
        ("source", pa.string()), ("table", pa.string()), ("source_file", pa.string()), ("source_row", pa.int64()),
        ("sha256", pa.string()), ("mapping_hash", pa.string()), ("loaded_at", ARROW_TYPES["ts"]),
        ("ingest_run_id", pa.string()),
    ]),
    # how good a delivery was: `good` of `base` per dimension and, where the dimension has them, column
    "quality": pa.schema([
        ("quality_id", pa.string()), ("source", pa.string()), ("table", pa.string()), ("column", pa.string()),
        ("dimension", pa.string()), ("map", pa.string()), ("costs_row", pa.bool_()), ("good", pa.int64()),
        ("base", pa.int64()), ("source_file", pa.string()), ("sha256", pa.string()), ("mapping_hash", pa.string()),
        ("loaded_at", ARROW_TYPES["ts"]), ("ingest_run_id", pa.string()),
    ]),
    # values a code list lacks, per delivery
    "unmapped": pa.schema([
        ("unmapped_id", pa.string()), ("source", pa.string()), ("table", pa.string()), ("column", pa.string()),
        ("map", pa.string()), ("otherwise", pa.string()), ("value", pa.string()), ("rows", pa.int64()),
        ("first_seen", ARROW_TYPES["ts"]), ("last_seen", ARROW_TYPES["ts"]), ("source_file", pa.string()),
        ("sha256", pa.string()), ("mapping_hash", pa.string()), ("loaded_at", ARROW_TYPES["ts"]),
        ("ingest_run_id", pa.string()),
    ]),
    # columns of a delivery that are not what the mapping or the delivery before said
    "drift": pa.schema([
        ("drift_id", pa.string()), ("source", pa.string()), ("source_file", pa.string()), ("sha256", pa.string()),
        ("mapping_hash", pa.string()), ("kind", pa.string()), ("column", pa.string()), ("found", pa.string()),
        ("table", pa.string()), ("consequence", pa.string()), ("proposal", pa.string()),
        ("loaded_at", ARROW_TYPES["ts"]), ("ingest_run_id", pa.string()),
    ]),
    # the columns of a source's files, whenever they changed
    "header": pa.schema([
        ("header_id", pa.string()), ("source", pa.string()), ("source_file", pa.string()),
        ("columns", pa.list_(pa.string())), ("place", pa.int64()),
        ("loaded_at", ARROW_TYPES["ts"]), ("ingest_run_id", pa.string()),
    ]),
    # how far each remote source has been fetched and loaded; the newest receipt of a source counts
    "watermark": pa.schema([
        ("watermark_id", pa.string()), ("source", pa.string()), ("stream", pa.string()), ("cursor", pa.string()),
        ("receipt", pa.string()), ("rows", pa.int64()), ("loaded_at", ARROW_TYPES["ts"]),
    ]),
}  # fmt: skip


def arrow_schema(table: Table, site_columns: list[str] | None = None) -> pa.Schema:
    """Columns of a canonical table in the lake: its own, the site's (`x_...`), the bookkeeping."""
    names = [*table.columns, *sorted(site_columns or []), *BOOKKEEPING]
    return pa.schema([(name, ARROW_TYPES[table.column(name).type]) for name in names])


@dataclass(frozen=True)
class Snapshot:
    """One pinned version of every table; all queries of a page or report go through one of these.

    `as_of` hides every row, and every time inside a row, later than that instant. `access` hides the rows and columns
    its viewer may not see; without it the reader is the owner.
    """

    connection: Backend
    tables: Mapping[str, tuple[int, tuple[str, ...], pa.Schema]]
    as_of: dt.datetime | None = None
    time_zone: str = "UTC"
    """The site's clock: by it days, months and quarters begin."""
    access: Access | None = None
    gates: Gates = field(default_factory=Gates)
    """How good the sources of a figure have to be."""
    _views: dict[str, ibis.Table] = field(default_factory=dict, compare=False, repr=False)
    """Tables already made on the connection: asking the engine for one costs it two look-ups."""

    def day_of(self, moment: dt.datetime) -> dt.date:
        """The day of an instant on the site's clock; one without a zone is taken as UTC."""
        known = moment if moment.tzinfo else moment.replace(tzinfo=dt.UTC)
        return known.astimezone(zoneinfo.ZoneInfo(self.time_zone)).date()

    def midnight(self, day: dt.date) -> dt.datetime:
        """The instant at which `day` begins on the site's clock, in UTC."""
        return dt.datetime.combine(day, dt.time(), zoneinfo.ZoneInfo(self.time_zone)).astimezone(dt.UTC)

    def site_time(self, instants: ir.TimestampValue) -> ir.TimestampValue:
        """A column of instants on the site's clock, for `.date()` and `.truncate()`."""
        return site_time(instants, self.time_zone)

    @property
    def versions(self) -> dict[str, int]:
        """Table -> version, for `run.json`."""
        return {name: version for name, (version, _, _) in sorted(self.tables.items())}

    @property
    def smallest(self) -> int:
        """Groups of fewer cases than this may not be told; 0: all may."""
        return self.access.smallest if self.access else 0

    def has_rows(self, name: str) -> bool:
        """Whether the table exists, has files, and may be read at all."""
        return self._has_files(name) and self.may_read(name)

    def may_read(self, name: str) -> bool:
        """Whether the viewer may see any row of the table."""
        return self.access is None or self.access.may_read(name)

    def check_rows(self, name: str) -> None:
        """Refuse to show or send single rows of a table to a viewer who sees figures only.

        Raises
        ------
        AccessError
            The viewer sees aggregates only, or not this table.
        """
        if self.access is not None:
            self.access.check_rows(name)

    def check_columns(self, name: str, columns: Sequence[str], *, joins: Sequence[str] = ()) -> None:
        """Refuse figures that would be counted, grouped or filtered by what the viewer sees masked.

        Raises
        ------
        AccessError
            The table is refused, or one of the columns is masked.
        """
        if self.access is not None:
            self.access.check_columns(name, columns, joins=joins)

    def table(self, name: str) -> ibis.Table:
        """The current (or `as_of`) rows of a canonical or system table, as the viewer may see them.

        An absent or empty table comes back with its columns and no rows.

        Raises
        ------
        SchemaError
            No table of that name.
        AccessError
            The viewer may not see it.
        """
        return self._as_seen(name, self._known)

    def versions_of(self, name: str) -> ibis.Table:
        """Every version of every row the viewer may see, superseded ones too.

        A row rule is read on each version by itself: a ticket another team has taken over leaves its old versions.
        """
        return self._as_seen(name, self._stored)

    def _as_seen(self, name: str, read: Callable[[str], ibis.Table]) -> ibis.Table:
        """The rows `read` gives: those the viewer may see, with its masks; a masked text is never unsealed."""
        rows, access = read(name), self.access
        if access is None:
            return rows

        def seen_of(parent: str) -> ibis.Table:
            return access.rows_as_parent(parent, read(parent), seen_of)

        return access.masked(name, access.seen_rows(name, rows, seen_of), self.connection)

    def _known(self, name: str) -> ibis.Table:
        """The current (or `as_of`) rows as they are stored."""
        table = self._stored(name)
        if name in SYSTEM_TABLES:
            return table if self.as_of is None else table.filter(table.loaded_at <= self.as_of)
        if self.as_of is None:
            return table.filter(table.superseded_at.isnull())
        seen = (table.known_at <= self.as_of) & (table.superseded_at.isnull() | (table.superseded_at > self.as_of))
        return _times_until(table.filter(seen), canonical_tables()[name], self.as_of, self.day_of(self.as_of))

    def _has_files(self, name: str) -> bool:
        return name in self.tables and bool(self.tables[name][1])

    def _stored(self, name: str) -> ibis.Table:
        """Every version of every row as it is stored: nothing outside this class may read it."""
        if name not in SYSTEM_TABLES and name not in canonical_tables():
            raise SchemaError(name, "no such table", rows=known_names(canonical_tables()), fix="use one of them")
        if not self._has_files(name):
            import ibis

            schema = self.tables[name][2] if name in self.tables else _schema_of(name)
            return ibis.memtable(schema.empty_table())
        version, uris, schema = self.tables[name]
        files = hashlib.md5("".join(uris).encode()).hexdigest()[:8]  # two lakes may share a connection
        view = f"lake_{name}_v{version}_{files}"
        if view not in self._views:
            if view not in self.connection.list_tables():
                plain = f"create or replace temp view {view} as select * from {parquet_scan(uris)}"
                self.connection.raw_sql(plain)
                there = self.connection.table(view).columns
                absent = _absent_columns([schema, _schema_of(name)], there)
                self._make_view(plain.replace("select *", f"select *{absent}", 1), name, there)
            self._views[view] = self.connection.table(view)
        return self._views[view]

    def _make_view(self, statement: str, name: str, there: Sequence[str]) -> None:
        """Sealed texts come out plain; a query that does not name their column does not open them."""
        texts = [column for column in _text_columns(name) if column in there]
        replaced = ", ".join(f"{readable(quoted(column))} as {quoted(column)}" for column in texts)
        try:
            self.connection.raw_sql(
                statement.replace("select *", f"select * replace ({replaced})", 1) if texts else statement
            )
        except duckdb.CatalogException:  # a connection that was not made for a workspace has no vault
            self.connection.raw_sql(statement)


def _schema_of(name: str) -> pa.Schema:
    return SYSTEM_TABLES[name] if name in SYSTEM_TABLES else arrow_schema(canonical_tables()[name])


def _text_columns(name: str) -> list[str]:
    """Columns whose values may be sealed."""
    if name in SYSTEM_TABLES:
        return ["raw"] if name == "quarantine" else []
    return [column for column, spec in canonical_tables()[name].columns.items() if spec.type in ("text", "str")]


def _absent_columns(schemas: Iterable[pa.Schema], there: Sequence[str]) -> str:
    """Columns a table has been given since its files were written, as nulls."""
    absent = {field.name: field.type for schema in schemas for field in schema if field.name not in there}
    types = {kind: SQL_TYPES[word] for word, kind in ARROW_TYPES.items()} | {pa.list_(pa.string()): "VARCHAR[]"}
    return "".join(f", null::{types.get(kind, 'VARCHAR')} as {quoted(name)}" for name, kind in absent.items())


def _times_until(table: ibis.Table, spec: Table, as_of: dt.datetime, today: dt.date) -> ibis.Table:
    """`table` with every event time after `as_of` blanked: it had not happened yet."""
    import ibis

    hidden = {}
    for name, column in spec.columns.items():
        if column.clock == "E" and name in table.columns:
            limit = today if column.type == "day" else as_of
            hidden[name] = ibis.ifelse(table[name] <= limit, table[name], ibis.null(table[name].type()))
    return table.mutate(**hidden)


class Store:
    """The Delta tables below one folder."""

    def __init__(self, root: Path) -> None:
        if strange := sorted(set("[]|%\\?*") & set(str(root))):
            raise SettingsError(
                str(root),
                f"the path has {' '.join(strange)}, which the lake cannot hold",
                fix="move the workspace, or set folders.lake in workbench.yml",
            )
        self.root = root

    def path(self, name: str) -> Path:
        return self.root / name

    def exists(self, name: str) -> bool:
        return (self.path(name) / "_delta_log").is_dir() and DeltaTable.is_deltatable(str(self.path(name)))

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
            raise SchemaError(
                f"lake/{name}",
                f"no such {known}",
                rows=str(error).splitlines()[0],
                fix="aftersales status lists tables and versions",
            ) from error
        features = set(table.protocol().reader_features or []) & {"deletionVectors", "columnMapping"}
        if features:
            raise SchemaError(
                f"lake/{name}",
                f"uses {', '.join(sorted(features))}, which plain readers misread",
                fix="rewrite the table without that feature",
            )
        return table

    def version(self, name: str) -> int:
        return self.open(name).version()

    def pin(
        self,
        connection: Backend,
        *,
        as_of: dt.datetime | None = None,
        versions: Mapping[str, int] | None = None,
        time_zone: str = "UTC",
        access: Access | None = None,
        gates: Gates | None = None,
    ) -> Snapshot:
        """All tables at their newest (or the given) versions, readable through `connection`.

        `access` is what the viewer may see (`lake.access.access_of`); without it the snapshot is the owner's. Sealed
        texts come out plain where `connection` was made for the workspace (`lake.engine.connect`).
        """
        pinned = {}
        for name in self.names():
            delta = self.open(name, (versions or {}).get(name))
            pinned[name] = (delta.version(), data_files(delta), pa.schema(delta.schema().to_arrow()))
        return Snapshot(connection, pinned, as_of, time_zone, access, gates or Gates())

    def rows(self, name: str, where: str, *, columns: str = "*", table: DeltaTable | None = None) -> pa.Table:
        """Rows of a small table that meet an SQL condition of our own making, without a snapshot."""
        delta = table or self.open(name)
        paths = data_files(delta)
        if not paths:
            names = delta.schema().to_arrow().names if columns == "*" else [columns]
            return pa.table({column: pa.array([], pa.string()) for column in names})
        with duckdb.connect() as connection:
            connection.execute("set TimeZone='UTC'")
            return connection.execute(f"select {columns} from {parquet_scan(paths)} where {where}").to_arrow_table()

    def merge(
        self,
        name: str,
        changes: Callable[[DeltaTable], Changes | None],
        *,
        schema: pa.Schema,
        key: str,
        partition: str | None,
        message: Mapping[str, str],
    ) -> bool:
        """Commit inserts and closures in one step; True when a new version was written.

        Parameters
        ----------
        changes
            Called with the current table, again after each lost race; None when there is nothing to do.
        schema
            Columns of a table that is not there yet; it is made first, without rows.
        key
            Key column; a key has one current version.
        partition
            Partition column that bounds the merge, if the table has one.
        message
            Facts kept with the commit.

        Raises
        ------
        SourceError
            The disk is full or not writable, or other writers won every time; the last version stays readable.
        """
        with self.exclusive(name):
            return bool(with_retry(lambda: self._merge_once(name, changes, schema, key, partition, message)))

    def _merge_once(
        self,
        name: str,
        changes: Callable[[DeltaTable], Changes | None],
        schema: pa.Schema,
        key: str,
        partition: str | None,
        message: Mapping[str, str],
    ) -> bool:
        # an empty table first: two creators with rows would both succeed
        current = self.open(name) if self.exists(name) else self._create(name, schema, partition)
        wanted = changes(current)
        if wanted is None:
            return False
        current = self._extended(name, current, schema)
        with new_files(self.path(name), lambda: self.open(name)) as mark:
            table = TableFolder(self.path(name).resolve(), pa.schema(current.schema().to_arrow()), key, partition)
            added = write_rows(wanted.connection, wanted.inserts, table, mark) if wanted.inserts else []
            removed: list[DataFile] = []
            if wanted.closures is not None:
                removed, closed = with_closures(wanted, current, table, mark)
                added += closed
            commit_files(current, added, removed, message, partition)
        return True

    def folder(self, name: str, current: DeltaTable) -> TableFolder:
        """Where the files of a table lie, and how it is laid out."""
        key = canonical_tables()[name].key if name in canonical_tables() else f"{name}_id"
        partitions = current.metadata().partition_columns
        schema = pa.schema(current.schema().to_arrow())
        return TableFolder(self.path(name).resolve(), schema, key, partitions[0] if partitions else None)

    def exclusive(self, name: str) -> contextlib.AbstractContextManager[None]:
        """To be the one writer of a table on this machine."""
        return writing(name, self.root / f".{name}.lock")

    def _extended(self, name: str, current: DeltaTable, schema: pa.Schema) -> DeltaTable:
        """The table with every column of `schema`; a column it lacks is added, empty in the rows it has."""
        there = set(pa.schema(current.schema().to_arrow()).names)
        absent = [column for column in Schema.from_arrow(schema).fields if column.name not in there]
        if not absent:
            return current
        before = current.version()
        current.alter.add_columns(absent, commit_properties=only_after(current, {}))
        extended = self.open(name)
        if extended.version() != before + 1:
            raise CommitFailedError("another writer committed while a column was added")
        return extended

    def _create(self, name: str, schema: pa.Schema, partition: str | None) -> DeltaTable:
        self.path(name).mkdir(parents=True, exist_ok=True)
        DeltaTable.create(
            str(self.path(name)),
            schema,
            mode="ignore",
            partition_by=[partition] if partition else None,
            configuration=KEEP_VERSIONS,
        )
        return self.open(name)
