"""The canonical tables: columns with type, unit, clock, privacy tier and names in both languages.

The tables are data (`tables.yml`); types in the lake, checks on the way in and the documentation
(`describe_tables`) all come from there.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import model_validator

from aftersales.model.documents import Document, read_document
from aftersales.model.errors import SchemaError, known_names

ColumnType = Literal["id", "cat", "str", "text", "int", "num", "bool", "day", "ts"]

SQL_TYPES: Mapping[str, str] = {
    "id": "VARCHAR", "cat": "VARCHAR", "str": "VARCHAR", "text": "VARCHAR",
    "int": "BIGINT", "num": "DOUBLE", "bool": "BOOLEAN", "day": "DATE", "ts": "TIMESTAMPTZ",
}  # fmt: skip

SITE_PREFIX = "x_"
"""A column a site adds to a canonical table, e.g. `x_engine_type`: text, tier P1."""

_SITE_NAME = re.compile(r"^x_[a-z][a-z0-9_]*$")


class Column(Document):
    """One column of a canonical table."""

    type: ColumnType
    tier: Literal["P0", "P1", "P2", "P3"] = "P1"
    clock: Literal["E", "D", "V", "K", "-"] = "-"
    en: str
    zh: str
    allowed: list[str] = []
    min: float | None = None
    max: float | None = None

    @property
    def sql_type(self) -> str:
        return SQL_TYPES[self.type]


KNOWN_AT = Column(type="ts", clock="K", en="Known since", zh="获知时间")

BOOKKEEPING: Mapping[str, Column] = {
    "known_at": KNOWN_AT,
    "version_at": Column(
        type="ts", clock="K", en="Version of the record (as the source says)", zh="记录版本时间(来源)"
    ),
    "superseded_at": Column(type="ts", clock="K", en="Superseded since", zh="被取代时间"),
    "source_system": Column(type="cat", en="Source", zh="来源"),
    "source_file": Column(type="str", en="File", zh="来源文件"),
    "source_row": Column(type="int", en="Row of the file", zh="来源行号"),
    "loaded_at": Column(type="ts", en="Loaded", zh="入湖时间"),
    "ingest_run_id": Column(type="id", en="Ingest run", zh="入湖批次"),
    "yr": Column(type="cat", en="Year of the event clock (partition)", zh="事件年份(分区)"),
}
"""Columns every canonical table has besides its own."""


class Table(Document):
    """One canonical table: what a row is, its key and the clock that places a row in time."""

    name: str
    name_zh: str
    row: str
    row_zh: str
    key: str
    key_from: list[str] = []
    clock: str
    columns: dict[str, Column]

    @model_validator(mode="after")
    def _key_and_clock_exist(self) -> Table:
        for role, column in (("key", self.key), ("clock", self.clock)):
            if column not in self.columns and column not in BOOKKEEPING:
                raise ValueError(f"{role} '{column}' is no column")
        return self

    def column(self, name: str) -> Column:
        """The description of `name`; a site column (`x_...`) describes itself.

        Raises
        ------
        SchemaError
            The table has no such column.
        """
        if name in self.columns:
            return self.columns[name]
        if name in BOOKKEEPING:
            return BOOKKEEPING[name]
        if _SITE_NAME.match(name):
            title = name.removeprefix(SITE_PREFIX).replace("_", " ")
            return Column(type="cat", en=title.capitalize(), zh=title)
        raise SchemaError(
            self.name.lower(),
            f"no column '{name}'",
            rows=known_names(self.columns),
            fix=f"use one of them, or {SITE_PREFIX}<name> for a column of your own",
        )


class _TablesFile(Document):
    tables: dict[str, Table]


@functools.cache
def canonical_tables() -> dict[str, Table]:
    """All canonical tables by name."""
    with resources.as_file(resources.files("aftersales.model") / "tables.yml") as path:
        return read_document(Path(path), _TablesFile, where="aftersales/model/tables.yml").tables


def canonical_table(name: str) -> Table:
    """The canonical table `name`.

    Raises
    ------
    SchemaError
        There is no such table; the message lists the known ones.

    Examples
    --------
    >>> canonical_table("unit").key
    'unit_id'
    """
    tables = canonical_tables()
    if name not in tables:
        raise SchemaError(name, "no such table", rows=known_names(tables), fix="use one of them")
    return tables[name]


def describe_tables(lang: Literal["en", "zh"] = "en") -> list[dict[str, str]]:
    """One row per column of every canonical table, for the documentation and the catalogue.

    Examples
    --------
    >>> describe_tables()[0]["table"], describe_tables("zh")[0]["title"]
    ('ticket', '工单号')
    """
    return [
        {
            "table": name,
            "column": column,
            "type": spec.type,
            "tier": spec.tier,
            "clock": spec.clock,
            "title": spec.zh if lang == "zh" else spec.en,
        }
        for name, table in canonical_tables().items()
        for column, spec in {**table.columns, **BOOKKEEPING}.items()
    ]
