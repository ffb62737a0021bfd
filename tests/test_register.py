"""The register on SQLite and on a real PostgreSQL: schema, sessions, several processes."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from aftersales.lake import migrations
from aftersales.lake import register as module
from aftersales.lake.register import (
    SCHEMA_VERSION,
    VERSION_TABLE,
    Action,
    ActionChange,
    Base,
    ChangedMeanwhileError,
    Register,
    RegisterError,
    Run,
    open_register,
)
from aftersales.model.errors import SettingsError
from aftersales.model.settings import Workspace, open_workspace

NOW = dt.datetime(2026, 11, 2, 8, 30, 15, 123456, tzinfo=dt.UTC)
UNICODE = "电池漏液 'S07', \"引号\"/\\ %s {x} e\u0301 é 🔋 \u202ertl\n第二行\t;"


@pytest.fixture(params=["sqlite", "postgresql"])
def workspace(request: pytest.FixtureRequest, tmp_path: Path) -> Workspace:
    """An empty workspace whose register lies in SQLite, then in PostgreSQL."""
    url = "sqlite:///data/register.db"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgresql")(f"r{os.getpid()}_{time.monotonic_ns()}")
    (tmp_path / "workbench.yml").write_text(f"register_url: {url}\n")
    return open_workspace(tmp_path)


@pytest.fixture
def register(workspace: Workspace) -> Iterator[Register]:
    with open_register(workspace) as opened:
        yield opened


def new_action(action_id: str = "A-1", title: str = "New cell seal") -> Action:
    return Action(action_id=action_id, title=title, created_at=NOW)


PROLOGUE = """
import datetime as dt, sys, time
from aftersales.improve.actions import add_action, change_action, find_action
from aftersales.lake.register import Action, ChangedMeanwhileError, Run, open_register
from aftersales.model.settings import open_workspace
now = dt.datetime(2026, 11, 2, tzinfo=dt.UTC)
workspace, me = open_workspace(sys.argv[1]), sys.argv[2]
"""


def start(workspace: Workspace, code: str, me: str = "w0") -> subprocess.Popen[str]:
    """Another process that runs `code` on the same register."""
    return subprocess.Popen([sys.executable, "-c", PROLOGUE + code, str(workspace.root), me],
                            stdout=subprocess.PIPE, text=True)  # fmt: skip


def finished(process: subprocess.Popen[str]) -> str:
    output, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    return output


# --- schema -------------------------------------------------------------------------------------------------------


def test_models_and_migrations_describe_the_same_tables(register: Register) -> None:
    with register.engine.connect() as connection:
        context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
        assert compare_metadata(context, Base.metadata) == []
        inspector = sa.inspect(connection)
        for name, table in Base.metadata.tables.items():  # what autogenerate does not look at
            wanted = {item.name for item in table.constraints if isinstance(item, sa.CheckConstraint)}
            assert {item["name"] for item in inspector.get_check_constraints(name)} == wanted


@pytest.mark.parametrize("state", module.ACTION_STATES)
def test_every_action_state_is_stored(register: Register, state: str) -> None:
    with register.session() as session:
        action = new_action()
        action.state = state
        session.add(action)


def test_a_state_outside_the_list_is_refused_by_the_database(register: Register) -> None:
    with pytest.raises(sa.exc.IntegrityError), register.session() as session:
        session.add(Run(run_id="r1", page="overview", state="done", started_at=NOW))


def test_the_newest_migration_is_the_version_the_code_expects() -> None:
    engine = sa.create_engine("sqlite://")
    with engine.connect() as connection:
        script = ScriptDirectory.from_config(migrations.configuration(connection))
    assert script.get_heads() == [SCHEMA_VERSION]
    assert {len(revision.revision) for revision in script.walk_revisions()} == {4}


def test_migrations_run_down_and_up_again(workspace: Workspace) -> None:
    with open_register(workspace) as register:
        with register.session() as session:
            session.add(new_action())
        with register.engine.begin() as connection:
            migrations.downgrade(connection, "base")
            assert sa.inspect(connection).get_table_names() == [VERSION_TABLE]
    with open_register(workspace) as register, register.reading() as session:
        assert session.scalars(sa.select(Action)).all() == []
        assert set(sa.inspect(session.connection()).get_table_names()) == {*Base.metadata.tables, VERSION_TABLE}


def test_a_migration_that_fails_leaves_nothing_behind(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    def half(connection: sa.Connection) -> None:
        connection.execute(sa.text("create table half_made (a integer)"))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(migrations, "upgrade", half)
        with pytest.raises(KeyboardInterrupt):
            open_register(workspace)
    with open_register(workspace) as register, register.engine.connect() as connection:
        assert "half_made" not in sa.inspect(connection).get_table_names()


def test_opening_again_keeps_the_rows_and_does_not_run_alembic(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_register(workspace) as register, register.session() as session:
        session.add(new_action(title=UNICODE))
    monkeypatch.setattr(migrations, "upgrade", lambda connection: pytest.fail("ran Alembic"))
    with open_register(workspace) as register, register.reading() as session:
        assert session.scalars(sa.select(Action.title)).all() == [UNICODE]


def test_a_register_of_a_newer_workbench_is_refused(workspace: Workspace) -> None:
    with open_register(workspace) as register, register.engine.begin() as connection:
        connection.execute(sa.text(f"update {VERSION_TABLE} set version_num = '0999'"))
    with pytest.raises(
        RegisterError, match=rf"version 0999; this workbench knows up to {SCHEMA_VERSION}\n.*newer aftersales"
    ):
        open_register(workspace)


def test_four_processes_may_open_a_new_register_at_once(workspace: Workspace) -> None:
    code = "with open_register(workspace) as register:\n    add_action(register, me, title=me, who=me, now=now)"
    processes = [start(workspace, code, f"w{number}") for number in range(4)]
    for process in processes:
        finished(process)
    with open_register(workspace) as register, register.reading() as session:
        assert sorted(session.scalars(sa.select(Action.action_id))) == ["w0", "w1", "w2", "w3"]


# --- connections --------------------------------------------------------------------------------------------------


def test_every_sqlite_connection_has_its_settings(tmp_path: Path) -> None:
    (tmp_path / "workbench.yml").write_text("name: x\n")
    with open_register(open_workspace(tmp_path)) as register:
        first, second = register.engine.connect(), register.engine.connect()
        for connection in (first, second):
            found = [connection.exec_driver_sql(f"pragma {name}").scalar()
                     for name in ("journal_mode", "synchronous", "foreign_keys", "busy_timeout")]  # fmt: skip
            assert found == ["wal", 1, 1, 15_000]
            connection.close()
    assert (tmp_path / "data" / "register.db").is_file()


def test_opening_waits_for_a_program_that_writes_in_the_old_journal_mode(tmp_path: Path) -> None:
    workspace = with_url(tmp_path, "sqlite:///register.db")
    with contextlib.closing(
        sqlite3.connect(tmp_path / "register.db", isolation_level=None, check_same_thread=False)
    ) as other:
        other.execute("begin immediate")
        other.execute("create table theirs (a integer)")
        timer = threading.Timer(0.3, other.execute, ["commit"])
        timer.start()
        with open_register(workspace) as register, register.engine.connect() as connection:
            assert connection.exec_driver_sql("pragma journal_mode").scalar() == "wal"
            assert {"theirs", "action"} <= set(sa.inspect(connection).get_table_names())
        timer.join()


def test_a_change_without_its_action_is_refused(register: Register) -> None:
    with pytest.raises(sa.exc.IntegrityError), register.session() as session:
        session.add(ActionChange(action_id="none", version=1, changed_at=NOW, changed_by="li", field="state"))


@pytest.mark.parametrize("name", ["a?b", "100% 完成", "x#y", "it's & co"])
def test_a_folder_of_any_name_holds_a_register(tmp_path: Path, name: str) -> None:
    folder = tmp_path / name
    folder.mkdir()
    (folder / "workbench.yml").write_text("name: x\n")
    open_register(open_workspace(folder)).close()
    assert (folder / "data" / "register.db").is_file()
    assert [path.name for path in tmp_path.iterdir()] == [name]


def with_url(folder: Path, url: str) -> Workspace:
    (folder / "workbench.yml").write_text(f"register_url: {url}\n")
    return open_workspace(folder)


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("mysql://x/y", "cannot live in a 'mysql' database"),
        ("nonsense", "not a database URL"),
        ("'sqlite:///:memory:'", "cannot live in a 'sqlite' database"),
        ("'sqlite://'", "without a name"),
    ],
)
def test_a_url_that_cannot_hold_a_register_is_refused(tmp_path: Path, url: str, words: str) -> None:
    with pytest.raises(SettingsError, match=f"register_url: .*{words}(.|\n)*write register_url:"):
        open_register(with_url(tmp_path, url))


def test_a_server_that_does_not_answer_is_named_without_its_password(tmp_path: Path) -> None:
    pytest.importorskip("psycopg")
    workspace = with_url(tmp_path, "postgresql://li:geheim@127.0.0.1:1/register")
    with pytest.raises(RegisterError, match=r"li:\*\*\*@127.0.0.1:1/register: the database cannot be used: ") as caught:
        open_register(workspace)
    assert "geheim" not in str(caught.value)
    assert caught.value.fix.startswith("check register_url")


def test_a_missing_driver_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(SettingsError, match=r"driver 'psycopg' is not installed(.|\n)*aftersales\[postgres\]"):
        open_register(with_url(tmp_path, "postgresql://li@127.0.0.1:1/register"))


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "register.db").write_text("these are a few words, and no database at all")
    with pytest.raises(RegisterError, match=r"data/register.db: the database cannot be used: file is not a database"):
        open_register(with_url(tmp_path, "sqlite:///data/register.db"))


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "data").write_text("a file where the folder should be")
    with pytest.raises(RegisterError, match="its folder cannot be made"):
        open_register(with_url(tmp_path, "sqlite:///data/deep/register.db"))


def test_a_lock_that_is_held_too_long_is_explained(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOCK_SECONDS", 1)
    with open_register(workspace) as register, register.session() as first:
        first.add(new_action())
        first.flush()
        with (
            pytest.raises(RegisterError, match=r"another program has held the write lock for 1 s\n.*try again"),
            register.session() as second,
        ):
            second.add(new_action("A-2"))
    with open_register(workspace) as register, register.reading() as session:
        assert session.scalars(sa.select(Action.action_id)).all() == ["A-1"]


# --- sessions -----------------------------------------------------------------------------------------------------


def test_instants_come_back_in_utc_to_the_microsecond(register: Register) -> None:
    shanghai = NOW.astimezone(dt.timezone(dt.timedelta(hours=8)))
    with register.session() as session:
        session.add(Run(run_id="r1", page="overview", state="ok", started_at=shanghai, as_of=None, seconds=0.25))
    with register.reading() as session:
        run = session.get_one(Run, "r1")
        assert (run.started_at, run.started_at.tzinfo, run.as_of, run.seconds) == (NOW, dt.UTC, None, 0.25)


def test_a_time_without_zone_is_refused(register: Register) -> None:
    with pytest.raises(sa.exc.StatementError, match="has no time zone"), register.session() as session:
        session.add(Run(run_id="r1", page="overview", state="ok", started_at=NOW.replace(tzinfo=None)))


def test_a_run_keeps_its_parameters_and_versions(register: Register) -> None:
    parameters = {"product": "锁 \"X\" \\ / 'q'", "n": 12, "share": 0.1, "none": None, "list": ["a", {"b": True}]}
    with register.session() as session:
        session.add(Run(run_id="运行/1", page="root_cause", state="refused", reason="no rows", started_at=NOW,
                        parameters=parameters, table_versions={"ticket": 3}, metric_versions={"nps": "2026-11-01"},
                        as_of=NOW, started_by="li", folder="reports/runs/运行"))  # fmt: skip
    with register.reading() as session:
        run = session.get_one(Run, "运行/1")
        assert run.parameters == parameters
        assert (run.table_versions, run.metric_versions) == ({"ticket": 3}, {"nps": "2026-11-01"})
        assert session.scalars(sa.select(sa.cast(Run.parameters, sa.Text))).one().startswith('{"product": "锁')


def test_a_block_that_fails_writes_nothing(register: Register) -> None:
    with pytest.raises(ZeroDivisionError), register.session() as session:
        session.add(new_action())
        session.flush()
        _ = 1 / 0
    with register.reading() as session:
        assert session.scalars(sa.select(Action)).all() == []


def test_a_reading_session_refuses_to_write(register: Register) -> None:
    with pytest.raises(RegisterError, match="a reading session was asked to write"), register.reading() as session:
        session.add(new_action())
        session.flush()


def test_a_reader_neither_waits_nor_sees_half_a_change(register: Register) -> None:
    with register.session() as writing:
        writing.add(new_action())
        writing.flush()
        with register.reading() as session:
            assert session.scalars(sa.select(Action)).all() == []


def test_a_reader_sees_one_state_to_the_end(register: Register) -> None:
    with register.reading() as session:
        assert session.scalars(sa.select(Action)).all() == []
        with register.session() as writing:
            writing.add(new_action())
        assert session.scalars(sa.select(Action)).all() == []


def test_the_version_guards_an_update_even_without_the_lock(register: Register) -> None:
    with register.session() as session:
        session.add(new_action())
    first = "somebody else changed the same entry first"
    with pytest.raises(ChangedMeanwhileError, match=first), register.session() as session:
        row = session.get_one(Action, "A-1")
        session.execute(sa.text("update action set version = 2"))  # somebody else
        row.note = "mine"
    with register.reading() as session:
        assert session.get_one(Action, "A-1").version == 1


@pytest.mark.parametrize("rewrite", ["update", "delete"])
def test_the_history_cannot_be_rewritten(register: Register, rewrite: str) -> None:
    with register.session() as session:
        session.add(new_action())
        session.flush()
        session.add(ActionChange(action_id="A-1", version=1, changed_at=NOW, changed_by="li", field="created"))
    with pytest.raises(RegisterError, match="append-only"), register.session() as session:
        change = session.scalars(sa.select(ActionChange)).one()
        if rewrite == "delete":
            session.delete(change)
        change.changed_by = "wang"


# --- several processes --------------------------------------------------------------------------------------------

WRITER = """
with open_register(workspace) as register:
    for number in range(40):
        add_action(register, f"{me}-{number}", title="动作", who=me, now=now)
        while True:  # everybody also counts on one shared action
            seen = find_action(register, "shared")
            try:
                change_action(register, "shared", seen_version=seen.version, who=me, now=now,
                              target_value=seen.target_value + 1)
                break
            except ChangedMeanwhileError:
                pass
