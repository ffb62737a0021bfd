"""Rows of the quarantine, mapped again after the mapping or a code list was mended; the files may be gone.

A row that now comes through moves into its tables with the file and row it came from, and its entry is closed by a row
of `release`; one that is held back for other reasons gets a new entry. Nothing is deleted. What was left out because
its row was rejected (other tables fed by the same row) is offered again with it.

The ledger is counted anew from the load of the whole file and everything released since, so its law holds after a
replay as before it: `rows_read = accepted + rejected + duplicate`. A second replay changes nothing. Rows that were
accepted as they are (`otherwise: keep`) are not in the quarantine: `aftersales ingest` reads their file again.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import time
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow as pa

from aftersales.collect.bookkeeping import add_system_rows, write_ledger, write_measured
from aftersales.collect.checks import table_checks
from aftersales.collect.comparison import closures_query, compare_with_lake, inserts_query
from aftersales.collect.connectors.files.received import ReceivedFile
from aftersales.collect.delivery import Delivery, Load, commit_facts
from aftersales.collect.fit import Fit, fit
from aftersales.collect.ledger import Entry, Offered, open_entries
from aftersales.collect.mapping import FittedMapping, Source, read_code_lists
from aftersales.collect.privacy import install_privacy, is_pseudonymised
from aftersales.collect.remeasure import measured_again, values_lacking
from aftersales.collect.staging import stage_table
from aftersales.collect.typed import MACROS
from aftersales.lake.commits import Changes, held_rows
from aftersales.lake.engine import literal, staging
from aftersales.lake.store import SYSTEM_TABLES, Store, arrow_schema
from aftersales.model.errors import SourceError
from aftersales.model.settings import Workspace
from aftersales.model.tables import SITE_PREFIX, canonical_table

if TYPE_CHECKING:
    from deltalake import DeltaTable

RESERVED = ("_row", "_bad", "_label", "_offered", "_line")
EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.UTC)
CAME_IN = ("inserted", "corrected", "unchanged")


@dataclass
class _Outcome:
    """What became of the rows of one table, and what is to be written down about it."""

    releases: list[dict[str, Any]] = field(default_factory=list)
    entries: list[dict[str, Any]] = field(default_factory=list)
    newest_known_at: dt.datetime | None = None


def replay_source(
    workspace: Workspace, source: Source, *, loaded_at: dt.datetime | None = None
) -> Iterator[list[Delivery]]:
    """Map the rows of a source's quarantine again; yields the new ledger of each file of which a row changed its state.

    Parameters
    ----------
    loaded_at
        The instant that counts as "now".

    Raises
    ------
    SourceError
        The kept rows lack a column that the mended mapping names.
    """
    store = Store(workspace.lake)
    by_file = open_entries(workspace, store, source.name)
    again = _with_kept_pseudonyms(workspace, source)
    code_lists, checks = read_code_lists(workspace, source), table_checks(workspace)
    for ledgers, entries in by_file:
        first = next(iter(ledgers.values()))
        load = Load(
            workspace,
            store,
            again,
            _kept_file(first),
            source.fingerprint(workspace),
            code_lists,
            uuid.uuid4().hex[:12],
            loaded_at or dt.datetime.now(dt.UTC),
            checks,
        )
        if changed := _replay_file(load, ledgers, entries):
            yield changed


def _with_kept_pseudonyms(workspace: Workspace, source: Source) -> Source:
    """The mapping for kept rows: their personal ids are pseudonyms by now, and are taken as they are."""
    tables = {}
    for name, mapping in source.tables.items():
        table = canonical_table(name)
        columns = {
            column: spec.model_copy(update={"pseudonym": False, "case": None, "prefix": ""})
            if is_pseudonymised(workspace, name, column, table.column(column), spec)
            else spec
            for column, spec in mapping.columns.items()
        }
        tables[name] = mapping.model_copy(update={"columns": columns})
    return source.model_copy(update={"tables": tables})


def _kept_file(ledger: Delivery) -> ReceivedFile:
    """The delivered file as far as the ledger remembers it."""
    loaded = ledger.loaded_at or dt.datetime.now(dt.UTC)
    name = ledger.source_file
    return ReceivedFile(Path(name), name, "jsonl", ledger.sha256, ledger.bytes, int(loaded.timestamp()) * 1_000_000_000)


def _replay_file(load: Load, ledgers: Mapping[str, Delivery], entries: list[Entry]) -> list[Delivery]:
    started = time.perf_counter()
    outcomes: dict[str, _Outcome] = {}
    measured: list[dict[str, Any]] = []
    lacking: list[dict[str, Any]] = []
    try:
        with staging(load.workspace) as connection:
            connection.execute(MACROS)
            install_privacy(connection, load.workspace)
            found = fit(load.source, _keep_rows(connection, entries))
            if not found.tables:
                raise _nothing_fits(load, found)
            load = replace(load, source=load.source.model_copy(update={"tables": found.tables}))
            for name, mapping in found.tables.items():
                if name not in ledgers:
                    continue
                offered = _offer(load, connection, name, entries)
                outcomes[name] = _replay_table(load, connection, name, mapping, ledgers[name], offered)
                measured += measured_again(load, connection, name, offered, outcomes[name].releases)
                lacking += values_lacking(load, connection, name)
    except (duckdb.Error, OSError) as error:
        said = (str(error).splitlines() or [type(error).__name__])[0][:300]
        raise SourceError(
            load.file.name, f"could not be replayed by {load.source.name}.yml: {said}",
            rows="the last version of every table stays readable", fix="mend the mapping, then run it again",
        ) from error  # fmt: skip
    if not any(outcome.releases for outcome in outcomes.values()):
        return []
    _write_down(load, outcomes)
    write_measured(load, measured, lacking)
    seconds = round(time.perf_counter() - started, 3)
    changed = [
        replace(
            _counted(load, ledgers[name]),
            seconds=seconds,
            newest_known_at=max(filter(None, (ledgers[name].newest_known_at, outcome.newest_known_at)), default=None),
        )
        for name, outcome in outcomes.items()
        if outcome.releases
    ]
    write_ledger(load, changed)
    return changed


def _nothing_fits(load: Load, found: Fit) -> SourceError:
    return SourceError(
        load.file.name,
        f"the kept rows cannot fill any table: {'; '.join(found.refused.values())}",
        rows="they have the columns of the file they came with",
        fix=f"mend 'from' in {load.source.name}.yml; nothing was changed",
    )


def _keep_rows(connection: duckdb.DuckDBPyConnection, entries: list[Entry]) -> list[str]:
    """Make `kept`: the raw rows of the entries, one per row of the file; returns the file's own columns."""
    rows: dict[int, dict[str, Any]] = {}
    for entry in entries:
        rows.setdefault(entry.source_row, entry.content())
    columns = list(dict.fromkeys(name for row in rows.values() for name in row if name not in RESERVED))
    arrays = {name: pa.array([_text(row.get(name)) for row in rows.values()], pa.string()) for name in columns}
    kept = pa.table({"_row": pa.array(rows, pa.int64()), "_bad": pa.nulls(len(rows), pa.string()), **arrays})
    connection.register("kept_rows", kept)
    connection.execute("create or replace temp table kept as select * from kept_rows order by _row")
    return columns


