"""The register: what people decide and what was run, in a transactional database (SQLite or PostgreSQL).

Writers queue on both databases: a writing session takes the write lock when it begins, so what it has read cannot
change under it. Readers never wait and see one state of the register. What a person saw on a screen minutes ago is
guarded by `version` (optimistic locking).
"""

from __future__ import annotations

import contextlib
import datetime as dt
import functools
import json
import sqlite3
import time
import zoneinfo
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, NoReturn, Self

import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.exc import ArgumentError, DatabaseError, IntegrityError, OperationalError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
from sqlalchemy.orm.exc import StaleDataError

from aftersales.model.errors import AftersalesError, SettingsError
from aftersales.model.settings import Workspace

ACTION_STATES = ("proposed", "accepted", "in_progress", "implemented", "hold", "cancelled", "closed")
RUN_STATES = ("ok", "skipped", "refused", "failed")
DUPLICATE_DECISIONS = ("same", "different", "unsure")

SCHEMA_VERSION = "0003"  # newest file in migrations/versions; a test holds the two together
VERSION_TABLE = "register_version"
DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg"}
LOCK_SECONDS = 15
LOCK_KEY = 7_022_114_530_915_381_761  # PostgreSQL advisory lock of this register's writers
WRITES = "register_writes"


class RegisterError(AftersalesError):
    """The register cannot be reached, or was made by a newer version."""


class UnknownActionError(RegisterError):
    """No action of that id."""

    exit_code = 2


class UnknownPairError(RegisterError):
    """No pair of probable duplicates of that id."""

    exit_code = 2


class ChangedMeanwhileError(RegisterError):
    """Somebody else changed the entry after it was read (optimistic lock); nothing was written."""

    exit_code = 1


