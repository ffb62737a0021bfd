"""Columns of a file against the mapping and against the delivery before: what is new, missing or renamed.

A finding proposes a line for the source's YAML. What may stand in for a missing column is judged by names and by
values: how much of a new column the mapping can read, and how much of it the lake knows already.
"""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import duckdb
import pyarrow as pa
import yaml

from aftersales.collect.bookkeeping import add_system_rows, known_deliveries
from aftersales.collect.checks import table_checks
from aftersales.collect.connectors.files import examine, load_raw, matching_files, received_files
from aftersales.collect.delivery import Delivery, Load
from aftersales.collect.fit import NAMES, ONLY_WITH, PLACES, SPLIT, WHERE, Fit, Use, fit, uses
from aftersales.collect.mapping import ColumnSpec, Source, TableMapping, folded, read_code_lists
from aftersales.collect.typed import MACROS, typed_query
from aftersales.lake.commits import data_files
from aftersales.lake.datafiles import parquet_scan
from aftersales.lake.engine import literal, quoted, scratch_folder, staging
from aftersales.lake.store import SYSTEM_TABLES, Snapshot, Store
from aftersales.model.errors import SourceError
from aftersales.model.settings import Workspace
from aftersales.model.tables import canonical_table

if TYPE_CHECKING:  # loads measure; only questions to what was measured need it
    import pandas as pd

LIKELY = 0.7
"""From this likeness on a column is proposed in the place of a missing one."""

SAMPLE_ROWS, SAMPLE_VALUES, HELD_VALUES = 2_000, 500, 5_000

TELLING_OBJECTS = 20
"""Fewer JSON objects than these do not tell which keys a source has: one without a value leaves the key out."""

CONSEQUENCES: Mapping[str, tuple[str, str]] = {
    "refused": ("the table is not loaded", "该表未载入"),
    "kept": ("the rest is loaded; the lake keeps what it has", "其余照常载入,已有值保留"),
    "ignored": ("nothing reads it", "没有映射读取此列"),
}
KINDS: Mapping[str, tuple[str, str]] = {
    "new": ("new column", "新增列"),
    "missing": ("missing column", "缺失列"),
    "renamed": ("renamed column", "列名变更"),
}


@dataclass(frozen=True)
class Finding:
    """One column that is not what the mapping or the delivery before said."""

    kind: Literal["new", "missing", "renamed"]
    column: str
    found: str
    """The column of the file that seems to stand in its place."""
    table: str
    consequence: Literal["refused", "kept", "ignored"]
    proposal: str
    """Lines for the table in the source's YAML."""


# ------------------------------------------------------------------------------------------------- one delivery


def fitted(load: Load, connection: duckdb.DuckDBPyConnection, columns: list[str]) -> Fit:
    """What the file can fill; drift is written to the lake.

    Raises
    ------
    SourceError
        It lacks what every table needs: nothing can be loaded.
    """
    columns = _with_keys_left_out(load, connection, columns)
    found = fit(load.source, columns)
    before = _columns_before(load.store, load.source.name)
    told = _columns_told(load, connection, columns, before)
    is_change = before != told and not _was_loaded(load)
    findings = _findings(load, connection, columns, before if is_change else None)
    if not found.tables:  # perhaps its header is missing: then the names are values
        findings = [finding for finding in findings if finding.kind != "new"]
    if findings:
        _write(load, findings)
    if not found.tables:
        raise _nothing_loads(load, columns, findings)
    if is_change:
        _write_header(load, told)
    return found


def refused_ledgers(load: Load, connection: duckdb.DuckDBPyConnection, found: Fit) -> list[Delivery]:
    """The ledger of the tables for which the file lacks a column: all its rows are left out, with the reason."""
    if not found.refused:
        return []
    (rows,) = connection.execute("select count(*) from raw").fetchone() or (0,)
    return [
        replace(load.ledger(name, place), left_out=rows, refused=why)
        for place, (name, why) in enumerate(found.refused.items(), start=len(found.tables))
    ]


