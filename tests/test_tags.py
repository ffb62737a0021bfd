"""Problem tags: dictionary, tags not to be used, coverage and consistency per team, worked by hand."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import TestWorkspace
from lakes import lake

from aftersales.collect.tags import (
    ProblemTag,
    read_tags,
    tag_consistency,
    tag_coverage,
    tag_findings,
    tagged_tickets,
)
from aftersales.lake.store import Snapshot
from aftersales.model.errors import SettingsError
from aftersales.model.settings import WorkbenchFile, Workspace
from aftersales.model.statistics import agreement_alpha

TAGS = {
    "电池": ProblemTag("电池", "Battery", "电池", "product", ""),
    "联网": ProblemTag("联网", "Network", "联网", "product", ""),
    "old": ProblemTag("old", "Old", "旧", "product", "", valid_to=dt.date(2024, 1, 31), replaced_by="电池"),
    "new": ProblemTag("new", "New", "新", "product", "", valid_from=dt.date(2024, 3, 1)),
}


def world(tmp_path: Path, tickets: list[dict[str, Any]], tags: dict[str, list[str]]) -> Snapshot:
    labels = [
        {"tag_id": f"{ticket}/{tag}", "source_table": "ticket", "source_id": ticket, "tag_set": "problem", "tag": tag}
        for ticket, each in tags.items()
        for tag in each
    ]
    labels.append({"tag_id": "x", "source_table": "recall", "source_id": "t1", "tag_set": "component", "tag": "电池"})
    return lake(tmp_path, ticket=tickets, tag=labels)


def ticket(number: int, team: str | None, day: str = "2024-02-01", **more: Any) -> dict[str, Any]:
    return {"ticket_id": f"t{number}", "team": team, "created_at": day, **more}


def test_each_tag_is_judged_by_the_day_of_its_ticket(tmp_path: Path) -> None:
    tickets = [ticket(1, "A", "2024-01-31"), ticket(2, "A"), ticket(3, "A", "2024-03-01")]
    tags = {"t1": ["old", "new"], "t2": ["old", "new", "电池"], "t3": ["new", "Batterie", "ＯＬＤ"]}
    found = tagged_tickets(world(tmp_path, tickets, tags), TAGS)
    assert sorted(zip(found["ticket_id"], found["tag"], found["state"], strict=True)) == [
        ("t1", "new", "not_yet"), ("t1", "old", "valid"),
        ("t2", "new", "not_yet"), ("t2", "old", "retired"), ("t2", "电池", "valid"),
        ("t3", "Batterie", "unknown"), ("t3", "new", "valid"), ("t3", "ＯＬＤ", "retired"),
    ]  # fmt: skip
    wrong = tag_findings(found, TAGS)
    assert wrong[["tag", "state", "tickets", "example", "suggestion"]].to_numpy().tolist() == [
        ["new", "not_yet", 2, "t1", ""],
        ["Batterie", "unknown", 1, "t3", "电池"],
        ["old", "retired", 1, "t2", "电池"],
        ["ＯＬＤ", "retired", 1, "t3", "电池"],
    ]


def test_coverage_is_the_share_of_tickets_with_a_valid_tag_since_there_are_tags(tmp_path: Path) -> None:
    tickets = [ticket(0, "A", "2020-01-01"), *(ticket(i, "A") for i in range(1, 41)), ticket(50, "B"), ticket(51, None)]
    tags = {f"t{i}": ["电池", "联网"] for i in range(1, 31)} | {"t31": ["nonsense"]}
    snapshot = world(tmp_path, tickets, tags)
    found = tag_coverage(snapshot, tagged_tickets(snapshot, TAGS))
    assert found[["tickets", "tagged", "state"]].to_numpy().tolist() == [
        [1, 0, "cannot_tell"], [1, 0, "cannot_tell"], [40, 30, "ok"],
    ]  # fmt: skip
    team_a = found.set_index("team").loc["A"]
    assert (team_a["share"], round(team_a["low"], 3), round(team_a["high"], 3)) == (0.75, 0.598, 0.858)  # Wilson


def test_alpha_of_a_team_is_that_of_its_tickets_per_failure_code() -> None:
    codes = {"leak": ["电池"] * 9 + ["联网"], "drop": ["联网"] * 8 + ["电池"] * 2}
    tagged = frame("A", codes)
    (row,) = tag_consistency(tagged).to_dict("records")
    # by hand: 20 codings, 11 battery and 9 network; disagreeing pairs 2*9/9 + 2*16/9; expected 2*11*9/19
    assert row["alpha"] == pytest.approx(1 - (18 / 9 + 32 / 9) / (198 / 19))
    assert (row["codes"], row["tickets"], row["compared"], row["state"]) == (2, 20, 0, "cannot_tell")


def test_a_team_is_compared_with_what_the_others_usually_enter() -> None:
    tagged = pd.concat(
        [
            frame("A", {"leak": ["电池"] * 20, "drop": ["联网"] * 20}),
            frame("B", {"leak": ["电池"] * 18 + ["联网"] * 2, "drop": ["联网"] * 20}),
            frame("C", {"leak": ["联网"] * 15, "drop": ["电池"] * 15, "jam": ["电池"] * 5}),
        ]
    )
    found = tag_consistency(tagged).set_index("team")
    assert found["agreeing"].to_dict() == {"A": 40, "B": 38, "C": 0}
    assert found.loc["C", ["agreeing", "compared", "agreement"]].tolist() == [0, 30, 0.0]  # nobody else met the jam
    assert found.loc["A", "alpha"] == 1.0
    assert found["state"].tolist() == ["ok"] * 3


def test_tags_that_are_all_the_same_tell_nothing() -> None:
    (row,) = tag_consistency(frame("A", {"leak": ["电池"] * 40})).to_dict("records")
    assert row["state"] == "cannot_tell"
    assert pd.isna(row["alpha"])


def frame(team: str, codes: dict[str, list[str]]) -> pd.DataFrame:
    rows = [
        {
            "ticket_id": f"{team}{code}{i}",
            "team": team,
            "day": dt.date(2024, 1, 1),
            "code": code,
            "tag": tag,
            "state": "valid",
        }
        for code, tags in codes.items()
        for i, tag in enumerate(tags)
    ]
    return pd.DataFrame(rows)


def test_alpha_of_the_published_example_with_four_observers_and_gaps() -> None:
    # Krippendorff (2011), section C: twelve units, four observers, codes 1 to 5, some values missing
    observers = [
        [1, 2, 3, 3, 2, 1, 4, 1, 2, None, None, None],
        [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, None, 3],
        [None, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, None],
        [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, None],
    ]
    counts = [[sum(row[unit] == code for row in observers) for code in range(1, 6)] for unit in range(12)]
    assert round(agreement_alpha(counts), 3) == 0.743


def test_no_tags_give_empty_answers(tmp_path: Path) -> None:
    snapshot = world(tmp_path, [ticket(1, "A")], {})
    tagged = tagged_tickets(snapshot, TAGS)
    assert tagged.empty
    assert tag_findings(tagged, TAGS).empty
    assert tag_coverage(snapshot, tagged).empty
    assert tag_consistency(tagged).empty


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tag,name_en\nx,X\n", "lacks the columns name_zh"),
        ("tag,name_en,name_zh\nx,X,\nＸ,Y,\n", "line 3: 'Ｘ' stands there twice"),
        ("tag,name_en,name_zh,valid_to\nx,X,,2024-13-01\n", "line 2: "),
        ("tag,name_en,name_zh,replaced_by\nx,X,,y\n", "'x' is replaced by 'y', which is no tag"),
        ("tag,name_en,name_zh,valid_from,valid_to\nx,X,,2024-02-01,2024-01-01\n", "ends 2024-01-01 before it begins"),
    ],
)
def test_a_wrong_dictionary_says_where(workspace: TestWorkspace, text: str, message: str) -> None:
    path = workspace.root / "data" / "reference" / "problem_tags.csv"
    path.parent.mkdir(parents=True)
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SettingsError, match=message):
        read_tags(workspace.open())


def test_the_dictionary_that_comes_with_the_workbench_reads() -> None:
    tags = read_tags(Workspace(Path(__file__).parent.parent, WorkbenchFile()))
    assert tags["功能bug"].state_on(dt.date(2023, 12, 31)) == "valid"
    assert tags["功能bug"].state_on(dt.date(2024, 1, 1)) == "retired"
    assert tags[tags["功能bug"].replaced_by].group == "product"
    assert all(tag.name_en and tag.name_zh and tag.definition for tag in tags.values())


def test_a_workspace_without_a_dictionary_has_no_tags(workspace: TestWorkspace) -> None:
    assert read_tags(workspace.open()) == {}
