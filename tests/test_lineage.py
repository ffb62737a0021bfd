"""Where a column comes from and which metrics use it: read off small definitions whose answer is known."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TestWorkspace
from lakes import lake

from aftersales.measure.definitions import Metric, metrics
from aftersales.measure.lineage import fed_columns, filled_columns, used_columns
from aftersales.model.tables import canonical_tables

SOURCE = """
    owner: test
    files: data/raw/*.csv
    tables:
      ticket:
        columns:
          ticket_id: 工单号
          product_id: {from: [make, model], join: "/"}
          created_at: {from: [opened, created]}
          channel: {value: phone}
          x_colour: colour
          known_at: opened
      tag:
        split: {column: Tags, separator: ";"}
        columns:
          source_table: {value: ticket}
          source_id: 工单号
          tag_set: {value: problem}
          tag: "@part"
          known_at: opened
"""


def test_every_column_a_source_fills_is_named_with_its_own_columns(workspace: TestWorkspace) -> None:
    rows = fed_columns({"crm": workspace.source(SOURCE)})
    found = {(row["table"], row["column"]): row["raw"] for row in rows.to_dict("records")}
    assert found["ticket", "ticket_id"] == "工单号"
    assert found["ticket", "product_id"] == "make + model"
    assert found["ticket", "created_at"] == "opened / created"
    assert found["ticket", "channel"] == "= phone"
    assert found["ticket", "x_colour"] == "colour"
    assert found["tag", "tag"] == "@part (Tags)"
    assert found["tag", "tag_id"] == "source_table + source_id + tag_set + tag"  # a key that is built
    assert set(rows["source"]) == {"crm"}


def used(**changes: object) -> set[tuple[str, str, str]]:
    metric = metrics()["first_time_fix_rate"].model_copy(update=changes)
    return {(row["table"], row["column"], row["use"]) for row in used_columns({"m": metric}).to_dict("records")}


def test_a_metric_uses_what_its_expressions_its_clock_and_its_repeats_name() -> None:
    """visits_n <= 1 and not has_repeat_within(days=30, same='fault_code'); result == 'fixed' and is_known(visits_n)"""
    found = used(dimensions=["component"])
    assert found == {
        ("repair", "finished_at", "clock"), ("repair", "visits_n", "counts"), ("repair", "result", "counts"),
        ("repair", "unit_id", "counts"), ("repair", "reported_at", "counts"), ("repair", "fault_code", "counts"),
        ("repair", "component", "split"),
    }  # fmt: skip


def test_a_dimension_is_the_rows_own_its_units_or_its_products_column() -> None:
    found = {row for row in used(dimensions=["batch", "build_month", "model", "component_group"]) if row[2] == "split"}
    assert found == {
        ("unit", "batch", "split"), ("unit", "built_at", "split"), ("product", "model", "split"), ("tag", "tag", "split")
    }  # fmt: skip


def test_a_rate_uses_the_days_that_tell_when_a_unit_is_in_service() -> None:
    rows = used_columns({"failure_rate": metrics()["failure_rate"]})
    exposure = rows[rows["use"] == "exposure"]
    assert {"in_service_at", "sold_at", "removed_at", "status"} <= set(exposure[exposure["table"] == "unit"]["column"])


def test_every_metric_of_the_dictionary_uses_columns_that_exist() -> None:
    rows = used_columns(metrics())
    assert set(rows["metric"]) == set(metrics())
    for row in rows.to_dict("records"):
        assert row["column"] in canonical_tables()[row["table"]].columns, row


def test_text_in_quotes_is_no_column() -> None:
    metric: Metric = metrics()["callback_reach_rate"]
    assert metric.denominator.where == "task_kind == 'callback'"
    assert {column for _, column, use in used(numerator=metric.numerator, denominator=metric.denominator,
                                              clock="planned_at", dimensions=["programme"]) if use == "counts"} == {
        "reached_at", "task_kind"}  # fmt: skip


def test_filled_counts_rows_with_a_value_and_leaves_sealed_texts_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    snapshot = lake(
        tmp_path,
        ticket=[
            {"ticket_id": "T1", "channel": "phone", "description": "a", "x_colour": "red"},
            {"ticket_id": "T2", "channel": None, "description": "b"},
        ],
    )
    rows = filled_columns(snapshot)
    found = {row["column"]: (row["rows"], row["filled"]) for row in rows.to_dict("records")}
    assert set(rows["table"]) == {"ticket"}
    assert found["ticket_id"] == (2, 2)
    assert found["channel"] == (2, 1)
    assert found["x_colour"] == (2, 1)
    assert found["severity"] == (2, 0)
    assert found["description"][0] == 2
    assert found["description"][1] != found["description"][1]  # not counted: it would have to be opened
    assert "superseded_at" not in found


def test_an_empty_lake_has_no_filled_columns(tmp_path: Path) -> None:
    assert filled_columns(lake(tmp_path)).empty
