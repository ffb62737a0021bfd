"""Workbooks: one sheet, several or all of them, with titles above the header, as rows of text."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import python_calamine

from aftersales.collect.connectors.files.headers import SEARCHED, header_place, no_header
from aftersales.collect.connectors.files.names import plain_name, unique_names
from aftersales.collect.connectors.files.received import ReceivedFile
from aftersales.collect.mapping import ALL, Source
from aftersales.lake.engine import quoted
from aftersales.model.errors import SourceError

XLSX_BATCH = 20_000


@dataclass(frozen=True)
class _Sheet:
    name: str
    columns: list[str]
    header: list[str]
    rows: list[list[Any]]


def load_sheets(connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source, scratch: Path) -> list[str]:
    """The rows of the wanted sheets, one sheet after the other; a column that a sheet lacks is null in its rows."""
    try:
        book = python_calamine.CalamineWorkbook.from_path(str(file.on_disk(scratch)))
        wanted = _wanted(book.sheet_names, file, source)
        read = [_sheet(book, name, file, source) for name in wanted]
    except python_calamine.CalamineError as error:
        raise SourceError(
            file.name,
            f"cannot be read as xlsx: {error}",
            rows="none of its rows was loaded",
            fix="open the file in a spreadsheet program and save it again",
        ) from error
    sheets = [sheet for sheet in read if sheet]
    if not sheets:
        raise SourceError(
            file.name,
            "the sheet is empty" if len(wanted) == 1 else "every sheet is empty",
            rows=f"sheets: {', '.join(book.sheet_names)}",
            fix="check 'sheet' in the source's YAML",
        )
    columns = list(dict.fromkeys(column for sheet in sheets for column in sheet.columns))
    names = unique_names(columns)  # two sheets may differ in the case of a name
    fields = ", ".join(f"{quoted(name)} varchar" for name in names)
    connection.execute(f"create or replace table raw (_row bigint, _bad varchar, _sheet varchar, {fields})")
    first = 1
    for sheet in sheets:
        for start in range(0, len(sheet.rows), XLSX_BATCH):
            rows = sheet.rows[start : start + XLSX_BATCH]
            batch = _text_batch(sheet, rows, dict(zip(names, columns, strict=True)), first)  # noqa: F841 - read by DuckDB
            connection.execute("insert into raw select * from batch")
            first += len(rows)
    return names


def _wanted(names: list[str], file: ReceivedFile, source: Source) -> list[str]:
    wanted = [source.sheet] if source.sheet else names[:1] if source.sheets is None else source.sheets
    if wanted == ALL:
        return names
    missing = [f"'{name}'" for name in wanted if name not in names]
    if missing:
        raise SourceError(
            file.name,
            f"no sheet {', '.join(missing)}",
            rows=f"sheets: {', '.join(names)}",
            fix=f"mend '{'sheet' if source.sheet else 'sheets'}' in the source's YAML",
        )
    return list(wanted)


def _sheet(book: python_calamine.CalamineWorkbook, name: str, file: ReceivedFile, source: Source) -> _Sheet | None:
    """The sheet below its header, without blank rows; nothing where it is empty."""
    sheet = book.get_sheet_by_name(name)
    if sheet.start is None:
        return None
    rows = sheet.to_python(skip_empty_area=True)
    above = sheet.start[0] if isinstance(source.header_row, int) else 0  # a person counts the empty rows, too
    place = header_place(source, rows[:SEARCHED]) - above
    if not 0 <= place < len(rows):
        raise no_header(f"{file.name}, sheet {name}", source)
    header = [plain_name(_cell_text(cell)) for cell in rows[place]]
    filled = [row for row in rows[place + 1 :] if any(cell not in ("", None) for cell in row)]
    return _Sheet(name, unique_names(header), header, filled)


def _text_batch(sheet: _Sheet, rows: list[list[Any]], columns: dict[str, str], first: int) -> pa.Table:
    texts = {column: [_cell_text(row[position]) for row in rows] for position, column in enumerate(sheet.columns)}
    repeated = [_is_header(sheet.header, row) for row in rows]
    return pa.table(
        {
            "_row": pa.array(range(first, first + len(rows)), pa.int64()),
            "_bad": pa.array(["row:repeated_header" if again else None for again in repeated], pa.string()),
            "_sheet": pa.array([sheet.name] * len(rows), pa.string()),
            **{name: pa.array(texts.get(column, [None] * len(rows)), pa.string()) for name, column in columns.items()},
        }
    )


def _is_header(header: list[str], row: list[Any]) -> bool:
    titled = [place for place, title in enumerate(header) if title]
    return len(titled) > 1 and all(plain_name(row[place]) == header[place] for place in titled)


def _cell_text(cell: Any) -> str | None:
    """A spreadsheet cell as the text a person reads: 12.0 is 12, dates are ISO."""
    if cell is None or cell == "":
        return None
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, float) and cell.is_integer() and abs(cell) < 1e15:
        return str(int(cell))
    if isinstance(cell, dt.datetime | dt.date | dt.time):
        return cell.isoformat(sep=" ") if isinstance(cell, dt.datetime) else cell.isoformat()
    return str(cell)
