"""One delivered file -> canonical tables, quarantine and ledger; the same file again changes nothing.

For every file and table fed: `rows_read = accepted + rejected + duplicate`, and
`accepted = inserted + corrected + unchanged`. The ledger row (`delivery`) is written last: a killed load has none, so
the next run does the file again, and rows that had arrived are found unchanged.
"""

from __future__ import annotations

import datetime as dt
import difflib
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from aftersales.collect.connectors.files import (
    UNNUMBERED,
    ReceivedFile,
    check_unchanged,
    examine,
    load_raw,
    matching_files,
    receive,
)
from aftersales.collect.mapping import Source, TableMapping, read_code_list
from aftersales.collect.typed import MACROS, typed_query
from aftersales.lake.engine import literal, quoted, scratch_folder, staging
from aftersales.lake.store import SYSTEM_TABLES, Changes, Store, arrow_schema, data_files, parquet_scan
from aftersales.model.errors import SourceError
from aftersales.model.settings import Workspace
from aftersales.model.tables import BOOKKEEPING, SITE_PREFIX, Table, canonical_table

if TYPE_CHECKING:
    from deltalake import DeltaTable

MERGE_BATCH = 50_000
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)


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
    place: int = 0
    """Place of the table in the source's YAML; the first one accounts for the rows of the file."""
    rows_read: int = 0
    accepted: int = 0
    rejected: int = 0
    duplicate: int = 0
    left_out: int = 0
    inserted: int = 0
    corrected: int = 0
    unchanged: int = 0
    values_set_aside: int = 0
    newest_known_at: dt.datetime | None = None
    loaded_at: dt.datetime | None = None
    seconds: float = 0.0
    ingest_run_id: str = ""
    skipped: bool = False

    def record(self) -> dict[str, Any]:
        """The ledger as plain values, for output."""
        return {
            name: value.isoformat() if isinstance(value, dt.datetime) else value for name, value in asdict(self).items()
        }

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


def ingest_source(
    workspace: Workspace, source: Source, *, files: str | None = None, loaded_at: dt.datetime | None = None
) -> Iterator[list[Delivery]]:
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
    code_lists = {
        spec.map_file: read_code_list(workspace, spec.map_file)
        for mapping in source.tables.values()
        for spec in mapping.columns.values()
        if spec.map_file
    }
    mapping_hash = source.fingerprint(workspace)
    for path in matching_files(source, workspace.root):
        load = _Load(
            workspace,
            store,
            source,
            receive(path, source),
            mapping_hash,
            code_lists,
            uuid.uuid4().hex[:12],
            loaded_at or dt.datetime.now(dt.UTC),
        )
        known = _known_deliveries(load)
        yield known if known else _ingest_file(replace(load, file=examine(load.file, source)))


def _known_deliveries(load: _Load) -> list[Delivery]:
    """The ledger of this very file under this very mapping, if it has been loaded in full."""
    if not load.store.exists("delivery"):
        return []
    rows = load.store.rows(
        "delivery",
        f"sha256 = {literal(load.file.sha256)} and source = {literal(load.source.name)} "
        f"and mapping_hash = {literal(load.mapping_hash)}",
    ).to_pylist()
    by_table = {row["table"]: row for row in rows}
    if set(by_table) != set(load.source.tables):
        return []
    names = [name for name in Delivery.__dataclass_fields__ if name != "skipped"]
    return [Delivery(**{name: by_table[table][name] for name in names}, skipped=True) for table in load.source.tables]


def _ingest_file(load: _Load) -> list[Delivery]:
    try:
        with staging(load.workspace) as connection, scratch_folder(load.workspace) as scratch:
            connection.execute(MACROS)
            columns = load_raw(connection, load.file, load.source, scratch)
            _check_columns(load, columns)
            ledgers = [_load_table(load, connection, name, mapping) for name, mapping in load.source.tables.items()]
    except (duckdb.Error, OSError) as error:
        raise _not_staged(load, error) from error
    _write_ledger(load, ledgers)
    return ledgers


def _not_staged(load: _Load, error: Exception) -> SourceError:
    said = (str(error).splitlines() or [type(error).__name__])[0][:300]
    return SourceError(
        load.file.name,
        f"could not be loaded by {load.source.name}.yml: {said}",
        rows="the last version of every table stays readable",
        fix=f"free disk space below {load.workspace.cache}, or mend the mapping; then run it again",
    )


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
    raise SourceError(
        load.file.name,
        f"lacks {len(missing)} of {len(wanted)} mapped columns: {', '.join(hints)}",
        rows=f"the file has: {shown}",
        fix=f"mend 'from' in {load.source.name}.yml, or ask for the column; none of its rows was loaded",
    )


