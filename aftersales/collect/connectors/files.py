"""Files as received -> one raw table of text. Nothing is renamed, typed or dropped here.

The raw table has the file's own columns (all text), `_row` (1, 2, ... in the order of the file) and `_bad`
(a reason when the line itself is broken, else null). A repeated header `category` becomes `category`, `category#2`.
"""

from __future__ import annotations

import codecs
import csv
import datetime as dt
import gzip
import hashlib
import io
import itertools
import json
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, cast

import duckdb
import pyarrow as pa

from aftersales.collect.mapping import FORMATS, Source
from aftersales.lake.engine import literal, quoted
from aftersales.model.errors import SourceError

SURPLUS = 8
"""Surplus fields of a ragged line that are kept, in `_surplus_1`..."""

CHUNK = 1 << 22
SAMPLE = 1 << 20
XLSX_BATCH = 20_000
BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
TEXT_FORMATS = ("csv", "tsv", "jsonl")


@dataclass(frozen=True)
class ReceivedFile:
    """One file as it was delivered."""

    path: Path
    name: str
    format: str
    sha256: str
    bytes: int
    encoding: str
    quotes_balance: bool
    ends_with_newline: bool


def matching_files(source: Source, root: Path) -> list[Path]:
    """Files of the source, sorted by name.

    Raises
    ------
    SourceError
        No file matches.
    """
    pattern = source.files
    base = Path(pattern)
    if base.is_absolute():
        found = sorted(Path(base.anchor).glob(str(base.relative_to(base.anchor))))
    else:
        found = sorted(root.glob(pattern))
    files = [path for path in found if path.is_file()]
    if not files:
        raise SourceError(f"source {source.name}", f"no file matches {pattern}", rows=f"looked in {root.name}/",
                          fix="put the export there, or mend 'files' in the source's YAML")
    return files


def format_of(path: Path, source: Source) -> str:
    """The declared format, else the one its ending says.

    Raises
    ------
    SourceError
        Nothing is declared and the ending is not known.
    """
    if source.format:
        return source.format
    ending = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
    name = ending.removeprefix(".").lower()
    name = {"ndjson": "jsonl", "txt": "csv", "xlsm": "xlsx", "xls": "xlsx", "pq": "parquet"}.get(name, name)
    if name not in FORMATS:
        raise SourceError(path.name, f"cannot tell the format from the ending '{ending}'",
                          fix=f"add 'format' to the source's YAML: {', '.join(FORMATS)}")
    return name


def receive(path: Path, source: Source) -> ReceivedFile:
    """Read the file once: fingerprint, encoding, signs of a half-written file.

    Raises
    ------
    SourceError
        Not readable, cut off inside its compression, or not in its declared encoding.
    """
    kind = format_of(path, source)
    digest, size = hashlib.sha256(), 0
    try:
        with path.open("rb") as stream:
            while block := stream.read(CHUNK):
                digest.update(block)
                size += len(block)
        if size == 0:
            raise SourceError(path.name, "the file is empty", fix="ask for the export again; nothing was changed")
        encoding, quotes, newline = "utf-8", True, True
        if kind in TEXT_FORMATS or kind == "json":
            encoding = source.encoding or _detected_encoding(path)
            quotes, newline = _check_text(path, encoding, declared=bool(source.encoding))
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(path.name, f"the compressed file is cut off or damaged ({error})",
                          rows="none of its rows was loaded", fix="copy the file again, then repeat the ingest") from error
    except OSError as error:
        raise SourceError(path.name, f"cannot be read: {error.strerror or error}", fix="check the file's rights") from error
    return ReceivedFile(path, path.name, kind, digest.hexdigest(), size, encoding, quotes, newline)


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix == ".gz" else path.open("rb")


def _blocks(path: Path) -> Iterator[bytes]:
    with _open(path) as stream:
        while block := stream.read(CHUNK):
            yield block


def _detected_encoding(path: Path) -> str:
    """UTF-8 when the file is valid UTF-8, else the best guess from its first megabyte."""
    with _open(path) as stream:
        sample = stream.read(SAMPLE)
    for mark, name in BOMS:
        if sample.startswith(mark):
            return name
    try:
        decoder = codecs.getincrementaldecoder("utf-8")()
        for block in _blocks(path):
            decoder.decode(block)
        return "utf-8"
    except UnicodeDecodeError:
        return _guessed_encoding(sample, path)


def _guessed_encoding(sample: bytes, path: Path) -> str:
    import charset_normalizer

    best = charset_normalizer.from_bytes(sample[:200_000], cp_isolation=["gb18030", "big5", "cp949", "cp932", "cp1252"])
    guess = best.best()
    if guess is None:
        raise SourceError(path.name, "is not UTF-8, and its encoding could not be told",
                          fix="add 'encoding' to the source's YAML, e.g. gb18030, big5, cp949, cp1252")
    return str(guess.encoding)


