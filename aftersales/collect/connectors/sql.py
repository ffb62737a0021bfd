"""A table or query of any database SQLAlchemy knows -> Parquet, streamed in Arrow batches.

The next fetch starts *at* the newest cursor value minus the overlap, not behind it: rows that arrive late with the same
value are read, and rows read twice are found unchanged. Rows without a cursor value are read every time. With a cursor
rows come in its order, so what came before a lost connection counts.

On PostgreSQL columns keep their types (numeric as decimal, or as text where its scale is open; json as its text).
A time outside the years 1 to 9999, such as infinity, lands as no value. On other databases values land as the text a
person reads.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import difflib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import sqlalchemy as sa
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, SQLAlchemyError

from aftersales.collect.channels import SqlSettings
from aftersales.collect.connectors import SAMPLE_ROWS, Probed
from aftersales.collect.connectors.sql_cursor import newest_cursor, start_value
from aftersales.collect.credentials import secret_value, without_secrets
from aftersales.collect.landing import Cursor, Fetched, Landing
from aftersales.collect.mapping import Source
from aftersales.model.errors import SourceError, known_names
from aftersales.model.settings import Workspace

DRIVERS = {"postgresql": "postgresql+psycopg", "postgres": "postgresql+psycopg"}
PACKAGES = {"psycopg": "pip install 'aftersales[postgres]'"}

# PostgreSQL type numbers; what is not here lands as text
_POSTGRESQL: dict[int, pa.DataType] = {
    16: pa.bool_(), 17: pa.binary(), 20: pa.int64(), 21: pa.int32(), 23: pa.int32(), 26: pa.int64(),
    700: pa.float64(), 701: pa.float64(), 1082: pa.date32(), 1114: pa.timestamp("us"),
    1184: pa.timestamp("us", tz="UTC"),
}  # fmt: skip
_NUMERIC, _TIMES = 1700, (1082, 1114, 1184)
_AS_TEXT = (114, 3802, 2950, 1700, 1083, 1266, 1186, 600, 142)
"""json, jsonb, uuid, numeric, time, timetz, interval, point, xml: taken as the server writes them."""


@dataclass(frozen=True)
class _Stream:
    """An open connection and what is selected from it."""

    connection: sa.Connection
    settings: SqlSettings
    where: str
    selected: sa.FromClause
    names: tuple[str, ...]
    types: tuple[pa.DataType, ...]
    time_columns: frozenset[str] = frozenset()
    counts_up: bool = False
    """The cursor is a number, though it may arrive as text."""

    @property
    def schema(self) -> pa.Schema:
        return pa.schema(list(zip(_unique(self.names), self.types, strict=True)))

    def column(self, name: str) -> sa.ColumnElement[Any]:
        """The column as it is read; quoting is the database's own."""
        column = self.selected.c[name]
        if name not in self.time_columns:
            return column
        within = column.between(sa.literal_column("'0001-01-01'"), sa.literal_column("'9999-12-31'"))
        return sa.case((within, column)).label(name)

    def statement(self, since: Cursor | None) -> sa.Select[Any]:
        """SELECT of everything from the cursor on, in its order."""
        wanted = sa.select(*(self.column(name) for name in self.names)).select_from(self.selected)
        if self.settings.cursor is None:
            return wanted
        cursor = self.selected.c[self.settings.cursor]
        if since is not None:
            wanted = wanted.where(
                sa.or_(cursor >= start_value(since, self.settings.overlap, self.where), cursor.is_(None))
            )
        return wanted.order_by(cursor)


def fetch(source: Source, workspace: Workspace, since: Cursor | None, landing: Landing) -> Fetched:
    """Land the rows from `since` on; the newest cursor value and the rows fetched.

    Raises
    ------
    SourceError
        No connection, login refused, no such table or column, or the connection was lost on the way.
    """
    settings = _settings(source)
    landing.file_rows = settings.file_rows
    newest = since
    with _opened(source, workspace) as stream, _failures(stream.where, settings, workspace, "the rest is fetched next"):
        place = stream.names.index(settings.cursor) if settings.cursor else None
        for rows in _partitions(stream, since):
            landing.add_batch(_batch(rows, stream.schema))
            if place is not None:
                newest = newest_cursor(newest, [row[place] for row in rows], stream.counts_up)
            landing.reached(newest)
    return landing.finish(newest)


def probe(source: Source, workspace: Workspace) -> Probed:
    """Connect, and read the columns and at most three rows.

    Raises
    ------
    SourceError
        As `fetch`.
    """
    settings = _settings(source)
    with _opened(source, workspace) as stream, _failures(stream.where, settings, workspace, "nothing was read"):
        rows = stream.connection.execute(
            sa.select(*(stream.column(name) for name in stream.names)).select_from(stream.selected).limit(SAMPLE_ROWS)
        ).fetchall()
        shown = stream.connection.engine.url.render_as_string(hide_password=True).partition("?")[0]
    sample = _batch([tuple(row) for row in rows], stream.schema).to_pylist() if rows else []
    what = f"table {settings.table}" if settings.table else "the query"
    return Probed(f"{what} at {shown}", tuple(stream.schema.names), tuple(sample))


