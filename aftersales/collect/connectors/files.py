"""Files as received -> one raw table of text. Nothing is renamed, typed or dropped here.

`raw`, a table or a view on the file, has the file's own columns (all text), `_row` (1, 2, ... in the order of the file)
and `_bad` (a reason when the line itself is broken, else null). A repeated header `category` becomes `category`,
`category#2`; names that differ in case only count as repeated. Blank lines and blank sheet rows are no rows.
"""

from __future__ import annotations

import codecs
import collections
import csv
import datetime as dt
import gzip
import hashlib
import io
import itertools
import struct
import zlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any, cast

import duckdb
import pyarrow as pa

from aftersales.collect.mapping import BLANKS, FORMATS, Source
from aftersales.lake.engine import literal, path_literal, quoted
from aftersales.model.errors import SourceError

SURPLUS = 8
"""Surplus fields of a ragged line that are kept, in `_surplus_1`..."""

CHUNK = 1 << 20
SAMPLE = 100_000
BUFFERS = f"max_line_size={8 << 20}, buffer_size={16 << 20}"
"""The longest line a text file may have, 8 MB. Unless told otherwise, DuckDB takes sixteen lines for one buffer."""

TELLING_LINES = 4
"""Fewer lines than these read as Chinese, Korean or Japanese alike: the encoding has to be declared."""

XLSX_BATCH = 20_000
BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
TEXT_FORMATS = ("csv", "tsv", "jsonl", "json")
RESERVED = ("_row", "_bad", "_line", "_label", "_offered", *(f"_surplus_{i}" for i in range(1, SURPLUS + 1)))
ABSENT = "\x02absent\x02"
"""Stands for "no field" in the CSV reader, so that a short row (null) differs from an empty field ('')."""


@dataclass(frozen=True)
class ReceivedFile:
    """One file as it was delivered; the last three are known after `examine`."""

    path: Path
    name: str
    format: str
    sha256: str
    bytes: int
    changed_ns: int
    encoding: str = "utf-8"
    quotes_balance: bool = True
    ends_with_newline: bool = True


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
        raise SourceError(
            f"source {source.name}",
            f"no file matches {pattern}",
            rows=f"looked in {root.name}/",
            fix="put the export there, or mend 'files' in the source's YAML",
        )
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
        raise SourceError(
            path.name,
            f"cannot tell the format from the ending '{ending}'",
            rows="none of its rows was loaded",
            fix=f"add 'format' to the source's YAML: {', '.join(FORMATS)}",
        )
    return name


def receive(path: Path, source: Source) -> ReceivedFile:
    """Fingerprint and size of the file.

    Raises
    ------
    SourceError
        Empty or not readable.
    """
    kind = format_of(path, source)
    digest, size = hashlib.sha256(), 0
    try:
        changed = path.stat().st_mtime_ns
        with path.open("rb") as stream:
            while block := stream.read(CHUNK):
                digest.update(block)
                size += len(block)
    except OSError as error:
        raise SourceError(
            path.name,
            f"cannot be read: {error.strerror or error}",
            rows="none of its rows was loaded",
            fix="check that the file is there and its rights",
        ) from error
    if size == 0:
        raise _empty(path.name)
    return ReceivedFile(path, path.name, kind, digest.hexdigest(), size, changed)


def _empty(name: str) -> SourceError:
    return SourceError(
        name, "the file is empty", rows="0 bytes of content; nothing was changed", fix="ask for the export again"
    )


def check_unchanged(file: ReceivedFile) -> None:
    """The file is still the one that was fingerprinted.

    Raises
    ------
    SourceError
        Somebody writes to it.
    """
    now = file.path.stat()
    if (now.st_size, now.st_mtime_ns) != (file.bytes, file.changed_ns):
        raise SourceError(
            file.name,
            "changed while it was being read",
            rows=f"{file.bytes:,} bytes, now {now.st_size:,}",
            fix="repeat the ingest when the export has ended",
        )


