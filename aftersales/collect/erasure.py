"""Erasing a person, and the end of retention times: keys are shredded, current rows lose what is personal.

Nothing is rewritten that a pinned run has read: earlier versions keep their files, so their figures come out as they
did; the texts in them can be read by nobody, since their key is gone. What stays in earlier versions is the pseudonym
and other personal values that are no text; only whoever holds the master key and the raw id could tell whose it was.

A tombstone stays in the vault. Rows that are delivered again of an erased person keep what is not personal, so that
counts stay; the rest is empty (`privacy:erased`).

Honest limits: backups of the vault hold the keys until they expire; files as received (`data/raw`) and copies that left
the workbench (exports, mails) are not reached by a key. `raw_files` names the former, `redact_raw` empties their lines.
"""

from __future__ import annotations

import datetime as dt
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import duckdb
import pyarrow as pa

from aftersales.collect.privacy import period_expression, role_of
from aftersales.collect.subject import Subject, id_columns, mine_in, personal_columns, quarantined
from aftersales.lake.commits import Changes, data_files, held_rows
from aftersales.lake.datafiles import parquet_scan
from aftersales.lake.engine import connect, literal, quoted, staging
from aftersales.lake.store import Store
from aftersales.lake.vault import STAFF, open_vault
from aftersales.model.errors import SettingsError, known_names
from aftersales.model.settings import Workspace
from aftersales.model.tables import Table, canonical_table, canonical_tables

if TYPE_CHECKING:
    from deltalake import DeltaTable


@dataclass(frozen=True)
class Erasure:
    """What an erasure did."""

    ids: tuple[str, ...]
    keys: int
    """Keys that were shredded; 0 when it had been done before."""
    rows: Mapping[str, int]
    """Table -> current rows whose personal values were emptied."""
    quarantined: int
    """Rows of the quarantine whose raw text can no longer be read."""
    runs: tuple[str, ...] = field(default=())
    """Reports whose folder still names the person's pseudonym."""


def erase_subject(workspace: Workspace, subject: Subject, *, reason: str, by: str, now: dt.datetime) -> Erasure:
    """Shred every key of a person, empty their current rows and note it in the vault's audit.

    Safe to repeat: what was done stays done, and a run that was killed is completed by the next one.
    """
    vault = open_vault(workspace)
    with _own(workspace) as connection:
        held_back = len(quarantined(workspace, subject, connection))
    keys = vault.erase(subject.owners, reason=reason, now=now)  # first: from here on nothing can be read
    rows = {name: count for name in _present(workspace) if (count := _empty_rows(workspace, name, subject, now))}
    runs = tuple(_runs_naming(workspace, subject))
    details = {"keys": keys, "rows": rows, "quarantined": held_back, "runs": list(runs)}
    vault.note(
        "erase", subject=" ".join(subject.ids or subject.owners[:1]), by=by, reason=reason, details=details, now=now
    )
    return Erasure(subject.ids or subject.owners, keys, rows, held_back, runs)


def _present(workspace: Workspace) -> list[str]:
    return [name for name in Store(workspace.lake).names() if name in canonical_tables()]


class _own:
    """A DuckDB of the workspace, closed afterwards."""

    def __init__(self, workspace: Workspace) -> None:
        self.backend = connect(workspace)

    def __enter__(self) -> duckdb.DuckDBPyConnection:
        return self.backend.con  # type: ignore[no-any-return]

    def __exit__(self, *_: object) -> None:
        self.backend.disconnect()


def _empty_rows(workspace: Workspace, name: str, subject: Subject, now: dt.datetime) -> int:
    """New current versions of the person's rows, without what is personal; how many."""

    def conditions(table: Table, held: set[str]) -> dict[str, str]:
        mine = mine_in(table, held, subject)
        goes = dict.fromkeys(_customer_columns(workspace, name, table, held), mine) if mine != "false" else {}
        if subject.ids:
            listed = ", ".join(literal(value) for value in subject.ids)
            staff = [column for column in id_columns(table, held) if role_of(column) == STAFF and column != table.key]
            goes |= {column: f"{quoted(column)} in ({listed})" for column in staff}
        return goes

    return _emptied(workspace, name, conditions, now, "privacy:erased")


def _customer_columns(workspace: Workspace, name: str, table: Table, held: set[str]) -> list[str]:
    """Personal columns of a row's customer: all above tier P1 but its key and the ids of staff."""
    return [
        column
        for column in personal_columns(workspace, name)
        if column in held
        and column != table.key
        and not (table.column(column).type == "id" and role_of(column) == STAFF)
    ]


