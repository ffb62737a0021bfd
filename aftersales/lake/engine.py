"""The query engine: DuckDB, spoken to through Ibis (analysis) or SQL (ingest)."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from aftersales.lake.vault import unsealed_values
from aftersales.model.settings import EngineSettings, Workspace

if TYPE_CHECKING:  # a third of the start of a load that has nothing to do
    import ibis.expr.types as ir
    from ibis.backends.duckdb import Backend


def quoted(name: str) -> str:
    """`name` as an SQL identifier: every identifier is quoted, `order` is a reserved word."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


def path_literal(path: Path | str) -> str:
    """A file as an SQL string for DuckDB's readers, which would take `[1]`, `*` and `?` as patterns."""
    return literal("".join(f"[{c}]" if c in "[*?" else c for c in str(path)))


def _configure(connection: duckdb.DuckDBPyConnection, settings: EngineSettings, spill: Path) -> None:
    spill.mkdir(parents=True, exist_ok=True)
    connection.execute("set TimeZone='UTC'")
    connection.execute("set autoinstall_known_extensions=false")  # never reaches for the network
    connection.execute("set autoload_known_extensions=false")
    connection.execute("set enable_progress_bar=false")
    connection.execute(f"set memory_limit={literal(settings.memory)}")
    connection.execute(f"set temp_directory={literal(str(spill))}")
    if settings.threads:
        connection.execute(f"set threads={settings.threads}")


@functools.cache
def _in_zone() -> Any:
    """The engine's own function: an instant as the clock of a zone shows it."""
    import ibis
    import ibis.expr.datatypes as types

    @ibis.udf.scalar.builtin(name="timezone", signature=((types.string, types.Timestamp("UTC")), types.timestamp))
    def in_zone(zone, moment):  # type: ignore[no-untyped-def]
        """An instant as the clock of `zone` shows it."""

    return in_zone


def site_time(instants: ir.TimestampValue, zone: str) -> ir.TimestampValue:
    """Instants as the clock of `zone` shows them: days, months and hours of the day are read off that clock."""
    return instants if zone == "UTC" else _in_zone()(zone, instants)


def connect(workspace: Workspace) -> Backend:
    """An Ibis connection on an in-memory DuckDB with the workspace's limits, in UTC; it can read sealed text."""
    import ibis

    backend = ibis.duckdb.connect()
    _configure(backend.con, workspace.settings.engine, _spill_folder(workspace))
    add_function(backend.con, "unsealed", lambda texts: unsealed_values(workspace, texts), ["VARCHAR"], "VARCHAR")
    return backend


def add_function(
    connection: duckdb.DuckDBPyConnection,
    name: str,
    function: Callable[..., list[Any]],
    arguments: list[str],
    result: str,
) -> None:
    """Give `connection` an SQL function of one to three lists; it is called with some thousand rows at a time.

    The function sees nulls as None and answers with one value a row.
    """
    kinds = {"VARCHAR": pa.string(), "BOOLEAN": pa.bool_()}

    def of_one(a: pa.ChunkedArray) -> pa.Array:
        return pa.array(function(a.to_pylist()), kinds[result])

    def of_two(a: pa.ChunkedArray, b: pa.ChunkedArray) -> pa.Array:
        return pa.array(function(a.to_pylist(), b.to_pylist()), kinds[result])

    def of_three(a: pa.ChunkedArray, b: pa.ChunkedArray, c: pa.ChunkedArray) -> pa.Array:
        return pa.array(function(a.to_pylist(), b.to_pylist(), c.to_pylist()), kinds[result])

    made = (of_one, of_two, of_three)[len(arguments) - 1]  # DuckDB counts the arguments of what it is given
    connection.create_function(name, made, arguments, result, type="arrow", null_handling="special")  # type: ignore[call-overload]


STAGING_MEMORY = "1000MB"
"""What a load may hold; more is spilled. Loads share the machine with pages, and delta-rs needs room of its own."""


@contextlib.contextmanager
def staging(workspace: Workspace) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB for one load; what does not fit into memory is spilled to a folder that is gone afterwards."""
    with scratch_folder(workspace) as folder:
        connection = duckdb.connect()
        try:
            _configure(connection, workspace.settings.engine, folder)
            if _bytes(workspace.settings.engine.memory) > _bytes(STAGING_MEMORY):
                connection.execute(f"set memory_limit={literal(STAGING_MEMORY)}")
            connection.execute("set preserve_insertion_order=true")
            yield connection
        finally:
            connection.close()


def _bytes(size: str) -> float:
    return float(size[:-2]) * {"MB": 1e6, "GB": 1e9}[size[-2:]]


@contextlib.contextmanager
def scratch_folder(workspace: Workspace) -> Iterator[Path]:
    """A folder for one load, gone afterwards; what killed loads left behind is removed first."""
    spill = _spill_folder(workspace)
    spill.mkdir(parents=True, exist_ok=True)
    for left in spill.glob("staging-*"):
        if not _is_running(int(left.name.split("-")[1])):
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=f"staging-{os.getpid()}-", dir=spill, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def _is_running(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def _spill_folder(workspace: Workspace) -> Path:
    return workspace.cache / "spill"