def examine(file: ReceivedFile, source: Source) -> ReceivedFile:
    """The file with its encoding and the signs of a half-written text; every byte was decoded.

    Raises
    ------
    SourceError
        Cut off inside its compression, not in its declared encoding, or empty once unpacked.
    """
    if file.format not in TEXT_FORMATS:
        return file
    try:
        return _examined(file, source)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(
            file.name,
            f"the compressed file is cut off or damaged ({error})",
            rows="none of its rows was loaded",
            fix="copy the file again, then repeat the ingest",
        ) from error


def _examined(file: ReceivedFile, source: Source) -> ReceivedFile:
    declared = source.encoding or _marked_encoding(file.path)
    encoding = declared or "utf-8"
    try:
        return _decoded(file, encoding)
    except UnicodeDecodeError as error:
        if declared:
            raise _not_in(file, declared, error, "declared" if source.encoding else "its first bytes say") from error
        encoding = _guessed_encoding(file, error)
    try:
        return _decoded(file, encoding)
    except UnicodeDecodeError as error:
        raise _not_in(file, encoding, error, "detected") from error


def _not_in(file: ReceivedFile, encoding: str, error: UnicodeDecodeError, said: str) -> SourceError:
    line = getattr(error, "line", 1)
    return SourceError(
        file.name,
        f"is not {encoding} as {said}: {error.reason} in line {line:,}",
        rows=f"bytes {error.object[error.start : error.start + 4].hex(' ')}; none of its rows was loaded",
        fix="mend 'encoding' in the source's YAML (gb18030 reads most Chinese exports)",
    )