def _text(value: Any) -> str | None:
    return value if value is None or isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _offer(load: Load, connection: duckdb.DuckDBPyConnection, name: str, entries: list[Entry]) -> Offered:
    """Make `raw` for one table, and say which entries each of its rows comes from.

    That is the rows with an entry of their own, and those that were left out with a rejected row of the first table;
    staging leaves out what is still rejected there.
    """
    offered: Offered = {}
    for entry in entries:
        if entry.table == name:
            offered.setdefault(entry.source_row, []).append(entry)
    if name != load.source.primary:
        for entry in entries:
            if entry.table == load.source.primary and entry.kind == "row" and entry.source_row not in offered:
                offered[entry.source_row] = [replace(entry, table=name, kind="left_out", reasons=())]
    connection.register("offered_rows", pa.table({"_row": pa.array(offered, pa.int64())}))
    connection.execute("create or replace temp table raw as select * from kept semi join offered_rows using (_row)")
    return offered


def _replay_table(
    load: Load,
    connection: duckdb.DuckDBPyConnection,
    name: str,
    mapping: FittedMapping,
    ledger: Delivery,
    offered: Offered,
) -> _Outcome:
    table = canonical_table(name)
    staged = stage_table(load, connection, name, table, mapping)

    def changes(current: DeltaTable) -> Changes | None:
        found = compare_with_lake(load, connection, staged, table, mapping, current)
        _leave_later_rows(load, connection, ledger, is_split=mapping.split is not None)
        wanted = _count(connection, "select count(*) from met where what = 'corrected'")
        if found.inserted + wanted == 0:
            return None
        return Changes(connection, inserts_query(load, table, mapping), closures_query() if wanted else None)

    site = [column for column in mapping.columns if column.startswith(SITE_PREFIX)]
    load.store.merge(
        name, changes, schema=arrow_schema(table, site), key=table.key, partition="yr", message=commit_facts(load)
    )
    if name == load.source.primary:
        connection.execute("""
            create or replace temp table rejected_rows as
            select _row from staged where _reasons is not null union select _row from met where what = 'foreign'""")
    return _judged(load, connection, ledger, offered)


