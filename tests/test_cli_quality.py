"""The commands of data quality, on a small workspace: what they print, and the round from a finding to its repair."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import TestWorkspace, csv_text
from test_cli import answer, run

SOURCE = """
    owner: test
    files: data/raw/*.csv
    time_zone: UTC
    tables:
      ticket:
        columns:
          ticket_id: id
          known_at: created
          created_at: created
          fault_code: {from: fault, map_file: data/raw/codes/modes.csv, otherwise: reject}
          closed_at: closed
"""
HEADER = ["id", "created", "fault", "closed"]


@pytest.fixture
def place(workspace: TestWorkspace) -> Path:
    rows = [[f"t{i}", f"2024-01-{1 + i % 28:02d}", "漏液", f"2024-01-{1 + i % 28:02d}"] for i in range(60)]
    rows += [
        ["x1", "2024-01-05", "电池漏液了", ""],
        ["x2", "2024-01-06", "电池漏液了", ""],
        ["x3", "2024-01-07", "?", ""],
    ]
    (workspace.root / "data/raw/codes").mkdir(parents=True)
    workspace.file("codes/modes.csv", "source_value,target_value,name_zh\n漏液,leak,电池漏液\n")
    workspace.file("a.csv", csv_text(HEADER, rows))
    workspace.ingest(workspace.source(SOURCE))
    return workspace.root


def test_from_an_unmapped_value_to_rows_in_the_lake(place: Path) -> None:
    (first, *_) = answer("codes", "crm", "--unmapped", cwd=place)
    assert (first["value"], first["rows"], first["suggestion"]) == ("电池漏液了", 2, "leak")
    held = answer("quarantine", "crm", "--reason", "fault_code", cwd=place)
    assert [(row["source_file"], row["source_row"], row["reasons"]) for row in held] == [
        ("a.csv", row, ["fault_code:unknown_value"]) for row in (61, 62, 63)
    ]
    accepted = answer("codes", "accept", "crm", "fault_code", "电池漏液了", "leak", cwd=place)
    assert accepted == {"file": "data/raw/codes/modes.csv", "source_value": "电池漏液了", "target_value": "leak",
                        "valid_from": None}  # fmt: skip
    (ledger,) = answer("ingest", "--replay", "crm", cwd=place)
    assert (ledger["rows_read"], ledger["accepted"], ledger["rejected"]) == (63, 62, 1)
    assert [row["source_row"] for row in answer("quarantine", cwd=place)] == [63]
    released = answer("quarantine", "--released", cwd=place)
    assert [(row["source_row"], row["outcome"]) for row in released] == [(61, "inserted"), (62, "inserted")]
    assert answer("ingest", "--replay", cwd=place) == []
    totals = answer("status", cwd=place)["totals"]
    assert (totals["rows_read"], totals["accepted"], totals["rejected"]) == (63, 62, 1)


def test_quality_has_scores_checks_history_and_volume(place: Path) -> None:
    found = answer("quality", "crm", cwd=place)
    scores = {row["dimension"]: (row["good"], row["base"], row["state"]) for row in found["scores"]}
    assert scores["mapping_coverage"] == (60, 63, "ok")
    assert scores["validity"] == (60, 63, "ok")
    assert {row["kind"] for row in found["checks"]} == {"required", "allowed", "order", "range"} & {
        row["kind"] for row in found["checks"]
    }
    assert len(found["history"]) == len(found["scores"])
    text = run("quality", cwd=place).stdout
    assert "mapping_coverage" in text
    assert "volume of the last 4 weeks: 0 implausible days" in text


def test_coverage_is_listed_per_code_list(place: Path) -> None:
    (row,) = answer("codes", cwd=place)
    assert (row["column"], row["map"], row["good"], row["base"]) == ("fault_code", "data/raw/codes/modes.csv", 60, 63)


@pytest.mark.parametrize("command", [["quality"], ["codes"], ["quarantine"]])
def test_an_unknown_source_lists_the_known_ones(place: Path, command: list[str]) -> None:
    assert "known: crm" in run(*command, "crn", cwd=place, code=2).stderr


def test_a_replay_reads_no_file(place: Path) -> None:
    assert "leave one of them out" in run("ingest", "crm", "--replay", "--files", "x", cwd=place, code=2).stderr


def test_check_with_quality_reports_what_is_below_a_gate_or_fails(place: Path) -> None:
    assert answer("check", "--quality", cwd=place)["problems"] == []
    (place / "workbench.yml").write_text("time_zone: UTC\nquality: {gates: {validity: 0.99}}\n", encoding="utf-8")
    (problem,) = answer("check", "--quality", cwd=place, code=1)["problems"]
    assert problem.startswith("quality of crm: validity 95.2 % < 99 %")
