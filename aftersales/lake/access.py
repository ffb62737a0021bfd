"""What a viewer may see of each table: rows, columns, and how small a group may be told.

Applied in one place, `Snapshot.table` and `Snapshot.versions_of`, to base tables, before any metric, dimension or
join sees them: rows first, then masks, so that a rule may use a column it hides. Nothing is shown by default: in a
role with row rules a table needs a rule of its own, or hangs on a table that has one, or is refused.

Honest limit: this guards what goes through it. Who can read the lake's files reads everything in them.
"""

from __future__ import annotations

import ast
import datetime as dt
import functools
import hashlib
import hmac
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import ibis
import ibis.expr.datatypes as types
import ibis.expr.types as ir
import pyarrow as pa
from ibis.backends.duckdb import Backend

from aftersales.lake.audit import Trail
from aftersales.lake.expressions import Reader, names_in, syntax_tree
from aftersales.lake.store import SYSTEM_TABLES, Snapshot, Store
from aftersales.lake.vault import CUSTOMER, STAFF, master_key, pseudonyms
from aftersales.lake.viewer import Viewer, resolve_viewer, system_user
from aftersales.model.errors import AccessError, AftersalesError, SettingsError, known_names
from aftersales.model.policy import ADMINISTRATOR, ALL, EVERY, OWNER, VIA, ColumnRule, Role, Show, Tier
from aftersales.model.settings import Workspace
from aftersales.model.tables import BOOKKEEPING, SITE_PREFIX, canonical_tables
from aftersales.model.tiers import raised_tiers

SYSTEM_TIERS: Mapping[tuple[str, str], Tier] = {("quarantine", "raw"): "P2"}
"""Columns of bookkeeping tables above tier P1: what was delivered, as it was delivered."""

NAMED_BY: Mapping[str, tuple[str, str]] = {
    "tag": ("source_table", "source_id"), "text_tag": ("source_table", "source_id"),
}  # fmt: skip
"""Tables whose rows hang on a row of the table they name: its name, its key."""

FURTHER_LINKS: Mapping[str, tuple[str, str]] = {"order_id": ("order", "order_id")}
"""Columns that name rows of a table by something else than its key."""

RowsOf = Callable[[str], ir.Table]
PseudonymOf = Callable[[str, str], str]
"""A plain id and the role (`vault.STAFF`, `vault.CUSTOMER`) of the person -> its pseudonym."""

PSEUDONYMS: Mapping[str, str] = {"staff_pseudonym": STAFF, "customer_pseudonym": CUSTOMER}
"""Functions of row rules: ids of persons lie in the lake as pseudonyms."""


@dataclass(frozen=True)
class Link:
    """Rows of a table are seen when their `column` is among `parent_column` of the rows seen of `parent`."""

    column: str
    parent: str
    parent_column: str


@dataclass(frozen=True)
class RowRule:
    """Which rows of one table a role sees, and which line of the policy says so."""

    kind: Literal["all", "where", "links", "named", "held", "refused"]
    because: str
    text: str = ""
    links: tuple[Link, ...] = ()

    @property
    def is_restricted(self) -> bool:
        return self.kind not in ("all", "refused")


@dataclass(frozen=True)
class Treatment:
    """What a role sees of one column, whether it may group and filter by it, and why."""

    show: Show
    groups: bool
    because: str

    @property
    def is_plain(self) -> bool:
        return self.show in ("show", "unsealed")


PLAIN = Treatment("show", True, "no rule applies")


@functools.cache
def links_of(table: str) -> tuple[Link, ...]:
    """The tables that rows of `table` name by key: its parents.

    Examples
    --------
    >>> [link.parent for link in links_of("part_use")]
    ['repair', 'unit']
    """
    tables = canonical_tables()
    if table not in tables:
        return ()
    keys = [spec.key for spec in tables.values()]
    homes = {spec.key: (name, spec.key) for name, spec in tables.items() if keys.count(spec.key) == 1}
    found = []
    for column in tables[table].columns:
        parent, parent_column = {**FURTHER_LINKS, **homes}.get(column, ("", ""))
        if parent and parent != table and column != tables[table].key:
            found.append(Link(column, parent, parent_column))
    return tuple(found)


