"""The lake: commits, races, pinned versions, what was known when."""

from __future__ import annotations

import datetime as dt
import multiprocessing
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from conftest import TICKETS, TestWorkspace, csv_text
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError

from aftersales.lake import commits as commits_module
from aftersales.lake import store as store_module
from aftersales.lake.commits import Changes, appended, data_files, held_rows
from aftersales.lake.engine import connect, path_literal
from aftersales.lake.store import Store, arrow_schema
from aftersales.model.errors import SchemaError, SettingsError, SourceError
from aftersales.model.tables import canonical_table

SCHEMA = arrow_schema(canonical_table("ticket"))
T0 = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)


def row(key: str, status: int = 1, year: str = "2024", **more: Any) -> dict[str, Any]:
    return {
        "ticket_id": key,
        "status": str(status),
        "yr": year,
        "known_at": T0,
        "created_at": T0,
        "source_system": "crm",
        **more,
    }


def table(rows: list[dict[str, Any]], schema: pa.Schema = SCHEMA) -> pa.Table:
    return pa.Table.from_pylist(rows, schema)


def commit(
    store: Store,
    *rows: dict[str, Any],
    closures: list[dict[str, Any]] | None = None,
    first: Callable[[DeltaTable], None] = lambda current: None,
) -> bool:
    """Insert rows that are not there by key, close the current version of what is named."""
    ends = [f"when '{one['ticket_id']}' then timestamptz '{one['superseded_at']}'" for one in closures or []]

    def changes(current: DeltaTable) -> Changes | None:
        first(current)
        paths = data_files(current)
        there = (
            set(pa.parquet.read_table(list(paths), columns=["ticket_id"])["ticket_id"].to_pylist()) if paths else set()
        )
        new = [one for one in rows if closures or one["ticket_id"] not in there]
        if not new and not closures:
            return None
        inserts = appended(table(new))
        end = f"case ticket_id {' '.join(ends)} end"
        where = f"from {held_rows(paths)} where superseded_at is null and {end} is not null" if ends else ""
        closing = f"select data_file, file_row, {end} as superseded_at {where}" if ends else None
        return replace(inserts, closures=closing)

    return store.merge("ticket", changes, schema=SCHEMA, key="ticket_id", partition="yr", message={"run": "test"})


def everything(store: Store) -> list[tuple[str, int, bool]]:
    """(key, status, is current) of every version."""
    found = store.open("ticket").to_pyarrow_table().to_pylist()
    return sorted((one["ticket_id"], int(one["status"]), one["superseded_at"] is None) for one in found)


def test_a_new_table_has_the_schema_of_its_description(tmp_path: Path) -> None:
    store = Store(tmp_path / "lake")
    assert commit(store, row("a"), row("b", year="2023"))
    assert pa.schema(store.open("ticket").schema().to_arrow()).names == SCHEMA.names
    assert everything(store) == [("a", 1, True), ("b", 1, True)]
    protocol = store.open("ticket").protocol()
    assert (protocol.min_reader_version, protocol.min_writer_version) == (1, 2)


