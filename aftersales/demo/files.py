"""Files whose bytes depend on their content only: no clock, no file name, no library version inside."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import io
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import xlsxwriter

CREATED = dt.datetime(2025, 12, 31)  # creation date inside workbooks


@contextmanager
def text_file(path: Path, *, encoding: str = "utf-8") -> Iterator[IO[str]]:
    """An open text file; compressed without name and time when the path ends with .gz."""
    if path.suffix != ".gz":
        with path.open("w", encoding=encoding, newline="") as file:
            yield file
        return
    with (
        path.open("wb") as raw,
        gzip.GzipFile("", "wb", compresslevel=4, fileobj=raw, mtime=0) as packed,
        io.TextIOWrapper(packed, encoding=encoding, newline="") as file,
    ):
        yield file


def write_csv(
    table: pd.DataFrame, path: Path, *, encoding: str = "utf-8", separator: str = ",", line: str = "\n"
) -> None:
    """The table as text with a header line; cells with separators, quotes or line breaks are quoted."""
    with text_file(path, encoding=encoding) as file:
        table.to_csv(file, index=False, sep=separator, lineterminator=line)


def write_ragged_tsv(table: pd.DataFrame, surplus: np.ndarray, path: Path) -> None:
    """The table tab-separated with BOM; `surplus` cells are missing (negative) or too many (positive) per row."""
    with text_file(path, encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\r\n")
        writer.writerow(table.columns)
        for cells, extra in zip(table.itertuples(index=False, name=None), surplus, strict=True):
            writer.writerow(cells[:extra] if extra < 0 else (*cells, *["?"] * extra))


def _plain(cell: object) -> object:
    return cell.item() if isinstance(cell, np.generic) else cell


def _json_rows(table: pd.DataFrame) -> Iterator[dict[str, object]]:
    names = list(table.columns)
    for cells in table.itertuples(index=False, name=None):
        yield {name: _plain(cell) for name, cell in zip(names, cells, strict=True)}


def write_json_lines(table: pd.DataFrame, path: Path, *, sparse_one_in: int) -> int:
    """How many lines lack keys: one in `sparse_one_in` ids (first column) is written without its empty values."""
    lacking = 0
    with text_file(path) as file:
        for row in _json_rows(table):
            if zlib.crc32(str(row[table.columns[0]]).encode()) % sparse_one_in == 0:
                row = {name: cell for name, cell in row.items() if cell is not None and cell != ""}
                lacking += len(row) < len(table.columns)
            file.write(json.dumps(row, ensure_ascii=False) + "\n")
    return lacking


def write_json_array(table: pd.DataFrame, path: Path) -> None:
    """One JSON array with an object per row."""
    with text_file(path) as file:
        file.write("[\n")
        for number, row in enumerate(_json_rows(table)):
            file.write(("" if number == 0 else ",\n") + json.dumps(row, ensure_ascii=False))
        file.write("\n]\n")


def write_xlsx(table: pd.DataFrame, path: Path, *, sheet: str) -> None:
    """The table on one sheet, header on line 1, moments as spreadsheet dates."""
    options = {"constant_memory": True, "strings_to_urls": False, "strings_to_formulas": False}
    book = xlsxwriter.Workbook(str(path), {**options, "default_date_format": "yyyy-mm-dd hh:mm:ss"})
    book.set_properties({"created": CREATED, "author": "demo"})
    page = book.add_worksheet(sheet)
    page.write_row(0, 0, list(table.columns))
    for number, cells in enumerate(table.itertuples(index=False, name=None), start=1):
        for column, cell in enumerate(cells):
            if not pd.isna(cell) and cell != "":
                page.write(number, column, cell)
    book.close()


def write_parquet(table: pd.DataFrame, path: Path) -> None:
    """The table with typed columns; no index and no library metadata."""
    arrow = pa.Table.from_pandas(table, preserve_index=False).replace_schema_metadata(None)
    pq.write_table(arrow, path, compression="zstd")
