"""One delivered file -> canonical tables, quarantine and ledger; the same file again changes nothing.

For every file and table fed: `rows_read = accepted + rejected + duplicate`, and
`accepted = inserted + corrected + unchanged`. The ledger row (`delivery`) is written last: a killed load has none, so
the next run does the file again, and rows that had arrived are found unchanged.
"""

from __future__ import annotations

import datetime as dt
import difflib
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from deltalake import DeltaTable

from aftersales.collect.connectors.files import ReceivedFile, load_raw, matching_files, receive
from aftersales.collect.mapping import Source, TableMapping, read_code_list
from aftersales.collect.typed import MACROS, offered_count_query, typed_query
from aftersales.lake.engine import literal, quoted, staging
from aftersales.lake.store import ARROW_TYPES, SYSTEM_TABLES, Store
from aftersales.model.errors import SourceError
from aftersales.model.settings import Workspace
from aftersales.model.tables import BOOKKEEPING, SITE_PREFIX, Table, canonical_table

MERGE_BATCH = 100_000


@dataclass(frozen=True)
class Delivery:
    """The ledger of one file in one table; counts are rows."""

    source: str
    table: str
    source_file: str
    sha256: str
    mapping_hash: str
    bytes: int
    encoding: str
    rows_read: int = 0
    accepted: int = 0
    rejected: int = 0
    duplicate: int = 0
    left_out: int = 0
    inserted: int = 0
    corrected: int = 0
    unchanged: int = 0
    values_set_aside: int = 0
    newest_event_at: dt.datetime | None = None
    loaded_at: dt.datetime | None = None
    seconds: float = 0.0
    ingest_run_id: str = ""
    skipped: bool = False

    @property
    def delivery_id(self) -> str:
        return f"{self.source}/{self.table}/{self.sha256[:32]}/{self.mapping_hash}"


@dataclass(frozen=True)
class _Load:
    """What one run of one file needs to hand from step to step."""

    workspace: Workspace
    store: Store
    source: Source
    file: ReceivedFile
    mapping_hash: str
    code_lists: Mapping[str, Mapping[str, str]]
    run_id: str
    loaded_at: dt.datetime


def ingest_source(workspace: Workspace, source: Source, *, files: str | None = None,
                  loaded_at: dt.datetime | None = None) -> Iterator[list[Delivery]]:
    """Load every file of the source, oldest name first; yields the ledger of each file.

    Parameters
    ----------
    files
        Glob that replaces the one of the source's YAML.
    loaded_at
        The instant that counts as "now".

    Raises
    ------
    SourceError
        A file is missing, damaged, or lacks a mapped column. Files before it stay loaded.
    """
    source = source.model_copy(update={"files": files}) if files else source
    store = Store(workspace.lake)
    code_lists = {spec.map_file: read_code_list(workspace, spec.map_file)
                  for mapping in source.tables.values() for spec in mapping.columns.values() if spec.map_file}
    for path in matching_files(source, workspace.root):
        load = _Load(workspace, store, source, receive(path, source), source.fingerprint(workspace), code_lists,
                     uuid.uuid4().hex[:12], loaded_at or dt.datetime.now(dt.UTC))
        known = _known_deliveries(load)
        yield known if known else _ingest_file(load)


def _known_deliveries(load: _Load) -> list[Delivery]:
    """The ledger of this very file under this very mapping, if it has been loaded in full."""
    if not load.store.exists("delivery"):
        return []
    wanted = [("sha256", "=", load.file.sha256), ("source", "=", load.source.name),
              ("mapping_hash", "=", load.mapping_hash)]
    rows = load.store.open("delivery").to_pyarrow_table(filters=wanted).to_pylist()
    if {row["table"] for row in rows} != set(load.source.tables):
        return []
    names = [name for name in Delivery.__dataclass_fields__ if name not in ("skipped",)]
    return [replace(Delivery(**{name: row[name] for name in names}), skipped=True) for row in rows]