def test_nothing_to_do_makes_no_version(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit(store, row("a"))
    before = store.version("ticket")
    assert not commit(store, row("a"))
    assert store.version("ticket") == before


def test_a_correction_closes_one_version_and_adds_the_next_in_one_commit(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit(store, row("a"), row("b"))
    before = store.version("ticket")
    commit(store, row("a", 2), closures=[row("a", 1, superseded_at=T0)])
    assert store.version("ticket") == before + 1
    assert everything(store) == [("a", 1, False), ("a", 2, True), ("b", 1, True)]


def test_a_value_that_returns_is_a_third_version(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit(store, row("a", 1))
    commit(store, row("a", 2), closures=[row("a", 1, superseded_at=T0)])
    commit(store, row("a", 1), closures=[row("a", 2, superseded_at=T0)])
    assert everything(store) == [("a", 1, False), ("a", 1, True), ("a", 2, False)]


def test_a_correction_may_move_a_row_to_another_year(tmp_path: Path) -> None:
    store = Store(tmp_path)
    commit(store, row("a", 1, "2023"))
    commit(store, row("a", 2, "2024"), closures=[row("a", 1, "2023", superseded_at=T0)])
    assert everything(store) == [("a", 1, False), ("a", 2, True)]


@pytest.mark.parametrize("year", ["2024", "2021"])
def test_who_loses_the_race_reads_anew_and_inserts_nothing_twice(
    tmp_path: Path, year: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other writer commits between reading and writing, into the same or another partition."""
    monkeypatch.setattr(commits_module, "fcntl", None)  # as on a machine where the lock does not hold
    store, calls = Store(tmp_path), []
    commit(store, row("x"))

    def other_first(current: DeltaTable) -> None:
        calls.append(current.version())
        if len(calls) == 1:
            commit(Store(tmp_path), row("a", year=year))

    commit(store, row("a"), row("b"), first=other_first)
    assert calls == [1, 2]
    assert everything(store) == [("a", 1, True), ("b", 1, True), ("x", 1, True)]


def test_who_always_loses_gets_a_four_part_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def lose(*_: Any, **__: Any) -> None:
        raise CommitFailedError("Failed to commit transaction")

    monkeypatch.setattr(store_module, "commit_files", lose)
    monkeypatch.setattr(commits_module.time, "sleep", lambda seconds: None)
    with pytest.raises(
        SourceError, match=r"lake/ticket: other writers committed first 12 times\n  rows : .*\n  fix  : run"
    ):
        commit(Store(tmp_path), row("a"))


def _create(root: Path, key: str, barrier: Any) -> None:
    commits_module.fcntl = None  # type: ignore[assignment]
    barrier.wait(30)
    commit(Store(root), row("shared"), row(key))


def test_creators_of_one_table_at_one_moment_lose_and_double_nothing(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    barrier = spawn.Barrier(3)
    writers = [spawn.Process(target=_create, args=(tmp_path, f"k{i}", barrier)) for i in range(3)]
    for writer in writers:
        writer.start()
    for writer in writers:
        writer.join(60)
    assert [writer.exitcode for writer in writers] == [0, 0, 0]
    assert everything(Store(tmp_path)) == [("k0", 1, True), ("k1", 1, True), ("k2", 1, True), ("shared", 1, True)]


def test_a_killed_creation_is_no_table_and_does_not_stop_the_next(tmp_path: Path) -> None:
    log = tmp_path / "ticket" / "_delta_log"
    log.mkdir(parents=True)
    (log / "_commit_1.json.tmp").write_text("{")
    (tmp_path / "ticket" / "part-0.parquet").write_bytes(b"half")
    store = Store(tmp_path)
    assert store.names() == []
    commit(store, row("a"))
    assert everything(store) == [("a", 1, True)]


def test_an_unknown_table_or_version_says_where_to_look(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with pytest.raises(SchemaError, match=r"lake/ticket: no such table\n  rows : .*\n  fix  : aftersales status"):
        store.open("ticket")
    commit(store, row("a"))
    with pytest.raises(SchemaError, match="lake/ticket: no such version 99"):
        store.open("ticket", 99)


def test_a_table_that_plain_readers_misread_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = Store(tmp_path)
    commit(store, row("a"))

    class Protocol:
        reader_features = ("deletionVectors",)

    monkeypatch.setattr(DeltaTable, "protocol", lambda self: Protocol)
    with pytest.raises(SchemaError, match="uses deletionVectors, which plain readers misread"):
        store.open("ticket")


@pytest.mark.parametrize("name", ["a[1]", "50%", "a|b", "a?", "a*"])
def test_a_path_the_lake_cannot_hold_is_refused_in_words(tmp_path: Path, name: str) -> None:
    with pytest.raises(SettingsError, match="which the lake cannot hold"):
        Store(tmp_path / name)


@pytest.mark.parametrize("name", ["售后 数据", "it's & {x}#"])
def test_a_path_may_have_blanks_and_any_language(tmp_path: Path, name: str) -> None:
    root = tmp_path / name
    root.mkdir()
    (root / "workbench.yml").write_text("name: x\n")
    place = TestWorkspace(root)
    place.file("a.csv", "id,created,status,cost\n1,2024-01-01,open,2\n")
    place.ingest(place.source())
    assert place.rows("ticket", "ticket_id", "cost_total") == [("1", 2.0)]


def test_patterns_in_a_path_are_only_letters() -> None:
    assert path_literal("/x/[a]*?'.csv") == "'/x/[[]a][*][?]''.csv'"


# ----------------------------------------------------------------------------------------------- snapshots

HEADER = ["id", "created", "status", "cost"]


def test_a_snapshot_keeps_its_versions_while_loads_go_on(workspace: TestWorkspace) -> None:
    source = workspace.source()
    workspace.file("1.csv", csv_text(HEADER, [["a", "2024-01-01", "open", 1]]))
    workspace.ingest(source)
    pinned = workspace.snapshot()
    workspace.file("2.csv", csv_text(HEADER, [["b", "2024-02-01", "open", 1]]))
    workspace.ingest(source)
    assert pinned.table("ticket").count().execute() == 1
    assert workspace.snapshot().table("ticket").count().execute() == 2
    again = Store(workspace.open().lake).pin(connect(workspace.open()), versions=pinned.versions)
    assert again.versions == pinned.versions
    assert again.table("ticket").ticket_id.execute().tolist() == ["a"]


def test_two_lakes_on_one_connection_do_not_mix(workspace: TestWorkspace, tmp_path: Path) -> None:
    connection = connect(workspace.open())
    for name in ("one", "two"):
        commit(Store(tmp_path / name), row(name))
    pins = [Store(tmp_path / name).pin(connection) for name in ("one", "two")]
    assert [pin.table("ticket").ticket_id.execute().tolist() for pin in pins] == [["one"], ["two"]]


@pytest.mark.parametrize("name", ["ticket", "order", "quarantine", "delivery"])
def test_an_absent_table_has_its_columns_and_no_rows(workspace: TestWorkspace, name: str) -> None:
    snapshot = workspace.snapshot()
    assert not snapshot.has_rows(name)
    assert snapshot.table(name).count().execute() == 0
    assert {"loaded_at", "source_file"} <= set(snapshot.table(name).columns)


def test_an_empty_table_has_its_columns_and_no_rows(workspace: TestWorkspace) -> None:
    workspace.file("a.csv", "id,created,status,cost\n")
    workspace.ingest(workspace.source())
    snapshot = workspace.snapshot(as_of=T0)
    assert not snapshot.has_rows("ticket")
    assert snapshot.table("ticket").count().execute() == 0


def test_an_unknown_table_lists_the_known_ones(workspace: TestWorkspace) -> None:
    with pytest.raises(SchemaError, match="known: code_map, complaint"):
        workspace.snapshot().table("tickets")


def test_as_of_hides_what_was_not_known_and_what_had_not_happened(workspace: TestWorkspace) -> None:
    source = workspace.source("""
        owner: test
        files: data/raw/*
        tables:
          ticket:
            columns: {ticket_id: id, known_at: known, created_at: created, closed_at: closed, due_resolve_at: due}
        """)
    workspace.file(
        "a.csv",
        csv_text(
            ["id", "known", "created", "closed", "due"],
            [["a", "2024-01-05", "2024-01-05", "2024-02-01", "2024-06-01"], ["b", "2024-03-01", "2024-01-01", "", ""]],
        ),
    )
    workspace.ingest(source)
    day = dt.datetime(2024, 1, 31, tzinfo=dt.UTC)
    shown = workspace.snapshot(day).table("ticket").select("ticket_id", "created_at", "closed_at", "due_resolve_at")
    assert shown.to_pyarrow().to_pylist() == [
        {
            "ticket_id": "a",
            "created_at": dt.datetime(2024, 1, 5, tzinfo=dt.UTC),
            "closed_at": None,
            "due_resolve_at": dt.datetime(2024, 6, 1, tzinfo=dt.UTC),
        }
    ]  # a deadline is known before it is over
    assert workspace.rows("ticket", "ticket_id", as_of=day + dt.timedelta(days=60)) == ["a", "b"]


def test_a_column_that_came_later_is_empty_in_older_rows(workspace: TestWorkspace) -> None:
    workspace.file("1.csv", csv_text(HEADER, [["a", "2024-01-01", "open", 1]]))
    workspace.ingest(workspace.source())
    workspace.file("2.csv", csv_text([*HEADER, "grid"], [["b", "2024-02-01", "open", 1, "north"]]))
    workspace.ingest(workspace.source(TICKETS + "\n          x_grid: grid"), files="data/raw/2.csv")
    assert workspace.rows("ticket", "ticket_id", "x_grid") == [("a", None), ("b", "north")]


def test_a_lake_written_by_others_is_read_as_it_is(workspace: TestWorkspace) -> None:
    """Files rewritten by another tool, without the site column of the schema."""
    commit(Store(workspace.open().lake), row("a"))
    write_deltalake(str(workspace.open().lake / "ticket"), table([row("b")]), mode="append")
    assert workspace.rows("ticket", "ticket_id") == ["a", "b"]
