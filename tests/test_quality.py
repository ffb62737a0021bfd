"""Scores of a source: every share worked by hand on a few rows, pooled over files, kept with its history."""

from __future__ import annotations

import datetime as dt

import pytest
from conftest import TestWorkspace, csv_text

from aftersales.collect.quality import by_column, facts, score_history, scores
from aftersales.model.settings import Gates, open_workspace

SOURCE = """
    owner: test
    files: data/raw/*
    time_zone: UTC
    fresh_within_hours: 24
    tables:
      ticket:
        columns:
          ticket_id: id
          unit_id: unit
          product_id: model
          status: {from: status, map: {a: open, b: closed}, otherwise: blank, on_bad: blank}
          severity: {from: level, map: {"1": high}, otherwise: keep}
          created_at: created
          known_at: created
"""
HEADER = ["id", "unit", "model", "status", "level", "created"]
ROWS = [
    ["t1", "u1", "m1", "a", "1", "2024-01-01 00:00:00"],
    ["t2", "", "m1", "b", "1", "2024-01-01 12:00:00"],
    ["t3", "u3", "", "zzz", "9", "2024-01-04 12:00:00"],  # three days of silence, 24 hours were promised
    ["t3", "u3", "", "zzz", "9", "2024-01-04 12:00:00"],  # the same row again
    ["t5", "u5", "m1", "", "", "soon"],  # rejected
]


def score(workspace: TestWorkspace, source: str = "crm") -> dict[str, tuple[int, int]]:
    found = scores(workspace.snapshot())
    rows = found[found["source"] == source].to_dict("records")
    return {row["dimension"]: (row["good"], row["base"]) for row in rows}


@pytest.fixture
def loaded(workspace: TestWorkspace) -> TestWorkspace:
    workspace.file("a.csv", csv_text(HEADER, ROWS))
    workspace.ingest(workspace.source(SOURCE), loaded_at=dt.datetime(2024, 1, 5, tzinfo=dt.UTC))
    return workspace


def test_each_dimension_is_a_share_worked_by_hand(loaded: TestWorkspace) -> None:
    assert score(loaded) == {
        "completeness": (9, 12),  # three expected columns of four accepted rows: unit 3, model 2, severity 4
        "validity": (4, 5),
        "uniqueness": (3, 4),
        "timeliness": (36, 84),  # 12 hours, then 24 of 72
        "mapping_coverage": (2, 4),  # status a, b of four; levels are kept as they are
        "overall": (36, 84),
    }


def test_the_overall_score_is_the_least_one_and_names_it(loaded: TestWorkspace) -> None:
    rows = scores(loaded.snapshot()).set_index("dimension")
    assert rows.loc["overall", "weakest"] == "timeliness"
    assert rows.loc["overall", "score"] == pytest.approx(36 / 84)
    assert rows.loc["completeness", "weakest"] == "ticket.product_id"
    low, high = rows.loc["validity", ["low", "high"]]  # Wilson, 4 of 5
    assert (round(low, 3), round(high, 3)) == (0.376, 0.964)


def test_a_small_base_judges_nothing_and_a_large_one_is_held_against_the_gate(loaded: TestWorkspace) -> None:
    assert set(scores(loaded.snapshot())["state"]) == {"cannot_tell", "below_gate", "ok"} - {"below_gate"}
    rows = [[f"n{i}", "u", "m", "zzz", "1", f"2024-02-01 {i % 24:02d}:00:00"] for i in range(40)]
    loaded.file("b.csv", csv_text(HEADER, rows))
    loaded.ingest(loaded.source(SOURCE))
    states = scores(loaded.snapshot()).set_index("dimension")["state"]
    assert states["mapping_coverage"] == "below_gate"  # 2 of 44
    assert states["validity"] == "ok"  # 44 of 45


def test_an_older_state_of_a_row_is_no_repeat(workspace: TestWorkspace) -> None:
    source = workspace.source(SOURCE.replace("columns:", "version: {from: updated}\n        columns:", 1))
    rows = [[*ROWS[0], "2024-01-01"], [*ROWS[0], "2024-01-02"], [*ROWS[0], "2024-01-02"]]
    workspace.file("a.csv", csv_text([*HEADER, "updated"], rows))
    workspace.ingest(source)
    assert score(workspace)["uniqueness"] == (2, 3)


def test_silence_between_two_deliveries_counts_against_timeliness(loaded: TestWorkspace) -> None:
    later = [["t9", "u", "m", "a", "1", "2024-01-07 12:00:00"]]
    loaded.file("b.csv", csv_text(HEADER, later))
    loaded.ingest(loaded.source(SOURCE))
    assert score(loaded)["timeliness"] == (36 + 24, 84 + 72)


def test_a_file_loaded_again_under_a_mended_mapping_counts_once_and_leaves_its_history(loaded: TestWorkspace) -> None:
    mended = SOURCE.replace("{a: open, b: closed}", "{a: open, b: closed, zzz: waiting}")
    loaded.ingest(loaded.source(mended), loaded_at=dt.datetime(2024, 1, 6, tzinfo=dt.UTC))
    assert score(loaded)["mapping_coverage"] == (4, 4)
    history = score_history(loaded.snapshot(), "crm")
    coverage = history[history["dimension"] == "mapping_coverage"]
    assert [(str(row.day), row.good, row.base) for row in coverage.itertuples()] == [
        ("2024-01-05", 2, 4),
        ("2024-01-06", 4, 4),
    ]
    assert len(facts(loaded.snapshot())["ingest_run_id"].unique()) == 1


def test_the_same_file_again_measures_nothing_new(loaded: TestWorkspace) -> None:
    before = loaded.rows("quality", "quality_id")
    loaded.ingest(loaded.source(SOURCE))
    assert loaded.rows("quality", "quality_id") == before


def test_a_dimension_by_column_says_where_it_is_weak(loaded: TestWorkspace) -> None:
    rows = by_column(loaded.snapshot(), "completeness")
    assert rows[["column", "good", "base"]].to_numpy().tolist() == [
        ["product_id", 2, 4],
        ["unit_id", 3, 4],
        ["severity", 4, 4],
    ]
    coverage = by_column(loaded.snapshot(), "mapping_coverage").set_index("column")
    assert coverage.loc["status", ["good", "base", "costs_row"]].tolist() == [2, 4, False]
    assert coverage.loc["severity", ["good", "base"]].tolist() == [2, 4]


def test_an_empty_lake_has_no_scores(workspace: TestWorkspace) -> None:
    snapshot = workspace.snapshot()
    assert scores(snapshot).empty
    assert score_history(snapshot).empty
    assert by_column(snapshot, "completeness").empty


def test_gates_stand_in_the_settings_and_have_defaults(workspace: TestWorkspace) -> None:
    assert workspace.open().settings.quality.gates == Gates(mapping_coverage=0.9, validity=0.8)
    path = workspace.root / "workbench.yml"
    path.write_text("quality: {gates: {completeness: 0.7}}\n", encoding="utf-8")
    assert open_workspace(workspace.root).settings.quality.gates == Gates(completeness=0.7)
