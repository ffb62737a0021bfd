"""Staged rows against what the lake holds: what is new, what corrects a row, what says nothing new.

`met` has one row per staged key that the lake knows, and says what becomes of it: *unchanged*, *corrected*, *stale*
(an older version than the lake's) or *foreign* (another source holds the key).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb

from aftersales.collect.delivery import Delivery, Load
from aftersales.collect.mapping import FittedMapping
from aftersales.collect.staging import ONE_A_KEY, filled_columns
from aftersales.lake.commits import data_files, held_rows
from aftersales.lake.engine import literal, quoted
from aftersales.model.tables import BOOKKEEPING, SITE_PREFIX, Table

if TYPE_CHECKING:
    from deltalake import DeltaTable


def compare_with_lake(
    load: Load,
    connection: duckdb.DuckDBPyConnection,
    ledger: Delivery,
    table: Table,
    mapping: FittedMapping,
    current: DeltaTable,
) -> Delivery:
    """Compare with what the lake holds: make `met` (keys it has: corrected, unchanged, stale, foreign) and count."""
    key, now = quoted(table.key), f"{literal(load.loaded_at.isoformat())}::timestamptz"
    good = f"select * from staged where _reasons is null {ONE_A_KEY}"
    paths = _files_with_a_key(connection, data_files(current), key, good)
    if paths:
        rows = held_rows(paths)
        held = [name for name, *_ in connection.execute(f"describe select * from {rows}").fetchall()]
        kept = "".join(
            f", {f'c.{quoted(name)}' if name in held else 'null'} as {_kept(name)}" for name in mapping.absent
        )
        connection.execute(f"""
            create or replace temp table met as
            select s._id, s._row, c.data_file, c.file_row, c.source_system as held_by{kept},
                   -- a correction is known since its own version or clock when that is later, else since it was loaded
                   coalesce(case when s._version > c.known_at then s._version end,
                            case when s.known_at > c.known_at then s.known_at end, {now}) as corrected_at,
                   case when c.source_system <> {literal(load.source.name)} then 'foreign'
                        when not ({_differs(table, mapping, held)}) then 'unchanged'
                        when c.version_at is not null and coalesce(s._version < c.version_at, true) then 'stale'
                        else 'corrected' end as what
            from ({good}) as s
            join (select * from {rows} where superseded_at is null) as c on c.{key} = s.{key}""")
    else:
        kept = "".join(f"{_kept(name)} {table.column(name).sql_type}, " for name in mapping.absent)
        connection.execute(
            "create or replace temp table met (_id bigint, _row bigint, data_file varchar, file_row bigint, "
            f"{kept}"
            "held_by varchar, corrected_at timestamptz, what varchar)"
        )
    met = dict(connection.execute("select what, count(*) from met group by what").fetchall())
    count = ledger.rows_read - ledger.rejected - ledger.duplicate
    corrected, foreign = met.get("corrected", 0), met.get("foreign", 0)
    return replace(
        ledger,
        accepted=count - foreign,
        rejected=ledger.rejected + foreign,
        inserted=count - sum(met.values()),
        corrected=corrected,
        unchanged=met.get("unchanged", 0) + met.get("stale", 0),
    )


def _files_with_a_key(connection: duckdb.DuckDBPyConnection, paths: Sequence[str], key: str, staged: str) -> list[str]:
    """The data files with a current row of a staged key: only these are read in full."""
    if not paths:
        return []
    found = connection.execute(f"""
        select distinct data_file from {held_rows(paths)}
        where superseded_at is null and {key} in (select {key} from ({staged})) order by data_file""")
    return [path for (path,) in found.fetchall()]


def _kept(column: str) -> str:
    """What the lake has in a column that the file cannot fill."""
    return quoted(f"_kept_{column}")


def site_columns(mapping: FittedMapping) -> list[str]:
    """The site's own columns of the mapping, sorted; also those that the file cannot fill."""
    return sorted(column for column in [*mapping.columns, *mapping.absent] if column.startswith(SITE_PREFIX))


def inserts_query(load: Load, table: Table, mapping: FittedMapping) -> str:
    """SELECT of the new and corrected rows, with the columns of the lake's table."""
    filled = {column: f"s.{quoted(column)}" for column in filled_columns(table, mapping)}
    filled |= {column: f"m.{_kept(column)}::{table.column(column).sql_type}" for column in mapping.absent}
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
    fields = [
        f"{filled.get(name, f'null::{table.column(name).sql_type}')} as {quoted(name)}"
        for name in (*table.columns, *site_columns(mapping), *BOOKKEEPING)
    ]
    return (
        f"select {', '.join(fields)} from staged as s left join met as m using (_id) "
        f"where _reasons is null {ONE_A_KEY} and coalesce(m.what, 'new') in ('new', 'corrected')"
    )


def closures_query() -> str:
    """SELECT of where the versions lie that a correction ends, and since when."""
    return "select data_file, file_row, corrected_at as superseded_at from met where what = 'corrected'"


def _differs(table: Table, mapping: FittedMapping, lake_columns: Iterable[str]) -> str:
    """SQL: whether the staged row `s` says something else than the lake's row `c`, which has `lake_columns`."""
    filled = filled_columns(table, mapping)
    held = set(lake_columns)  # an older lake may lack a column that the table has by now
    names = dict.fromkeys([*table.columns, *(name for name in lake_columns if name.startswith(SITE_PREFIX)), *filled])
    pairs = [
        (f"s.{quoted(name)}" if name in filled else "null", f"c.{quoted(name)}" if name in held else "null")
        for name in names
        if name != "known_at" and name not in mapping.absent
    ]
    return " or ".join(f"{new} is distinct from {old}" for new, old in pairs)
