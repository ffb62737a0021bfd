"""Writing to a Delta table: what is to be written, who may write, and the one commit that makes it true.

A commit either happened or did not. Files that were written for one that did not happen are removed at once; those of
a killed writer lie there, named by nothing, until `aftersales maintain` removes them.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
import urllib.parse
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
from deltalake import CommitProperties, DeltaTable, Transaction
from deltalake.exceptions import CommitFailedError, DeltaError
from deltalake.transaction import AddAction, RemoveAction

from aftersales.lake.datafiles import ROWS_PER_FILE, DataFile, TableFolder, parquet_scan, write_files
from aftersales.lake.engine import quoted
from aftersales.model.errors import SchemaError, SourceError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

ATTEMPTS = 12
WRITER = "aftersales"
"""Every commit names this writer: of two that started from one version, Delta lets only one through, whatever
partitions they touch. So a key classified as new cannot have been written in between."""

KEEP_VERSIONS = {"delta.logRetentionDuration": "interval 3650 days"}  # reports cite versions


@dataclass(frozen=True)
class Changes:
    """What a load commits to a table, as queries on a connection that the store runs."""

    connection: duckdb.DuckDBPyConnection
    inserts: str | None = None
    """SELECT of rows with the columns of the table."""
    closures: str | None = None
    """SELECT `data_file`, `file_row`, `superseded_at`: where the versions that end lie (as `held_rows` tells), and
    when they end."""


def appended(rows: pa.Table) -> Changes:
    """Changes that only add these rows."""
    connection = duckdb.connect()
    connection.execute("set TimeZone='UTC'")
    connection.register("rows_to_append", rows)
    return Changes(connection, "select * from rows_to_append")


def data_files(table: DeltaTable) -> tuple[str, ...]:
    """Paths of the table's data files, as the file system spells them."""
    return tuple(sorted(urllib.parse.unquote(uri) for uri in table.file_uris()))


def held_rows(paths: Sequence[str]) -> str:
    """SQL that reads the rows of data files with the place of each: `data_file`, `file_row`."""
    scan = parquet_scan(paths, ", filename='data_file', file_row_number=true")
    return f"(select * rename (file_row_number as file_row) from {scan})"


@contextlib.contextmanager
def writing(name: str, lock: Path) -> Iterator[None]:
    """Be the one writer of a table on this machine; a failure is told in four parts.

    Raises
    ------
    SourceError
        The disk is full or not writable, or other writers won every time; the last version stays readable.
    """
    try:
        with _one_writer(lock):
            yield
    except CommitFailedError as error:
        raise SourceError(
            f"lake/{name}",
            f"other writers committed first {ATTEMPTS} times",
            rows=_first_line(error),
            fix="run the command again when the other load has ended",
        ) from error
    except (OSError, DeltaError, pa.ArrowException, duckdb.IOException) as error:
        raise _not_written(name, error) from error
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # what delta-rs makes of a failure it did not expect
            raise
        raise _not_written(name, error) from error


