"""Small files are put together and useless ones removed; what tables say, and what reports cite, stays."""

from __future__ import annotations

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from conftest import TestWorkspace
from loads import SOURCE, deliver, finished, held, ingest, rows, stray_files

from aftersales.lake import upkeep
from aftersales.lake.commits import data_files
from aftersales.lake.engine import connect
from aftersales.lake.store import Store
from aftersales.lake.upkeep import maintain
from aftersales.model.errors import DeliveryError, ParameterError
from aftersales.publish.reports import cited_versions

WEEK = 7 * 24 * 3600


def delivered(workspace: TestWorkspace, count: int = 4) -> None:
    """Small deliveries, each correcting half of the one before it."""
    workspace.source(SOURCE)
    for number in range(count):
        deliver(workspace, f"{number}.csv", rows(number * 50, 100, bad=1, words=f"open{number}"))
        workspace.ingest(workspace.source(SOURCE), files=f"data/raw/{number}.csv")


def aged(workspace: TestWorkspace, seconds: int) -> None:
    """Everything in the lake, and every replacement, was that long ago."""
    lake = workspace.root / "data" / "lake"
    for log in lake.glob("*/_delta_log/*.json"):
        lines = [json.loads(line) for line in log.read_text().splitlines()]
        for line in lines:
            if "remove" in line:
                line["remove"]["deletionTimestamp"] -= seconds * 1000
        log.write_text("\n".join(json.dumps(line) for line in lines) + "\n")
    for path in lake.rglob("*"):
        if path.is_file():
            os.utime(path, (path.stat().st_atime - seconds, path.stat().st_mtime - seconds))


def test_small_files_become_one_per_partition_and_tables_say_the_same(workspace: TestWorkspace) -> None:
    delivered(workspace)
    before = held(workspace.root)
    done = {table.table: table for table in maintain(workspace.open())}
    assert held(workspace.root) == before
    store = Store(workspace.open().lake)
    assert {name: len(data_files(store.open(name))) for name in before} == dict.fromkeys(before, 1) | {
        "ticket": 4, "tag": 4
    }  # one for each year  # fmt: skip
    assert (done["ticket"].files_before, done["ticket"].files_after, done["ticket"].removed) == (16, 4, 0)
    keys = store.rows("ticket", "yr = '2021'", columns="ticket_id")["ticket_id"].to_pylist()
    assert keys == sorted(keys)


def test_a_second_run_finds_nothing_to_do(workspace: TestWorkspace) -> None:
    delivered(workspace)
    maintain(workspace.open())
    versions, files = workspace.snapshot().versions, workspace.lake_files()
    again = maintain(workspace.open())
    assert (workspace.snapshot().versions, workspace.lake_files()) == (versions, files)
    assert all(table.files_before == table.files_after and table.removed == 0 for table in again)


def test_loads_go_on_after_it_and_correct_what_was_put_together(workspace: TestWorkspace) -> None:
    delivered(workspace, 3)
    maintain(workspace.open())
    deliver(workspace, "9.csv", rows(120, 100, words="last"))
    (ticket, _) = workspace.ingest(workspace.source(SOURCE), files="data/raw/9.csv")
    assert (ticket.corrected, ticket.inserted) == (80, 20)
    statuses = dict(workspace.rows("ticket", "ticket_id", "status"))
    assert len(statuses) == 219
    assert sum(status.startswith("last") for status in statuses.values()) == 100


def cite(workspace: TestWorkspace, name: str, record: object) -> None:
    path = workspace.root / "reports" / "runs" / "overview" / name / "run.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(record), encoding="utf-8")


