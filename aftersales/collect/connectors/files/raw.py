"""One examined file -> the table or view `raw`, by format."""

from __future__ import annotations

from pathlib import Path

import duckdb

from aftersales.collect.connectors.files.delimited import load_delimited
from aftersales.collect.connectors.files.names import unique_names
from aftersales.collect.connectors.files.objects import load_json_array, load_json_lines
from aftersales.collect.connectors.files.received import ReceivedFile
from aftersales.collect.connectors.files.transcripts import load_transcripts
from aftersales.collect.mapping import Source
from aftersales.lake.engine import path_literal, quoted
from aftersales.model.errors import SourceError


def load_raw(connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source, scratch: Path) -> list[str]:
    """Make `raw` in `connection`; returns the file's own columns.

    Raises
    ------
    SourceError
        The file cannot be parsed at all, or has no header.
    """
    reader = {
        "csv": load_delimited,
        "tsv": load_delimited,
        "jsonl": load_json_lines,
        "json": load_json_array,
        "xlsx": _load_workbook,
        "parquet": _load_parquet,
        "transcript": load_transcripts,
    }[file.format]
    try:
        return reader(connection, file, source, scratch)
    except duckdb.Error as error:
        raise SourceError(
            file.name,
            f"cannot be read as {file.format}: {str(error).splitlines()[0][:200]}",
            rows="none of its rows was loaded",
            fix="check 'format', 'delimiter' and 'encoding' in the source's YAML",
        ) from error


def _load_workbook(
    connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source, scratch: Path
) -> list[str]:
    from aftersales.collect.connectors.files.sheets import load_sheets  # few loads need its reader

    return load_sheets(connection, file, source, scratch)


def _load_parquet(
    connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source, scratch: Path
) -> list[str]:
    path = path_literal(file.on_disk(scratch))
    described = connection.execute(f"describe select * from read_parquet({path})").fetchall()
    names = unique_names(row[0] for row in described)
    fields = "".join(
        f", {_parquet_text(column, kind)} as {quoted(name)}"
        for name, (column, kind, *_) in zip(names, described, strict=True)
    )
    connection.execute(
        f"create or replace view raw as select file_row_number + 1 as _row, null::varchar as _bad{fields} "
        f"from read_parquet({path}, file_row_number=true)"
    )
    return names


def _parquet_text(name: str, kind: str) -> str:
    """Text of one value: lists as JSON, 12.0 as 12, not-a-number as nothing."""
    column = quoted(name)
    if kind.endswith("]") or kind.startswith(("STRUCT", "MAP")):
        return f"to_json({column})::varchar"
    if kind in ("DOUBLE", "FLOAT"):
        whole = f"{column} = trunc({column}) and abs({column}) < 1e15"
        return f"case when {whole} then {column}::bigint::varchar when isfinite({column}) then {column}::varchar end"
    return f"{column}::varchar"