@dataclass(frozen=True)
class Access:
    """The policy as it applies to one viewer; carried by the snapshot, so that two viewers never share one."""

    viewer: Viewer
    role: Role | None = None
    """None: no rule applies to this viewer."""
    mask_key: bytes = field(default=b"", repr=False)
    trail: Trail | None = field(default=None, compare=False, repr=False)
    """Where questions are written down."""
    raised: Mapping[str, Tier] = field(default_factory=dict)
    """table.column -> tier, where this workspace holds more to be personal than tables.yml does."""
    pseudonym_of: PseudonymOf | None = field(default=None, compare=False, repr=False)
    _memory: dict[object, Any] = field(default_factory=dict, compare=False, repr=False)

    # --------------------------------------------------------------------------------------------------- questions

    @property
    def smallest(self) -> int:
        """Groups of fewer cases than this are blanked."""
        return self.role.small_cells if self.role else 0

    @property
    def shows_rows(self) -> bool:
        """Whether single rows may be shown, and not only figures and groups."""
        return self.role is None or not self.role.aggregates_only

    def row_rule(self, table: str) -> RowRule:
        """Which rows of `table` the viewer sees."""
        key = ("rows", table)
        if key not in self._memory:
            self._memory[key] = self._listed_rule(table)
        found: RowRule = self._memory[key]
        return found

    def _listed_rule(self, table: str) -> RowRule:
        if self.role is None:
            return RowRule("all", "no role restricts this viewer")
        if isinstance(self.role.tables, list) and table not in self.role.tables:
            return RowRule("refused", f"roles.{self.viewer.role}.tables does not list it")
        return self._rule(table, ())

    def _rule(self, table: str, below: tuple[str, ...]) -> RowRule:
        """The rule of a table whether or not the role may read it: its children hang on it either way."""
        role, place = self.role, f"roles.{self.viewer.role}.rows"
        assert role is not None
        own = role.rows.get(table, "").strip()
        if own == ALL:
            return RowRule("all", f"{place}.{table}: all")
        if own.startswith(VIA):
            parents = [name.strip() for name in own.removeprefix(VIA).split(",")]
            links = tuple(link for name in parents if (link := _link_to(table, name)))
            return RowRule("links", f"{place}.{table}: {own}", links=links)
        if own:
            return RowRule("where", f"{place}.{table}", own)
        common = role.rows.get(EVERY, "").strip()
        if common and set(names_in(_readable(common))) - _attribute_names(common) <= _columns_of(table):
            return RowRule("where", f"{place}.{EVERY}", common)
        if table in NAMED_BY:
            return RowRule("named", "rows hang on the rows they name")
        if not role.rows:
            held = RowRule("held", f"of tables that roles.{self.viewer.role}.tables lists")
            return held if table == "quarantine" else RowRule("all", f"{place} has no rule")
        links = tuple(
            link
            for link in links_of(table)
            if link.parent not in (*below, table) and self._rule(link.parent, (*below, table)).is_restricted
        )
        if links:
            named = ", ".join(dict.fromkeys(link.parent for link in links))
            return RowRule("links", f"hangs on {named}, as {place} says nothing of {table}", links=links)
        return RowRule("refused", f"{place} says nothing of it, and it hangs on no table of which it does")

    def treatment(self, table: str, column: str) -> Treatment:
        """What the viewer sees of a column."""
        if self.role is None:
            return PLAIN
        key = ("column", table, column)
        if key not in self._memory:
            self._memory[key] = self._treated(table, column)
        found: Treatment = self._memory[key]
        return found

    def _treated(self, table: str, column: str) -> Treatment:
        assert self.role is not None
        place = f"roles.{self.viewer.role}"
        for name in (f"{table}.{column}", f"{EVERY}.{column}"):
            if (rule := self.role.columns.get(name)) is not None:
                show = rule.show if isinstance(rule, ColumnRule) else rule
                groups = (rule.groups if isinstance(rule, ColumnRule) else False) or show in ("show", "unsealed")
                return Treatment(show, groups, f"{place}.columns.{name}")
        tier = self.tier(table, column)
        if tier <= self.role.tier:
            return Treatment("show", True, f"{place}.tier {self.role.tier}")
        return Treatment("hide", False, f"tier {tier} is above {place}.tier {self.role.tier}")

    def tier(self, table: str, column: str) -> Tier:
        """The tier in force: what tables.yml says, or more where the workspace says so."""
        return max(tier_of(table, column), self.raised.get(f"{table}.{column}", "P0"))

    def may_read(self, table: str) -> bool:
        """Whether any row of `table` may be read."""
        return self.row_rule(table).kind != "refused"

    def check_table(self, table: str) -> None:
        """Refuse a table the viewer may not read.

        Raises
        ------
        AccessError
            With the line of the policy that says so.
        """
        rule = self.row_rule(table)
        if rule.kind == "refused":
            raise AccessError(
                f"role {self.viewer.role}", f"may not see the table {table}", rows=rule.because,
                fix="an administrator can allow it in workbench.yml; aftersales access explain USER TABLE tells more",
            )  # fmt: skip

    def check_columns(self, table: str, columns: Sequence[str], *, joins: Sequence[str] = ()) -> None:
        """Refuse to count, group or filter by columns of which the viewer sees a mask: the figure would be wrong.

        `joins` are keys that are only compared with each other: hashed ones do as well.

        Raises
        ------
        AccessError
            A column is masked and the policy does not say that it may be grouped by.
        """
        if self.role is None:
            return
        self.check_table(table)
        for column in dict.fromkeys([*columns, *joins]):
            seen = self.treatment(table, column)
            if not seen.groups and not (column in joins and seen.show == "hash"):
                how = "is hidden" if seen.show == "hide" else f"is shown as {seen.show}"
                raise AccessError(
                    f"role {self.viewer.role}", f"may not count, group or filter by {table}.{column}: it {how}",
                    rows=seen.because, fix="ask for another dimension, or ask an administrator",
                )  # fmt: skip

    def check_join(self, table: str, other: str, column: str) -> None:
        """Refuse to bring two tables together by a key that the viewer sees masked in one of them only.

        Raises
        ------
        AccessError
            Nothing would be found, and the figures would be wrong.
        """
        self.check_columns(table, [], joins=[column])
        self.check_columns(other, [], joins=[column])
        if self.treatment(table, column).show != self.treatment(other, column).show:
            raise AccessError(
                f"role {self.viewer.role}", f"cannot join {table} with {other}: {column} is masked in one of them",
                rows=f"{self.treatment(table, column).because}; {self.treatment(other, column).because}",
                fix=f"an administrator treats *.{column} alike",
            )  # fmt: skip

    def check_rows(self, table: str) -> None:
        """Refuse to show single rows to a role that sees figures only.

        Raises
        ------
        AccessError
            The role sees aggregates only, or not this table.
        """
        self.check_table(table)
        if not self.shows_rows:
            raise AccessError(
                f"role {self.viewer.role}", "sees figures and groups, not single rows",
                rows=f"roles.{self.viewer.role}.aggregates_only", fix="ask for a metric of it",
            )  # fmt: skip

    # ----------------------------------------------------------------------------------------------------- applied

    def seen_rows(self, table: str, rows: ir.Table, seen_of: RowsOf) -> ir.Table:
        """The rows of `table` the viewer sees; `seen_of` gives the rows seen of a table it hangs on, unmasked.

        Raises
        ------
        AccessError
            The role may not see the table, or the user lacks an attribute its rule needs.
        """
        self.check_table(table)
        return self._filtered(self.row_rule(table), table, rows, seen_of)

    def rows_as_parent(self, table: str, rows: ir.Table, seen_of: RowsOf) -> ir.Table:
        """As `seen_rows`, for a table that is only hung on: the role need not be allowed to read it."""
        return self._filtered(self._rule(table, ()), table, rows, seen_of)

    def _filtered(self, rule: RowRule, table: str, rows: ir.Table, seen_of: RowsOf) -> ir.Table:
        if rule.kind == "where":
            return rows.filter(self.condition(rule.text, rows, rule.because))
        if rule.kind == "links":
            return _hanging(rows, rule.links, seen_of)
        if rule.kind == "named":
            return self._named(table, rows, seen_of)
        if rule.kind == "held":
            return rows.filter(rows["table"].isin(self._seen_whole()))
        return rows if rule.kind == "all" else rows.filter(ibis.literal(False))

    def _named(self, table: str, rows: ir.Table, seen_of: RowsOf) -> ir.Table:
        """Rows that name a row the viewer sees."""
        name, key = NAMED_BY[table]
        seen: list[ir.BooleanValue] = []
        whole = []
        for source, spec in canonical_tables().items():
            rule = self.row_rule(source)
            if rule.kind == "all":
                whole.append(source)
            elif rule.kind in ("where", "links"):
                seen.append((rows[name] == source) & rows[key].isin(seen_of(source)[spec.key]))
        return rows.filter(functools.reduce(lambda a, b: a | b, seen, rows[name].isin(whole)))

    def _seen_whole(self) -> list[str]:
        return [name for name in canonical_tables() if self.row_rule(name).kind == "all"]

    def condition(self, text: str, rows: ir.Table, where: str) -> ir.BooleanValue:
        """A row rule as a condition on `rows`.

        Raises
        ------
        AccessError
            The user has no attribute that the rule names.
        SettingsError
            The rule is no condition on columns of this table.
        """
        readable = _readable(text)
        reader = _RuleReader(readable, rows, where, self.viewer, self.pseudonym_of)
        return reader.condition(syntax_tree(readable, where, SettingsError))

    def masked(self, table: str, rows: ir.Table, connection: Backend) -> ir.Table:
        """`rows` with the columns as the viewer sees them."""
        changed = {
            name: self._mask(treatment.show, rows[name], connection)
            for name in rows.columns
            if not (treatment := self.treatment(table, name)).is_plain
        }
        if table == "quarantine" and "raw" not in changed and self.role is not None:
            open_tables = [name for name in self._seen_whole() if self._sees_every_column(name)]
            changed["raw"] = ibis.ifelse(rows["table"].isin(open_tables), rows.raw, ibis.null("string"))
        return rows.mutate(**changed) if changed else rows

    def _sees_every_column(self, table: str) -> bool:
        return all(self.treatment(table, name).is_plain for name in _columns_of(table))

    def _mask(self, show: Show, column: ir.Value, connection: Backend) -> ir.Value:
        if show == "hash":
            return _keyed_hash(connection, self.mask_key)(column.cast("string"))
        if show == "last4":
            text = column.cast("string")
            ends = (text.length() >= 8, ibis.literal("****") + text.right(4))  # of a short one nothing would be hidden
            return ibis.cases((text.isnull(), ibis.null("string")), ends, else_="****")
        if show == "year":
            first = column.truncate("Y")
            return first.cast(column.type())
        return ibis.null(column.type())