def test_versions_that_reports_cite_stay_readable_and_replaced_files_go(workspace: TestWorkspace) -> None:
    delivered(workspace, 3)
    cited = workspace.snapshot()
    said = cited.table("ticket").select("ticket_id", "status").order_by("ticket_id").to_pyarrow().to_pylist()
    cite(workspace, "one", {"table_versions": cited.versions})
    deliver(workspace, "8.csv", rows(0, 200, words="later"))
    workspace.ingest(workspace.source(SOURCE), files="data/raw/8.csv")
    between = workspace.snapshot().versions
    deliver(workspace, "9.csv", rows(0, 200, words="last"))
    workspace.ingest(workspace.source(SOURCE), files="data/raw/9.csv")
    aged(workspace, WEEK + 3600)
    place = workspace.open()
    now = held(workspace.root)
    done = {table.table: table for table in maintain(place, cited_versions(place))}
    assert done["ticket"].removed > 0
    assert done["ticket"].freed_bytes > 0
    assert held(workspace.root) == now
    again = Store(place.lake).pin(connect(place), versions=cited.versions)
    assert again.table("ticket").select("ticket_id", "status").order_by("ticket_id").to_pyarrow().to_pylist() == said
    gone = [path for path in data_files(Store(place.lake).open("ticket", between["ticket"])) if not Path(path).exists()]
    assert gone  # nobody cites that version


def test_replaced_files_stay_as_long_as_a_page_may_be_open(workspace: TestWorkspace) -> None:
    delivered(workspace)
    opened = workspace.snapshot()
    aged(workspace, WEEK - 3600)
    maintain(workspace.open())
    assert opened.table("ticket").count().execute() == 249
    assert all(table.removed == 0 for table in maintain(workspace.open()))


def test_a_record_that_cannot_be_read_stops_it_before_anything_is_removed(workspace: TestWorkspace) -> None:
    delivered(workspace, 2)
    cite(workspace, "broken", {"page": "overview"})
    with pytest.raises(
        DeliveryError, match=r"overview/broken/run.json: does not say which versions .*\n  rows : nothing"
    ):
        cited_versions(workspace.open())


def test_less_than_an_hour_is_refused(workspace: TestWorkspace) -> None:
    with pytest.raises(ParameterError, match="0 hours could take files away from open pages"):
        maintain(workspace.open(), keep_hours=0)


def test_files_of_killed_writers_go_after_a_day_and_no_other(workspace: TestWorkspace) -> None:
    delivered(workspace, 2)
    deliver(workspace, "9.csv", rows(0, 300, words="later"))
    kill = """
        from aftersales.lake import store
        store.commit_files = lambda *given: os.kill(os.getpid(), signal.SIGKILL)"""
    code, _, err = finished(ingest(workspace, "crm", files="data/raw/9.csv", prepare=kill))
    assert code == -signal.SIGKILL, err
    left, before = stray_files(workspace.root), held(workspace.root)
    assert len(left) == 8  # new rows and replaced files, four years each
    temporary = workspace.root / "data/lake/ticket/_delta_log/_commit_x.json.tmp"
    temporary.write_text("{")
    maintain(workspace.open())
    assert stray_files(workspace.root) == left  # its writer may be at work, on another machine
    aged(workspace, 25 * 3600)
    done = {table.table: table for table in maintain(workspace.open())}
    assert (stray_files(workspace.root), temporary.exists()) == ([], False)
    assert done["ticket"].removed == 9
    assert held(workspace.root) == before
    assert workspace.ingest(workspace.source(SOURCE), files="data/raw/9.csv")[0].accepted == 300


def test_a_load_and_maintenance_at_once_wait_for_each_other(workspace: TestWorkspace, tmp_path: Path) -> None:
    delivered(workspace, 3)
    deliver(workspace, "9.csv", *[rows(start, 100, words="later") for start in range(0, 2_000, 100)])
    quiet = TestWorkspace(tmp_path / "quiet")
    shutil.copytree(workspace.root, quiet.root, ignore=shutil.ignore_patterns("quiet"))
    quiet.ingest(quiet.source(SOURCE), files="data/raw/9.csv")
    process = ingest(workspace, "crm", files="data/raw/9.csv")
    while process.poll() is None:
        maintain(workspace.open())
    assert finished(process)[0] == 0
    assert held(workspace.root) == held(quiet.root)


def test_a_table_whose_first_versions_are_gone_keeps_every_file(
    workspace: TestWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivered(workspace, 1)
    store = Store(workspace.open().lake)
    stray = store.path("ticket") / "yr=2021" / "part-left.parquet"
    stray.write_bytes(b"x")
    aged(workspace, 25 * 3600)
    store.open("ticket").create_checkpoint()
    (store.path("ticket") / "_delta_log" / f"{0:020}.json").unlink()
    monkeypatch.setattr(upkeep, "_remove_replaced", lambda *given: [])
    maintain(workspace.open())
    assert stray.exists()
