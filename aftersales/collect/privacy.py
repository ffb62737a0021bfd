"""Personal data on the way in: ids become pseudonyms, texts are masked, then sealed under their person's key.

It happens while rows are staged, so that neither the lake nor the quarantine ever holds the plain value:

- ids of persons (type id, tier P2) become keyed pseudonyms, unless the source says they are some already;
- personal text (tier P2 and P3) loses telephone numbers, e-mail addresses and the like (`masking`), then is sealed
  (`lake.vault`) under the key of the row's customer, else of its thread, else of the row itself;
- rows of an erased person keep what is not personal, so that counts stay; the rest is empty (`privacy:erased`);
- the raw text kept in the quarantine goes the same way.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb
import pyarrow as pa

from aftersales.collect.delivery import Load
from aftersales.collect.mapping import BLANKS, NARROW, WIDE, ColumnSpec, Source, TableMapping
from aftersales.collect.masking import mask, may_hold
from aftersales.lake.engine import add_function, literal, quoted
from aftersales.lake.vault import CUSTOMER, STAFF, Pseudonyms, open_vault, pseudonyms
from aftersales.model.policy import Tier
from aftersales.model.settings import Workspace
from aftersales.model.tables import Column, Table, canonical_table
from aftersales.model.tiers import raised_tiers

ERASED_REASON, EXPIRED_REASON = "privacy:erased", "privacy:expired"
NAME_TOKEN = "⟨name⟩"
_NARROWED = str.maketrans(WIDE, NARROW)


def install_privacy(connection: duckdb.DuckDBPyConnection, workspace: Workspace) -> None:
    """Give the connection of a load the SQL functions `pseudonym_of`, `masked`, `sealed` and `is_erased`.

    Keys are asked for when the first value needs one.
    """

    def pseudonym_of(values: list[str | None], roles: list[str]) -> list[str | None]:
        of = _pseudonyms(workspace).of
        return [None if value is None else of(value, role) for value, role in zip(values, roles, strict=True)]

    def masked(texts: list[str | None], names: list[list[str] | None]) -> list[str | None]:
        return [None if text is None else mask(text, known or ()) for text, known in zip(texts, names, strict=True)]

    def sealed(texts: list[str | None], subjects: list[str | None], periods: list[str | None]) -> list[str | None]:
        return open_vault(workspace).seal(texts, subjects, periods)

    def is_erased(subjects: list[str | None]) -> list[bool]:
        gone = open_vault(workspace).erased()
        return [subject in gone for subject in subjects]

    add_function(connection, "pseudonym_of", pseudonym_of, ["VARCHAR", "VARCHAR"], "VARCHAR")
    add_function(connection, "masked", masked, ["VARCHAR", "VARCHAR[]"], "VARCHAR")
    add_function(connection, "sealed", sealed, ["VARCHAR"] * 3, "VARCHAR")
    add_function(connection, "is_erased", is_erased, ["VARCHAR"], "BOOLEAN")


_made: dict[tuple[str, int], Pseudonyms] = {}


def _pseudonyms(workspace: Workspace) -> Pseudonyms:
    """The pseudonyms of the workspace; ids seen before are remembered for as long as the key is the same."""
    made = pseudonyms(workspace)
    return _made.setdefault((str(workspace.root), hash(made.of(""))), made)


# -------------------------------------------------------------------------------------------------- what is personal


def column_tier(workspace: Workspace, table: str, name: str, column: Column, spec: ColumnSpec | None = None) -> Tier:
    """The tier in force: the highest of tables.yml, workbench.yml and the sources' YAML."""
    raised = raised_tiers(workspace).get(f"{table}.{name}", "P0")
    return max(column.tier, raised, (spec and spec.tier) or "P0")


def role_of(column: str) -> str:
    """Whose id a column holds: `..._key` a customer's, `..._id` a member of staff's."""
    return CUSTOMER if column.endswith("_key") else STAFF


def is_pseudonymised(workspace: Workspace, table: str, name: str, column: Column, spec: ColumnSpec) -> bool:
    """Whether the values of a mapped column become pseudonyms: personal ids, unless the source says otherwise."""
    if spec.value is not None:
        return False
    if spec.pseudonym is None:
        return column.type == "id" and column_tier(workspace, table, name, column, spec) >= "P2"
    return spec.pseudonym is True