def access_of(workspace: Workspace, viewer: Viewer, purpose: str = "") -> Access | None:
    """What `viewer` may see; None for the owner of a workspace without roles.

    Raises
    ------
    SettingsError
        The role names tables or columns that do not exist, or a rule cannot be read: all problems at once.
    """
    if viewer.role == OWNER:
        return None
    trail = Trail(workspace, viewer, purpose)
    if viewer.role == ADMINISTRATOR:
        return Access(viewer, trail=trail)
    role = workspace.settings.roles[viewer.role]
    if problems := role_problems(viewer.role, role):
        raise _broken(problems)
    raised, of = raised_tiers(workspace), functools.partial(_pseudonym, workspace)
    return Access(viewer, role, _mask_key(workspace, role), trail, raised, of)


def snapshot_for(
    workspace: Workspace,
    connection: Backend,
    viewer: Viewer | None = None,
    *,
    as_of: dt.datetime | None = None,
    versions: Mapping[str, int] | None = None,
    purpose: str = "",
) -> Snapshot:
    """The pinned lake as `viewer` may see it; as this process's user may, when no viewer is given.

    `purpose` stands beside every question in the access log: the page, the report or the command.

    Raises
    ------
    AccessError
        The user has no role here.
    """
    access = access_of(workspace, viewer or resolve_viewer(workspace), purpose)
    settings = workspace.settings
    return Store(workspace.lake).pin(
        connection,
        as_of=as_of,
        versions=versions,
        time_zone=settings.time_zone,
        access=access,
        gates=settings.quality.gates,
    )