def _open(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb")) if path.suffix.lower() == ".gz" else path.open("rb")


def _blocks(path: Path) -> Iterator[bytes]:
    """The unpacked file in blocks that end with a line where lines are short enough."""
    with _open(path) as stream:
        while block := stream.read(CHUNK):
            yield block + (b"" if block.endswith(b"\n") else stream.readline(CHUNK))


def _marked_encoding(path: Path) -> str | None:
    """What a byte order mark says, or the zero bytes of UTF-16."""
    with _open(path) as stream:
        sample = stream.read(2048)
    zeros = sample.count(0)
    if zeros > len(sample) / 4 and not sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16-le" if sample[1::2].count(0) > sample[::2].count(0) else "utf-16-be"
    return next((name for mark, name in BOMS if sample.startswith(mark)), None)


def _guessed_encoding(file: ReceivedFile, error: UnicodeDecodeError) -> str:
    """The best guess from the lines around the first byte that is no UTF-8, without those that are plain ASCII."""
    import charset_normalizer

    data = error.object
    start = data.rfind(b"\n", 0, max(error.start - SAMPLE, 0)) + 1
    end = data.find(b"\n", error.start + SAMPLE)
    lines = data[start : end if end >= 0 else len(data)].split(b"\n")
    telling = [line for line in lines if not line.isascii()]
    sample = b"\n".join(telling) if len(telling) >= TELLING_LINES else b""
    guess = charset_normalizer.from_bytes(sample, cp_isolation=["gb18030", "big5", "cp949", "cp932", "cp1252"]).best()
    if guess is None or not sample:
        raise SourceError(
            file.name,
            f"is not UTF-8, and its encoding could not be told from {len(telling)} lines",
            rows=f"bytes {data[error.start : error.start + 4].hex(' ')}; none of its rows was loaded",
            fix="add 'encoding' to the source's YAML, e.g. gb18030, big5, cp949, cp1252",
        )
    return str(guess.encoding)


def _decoded(file: ReceivedFile, encoding: str) -> ReceivedFile:
    try:
        decoder = codecs.getincrementaldecoder(encoding)()
    except LookupError:
        raise SourceError(
            file.name,
            f"no encoding '{encoding}'",
            rows="none of its rows was loaded",
            fix="use a name such as utf-8, gb18030, cp949",
        ) from None
    quotes, lines, last = 0, 1, ""
    for block in itertools.chain(_blocks(file.path), [b""]):
        if encoding == "utf-8" and block.endswith(b"\n") and _is_utf8(block) and not decoder.getstate()[0]:
            quotes, lines, last = quotes + block.count(b'"'), lines + block.count(b"\n"), "\n"
            continue
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            error.line = lines + error.object[: error.start].count(b"\n")  # type: ignore[attr-defined]
            raise
        quotes += text.count('"')
        lines += text.count("\n")
        last = text[-1:] or last
    if not last:
        raise _empty(file.name)
    return replace(file, encoding=encoding, quotes_balance=quotes % 2 == 0, ends_with_newline=last in "\r\n")


def _is_utf8(block: bytes) -> bool:
    """Arrow's check: a quarter of the cost of decoding."""
    ends = pa.py_buffer(struct.pack("=ii", 0, len(block)))
    try:
        pa.Array.from_buffers(pa.binary(), 1, [None, ends, pa.py_buffer(block)]).cast(pa.string())
    except pa.ArrowInvalid:
        return False
    return True


UNNUMBERED = "raw_unnumbered"
"""A second view of a CSV without row numbers (`_row` is null): several readers work on it at once, and rows keep the
order of the file. It exists where the file allows it; line breaks inside quotes make it fail with "null_padding"."""


def load_raw(connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source, scratch: Path) -> list[str]:
    """Make `raw` in `connection`; returns the file's own columns.

    Raises
    ------
    SourceError
        The file cannot be parsed at all, or has no header.
    """
    reader = {
        "csv": _load_delimited,
        "tsv": _load_delimited,
        "jsonl": _load_json_lines,
        "json": _load_json_array,
        "xlsx": _load_sheet,
        "parquet": _load_parquet,
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


def unique_names(header: Iterable[Any]) -> list[str]:
    """Header names without blanks around them; a repeated one gets `#2`, an empty one its position.

    Examples
    --------
    >>> unique_names(["a", "category ", "", "category", "A"])
    ['a', 'category', 'column_3', 'category#2', 'A#2']
    """
    taken = set(RESERVED)
    names = []
    for position, cell in enumerate(header, start=1):
        name = str("" if cell is None else cell).replace("\0", "").strip(BLANKS) or f"column_{position}"
        candidates = itertools.chain([name], (f"{name}#{n}" for n in itertools.count(2)))
        names.append(next(candidate for candidate in candidates if _ascii_lower(candidate) not in taken))
        taken.add(_ascii_lower(names[-1]))
    return names


def _ascii_lower(name: str) -> str:
    """`name` as DuckDB compares identifiers."""
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in name)


def _as_utf8(file: ReceivedFile, scratch: Path) -> Path:
    """The file itself when DuckDB reads it, else a decoded copy in `scratch`."""
    if file.encoding.lower().replace("_", "-") in ("utf-8", "utf8", "ascii"):
        return file.path
    if file.encoding == "utf-8-sig" and file.format in ("csv", "tsv"):
        return file.path
    copy = scratch / f"{file.sha256[:16]}.txt"
    with copy.open("w", encoding="utf-8", newline="") as target:
        decoder = codecs.getincrementaldecoder(file.encoding)()
        for block in itertools.chain(_blocks(file.path), [b""]):
            target.write(decoder.decode(block, final=not block))
    return copy


def _load_delimited(
    connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source, scratch: Path
) -> list[str]:
    """Views: reading the file again costs less than keeping a copy of it."""
    delimiter = source.delimiter or ("\t" if file.format == "tsv" else ",")
    path = _as_utf8(file, scratch)
    header, blank_lines = _header(path, delimiter)
    if not header:
        raise _empty(file.name)
    if len(header) < 2 and not source.delimiter:
        raise SourceError(
            file.name,
            f"the first line has one column when split at {delimiter!r}",
            rows="none of its rows was loaded",
            fix="give 'delimiter' in the source's YAML, e.g. \";\"",
        )
    names = unique_names(header)
    surplus = [f"_surplus_{i}" for i in range(1, SURPLUS + 1)]
    columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in [*names, *surplus])
    scan = (
        f"read_csv({path_literal(path)}, columns={{{columns}}}, auto_detect=false, header=true, skip={blank_lines}, "
        f"delim={literal(delimiter)}, quote='\"', escape='\"', nullstr={literal(ABSENT)}, null_padding=true, "
        f"strict_mode=false, {BUFFERS}, parallel="
    )
    broken = _broken_end(connection, file, path, delimiter, f"{scan}false)", names)
    too_many = f"_surplus_1 is not null and concat({', '.join(surplus)}) <> ''"  # a comma at the end is none too many
    bad = f"case {broken} when {too_many} then 'row:too_many_fields' end as _bad"
    connection.execute(
        f"create or replace view raw as select {bad}, * from (select row_number() over () as _row, * from {scan}false))"
    )
    if not broken:
        connection.execute(
            f"create or replace view {UNNUMBERED} as select {bad}, null::bigint as _row, * from {scan}true)"
        )
    return names


