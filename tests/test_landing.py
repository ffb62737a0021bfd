"""Landed files: whole or not there, in order, once; and secrets that stay where they are."""

from __future__ import annotations

import datetime as dt
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keyring
import keyring.backend
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import TestWorkspace

from aftersales.collect import fetch as fetching
from aftersales.collect.credentials import Secret, secret_value
from aftersales.collect.landing import Landing, landed, read_receipt
from aftersales.collect.watermark import read_watermark
from aftersales.lake.store import Store
from aftersales.model.errors import SourceError

MORNING = dt.datetime(2026, 1, 5, 8, tzinfo=dt.UTC)


def lines(folder: Path, *numbers: int, **options: Any) -> Landing:
    with Landing(folder, "s", clock=options.pop("clock", lambda: MORNING), **options) as landing:
        landing.add_records([{"n": number} for number in numbers])
        landing.finish({"n": numbers[-1]})
    return landing


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_and_its_receipt_appear_together(tmp_path: Path) -> None:
    lines(tmp_path, 1, 2)
    assert names(tmp_path) == ["20260105T080000Z-0001.jsonl", "20260105T080000Z-0001.receipt.json"]
    receipt = read_receipt(tmp_path / "20260105T080000Z-0001.receipt.json")
    assert receipt is not None
    assert (receipt.rows, receipt.cursor, receipt.stream, receipt.file) == (2, {"n": 2}, "s", names(tmp_path)[0])


def test_names_stand_in_the_order_of_landing_even_when_the_clock_goes_back(tmp_path: Path) -> None:
    for number, hour in enumerate((8, 8, 7, 9)):
        lines(tmp_path, number, clock=lambda hour=hour: MORNING.replace(hour=hour))
    assert [json.loads(path.read_text())["n"] for _, path, _ in landed(tmp_path, "jsonl") if path] == [0, 1, 2, 3]
    assert [name for name, _, _ in landed(tmp_path, "jsonl")] == [
        "20260105T080000Z-0001", "20260105T080000Z-0002", "20260105T080000Z-0003", "20260105T090000Z-0001"]  # fmt: skip


def test_the_same_content_is_landed_once(tmp_path: Path) -> None:
    lines(tmp_path, 1, 2)
    again = lines(tmp_path, 1, 2, since={"n": 2})
    assert (again.rows, again.receipts, len(names(tmp_path))) == (2, [], 2)


def test_a_fetch_without_rows_leaves_a_receipt_only_when_its_cursor_moved(tmp_path: Path) -> None:
    for since, files in (({"n": 1}, 0), ({"n": 0}, 1)):
        with Landing(tmp_path, "s", since) as landing:
            landing.finish({"n": 1})
        assert len(names(tmp_path)) == files


def test_what_was_reached_is_kept_when_a_fetch_fails_and_the_rest_is_not(tmp_path: Path) -> None:
    for reached in (True, False):
        folder = tmp_path / str(reached)
        with pytest.raises(SourceError), Landing(folder, "s") as landing:
            landing.add_records([{"n": 1}])
            landing.reached({"n": 1} if reached else None)
            raise SourceError("x", "y")
        assert len(names(folder)) == (2 if reached else 0)


def test_what_a_killed_fetch_left_is_removed_by_the_next(tmp_path: Path) -> None:
    (tmp_path / ".4711.part").write_text("half")
    lines(tmp_path, 1)
    assert not (tmp_path / ".4711.part").exists()


def test_other_columns_start_another_file(tmp_path: Path) -> None:
    with Landing(tmp_path, "s") as landing:
        landing.add_batch(pa.record_batch({"a": pa.array([1])}))
        landing.add_batch(pa.record_batch({"a": pa.array(["x"])}))
        files = landing.finish(None).files
    assert [pq.read_table(tmp_path / file).to_pylist() for file in files] == [[{"a": 1}], [{"a": "x"}]]


def test_a_record_stays_on_its_line(tmp_path: Path) -> None:
    text = "a\x85b\u2028c\u2029d\ne\ud800f\x00"
    with Landing(tmp_path, "s") as landing:
        landing.add_records([{"t": text}])
        (file,) = landing.finish(None).files
    (line,) = (tmp_path / file).read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["t"] == text.replace("\ud800", "?")


# -------------------------------------------------------------------------------------------------- killed anywhere

SOURCE = """
    owner: test
    connector: sql
    sql: {url: 'sqlite:///data/crm.db', table: ticket, cursor: changed, batch_rows: 5, file_rows: 10}
    tables:
      ticket:
        columns: {ticket_id: id, known_at: changed, created_at: changed}
"""


class KilledError(BaseException):
    """Ends a run at once, as a kill does: nothing that handles errors sees it."""


def database(workspace: TestWorkspace, rows: int) -> None:
    (workspace.root / "data").mkdir(exist_ok=True)
    with sqlite3.connect(workspace.root / "data" / "crm.db") as connection:
        connection.execute("create table if not exists ticket (id integer primary key, changed text)")
        days = [(i, f"2026-01-{1 + i // 10:02d} 00:00:{i % 10:02d}") for i in range(rows)]
        connection.executemany("insert or ignore into ticket values (?, ?)", days)


