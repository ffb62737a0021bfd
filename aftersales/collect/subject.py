"""One person in the lake: under which names, in which rows of which tables, and all of it as a readable file.

A person is asked for by the id as a source writes it, or by the pseudonym. Their rows are those that name them, and
those of their threads that name nobody. Every text of theirs is sealed under one of their `owners` (`lake.vault`).
"""

from __future__ import annotations

import datetime as dt
import io
import json
import os
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from aftersales.collect.mapping import catalogue
from aftersales.collect.privacy import column_tier, is_pseudonymised, pseudonym_of_raw, role_of, subject_columns
from aftersales.lake.commits import data_files
from aftersales.lake.datafiles import parquet_scan
from aftersales.lake.engine import connect, literal, quoted
from aftersales.lake.store import Store
from aftersales.lake.vault import CUSTOMER, SEAL, STAFF, open_vault, pseudonyms, readable
from aftersales.model.errors import ParameterError
from aftersales.model.settings import Workspace
from aftersales.model.tables import Table, canonical_table, canonical_tables
from aftersales.model.tiers import raised_tiers

THREADS = {"ticket": "ticket_id", "thread": "thread_id"}


@dataclass(frozen=True)
class Subject:
    """A person as the lake knows them."""

    ids: tuple[str, ...]
    """Values of the columns that name them: pseudonyms, or ids of a source that sends pseudonyms."""
    threads: Mapping[str, tuple[str, ...]]
    """Their tickets and mail threads, by kind."""
    owners: tuple[str, ...]
    """Every name under which a text of theirs may be sealed."""


def personal_columns(workspace: Workspace, name: str) -> dict[str, str]:
    """Columns of a canonical table above tier P1, each with its tier; what sources raise counts too."""
    table = canonical_table(name)
    raised = [key.partition(".") for key in raised_tiers(workspace)]
    more = [column for of, _, column in raised if of == name and column not in table.columns]
    columns = {**table.columns, **{column: table.column(column) for column in more}}
    tiers = {column: column_tier(workspace, name, column, spec) for column, spec in columns.items()}
    return {column: tier for column, tier in tiers.items() if tier >= "P2"}


def find_subject(workspace: Workspace, given: str) -> Subject:
    """The person of that id: as a source writes it, as a pseudonym, or as `ticket:<id>` where no customer is known.

    Raises
    ------
    ParameterError
        Nobody of that id is in the lake. The id is not repeated in the message.
    """
    store, vault = Store(workspace.lake), open_vault(workspace)
    candidates = sorted({given, *_pseudonyms_of(workspace, given)})
    with _reader(workspace, candidates) as connection:
        ids: set[str] = set()
        threads: dict[str, set[str]] = {kind: set() for kind in THREADS}
        for _, table, scan, held in _tables(store):
            for column in id_columns(table, held):
                ids |= _column(
                    connection, f"select distinct {quoted(column)} from {scan} where {quoted(column)} in (from wanted)"
                )
        kind, _, own = given.partition(":")
        if kind in threads and own:
            threads[kind].add(own)
        connection.register("wanted", pa.table({"id": pa.array(sorted(ids), pa.string())}))
        owners = set()
        for name, table, scan, held in _tables(store):
            named = [column for column in subject_columns(table) if column in held]
            if not named:
                continue
            mine = " or ".join(f"{quoted(column)} in (from wanted)" for column in named)
            owners |= {
                f"{name}:{key}"
                for key in _column(connection, f"select distinct {quoted(table.key)} from {scan} where {mine}")
            }
            for kind, column in THREADS.items():
                if column in held:
                    threads[kind] |= _column(connection, f"select distinct {quoted(column)} from {scan} where {mine}")
    owners |= ids | {f"{kind}:{value}" for kind, values in threads.items() for value in values}
    owners |= {name for name in candidates if name in vault.erased() or vault.has_key(name)}
    if not owners:
        raise ParameterError(
            "subject",
            "nobody of that id is in the lake",
            fix="give the id as the source writes it, the pseudonym (c_..., s_...), or ticket:<id>",
        )
    ids |= {name for name in candidates if name.startswith((CUSTOMER, STAFF)) and name in owners}
    return Subject(
        tuple(sorted(ids)), {kind: tuple(sorted(found)) for kind, found in threads.items()}, tuple(sorted(owners))
    )


def _pseudonyms_of(workspace: Workspace, given: str) -> Iterator[str]:
    """What the sources would make of a raw id."""
    made = pseudonyms(workspace)
    yield from (made.of(given.strip(), role) for role in (CUSTOMER, STAFF))
    for source in catalogue(workspace).values():
        for name, mapping in source.tables.items():
            table = canonical_table(name)
            for column, spec in mapping.columns.items():
                if is_pseudonymised(workspace, name, column, table.column(column), spec):
                    yield pseudonym_of_raw(given, spec, role_of(column), made)


def id_columns(table: Table, held: set[str]) -> list[str]:
    """Columns of a table that name a person."""
    return [
        name for name, column in table.columns.items() if column.type == "id" and column.tier >= "P2" and name in held
    ]


def mine_in(table: Table, held: set[str], subject: Subject) -> str:
    """SQL: whether a row is the person's as a customer: it names them, or it is of their thread and names nobody."""
    named = [quoted(column) for column in subject_columns(table) if column in held]
    parts = [f"{column} in {_listed(subject.ids)}" for column in named if subject.ids]
    nobody = " and ".join(f"{column} is null" for column in named) or "true"
    for kind, column in THREADS.items():
        if column in held and subject.threads[kind]:
            parts.append(f"({quoted(column)} in {_listed(subject.threads[kind])} and {nobody})")
    return " or ".join(parts) or "false"


