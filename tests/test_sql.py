"""Tables and queries of real databases, fetched, landed and loaded; once, whatever happens in between."""

from __future__ import annotations

import datetime as dt
import decimal
import json
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import TestWorkspace
from worlds import ROOT

from aftersales.collect.connectors import sql
from aftersales.collect.connectors.sql import probe
from aftersales.collect.landing import Landing
from aftersales.collect.mapping import Source, read_source
from aftersales.collect.reach import reach
from aftersales.collect.watermark import read_watermark
from aftersales.lake.store import Store
from aftersales.model.errors import SettingsError, SourceError

SOURCE = """
    owner: test
    connector: sql
    sql: {SQL}
    time_zone: UTC
    tables:
      ticket:
        columns:
          ticket_id: id
          known_at: changed
          created_at: changed
          status: 状态
          cost_total: order
"""
TABLE = """create table "工单" (id bigint primary key, changed timestamptz, "状态" text, "order" numeric(10,2))"""


@pytest.fixture
def database(postgresql: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> Iterator[psycopg.Connection[Any]]:
    """An open connection to a database with an empty table 工单; its URL stands in $CRM_URL."""
    url = postgresql(f"sql{os.getpid()}_{time.monotonic_ns()}")
    monkeypatch.setenv("CRM_URL", url)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(TABLE)
        yield connection


def source(workspace: TestWorkspace, settings: str = "", **names: str) -> Source:
    block = "{url: {env: CRM_URL}, table: 工单, cursor: changed%s}" % (f", {settings}" if settings else "")
    return workspace.source(SOURCE.replace("{SQL}", names.get("block", block)))


def put(database: psycopg.Connection[Any], *rows: tuple[Any, ...]) -> None:
    for row in rows:
        database.execute(
            'insert into "工单" values (%s, %s, %s, %s) on conflict (id) do update set changed = excluded.changed, '
            '"状态" = excluded."状态", "order" = excluded."order"',
            row,
        )


def landed(workspace: TestWorkspace, name: str = "crm") -> list[Path]:
    return sorted((workspace.root / "data" / "raw" / name).glob("*.parquet"))


def tickets(workspace: TestWorkspace) -> list[Any]:
    return workspace.rows("ticket", "ticket_id", "status", "cost_total")


def cursor_of(workspace: TestWorkspace) -> Any:
    mark = read_watermark(Store(workspace.open().lake), "crm")
    return None if mark is None else mark.cursor


# ------------------------------------------------------------------------------------------- what comes, and again


def test_new_and_changed_rows_come_and_what_is_read_again_changes_nothing(
    workspace: TestWorkspace, database: psycopg.Connection[Any]
) -> None:
    crm = source(workspace, "overlap: 1h")
    put(database, (1, "2026-01-01 10:00+00", "开", "1.50"), (2, "2026-01-01 10:30+00", 'open, "x"', None))
    (first,) = workspace.ingest(crm)
    assert (first.rows_read, first.inserted, first.corrected) == (2, 2, 0)
    assert tickets(workspace) == [("1", "开", 1.5), ("2", 'open, "x"', None)]
    assert cursor_of(workspace) == {"kind": "instant", "value": "2026-01-01T10:30:00+00:00"}
    put(database, (1, "2026-01-01 11:00+00", "关", "2"), (3, "2026-01-01 10:30+00", "late", "0.05"))
    (second,) = workspace.ingest(crm)
    assert (second.rows_read, second.inserted, second.corrected, second.unchanged) == (3, 1, 1, 1)
    assert tickets(workspace) == [("1", "关", 2.0), ("2", 'open, "x"', None), ("3", "late", 0.05)]
    version = Store(workspace.open().lake).version("ticket")
    workspace.ingest(crm)  # 1, 2 and 3 lie in the overlap: read again, landed as they are, nothing new in them
    assert workspace.ingest(crm) == []  # and the same bytes once more are not even landed
    assert Store(workspace.open().lake).version("ticket") == version
    assert len(landed(workspace)) == 2


def test_a_late_row_with_the_newest_cursor_value_is_not_missed_without_any_overlap(
    workspace: TestWorkspace, database: psycopg.Connection[Any]
) -> None:
    crm = source(workspace)
    put(database, (1, "2026-01-01", "a", 1), (2, "2026-01-01", "b", 1))
    workspace.ingest(crm)
    put(database, (3, "2026-01-01", "c", 1))
    (second,) = workspace.ingest(crm)
    assert (second.rows_read, second.inserted) == (3, 1)


def test_rows_without_a_cursor_value_are_read_every_time(
    workspace: TestWorkspace, database: psycopg.Connection[Any]
) -> None:
    crm = source(workspace)
    put(database, (1, "2026-01-01", "a", 1), (2, None, "b", 1))
    (first,) = workspace.ingest(crm)
    assert (first.rows_read, first.rejected) == (2, 1)  # known_at is missing: in the quarantine, not lost
    put(database, (3, None, "c", 1), (2, "2025-12-01", "b", 1))
    (second,) = workspace.ingest(crm)
    assert (second.rows_read, second.rejected) == (2, 1)


def test_a_time_in_the_future_does_not_hide_what_comes_until_then(
    workspace: TestWorkspace, database: psycopg.Connection[Any]
) -> None:
    crm = source(workspace)
    put(database, (1, "2026-01-01", "a", 1), (2, "2999-01-01", "b", 1))
    workspace.ingest(crm)
    assert cursor_of(workspace) == {"kind": "instant", "value": "2026-01-01T00:00:00+00:00"}
    put(database, (3, "2026-01-02", "c", 1))
    (second,) = workspace.ingest(crm)
    assert second.inserted == 1


@pytest.mark.parametrize("batch", [1, 3, 7])
def test_files_are_cut_anywhere_and_nothing_is_lost_or_doubled(
    workspace: TestWorkspace, database: psycopg.Connection[Any], batch: int
) -> None:
    put(database, *((i, f"2026-01-0{1 + i // 3} 00:00+00", "s", i) for i in range(7)))
    ledgers = workspace.ingest(source(workspace, f"batch_rows: {batch}, file_rows: 2"))
    assert sum(ledger.inserted for ledger in ledgers) == 7
    assert [row[0] for row in tickets(workspace)] == [str(i) for i in range(7)]


def test_types_are_kept_in_the_landed_file(workspace: TestWorkspace, database: psycopg.Connection[Any]) -> None:
    database.execute("""
        create table kinds (id int, money numeric(12,3), open_money numeric, at timestamptz, local timestamp, day date,
          flag bool, real8 float8, note jsonb, bytes bytea, parts text[], key uuid, span interval, clock time)""")
    database.execute(
        """
        insert into kinds values (1, 12.340, 1.10, '2026-01-01 08:00:00.123456+08', '2026-01-01 08:00', '2026-02-29'::date
          + 0, true, 0.1, '{"a": [1, 1.10]}', '\\x00ff41', '{"a,b",c}', '6f0c5b9e-0000-4000-8000-000000000001', '1 day', '08:30'),
          (2, null, null, 'infinity', '-infinity', 'infinity', null, 'NaN', null, null, null, null, null, null)
        """.replace("2026-02-29'::date\n          + 0", "2024-02-29'::date")
    )
    kinds = source(workspace, block="{url: {env: CRM_URL}, table: kinds}")
    with Landing(workspace.root / "x", "s") as landing:
        fetched = sql.fetch(kinds, workspace.open(), None, landing)
    assert (fetched.rows, fetched.cursor) == (2, None)
    table = pq.read_table(workspace.root / "x" / fetched.files[0])
    assert {field.name: str(field.type) for field in table.schema} == {
        "id": "int32", "money": "decimal128(12, 3)", "open_money": "string", "at": "timestamp[us, tz=UTC]",
        "local": "timestamp[us]", "day": "date32[day]", "flag": "bool", "real8": "double", "note": "string",
        "bytes": "binary", "parts": "string", "key": "string", "span": "string", "clock": "string"}  # fmt: skip
    first, second = table.to_pylist()
    assert first == {
        "id": 1, "money": decimal.Decimal("12.340"), "open_money": "1.10",
        "at": dt.datetime(2026, 1, 1, 0, 0, 0, 123456, dt.UTC), "local": dt.datetime(2026, 1, 1, 8),
        "day": dt.date(2024, 2, 29), "flag": True, "real8": 0.1, "note": '{"a": [1, 1.10]}', "bytes": b"\x00\xffA",
        "parts": '["a,b", "c"]', "key": "6f0c5b9e-0000-4000-8000-000000000001", "span": "1 day",
        "clock": "08:30:00"}  # fmt: skip
    assert [name for name, value in second.items() if value is not None] == ["id", "real8"]


def test_numbers_as_cursor_with_an_overlap_in_numbers(
    workspace: TestWorkspace, database: psycopg.Connection[Any]
) -> None:
    crm = source(workspace, block="{url: {env: CRM_URL}, table: 工单, cursor: order, overlap: 5}")
    put(database, *((i, "2026-01-01", "s", i) for i in (2, 9, 10, 100)))
    workspace.ingest(crm)
    assert cursor_of(workspace) == {"kind": "number", "value": "100.00"}
    put(database, (94, "2026-01-01", "s", 94), (95, "2026-01-01", "s", 95), (200, "2026-01-01", "s", 200))
    (second,) = workspace.ingest(crm)
    assert (second.rows_read, second.inserted) == (3, 2)


def test_a_query_is_read_like_a_table(workspace: TestWorkspace, database: psycopg.Connection[Any]) -> None:
    put(database, (1, "2026-01-01", "100%:x", 1), (2, "2026-01-02", "b", 2))
    block = """
          url: {env: CRM_URL}
          cursor: changed
          query: |
            select t.*, ' :x' as colon, '10%' as percent from "工单" t where "状态" like '%:x' or t.id::text = '2';
    """
    crm = source(workspace, block=block)
    (ledger,) = workspace.ingest(crm)
    assert ledger.inserted == 2
    assert pq.read_table(landed(workspace)[0]).to_pylist()[0]["colon"] == " :x"


# ------------------------------------------------------------------------------------------------- kill and repeat


def test_a_run_killed_after_landing_is_completed_from_the_landed_file(
    workspace: TestWorkspace, database: psycopg.Connection[Any]
) -> None:
    crm = source(workspace, "file_rows: 2, batch_rows: 2")
    put(database, *((i, f"2026-01-0{i}", "s", i) for i in range(1, 6)))
    place = workspace.open()
    with Landing(place.root / "data" / "raw" / "crm", crm.stream, file_rows=2) as landing:
        sql.fetch(crm, place, None, landing)  # killed here: landed, not loaded
    assert (len(landed(workspace)), cursor_of(workspace)) == (3, None)
    database.execute('drop table "工单"')
    with pytest.raises(SourceError, match="no table '工单'"):
        workspace.ingest(crm)
    assert len(tickets(workspace)) == 5
    assert cursor_of(workspace) == {"kind": "instant", "value": "2026-01-05T00:00:00+00:00"}


def test_the_watermark_stays_when_the_load_fails(workspace: TestWorkspace, database: psycopg.Connection[Any]) -> None:
    crm = source(workspace)
    put(database, (1, "2026-01-01", "a", 1))
    broken = source(workspace, columns="").model_copy(update={"tables": crm.tables})
    database.execute('alter table "工单" rename id to nr')
    with pytest.raises(SourceError, match="lacks 1 of 4 mapped columns: 'id'"):
        workspace.ingest(broken)
    assert cursor_of(workspace) is None
    mended = workspace.source(SOURCE.replace("ticket_id: id", "ticket_id: nr").replace(
        "{SQL}", "{url: {env: CRM_URL}, table: 工单, cursor: changed}"))  # fmt: skip
    assert [ledger.inserted for ledger in workspace.ingest(mended)] == [1]
    assert cursor_of(workspace) is not None


def test_a_lake_that_was_deleted_is_rebuilt_from_what_was_landed(
    workspace: TestWorkspace, database: psycopg.Connection[Any]
) -> None:
    import shutil

    crm = source(workspace)
    put(database, (1, "2026-01-01", "a", 1))
    workspace.ingest(crm)
    put(database, (2, "2026-01-02", "b", 1))
    workspace.ingest(crm)
    before, mark = tickets(workspace), cursor_of(workspace)
    shutil.rmtree(workspace.open().lake)
    database.execute('truncate "工单"')
    workspace.ingest(crm)
    assert (tickets(workspace), cursor_of(workspace)) == (before, mark)


def test_another_table_starts_from_its_beginning(workspace: TestWorkspace, database: psycopg.Connection[Any]) -> None:
    put(database, (1, "2026-01-05", "a", 1))
    workspace.ingest(source(workspace))
    database.execute(
        "create table old as select 7::bigint as id, '2025-01-01'::timestamptz as changed, 'x' as \"状态\", 1 as \"order\""
    )
    (ledger,) = workspace.ingest(source(workspace, block="{url: {env: CRM_URL}, table: old, cursor: changed}"))
    assert ledger.inserted == 1
    assert cursor_of(workspace)["value"] == "2025-01-01T00:00:00+00:00"


def test_two_loads_of_one_source_wait_for_each_other(
    workspace: TestWorkspace, database: psycopg.Connection[Any]
) -> None:
    crm = source(workspace)
    put(database, *((i, "2026-01-01", "s", i) for i in range(50)))
    found: list[int] = []

    def load() -> None:
        found.append(sum(ledger.inserted for ledger in workspace.ingest(crm)))

    threads = [threading.Thread(target=load) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(found) == [0, 0, 50]
    assert len(landed(workspace)) == 1


def test_a_connection_lost_on_the_way_keeps_what_came_and_the_next_run_brings_the_rest(
    workspace: TestWorkspace, database: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = 40_000  # more than the buffers between server and client hold
    database.execute(
        f"insert into \"工单\" select i, '2026-01-01'::timestamptz + i * interval '1 s', repeat('x', 400), 1 "
        f"from generate_series(1, {rows}) i"
    )
    crm, inner = source(workspace, "batch_rows: 1000"), sql._next_rows
    batches = 0

    def cut(result: Any, count: int) -> Any:
        nonlocal batches
        batches += 1
        if batches == 4:
            query = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid() and datname = current_database()"
            database.execute(query)
        return inner(result, count)

    monkeypatch.setattr(sql, "_next_rows", cut)
    with pytest.raises(SourceError) as caught:
        workspace.ingest(crm)
    assert "the connection was lost" in caught.value.what
    assert caught.value.fix == "run the ingest again when the database answers"
    assert len(tickets(workspace)) == 3000
    monkeypatch.setattr(sql, "_next_rows", inner)
    (rest,) = workspace.ingest(crm)
    assert (rest.rows_read, rest.inserted, len(tickets(workspace))) == (rows - 2999, rows - 3000, rows)


# ------------------------------------------------------------------------------------------------------- SQLite


@pytest.fixture
def file(workspace: TestWorkspace) -> sqlite3.Connection:
    (workspace.root / "data").mkdir()
    connection = sqlite3.connect(workspace.root / "data" / "crm.db")
    connection.execute('create table "group" (id integer primary key, changed text, "状态" text, "order" real)')
    return connection


def test_a_sqlite_file_is_read_with_text_times_and_an_overlap(
    workspace: TestWorkspace, file: sqlite3.Connection
) -> None:
    crm = source(workspace, block="{url: 'sqlite:///data/crm.db', table: group, cursor: changed, overlap: 10m}")
    with file:
        file.executemany(
            'insert into "group" values (?, ?, ?, ?)',
            [(1, "2026-01-01 09:00:00", "a", 12.0), (2, "2026-01-01 10:00:00", "b", 0.5)],
        )
    workspace.ingest(crm)
    assert tickets(workspace) == [("1", "a", 12.0), ("2", "b", 0.5)]
    with file:
        file.execute("""insert into "group" values (3, '2026-01-01 09:50:00', 'c', null)""")
        file.execute("""insert into "group" values (4, '2026-01-01 09:49:59', 'd', null)""")
    (second,) = workspace.ingest(crm)
    assert (second.rows_read, second.inserted) == (2, 1)


def test_a_sqlite_file_that_is_not_there_is_not_made(workspace: TestWorkspace) -> None:
    crm = source(workspace, block="{url: 'sqlite:///data/nope.db', table: t}")
    with pytest.raises(SourceError, match="unable to open database file"):
        workspace.ingest(crm)
    assert not (workspace.root / "data" / "nope.db").exists()


def test_values_of_any_kind_in_one_sqlite_column_land_as_text(
    workspace: TestWorkspace, file: sqlite3.Connection
) -> None:
    with file:
        file.executemany('insert into "group" values (?, ?, ?, ?)',
                         [(1, "t", 5, 1.5), (2, "t", b"a\x00\\", 2.0), (3, "t", None, "x"), (4, "t", "é", 1e300)])  # fmt: skip
    with Landing(workspace.root / "x", "s") as landing:
        fetched = sql.fetch(
            source(workspace, block="{url: 'sqlite:///data/crm.db', table: group}"), workspace.open(), None, landing
        )
    rows = pq.read_table(workspace.root / "x" / fetched.files[0]).to_pylist()
    assert [(row["状态"], row["order"]) for row in rows] == [
        ("5", "1.5"),
        ("a\\x00\\x5C", "2"),
        (None, "x"),
        ("é", "1e+300"),
    ]


# ------------------------------------------------------------------------------------------------------- refusals


def problem(workspace: TestWorkspace, block: str) -> SourceError:
    with pytest.raises(SourceError) as caught:
        workspace.ingest(source(workspace, block=block))
    error = caught.value
    assert error.where == "source crm"
    assert error.rows
    assert error.fix
    return error


def test_names_that_are_not_there_are_answered_with_those_that_are(
    workspace: TestWorkspace, database: psycopg.Connection[Any]
) -> None:
    assert problem(workspace, "{url: {env: CRM_URL}, table: 工单2}").what == "no table '工单2' (did you mean '工单'?)"
    assert problem(workspace, "{url: {env: CRM_URL}, table: t, schema: sales}").what == "no schema 'sales'"
    wrong = problem(workspace, "{url: {env: CRM_URL}, table: 工单, cursor: change}")
    assert wrong.what == "what is read has no column 'change' (did you mean 'changed'?)"
    assert wrong.rows == "known: changed, id, order, 状态"
    assert "syntax error" in problem(workspace, "{url: {env: CRM_URL}, query: 'selct 1'}").what


def test_a_wrong_password_is_not_repeated(
    workspace: TestWorkspace, database: psycopg.Connection[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    database.execute("create role reader login password 'right'")
    folder = Path(database.info.host)
    hba = folder / "data" / "pg_hba.conf"
    before = hba.read_text()
    try:
        hba.write_text(f"local all reader scram-sha-256\n{before}")
        database.execute("select pg_reload_conf()")
        url = f"postgresql://reader@/{database.info.dbname}?host={folder}"
        monkeypatch.setenv("CRM_PASSWORD", "s3cret/wrong")
        block = f"{{url: '{url}', password: {{env: CRM_PASSWORD}}, table: 工单}}"
        refused = problem(workspace, block)
        assert "password authentication failed" in refused.what
        assert "s3cret" not in str(refused)
        assert "check the user and the password" in refused.fix
        monkeypatch.setenv("CRM_PASSWORD", "right")
        assert "permission denied" in problem(workspace, block).what
        database.execute('grant select on "工单" to reader')
        assert workspace.ingest(source(workspace, block=block)) == []
        everything = "".join(path.read_text(errors="replace") for path in workspace.root.rglob("*") if path.is_file())
        assert "s3cret" not in everything
    finally:
        hba.write_text(before)
        database.execute("select pg_reload_conf()")


def test_a_missing_secret_is_named(workspace: TestWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CRM_URL", raising=False)
    missing = problem(workspace, "{url: {env: CRM_URL}, table: t}")
    assert missing.what == "the environment variable CRM_URL is not set"
    monkeypatch.setenv("CRM_URL", "not a url, hunter2")
    assert "hunter2" not in str(problem(workspace, "{url: {env: CRM_URL}, table: t}"))
    monkeypatch.setenv("CRM_URL", "nosuch+driver://u:hunter2@h/d")
    assert "hunter2" not in str(problem(workspace, "{url: {env: CRM_URL}, table: t}"))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("{url: 'postgresql://u:pw@h/d', table: t}", "the URL has a password in it"),
        ("{url: 'postgresql://u@h/d?password=pw', table: t}", "the URL has a password in it"),
        ("{url: 'postgresql://u@h/d', password: pw, table: t}", "a secret does not stand in a YAML"),
        ("{url: {env: A, keyring: b/c}, table: t}", "name one place of the secret"),
        ("{url: {env: CRM}, table: t, query: q}", "give either 'table' or 'query'"),
        ("{url: {env: CRM}, table: t, overlap: 2h}", "'overlap' needs 'cursor'"),
        ("{url: {env: CRM}, table: t, cursor: c, overlap: soon}", "'soon' is no duration"),
        ("{url: {env: CRM}, tabel: t}", "unknown key 'tabel' (did you mean 'table'?)"),
    ],
)  # fmt: skip
def test_a_block_that_is_unsafe_or_unclear_is_refused(workspace: TestWorkspace, block: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        source(workspace, block=block)
    assert message in caught.value.rows
    assert "pw" not in str(caught.value)


def test_a_block_goes_with_its_connector(workspace: TestWorkspace) -> None:
    for text, message in (
        (SOURCE.replace("connector: sql\n", "connector: rest\n"), "'sql' goes with connector: sql"),
        (SOURCE.replace("sql: {SQL}", "files: data/x.csv"), "connector: sql needs the block 'sql'"),
        (SOURCE.replace("sql: {SQL}", "files: data/x.csv"), "'files' says nothing for connector: sql"),
    ):
        with pytest.raises(SettingsError) as caught:
            workspace.source(text.replace("{SQL}", "{url: {env: A}, table: t}"))
        assert message in caught.value.rows


def test_a_probe_shows_the_columns_and_loads_nothing(
    workspace: TestWorkspace, database: psycopg.Connection[Any]
) -> None:
    put(database, *((i, "2026-01-01", "s", i) for i in range(9)))
    seen = probe(source(workspace), workspace.open())
    assert (seen.columns, len(seen.sample)) == (("id", "changed", "状态", "order"), 3)
    assert seen.reached.startswith("table 工单 at postgresql+psycopg://postgres@/")
    assert not (workspace.root / "data" / "raw").exists()
    assert json.dumps(str(seen)).count("s3cret") == 0
    assert pa.types.is_decimal(pa.array([seen.sample[0]["order"]]).type)


def test_the_example_of_a_database_loads_such_a_table(
    workspace: TestWorkspace, database: psycopg.Connection[Any]
) -> None:
    database.execute("""
        create table service_ticket (ticket_no text primary key, customer_id int, serial_no text, model_code text, kind int,
          channel text, state char(1), priority int, team_name text, title text, description text, created_at timestamp,
          first_reply_at timestamp, resolved_at timestamp, closed_at timestamp, cost numeric(10,2), updated_at timestamp);
        insert into service_ticket values
          ('T1', 7, 'sn1', 'L1', 1, 'phone', 'C', 2, '一组', '门锁', '漏液', '2026-01-01 10:00', '2026-01-01 11:00',
           '2026-01-02 10:00', '2026-01-03 10:00', 12.5, '2026-01-03 10:00'),
          ('T2', 8, null, 'L1', 9, 'web', 'N', null, null, 'x', '-', '2026-01-01 10:00', null, null, null, null, '2026-01-01 10:00')""")
    content = yaml.safe_load((ROOT / "data/sources/examples/crm_database.yml").read_text(encoding="utf-8"))
    content["sql"] = {**content["sql"], "url": {"env": "CRM_URL"}}
    del content["sql"]["password"]
    path = workspace.root / "data" / "sources" / "crm_database.yml"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    crm = read_source(path, workspace.open())
    assert reach(workspace.open(), crm).state == "ok"
    (ledger,) = workspace.ingest(crm)
    assert (ledger.rows_read, ledger.accepted, ledger.rejected) == (2, 1, 1)  # nobody said what kind 9 is
    assert workspace.rows("ticket", "ticket_id", "unit_id", "status", "severity", "cost_total", "closed_at") == [
        ("T1", "SN1", "closed", "high", 12.5, dt.datetime(2026, 1, 3, 2, tzinfo=dt.UTC))
    ]