def check_policy(workspace: Workspace) -> None:
    """Read every role of the workspace against the tables there are.

    Raises
    ------
    SettingsError
        Every table, column and rule that is wrong.
    """
    roles = workspace.settings.roles
    if problems := [problem for name, role in roles.items() for problem in role_problems(name, role)]:
        raise _broken(problems)


def explain(snapshot: Snapshot, table: str) -> dict[str, Any]:
    """What the viewer of `snapshot` sees of `table`, and which line of the policy says so.

    Returns
    -------
    user, role, roles, administrator, table, may_read, rows_rule, rows (seen), rows_total, small_cells,
    aggregates_only, and columns: one entry each with column, tier, show, groups and because.

    Raises
    ------
    SchemaError
        There is no such table.
    AccessError
        The user lacks an attribute the row rule needs.
    """
    everything = replace(snapshot, access=None).table(table)
    access = snapshot.access or Access(Viewer(system_user()))
    rule, viewer = access.row_rule(table), access.viewer
    total = int(snapshot.connection.execute(everything.count()))
    may_read = rule.kind != "refused"
    because = f"{rule.because}: {rule.text}" if rule.text else rule.because
    columns = []
    for name in everything.columns:
        seen = access.treatment(table, name)
        columns.append({"column": name, "tier": access.tier(table, name), "show": seen.show if may_read else "refused",
                        "groups": seen.groups and may_read, "because": seen.because})  # fmt: skip
    return {
        "user": viewer.user,
        "role": viewer.role,
        "roles": list(viewer.roles),
        "administrator": viewer.administrator,
        "attributes": {name: list(values) for name, values in viewer.attributes.items()},
        "table": table,
        "may_read": may_read,
        "rows_rule": because if viewer.role != OWNER else "workbench.yml has no roles: everybody sees everything",
        "rows": int(snapshot.connection.execute(snapshot.table(table).count())) if may_read else 0,
        "rows_total": total,
        "small_cells": access.smallest,
        "aggregates_only": not access.shows_rows,
        "columns": columns,
    }


