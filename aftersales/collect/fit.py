"""How far the columns of a file carry the mapping of its source: what loads, what stays as it is, what cannot load."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from aftersales.collect.mapping import PSEUDO_COLUMNS, ColumnSpec, FittedMapping, Source, TableMapping
from aftersales.model.tables import Table, canonical_table

VERSION, WHERE, ONLY_WITH, SPLIT, NAMES = "version", "where", "only_with", "split", "names"
"""Keys of a table's mapping, besides `columns`, that name raw columns."""

PLACES = (VERSION, WHERE, ONLY_WITH, SPLIT, NAMES)


@dataclass(frozen=True)
class Fit:
    """The tables of a source as far as one file can fill them."""

    tables: dict[str, FittedMapping]
    refused: dict[str, str]
    """Table -> why nothing of it can be loaded."""


@dataclass(frozen=True)
class Use:
    """One place of a mapping that reads raw columns: a canonical column, or a key such as `where`."""

    table: str
    place: str
    spec: ColumnSpec
    is_needed: bool
    """Without it the table cannot be loaded."""
    role: str
    """Why it is needed, for messages."""

    @property
    def takes_all(self) -> bool:
        """Whether all of its raw columns are needed; else they are alternatives."""
        return self.spec.join is not None or self.spec.digest

    def lacks(self, columns: Collection[str]) -> list[str]:
        """The raw columns for want of which it cannot be filled; none where one of several alternatives is there."""
        missing = [name for name in self.spec.sources if name not in columns and name not in PSEUDO_COLUMNS]
        one_is_enough = not self.takes_all and len(missing) < len(self.spec.sources)
        return [] if one_is_enough else missing


def uses(name: str, mapping: TableMapping) -> Iterator[Use]:
    """Every place of the mapping of table `name` that reads raw columns."""
    table = canonical_table(name)
    for column, spec in mapping.columns.items():
        role = _role(table, mapping, column, spec)
        yield Use(name, column, spec, bool(role), role)
    if mapping.version:
        yield Use(name, VERSION, mapping.version, True, "it says which version is newest")
    for place, columns, role in (
        (WHERE, list(mapping.where), "it says which rows are meant"),
        (ONLY_WITH, mapping.only_with, "it says which rows are meant"),
        (SPLIT, [mapping.split.column] if mapping.split else [], "it is split into rows"),
        (NAMES, mapping.names, "the names in it are masked in texts"),
    ):
        for column in columns:
            yield Use(name, place, ColumnSpec.model_validate({"from": column}), True, role)


def _role(table: Table, mapping: TableMapping, column: str, spec: ColumnSpec) -> str:
    if column == table.key:
        return "the key"
    if table.key not in mapping.columns and column in table.key_from:
        return "the key is built from it"
    if column == "known_at":
        return "it says since when a row is known"
    if column == table.clock:
        return "it places a row in time"
    return "it is required" if spec.required else ""


def fit(source: Source, columns: Collection[str]) -> Fit:
    """What a file with these raw columns can fill: a missing column stops only what needs it."""
    tables, refused = {}, {}
    for name, mapping in source.tables.items():
        gaps = [(use, use.lacks(columns)) for use in uses(name, mapping)]
        fatal = [
            f"{', '.join(map(repr, lacks))} ({use.place}: {use.role})" for use, lacks in gaps if lacks and use.is_needed
        ]
        if fatal:
            refused[name] = f"lacks {'; '.join(fatal)}"
        else:
            tables[name] = _fitted(mapping, columns, [use.place for use, lacks in gaps if lacks])
    return Fit(tables, refused)


def _fitted(mapping: TableMapping, columns: Collection[str], absent: list[str]) -> FittedMapping:
    def present(spec: ColumnSpec) -> ColumnSpec:
        there = [name for name in spec.sources if name in columns or name in PSEUDO_COLUMNS]
        partners = {key: None for key in ("not_before", "not_after") if getattr(spec, key) in absent}
        return spec.model_copy(update={"sources": there, **partners})

    fitted = {
        "columns": {name: present(spec) for name, spec in mapping.columns.items() if name not in absent},
        "version": present(mapping.version) if mapping.version else None,
        "absent": absent,
    }
    return FittedMapping.model_construct(**{**dict(mapping), **fitted})