def _emptied(
    workspace: Workspace,
    name: str,
    conditions: Callable[[Table, set[str]], Mapping[str, str]],
    now: dt.datetime,
    why: str,
    *,
    apply: bool = True,
) -> int:
    """Current rows of a table with values to empty; each gets a new version without them.

    `conditions` gives, per column, the SQL condition under which its value goes.
    """
    store, table, found = Store(workspace.lake), canonical_table(name), 0
    run, instant = uuid.uuid4().hex[:12], f"{literal(now.isoformat())}::timestamptz"
    schema = pa.schema(store.open(name).schema().to_arrow())

    def changes(current: DeltaTable) -> Changes | None:
        nonlocal found
        if not (paths := data_files(current)):
            return None
        rows = held_rows(paths)
        held = {column for column, *_ in connection.execute(f"describe select * from {rows}").fetchall()}
        if not (goes := conditions(table, held)):
            return None
        since = f"greatest({instant}, known_at)"
        values = {column: f"case when {when} then null else {quoted(column)} end" for column, when in goes.items()}
        values |= {"known_at": since, "loaded_at": instant, "ingest_run_id": literal(run)}
        values |= {column: f"null::{table.column(column).sql_type}" for column in schema.names if column not in held}
        fields = ", ".join(f"{values.get(column, quoted(column))} as {quoted(column)}" for column in schema.names)
        affected = " or ".join(f"({quoted(column)} is not null and ({when}))" for column, when in goes.items())
        connection.execute(f"""
            create or replace temp table emptied as
            select {fields}, data_file as _file, file_row as _place from {rows}
            where superseded_at is null and ({affected})""")
        (found,) = connection.execute("select count(*) from emptied").fetchone() or (0,)
        if not found or not apply:
            return None
        return Changes(
            connection,
            "select * exclude (_file, _place) from emptied",
            "select _file as data_file, _place as file_row, known_at as superseded_at from emptied",
        )

    facts = {"source": why, "file": "", "run": run}
    with staging(workspace) as connection:
        store.merge(name, changes, schema=schema, key=table.key, partition="yr", message=facts)
    return found


def _runs_naming(workspace: Workspace, subject: Subject) -> Iterator[str]:
    """Reports whose files name the person's pseudonym; what is sealed or masked cannot be in them."""
    wanted = [value.encode() for value in subject.ids]
    for folder in sorted(workspace.reports.glob("*/*/")) if wanted else ():
        texts = (path.read_bytes() for path in folder.rglob("*") if path.suffix in (".ipynb", ".html", ".json", ".csv"))
        if any(value in text for text in texts for value in wanted):
            yield f"{folder.parent.name}/{folder.name}"


# ------------------------------------------------------------------------------------------------------- retention


@dataclass(frozen=True)
class Expiry:
    """What has passed its retention time in one table."""

    table: str
    months: int
    before: str
    """Months of the table's clock before this one (YYYY-MM) have expired."""
    periods: int
    """Months with a key that is still there."""
    rows: int
    """Current rows that still have personal values."""


def expired(workspace: Workspace, as_of: dt.datetime, *, apply: bool = False) -> list[Expiry]:
    """What has passed its retention time, table by table; with `apply`, it is emptied and its keys are shredded.

    A month expires as a whole, when its last day is older than `privacy.retention` says. Facts that are not personal
    stay. Running it again changes nothing.

    Raises
    ------
    SettingsError
        `privacy.retention` names a table that does not exist.
    """
    wanted = workspace.settings.privacy.retention
    known = {*canonical_tables(), "quarantine"}
    if strange := sorted(set(wanted) - known):
        raise SettingsError(
            "workbench.yml",
            f"privacy.retention names {', '.join(strange)}",
            rows=known_names(known),
            fix="mend the names",
        )
    found = [_expired_in(workspace, name, months, as_of, apply) for name, months in sorted(wanted.items())]
    if apply and (done := [expiry for expiry in found if expiry.periods or expiry.rows]):
        details = {
            expiry.table: {"before": expiry.before, "rows": expiry.rows, "keys": expiry.periods} for expiry in done
        }
        open_vault(workspace).note("retention", subject="", by="", reason="retention", details=details, now=as_of)
    return found


def _periods(store: Store, name: str) -> list[str]:
    """Months of which the table has rows, in any version."""
    delta, table = store.open(name), canonical_table(name)
    period = period_expression(name, table, set(pa.schema(delta.schema().to_arrow()).names))
    paths = data_files(delta)
    with duckdb.connect() as connection:
        rows = connection.execute(f"select distinct {period} from {parquet_scan(paths)}").fetchall() if paths else []
    return [found for (found,) in rows]


def _expired_in(workspace: Workspace, name: str, months: int, as_of: dt.datetime, apply: bool) -> Expiry:
    first = as_of.year * 12 + as_of.month - 1 - months
    before = f"{first // 12:04d}-{first % 12 + 1:02d}"
    vault, store = open_vault(workspace), Store(workspace.lake)
    first_period, end = literal(f"{name}@0000-00"), literal(f"{name}@{before}")
    keys = [key for key in vault.living(f"{name}@") if f"{name}@0000-00" < key < f"{name}@{before}"]
    if name == "quarantine" or not store.exists(name):
        if apply:
            vault.erase(keys, reason=f"retention of {months} months", now=as_of)
        return Expiry(name, months, before, len(keys), 0)

    def conditions(table: Table, held: set[str]) -> dict[str, str]:
        period = f"({period_expression(name, table, held)})"
        columns = [column for column in personal_columns(workspace, name) if column in held and column != table.key]
        return dict.fromkeys(columns, f"{period} > {first_period} and {period} < {end}")

    rows = _emptied(workspace, name, conditions, as_of, "privacy:expired", apply=False)
    if apply:
        periods = sorted(
            {*keys, *(period for period in _periods(store, name) if f"{name}@0000-00" < period < f"{name}@{before}")}
        )
        vault.erase(
            periods, reason=f"retention of {months} months", now=as_of
        )  # first: nothing can be read from here on
        _emptied(workspace, name, conditions, as_of, "privacy:expired")
    return Expiry(name, months, before, len(keys), rows)