def policy_overview(workspace: Workspace) -> list[dict[str, str]]:
    """One row per role and table: which rows it sees, which columns it does not see plainly, and why."""
    found, raised = [], raised_tiers(workspace)
    for name, role in workspace.settings.roles.items():
        access = Access(Viewer("", name), role, raised=raised)
        for table in every_table():
            rule = access.row_rule(table)
            treated = {column: access.treatment(table, column).show for column in _ibis_columns(table)}
            masked = [f"{column} ({show})" for column, show in treated.items() if show not in ("show", "unsealed")]
            found.append({"role": name, "table": table, "rows": rule.text or rule.kind, "because": rule.because,
                          "masked": ", ".join(masked) if rule.kind != "refused" else ""})  # fmt: skip
    return found


def _broken(problems: Sequence[str]) -> SettingsError:
    count = f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'} in the roles"
    return SettingsError("workbench.yml", count, rows="\n         ".join(problems), fix="mend the lines named above")


def _mask_key(workspace: Workspace, role: Role) -> bytes:
    """The key of hashed columns, made of the workspace's master key: without it a short id can be found by trying."""
    shows = [rule.show if isinstance(rule, ColumnRule) else rule for rule in role.columns.values()]
    return hmac.digest(master_key(workspace), b"masks of columns", "sha256") if "hash" in shows else b""


def _pseudonym(workspace: Workspace, value: str, role: str) -> str:
    return pseudonyms(workspace).of(value, role)


# ------------------------------------------------------------------------------------------------------- the policy


def role_problems(name: str, role: Role) -> list[str]:
    """What is wrong with a role, each with the place in `workbench.yml`."""
    return [f"roles.{name}.{problem}" for problem in (*_row_problems(role), *_column_problems(role))]


def _row_problems(role: Role) -> Iterator[str]:
    known = every_table()
    for table in role.tables if isinstance(role.tables, list) else ():
        if table not in known:
            yield f"tables: no table '{table}'; {known_names(known, 40)}"
    for table, text in role.rows.items():
        place = f"rows.{table}"
        if table not in (*known, EVERY):
            yield f"{place}: no table '{table}'; {known_names(known, 40)}"
        elif text.startswith(VIA) and table != EVERY:
            parents = [parent.strip() for parent in text.removeprefix(VIA).split(",")]
            yield from (
                f"{place}: rows of {table} do not hang on '{parent}'; {known_names(_parents(table))}"
                for parent in parents
                if _link_to(table, parent) is None
            )
        elif table == EVERY and (text == ALL or text.startswith(VIA)):
            yield f"{place}: takes a condition, not '{text}'"
        elif text != ALL and (problem := _rule_problem(text, table)):
            yield f"{place}: {problem}"