# ------------------------------------------------------------------------------------------------- one table


def _load_table(load: _Load, connection: duckdb.DuckDBPyConnection, name: str, mapping: TableMapping) -> Delivery:
    started = time.perf_counter()
    table = canonical_table(name)
    staged = _staged_ledger(load, connection, name, table, mapping)
    final = staged

    def changes(current: DeltaTable) -> Changes | None:
        nonlocal final
        final = _compared(load, connection, staged, table, mapping, current)
        if final.inserted + final.corrected == 0:
            return None
        closures = connection.execute(_closures_query(table)).to_arrow_table() if final.corrected else None
        return Changes(connection.execute(_inserts_query(load, table, mapping)).to_arrow_reader(MERGE_BATCH), closures)

    check_unchanged(load.file)
    site = [column for column in mapping.columns if column.startswith(SITE_PREFIX)]
    load.store.merge(
        name, changes, schema=arrow_schema(table, site), key=table.key, partition="yr", message=_facts(load)
    )
    if name == load.source.primary:  # what hangs on a rejected row is left out with it
        connection.execute("""
            create or replace temp table rejected_rows as
            select _row from staged where _reasons is not null union select _row from met where what = 'foreign'""")
    _write_quarantine(load, connection, name)
    return replace(final, seconds=round(time.perf_counter() - started, 3))


def _facts(load: _Load) -> dict[str, str]:
    return {"source": load.source.name, "file": load.file.name, "run": load.run_id}


def _staged_ledger(
    load: _Load, connection: duckdb.DuckDBPyConnection, name: str, table: Table, mapping: TableMapping
) -> Delivery:
    """Make `staged`: typed rows with reasons; `repeated`: rows of one key, the one that counts first."""
    _stage(load, connection, name, table, mapping)
    key = quoted(table.key)
    newest_first = f"(partition by {key} order by _version desc nulls last, _id desc)"
    content = "null" if mapping.version else f"row({_content(table, mapping)})"  # an older version is no contradiction
    connection.execute(f"""
        create or replace temp table repeated as
        with many as (select {key} as k from staged where _reasons is null group by all having count(*) > 1)
        select _id, _row, row_number() over {newest_first} as place,
               content is distinct from first_value(content) over {newest_first} as differs
        from (select _id, _row, _version, {key}, {content} as content from staged
              where _reasons is null and {key} in (select k from many))""")
    read, rejected, set_aside, newest_us = _one(
        connection,
        """
        select count(*), count(_reasons), coalesce(sum(len(_set_aside)) filter (_reasons is null), 0),
               epoch_us(max(known_at) filter (_reasons is null))
        from staged""",
    )
    (duplicate,) = _one(connection, "select count(*) from repeated where place > 1")
    everything = read
    if mapping.split is None and (mapping.where or name != load.source.primary):
        (everything,) = _one(connection, "select count(*) from raw")
    return Delivery(
        load.source.name,
        name,
        load.file.name,
        load.file.sha256,
        load.mapping_hash,
        load.file.bytes,
        load.file.encoding,
        list(load.source.tables).index(name),
        rows_read=read,
        rejected=rejected,
        duplicate=duplicate,
        left_out=everything - read,
        values_set_aside=int(set_aside),
        newest_known_at=_instant(newest_us),
        loaded_at=load.loaded_at,
        ingest_run_id=load.run_id,
    )


def _stage(load: _Load, connection: duckdb.DuckDBPyConnection, name: str, table: Table, mapping: TableMapping) -> None:
    """Make `staged` with `_id` (one per row) and `_row` (row of the file); all readers at once where it can be done."""
    is_primary = name == load.source.primary
    offered = "raw" if is_primary else "(select * from raw anti join rejected_rows using (_row))"

    def stage(offered: str) -> None:
        received = [name for name, *_ in connection.execute("describe raw").fetchall()]
        typed = typed_query(load.source, name, table, mapping, load.code_lists, offered, received)
        connection.execute(
            f"create or replace temp table staged_rows as select *, {_year(table, mapping)} as yr from ({typed})"
        )

    if is_primary and mapping.split is None and not mapping.where and _exists(connection, UNNUMBERED):
        try:
            stage(UNNUMBERED)
            connection.execute(
                "create or replace temp view staged as "
                "select rowid + 1 as _id, * replace (rowid + 1 as _row) from staged_rows"
            )
            return
        except duckdb.Error as error:  # line breaks in quotes, or several readers need more memory than there is
            if not isinstance(error, duckdb.OutOfMemoryException) and "null_padding" not in str(error):
                raise
    (threads,) = _one(connection, "select current_setting('threads')")
    connection.execute("set threads=1")  # numbering rows keeps one of them busy; the others would only spin
    stage(offered)
    connection.execute(f"set threads={threads}")
    connection.execute(
        f"create or replace temp view staged as "
        f"select {'rowid' if mapping.split else '_row'} as _id, * from staged_rows"
    )