def _count(connection: duckdb.DuckDBPyConnection, query: str) -> int:
    row = connection.execute(query).fetchone()
    return int(row[0]) if row else 0


def _leave_later_rows(load: Load, connection: duckdb.DuckDBPyConnection, ledger: Delivery, *, is_split: bool) -> None:
    """In `met`: a row that came after the kept one stays (`stale`), unless the source's version says otherwise.

    Of one file the row further down counts (`repeat` where it is the lake's), of two files the one loaded later. A
    part of a split row that came in with the file is `there`.
    """
    paths = [path for (path,) in connection.execute("select distinct data_file from met").fetchall()]
    if not paths:
        return
    runs = ", ".join(literal(run) for run in (ledger.ingest_run_id, *_replays_of(load, ledger)))
    loaded = literal((ledger.loaded_at or load.loaded_at).isoformat())
    connection.execute(f"""
        create or replace temp table met as
        select m.* replace (case
            when is_same_row and {is_split} and m.what = 'unchanged' then 'there'
            when m.what = 'foreign' or is_same_row then m.what
            when is_same_file and (m.what <> 'corrected' or (not is_newer and c_row > m._row)) then 'repeat'
            when m.what = 'corrected' and not is_same_file and not is_newer and is_later then 'stale'
            else m.what end as what)
        from (
            select m.*, c.source_row as c_row,
                   c.ingest_run_id in ({runs}) as is_same_file,
                   c.ingest_run_id in ({runs}) and c.source_row = m._row as is_same_row,
                   coalesce(s._version > c.version_at, false) as is_newer,
                   c.loaded_at > {loaded}::timestamptz as is_later
            from met as m join staged as s using (_id)
            join {held_rows(paths)} as c on c.data_file = m.data_file and c.file_row = m.file_row
        ) as m""")
    connection.execute(
        "create or replace temp table met as "
        "select _id, _row, data_file, file_row, held_by, corrected_at, what from met"
    )


def _replays_of(load: Load, ledger: Delivery) -> list[str]:
    """The runs that released rows of this delivery before."""
    return sorted({str(row["ingest_run_id"]) for row in _released(load, ledger)})


def _judged(load: Load, connection: duckdb.DuckDBPyConnection, ledger: Delivery, offered: Offered) -> _Outcome:
    """Which entries are closed, and which new ones take their place."""
    parts = """
        select s._row, s.known_at, coalesce(s._reasons is not null or m.what = 'foreign', false) as rejected,
               case when m.what = 'foreign' then ['key:held_by_' || m.held_by]
                    else coalesce(s._reasons, s._set_aside, []) end as reasons,
               case when s._reasons is not null or m.what = 'foreign' then 'rejected'
                    when r.place > 1 or m.what = 'repeat' then 'duplicate'
                    when m.what = 'stale' then 'unchanged' else coalesce(m.what, 'inserted') end as what
        from staged as s left join met as m using (_id) left join repeated as r using (_id)"""
    rows = connection.execute(f"""
        select _row, list_sort(list_distinct(flatten(list(reasons)))), bool_or(rejected),
               histogram(what)::map(varchar, bigint), epoch_us(max(known_at))
        from ({parts}) group by _row order by _row""").fetchall()
    found, newest = _Outcome(), 0
    for row, reasons, rejected, outcomes, known in rows:
        kind = "row" if rejected else "value" if reasons else ""
        closed = [entry for entry in offered[row] if (entry.kind, list(entry.reasons)) != (kind, reasons)]
        if not closed or (rejected and closed[0].kind == "value"):
            continue  # nothing new; or a stricter mapping, which does not take a row out of the lake
        newest = max(newest, 0 if rejected else known or 0)
        for place, entry in enumerate(closed):
            counted = {what: n for what, n in outcomes.items() if what != "there"} if place == 0 else {}
            for what, n in (counted or {"rejected" if rejected else "unchanged": 0}).items():
                found.releases.append(_release(load, ledger, entry, what, n))
        if kind and len(closed) == len(offered[row]):
            found.entries.append(_entry(load, ledger, closed[0], kind, reasons))
    found.newest_known_at = EPOCH + dt.timedelta(microseconds=newest) if newest else None
    return found