def _with_keys_left_out(load: Load, connection: duckdb.DuckDBPyConnection, columns: list[str]) -> list[str]:
    """`columns`, and for a few JSON objects also needed keys that none of them has: their rows are rejected singly."""
    if _tells_columns(load, connection):
        return columns
    needed = [use for name, mapping in load.source.tables.items() for use in uses(name, mapping) if use.is_needed]
    left_out = list(dict.fromkeys(name for use in needed for name in use.lacks(columns)))
    for name in left_out:
        connection.execute(f"alter table raw add column {quoted(name)} varchar")
    return [*columns, *left_out]


def _tells_columns(load: Load, connection: duckdb.DuckDBPyConnection) -> bool:
    """Whether a column that the file lacks is gone; a few JSON objects only show what they have a value for."""
    if load.file.format not in ("json", "jsonl"):
        return True
    row = connection.execute("select count(*) from raw where _bad is null").fetchone()
    return row is not None and row[0] >= TELLING_OBJECTS


def _columns_told(
    load: Load, connection: duckdb.DuckDBPyConnection, columns: list[str], before: list[str] | None
) -> list[str]:
    """The columns the source has by now."""
    if before is None or _tells_columns(load, connection):
        return columns
    return [*before, *(name for name in columns if name not in before)]


def _nothing_loads(load: Load, columns: list[str], findings: Sequence[Finding]) -> SourceError:
    wanted = load.source.raw_columns
    hints = {f.column: f" (did you mean '{f.found}'?)" if f.found else "" for f in findings if f.column in wanted}
    named = ", ".join(f"'{name}'{hint}" for name, hint in hints.items())
    shown = ", ".join(columns[:20]) + (", ..." if len(columns) > 20 else "")
    return SourceError(
        load.file.name,
        f"lacks {len(hints)} of {len(wanted)} mapped columns: {named}",
        rows=f"the file has: {shown}",
        fix=f"mend 'from' in {load.source.name}.yml, or ask for the column; none of its rows was loaded",
    )


# ------------------------------------------------------------------------------------------ what stands in the lake


def _columns_before(store: Store, source: str) -> list[str] | None:
    """The columns of the delivery before, if there was one."""
    if not store.exists("header"):
        return None
    rows = store.rows("header", f"source = {literal(source)}").to_pylist()
    return max(rows, key=lambda row: (row["place"], row["loaded_at"]))["columns"] if rows else None


def _was_loaded(load: Load) -> bool:
    """Whether this very file was loaded before, under another mapping: then it is not the newest delivery."""
    if not load.store.exists("delivery"):
        return False
    where = f"sha256 = {literal(load.file.sha256)} and source = {literal(load.source.name)}"
    return load.store.rows("delivery", where, columns="sha256").num_rows > 0


def _write_header(load: Load, columns: list[str]) -> None:
    place = 0
    if load.store.exists("header"):
        place = load.store.rows("header", f"source = {literal(load.source.name)}").num_rows
    row = {
        "header_id": f"{load.source.name}/{load.run_id}",
        "source": load.source.name,
        "source_file": load.file.name,
        "columns": columns,
        "place": place,
        "loaded_at": load.loaded_at,
        "ingest_run_id": load.run_id,
    }
    rows = pa.Table.from_pylist([row], SYSTEM_TABLES["header"])
    add_system_rows(load, "header", rows, "header_id", f"source = {literal(load.source.name)}")


def _write(load: Load, findings: Sequence[Finding]) -> None:
    prefix = f"{load.source.name}/{load.file.sha256[:32]}/{load.mapping_hash}/"
    common = {
        "source": load.source.name,
        "source_file": load.file.name,
        "sha256": load.file.sha256,
        "mapping_hash": load.mapping_hash,
        "loaded_at": load.loaded_at,
        "ingest_run_id": load.run_id,
    }
    records = [
        {**common, **asdict(found), "drift_id": f"{prefix}{found.table}/{found.kind}/{found.column}"}
        for found in findings
    ]
    rows = pa.Table.from_pylist(records, SYSTEM_TABLES["drift"])
    add_system_rows(load, "drift", rows, "drift_id", f"starts_with(drift_id, {literal(prefix)})")


