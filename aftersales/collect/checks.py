"""Checks of the canonical tables: declared in YAML, answered by one query a table over the rows in the lake.

A check says how many rows it could judge, how many fail, the share with its interval, and a few keys to look at.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, model_validator

from aftersales.collect.mapping import Source
from aftersales.lake.store import Snapshot
from aftersales.model.documents import Document, read_document
from aftersales.model.errors import SchemaError, SettingsError, known_names
from aftersales.model.settings import Workspace
from aftersales.model.tables import Column, Table, canonical_table, canonical_tables

if TYPE_CHECKING:  # a load reads the checks, and asks none of them
    import ibis.expr.types as ir
    import pandas as pd

Kind = Literal["required", "range", "allowed", "reference", "order"]
KINDS: tuple[Kind, ...] = ("required", "range", "allowed", "reference", "order")
CHECK_COLUMNS = (
    "source", "table", "kind", "column", "rule", "n_checked", "n_failing", "share", "low", "high", "tolerance",
    "state", "examples",
)  # fmt: skip


class Range(Document):
    """The least and the greatest plausible value."""

    min: float | None = None
    max: float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.min is None and self.max is None:
            raise ValueError("give 'min', 'max' or both")
        if self.min is not None and self.max is not None and self.max < self.min:
            raise ValueError(f"max {self.max:g} is below min {self.min:g}")
        return self


class Tolerance(Document):
    """The share of failing rows that is still no finding, by kind of check."""

    required: float = Field(default=0.0, ge=0, le=1)
    range: float = Field(default=0.001, ge=0, le=1)
    allowed: float = Field(default=0.0, ge=0, le=1)
    reference: float = Field(default=0.05, ge=0, le=1, description="Old units are often missing from the master data")
    order: float = Field(default=0.01, ge=0, le=1)


class TableChecks(Document):
    """What is expected of the rows of one table."""

    required: list[str] = Field(default=[], description="Columns no row may lack")
    expected: list[str] = Field(default=[], description="Columns whose filled share is the completeness of a source")
    ranges: dict[str, Range] = {}
    allowed: dict[str, list[str]] = {}
    references: dict[str, str] = Field(default={}, description="column: table, or table.column")
    order: list[list[str]] = Field(default=[], description="Times of which each is not before the one in front of it")
    tolerance: Tolerance = Tolerance()

    def columns(self) -> Iterator[tuple[str, str]]:
        """Every column named, with the key that names it."""
        for key in ("required", "expected", "ranges", "allowed", "references"):
            yield from ((key, column) for column in getattr(self, key))
        yield from (("order", column) for chain in self.order for column in chain)


class _BuiltIn(Document):
    tables: dict[str, TableChecks]


@functools.cache
def _built_in() -> dict[str, TableChecks]:
    with resources.as_file(resources.files("aftersales.collect") / "checks.yml") as path:
        return read_document(Path(path), _BuiltIn, where="aftersales/collect/checks.yml").tables


def table_checks(workspace: Workspace | None = None) -> dict[str, TableChecks]:
    """The checks of every canonical table: those of `data/quality/<table>.yml`, else the built-in ones.

    Raises
    ------
    SettingsError
        A file breaks its schema, or names a table or column that does not exist.
    """
    found = {name: _built_in().get(name, TableChecks()) for name in canonical_tables()}
    folder = workspace.quality if workspace else None
    for path in sorted(folder.glob("*.yml")) if folder else []:
        where = f"quality/{path.name}"
        if path.stem not in found:
            raise SettingsError(where, f"no table '{path.stem}'", rows=known_names(found), fix="name it as its table")
        found[path.stem] = read_document(path, TableChecks, where=where)
    return {name: _with_derived(name, canonical_table(name), checks) for name, checks in found.items()}


def _with_derived(name: str, table: Table, checks: TableChecks) -> TableChecks:
    """The checks with what follows from the canonical table."""
    for key, column in checks.columns():
        try:
            table.column(column)
        except SchemaError as error:
            raise SettingsError(
                f"quality/{name}.yml", f"{key}: no column '{column}' in {name}", rows=error.rows, fix="mend the name"
            ) from None
    for target in checks.references.values():
        _reference(name, target)
    columns = table.columns.items()
    ranges = {
        column: Range(min=spec.min, max=spec.max)
        for column, spec in columns
        if spec.min is not None or spec.max is not None
    }
    return checks.model_copy(
        update={
            "required": list(dict.fromkeys([table.key, *checks.required])),
            "ranges": {**ranges, **checks.ranges},
            "allowed": {**{column: spec.allowed for column, spec in columns if spec.allowed}, **checks.allowed},
            "references": {**_named_like_a_key(name, table), **checks.references},
        }
    )


def _named_like_a_key(name: str, table: Table) -> dict[str, str]:
    keys = {other.key: other_name for other_name, other in canonical_tables().items() if other_name != name}
    return {column: keys[column] for column in table.columns if column in keys and column != table.key}


def _reference(name: str, target: str) -> tuple[str, str]:
    """Table and column that `table` or `table.column` means."""
    other, _, column = target.partition(".")
    known = canonical_tables()
    if other not in known or (column and column not in known[other].columns):
        raise SettingsError(
            f"quality/{name}.yml", f"references: no '{target}'", rows=known_names(known), fix="write table.column"
        )
    return other, column or known[other].key


def expected_columns(checks: TableChecks, source: Source, name: str) -> list[str]:
    """Columns whose filled share is the completeness of a source: those expected, where it has something for them."""
    specs = source.tables[name].columns
    required = [column for column, spec in specs.items() if spec.required]
    wanted = checks.expected or [*required, canonical_table(name).clock]
    return [column for column in dict.fromkeys(wanted) if column in specs and specs[column].sources]


# -------------------------------------------------------------------------------------------------- results


@dataclass(frozen=True)
class _Check:
    """One check as two conditions: the row can be judged, and it fails."""

    kind: Kind
    column: str
    rule: str
    judged: ir.BooleanColumn
    failing: ir.BooleanColumn
    tolerance: float

    @property
    def fails(self) -> ir.BooleanColumn:
        return (self.judged & self.failing).fill_null(False)


def check_results(snapshot: Snapshot, checks: Mapping[str, TableChecks] | None = None) -> pd.DataFrame:
    """Every check of every table, per source, worst first.

    Parameters
    ----------
    checks
        Table -> checks (`table_checks(workspace)`); the built-in ones when absent.

    Returns
    -------
    source, table, kind, column, rule, n_checked, n_failing, share (0..1) with low and high (95 %), tolerance, state and
    examples (the first and the last key that fail). `state` is `ok` (the share is within the tolerance), `failing` (its
    whole interval lies above), `cannot_tell` (above, but too few rows to be sure), `nothing` (no row could be judged).
    """
    import pandas as pd

    from aftersales.model.statistics import share_interval

    checks = checks if checks is not None else table_checks()
    frames = [_table_results(snapshot, name, checks[name]) for name in checks if snapshot.has_rows(name)]
    found = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
    if found.empty:
        return pd.DataFrame(columns=list(CHECK_COLUMNS))
    found["share"] = found["n_failing"] / found["n_checked"].where(found["n_checked"] > 0)
    found["low"], found["high"] = share_interval(found["n_failing"], found["n_checked"])
    found["state"] = [
        _state(n, share, low, allowed)
        for n, share, low, allowed in zip(
            found["n_checked"], found["share"], found["low"], found["tolerance"], strict=True
        )
    ]
    worst = found["state"].map({"failing": 0, "cannot_tell": 1, "ok": 2, "nothing": 3})
    order = found.assign(_state=worst).sort_values(
        ["_state", "share", "source", "table", "column", "rule"], ascending=[True, False, True, True, True, True]
    )
    return order[list(CHECK_COLUMNS)].reset_index(drop=True)


def _state(n: int, share: float, low: float, tolerance: float) -> str:
    if n == 0:
        return "nothing"
    if share <= tolerance:
        return "ok"
    return "failing" if low > tolerance else "cannot_tell"


def _table_results(snapshot: Snapshot, name: str, checks: TableChecks) -> pd.DataFrame:
    import pandas as pd

    rows = snapshot.table(name)
    table = canonical_table(name)
    wanted = list(_conditions(snapshot, name, table, checks, rows))
    key = rows[table.key].cast("string")
    counts: dict[str, Any] = {}
    for i, check in enumerate(wanted):
        counts[f"n{i}"] = check.judged.fill_null(False).sum()
        counts[f"f{i}"] = check.fails.sum()
        counts[f"low{i}"], counts[f"high{i}"] = key.min(where=check.fails), key.max(where=check.fails)
    found = snapshot.connection.execute(rows.group_by("source_system").aggregate(**counts))
    return pd.DataFrame(
        [
            {
                "source": row["source_system"],
                "table": name,
                "kind": check.kind,
                "column": check.column,
                "rule": check.rule,
                "n_checked": int(row[f"n{i}"]),
                "n_failing": int(row[f"f{i}"]),
                "tolerance": check.tolerance,
                "examples": sorted({row[f"low{i}"], row[f"high{i}"]}) if row[f"f{i}"] else [],
            }
            for row in found.to_dict("records")
            for i, check in enumerate(wanted)
        ]
    )


def _conditions(snapshot: Snapshot, name: str, table: Table, checks: TableChecks, rows: ir.Table) -> Iterator[_Check]:
    """Every check as conditions over `rows`; columns the rows do not have are left out."""
    allowance = checks.tolerance
    for column in checks.required:
        if column in rows.columns:
            every = rows.source_system.notnull()
            yield _Check("required", column, "", every, rows[column].isnull(), allowance.required)
    for column, limits in checks.ranges.items():
        if column in rows.columns:
            yield _ranged(column, limits, rows, allowance.range)
    for column, values in checks.allowed.items():
        if column in rows.columns:
            known = rows[column].notnull()
            yield _Check("allowed", column, ", ".join(values), known, ~rows[column].isin(values), allowance.allowed)
    for column, target in checks.references.items():
        other, key = _reference(name, target)
        if column in rows.columns and snapshot.has_rows(other):
            there = snapshot.table(other)[key]
            known = rows[column].notnull()
            rule = f"{other}.{key}"
            yield _Check("reference", column, rule, known, ~rows[column].isin(there), allowance.reference)
    for chain in checks.order:
        for earlier, later in itertools.pairwise(chain):
            if {earlier, later} <= set(rows.columns):
                yield _ordered(snapshot, table, earlier, later, rows, allowance.order)


def _ranged(column: str, limits: Range, rows: ir.Table, tolerance: float) -> _Check:
    value = rows[column]
    outside = value.isnull()
    outside = outside | (value < limits.min) if limits.min is not None else outside
    outside = outside | (value > limits.max) if limits.max is not None else outside
    rule = " ".join(
        f"{sign} {limit:g}" for sign, limit in ((">=", limits.min), ("<=", limits.max)) if limit is not None
    )
    return _Check("range", column, rule, value.notnull(), outside, tolerance)


def _ordered(snapshot: Snapshot, table: Table, earlier: str, later: str, rows: ir.Table, tolerance: float) -> _Check:
    """`later` is not before `earlier`; where one is a day, by the other's day at the site."""
    kinds = {table.column(earlier).type, table.column(later).type}

    def comparable(column: str, spec: Column) -> ir.Value:
        is_instant = spec.type == "ts" and len(kinds) > 1
        return snapshot.site_time(rows[column]).date() if is_instant else rows[column]

    one, other = (comparable(column, table.column(column)) for column in (earlier, later))
    judged = rows[earlier].notnull() & rows[later].notnull()
    return _Check("order", later, f">= {earlier}", judged, other < one, tolerance)