def _check_text(path: Path, encoding: str, *, declared: bool) -> tuple[bool, bool]:
    """Whether quotes balance and the last line ends; every byte has to decode."""
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError:
        raise SourceError(path.name, f"no encoding '{encoding}'", fix="use a name such as utf-8, gb18030, cp949") from None
    quotes, lines, last = 0, 0, "\n"
    try:
        for block in itertools.chain(_blocks(path), [b""]):
            text = decoder.decode(block, final=not block)
            quotes += text.count('"')
            lines += text.count("\n")
            last = text[-1:] or last
    except UnicodeDecodeError as error:
        said = "declared" if declared else "detected"
        raise SourceError(path.name, f"is not {encoding} as {said}: {error.reason} after line {lines + 1:,}",
                          rows=f"byte {error.object[error.start:error.start + 4].hex(' ')}",
                          fix="mend 'encoding' in the source's YAML (gb18030 reads most Chinese exports)") from error
    return quotes % 2 == 0, last in "\r\n"


def load_raw(connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source, scratch: Path) -> list[str]:
    """Make the table `raw` in `connection`; returns the file's own columns.

    Raises
    ------
    SourceError
        The file cannot be parsed at all, or has no header.
    """
    reader = {"csv": _load_delimited, "tsv": _load_delimited, "jsonl": _load_json_lines, "json": _load_json_array,
              "xlsx": _load_sheet, "parquet": _load_parquet}[file.format]
    try:
        return reader(connection, file, source, scratch)
    except duckdb.Error as error:
        raise SourceError(file.name, f"cannot be read as {file.format}: {str(error).splitlines()[0][:200]}",
                          rows="none of its rows was loaded",
                          fix="check 'format', 'delimiter' and 'encoding' in the source's YAML") from error


def unique_names(header: Iterable[Any]) -> list[str]:
    """Header names without blanks around them; a repeated one gets `#2`, an empty one its position.

    Examples
    --------
    >>> unique_names(["a", "category ", "", "category"])
    ['a', 'category', 'column_3', 'category#2']
    """
    seen: dict[str, int] = {}
    names = []
    for position, cell in enumerate(header, start=1):
        name = str(cell if cell is not None else "").strip().lstrip("\ufeff") or f"column_{position}"
        seen[name] = seen.get(name, 0) + 1
        names.append(name if seen[name] == 1 else f"{name}#{seen[name]}")
    return names


def _as_utf8(file: ReceivedFile, scratch: Path) -> Path:
    """The file itself when DuckDB reads it, else a decoded copy in `scratch`."""
    if file.encoding.lower().replace("_", "-") in ("utf-8", "utf8", "utf-8-sig", "ascii"):
        return file.path
    copy = scratch / f"{file.sha256[:16]}.txt"
    with copy.open("w", encoding="utf-8", newline="") as target:
        decoder = codecs.getincrementaldecoder(file.encoding)()
        for block in itertools.chain(_blocks(file.path), [b""]):
            target.write(decoder.decode(block, final=not block))
    return copy


def _load_delimited(connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source,
                    scratch: Path) -> list[str]:
    delimiter = source.delimiter or ("\t" if file.format == "tsv" else ",")
    path = _as_utf8(file, scratch)
    with _open(path) as stream:
        lines = io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")
        header = next(csv.reader(lines, delimiter=delimiter), None)
    if not header or len(header) < 2 and not source.delimiter:
        raise SourceError(file.name, f"the first line has {len(header or [])} column when split at {delimiter!r}",
                          fix="give 'delimiter' in the source's YAML, e.g. \";\"")
    names = unique_names(header)
    surplus = [f"_surplus_{i}" for i in range(1, SURPLUS + 1)]
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in [*names, *surplus])
    options = (f"columns={{{columns}}}, auto_detect=false, header=true, delim={literal(delimiter)}, quote='\"', "
               "escape='\"', null_padding=true, strict_mode=false, max_line_size=16777216")
    bad = "case when _surplus_1 is not null then 'row:too_many_fields' end"
    query = (f"create or replace temp table raw as select row_number() over () as _row, {bad} as _bad, * "
             f"from read_csv({literal(str(path))}, {options}, parallel=")
    try:
        connection.execute(query + "true)")
    except duckdb.Error as error:
        if "null_padding" not in str(error):
            raise
        connection.execute(query + "false)")  # line breaks inside quotes: one reader at a time
    _mark_cut_off(connection, file, names)
    return names


def _mark_cut_off(connection: duckdb.DuckDBPyConnection, file: ReceivedFile, names: list[str]) -> None:
    """The last row of a half-written file is kept, marked as broken."""
    last = "_row = (select max(_row) from raw)"
    if not file.quotes_balance:
        fields = " || ".join(f"coalesce({quoted(name)}, '')" for name in names)
        connection.execute(f"update raw set _bad = 'row:unterminated_quote' where {last} and contains({fields}, chr(10))")
    if not file.ends_with_newline and len(names) > 1:
        connection.execute(f"update raw set _bad = 'row:cut_off' where {last} and _bad is null "
                           f"and {quoted(names[-1])} is null")