def subject_columns(table: Table) -> list[str]:
    """Columns that say whose row it is, the one that counts first."""
    known = ("customer_key", "author_key", "subject_key", "person_key", "sender_key")
    return [name for name in known if name in table.columns]


def subject_expression(name: str, table: Table, filled: set[str]) -> str:
    """SQL: whose key seals the texts of a row: its customer's, else its thread's, else its own."""
    parts = [quoted(column) for column in subject_columns(table) if column in filled][:1]
    for prefix, column in (("ticket", "ticket_id"), ("thread", "thread_id")):
        if column in filled and column != table.key:
            parts.append(f"'{prefix}:' || {quoted(column)}")
    return f"coalesce({', '.join([*parts, literal(name + ':') + ' || ' + quoted(table.key)])})"


def period_expression(name: str, table: Table, filled: set[str]) -> str:
    """SQL: the period a row belongs to, a month of its clock in UTC; its texts expire together."""
    if table.clock not in filled:
        return literal(f"{name}@")
    clock = quoted(table.clock)
    day = f"make_timestamp(epoch_us({clock}))" if table.column(table.clock).type == "ts" else clock
    return f"{literal(name + '@')} || coalesce(strftime({day}, '%Y-%m'), '')"


def _is_text(column: Column, has_customer: bool) -> bool:
    return column.type == "text" or (column.type == "str" and has_customer)


# ------------------------------------------------------------------------------------------------------------ hooks


def protected_query(load: Load, typed: str, name: str, table: Table, mapping: TableMapping) -> str:
    """SELECT of the rows of `typed` without plain personal values; adds `_subject` (whose row it is)."""
    place, filled = load.workspace, {*mapping.columns, table.key}
    has_customer = any(column in filled for column in subject_columns(table))
    ids, texts, personal, persons = {}, {}, [], []
    for column, spec in mapping.columns.items():
        described = table.column(column)
        tier = column_tier(place, name, column, described, spec)
        if is_pseudonymised(place, name, column, described, spec):
            ids[column] = f"pseudonym_of({quoted(column)}, '{role_of(column)}')"
        if described.type == "text" and tier >= "P1":
            texts[column] = _masked(quoted(column))
        if tier >= "P2" and described.type == "id" and column != table.key:
            persons.append(column)
        if tier >= "P2" and column != table.key and not (described.type == "id" and role_of(column) == STAFF):
            personal.append(column)
        if tier >= "P2" and _is_text(described, has_customer) and place.settings.privacy.seal_text:
            text = texts.get(column, quoted(column))
            texts[column] = f"case when _reasons is null then sealed({text}, _subject, _period) else {text} end"
    whose = subject_expression(name, table, filled)
    query = f"select *{_replaced(ids)} from ({typed})"
    query = f"select *, {whose} as _subject, {period_expression(name, table, filled)} as _period from ({query})"
    if (personal or persons) and _anybody_erased(load.workspace):
        query = _emptied(query, personal, persons)
    return f"select * exclude (_names, _period){_replaced(texts)} from ({query})"


def _replaced(expressions: dict[str, str]) -> str:
    inner = ", ".join(f"{expression} as {quoted(column)}" for column, expression in expressions.items())
    return f" replace ({inner})" if inner else ""


def _masked(column: str) -> str:
    """SQL: the masked text; Python looks only at texts that may hold something, or whose row has names."""
    with_names = f"when len(_names) > 0 then masked({column}, _names)"
    return f"case {with_names} when {may_hold(column)} then masked({column}, null) else {column} end"


def _anybody_erased(workspace: Workspace) -> bool:
    """Without a vault nobody was."""
    return workspace.vault.exists() and bool(open_vault(workspace).erased())