def drift_of(snapshot: Snapshot) -> pd.DataFrame:
    """Drift that stands, newest first: a file loaded again under a mended mapping counts with that load.

    Columns: source, file, kind (new, missing, renamed), column, found (what seems to stand in its place), table,
    consequence (refused, kept, ignored; words in `CONSEQUENCES`), proposal (lines for the source's YAML), seen_at.
    """
    import pandas as pd

    shown = ["source", "file", "kind", "column", "found", "table", "consequence", "proposal", "seen_at"]
    rows = snapshot.connection.execute(snapshot.versions_of("drift"))
    if rows.empty:
        return pd.DataFrame(columns=shown)
    key = ["source", "sha256", "mapping_hash", "loaded_at"]
    loads = pd.concat([snapshot.connection.execute(snapshot.versions_of("delivery"))[key], rows[key]])
    newest = loads.sort_values("loaded_at", kind="stable").drop_duplicates(["source", "sha256"], keep="last")
    stands = rows.merge(newest[["source", "sha256", "mapping_hash"]], on=["source", "sha256", "mapping_hash"])
    stands = stands.rename(columns={"source_file": "file", "loaded_at": "seen_at"})
    order = {"refused": 0, "kept": 1, "ignored": 2}
    stands = stands.assign(rank=stands["consequence"].map(order))
    return stands.sort_values(
        ["seen_at", "source", "rank", "table", "column"], ascending=[False, True, True, True, True], ignore_index=True
    )[shown]


def foreseen(workspace: Workspace, source: Source, at: dt.datetime) -> list[tuple[str, Finding]]:
    """Drift of the files that lie there and are not loaded yet, with the name of the file; nothing is loaded.

    Raises
    ------
    SourceError
        No file matches, or one of them cannot be read.
    """
    store = Store(workspace.lake)
    lists, mapping_hash = read_code_lists(workspace, source), source.fingerprint(workspace)
    before = _columns_before(store, source.name)
    found: list[tuple[str, Finding]] = []
    for file in received_files(matching_files(source, workspace.root), source, workspace.root):
        load = Load(workspace, store, source, file, mapping_hash, lists, "", at, table_checks(workspace))
        if known_deliveries(load):
            continue
        before, findings = _looked_at(replace(load, file=examine(file, source)), before)
        found += [(file.name, finding) for finding in findings]
    return found


def _looked_at(load: Load, before: list[str] | None) -> tuple[list[str], list[Finding]]:
    with staging(load.workspace) as connection, scratch_folder(load.workspace) as scratch:
        connection.execute(MACROS)
        columns = load_raw(connection, load.file, load.source, scratch)
        columns = _with_keys_left_out(load, connection, columns)
        told = _columns_told(load, connection, columns, before)
        return told, _findings(load, connection, columns, before)


# ---------------------------------------------------------------------------------------------------- the findings


def _findings(
    load: Load, connection: duckdb.DuckDBPyConnection, columns: list[str], before: list[str] | None
) -> list[Finding]:
    gaps = _gaps(load.source, columns) if _tells_columns(load, connection) else []
    told = _columns_told(load, connection, columns, before)
    known = load.source.raw_columns
    unread = [name for name in columns if name not in known]
    fresh = set(unread) - set(before if before is not None else unread)
    stand_ins = _stand_ins(load, connection, gaps, unread, fresh)
    found = [_gap_finding(load.source, *gap, stand_ins) for gap in _by_table(gaps)]
    first = load.source.primary
    found += [
        Finding("new", name, "", first, "ignored", _proposed_column(load.source, columns, name))
        for name in columns
        if name in fresh and name not in stand_ins.values()
    ]
    found += [
        Finding("missing", name, "", first, "ignored", f"# nothing to do: no table reads {_yaml(name)}")
        for name in before or []
        if name not in told and name not in known
    ]
    return found


def _gaps(source: Source, columns: Sequence[str]) -> list[tuple[str, Use]]:
    """Missing raw columns with the places that want them; of alternatives that are all missing, the first."""
    gaps = []
    for name, mapping in source.tables.items():
        for use in uses(name, mapping):
            lacks = use.lacks(columns)
            gaps += [(column, use) for column in (lacks if use.takes_all else lacks[:1])]
    return gaps


def _by_table(gaps: Sequence[tuple[str, Use]]) -> list[tuple[str, list[Use]]]:
    """The places of one table that want one column, together."""
    together: dict[tuple[str, str], list[Use]] = {}
    for column, use in gaps:
        together.setdefault((column, use.table), []).append(use)
    return [(column, wanting) for (column, _), wanting in together.items()]