def _rule_problem(text: str, table: str) -> str:
    """What is wrong with a condition; of every table it may name any column there is."""
    columns = _ibis_columns(table)
    for name in names_in(_readable(text)) if table == EVERY else ():
        if not name.startswith(_MARK):
            columns[name] = next((kinds[name] for one in every_table() if name in (kinds := _ibis_columns(one))), "")
            if not columns[name]:
                return f"no table has a column '{name}'"
    readable = _readable(text)
    try:
        _RuleReader(readable, ibis.table(columns, name="rows"), "rule", None).condition(
            syntax_tree(readable, "rule", SettingsError)
        )
    except SettingsError as error:
        return f"{error.what} in: {text}"
    return ""


def _column_problems(role: Role) -> Iterator[str]:
    for name, rule in role.columns.items():
        table, column = name.split(".")
        show = rule.show if isinstance(rule, ColumnRule) else rule
        tables = [one for one in every_table() if column in _ibis_columns(one)] if table == EVERY else [table]
        if table not in (*every_table(), EVERY):
            yield f"columns.{name}: no table '{table}'; {known_names(every_table(), 40)}"
        elif not tables or any(column not in _ibis_columns(one) for one in tables):
            if not column.startswith(SITE_PREFIX):
                yield f"columns.{name}: no column '{column}'"
        else:
            yield from (f"columns.{name}: {wrong}" for one in tables[:1] if (wrong := _mask_problem(one, column, show)))


def _mask_problem(table: str, column: str, show: Show) -> str:
    kind = canonical_tables()[table].column(column).type if table in canonical_tables() else ""
    if show == "year" and kind not in ("day", "ts"):
        return "'year' is for days and times"
    if show == "unsealed" and kind != "text":
        return "'unsealed' is for free text"
    if show in ("hash", "last4") and kind not in ("id", "cat", "str", ""):
        return f"'{show}' is for ids and short texts"
    return ""


@functools.cache
def every_table() -> tuple[str, ...]:
    """Canonical tables, then bookkeeping tables."""
    return (*canonical_tables(), *SYSTEM_TABLES)


_IBIS_TYPES = {"int": "int64", "num": "float64", "bool": "boolean", "day": "date", "ts": "timestamp('UTC')"}


def _ibis_columns(table: str) -> dict[str, str]:
    spec = canonical_tables().get(table)
    if spec is None:
        schema = SYSTEM_TABLES.get(table)
        return {} if schema is None else {name: str(kind) for name, kind in _ibis_schema(schema).items()}
    columns = {**BOOKKEEPING, **spec.columns}
    return {name: _IBIS_TYPES.get(column.type, "string") for name, column in columns.items()}


def _ibis_schema(schema: pa.Schema) -> Mapping[str, types.DataType]:
    return ibis.Schema.from_pyarrow(schema)


def _parents(table: str) -> list[str]:
    return [name for name in canonical_tables() if name != table and _link_to(table, name)]


# ------------------------------------------------------------------------------------------------------ expressions

_ATTRIBUTE = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*"|\$([A-Za-z_][A-Za-z0-9_]*)""")
_MARK = "\u01c3"
"""Stands for `$` while Python's own reader reads the rule: a letter that no column begins with."""


def _readable(text: str) -> str:
    """The rule with `$name` as a name Python can read; what stands in quotes is left alone."""
    return _ATTRIBUTE.sub(lambda found: _MARK + found[1] if found[1] else found[0], text.strip())


def _attribute_names(text: str) -> set[str]:
    return {name for name in names_in(_readable(text)) if name.startswith(_MARK)}


