"""CSV and TSV: ragged, half-written, concatenated, with titles above the header."""

from __future__ import annotations

import collections
import csv
import gzip
import io
import itertools
from collections.abc import Iterable
from pathlib import Path
from typing import IO, cast

import duckdb

from aftersales.collect.connectors.files.encodings import UNDECODABLE, utf8_copy
from aftersales.collect.connectors.files.headers import delimited_header
from aftersales.collect.connectors.files.names import SURPLUS, plain_name, unique_names
from aftersales.collect.connectors.files.received import ReceivedFile, empty
from aftersales.collect.mapping import Source
from aftersales.lake.engine import literal, path_literal, quoted
from aftersales.model.errors import SourceError

BUFFERS = f"max_line_size={8 << 20}, buffer_size={16 << 20}"
"""The longest line a text file may have, 8 MB. Unless told otherwise, DuckDB takes sixteen lines for one buffer."""

ABSENT = "\x02absent\x02"
"""Stands for "no field" in the CSV reader, so that a short row (null) differs from an empty field ('')."""

UNNUMBERED = "raw_unnumbered"
"""A second view of a CSV without row numbers (`_row` is null): several readers work on it at once, and rows keep the
order of the file. It exists where the file allows it; line breaks inside quotes make it fail with "null_padding"."""


def load_delimited(
    connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source, scratch: Path
) -> list[str]:
    """Views: reading the file again costs less than keeping a copy of it."""
    delimiter = source.delimiter or ("\t" if file.format == "tsv" else ",")
    path = utf8_copy(file, source, scratch)
    with _open(path) as stream:
        cells, skipped = delimited_header(stream, source, delimiter, file.name)
    header = [cell.replace(UNDECODABLE, "") for cell in cells]
    if not header:
        raise empty(file.name)
    if len(header) < 2 and not source.delimiter:
        raise SourceError(
            file.name,
            f"the first line has one column when split at {delimiter!r}",
            rows="none of its rows was loaded",
            fix="give 'delimiter' in the source's YAML, e.g. \";\", or 'header_row' where titles stand above",
        )
    names = unique_names(header)
    surplus = [f"_surplus_{i}" for i in range(1, SURPLUS + 1)]
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in [*names, *surplus])
    scan = (
        f"read_csv({path_literal(path)}, columns={{{columns}}}, auto_detect=false, header=true, skip={skipped}, "
        f"delim={literal(delimiter)}, quote='\"', escape='\"', nullstr={literal(ABSENT)}, null_padding=true, "
        f"strict_mode=false, {BUFFERS}, parallel="
    )
    broken = _broken_end(connection, file, path, delimiter, f"{scan}false)", names)
    bad = f"case {broken} {_undecodable(file, [*names, *surplus])} {_broken_line(header, names, surplus)} end as _bad"
    fields = f"* replace ({_unmarked([*names, *surplus])})" if file.undecodable else "*"
    connection.execute(
        f"create or replace view raw as "
        f"select {bad}, {fields} from (select row_number() over () as _row, * from {scan}false))"
    )
    if not broken:
        connection.execute(
            f"create or replace view {UNNUMBERED} as select {bad}, null::bigint as _row, {fields} from {scan}true)"
        )
    return names


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb")


def _lines(stream: IO[bytes]) -> Iterable[str]:
    return io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")


def _undecodable(file: ReceivedFile, columns: list[str]) -> str:
    """`when ... then ...` for rows with a line that no declared encoding reads."""
    if not file.undecodable:
        return ""
    fields = ", ".join(map(quoted, columns))
    return f"when contains(concat({fields}), {literal(UNDECODABLE)}) then 'row:undecodable'"


def _unmarked(columns: list[str]) -> str:
    names = map(quoted, columns)
    return ", ".join(f"replace({name}, {literal(UNDECODABLE)}, '') as {name}" for name in names)


def _broken_line(header: list[str], names: list[str], surplus: list[str]) -> str:
    """`when ... then ...` for a header that stands in the file again, and for lines with too many fields."""
    too_many = f"_surplus_1 is not null and concat({', '.join(surplus)}) <> ''"  # a comma at the end is none too many
    titled = [(name, cell) for name, cell in zip(names, header, strict=True) if plain_name(cell) and "\0" not in cell]
    if len(titled) < 2:  # one word is as well a value
        return f"when {too_many} then 'row:too_many_fields'"
    (first, cell), *others = titled
    same = [f"{quoted(name)} = {literal(text)}" for name, text in others]
    same.append(f"trimmed({quoted(first)}) = {literal(plain_name(cell))}")  # a file put behind another has its own mark
    return f"when {' and '.join(same)} then 'row:repeated_header' when {too_many} then 'row:too_many_fields'"


def _broken_end(
    connection: duckdb.DuckDBPyConnection, file: ReceivedFile, path: Path, delimiter: str, scan: str, names: list[str]
) -> str:
    """`when ... then ...` for the last row of a half-written file: it is kept, marked as broken."""
    unterminated = not file.quotes_balance and _ends_inside_quotes(path, delimiter)
    if file.ends_with_newline and not unterminated:
        return ""
    count = connection.execute(f"select count(*) from {scan}").fetchone()
    last = f"when _row = {count[0] if count else 0}"
    if unterminated:
        return f"{last} then 'row:unterminated_quote'"
    return f"{last} and {quoted(names[-1])} is null then 'row:cut_off'" if len(names) > 1 else ""


def _ends_inside_quotes(path: Path, delimiter: str) -> bool:
    """Whether a line put behind the end of the file would become part of its last field."""
    csv.field_size_limit(1 << 30)
    with _open(path) as stream:
        records = csv.reader(itertools.chain(_lines(stream), ["\n", ABSENT]), delimiter=delimiter)
        return collections.deque(records, maxlen=1) != collections.deque([[ABSENT]])