def _ingest_file(load: _Load) -> list[Delivery]:
    with staging(load.workspace) as connection, tempfile.TemporaryDirectory(dir=load.workspace.cache) as scratch:
        connection.execute(MACROS)
        columns = load_raw(connection, load.file, load.source, Path(scratch))
        _check_columns(load, columns)
        ledgers = [_load_table(load, connection, name, mapping) for name, mapping in load.source.tables.items()]
    _write_ledger(load, ledgers)
    return ledgers


def _check_columns(load: _Load, columns: list[str]) -> None:
    """Every raw column the mapping names is in the file; all that are not are reported at once."""
    wanted = dict.fromkeys(name for mapping in load.source.tables.values() for name in mapping.raw_columns)
    missing = [name for name in wanted if name not in columns]
    if not missing:
        return
    hints = []
    for name in missing:
        near = difflib.get_close_matches(name, columns, n=1)
        hints.append(f"'{name}'" + (f" (did you mean '{near[0]}'?)" if near else ""))
    shown = ", ".join(columns[:20]) + (", ..." if len(columns) > 20 else "")
    raise SourceError(load.file.name, f"lacks {len(missing)} of {len(wanted)} mapped columns: {', '.join(hints)}",
                      rows=f"the file has: {shown}",
                      fix=f"mend 'from' in {load.source.name}.yml, or ask for the column; none of its rows was loaded")


# ------------------------------------------------------------------------------------------------- one table


def _load_table(load: _Load, connection: duckdb.DuckDBPyConnection, name: str, mapping: TableMapping) -> Delivery:
    started = time.perf_counter()
    table = canonical_table(name)
    ledger = _staged_ledger(load, connection, name, table, mapping)
    final = ledger

    def changes(current: DeltaTable | None) -> pa.RecordBatchReader | None:
        nonlocal final
        final = _classify(load, connection, ledger, name, table, current)
        _write_quarantine(load, connection, name, mapping)
        if final.inserted + final.corrected == 0:
            return None
        return connection.execute(_changes_query(load, name, table, mapping, current)).to_arrow_reader(MERGE_BATCH)

    load.store.merge(name, changes, key=table.key, partition="yr",
                     message={"source": load.source.name, "file": load.file.name, "run": load.run_id})
    newest = connection.execute(f"select max({quoted(table.clock)})::timestamptz::varchar from staged "
                                "where len(_reasons) = 0").fetchone()
    return replace(final, seconds=round(time.perf_counter() - started, 3), newest_event_at=_instant(newest))


def _instant(row: tuple[Any, ...] | None) -> dt.datetime | None:
    text = row[0] if row else None
    return dt.datetime.fromisoformat(text).astimezone(dt.UTC) if text else None


def _staged_ledger(load: _Load, connection: duckdb.DuckDBPyConnection, name: str, table: Table,
                   mapping: TableMapping) -> Delivery:
    """Make `staged`: typed rows with reasons; `chosen`: the one row of each key that counts."""
    columns = [column for column in _columns(table, mapping) if column != "known_at"]
    content = ", ".join(f"coalesce({quoted(column)}::varchar, chr(30))" for column in columns)
    clock = f"coalesce(strftime({quoted(table.clock)}, '%Y'), '0000')"
    connection.execute(f"""
        create or replace temp table staged as
        select *, {'row_number() over ()' if mapping.split else '_row'} as _id, (md5_number_lower(concat_ws(chr(31), {content})) >> 1)::bigint as row_hash, {clock} as yr
        from ({typed_query(load.source, name, table, mapping, load.code_lists)})""")
    if name != load.source.primary:  # what hangs on a rejected row is rejected with it, once
        connection.execute("delete from staged where _row in (select _row from rejected_rows)")
    else:
        connection.execute("create or replace temp table rejected_rows as "
                           "select distinct _row from staged where len(_reasons) > 0")
    key = quoted(table.key)
    newest_first = f"(partition by {key} order by _version desc nulls last, _id desc)"
    connection.execute(f"""
        create or replace temp table repeated as
        with many as (select {key} as k from staged where len(_reasons) = 0 group by all having count(*) > 1)
        select _id, _row, row_number() over {newest_first} as place,
               row_hash <> first_value(row_hash) over {newest_first} as differs
        from staged semi join many on staged.{key} = many.k
        where len(_reasons) = 0""")
    read, rejected, set_aside = _one(connection, """
        select count(*), count(*) filter (len(_reasons) > 0), coalesce(sum(len(_set_aside)) filter (len(_reasons) = 0), 0)
        from staged""")
    duplicate, = _one(connection, "select count(*) from repeated where place > 1")
    offered, = _one(connection, offered_count_query(mapping))
    rows, = _one(connection, "select count(*) from raw")
    return Delivery(load.source.name, name, load.file.name, load.file.sha256, load.mapping_hash, load.file.bytes,
                    load.file.encoding, rows_read=read, rejected=rejected, duplicate=duplicate,
                    left_out=0 if mapping.split else rows - offered, values_set_aside=int(set_aside),
                    loaded_at=load.loaded_at, ingest_run_id=load.run_id)


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row