class Instant(sa.types.TypeDecorator[dt.datetime]):
    """A UTC instant; SQLite keeps no zone, and a time without one is refused."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: dt.datetime | None, dialect: sa.Dialect) -> dt.datetime | None:
        if value is None:
            return None
        if value.utcoffset() is None:
            raise ValueError(f"{value.isoformat()} has no time zone")
        return value.astimezone(dt.UTC)

    def process_result_value(self, value: dt.datetime | None, dialect: sa.Dialect) -> dt.datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=dt.UTC) if value.tzinfo is None else value.astimezone(dt.UTC)


class Base(DeclarativeBase):
    """The tables of the register; migrations/versions builds them."""

    metadata = sa.MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        str: sa.Text(),
        float: sa.Double(),
        dt.date: sa.Date(),
        dt.datetime: Instant(),
        dict[str, Any]: sa.JSON(none_as_null=True),
    }


def _one_of(column: str, values: tuple[str, ...]) -> sa.CheckConstraint:
    return sa.CheckConstraint(f"{column} in ({', '.join(repr(value) for value in values)})", name=column)


class Action(Base):
    """What somebody does about a problem (CAPA); `aftersales.improve.actions` reads and writes it.

    `created_at` and `closed_at` are instants; `due_at`, `implemented_at`, `review_at` are days of the site's calendar.
    """

    __tablename__ = "action"
    __table_args__ = (_one_of("state", ACTION_STATES), sa.Index(None, "state"))

    action_id: Mapped[str] = mapped_column(primary_key=True)
    title: Mapped[str]
    title_zh: Mapped[str] = mapped_column(default="")
    kind: Mapped[str] = mapped_column(default="")
    issue: Mapped[str] = mapped_column(default="")
    owner: Mapped[str] = mapped_column(default="")
    team: Mapped[str] = mapped_column(default="")
    state: Mapped[str] = mapped_column(default="proposed")
    created_at: Mapped[dt.datetime]
    due_at: Mapped[dt.date | None]
    implemented_at: Mapped[dt.date | None]
    review_at: Mapped[dt.date | None]
    closed_at: Mapped[dt.datetime | None]
    failure_mode: Mapped[str] = mapped_column(default="")
    scope: Mapped[dict[str, Any] | None]
    metric: Mapped[str] = mapped_column(default="")
    target_value: Mapped[float | None]
    note: Mapped[str] = mapped_column(default="")
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}  # (update ... where version = :seen)


class ActionChange(Base):
    """One changed field of an action; rows are only ever added.

    The first row of an action has `field = "created"` and all its values as JSON in `new`. `source` is the file an
    import took the value from, empty for a change made by hand. `version` is the action's version after the change.
    """

    __tablename__ = "action_change"
    __table_args__ = (sa.Index(None, "action_id"),)

    change_id: Mapped[int] = mapped_column(primary_key=True)
    action_id: Mapped[str] = mapped_column(sa.ForeignKey("action.action_id"))
    version: Mapped[int]
    changed_at: Mapped[dt.datetime]
    changed_by: Mapped[str]
    source: Mapped[str] = mapped_column(default="")
    field: Mapped[str]
    old: Mapped[str | None]
    new: Mapped[str | None]


class Run(Base):
    """One executed page or report, with everything needed to have its figures again."""

    __tablename__ = "run"
    __table_args__ = (_one_of("state", RUN_STATES), sa.Index(None, "page", "started_at"))

    run_id: Mapped[str] = mapped_column(primary_key=True)
    page: Mapped[str]
    state: Mapped[str]
    reason: Mapped[str] = mapped_column(default="")
    parameters: Mapped[dict[str, Any]] = mapped_column(default=dict)
    table_versions: Mapped[dict[str, Any]] = mapped_column(default=dict)
    metric_versions: Mapped[dict[str, Any]] = mapped_column(default=dict)
    code_version: Mapped[str] = mapped_column(default="")
    as_of: Mapped[dt.datetime | None]
    started_by: Mapped[str] = mapped_column(default="")
    started_at: Mapped[dt.datetime]
    seconds: Mapped[float | None]
    folder: Mapped[str] = mapped_column(default="")


class DuplicatePair(Base):
    """Two rows of one table that are probably one, as a search proposed them: ids, score and evidence, no text."""

    __tablename__ = "duplicate_pair"

    pair_id: Mapped[str] = mapped_column(primary_key=True)
    table_name: Mapped[str]
    left_id: Mapped[str]
    right_id: Mapped[str]
    score: Mapped[float]
    evidence: Mapped[dict[str, Any]]
    found_at: Mapped[dt.datetime]
    found_by: Mapped[str]


class DuplicateDecision(Base):
    """What somebody decided about a pair; rows are only ever added, the newest one counts."""

    __tablename__ = "duplicate_decision"
    __table_args__ = (_one_of("decision", DUPLICATE_DECISIONS), sa.Index(None, "pair_id"))

    decision_id: Mapped[int] = mapped_column(primary_key=True)
    pair_id: Mapped[str] = mapped_column(sa.ForeignKey("duplicate_pair.pair_id"))
    decision: Mapped[str]
    decided_at: Mapped[dt.datetime]
    decided_by: Mapped[str]
    note: Mapped[str] = mapped_column(default="")


class AccessEntry(Base):
    """One question somebody asked of the lake, and how much the answer held; rows are only ever added.

    `tables` is table -> version, `question` a hash of everything that decides the answer, `administrator` who looked
    through the user's eyes, when somebody else did.
    """

    __tablename__ = "access_log"
    __table_args__ = (sa.Index(None, "at"), sa.Index(None, "user", "at"))

    entry_id: Mapped[int] = mapped_column(primary_key=True)
    at: Mapped[dt.datetime]
    user: Mapped[str]
    role: Mapped[str]
    administrator: Mapped[str] = mapped_column(default="")
    run_id: Mapped[str] = mapped_column(default="")
    purpose: Mapped[str] = mapped_column(default="")
    action: Mapped[str]
    object: Mapped[str]
    tables: Mapped[dict[str, Any]] = mapped_column(default=dict)
    row_count: Mapped[int]
    suppressed_count: Mapped[int]
    milliseconds: Mapped[float]
    question: Mapped[str]


_ENTRIES: dict[type[Base], str] = {ActionChange: "change", DuplicateDecision: "decision", AccessEntry: "entry"}


@event.listens_for(ActionChange, "before_update")
@event.listens_for(ActionChange, "before_delete")
@event.listens_for(DuplicateDecision, "before_update")
@event.listens_for(DuplicateDecision, "before_delete")
@event.listens_for(AccessEntry, "before_update")
@event.listens_for(AccessEntry, "before_delete")
def _refuse_rewriting(mapper: object, connection: object, row: Base) -> NoReturn:
    (number,) = sa.inspect(row).identity or ("",)
    raise RegisterError(
        row.__tablename__,
        f"{_ENTRIES[type(row)]} {number} cannot be rewritten or deleted",
        fix="the history is append-only; make a new one",
    )


class Register:
    """An open register whose schema is up to date; made by `open_register`, closed by `with` or `close()`."""

    def __init__(self, engine: sa.Engine, where: str, time_zone: zoneinfo.ZoneInfo) -> None:
        self.engine, self.where, self.time_zone = engine, where, time_zone

    @contextlib.contextmanager
    def session(self) -> Iterator[Session]:
        """A session that may write: committed when the block ends well, else rolled back.

        Other writers wait up to 15 s, so nothing slow belongs into the block. Objects stay readable afterwards.

        Raises
        ------
        ChangedMeanwhileError
            An entry was changed by somebody else between reading and writing.
        RegisterError
            The database cannot be reached, or somebody else keeps it locked.
        """
        writer = self.engine.execution_options(**{WRITES: True})
        with _explained(self.where), Session(writer, expire_on_commit=False) as session, session.begin():
            yield session

    @contextlib.contextmanager
    def reading(self) -> Iterator[Session]:
        """A session that only reads one consistent state; it never waits for writers, and refuses to write."""
        with _explained(self.where), Session(_snapshot(self.engine), expire_on_commit=False) as session:
            event.listen(session, "before_flush", _refuse_writing)
            yield session

    def close(self) -> None:
        """Close the connections."""
        self.engine.dispose()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def open_register(workspace: Workspace) -> Register:
    """The workspace's register, made or brought up to date first when needed.

    Several processes may open it at once: one makes the tables, the others wait for it.

    Raises
    ------
    SettingsError
        `register_url` names no database the register can live in, or its driver is not installed.
    RegisterError
        The database cannot be reached, or a newer version of the workbench has made it.

    Examples
    --------
    >>> with open_register(open_workspace()) as register, register.reading() as session:  # doctest: +SKIP
    ...     session.scalars(sa.select(Action)).all()
    """
    url = _url(workspace)
    where = f"register {url.render_as_string(hide_password=True)}"
    _make_folder(url, where)
    engine = _engine(url)
    try:
        with _explained(where):
            _bring_up_to_date(engine, where)
    except BaseException:
        engine.dispose()
        raise
    return Register(engine, where, zoneinfo.ZoneInfo(workspace.settings.time_zone))


def _url(workspace: Workspace) -> sa.URL:
    """The settings' URL with its driver. The workspace's folder is joined after parsing: its name may hold a `?`."""
    text = workspace.settings.register_url
    fix = "write register_url: sqlite:///data/register.db or postgresql://user@host/database"
    try:
        url = sa.make_url(text)
    except ArgumentError:
        raise SettingsError("workbench.yml, register_url", "not a database URL", fix=fix) from None
    backend = url.get_backend_name()
    if backend not in DRIVERS or not url.database or url.database == ":memory:":
        raise SettingsError(
            "workbench.yml, register_url",
            f"the register cannot live in a '{backend}' database" + ("" if url.database else " without a name"),
            fix=fix,
        )
    if backend == "sqlite":
        url = url.set(database=str(workspace.root / url.database))
    return url.set(drivername=DRIVERS[backend]) if url.drivername == backend else url


def _make_folder(url: sa.URL, where: str) -> None:
    if url.get_backend_name() == "sqlite":
        try:
            Path(str(url.database)).parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise RegisterError(
                where,
                f"its folder cannot be made: {error.strerror}",
                fix="check register_url in workbench.yml and the rights on the folder",
            ) from error


def _engine(url: sa.URL) -> sa.Engine:
    dumps = functools.partial(json.dumps, ensure_ascii=False, allow_nan=False)  # PostgreSQL's json knows no NaN
    is_sqlite = url.get_backend_name() == "sqlite"
    waiting = "timeout" if is_sqlite else "connect_timeout"
    options = {} if waiting in url.query else {waiting: LOCK_SECONDS}
    try:
        engine = sa.create_engine(url, json_serializer=dumps, connect_args=options, pool_pre_ping=not is_sqlite)
    except ModuleNotFoundError as error:
        raise SettingsError(
            "workbench.yml, register_url",
            f"the driver '{error.name}' is not installed",
            fix="pip install 'aftersales[postgres]'",
        ) from error
    event.listen(engine, "connect", _prepare_sqlite if is_sqlite else _prepare_postgresql)
    event.listen(engine, "begin", _begin_sqlite if is_sqlite else _begin_postgresql)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, record: object) -> None:
    connection.isolation_level = None  # we begin transactions ourselves, so that tables are made in one as well
    _switch_to_wal(connection)
    connection.execute("pragma synchronous=normal")
    connection.execute("pragma foreign_keys=on")


def _switch_to_wal(connection: sqlite3.Connection) -> None:
    """SQLite does not wait for a program that writes in the old journal mode (a new file), so we do."""
    give_up = time.monotonic() + LOCK_SECONDS
    while True:
        try:
            connection.execute("pragma journal_mode=wal")
            return
        except sqlite3.OperationalError as error:
            if "locked" not in str(error) or time.monotonic() > give_up:
                raise
            time.sleep(0.02)


def _prepare_postgresql(connection: Any, record: object) -> None:
    connection.execute(f"set lock_timeout = '{LOCK_SECONDS}s'")
    connection.commit()


def _begin_sqlite(connection: sa.Connection) -> None:
    # a transaction that reads first and writes later would fail at once when somebody wrote in between
    connection.exec_driver_sql("begin immediate" if connection.get_execution_options().get(WRITES) else "begin")


def _begin_postgresql(connection: sa.Connection) -> None:
    if connection.get_execution_options().get(WRITES):
        connection.exec_driver_sql(f"select pg_advisory_xact_lock({LOCK_KEY})")


def _snapshot(engine: sa.Engine) -> sa.Engine:
    if engine.dialect.name == "sqlite":
        return engine
    return engine.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def _refuse_writing(session: Session, *_: object) -> NoReturn:
    raise RegisterError("register", "a reading session was asked to write", fix="use register.session()")


def _bring_up_to_date(engine: sa.Engine, where: str) -> None:
    with engine.connect() as connection:
        if _schema_version(connection, where) == SCHEMA_VERSION:
            return
    with engine.execution_options(**{WRITES: True}).begin() as connection:
        if _schema_version(connection, where) != SCHEMA_VERSION:  # nobody else was faster
            from aftersales.lake import migrations  # Alembic is slow to load and rarely needed

            migrations.upgrade(connection)


def _schema_version(connection: sa.Connection, where: str) -> str:
    if not sa.inspect(connection).has_table(VERSION_TABLE):
        return ""
    found = str(connection.exec_driver_sql(f"select version_num from {VERSION_TABLE}").scalar() or "")
    if found > SCHEMA_VERSION:
        raise RegisterError(
            where,
            f"its tables have version {found}; this workbench knows up to {SCHEMA_VERSION}",
            fix="install the newer aftersales version that others use here",
        )
    return found


@contextlib.contextmanager
def _explained(where: str) -> Iterator[None]:
    """Errors of the database as errors a reader can act on; a broken key stays an IntegrityError."""
    try:
        yield
    except StaleDataError as error:
        raise ChangedMeanwhileError(
            where,
            "somebody else changed the same entry first; nothing was written",
            fix="read the entry again and repeat the change",
        ) from error
    except DatabaseError as error:
        if isinstance(error, IntegrityError):
            raise
        raise _unreachable(where, error) from error


def _unreachable(where: str, error: DatabaseError) -> RegisterError:
    reason = " ".join(str(error.orig).split())
    if isinstance(error, OperationalError) and ("locked" in reason or "lock timeout" in reason):
        return RegisterError(
            where,
            f"another program has held the write lock for {LOCK_SECONDS} s",
            fix="try again; if it stays so, find the program that keeps the register open",
        )
    return RegisterError(
        where,
        f"the database cannot be used: {reason}",
        fix="check register_url in workbench.yml, that the server runs, and the rights on it",
    )