def _gap_finding(source: Source, column: str, wanting: list[Use], stand_ins: Mapping[str, str]) -> Finding:
    found = stand_ins.get(column, "")
    table = wanting[0].table
    needed = any(use.is_needed for use in wanting)
    if found:
        proposal = "\n".join(_with_stand_in(source, use, column, found) for use in wanting)
    elif needed:
        proposal = f"# {_yaml(column)} is needed: ask {source.owner} for it, or name the column that took its place"
    else:
        proposal = "\n".join(f"# {_line(use.place, use.spec)}" for use in wanting)
    return Finding("renamed" if found else "missing", column, found, table, "refused" if needed else "kept", proposal)


# ------------------------------------------------------------------------------------------------------ proposals


def _yaml(value: Any) -> str:
    """A value as it stands in one line of YAML."""
    text = yaml.safe_dump(value, default_flow_style=True, allow_unicode=True, width=10_000, sort_keys=False)
    return text.removesuffix("\n").removesuffix("\n...")


def _line(place: str, spec: ColumnSpec) -> str:
    """`column: {from: ..., ...}` as the mapping has it."""
    given: dict[str, Any] = {"from": spec.sources if len(spec.sources) > 1 else spec.sources[0]}
    given |= spec.model_dump(exclude_defaults=True, exclude={"sources"})
    plain = given["from"] if len(given) == 1 and len(spec.sources) == 1 else given
    return f"{_yaml(place)}: {_yaml(plain)}"


def _with_stand_in(source: Source, use: Use, column: str, found: str) -> str:
    """The line of the mapping that also reads `found`: old files have the old name, new ones the new."""
    mapping = source.tables[use.table]
    if use.place == WHERE:
        wanted = {found if name == column else name: values for name, values in mapping.where.items()}
        return f"where: {_yaml(wanted)}"
    if use.place == SPLIT and mapping.split:
        return f"split: {_yaml({'column': found, 'separator': mapping.split.separator})}"
    if use.place in (ONLY_WITH, NAMES):
        listed = mapping.only_with if use.place == ONLY_WITH else mapping.names
        return f"{use.place}: {_yaml([found if name == column else name for name in listed])}"
    if use.takes_all:
        sources = [found if name == column else name for name in use.spec.sources]
    else:
        sources = [*use.spec.sources, found]
    return _line(use.place, use.spec.model_copy(update={"sources": sources}))


def _proposed_column(source: Source, columns: Sequence[str], name: str) -> str:
    """A line that would read the new column: into the canonical column it is named like, else into one of the site."""
    mapping, table = source.tables[source.primary], canonical_table(source.primary)
    likeness = {
        column: max(_name_likeness(name, column), _name_likeness(name, spec.en), _name_likeness(name, spec.zh))
        for column, spec in table.columns.items()
        if column not in mapping.columns
    }
    best = max(likeness, key=lambda column: likeness[column], default="")
    if best and likeness[best] >= 0.9:
        return f"{best}: {_yaml(name)}"
    slug = re.sub(r"[^a-z0-9]+", "_", name.lower()).strip("_")
    slug = slug if re.match(r"[a-z]", slug) else f"column_{columns.index(name) + 1}"
    return f"x_{slug}: {_yaml(name)}"


# ------------------------------------------------------------------------------------- which column took the place


def _stand_ins(
    load: Load,
    connection: duckdb.DuckDBPyConnection,
    gaps: Sequence[tuple[str, Use]],
    unread: Sequence[str],
    fresh: set[str],
) -> dict[str, str]:
    """For each missing column the one of the file that most likely took its place; none is given twice."""
    scores: dict[tuple[str, str], float] = {}
    if gaps and unread:
        sample = f"select * from raw where _bad is null limit {SAMPLE_ROWS}"
        connection.execute(f"create or replace temp table sampled_rows as {sample}")
    for column, use in gaps:
        names = {name: _names_likeness(column, use, name) for name in unread}
        nearest = sorted(unread, key=lambda name: (name in fresh, names[name]), reverse=True)[:10]
        for name in nearest:
            score = _likeness(load, connection, use, name, names[name]) + (0.15 if name in fresh else 0)
            scores[column, name] = max(score, scores.get((column, name), 0.0))
    chosen: dict[str, str] = {}
    for (column, name), score in sorted(scores.items(), key=lambda item: -item[1]):
        if score >= LIKELY and column not in chosen and name not in chosen.values():
            chosen[column] = name
    return chosen