def _columns(table: Table, mapping: TableMapping) -> list[str]:
    built = [] if table.key in mapping.columns else [table.key]
    return [*built, *mapping.columns]


def _scan_current(current: DeltaTable | None, columns: str) -> str:
    """SQL of the rows that count now; no rows when the table is not there yet."""
    uris = current.file_uris() if current else []
    if not uris:
        return "(select null::varchar as k, null::bigint as h, null::timestamptz as known, null::timestamptz as version, " \
               "null::varchar as year, null::varchar as held_by where false)"
    files = ", ".join(literal(uri) for uri in uris)
    return (f"(select {columns} from read_parquet([{files}], union_by_name=true, hive_partitioning=true, "
            "hive_types_autocast=false) where superseded_at is null)")


def _classify(load: _Load, connection: duckdb.DuckDBPyConnection, ledger: Delivery, name: str, table: Table,
              current: DeltaTable | None) -> Delivery:
    """Compare with what the lake holds: make `fate` (new, corrected, unchanged, stale, foreign) and count it."""
    key = quoted(table.key)
    held = _scan_current(current, f"{key} as k, row_hash as h, known_at as known, version_at as version, yr as year, "
                                  "source_system as held_by")
    connection.execute(f"""
        create or replace temp table fate as
        select s._id, s._row, c.h as old_hash, c.year as old_year, c.known as old_known, c.held_by,
               case when c.k is null then 'new'
                    when c.held_by <> {literal(load.source.name)} then 'foreign'
                    when c.h = s.row_hash then 'unchanged'
                    when s._version < c.version then 'stale'
                    else 'corrected' end as what
        from (select * from staged where len(_reasons) = 0
              and _id not in (select _id from repeated where place > 1)) as s
        left join {held} as c on c.k = s.{key}""")
    counts = dict(connection.execute("select what, count(*) from fate group by what").fetchall())
    foreign = counts.get("foreign", 0)
    unchanged = counts.get("unchanged", 0) + counts.get("stale", 0)
    inserted, corrected = counts.get("new", 0), counts.get("corrected", 0)
    return replace(ledger, accepted=inserted + corrected + unchanged, rejected=ledger.rejected + foreign,
                   inserted=inserted, corrected=corrected, unchanged=unchanged)


