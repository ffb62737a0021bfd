"""A workspace in a temporary folder, and short ways to fill and to read it."""

from __future__ import annotations

import csv
import datetime as dt
import io
import textwrap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from postgres import postgresql  # noqa: F401 - a fixture
from worlds import DemoWorld, shared_demo

from aftersales.collect.ingest import Delivery, ingest_source
from aftersales.collect.mapping import Source, read_source
from aftersales.lake.engine import connect
from aftersales.lake.store import Snapshot, Store
from aftersales.model.settings import Workspace, open_workspace

TICKETS = """
    owner: test
    files: data/raw/*
    time_zone: UTC
    tables:
      ticket:
        columns:
          ticket_id: id
          known_at: created
          created_at: created
          status: {from: status}
          cost_total: {from: cost}
"""
"""A source for files with the columns id, created, status, cost."""


def pytest_configure(config: pytest.Config) -> None:
    """Warnings are errors; these come from Ibis 12 on newer engines and cannot be mended here."""
    for line in ("ignore:fetch_arrow_table:DeprecationWarning", "ignore:.*infer_string.*"):
        config.addinivalue_line("filterwarnings", line)


def csv_text(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Rows as a spreadsheet exports them: CRLF, quotes where needed."""
    target = io.StringIO(newline="")
    csv.writer(target).writerows([header, *rows])
    return target.getvalue()


@dataclass(frozen=True)
class TestWorkspace:
    """A workspace below `root` with one register of raw files, `data/raw/`."""

    __test__ = False
    root: Path

    def open(self) -> Workspace:
        return open_workspace(self.root)

    def file(self, name: str, content: str | bytes) -> Path:
        """Write a file as it would be delivered."""
        path = self.root / "data" / "raw" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def source(self, text: str = TICKETS, name: str = "crm") -> Source:
        """Write `data/sources/<name>.yml` (the name is put in front) and read it."""
        path = self.root / "data" / "sources" / f"{name}.yml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"name: {name}\n{textwrap.dedent(text).strip()}\n", encoding="utf-8")
        return read_source(path, self.open())

    def ingest(self, source: Source, files: str | None = None, loaded_at: dt.datetime | None = None) -> list[Delivery]:
        """The ledgers of all files, in one list."""
        loads = ingest_source(self.open(), source, files=files, loaded_at=loaded_at)
        return [delivery for ledgers in loads for delivery in ledgers]

    def snapshot(self, as_of: dt.datetime | None = None) -> Snapshot:
        workspace = self.open()
        return Store(workspace.lake).pin(connect(workspace), as_of=as_of)

    def rows(self, table: str, *columns: str, as_of: dt.datetime | None = None) -> list[Any]:
        """Sorted rows of a table: tuples of `columns`, or plain values when there is one column."""
        picked = self.snapshot(as_of).table(table).select(*columns).to_pyarrow().to_pylist()
        found = [tuple(row.values()) if len(columns) > 1 else row[columns[0]] for row in picked]
        return sorted(found, key=lambda row: [str(cell) for cell in (row if isinstance(row, tuple) else (row,))])

    def lake_files(self) -> dict[str, int]:
        """Every file of the lake with the time of its last change."""
        lake = self.root / "data" / "lake"
        return {str(path): path.stat().st_mtime_ns for path in lake.rglob("*") if path.suffix in (".parquet", ".json")}


@pytest.fixture
def workspace(tmp_path: Path) -> TestWorkspace:
    (tmp_path / "workbench.yml").write_text("name: test\ntime_zone: UTC\n", encoding="utf-8")
    return TestWorkspace(tmp_path)


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> DemoWorld:
    """The demo world in a workspace; read only. What writes, borrows: `demo.borrow(tmp_path)`."""
    return shared_demo(tmp_path_factory)