def _settings(source: Source) -> SqlSettings:
    assert source.sql is not None  # the schema of the YAML sees to it
    return source.sql


# -------------------------------------------------------------------------------------------------- connecting


@contextlib.contextmanager
def _opened(source: Source, workspace: Workspace) -> Iterator[_Stream]:
    """A connection that only reads, and the columns of what is to be read."""
    settings, where = _settings(source), f"source {source.name}"
    engine = _engine(settings, where, workspace)
    try:
        with _failures(where, settings, workspace, "nothing was fetched"), engine.connect() as connection:
            if engine.dialect.name == "postgresql":
                connection.execute(sa.text("set time zone 'UTC'"))
                connection.commit()
            yield _described(connection, settings, where)
    finally:
        engine.dispose()


def _url(settings: SqlSettings, where: str, workspace: Workspace) -> tuple[sa.URL, list[str]]:
    """The URL with everything secret filled in, and the secrets to keep out of messages."""
    text = settings.url if isinstance(settings.url, str) else secret_value(settings.url, where)
    secrets = [] if isinstance(settings.url, str) else [text]
    try:
        url = sa.make_url(text)
    except ArgumentError:
        raise SourceError(
            where,
            "its url is not a database URL",
            rows="nothing was fetched",
            fix="write it as postgresql://user@host/database, sqlite:///file.db, mysql+pymysql://user@host/database",
        ) from None
    if settings.password:
        url = url.set(password=secret_value(settings.password, where))
    secrets += [str(url.password)] if url.password else []
    secrets += [str(value) for name, value in url.query.items() if re.search(r"pass|pwd|secret|token", name, re.I)]
    if url.get_backend_name() == "sqlite" and url.database:
        # read only, and never made when it is not there
        path = (workspace.root / Path(url.database).expanduser()).resolve()
        url = sa.URL.create("sqlite", database=f"file:{path}", query={"mode": "ro", "uri": "true"})
    return url.set(drivername=DRIVERS.get(url.drivername, url.drivername)), secrets


def _engine(settings: SqlSettings, where: str, workspace: Workspace) -> sa.Engine:
    url, _ = _url(settings, where, workspace)
    waiting = {"postgresql": {"connect_timeout": settings.connect_timeout_s}}.get(url.get_backend_name(), {})
    try:
        engine = sa.create_engine(url, poolclass=sa.NullPool, connect_args=waiting)
    except (ModuleNotFoundError, NoSuchModuleError) as error:
        driver = getattr(error, "name", None) or url.drivername
        raise SourceError(
            where,
            f"the driver '{driver}' is not installed",
            rows="nothing was fetched",
            fix=PACKAGES.get(str(driver), f"pip install {driver}"),
        ) from None
    if url.get_backend_name() != "postgresql":
        return engine
    sa.event.listen(engine, "connect", _take_text)
    return engine.execution_options(postgresql_readonly=True)


def _take_text(connection: Any, record: object) -> None:
    """Values that Python would only take apart stay the text the server writes."""
    from psycopg.types.string import TextLoader

    for number in _AS_TEXT:
        connection.adapters.register_loader(number, TextLoader)


@contextlib.contextmanager
def _failures(where: str, settings: SqlSettings, workspace: Workspace, rows: str) -> Iterator[None]:
    """A failure of the database as an error in four parts, without secrets."""
    try:
        yield
    except (SQLAlchemyError, OSError) as error:
        _, secrets = _url(settings, where, workspace)
        raw = str(error.orig if isinstance(error, DBAPIError) and error.orig else error)
        said = without_secrets(" ".join(raw.split())[:400], secrets)
        lost = isinstance(error, DBAPIError) and error.connection_invalidated
        raise SourceError(
            where,
            f"the connection was lost: {said}" if lost else f"the database says: {said}",
            rows=rows,
            fix="run the ingest again when the database answers" if lost else _cure(said),
        ) from None


_CURES = (
    (r"password authentication|access denied|login failed|no password supplied",
     "check the user and the password, which the environment or the keyring gives, and that the user may connect"),
    (r"permission denied|not authorized", "ask the database's owner for the right to read the table"),
    (r"connection.*failed|could not|connection refused|timeout expired|timed out|no such file|unable to open",
     "check host, port and database in 'url', and that the server can be reached from here"),
    (r"statement timeout|canceling statement", "ask for an index on the cursor column, or for a longer time limit"),
    (r"infinity|out of range|too large", "leave the value out by 'query', or cast the column to text there"),
)  # fmt: skip


def _cure(said: str) -> str:
    found = (cure for pattern, cure in _CURES if re.search(pattern, said, re.IGNORECASE))
    return next(found, "mend 'table', 'query' or 'columns' in the source's YAML")


# ----------------------------------------------------------------------------------------------- what is read