def _changes_query(load: _Load, name: str, table: Table, mapping: TableMapping, current: DeltaTable | None) -> str:
    """SELECT of the inserts and closures to commit, with the columns of the lake's table."""
    now = f"{literal(load.loaded_at.isoformat())}::timestamptz"
    # a correction is known since its own version or clock when that is later, else since it was loaded
    corrected_at = (f"coalesce(case when s._version > f.old_known then s._version end, "
                    f"case when s.known_at > f.old_known then s.known_at end, {now})")
    insert = {column: f"s.{quoted(column)}" for column in _columns(table, mapping)}
    insert |= {"known_at": f"case when f.what = 'corrected' then {corrected_at} else s.known_at end",
               "version_at": "s._version", "source_system": literal(load.source.name),
               "source_file": literal(load.file.name), "source_row": "s._row", "loaded_at": now,
               "ingest_run_id": literal(load.run_id), "row_hash": "s.row_hash", "yr": "s.yr"}
    close = {table.key: f"s.{quoted(table.key)}", "superseded_at": corrected_at,
             "row_hash": "f.old_hash", "yr": "f.old_year"}
    site = sorted(column for column in mapping.columns if column.startswith(SITE_PREFIX))
    names = [*table.columns, *site, *BOOKKEEPING]
    selects = [_select(names, table, insert, closes=False) + " where f.what in ('new', 'corrected')"]
    if current is not None:
        selects.append(_select(names, table, close, closes=True) + " where f.what = 'corrected'")
    return " union all ".join(selects)


def _select(names: list[str], table: Table, filled: Mapping[str, str], *, closes: bool) -> str:
    fields = [f"{filled.get(name, f'null::{table.column(name).sql_type}')} as {quoted(name)}" for name in names]
    return f"select {', '.join(fields)}, {str(closes).lower()} as _closes from fate as f join staged as s on s._id = f._id"


# ---------------------------------------------------------------------------------------- quarantine and ledger


def _write_quarantine(load: _Load, connection: duckdb.DuckDBPyConnection, name: str, mapping: TableMapping) -> None:
    """Keep every rejected row, every value set aside and every repeated row that differs, with its raw text."""
    kept = "" if mapping.version else "union all select _row, 'duplicate', ['key:repeated_with_other_content'] from repeated where place > 1 and differs"
    query = f"""
        with aside as (
            select _row, 'row' as kind, _reasons as reasons from staged where len(_reasons) > 0
            union all select _row, 'row', [{literal('key:held_by:')} || held_by] from fate where what = 'foreign'
            union all select _row, 'value', _set_aside from staged where len(_set_aside) > 0 and len(_reasons) = 0
            {kept})
        select {literal(f"{load.file.sha256[:32]}/{load.mapping_hash}/{name}/")} || a._row || '/' || a.kind as quarantine_id,
               a.kind, {literal(load.source.name)} as source, {literal(name)} as "table",
               {literal(load.file.name)} as source_file, a._row as source_row, list_distinct(flatten(list(a.reasons))) as reasons,
               any_value(to_json(r)::varchar) as raw, {literal(load.loaded_at.isoformat())}::timestamptz as loaded_at,
               {literal(load.run_id)} as ingest_run_id, false as _closes
        from aside as a join raw as r on r._row = a._row
        group by a._row, a.kind"""
    rows = connection.execute(query).to_arrow_table()
    if rows.num_rows:
        _merge_system(load, "quarantine", rows, "quarantine_id")


def _write_ledger(load: _Load, ledgers: list[Delivery]) -> None:
    records = [{**asdict(ledger), "delivery_id": ledger.delivery_id} for ledger in ledgers]
    names = SYSTEM_TABLES["delivery"].names
    rows = pa.Table.from_pylist([{name: record[name] for name in names} for record in records], SYSTEM_TABLES["delivery"])
    _merge_system(load, "delivery", rows.append_column("_closes", pa.array([False] * len(records))), "delivery_id")


def _merge_system(load: _Load, name: str, rows: pa.Table, key: str) -> None:
    schema = pa.schema([*SYSTEM_TABLES[name], pa.field("_closes", pa.bool_())])
    shaped = pa.table([rows[field.name].cast(field.type) for field in schema], schema=schema)
    load.store.merge(name, lambda current: shaped.to_reader(), key=key, partition=None,
                     message={"source": load.source.name, "file": load.file.name, "run": load.run_id})