class _RuleReader(Reader):
    """The grammar with `$user`, `$role` and the attributes of the viewer; each stands for a list of texts."""

    error = SettingsError

    def __init__(
        self, text: str, table: ir.Table, where: str, viewer: Viewer | None, pseudonym_of: PseudonymOf | None = None
    ) -> None:
        super().__init__(text, table, where)
        self.viewer, self.pseudonym_of = viewer, pseudonym_of

    @property
    def known_functions(self) -> list[str]:
        return [*self.functions, *PSEUDONYMS]

    def call(self, node: ast.Call, name: str) -> Any:
        if name not in PSEUDONYMS:
            return super().call(node, name)
        if len(node.args) != 1 or node.keywords:
            raise self.fail(node, f"{name} takes one plain id, like {name}($user)")
        given = self.read(node.args[0])
        values = [given] if isinstance(given, str) else given
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise self.fail(node, f"{name} takes one plain id, like {name}($user)")
        of = self.pseudonym_of
        return [of(value, PSEUDONYMS[name]) for value in values] if of else values

    def fail(self, node: ast.AST, what: str, fix: str = "") -> AftersalesError:
        found = super().fail(node, what, fix or "write conditions like team == $team and region in ['N', 'S']")
        return SettingsError(found.where, found.what, rows=found.rows.replace(_MARK, "$"), fix=found.fix)

    def column(self, node: ast.AST, name: str) -> Any:
        return self.attribute(name.removeprefix(_MARK)) if name.startswith(_MARK) else super().column(node, name)

    def attribute(self, name: str) -> list[str]:
        if self.viewer is None:  # the rule is only checked
            return ["x"]
        if name in ("user", "role"):
            return [getattr(self.viewer, name)]
        if name not in self.viewer.attributes:
            raise AccessError(
                f"user {self.viewer.user}", f"has no '{name}', which the row rule of role {self.viewer.role} needs",
                rows=self.where, fix=f"an administrator sets attributes.{name} of the user or of one of its groups",
            )  # fmt: skip
        return list(self.viewer.attributes[name])

    def compared(self, op: ast.cmpop, left: Any, right: Any) -> Any:
        if isinstance(left, list):
            left, right = right, left
        if not isinstance(right, list) or not isinstance(left, ir.Value):
            return super().compared(op, left, right)
        column = left if left.type().is_string() or not all(isinstance(v, str) for v in right) else left.cast("string")
        if isinstance(op, ast.Eq | ast.In):
            return column.isin(right)
        if isinstance(op, ast.NotEq | ast.NotIn):
            return ~column.isin(right)
        raise TypeError("a list is no number")


# ------------------------------------------------------------------------------------------------------------ rules


def _columns_of(table: str) -> set[str]:
    return set(_ibis_columns(table))


def tier_of(table: str, column: str) -> Tier:
    """The privacy tier of a column; site columns and bookkeeping are P1.

    Examples
    --------
    >>> tier_of("unit", "serial_no"), tier_of("unit", "x_engine"), tier_of("quarantine", "raw")
    ('P2', 'P1', 'P2')
    """
    spec = canonical_tables().get(table)
    if spec is not None and column in spec.columns:
        return spec.columns[column].tier
    return SYSTEM_TIERS.get((table, column), "P1")


def _link_to(table: str, parent: str) -> Link | None:
    """How rows of `table` hang on `parent`: they name its key, or its rows name theirs."""
    for link in links_of(table):
        if link.parent == parent:
            return link
    for link in links_of(parent):
        if link.parent == table:
            return Link(link.parent_column, parent, link.column)
    return None


def _hanging(rows: ir.Table, links: Sequence[Link], seen_of: RowsOf) -> ir.Table:
    """Rows that name at least one parent, and of which every parent they name is seen."""
    if not links:
        return rows.filter(ibis.literal(False))
    held, named = [], []
    for link in links:
        column, parent = rows[link.column], seen_of(link.parent)[link.parent_column]
        held.append(column.isin(parent) if len(links) == 1 else column.isnull() | column.isin(parent))
        named.append(column.notnull())
    return rows.filter([*held, functools.reduce(lambda a, b: a | b, named)])


def _keyed_hash(connection: Backend, key: bytes) -> Callable[[ir.Value], ir.Value]:
    """A keyed hash as a function of the engine: the key stands in the connection, not in queries or messages."""
    name = f"keyed_hash_{hashlib.sha256(b'name' + key).hexdigest()[:8]}"
    inner, outer = (hashlib.sha256(part + key).hexdigest() for part in (b"inner", b"outer"))
    connection.raw_sql(
        f"create or replace temp macro {name}(x) as substr(sha256('{outer}' || sha256('{inner}' || x)), 1, 20)"
    )
    return _engine_function(name)


@functools.cache
def _engine_function(name: str) -> Callable[[ir.Value], ir.Value]:
    def hashed(value):  # type: ignore[no-untyped-def]
        """The engine's own function."""

    hashed.__name__ = name
    return ibis.udf.scalar.builtin(hashed, name=name, signature=((types.string,), types.string))
