"""`aftersales check` and `aftersales ingest` on remote sources, as commands."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import TestWorkspace
from webserver import Reply, web_server

from aftersales.collect.reach import reach

DATABASE = """
    owner: test
    connector: sql
    sql: {url: 'sqlite:///data/crm.db', table: ticket, cursor: changed}
    tables:
      ticket:
        columns: {ticket_id: id, known_at: changed, created_at: changed, status: STATUS}
"""
SERVICE = """
    owner: test
    connector: rest
    rest: {url: URL, items: rows}
    tables:
      ticket:
        columns: {ticket_id: id, known_at: at, created_at: at, subject: title}
"""


def command(workspace: TestWorkspace, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path), "NO_PROXY": "*", "DESK_TOKEN": "t0psecret"}
    line = [sys.executable, "-m", "aftersales.cli", *arguments, "-w", str(workspace.root)]
    return subprocess.run(
        line, env=environment, capture_output=True, text=True, encoding="utf-8", check=False, timeout=120
    )


@pytest.fixture
def database(workspace: TestWorkspace) -> Path:
    (workspace.root / "data").mkdir()
    path = workspace.root / "data" / "crm.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table ticket (id, changed, state)")
        connection.executemany("insert into ticket values (?, ?, ?)", [(i, f"2026-01-0{i}", "open") for i in (1, 2, 3)])
    return path


def test_check_reaches_every_source_and_loads_nothing(workspace: TestWorkspace, database: Path) -> None:
    workspace.source(DATABASE.replace("STATUS", "state"), "crm")
    workspace.source(DATABASE.replace("STATUS", "status"), "wrong")
    with web_server() as server:
        server(lambda request: Reply({"rows": [{"id": 1, "at": "2026-01-01", "note": "Zhang San"}]}))
        workspace.source(SERVICE.replace("URL", f"'{server.url}/t'"), "desk")
        workspace.source(SERVICE.replace("URL", f"'{server.url}/t'").replace("at,", "when,"), "keyless")
        done = command(workspace, "check", "--json")
    assert done.returncode == 1, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    sources = {row["source"]: row for row in found["sources"]}
    assert {name: row["state"] for name, row in sources.items()} == {
        "crm": "ok", "desk": "ok", "keyless": "problem", "wrong": "problem"}  # fmt: skip
    assert sources["crm"]["columns"] == ["id", "changed", "state"]
    assert sources["desk"]["not_seen"] == ["title"]  # a service may leave out what has no value
    assert "'status' (did you mean 'state'?)" in sources["wrong"]["said"]
    assert "lacks 1 of" in sources["keyless"]["said"]
    assert sources["keyless"]["said"] in found["problems"]
    assert "Zhang" not in done.stdout
    assert not (workspace.root / "data" / "raw").exists()
    assert not (workspace.root / "data" / "lake").exists()


def test_an_empty_list_of_items_is_no_fault_of_the_mapping(workspace: TestWorkspace) -> None:
    with web_server() as server:
        server(lambda request: Reply({"rows": []}))
        seen = reach(workspace.open(), workspace.source(SERVICE.replace("URL", f"'{server.url}/t'"), "desk"))
    assert (seen.state, seen.said.rpartition("; ")[2]) == ("ok", "nothing there to compare the mapping with")


def test_ingest_fetches_and_a_second_one_at_once_waits(workspace: TestWorkspace, database: Path) -> None:
    workspace.source(DATABASE.replace("STATUS", "state"), "crm")
    line = [sys.executable, "-m", "aftersales.cli", "ingest", "--json", "-w", str(workspace.root)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    both = [subprocess.Popen(line, env=environment, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    inserted = [sum(row["inserted"] for row in json.loads(each.communicate(timeout=120)[0])) for each in both]
    assert sorted(inserted) == [0, 3]
    assert command(workspace, "ingest", "crm").returncode == 0


def test_a_source_that_fails_says_so_and_exits(workspace: TestWorkspace) -> None:
    workspace.source(DATABASE.replace("STATUS", "state"), "crm")
    done = command(workspace, "ingest", "crm")
    assert done.returncode == 3
    assert "source crm: the database says: unable to open database file" in done.stderr
    assert "fix  :" in done.stderr