def _name_likeness(one: str, other: str) -> float:
    """0 to 1; case, width and the order of words do not count."""
    from rapidfuzz import fuzz

    first, second = folded(one), folded(other)
    return max(fuzz.ratio(first, second), fuzz.token_sort_ratio(first, second)) / 100


def _names_likeness(column: str, use: Use, name: str) -> float:
    told = [_name_likeness(column, name)]
    if use.place not in PLACES:
        spec = canonical_table(use.table).column(use.place)
        told += [0.9 * _name_likeness(name, word) for word in (use.place, spec.en, spec.zh)]
    return max(told)


def _likeness(load: Load, connection: duckdb.DuckDBPyConnection, use: Use, name: str, names: float) -> float:
    """How likely `name` took the place: names, and what its values say where they can say something."""
    if use.place in PLACES:
        return names
    column = canonical_table(use.table).column(use.place)
    read, overlap = _values(load, connection, use, name)
    if overlap is not None:
        return 0.4 * names + 0.6 * overlap
    if column.type in ("int", "num", "bool", "day", "ts") or use.spec.map or use.spec.map_file:
        return 0.7 * names + 0.3 * read if read > 0.5 else 0.0
    return names


def _values(load: Load, connection: duckdb.DuckDBPyConnection, use: Use, name: str) -> tuple[float, float | None]:
    """Share of the values of `name` that the mapping can read, and share of those that the lake knows (if it has any).

    Ids are new in every delivery: of them the shape is compared, digits and letters each as one.
    """
    table = canonical_table(use.table)
    column = table.column(use.place)
    alone = {"sources": [name], "join": None, "digest": False, "not_before": None, "not_after": None, "default": None}
    always = ColumnSpec.model_validate({"value": "2000-01-01"})
    mapping = TableMapping(columns={"known_at": always, use.place: use.spec.model_copy(update=alone)})
    keyed = table.model_copy(update={"key": use.place, "key_from": [], "clock": use.place})
    typed = typed_query(load.source, use.table, keyed, mapping, load.code_lists, "sampled_rows")
    is_id = column.type == "id"
    value = f"{quoted(use.place)}::varchar"
    shown = _shape(value) if is_id else value
    connection.execute(f"create or replace temp table offered_values as select {shown} as v, _reasons from ({typed})")
    blank = literal(f"{use.place}:missing")
    filled, read = connection.execute(f"""
        select count(*) filter (not list_contains(coalesce(_reasons, []), {blank})), count(*) filter (_reasons is null)
        from offered_values""").fetchone() or (0, 0)
    share = read / filled if filled else 0.0
    is_plain = column.tier in ("P0", "P1") and not use.spec.pseudonym  # of others the lake has pseudonyms
    comparable = is_plain and column.type in ("id", "cat", "str", "bool")
    held = _held(load, use) if comparable else None
    if held is None or not read:
        return share, None
    known = _shape("v") if is_id else "v"
    (overlap,) = connection.execute(f"""
        with offered as (select distinct v from offered_values where _reasons is null limit {SAMPLE_VALUES}),
             held as (select distinct {known} as v from ({held}))
        select avg((v in (select v from held))::int) from offered""").fetchone() or (None,)
    count = connection.execute(f"select count(*) from ({held})").fetchone()
    return share, overlap if count and count[0] else None


def _shape(value: str) -> str:
    return f"regexp_replace(regexp_replace({value}, '[0-9]+', '0', 'g'), '[A-Za-z]+', 'a', 'g')"


def _held(load: Load, use: Use) -> str | None:
    """SQL of values that the lake has in the column from this source, or nothing."""
    if not load.store.exists(use.table):
        return None
    delta = load.store.open(use.table)
    paths = data_files(delta)
    if not paths or use.place not in pa.schema(delta.schema().to_arrow()).names:
        return None
    return (
        f"select distinct {quoted(use.place)}::varchar as v from {parquet_scan(paths)} "
        f"where source_system = {literal(load.source.name)} and {quoted(use.place)} is not null limit {HELD_VALUES}"
    )
