"""The query engine: DuckDB, spoken to through Ibis (analysis) or SQL (ingest)."""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import duckdb
import ibis
from ibis.backends.duckdb import Backend

from aftersales.model.settings import EngineSettings, Workspace


def quoted(name: str) -> str:
    """`name` as an SQL identifier: every identifier is quoted, `order` is a reserved word."""
    return '"' + name.replace('"', '""') + '"'


def literal(text: str) -> str:
    """`text` as an SQL string."""
    return "'" + text.replace("'", "''") + "'"


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


def connect(workspace: Workspace) -> Backend:
    """An Ibis connection on an in-memory DuckDB with the workspace's limits, in UTC."""
    backend = ibis.duckdb.connect()
    _configure(backend.con, workspace.settings.engine, _spill_folder(workspace))
    return backend


@contextlib.contextmanager
def staging(workspace: Workspace) -> Iterator[duckdb.DuckDBPyConnection]:
    """A DuckDB on a scratch file, for loads larger than memory; the file is gone afterwards."""
    spill = _spill_folder(workspace)
    spill.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f"staging-{os.getpid()}-", dir=spill) as folder:
        connection = duckdb.connect(str(Path(folder) / "staging.duckdb"))
        try:
            _configure(connection, workspace.settings.engine, Path(folder) / "spill")
            connection.execute("set preserve_insertion_order=true")
            yield connection
        finally:
            connection.close()


def _spill_folder(workspace: Workspace) -> Path:
    return workspace.cache / "spill"
