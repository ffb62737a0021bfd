"""Code lists: days on which a meaning holds, values they lack, suggestions, accepting one."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest
from conftest import TestWorkspace, csv_text

from aftersales.collect.codes import accept_code, coverage, suggestions, unmapped
from aftersales.collect.mapping import Code, Source, read_code_list
from aftersales.model.errors import ParameterError, SettingsError

LIST = "data/raw/codes/modes.csv"
SOURCE = """
    owner: test
    files: data/raw/*.csv
    time_zone: Asia/Shanghai
    tables:
      ticket:
        columns:
          ticket_id: id
          known_at: created
          created_at: created
          fault_code: {from: fault, map_file: data/raw/codes/modes.csv, otherwise: OTHERWISE, on_bad: blank}
"""


def source(workspace: TestWorkspace, otherwise: str = "blank") -> Source:
    return workspace.source(SOURCE.replace("OTHERWISE", otherwise))


def codes(workspace: TestWorkspace, text: str) -> Path:
    (workspace.root / "data/raw/codes").mkdir(parents=True, exist_ok=True)
    return workspace.file("codes/modes.csv", text)


def test_a_meaning_holds_between_its_days_on_the_clock_of_the_source(workspace: TestWorkspace) -> None:
    codes(
        workspace,
        "source_value,target_value,valid_from,valid_to\nE1,leak,,2024-01-31\nE1,jam,2024-02-01,2024-02-29\nE2,drop,,\n",
    )
    rows = [
        ["t1", "2023-05-01 00:00:00", "e1"],
        ["t2", "2024-01-31 23:59:00", "E1"],  # in UTC, as everything here: the 31st of January at the site
        ["t3", "2024-02-01 00:00:00", "Ｅ1"],
        ["t4", "2024-03-01 00:00:00", "E1"],
        ["t5", "2024-03-01 00:00:00", "E2"],
    ]
    workspace.file("a.csv", csv_text(["id", "created", "fault"], rows))
    workspace.ingest(source(workspace))
    assert workspace.rows("ticket", "ticket_id", "fault_code") == [
        ("t1", "leak"),
        ("t2", "leak"),
        ("t3", "jam"),
        ("t4", None),
        ("t5", "drop"),
    ]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("x,1,2024-01-01,\nx,2,,2024-01-01\n", r"two meanings on one day .*\n.*x \(lines 2, 3\)"),
        ("x,1,,\nＸ,2,2024-01-01,\n", r"Ｘ \(lines 2, 3\)"),
        ("x,1,2024-13-01,\n", r"line 2: valid_from '2024-13-01' is no day"),
        ("x,1,2024-02-01,2024-01-01\n", "line 2: ends 2024-01-01 before it begins 2024-02-01"),
    ],
)
def test_periods_that_overlap_are_refused_with_their_lines(workspace: TestWorkspace, lines: str, message: str) -> None:
    codes(workspace, "source_value,target_value,valid_from,valid_to\n" + lines)
    with pytest.raises(SettingsError, match=message):
        read_code_list(workspace.open(), LIST)


def test_periods_that_touch_or_say_the_same_are_fine(workspace: TestWorkspace) -> None:
    codes(workspace, "source_value,target_value,valid_from,valid_to\nx,1,,2024-01-01\nx,2,2024-01-02,\ny,1,,\nY,1,,\n")
    found = read_code_list(workspace.open(), LIST)
    assert found[0] == Code("x", "1", valid_to=dt.date(2024, 1, 1))
    assert len(found) == 4


@pytest.mark.parametrize("otherwise", ["reject", "keep", "blank"])
def test_unmapped_values_are_listed_by_frequency_whatever_happens_to_the_row(
    workspace: TestWorkspace, otherwise: str
) -> None:
    codes(workspace, "source_value,target_value,name_zh\n漏液,battery_leakage,电池漏液\nstall,motor_stall,电机堵转\n")
    faults = ["漏液", "电池漏液了", "电池漏液了", "Motor-Stall", "???", ""]
    rows = [[f"t{i}", f"2024-01-0{i + 1}", fault] for i, fault in enumerate(faults)]
    workspace.file("a.csv", csv_text(["id", "created", "fault"], rows))
    crm = source(workspace, otherwise)
    workspace.ingest(crm)
    found = unmapped(workspace.snapshot(), {"crm": crm}, workspace.open())
    shown = ["table", "column", "map", "otherwise", "value", "rows", "suggestion", "because"]
    assert found[shown].to_numpy().tolist() == [
        ["ticket", "fault_code", LIST, otherwise, "电池漏液了", 2, "battery_leakage", "电池漏液"],
        ["ticket", "fault_code", LIST, otherwise, "???", 1, "", ""],
        ["ticket", "fault_code", LIST, otherwise, "Motor-Stall", 1, "motor_stall", "motor_stall"],
    ]
    assert found["score"].tolist()[2] == 100
    assert found["first_seen"].iloc[0].isoformat() == "2024-01-01T16:00:00+00:00"
    assert found["last_seen"].iloc[0].isoformat() == "2024-01-02T16:00:00+00:00"
    (row,) = coverage(workspace.snapshot()).to_dict("records")
    assert (row["map"], row["good"], row["base"]) == (LIST, 1, 5)


def test_an_empty_code_list_knows_no_value(workspace: TestWorkspace) -> None:
    codes(workspace, "source_value,target_value\n")
    workspace.file("a.csv", csv_text(["id", "created", "fault"], [["t1", "2024-01-01", "x"]]))
    workspace.ingest(source(workspace))
    assert workspace.rows("ticket", "fault_code") == [None]
    assert coverage(workspace.snapshot())[["good", "base"]].to_numpy().tolist() == [[0, 1]]


@pytest.mark.parametrize(
    ("value", "target"),
    [
        ("Wi-Fi 掉线", "wifi_drop"), ("WIFI掉线", "wifi_drop"), ("堵转电机", "motor_stall"), ("电机卡", "motor_stall"),
        ("battery leak", "battery_leakage"), ("Leakage, battery", "battery_leakage"), ("霉变", None), ("xyz", None),
    ],
)  # fmt: skip
def test_a_suggestion_resembles_a_known_word(value: str, target: str | None) -> None:
    words = {"wifi掉线": "wifi_drop", "电机堵转": "motor_stall", "电机卡死": "motor_stall",
             "battery leakage": "battery_leakage"}  # fmt: skip
    found = suggestions(value, words)
    assert (found[0].target if found else None) == target


def test_accepting_a_meaning_appends_a_line_with_the_names_of_its_target(workspace: TestWorkspace) -> None:
    path = codes(workspace, "\ufeffsource_value,target_value,name_zh\r\n漏液,leak,电池漏液\r\n")
    crm = source(workspace)
    before = crm.fingerprint(workspace.open())
    assert accept_code(workspace.open(), crm, "fault_code", "漏了, 液", "leak") == path
    text = '\ufeffsource_value,target_value,name_zh\r\n漏液,leak,电池漏液\r\n"漏了, 液",leak,电池漏液\r\n'
    assert path.read_bytes().decode() == text
    assert [other.name for other in path.parent.iterdir()] == ["modes.csv"]
    assert crm.fingerprint(workspace.open()) != before


def test_a_meaning_that_changes_ends_the_one_before(workspace: TestWorkspace) -> None:
    path = codes(workspace, "source_value,target_value\nE1,leak\nE2,jam\n")
    accept_code(workspace.open(), source(workspace), "ticket.fault_code", "e1", "jam", since=dt.date(2024, 6, 1))
    assert path.read_text(encoding="utf-8").splitlines() == [
        "source_value,target_value,valid_from,valid_to",
        "E1,leak,,2024-05-31",
        "E2,jam,,",
        "e1,jam,2024-06-01,",
    ]
    assert len(read_code_list(workspace.open(), LIST)) == 3


@pytest.mark.parametrize(
    ("column", "value", "target", "message"),
    [
        ("fault_code", "new", "leek", r"no target 'leek' yet \(did you mean 'leak'\?\)"),
        ("fault_code", "E1", "jam", "'E1' already means 'leak'"),
        ("status", "E1", "jam", r"no column 'status' with a code list\n.*known: ticket.fault_code"),
    ],
)
def test_what_cannot_be_accepted_says_why_and_changes_nothing(
    workspace: TestWorkspace, column: str, value: str, target: str, message: str
) -> None:
    path = codes(workspace, "source_value,target_value\nE1,leak\nE2,jam\n")
    before = path.read_bytes()
    with pytest.raises(ParameterError, match=message):
        accept_code(workspace.open(), source(workspace), column, value, target)
    assert path.read_bytes() == before


def test_a_map_in_the_yaml_is_mended_there(workspace: TestWorkspace) -> None:
    text = SOURCE.replace("map_file: data/raw/codes/modes.csv", "map: {a: A}").replace("OTHERWISE", "blank")
    with pytest.raises(ParameterError, match="has its map in the source's YAML"):
        accept_code(workspace.open(), workspace.source(text), "fault_code", "b", "A")
