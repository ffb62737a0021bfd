"""Rows of a file as one canonical table types them, in a DuckDB of the load, before the lake knows of them.

What the steps after this one read:

- `staged`: one row per typed row, with `_id` (one per row), `_row` (row of the file), `_version`, `_reasons` (why it
  is rejected, or null), `_set_aside` (why values were blanked, or null), `_raw` (its text where one of both is there),
  `_subject` (whose row it is); personal values are pseudonymised, masked and sealed by then;
- `repeated`: rows of one key; `place` 1 is the one that counts, `is_copy` says that it is not just an older state.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import duckdb

from aftersales.collect.connectors.files import UNNUMBERED
from aftersales.collect.delivery import Delivery, Load
from aftersales.collect.mapping import FILE, RECEIVED, ROW, TableMapping
from aftersales.collect.privacy import protected_query
from aftersales.collect.typed import typed_query
from aftersales.lake.engine import literal, quoted
from aftersales.model.tables import Table

EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
DELIMITED = ("csv", "tsv")
"""Formats whose rows are numbered while they are read; the others bring their numbers along."""
ONE_A_KEY = "and _id not in (select _id from repeated where place > 1)"
"""Of the staged rows `s` without reasons, the one of each key that counts."""


def stage_table(
    load: Load, connection: duckdb.DuckDBPyConnection, name: str, table: Table, mapping: TableMapping
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
               content is distinct from first_value(content) over {newest_first} as differs,
               place > 1 and _version is not distinct from lag(_version) over {newest_first} as is_copy
        from (select _id, _row, _version, {key}, {content} as content from staged
              where _reasons is null and {key} in (select k from many))""")
    read, rejected, set_aside, newest_us = one_row(
        connection,
        """
        select count(*), count(_reasons), coalesce(sum(len(_set_aside)) filter (_reasons is null), 0),
               epoch_us(max(known_at) filter (_reasons is null))
        from staged""",
    )
    (duplicate,) = one_row(connection, "select count(*) from repeated where place > 1")
    everything = read
    if mapping.split is None and (mapping.is_selective or name != load.source.primary):
        (everything,) = one_row(connection, "select count(*) from raw")
    return replace(
        load.ledger(name, list(load.source.tables).index(name)),
        rows_read=read,
        rejected=rejected,
        duplicate=duplicate,
        left_out=everything - read,
        values_set_aside=int(set_aside),
        newest_known_at=_instant(newest_us),
    )


def _stage(load: Load, connection: duckdb.DuckDBPyConnection, name: str, table: Table, mapping: TableMapping) -> None:
    """Make `staged` with `_id` (one per row) and `_row` (row of the file); all readers at once where it can be done."""
    is_primary = name == load.source.primary
    offered = "raw" if is_primary else "(select * from raw anti join rejected_rows using (_row))"

    def stage(offered: str) -> None:
        received = [name for name, *_ in connection.execute("describe raw").fetchall()]
        typed = typed_query(load.source, name, table, mapping, load.code_lists, offered, received, _told(load))
        typed = protected_query(load, typed, name, table, mapping)
        connection.execute(
            f"create or replace temp table staged_rows as select *, {_year(table, mapping)} as yr from ({typed})"
        )

    unnumbered = is_primary and mapping.split is None and not mapping.is_selective and not _reads_row_numbers(mapping)
    if unnumbered and _exists(connection, UNNUMBERED):
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
    if load.file.format in DELIMITED or not _staged_at_once(lambda: stage(offered)):
        (threads,) = one_row(connection, "select current_setting('threads')")
        connection.execute("set threads=1")  # numbering rows keeps one of them busy; the others would only spin
        stage(offered)
        connection.execute(f"set threads={threads}")
    connection.execute("create or replace temp view staged as select rowid + 1 as _id, * from staged_rows")


def _staged_at_once(stage: Callable[[], None]) -> bool:
    """Whether all processors could stage at once; several of them need more memory."""
    try:
        stage()
    except duckdb.OutOfMemoryException:
        return False
    return True


def _told(load: Load) -> dict[str, str]:
    """The pseudo columns that are one text for the whole file."""
    received = min(load.file.received_at, load.loaded_at)
    return {FILE: load.file.name, RECEIVED: received.strftime("%Y-%m-%d %H:%M:%S+00:00")}


def _reads_row_numbers(mapping: TableMapping) -> bool:
    specs = [*mapping.columns.values(), *([mapping.version] if mapping.version else [])]
    return any(ROW in spec.sources for spec in specs)


def _exists(connection: duckdb.DuckDBPyConnection, view: str) -> bool:
    return bool(one_row(connection, f"select count(*) from duckdb_views() where view_name = {literal(view)}")[0])


def _year(table: Table, mapping: TableMapping) -> str:
    if table.clock not in mapping.columns:
        return "'0000'"
    clock = quoted(table.clock)
    utc = f"make_timestamp(epoch_us({clock}))" if table.column(table.clock).type == "ts" else clock
    return f"coalesce(lpad(year({utc})::varchar, 4, '0'), '0000')"


def filled_columns(table: Table, mapping: TableMapping) -> list[str]:
    """Canonical columns this mapping fills; a key that is built from others is one of them."""
    built = [] if table.key in mapping.columns else [table.key]
    return [*built, *mapping.columns]


def _content(table: Table, mapping: TableMapping) -> str:
    return ", ".join(quoted(column) for column in filled_columns(table, mapping) if column != "known_at")


def _instant(microseconds: int | None) -> dt.datetime | None:
    return None if microseconds is None else EPOCH + dt.timedelta(microseconds=microseconds)


def one_row(connection: duckdb.DuckDBPyConnection, query: str) -> tuple[Any, ...]:
    """The first row a query gives."""
    row = connection.execute(query).fetchone()
    assert row is not None
    return row
