"""Loads in processes of their own that are killed, limited or raced, and what the lake then holds."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import duckdb
from conftest import TestWorkspace, csv_text

from aftersales.lake.commits import data_files
from aftersales.lake.datafiles import parquet_scan
from aftersales.lake.engine import quoted
from aftersales.lake.store import SYSTEM_TABLES, Store

HEADER = ["id", "created", "status", "cost"]

SOURCE = """
    owner: test
    files: data/raw/*
    time_zone: UTC
    tables:
      ticket:
        columns:
          ticket_id: id
          known_at: {value: "2024-01-01"}
          created_at: created
          status: status
          cost_total: cost
      tag:
        split: {column: status, separator: " "}
        columns: {source_table: {value: ticket}, source_id: id, tag_set: {value: word}, tag: "@part", known_at: created}
"""
"""Files feed two tables, so that a load has four commits: ticket, quarantine, tag, ledger."""

RUN = """
import os, resource, signal, sys
PREPARE
from aftersales.cli import main
main()
"""


def ingest(
    workspace: TestWorkspace, *sources: str, files: str | None = None, prepare: str = "", **more: Any
) -> subprocess.Popen[str]:
    """`aftersales ingest` in a process of its own; `prepare` is run in it first."""
    options = ["--workspace", str(workspace.root), *(["--files", files] if files else [])]
    script = RUN.replace("PREPARE", textwrap.dedent(prepare))
    return subprocess.Popen(
        [sys.executable, "-c", script, "ingest", *sources, *options],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        **more,
    )


def finished(process: subprocess.Popen[str], seconds: float = 120) -> tuple[int, str, str]:
    """Exit code, standard output, standard error."""
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def completed(*processes: subprocess.Popen[str]) -> None:
    """All of them have ended well."""
    for process in processes:
        code, _, err = finished(process)
        assert code == 0, err


def rows(first: int, count: int, bad: int = 0, words: str = "open") -> Iterator[list[str]]:
    """Rows with keys from `first`; the first `bad` of them have no date."""
    rng = random.Random(f"{first} {words}")
    for i in range(first, first + count):
        day = "never" if i - first < bad else f"202{i % 4}-0{i % 9 + 1}-01"
        yield [f"t{i:07d}", day, f"{words} {rng.getrandbits(20):x}", str(i % 1000)]


def deliver(workspace: TestWorkspace, name: str, *parts: Iterator[list[str]]) -> Path:
    """A file of these rows."""
    return workspace.file(name, csv_text(HEADER, [row for part in parts for row in part]))


TOLD: Mapping[str, str] = {
    "ticket": "ticket_id, status, cost_total, yr, source_system, source_file, source_row, superseded_at is null",
    "tag": "tag_id, tag, source_system, source_file, source_row, superseded_at is null",
    "quarantine": "quarantine_id, kind, source, source_file, source_row, reasons, raw is null",
    "delivery": 'source, source_file, "table", rows_read, accepted, rejected, duplicate, left_out',
}
BY_RUN = ("loaded_at", "ingest_run_id", "mapping_hash")


def held(root: Path) -> dict[str, list[tuple[Any, ...]]]:
    """What every table of a lake says, without what differs between two runs; every data file is read."""
    store, found = Store(root / "data" / "lake"), {}
    with duckdb.connect() as connection:
        connection.execute("create table run (ingest_run_id varchar)")
        for name in sorted(store.names(), key=lambda name: name != "delivery"):
            paths = data_files(store.open(name))
            if not paths:
                found[name] = []
                continue
            scan = f"select * from {parquet_scan(paths)}"
            if name == "delivery":
                connection.execute(f"insert into run select ingest_run_id from ({scan})")
            columns = TOLD.get(name)
            if columns is None:  # measured by run: what counts is that of the runs in the ledger
                names = [column.name for column in SYSTEM_TABLES[name] if column.name not in (*BY_RUN, f"{name}_id")]
                columns, scan = ", ".join(map(quoted, names)), f"{scan} semi join run using (ingest_run_id)"
            found[name] = connection.execute(f"select {columns} from ({scan}) order by all").fetchall()
    return found


def doubled_keys(root: Path) -> list[str]:
    """Keys with more than one current row, in any table."""
    store, found = Store(root / "data" / "lake"), []
    for name, key in (("ticket", "ticket_id"), ("tag", "tag_id")):
        if store.exists(name):
            keys = store.rows(name, "superseded_at is null", columns=key)[key].to_pylist()
            found += sorted({value for value in keys if keys.count(value) > 1}) if len(keys) != len(set(keys)) else []
    return found


def stray_files(root: Path) -> list[str]:
    """Data files in the folders of the lake that no version of a table names."""
    store = Store(root / "data" / "lake")
    named = set()
    for name in store.names():
        for version in range(store.version(name) + 1):
            named |= set(data_files(store.open(name, version)))
    lake = (root / "data" / "lake").resolve()
    return sorted(str(path.relative_to(lake)) for path in lake.rglob("*.parquet*")
                  if str(path) not in named and "_delta_log" not in path.parts)  # fmt: skip
