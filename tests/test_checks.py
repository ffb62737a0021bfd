"""Declared checks: each kind by hand, states that admit small numbers, YAML that replaces the built-in ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import TestWorkspace
from lakes import lake

from aftersales.collect.checks import TableChecks, check_results, expected_columns, table_checks
from aftersales.model.errors import SettingsError
from aftersales.model.tables import canonical_tables

UNITS = [{"unit_id": "u1"}, {"unit_id": "u2"}]


def results(tmp_path: Path, checks: dict[str, Any], **tables: list[dict[str, Any]]) -> pd.DataFrame:
    given = {name: TableChecks.model_validate(spec) for name, spec in checks.items()}
    return check_results(lake(tmp_path, **tables), given)


@pytest.mark.parametrize(
    ("checks", "rows", "counts", "examples"),
    [
        ({"required": ["region"]}, [{"region": "华东"}, {}, {}], (3, 2), ["ticket-00001", "ticket-00002"]),
        ({"ranges": {"cost_total": {"min": 1, "max": 5}}}, [{"cost_total": x} for x in (0.5, 1, 5, 5.1)] + [{}],
         (4, 2), ["ticket-00000", "ticket-00003"]),
        ({"allowed": {"channel": ["app"]}}, [{"channel": "app"}, {"channel": "fax"}, {}], (2, 1), ["ticket-00001"]),
        ({"references": {"unit_id": "unit"}}, [{"unit_id": "u1"}, {"unit_id": "u9"}, {}], (2, 1), ["ticket-00001"]),
        ({"order": [["created_at", "closed_at"]]},
         [{"created_at": "2024-01-02", "closed_at": "2024-01-01"}, {"created_at": "2024-01-01"},
          {"created_at": "2024-01-01", "closed_at": "2024-01-01"}], (2, 1), ["ticket-00000"]),
    ],
)  # fmt: skip
def test_a_check_counts_the_rows_it_can_judge_and_those_that_fail(
    tmp_path: Path, checks: dict[str, Any], rows: list[dict[str, Any]], counts: tuple[int, int], examples: list[str]
) -> None:
    (found,) = results(tmp_path, {"ticket": checks}, ticket=rows, unit=UNITS).to_dict("records")
    assert (found["n_checked"], found["n_failing"], found["examples"]) == (*counts, examples)
    assert found["share"] == pytest.approx(counts[1] / counts[0])


@pytest.mark.parametrize(
    ("failing", "n", "state"),
    [(0, 5, "ok"), (1, 5, "cannot_tell"), (40, 100, "failing"), (5, 100, "ok"), (9, 100, "cannot_tell")],
)
def test_the_state_says_whether_the_share_is_surely_above_the_tolerance(
    tmp_path: Path, failing: int, n: int, state: str
) -> None:
    rows = [{"unit_id": "u9" if i < failing else "u1"} for i in range(n)]
    (found,) = results(tmp_path, {"ticket": {"references": {"unit_id": "unit"}}}, ticket=rows, unit=UNITS).to_dict(
        "records"
    )
    assert found["state"] == state


def test_a_day_is_compared_with_an_instant_by_the_day(tmp_path: Path) -> None:
    rows = [
        {"failed_at": "2024-01-01", "reported_at": "2024-01-01 08:00"},
        {"failed_at": "2024-01-02", "reported_at": "2024-01-01 23:00"},
    ]
    checks = {"repair": {"order": [["failed_at", "reported_at"]]}}
    (found,) = results(tmp_path, checks, repair=rows).to_dict("records")
    assert (found["n_checked"], found["n_failing"], found["rule"]) == (2, 1, ">= failed_at")


def test_a_reference_into_a_table_that_was_never_loaded_is_not_judged(tmp_path: Path) -> None:
    assert results(tmp_path, {"ticket": {"references": {"unit_id": "unit"}}}, ticket=[{"unit_id": "u1"}]).empty


def test_an_empty_lake_has_no_results(tmp_path: Path) -> None:
    assert check_results(lake(tmp_path)).empty


def test_the_built_in_checks_follow_from_the_canonical_tables() -> None:
    checks = table_checks()
    assert set(checks) == set(canonical_tables())
    assert checks["ticket"].required == ["ticket_id"]
    assert checks["ticket"].references["unit_id"] == "unit"
    assert checks["repair"].references == {"ticket_id": "ticket", "unit_id": "unit"}
    assert checks["ticket"].ranges["cost_total"].min == 0


def test_a_file_of_the_workspace_replaces_the_entry_of_its_table(workspace: TestWorkspace) -> None:
    folder = workspace.root / "data" / "quality"
    folder.mkdir(parents=True)
    (folder / "ticket.yml").write_text("expected: [region]\norder: [[created_at, closed_at]]\n", encoding="utf-8")
    checks = table_checks(workspace.open())
    assert (checks["ticket"].expected, checks["ticket"].order) == (["region"], [["created_at", "closed_at"]])
    assert checks["repair"].order == table_checks()["repair"].order


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("ticket", "requird: [region]", r"unknown key 'requird' \(did you mean 'required'"),
        ("ticket", "required: [regio]", "no column 'regio' in ticket"),
        ("ticket", "references: {unit_id: units}", "no 'units'"),
        ("ticket", "ranges: {cost_total: {min: 5, max: 1}}", "max 1 is below min 5"),
        ("tickets", "required: [region]", "no table 'tickets'"),
    ],
)
def test_a_wrong_file_says_what_and_where(workspace: TestWorkspace, name: str, text: str, message: str) -> None:
    folder = workspace.root / "data" / "quality"
    folder.mkdir(parents=True)
    (folder / f"{name}.yml").write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=message):
        table_checks(workspace.open())


def test_completeness_asks_only_for_what_the_source_delivers(workspace: TestWorkspace) -> None:
    source = workspace.source("""
        owner: test
        files: x
        tables:
          ticket:
            columns: {ticket_id: a, known_at: b, created_at: b, unit_id: c, channel: {value: app}}
    """)
    assert expected_columns(table_checks()["ticket"], source, "ticket") == ["unit_id"]
    assert expected_columns(TableChecks(), source, "ticket") == ["created_at"]