def _release(load: Load, ledger: Delivery, entry: Entry, outcome: str, rows: int) -> dict[str, Any]:
    return {
        "release_id": f"{load.run_id}/{entry.table}/{entry.source_row}/{entry.kind}/{entry.quarantine_id}/{outcome}",
        "quarantine_id": entry.quarantine_id if entry.kind != "left_out" else "",
        "kind": entry.kind,
        "outcome": outcome,
        "rows": rows,
        "source": ledger.source,
        "table": entry.table,
        "source_file": ledger.source_file,
        "source_row": entry.source_row,
        "sha256": ledger.sha256,
        "mapping_hash": ledger.mapping_hash,
        "loaded_at": load.loaded_at,
        "ingest_run_id": load.run_id,
    }


def _entry(load: Load, ledger: Delivery, entry: Entry, kind: str, reasons: list[str]) -> dict[str, Any]:
    """The entry that takes the place of another one; it belongs to the load of the file, as that one did."""
    prefix = f"{ledger.sha256[:32]}/{ledger.mapping_hash}/{entry.table}/{entry.source_row}/{kind}"
    after = hashlib.sha256("/".join([entry.quarantine_id, *reasons]).encode()).hexdigest()[:12]
    return {
        "quarantine_id": f"{prefix}/{after}",
        "kind": kind,
        "source": ledger.source,
        "table": entry.table,
        "source_file": ledger.source_file,
        "source_row": entry.source_row,
        "reasons": reasons,
        "raw": entry.stored,
        "loaded_at": load.loaded_at,
        "ingest_run_id": ledger.ingest_run_id,
    }


def _write_down(load: Load, outcomes: Mapping[str, _Outcome]) -> None:
    entries = [entry for outcome in outcomes.values() for entry in outcome.entries]
    releases = [release for outcome in outcomes.values() for release in outcome.releases]
    for name, key, rows in (("quarantine", "quarantine_id", entries), ("release", "release_id", releases)):
        if rows:
            table = pa.Table.from_pylist(rows, SYSTEM_TABLES[name])
            add_system_rows(load, name, table, key, f"source = {literal(load.source.name)}")


def _released(load: Load, ledger: Delivery) -> list[dict[str, Any]]:
    """Everything ever released of one delivery in one table."""
    if not load.store.exists("release"):
        return []
    where = (
        f'source = {literal(ledger.source)} and "table" = {literal(ledger.table)} '
        f"and sha256 = {literal(ledger.sha256)} and mapping_hash = {literal(ledger.mapping_hash)}"
    )
    rows: list[dict[str, Any]] = load.store.rows("release", where).to_pylist()
    return rows


def _counted(load: Load, ledger: Delivery) -> Delivery:
    """The ledger of the load of the whole file, with everything released since; `ledger` is that load's."""
    n: Counter[tuple[str, str]] = Counter()
    for row in _released(load, ledger):
        n[row["kind"], row["outcome"]] += row["rows"]
    came_in = {what: n["row", what] + n["left_out", what] for what in CAME_IN}
    duplicate = n["row", "duplicate"] + n["left_out", "duplicate"]
    still_out = n["left_out", "rejected"]
    offered = sum(n["left_out", what] for what in (*CAME_IN, "duplicate", "rejected"))
    freed = sum(n["row", what] for what in (*CAME_IN, "duplicate"))
    return replace(
        ledger,
        rows_read=ledger.rows_read + offered,
        left_out=max(ledger.left_out - offered, 0),
        accepted=ledger.accepted + sum(came_in.values()),
        rejected=ledger.rejected + still_out - freed,
        duplicate=ledger.duplicate + duplicate,
        inserted=ledger.inserted + came_in["inserted"],
        corrected=ledger.corrected + came_in["corrected"],
        unchanged=ledger.unchanged + came_in["unchanged"],
        values_set_aside=_open_values(load, ledger),
        loaded_at=load.loaded_at,
        replay_run_id=load.run_id,
    )


def _open_values(load: Load, ledger: Delivery) -> int:
    """Values of accepted rows of this delivery that are still set aside."""
    closed = {row["quarantine_id"] for row in _released(load, ledger)}
    prefix = f"{ledger.sha256[:32]}/{ledger.mapping_hash}/{ledger.table}/"
    where = f"source = {literal(ledger.source)} and kind = 'value' and starts_with(quarantine_id, {literal(prefix)})"
    rows = load.store.rows("quarantine", where).to_pylist()
    return sum(len(row["reasons"]) for row in rows if row["quarantine_id"] not in closed)