def served_by(table: Table, held: set[str], subject: Subject) -> str:
    """SQL: whether a row names the person as a member of staff."""
    staff = [quoted(column) for column in id_columns(table, held) if role_of(column) == STAFF]
    return " or ".join(f"{column} in {_listed(subject.ids)}" for column in staff if subject.ids) or "false"


def _listed(values: tuple[str, ...]) -> str:
    return "(" + ", ".join(literal(value) for value in values) + ")"


def _column(connection: duckdb.DuckDBPyConnection, query: str) -> set[str]:
    return {value for (value,) in connection.execute(query).fetchall() if value is not None}


def _tables(store: Store) -> Iterator[tuple[str, Table, str, set[str]]]:
    """The canonical tables that have files: name, description, SQL that reads every version, columns."""
    for name in store.names():
        if name in canonical_tables():
            delta = store.open(name)
            if paths := data_files(delta):
                yield name, canonical_table(name), parquet_scan(paths), set(pa.schema(delta.schema().to_arrow()).names)


class _reader:
    """A connection that can unseal, with the wanted ids as the table `wanted`."""

    def __init__(self, workspace: Workspace, wanted: list[str]) -> None:
        self.backend = connect(workspace)
        self.backend.con.register("wanted", pa.table({"id": pa.array(wanted, pa.string())}))

    def __enter__(self) -> duckdb.DuckDBPyConnection:
        return self.backend.con  # type: ignore[no-any-return]

    def __exit__(self, *_: object) -> None:
        self.backend.disconnect()


# ---------------------------------------------------------------------------------------------------------- export


def rows_about(workspace: Workspace, subject: Subject) -> dict[str, list[dict[str, Any]]]:
    """Every version of every row about the person, texts unsealed, with its provenance; the quarantine too.

    Returns
    -------
    Table -> rows as plain values, the oldest first. Rows the person only handled as a member of staff come with them.
    """
    store, found = Store(workspace.lake), {}
    with _reader(workspace, []) as connection:
        for name, table, scan, held in _tables(store):
            texts = [
                column for column, spec in table.columns.items() if spec.type in ("text", "str") and column in held
            ]
            plain = ", ".join(f"{readable(quoted(column))} as {quoted(column)}" for column in texts)
            columns = f"* replace ({plain})" if plain else "*"
            where = f"{mine_in(table, held, subject)} or {served_by(table, held, subject)}"
            rows = connection.execute(f"select {columns} from {scan} where {where} order by known_at, source_row")
            if listed := rows.to_arrow_table().to_pylist():
                found[name] = [_without_empty(row) for row in listed]
        if held_back := quarantined(workspace, subject, connection):
            found["quarantine"] = held_back
    return found


def _without_empty(row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


def quarantined(workspace: Workspace, subject: Subject, connection: duckdb.DuckDBPyConnection) -> list[dict[str, Any]]:
    """Rows of the quarantine whose raw text is sealed for the person."""
    store, keys = Store(workspace.lake), open_vault(workspace).key_ids(subject.owners)
    if not store.exists("quarantine") or not keys or not (paths := data_files(store.open("quarantine"))):
        return []
    mine = " or ".join(f"starts_with(raw, '{SEAL}{key}.')" for key in keys)
    query = (
        f"select * replace ({readable('raw')} as raw) from {parquet_scan(paths)} where {mine} order by quarantine_id"
    )
    return [_without_empty(row) for row in connection.execute(query).to_arrow_table().to_pylist()]


def export_subject(workspace: Workspace, subject: Subject, target: Path, now: dt.datetime) -> dict[str, int]:
    """Write everything about one person to `target`: `.json`, or `.zip` with JSON and an xlsx sheet per table.

    The file is for the owner alone (mode 0600). Returns rows per table.
    """
    tables = rows_about(workspace, subject)
    content = json.dumps(
        {"subject": subject.ids or subject.owners, "made_at": now.isoformat(timespec="seconds"), "tables": tables},
        ensure_ascii=False, indent=2, default=str,
    ).encode()  # fmt: skip
    if target.suffix == ".zip":
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("subject.json", content)
            archive.writestr("subject.xlsx", _workbook(tables))
        content = packed.getvalue()
    elif target.suffix != ".json":
        raise ParameterError(
            "--out", f"'{target.suffix}' is no format", rows="known: .json, .zip", fix="use one of them"
        )
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    with os.fdopen(os.open(target, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    return {name: len(rows) for name, rows in tables.items()}


def _workbook(tables: Mapping[str, list[dict[str, Any]]]) -> bytes:
    import xlsxwriter

    target = io.BytesIO()
    book = xlsxwriter.Workbook(target, {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False})
    for name, rows in tables.items():
        sheet = book.add_worksheet(name[:31])
        heads = list(dict.fromkeys(column for row in rows for column in row))
        sheet.write_row(0, 0, heads)
        for line, row in enumerate(rows, 1):
            sheet.write_row(line, 0, ["" if row.get(head) is None else str(row[head]) for head in heads])
    if not tables:
        book.add_worksheet("nothing")
    book.close()
    return target.getvalue()
