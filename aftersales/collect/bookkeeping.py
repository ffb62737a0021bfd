"""What a load leaves in the lake's own tables: the rows set aside (`quarantine`), what was measured
(`quality`, `unmapped`) and the ledger (`delivery`).

The ledger row is written last: a killed load has none, so the next run does the file again, and rows that had arrived
are found unchanged.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from aftersales.collect.delivery import Delivery, Load, commit_facts, delivery_of
from aftersales.collect.privacy import protected_raw
from aftersales.collect.staging import one_row
from aftersales.lake.commits import Changes, appended, data_files
from aftersales.lake.datafiles import parquet_scan
from aftersales.lake.engine import literal
from aftersales.lake.store import SYSTEM_TABLES

if TYPE_CHECKING:
    from deltalake import DeltaTable

BATCH = 50_000


def known_deliveries(load: Load) -> list[Delivery]:
    """The ledger of this very file under this very mapping, if it has been loaded in full."""
    if not load.store.exists("delivery"):
        return []
    rows = load.store.rows(
        "delivery",
        f"sha256 = {literal(load.file.sha256)} and source = {literal(load.source.name)} "
        f"and mapping_hash = {literal(load.mapping_hash)}",
    ).to_pylist()
    by_table = {row["table"]: row for row in sorted(rows, key=lambda row: row["loaded_at"])}
    if set(by_table) != set(load.source.tables):
        return []
    return [delivery_of(by_table[table], skipped=True) for table in load.source.tables]


def write_quarantine(load: Load, connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Keep every rejected row, every value set aside and every repeated row that differs, with its raw text."""
    connection.execute("""
        create or replace temp table aside as
        select _row, 'row' as kind, _reasons as reasons, _raw from staged where _reasons is not null
        union all select _row, 'value', _set_aside, _raw from staged where _set_aside is not null and _reasons is null
        union all select _row, 'row', ['key:held_by_' || held_by], null from met where what = 'foreign'
        union all select _row, 'duplicate', ['key:repeated_with_other_content'], null from repeated
        where place > 1 and differs""")
    count, unknown = one_row(connection, "select count(*), count(*) filter (_raw is null) from aside")
    if not count:
        return
    if unknown:  # good rows: their text has to be read again
        connection.execute("""
            update aside set _raw = r.text from (
                select _row, to_json(_offered)::varchar as text from raw as _offered
                where _row in (select _row from aside where _raw is null)
            ) as r where r._row = aside._row and aside._raw is null""")
    prefix = f"{load.file.sha256[:32]}/{load.mapping_hash}/{name}/"
    connection.execute(f"""
        create or replace temp table set_aside as
        select {literal(prefix)} || _row || '/' || kind as quarantine_id, kind,
               {literal(load.source.name)} as source, {literal(name)} as "table",
               {literal(load.file.name)} as source_file,
               _row as source_row, list_sort(list_distinct(flatten(list(reasons)))) as reasons, any_value(_raw) as raw,
               any_value(_subject) as subject,
               {literal(load.loaded_at.isoformat())}::timestamptz as loaded_at, {literal(load.run_id)} as ingest_run_id
        from aside left join (select _row, any_value(_subject) as _subject from staged
                              where _row in (select _row from aside) group by _row) using (_row)
        group by _row, kind order by _row, kind""")
    _protect(load, connection, name)

    def changes(current: DeltaTable) -> Changes | None:
        query, paths = "select * from held_back", data_files(current)
        if paths:
            there = f"from {parquet_scan(paths)} where starts_with(quarantine_id, {literal(prefix)})"
            query += f" where quarantine_id not in (select quarantine_id {there})"
        (new,) = one_row(connection, f"select count(*) from ({query})")
        return Changes(connection, query) if new else None

    _append(load, "quarantine", "quarantine_id", changes)


def _protect(load: Load, connection: duckdb.DuckDBPyConnection, name: str) -> None:
    """Make `held_back` of `set_aside`, masked and sealed part by part: all rows of a large file may be rejected."""
    (count,) = one_row(connection, "select count(*) from set_aside")
    for start in range(0, count, BATCH):
        part = f"select * from set_aside where rowid >= {start} and rowid < {start + BATCH}"
        rows = protected_raw(load, name, connection.execute(part).to_arrow_table())  # noqa: F841 - read by DuckDB
        into = "insert into held_back" if start else "create or replace temp table held_back as"
        connection.execute(f"{into} select * from rows")


def known_until(load: Load) -> dt.datetime | None:
    """The newest moment known from other deliveries of the source."""
    if not load.store.exists("delivery"):
        return None
    where = f"source = {literal(load.source.name)} and place = 0 and sha256 <> {literal(load.file.sha256)}"
    moments = load.store.rows("delivery", where, columns="newest_known_at")["newest_known_at"].to_pylist()
    return max((moment for moment in moments if moment is not None), default=None)


def write_measured(load: Load, measured: list[dict[str, Any]], lacking: list[dict[str, Any]]) -> None:
    """Keep what was measured on the delivery (`quality`), and the values its code lists lack (`unmapped`)."""
    common = {
        "source_file": load.file.name,
        "sha256": load.file.sha256,
        "mapping_hash": load.mapping_hash,
        "loaded_at": load.loaded_at,
        "ingest_run_id": load.run_id,
    }
    parts = (("quality", measured, ("dimension", "column")), ("unmapped", lacking, ("column", "value")))
    for name, found, keys in parts:
        if not found:
            continue
        id_ = f"{name}_id"
        records = [
            {id_: "/".join([load.run_id, row["table"], *(row[key] for key in keys)]), **row, **common} for row in found
        ]
        rows = pa.Table.from_pylist(records, SYSTEM_TABLES[name])
        add_system_rows(load, name, rows, id_, f"ingest_run_id = {literal(load.run_id)}")


def write_ledger(load: Load, ledgers: list[Delivery]) -> None:
    """Append the ledger of the file: one row per table."""
    records = [{**asdict(ledger), "delivery_id": ledger.delivery_id} for ledger in ledgers]
    schema = SYSTEM_TABLES["delivery"]
    rows = pa.Table.from_pylist([{name: record[name] for name in schema.names} for record in records], schema)
    add_system_rows(load, "delivery", rows, "delivery_id", f"sha256 = {literal(load.file.sha256)}")


def add_system_rows(load: Load, name: str, rows: pa.Table, key: str, where: str) -> None:
    """Append the rows whose id is not there yet; `where` bounds the search for them."""
    schema = SYSTEM_TABLES[name]
    shaped = pa.table([rows[field.name].cast(field.type) for field in schema], schema=schema)

    def changes(current: DeltaTable) -> Changes | None:
        there = set(load.store.rows(name, where, columns=key, table=current)[key].to_pylist())
        new = shaped.filter(pa.array([value not in there for value in shaped[key].to_pylist()], pa.bool_()))
        return appended(new) if new.num_rows else None

    _append(load, name, key, changes)


def _append(load: Load, name: str, key: str, changes: Callable[[DeltaTable], Changes | None]) -> None:
    load.store.merge(name, changes, schema=SYSTEM_TABLES[name], key=key, partition=None, message=commit_facts(load))