def _load_json_lines(connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source,
                     scratch: Path) -> list[str]:
    path = _as_utf8(file, scratch)
    scan = (f"read_csv({literal(str(path))}, columns={{'line': 'VARCHAR'}}, auto_detect=false, header=false, "
            "delim=chr(1), quote='', escape='', strict_mode=false, max_line_size=16777216)").replace(
                "chr(1)", literal("\x01"))
    connection.execute(f"create or replace temp table lines as select row_number() over () as _row, line from {scan}")
    return _spread_objects(connection, "lines", "line")


def _load_json_array(connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source,
                     scratch: Path) -> list[str]:
    path = _as_utf8(file, scratch)
    scan = f"read_json_objects({literal(str(path))}, format='auto', maximum_object_size=268435456)"
    connection.execute(f"create or replace temp table lines as select row_number() over () as _row, json as line from {scan}")
    return _spread_objects(connection, "lines", "line")


def _spread_objects(connection: duckdb.DuckDBPyConnection, table: str, column: str) -> list[str]:
    """One text column per key; a line that is no JSON object keeps its text in `_line` and is marked."""
    is_object = f"(json_valid({column}) and json_type({column}) = 'OBJECT')"
    keys = connection.execute(
        f"select distinct unnest(json_keys({column}::json)) as k from {table} where {is_object} order by k").fetchall()
    names = [key for (key,) in keys]
    shape = json.dumps({name: "VARCHAR" for name in names}, ensure_ascii=False)
    fields = ", ".join(f"o.{quoted(name)} as {quoted(name)}" for name in names)
    connection.execute(f"""
        create or replace temp table raw as
        select _row, case when not coalesce({is_object}, false) then 'row:not_json' end as _bad
               {", " + fields if fields else ""}, case when not coalesce({is_object}, false) then {column} end as _line
        from (select *, case when {is_object} then from_json({column}::json, {literal(shape)}) end as o from {table})
        where trim(coalesce({column}, '')) <> ''""")
    connection.execute(f"drop table {table}")
    return names


def _load_parquet(connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source,
                  scratch: Path) -> list[str]:
    scan = f"read_parquet({literal(str(file.path))})"
    described = connection.execute(f"describe select * from {scan}").fetchall()
    fields = ", ".join(f"{_parquet_text(name, kind)} as {quoted(name)}" for name, kind, *_ in described)
    connection.execute(f"create or replace temp table raw as "
                       f"select row_number() over () as _row, null::varchar as _bad, {fields} from {scan}")
    return [row[0] for row in described]


def _parquet_text(name: str, kind: str) -> str:
    if "[]" in kind or kind.startswith(("STRUCT", "MAP")):
        return f"to_json({quoted(name)})::varchar"
    return f"{quoted(name)}::varchar"


def _load_sheet(connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source, scratch: Path) -> list[str]:
    import python_calamine

    try:
        book = python_calamine.CalamineWorkbook.from_path(str(file.path))
        sheets = book.sheet_names
        if source.sheet and source.sheet not in sheets:
            raise SourceError(file.name, f"no sheet '{source.sheet}'", rows=f"sheets: {', '.join(sheets)}",
                              fix="mend 'sheet' in the source's YAML")
        rows = book.get_sheet_by_name(source.sheet or sheets[0]).to_python(skip_empty_area=True)
    except python_calamine.CalamineError as error:
        raise SourceError(file.name, f"cannot be read as xlsx: {error}", rows="none of its rows was loaded",
                          fix="open the file in a spreadsheet program and save it again") from error
    if not rows:
        raise SourceError(file.name, "the sheet is empty", fix="check 'sheet' in the source's YAML")
    names = unique_names(rows[0])
    fields = ", ".join(f"{quoted(name)} varchar" for name in names)
    connection.execute(f"create or replace temp table raw (_row bigint, _bad varchar, {fields})")
    for start in range(1, len(rows), XLSX_BATCH):
        batch = _text_batch(rows[start:start + XLSX_BATCH], names, start)  # noqa: F841 - read by DuckDB
        connection.execute("insert into raw select * from batch")
    return names


def _text_batch(rows: list[list[Any]], names: list[str], first: int) -> pa.Table:
    columns: dict[str, pa.Array] = {"_row": pa.array(range(first, first + len(rows)), pa.int64()),
                                    "_bad": pa.nulls(len(rows), pa.string())}
    for position, name in enumerate(names):
        columns[name] = pa.array([_cell_text(row[position]) for row in rows], pa.string())
    return pa.table(columns)


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