def _described(connection: sa.Connection, settings: SqlSettings, where: str) -> _Stream:
    """The columns of the table or query with their types."""
    if settings.table is not None:
        _check_table(connection, settings, where)
    nothing = sa.select(sa.text("*")).select_from(_selected(settings, ())).where(sa.text("1 = 0"))
    with connection.execute(nothing) as result:
        described: Sequence[Any] = result.cursor.description if result.cursor is not None else ()
    known = [str(column[0]) for column in described]
    wanted = settings.columns or known
    missing = [name for name in [*wanted, *([settings.cursor] if settings.cursor else [])] if name not in known]
    if missing:
        raise _no_column(where, missing, known)
    names = tuple(dict.fromkeys([*wanted, *([settings.cursor] if settings.cursor else [])]))
    is_postgresql = connection.dialect.name == "postgresql"
    columns = {str(column[0]): column for column in described}
    types = tuple(_arrow_type(columns[name]) if is_postgresql else pa.string() for name in names)
    times = frozenset(name for name in names if is_postgresql and columns[name][1] in _TIMES)
    counts_up = is_postgresql and settings.cursor is not None and columns[settings.cursor][1] == _NUMERIC
    return _Stream(connection, settings, where, _selected(settings, names), names, types, times, counts_up)


def _selected(settings: SqlSettings, names: Sequence[str]) -> sa.FromClause:
    """The table or the query, with columns of these names."""
    columns: list[sa.ColumnClause[Any]] = [sa.column(name) for name in names]
    if settings.table is not None:
        return sa.table(settings.table, *columns, schema=settings.table_schema)
    text = re.sub(r"(?<![:\w\\]):(?=\w)", r"\\:", (settings.query or "").strip().rstrip(";"))  # it takes no parameters
    return sa.text(text).columns(*columns).subquery("fetched")


def _check_table(connection: sa.Connection, settings: SqlSettings, where: str) -> None:
    inspector = sa.inspect(connection)
    if settings.table_schema and settings.table_schema not in inspector.get_schema_names():
        raise SourceError(
            where,
            f"no schema '{settings.table_schema}'",
            rows=known_names(inspector.get_schema_names()),
            fix="mend 'schema' in the source's YAML, or ask for the right to see it",
        )
    name = settings.table or ""
    if inspector.has_table(name, schema=settings.table_schema):
        return
    schema = settings.table_schema
    known = [*inspector.get_table_names(schema=schema), *inspector.get_view_names(schema=schema)]
    near = difflib.get_close_matches(name, known, n=1)
    raise SourceError(
        where,
        f"no table '{name}'" + (f" (did you mean '{near[0]}'?)" if near else ""),
        rows=known_names(known),
        fix="mend 'table' in the source's YAML; a table of another schema needs 'schema'",
    )


def _no_column(where: str, missing: list[str], known: list[str]) -> SourceError:
    hints = []
    for name in missing:
        near = difflib.get_close_matches(name, known, n=1)
        hints.append(f"'{name}'" + (f" (did you mean '{near[0]}'?)" if near else ""))
    return SourceError(
        where,
        f"what is read has no column {', '.join(hints)}",
        rows=known_names(known, 40),
        fix="mend 'cursor' or 'columns' in the source's YAML",
    )


def _arrow_type(column: Any) -> pa.DataType:
    number = column.type_code
    if number == _NUMERIC and column.precision and 0 <= column.scale <= column.precision <= 38:
        return pa.decimal128(column.precision, column.scale)
    return _POSTGRESQL.get(number, pa.string())


def _unique(names: Sequence[str]) -> list[str]:
    from aftersales.collect.connectors.files import unique_names

    return unique_names(names)


def _partitions(stream: _Stream, since: Cursor | None) -> Iterator[Sequence[sa.Row[Any]]]:
    """The rows, a batch at a time, by a cursor of the server."""
    options = {"stream_results": True, "max_row_buffer": stream.settings.batch_rows}
    with stream.connection.execution_options(**options).execute(stream.statement(since)) as result:
        while rows := _next_rows(result, stream.settings.batch_rows):
            yield rows


def _next_rows(result: sa.CursorResult[Any], count: int) -> Sequence[sa.Row[Any]]:
    return result.fetchmany(count)


def _batch(rows: Sequence[Sequence[Any]], schema: pa.Schema) -> pa.RecordBatch:
    columns = zip(*rows, strict=True)
    return pa.record_batch(
        [_array(values, field.type) for values, field in zip(columns, schema, strict=True)], schema=schema
    )


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_decimal(kind):  # arrives as text
        return pa.array(values, pa.string()).cast(kind)
    if pa.types.is_string(kind):
        return pa.array([value if value is None or type(value) is str else _text(value) for value in values], kind)
    return pa.array(values, kind)


def _text(value: Any) -> str:
    """A value as the text a person reads: 12.0 is 12, a list is JSON, bytes are \\xAB."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, dt.datetime):
        return value.isoformat(sep=" ")
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, ensure_ascii=False, default=_text)
    if isinstance(value, bytes | bytearray | memoryview):
        return "".join(chr(byte) if 32 <= byte < 127 and byte != 92 else f"\\x{byte:02X}" for byte in bytes(value))
    return str(value)