def _emptied(query: str, personal: list[str], persons: list[str]) -> str:
    """The rows of erased persons and of expired periods without their personal values, and with the reason."""
    blanks = {column: f"case when _gone then null else {quoted(column)} end" for column in personal}
    for column in (column for column in persons if column not in personal):  # staff: by themselves, or with the period
        gone = f"is_erased({quoted(column)}) or is_erased(_period)"
        blanks[column] = f"case when {gone} then null else {quoted(column)} end"
    why = f"case when is_erased(_period) then '{EXPIRED_REASON}' else '{ERASED_REASON}' end"
    reason = f"list_append(coalesce(_set_aside, []::varchar[]), {why})"
    blanks |= {
        "_set_aside": f"case when _gone and _reasons is null then {reason} else _set_aside end",
        "_raw": "case when _gone then null else _raw end",
    }
    keyed = [column for column in persons if column in personal]
    is_gone = " or ".join(f"is_erased({subject})" for subject in ("_subject", "_period", *map(quoted, keyed)))
    return f"select *{_replaced(blanks)} from (select *, {is_gone} as _gone from ({query}))"


def protected_raw(load: Load, table: str, rows: pa.Table) -> pa.Table:
    """Rows of the quarantine with their raw text masked and sealed; takes away the column `subject`.

    Raw values that the mapping turns into pseudonyms are replaced by these; names are replaced by a token.
    """
    ids = dict(_raw_ids(load.workspace, load.source))
    names = {column for mapping in load.source.tables.values() for column in mapping.names}
    made = _pseudonyms(load.workspace) if ids else None
    pairs = zip(rows["subject"].to_pylist(), rows["quarantine_id"].to_pylist(), strict=True)
    owners = [owner or f"quarantine:{row}" for owner, row in pairs]
    gone = open_vault(load.workspace).erased() if _anybody_erased(load.workspace) else {}
    texts = [
        None if raw is None or owner in gone else _clean_raw(raw, ids, names, made)
        for raw, owner in zip(rows["raw"].to_pylist(), owners, strict=True)
    ]
    if load.workspace.settings.privacy.seal_text:
        month = f"quarantine@{load.loaded_at:%Y-%m}"
        texts = open_vault(load.workspace).seal(texts, owners, [month] * len(texts))
    place = rows.schema.get_field_index("raw")
    return rows.set_column(place, "raw", pa.array(texts, pa.string())).drop_columns(["subject"])


def _raw_ids(workspace: Workspace, source: Source) -> Iterator[tuple[str, list[tuple[ColumnSpec, str]]]]:
    """Raw columns that become pseudonyms, each with the ways in which the mapping does it."""
    found: dict[str, list[tuple[ColumnSpec, str]]] = {}
    for name, mapping in source.tables.items():
        table = canonical_table(name)
        for column, spec in mapping.columns.items():
            if is_pseudonymised(workspace, name, column, table.column(column), spec):
                for raw in spec.sources:
                    found.setdefault(raw, []).append((spec, role_of(column)))
    yield from found.items()


def pseudonym_of_raw(value: str, spec: ColumnSpec, role: str, made: Pseudonyms) -> str:
    """The pseudonym that the mapping makes of a raw id: trimmed, narrow, in its case, with its prefix."""
    text = value.strip(BLANKS).translate(_NARROWED)
    text = text.split(spec.before, 1)[0].strip(BLANKS) if spec.before else text
    text = getattr(text, spec.case)() if spec.case else text
    return made.of(spec.prefix + text, role)


def _clean_raw(raw: str, ids: dict[str, list[tuple[ColumnSpec, str]]], names: set[str], made: Pseudonyms | None) -> str:
    try:
        content: Any = json.loads(raw)
    except ValueError:
        content = None
    if not isinstance(content, dict):
        return mask(raw)
    known = [value for name in names if isinstance(value := content.get(name), str) and value.strip()]

    def clean(name: str, value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(key, item) for key, item in value.items()}
        if isinstance(value, list):
            return [clean(name, item) for item in value]
        if value is None or isinstance(value, bool):
            return value
        if name in names:
            return NAME_TOKEN if str(value).strip() else value
        if name in ids and made is not None and str(value).strip(BLANKS):
            return pseudonym_of_raw(str(value), *ids[name][0], made)
        shown = mask(str(value), known)
        return value if shown == str(value) else shown

    cleaned = {name: clean(name, value) for name, value in content.items()}
    return raw if cleaned == content else json.dumps(cleaned, ensure_ascii=False, separators=(",", ":"))