@contextlib.contextmanager
def _one_writer(lock: Path) -> Iterator[None]:
    """Writers of one table wait for each other on this machine; a killed one lets go by itself."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("a") as handle:
        if fcntl is not None:  # elsewhere the commit's own check decides
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def with_retry(action: Callable[[], Any]) -> Any:
    """Run `action` again when another writer committed first; it must read the table anew each time."""
    for attempt in range(ATTEMPTS):
        try:
            return action()
        except CommitFailedError:
            if attempt == ATTEMPTS - 1:
                raise
            time.sleep(random.uniform(0.05, 0.2) * 2 ** min(attempt, 5))


@contextlib.contextmanager
def new_files(folder: Path, newest: Callable[[], DeltaTable]) -> Iterator[str]:
    """The mark of files about to be written; they are removed again unless a commit has named them."""
    mark = f"part-{uuid.uuid4().hex}"
    try:
        yield mark
    except BaseException:
        with contextlib.suppress(Exception):  # what cannot be removed now, `maintain` removes
            named = set(data_files(newest()))
            for path in folder.resolve().rglob(f"{mark}-*"):
                if str(path) not in named:
                    path.unlink(missing_ok=True)
        raise


def only_after(current: DeltaTable, message: Mapping[str, str]) -> CommitProperties:
    """A commit that fails when another one came after the version it was made from."""
    return CommitProperties(
        custom_metadata=dict(message),
        max_commit_retries=0,
        app_transactions=[Transaction(WRITER, current.version() + 1)],
    )


def commit_files(
    current: DeltaTable,
    added: Sequence[DataFile],
    removed: Sequence[DataFile],
    message: Mapping[str, str],
    partition: str | None,
    *,
    changes_data: bool = True,
) -> None:
    """Name the new files, and drop the replaced ones, in one version."""
    now = int(time.time() * 1000)
    actions: list[AddAction | RemoveAction] = [
        AddAction(file.path, file.size, file.partition, file.written_ms, changes_data, file.stats) for file in added
    ]
    actions += [
        RemoveAction(file.path, changes_data, now, size=file.size, partition_values=dict(file.partition))
        for file in removed
    ]
    current.create_write_transaction(
        actions,
        "append",
        current.schema(),
        [partition] if partition else None,
        commit_properties=only_after(current, message),
    )


def named_files(current: DeltaTable, folder: Path) -> dict[str, DataFile]:
    """Every data file of a version, by its path on disk."""
    found = {}
    for action in pa.table(current.get_add_actions()).to_pylist():
        path = urllib.parse.unquote(action["path"])
        partition = action.get("partition") or {}
        found[str(folder / path)] = DataFile(
            path, action["size_bytes"], action["num_records"] or 0, partition, written_ms=action["modification_time"]
        )
    return found


def bins(files: Iterable[DataFile]) -> list[list[DataFile]]:
    """Files of one partition together, oldest first, up to the rows of one file."""
    found: list[list[DataFile]] = []
    for file in sorted(files, key=lambda file: (sorted(file.partition.items()), file.written_ms, file.path)):
        last = found[-1] if found else []
        fits = sum(one.rows for one in last) + file.rows <= ROWS_PER_FILE
        if last and last[0].partition == file.partition and fits:
            last.append(file)
        else:
            found.append([file])
    return found


def rewritten(
    connection: duckdb.DuckDBPyConnection,
    files: Sequence[DataFile],
    table: TableFolder,
    mark: str,
    query: Callable[[str, str], str],
) -> list[DataFile]:
    """New files with the rows of these files of one partition.

    `query` is given what reads the rows, and the columns that a data file has not; it may change values, not rows.

    Raises
    ------
    SchemaError
        The new files would have more or fewer rows.
    """
    rows = held_rows([str(table.path / file.path) for file in files])
    left_out = ", ".join(quoted(name) for name in ("data_file", "file_row", *files[0].partition))
    written = write_files(connection, query(rows, left_out), table, files[0].partition, mark)
    before, after = sum(file.rows for file in files), sum(file.rows for file in written)
    if before != after and all(file.rows for file in files):
        raise SchemaError(
            f"lake/{table.path.name}",
            f"{before:,} rows would become {after:,}",
            rows="none lost: the last version stays readable",
            fix="report this together with the data files",
        )
    return written


def with_closures(
    wanted: Changes, current: DeltaTable, table: TableFolder, mark: str
) -> tuple[list[DataFile], list[DataFile]]:
    """The files that hold a version that ends, and those that take their place: the same rows, that version closed."""
    connection = wanted.connection
    connection.execute(f"create or replace temp table closing as {wanted.closures}")
    paths = connection.execute("select distinct data_file from closing").fetchall()
    known = named_files(current, table.path)
    replaced = [known[path] for (path,) in paths]
    written: list[DataFile] = []
    for files in bins(replaced):
        written += rewritten(connection, files, table, mark, _closed)
    return replaced, written


def _closed(rows: str, left_out: str) -> str:
    return f"""
        select c.* exclude ({left_out}) replace (coalesce(e.superseded_at, c.superseded_at) as superseded_at)
        from {rows} as c left join closing as e on e.data_file = c.data_file and e.file_row = c.file_row"""


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:300]


def _not_written(name: str, error: BaseException) -> SourceError:
    return SourceError(
        f"lake/{name}",
        f"could not be written: {_first_line(error)}",
        rows="none lost: the last version stays readable",
        fix=f"free disk space or mend the rights (process {os.getpid()}), then run the command again",
    )