def _exists(connection: duckdb.DuckDBPyConnection, view: str) -> bool:
    return bool(_one(connection, f"select count(*) from duckdb_views() where view_name = {literal(view)}")[0])


def _year(table: Table, mapping: TableMapping) -> str:
    if table.clock not in mapping.columns:
        return "'0000'"
    clock = quoted(table.clock)
    utc = f"make_timestamp(epoch_us({clock}))" if table.column(table.clock).type == "ts" else clock
    return f"coalesce(lpad(year({utc})::varchar, 4, '0'), '0000')"


def _differs(table: Table, mapping: TableMapping, lake_columns: Iterable[str]) -> str:
    """SQL: whether the staged row `s` says something else than the lake's row `c`, which has `lake_columns`."""
    filled = _columns(table, mapping)
    held = set(lake_columns)  # an older lake may lack a column that the table has by now
    names = dict.fromkeys([*table.columns, *(name for name in lake_columns if name.startswith(SITE_PREFIX)), *filled])
    pairs = [
        (f"s.{quoted(name)}" if name in filled else "null", f"c.{quoted(name)}" if name in held else "null")
        for name in names
        if name != "known_at"
    ]
    return " or ".join(f"{new} is distinct from {old}" for new, old in pairs)


def _content(table: Table, mapping: TableMapping) -> str:
    return ", ".join(quoted(column) for column in _columns(table, mapping) if column != "known_at")


def _instant(microseconds: int | None) -> dt.datetime | None:
    return None if microseconds is None else EPOCH + dt.timedelta(microseconds=microseconds)


