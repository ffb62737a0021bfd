"""JSON objects, one a line or in a list: one raw row each, one text column per key."""

from __future__ import annotations

from pathlib import Path

import duckdb

from aftersales.collect.connectors.files.delimited import BUFFERS
from aftersales.collect.connectors.files.encodings import UNDECODABLE, utf8_copy
from aftersales.collect.connectors.files.names import unique_names
from aftersales.collect.connectors.files.received import ReceivedFile
from aftersales.collect.mapping import Source
from aftersales.lake.engine import literal, path_literal, quoted


def load_json_lines(
    connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source, scratch: Path
) -> list[str]:
    """One row a line: event logs of devices and web hooks, exports of document stores."""
    scan = (
        f"read_csv({path_literal(utf8_copy(file, source, scratch))}, columns={{'line': 'VARCHAR'}}, "
        f"auto_detect=false, header=false, delim={literal(chr(1))}, quote='', escape='', strict_mode=false, {BUFFERS}, "
        "parallel=false)"
    )
    connection.execute(
        f"create or replace table lines as select row_number() over () as _row, line from {scan} "
        "where trim(line, ' \t\r') <> ''"
    )
    return _spread_objects(connection)


def load_json_array(
    connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source, scratch: Path
) -> list[str]:
    """One row an object of the list."""
    path = path_literal(utf8_copy(file, source, scratch))
    scan = f"read_json_objects({path}, format='auto', maximum_object_size=268435456)"
    connection.execute(
        f"create or replace table lines as select row_number() over () as _row, json::varchar as line from {scan}"
    )
    return _spread_objects(connection)


def _spread_objects(connection: duckdb.DuckDBPyConnection) -> list[str]:
    """One text column per key; a line that is no JSON object keeps its text in `_line` and is marked."""
    is_object = "case when json_valid(line) then json_type(line) = 'OBJECT' else false end"
    connection.execute(f"create or replace view objects as select *, {is_object} as is_object from lines")
    keys = [
        key
        for (key,) in connection.execute(
            "select distinct unnest(json_keys(line)) as k from objects where is_object order by k"
        ).fetchall()
    ]
    names = unique_names(keys)
    pointers = ", ".join(literal("/" + key.replace("~", "~0").replace("/", "~1")) for key in keys)
    fields = "".join(f", v[{i}] as {quoted(name)}" for i, name in enumerate(names, start=1))
    mark = literal(UNDECODABLE)
    connection.execute(f"""
        create or replace table raw as
        select _row, case when is_object then null when contains(line, {mark}) then 'row:undecodable'
                          else 'row:not_json' end as _bad{fields},
               case when not is_object then replace(line, {mark}, '') end as _line
        from (select *, case when is_object then json_extract_string(line, [{pointers}]::varchar[]) end as v
              from objects)""")
    return names