"""


def test_three_writers_at_once_lose_nothing(workspace: Workspace, register: Register) -> None:
    with register.session() as session:
        shared = new_action("shared")
        shared.target_value = 0.0
        session.add(shared)
    for process in [start(workspace, WRITER, f"w{number}") for number in range(3)]:
        finished(process)
    with register.reading() as session:
        ids = set(session.scalars(sa.select(Action.action_id)))
        assert ids == {"shared"} | {f"w{writer}-{number}" for writer in range(3) for number in range(40)}
        shared = session.get_one(Action, "shared")
        assert (shared.target_value, shared.version) == (120.0, 121)
        history = sa.select(ActionChange).where(ActionChange.action_id == "shared").order_by(ActionChange.change_id)
        changes = [(change.version, change.old, change.new) for change in session.scalars(history)]
        assert changes == [(n + 2, f"{n}.0", f"{n + 1}.0") for n in range(120)]


ENDLESS = """
with open_register(workspace) as register:
    for number in range(1_000_000):
        action = add_action(register, f"{number:06}", title="x" * 3000, who=me, now=now)
        change_action(register, action.action_id, seen_version=1, who=me, now=now, note="y" * 3000)
        print(number, flush=True)
"""


def test_a_writer_killed_at_any_moment_leaves_a_consistent_register(workspace: Workspace) -> None:
    process = start(workspace, ENDLESS)
    assert process.stdout is not None
    acknowledged = [int(process.stdout.readline()) for _ in range(25)]
    process.kill()
    acknowledged += [int(line) for line in process.communicate()[0].splitlines() if line.strip()]
    with open_register(workspace) as register, register.session() as session:
        rows = {row.action_id: row for row in session.scalars(sa.select(Action))}
        fields: dict[str, list[tuple[int, str]]] = {}
        for change in session.scalars(sa.select(ActionChange).order_by(ActionChange.change_id)):
            fields.setdefault(change.action_id, []).append((change.version, change.field))
        done = [f"{number:06}" for number in acknowledged]
        assert len(done) >= 25
        assert {rows[action_id].version for action_id in done} == {2}
        assert len(rows) - len(done) <= 1  # the one that was under way
        for action_id, row in rows.items():  # no action without its history, no half of one
            assert fields.pop(action_id) == [(1, "created"), (2, "note")][: row.version]
        assert fields == {}
        session.add(new_action("after"))
    if workspace.settings.register_url.startswith("sqlite"):
        with sqlite3.connect(workspace.root / "data" / "register.db") as connection:
            assert connection.execute("pragma integrity_check").fetchall() == [("ok",)]
        connection.close()


HOLDING = """
with open_register(workspace) as register, register.session() as session:
    session.add(Action(action_id="half", title="half", created_at=now))
    session.flush()
    print("written, not committed", flush=True)
    time.sleep(120)
"""


def test_the_lock_of_a_killed_writer_is_free_at_once(workspace: Workspace) -> None:
    process = start(workspace, HOLDING)
    assert process.stdout is not None
    assert process.stdout.readline() == "written, not committed\n"
    process.kill()
    process.communicate()
    started = time.monotonic()
    with open_register(workspace) as register, register.session() as session:
        session.add(new_action("next"))
        session.flush()
        assert session.scalars(sa.select(Action.action_id)).all() == ["next"]
    assert time.monotonic() - started < 5


def test_a_register_of_its_own_time_zone(tmp_path: Path) -> None:
    workspace = with_url(tmp_path, "sqlite:///data/register.db")
    berlin = replace(workspace, settings=workspace.settings.model_copy(update={"time_zone": "Europe/Berlin"}))
    with open_register(berlin) as register:
        assert register.time_zone.key == "Europe/Berlin"