def _header(path: Path, delimiter: str) -> tuple[list[str], int]:
    """Cells of the first line that is not blank, and how many blank lines stand before it."""
    with _open(path) as stream:
        for blank_lines, cells in enumerate(csv.reader(_lines(stream), delimiter=delimiter)):
            if cells:
                return cells, blank_lines
    return [], 0


def _lines(stream: IO[bytes]) -> Iterable[str]:
    return io.TextIOWrapper(stream, encoding="utf-8-sig", newline="")


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


def _load_json_lines(
    connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source, scratch: Path
) -> list[str]:
    scan = (
        f"read_csv({path_literal(_as_utf8(file, scratch))}, columns={{'line': 'VARCHAR'}}, auto_detect=false, "
        f"header=false, delim={literal(chr(1))}, quote='', escape='', strict_mode=false, {BUFFERS}, "
        "parallel=false)"
    )
    connection.execute(
        f"create or replace table lines as select row_number() over () as _row, line from {scan} "
        "where trim(line, ' \t\r') <> ''"
    )
    return _spread_objects(connection)


def _load_json_array(
    connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source, scratch: Path
) -> list[str]:
    scan = f"read_json_objects({path_literal(_as_utf8(file, scratch))}, format='auto', maximum_object_size=268435456)"
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
    connection.execute(f"""
        create or replace table raw as
        select _row, case when not is_object then 'row:not_json' end as _bad{fields},
               case when not is_object then line end as _line
        from (select *, case when is_object then json_extract_string(line, [{pointers}]::varchar[]) end as v
              from objects)""")
    return names


def _load_parquet(
    connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source, scratch: Path
) -> list[str]:
    path = path_literal(file.path)
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


def _load_sheet(connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source, scratch: Path) -> list[str]:
    import python_calamine

    try:
        book = python_calamine.CalamineWorkbook.from_path(str(file.path))
        sheets = book.sheet_names
        if source.sheet and source.sheet not in sheets:
            raise SourceError(
                file.name,
                f"no sheet '{source.sheet}'",
                rows=f"sheets: {', '.join(sheets)}",
                fix="mend 'sheet' in the source's YAML",
            )
        rows = book.get_sheet_by_name(source.sheet or sheets[0]).to_python(skip_empty_area=True)
    except python_calamine.CalamineError as error:
        raise SourceError(
            file.name,
            f"cannot be read as xlsx: {error}",
            rows="none of its rows was loaded",
            fix="open the file in a spreadsheet program and save it again",
        ) from error
    if not rows:
        raise SourceError(
            file.name,
            "the sheet is empty",
            rows=f"sheets: {', '.join(sheets)}",
            fix="check 'sheet' in the source's YAML",
        )
    names = unique_names(_cell_text(cell) for cell in rows[0])
    rows = [row for row in rows if any(cell not in ("", None) for cell in row)]
    fields = ", ".join(f"{quoted(name)} varchar" for name in names)
    connection.execute(f"create or replace table raw (_row bigint, _bad varchar, {fields})")
    for start in range(1, len(rows), XLSX_BATCH):
        batch = _text_batch(rows[start : start + XLSX_BATCH], names, start)  # noqa: F841 - read by DuckDB
        connection.execute("insert into raw select * from batch")
    return names


def _text_batch(rows: list[list[Any]], names: list[str], first: int) -> pa.Table:
    columns: dict[str, pa.Array] = {
        "_row": pa.array(range(first, first + len(rows)), pa.int64()),
        "_bad": pa.nulls(len(rows), pa.string()),
    }
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