def whole(workspace: TestWorkspace, rows: int) -> bool:
    """Every row is there once, and the watermark stands at the last one."""
    mark = read_watermark(Store(workspace.open().lake), "crm")
    found = workspace.rows("ticket", "ticket_id")
    versions = workspace.snapshot().versions_of("ticket").count().execute()
    last = f"2026-01-{1 + (rows - 1) // 10:02d} 00:00:{(rows - 1) % 10:02d}"
    return (len(found), len(set(found)), versions, mark and mark.cursor["value"]) == (rows, rows, rows, last)


@pytest.mark.parametrize(
    ("step", "time"), [("rename", 2), ("receipt", 1), ("receipt", 2), ("load", 2), ("watermark", 1), ("watermark", 2)]
)
def test_a_run_killed_at_any_step_is_completed_by_the_next(
    workspace: TestWorkspace, monkeypatch: pytest.MonkeyPatch, step: str, time: int
) -> None:
    database(workspace, 25)
    crm = workspace.source(SOURCE)
    place: tuple[Any, str] = {
        "rename": (Landing, "_new_name"), "receipt": (Landing, "_write_receipt"),
        "load": (fetching, "read_watermark"), "watermark": (fetching, "move_watermark"),
    }[step]  # fmt: skip
    inner, calls = getattr(*place), 0

    def kill(*arguments: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == time:
            raise KilledError
        return inner(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(*place, kill)
        with pytest.raises(KilledError):
            workspace.ingest(crm)
    workspace.ingest(crm)
    assert whole(workspace, 25)


@pytest.mark.slow
def test_processes_killed_at_random_moments_lose_and_double_nothing(workspace: TestWorkspace) -> None:
    database(workspace, 60)
    workspace.source(SOURCE)
    code = (
        "import sys\nfrom aftersales.collect.ingest import ingest_source\nfrom aftersales.collect.mapping import catalogue\n"
        "from aftersales.model.settings import open_workspace\nplace = open_workspace(sys.argv[1])\nprint('up', flush=True)\n"
        "list(ingest_source(place, catalogue(place)['crm']))"
    )
    chance = random.Random(5)
    for _ in range(4):
        process = subprocess.Popen([sys.executable, "-c", code, str(workspace.root)], stdout=subprocess.PIPE,
                                   env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})  # fmt: skip
        assert process.stdout is not None
        process.stdout.readline()
        try:
            process.wait(timeout=chance.uniform(0.02, 0.8))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        process.stdout.close()
    workspace.ingest(workspace.source(SOURCE))
    assert whole(workspace, 60)


def test_a_landed_file_that_is_gone_before_it_was_loaded_is_missed(
    workspace: TestWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    database(workspace, 5)
    crm = workspace.source(SOURCE)
    with monkeypatch.context() as patch:
        patch.setattr(fetching, "move_watermark", lambda *_: None)
        workspace.ingest(crm)
    (file,) = (workspace.root / "data" / "raw" / "crm").glob("*.parquet")
    file.unlink()
    workspace.ingest(crm)  # it was loaded: that it is gone is nobody's loss
    database(workspace, 9)
    folder = workspace.root / "data" / "raw" / "crm"
    with Landing(folder, crm.stream) as landing:
        from aftersales.collect.connectors import sql

        sql.fetch(crm, workspace.open(), None, landing)
    (folder / landing.receipts[-1].file).unlink()
    with pytest.raises(SourceError, match="is gone before it was loaded") as caught:
        workspace.ingest(crm)
    assert "put the file back, or delete" in caught.value.fix


# --------------------------------------------------------------------------------------------------------- secrets


class Ring(keyring.backend.KeyringBackend):
    """A keyring in memory."""

    priority = 1  # type: ignore[assignment]

    def __init__(self, open_: Callable[[], None]) -> None:
        self._open = open_

    def get_password(self, service: str, username: str) -> str | None:
        self._open()
        return {("crm", "reader/1"): "s3cret"}.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None: ...

    def delete_password(self, service: str, username: str) -> None: ...


def test_a_secret_comes_from_the_keyring() -> None:
    def locked() -> None:
        raise keyring.errors.KeyringLocked("s3cret inside")

    before = keyring.get_keyring()
    try:
        keyring.set_keyring(Ring(lambda: None))
        assert secret_value(Secret(keyring="crm/reader/1"), "source crm") == "s3cret"
        with pytest.raises(SourceError, match="the keyring has no entry crm/other") as caught:
            secret_value(Secret(keyring="crm/other"), "source crm")
        assert caught.value.fix == "keyring set crm other"
        keyring.set_keyring(Ring(locked))
        with pytest.raises(SourceError, match="the keyring cannot be asked for crm/reader/1: KeyringLocked") as caught:
            secret_value(Secret(keyring="crm/reader/1"), "source crm")
        assert "s3cret" not in str(caught.value)
    finally:
        keyring.set_keyring(before)
