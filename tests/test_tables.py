"""The canonical tables as data."""

from __future__ import annotations

import datetime as dt

import pytest
import yaml
from conftest import TestWorkspace, csv_text

from aftersales.lake.store import ARROW_TYPES
from aftersales.model.errors import SchemaError
from aftersales.model.tables import BOOKKEEPING, SQL_TYPES, canonical_table, canonical_tables, describe_tables


def test_the_canonical_tables_are_these() -> None:
    assert sorted(canonical_tables()) == [
        "code_map",
        "complaint",
        "contact",
        "customer",
        "environment",
        "inspection",
        "message",
        "order",
        "order_item",
        "part_analysis",
        "part_use",
        "payment",
        "place",
        "planned_task",
        "product",
        "recall",
        "repair",
        "review",
        "store",
        "survey",
        "tag",
        "telemetry_event",
        "text_tag",
        "ticket",
        "ticket_event",
        "unit",
        "unit_usage",
    ]


@pytest.mark.parametrize("name", sorted(canonical_tables()))
def test_key_clock_and_key_parts_are_columns(name: str) -> None:
    table = canonical_table(name)
    known = {*table.columns, *BOOKKEEPING}
    assert {table.key, table.clock, *table.key_from} <= known


@pytest.mark.parametrize("name", sorted(canonical_tables()))
def test_every_event_time_has_a_clock_and_every_column_both_names(name: str) -> None:
    for column, spec in canonical_table(name).columns.items():
        assert spec.en
        assert spec.zh
        assert (spec.clock == "-") == (spec.type not in ("day", "ts")), column


def test_every_type_has_a_home_in_sql_and_in_the_lake() -> None:
    assert set(SQL_TYPES) == set(ARROW_TYPES)
    assert str(ARROW_TYPES["ts"]) == "timestamp[us, tz=UTC]"


def test_a_site_column_describes_itself() -> None:
    column = canonical_table("unit").column("x_engine_type")
    assert (column.type, column.en) == ("cat", "Engine type")


@pytest.mark.parametrize("name", ["unit_idd", "X_a", "x_", "x_Ä"])
def test_an_unknown_column_lists_the_known_ones(name: str) -> None:
    with pytest.raises(SchemaError, match="known: batch, built_at"):
        canonical_table("unit").column(name)


def test_an_unknown_table_lists_the_known_ones() -> None:
    with pytest.raises(SchemaError, match="known: code_map, complaint"):
        canonical_table("tickets")


def test_the_description_has_every_column_once_in_both_languages() -> None:
    expected = [
        (name, column) for name, table in canonical_tables().items() for column in [*table.columns, *BOOKKEEPING]
    ]
    assert [(row["table"], row["column"]) for row in describe_tables()] == expected
    assert next(row["title"] for row in describe_tables("zh") if row["column"] == "batch") == "批次"


SAMPLES = {"id": "1", "cat": "a", "str": "b", "text": "c", "int": "1", "num": "1.5", "bool": "true",
           "day": "2024-02-29", "ts": "2024-02-29 12:00:00"}  # fmt: skip


def test_every_table_can_be_fed_in_every_column_read_and_looked_back_at(workspace: TestWorkspace) -> None:
    tables = canonical_tables()
    specs = {
        name: {c: {"value": spec.allowed[0]} if spec.allowed else spec.type for c, spec in table.columns.items()}
        for name, table in tables.items()
    }
    feeds = {name: {"columns": {"known_at": "known", **columns}} for name, columns in specs.items()}
    mapping = {"owner": "test", "files": "data/raw/*", "tables": feeds}
    workspace.file("a.csv", csv_text([*SAMPLES, "known"], [[*SAMPLES.values(), "2024-03-01"]]))

    for delivery in workspace.ingest(workspace.source(yaml.safe_dump(mapping, sort_keys=False))):
        assert (delivery.accepted, delivery.rejected, delivery.values_set_aside) == (1, 0, 0), delivery.table
    moments = (None, dt.datetime(2024, 2, 1, tzinfo=dt.UTC), dt.datetime(2024, 4, 1, tzinfo=dt.UTC))
    now, before, after = (workspace.snapshot(as_of) for as_of in moments)
    for name, table in tables.items():
        assert [snapshot.table(name).count().execute() for snapshot in (now, before, after)] == [1, 0, 1], name
        (held,) = now.table(name).select(*table.columns).to_pyarrow().to_pylist()
        assert [column for column, value in held.items() if value is None] == [], name