def _one(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    row = connection.execute(query).fetchone()
    assert row is not None
    return row


def _columns(table: Table, mapping: TableMapping) -> list[str]:
    built = [] if table.key in mapping.columns else [table.key]
    return [*built, *mapping.columns]


def _compared(
    load: _Load,
    connection: duckdb.DuckDBPyConnection,
    ledger: Delivery,
    table: Table,
    mapping: TableMapping,
    current: DeltaTable,
) -> Delivery:
    """Compare with what the lake holds: make `met` (keys it has: corrected, unchanged, stale, foreign) and count."""
    key, now = quoted(table.key), f"{literal(load.loaded_at.isoformat())}::timestamptz"
    paths = data_files(current)
    if paths:
        held = pa.schema(current.schema().to_arrow()).names
        connection.execute(f"""
            create or replace temp table met as
            select s._id, s._row, s.{key} as k, c.yr as old_year, c.source_system as held_by,
                   -- a correction is known since its own version or clock when that is later, else since it was loaded
                   coalesce(case when s._version > c.known_at then s._version end,
                            case when s.known_at > c.known_at then s.known_at end, {now}) as corrected_at,
                   case when c.source_system <> {literal(load.source.name)} then 'foreign'
                        when not ({_differs(table, mapping, held)}) then 'unchanged'
                        when c.version_at is not null and coalesce(s._version < c.version_at, true) then 'stale'
                        else 'corrected' end as what
            from (select * from staged where _reasons is null {_ONE_A_KEY}) as s
            join (select * from {parquet_scan(paths)} where superseded_at is null) as c on c.{key} = s.{key}""")
    else:
        connection.execute(
            "create or replace temp table met (_id bigint, _row bigint, k varchar, old_year varchar, "
            "held_by varchar, corrected_at timestamptz, what varchar)"
        )
    met = dict(connection.execute("select what, count(*) from met group by what").fetchall())
    good = ledger.rows_read - ledger.rejected - ledger.duplicate
    corrected, foreign = met.get("corrected", 0), met.get("foreign", 0)
    return replace(
        ledger,
        accepted=good - foreign,
        rejected=ledger.rejected + foreign,
        inserted=good - sum(met.values()),
        corrected=corrected,
        unchanged=met.get("unchanged", 0) + met.get("stale", 0),
    )


_ONE_A_KEY = "and _id not in (select _id from repeated where place > 1)"


def _inserts_query(load: _Load, table: Table, mapping: TableMapping) -> str:
    """SELECT of the new and corrected rows, with the columns of the lake's table."""
    filled = {column: f"s.{quoted(column)}" for column in _columns(table, mapping)}
    filled |= {
        "known_at": "coalesce(m.corrected_at, s.known_at)",
        "version_at": "s._version",
        "source_system": literal(load.source.name),
        "source_file": literal(load.file.name),
        "source_row": "s._row",
        "loaded_at": f"{literal(load.loaded_at.isoformat())}::timestamptz",
        "ingest_run_id": literal(load.run_id),
        "yr": "s.yr",
    }
    site = sorted(column for column in mapping.columns if column.startswith(SITE_PREFIX))
    fields = [
        f"{filled.get(name, f'null::{table.column(name).sql_type}')} as {quoted(name)}"
        for name in (*table.columns, *site, *BOOKKEEPING)
    ]
    return (
        f"select {', '.join(fields)} from staged as s left join met as m using (_id) "
        f"where _reasons is null {_ONE_A_KEY} and coalesce(m.what, 'new') in ('new', 'corrected')"
    )


def _closures_query(table: Table) -> str:
    """SELECT of the versions that a correction ends."""
    return (
        f"select k as {quoted(table.key)}, old_year as yr, corrected_at as superseded_at "
        "from met where what = 'corrected'"
    )


# ---------------------------------------------------------------------------------------- quarantine and ledger


def _write_quarantine(load: _Load, connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Keep every rejected row, every value set aside and every repeated row that differs, with its raw text."""
    connection.execute("""
        create or replace temp table aside as
        select _row, 'row' as kind, _reasons as reasons, _raw from staged where _reasons is not null
        union all select _row, 'value', _set_aside, _raw from staged where _set_aside is not null and _reasons is null
        union all select _row, 'row', ['key:held_by_' || held_by], null from met where what = 'foreign'
        union all select _row, 'duplicate', ['key:repeated_with_other_content'], null from repeated
        where place > 1 and differs""")
    count, unknown = _one(connection, "select count(*), count(*) filter (_raw is null) from aside")
    if not count:
        return
    if unknown:  # good rows: their text has to be read again
        connection.execute("""
            update aside set _raw = r.text from (
                select _row, to_json(_offered)::varchar as text from raw as _offered
                where _row in (select _row from aside where _raw is null)
            ) as r where r._row = aside._row and aside._raw is null""")
    prefix = f"{load.file.sha256[:32]}/{load.mapping_hash}/{name}/"
    rows = connection.execute(f"""
        select {literal(prefix)} || _row || '/' || kind as quarantine_id, kind,
               {literal(load.source.name)} as source, {literal(name)} as "table",
               {literal(load.file.name)} as source_file,
               _row as source_row, list_sort(list_distinct(flatten(list(reasons)))) as reasons, any_value(_raw) as raw,
               {literal(load.loaded_at.isoformat())}::timestamptz as loaded_at, {literal(load.run_id)} as ingest_run_id
        from aside group by _row, kind order by _row, kind""").to_arrow_table()
    _add_system_rows(load, "quarantine", rows, "quarantine_id", f"starts_with(quarantine_id, {literal(prefix)})")


def _write_ledger(load: _Load, ledgers: list[Delivery]) -> None:
    records = [{**asdict(ledger), "delivery_id": ledger.delivery_id} for ledger in ledgers]
    schema = SYSTEM_TABLES["delivery"]
    rows = pa.Table.from_pylist([{name: record[name] for name in schema.names} for record in records], schema)
    _add_system_rows(load, "delivery", rows, "delivery_id", f"sha256 = {literal(load.file.sha256)}")


def _add_system_rows(load: _Load, name: str, rows: pa.Table, key: str, where: str) -> None:
    """Append the rows whose id is not there yet; `where` bounds the search for them."""
    schema = SYSTEM_TABLES[name]
    shaped = pa.table([rows[field.name].cast(field.type) for field in schema], schema=schema)

    def changes(current: DeltaTable) -> Changes | None:
        there = set(load.store.rows(name, where, columns=key, table=current)[key].to_pylist())
        new = shaped.filter(pa.array([value not in there for value in shaped[key].to_pylist()], pa.bool_()))
        return Changes(new.to_reader()) if new.num_rows else None

    load.store.merge(name, changes, schema=schema, key=key, partition=None, message=_facts(load))
