"""Actions in the register: add, change, history, import from CSV; on SQLite and PostgreSQL."""

# ruff: noqa: F811  (fixtures come by import from test_register)

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_register import UNICODE, finished, register, start, workspace  # noqa: F401

from aftersales.improve.actions import (
    ActionImport,
    Scope,
    action_history,
    add_action,
    change_action,
    find_action,
    import_actions,
    list_actions,
)
from aftersales.lake.register import ChangedMeanwhileError, Register, UnknownActionError
from aftersales.model.errors import ParameterError, SourceError
from aftersales.model.settings import Workspace

NOW = dt.datetime(2026, 11, 2, 8, 30, tzinfo=dt.UTC)
LATER = NOW + dt.timedelta(days=3)
SEAL = Scope("supplier", "S07", "batch", before=("2022Q2",), after=("2022Q3", "2022Q4", "2023Q1"))
HEADER = (
    "action_id,title,title_zh,kind,owner,state,created_at,implemented_at,review_at,failure_mode,dimension,value,"
    "cut_dimension,before,after"
)
LINE = (
    'A-2022-07,"Battery cells of S07: new cell seal, from batch 2022Q3 on","更换 S07 电池密封工艺, 自 2022Q3 批次起",'
    "supplier change,supplier quality,implemented,2022-06-20,2022-07-01,2024-01-15,cell leak,supplier,S07,batch,2022Q2,"
    "2022Q3;2022Q4;2023Q1"
)


def add(register: Register, action_id: str = "A-1", title: str = "New cell seal", **values: Any) -> Any:
    return add_action(register, action_id, title=title, who="li", now=NOW, **values)


@pytest.fixture
def csv_file(tmp_path: Path) -> Callable[..., Path]:
    def write(*lines: str, name: str = "actions.csv", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_bytes("\n".join(lines).encode(encoding))
        return path

    return write


# --- add and find -------------------------------------------------------------------------------------------------


def test_an_action_comes_back_as_it_was_added(register: Register) -> None:
    values: dict[str, Any] = {
        "title_zh": "更换密封", "kind": "supplier change", "issue": "I-3", "owner": "supplier quality", "team": "SQ",
        "state": "implemented", "due_at": dt.date(2026, 12, 1), "implemented_at": dt.date(2026, 7, 1),
        "review_at": dt.date(2027, 1, 15), "failure_mode": "cell leak", "scope": SEAL, "metric": "complaint_rate",
        "target_value": 1.5, "note": "agreed",
    }  # fmt: skip
    created = dt.datetime(2026, 6, 20, 0, 30, tzinfo=dt.timezone(dt.timedelta(hours=8)))
    added = add(register, created_at=created, **values)
    assert added == find_action(register, "A-1")
    assert asdict(added) == {
        "action_id": "A-1", "title": "New cell seal", **values, "scope": asdict(SEAL),
        "created_at": dt.datetime(2026, 6, 19, 16, 30, tzinfo=dt.UTC), "closed_at": None, "version": 1,
    }  # fmt: skip
    assert added.created_at.tzinfo is dt.UTC


def test_an_action_with_a_title_only_is_proposed_now(register: Register) -> None:
    action = add(register)
    assert (action.state, action.created_at, action.scope, action.target_value) == ("proposed", NOW, None, None)
    assert (action.owner, action.due_at, action.closed_at, action.version) == ("", None, None, 1)


def test_an_action_cannot_be_edited_in_place(register: Register) -> None:
    action = add(register)
    with pytest.raises(FrozenInstanceError):
        action.title = "other"


@pytest.mark.parametrize(
    "text", [UNICODE, "  spaces kept  ", "'; drop table action; --", "￿\u200b\u0301", "a" * 50_000]
)
def test_any_unicode_is_an_id_a_title_and_a_group(register: Register, text: str) -> None:
    scope = Scope("batch", text, "batch", (text,), (text + "2",))
    add(register, text, text, title_zh=text, owner=text, note=text, scope=scope)
    found = find_action(register, text)
    assert (found.action_id, found.title, found.title_zh, found.owner, found.note) == (text,) * 5
    assert found.scope == scope
    assert [action.action_id for action in list_actions(register, owner=text)] == [text]


TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1).filter(str.strip)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(title=TEXTS, note=TEXTS)
def test_every_text_survives_a_change(register: Register, title: str, note: str) -> None:
    if not list_actions(register):
        add(register)
    seen = find_action(register, "A-1")
    values = {"title": title, "note": note}
    changed = change_action(register, "A-1", seen_version=seen.version, who="li", now=NOW, **values)
    assert (changed.title, changed.note) == (title, note)
    assert find_action(register, "A-1") == changed


def test_a_taken_id_is_refused_and_the_action_stays(register: Register) -> None:
    add(register)
    with pytest.raises(ParameterError, match="action 'A-1': there is one of that id already"):
        add(register, title="another")
    assert find_action(register, "A-1").title == "New cell seal"


def test_an_unknown_action_names_near_ids(register: Register) -> None:
    for action_id in ("A-2022-07", "A-2022-08", "B-9"):
        add(register, action_id)
    with pytest.raises(UnknownActionError) as caught:
        find_action(register, "A-2022-77")
    assert str(caught.value) == (
        "action 'A-2022-77': no such action among 3\n"
        "  rows : near: A-2022-07, A-2022-08\n"
        "  fix  : aftersales action list shows them all"
    )
    for ask in (action_history, lambda r, i: change_action(r, i, seen_version=1, who="li", now=NOW, note="x")):
        with pytest.raises(UnknownActionError, match="known: A-2022-07, A-2022-08, B-9"):
            ask(register, "\ud800")


def test_all_problems_of_an_action_are_reported_at_once(register: Register) -> None:
    with pytest.raises(ParameterError) as caught:
        add(register, "", " ", state="done", due_at=NOW, scoop=SEAL, target_value=float("nan"), note="a\0b", owner=7,
            metric="\udc80", created_at=dt.datetime(2026, 1, 1),
            scope=Scope("supplier", "", "batch", ("a", ""), ("a",)))  # fmt: skip
    assert caught.value.what == "11 problems"
    assert [line.strip() for line in caught.value.rows.splitlines()] == [
        "action_id: is empty",
        "created_at: 2026-01-01T00:00:00 has no time zone",
        "title: is empty",
        "state: no state 'done'; known: proposed, accepted, in_progress, implemented, hold, cancelled, closed",
        "due_at: datetime.datetime(2026, 11, 2, 8, 30, tzinfo=datetime.timezone.utc) is not a day",
        "scoop: no such field; did you mean 'scope'?",
        "target_value: nan is not a finite number",
        "note: has a NUL character at position 2",
        "owner: 7 is not text",
        "metric: has a broken character at position 1",
        "scope: dimension and value go together, one is empty; an empty name in before or after; both before and after: a",
    ]
    assert list_actions(register) == []


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"state": "implemented"}, "an action that is implemented needs the day it was implemented"),
        ({"state": "closed"}, "an action that is closed needs the day"),
        ({"implemented_at": dt.date(2026, 7, 1), "review_at": dt.date(2026, 6, 30)}, "2026-06-30 lies before implem"),
        ({"scope": Scope("supplier", "S07", "batch", ("a",))}, "cut_dimension, before and after go together"),
        ({"target_value": True}, "True is not a finite number"),
        ({"scope": {"dimension": "supplier"}}, "not a Scope"),
    ],
)
def test_an_action_that_cannot_be_true_is_refused(register: Register, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ParameterError, match=words):
        add(register, **values)
    add(register, "A-2")
    with pytest.raises(ParameterError, match=words):
        change_action(register, "A-2", seen_version=1, who="li", now=NOW, **values)
    assert find_action(register, "A-2").version == 1


# --- change and history -------------------------------------------------------------------------------------------


def test_every_changed_field_leaves_a_line_in_the_history(register: Register) -> None:
    add(register, owner="li", scope=SEAL)
    narrower = Scope("supplier", "S07", "batch", ("2022Q2",), ("2022Q3",))
    values = {"owner": "王", "target_value": 2, "scope": narrower, "kind": "", "due_at": dt.date(2026, 12, 1)}
    changed = change_action(register, "A-1", seen_version=1, who="wang", now=LATER, **values)
    assert (changed.version, changed.owner, changed.target_value, changed.scope) == (2, "王", 2.0, narrower)
    created, *lines = action_history(register, "A-1")
    assert (created.field, created.old, created.changed_by, created.changed_at) == ("created", None, "li", NOW)
    assert json.loads(created.new or "")["owner"] == "li"
    assert json.loads(created.new or "")["created_at"] == "2026-11-02T08:30:00+00:00"
    assert {(line.version, line.changed_by, line.changed_at, line.source) for line in lines} == {(2, "wang", LATER, "")}
    assert {line.field: (line.old, line.new) for line in lines} == {
        "owner": ("li", "王"),
        "target_value": (None, "2.0"),
        "due_at": (None, "2026-12-01"),
        "scope": (json.dumps(asdict(SEAL)), json.dumps(asdict(narrower))),
    }


def test_a_change_to_the_same_values_changes_nothing(register: Register) -> None:
    before = add(register, scope=SEAL, target_value=3.0)
    values = {"title": before.title, "scope": SEAL, "target_value": 3}
    assert change_action(register, "A-1", seen_version=1, who="wang", now=LATER, **values) == before
    assert len(action_history(register, "A-1")) == 1


def test_closing_keeps_the_instant_and_reopening_clears_it(register: Register) -> None:
    add(register, implemented_at=dt.date(2026, 10, 1), state="implemented")
    closed = change_action(register, "A-1", seen_version=1, who="li", now=LATER, state="closed")
    assert closed.closed_at == LATER
    noted = change_action(register, "A-1", seen_version=2, who="li", now=LATER + dt.timedelta(1), note="filed")
    assert noted.closed_at == LATER
    opened = change_action(register, "A-1", seen_version=3, who="li", now=LATER, state="in_progress")
    assert (opened.closed_at, opened.version) == (None, 4)
    assert [line.field for line in action_history(register, "A-1")] == [
        "created", "state", "closed_at", "note", "state", "closed_at"
    ]  # fmt: skip


def test_the_second_of_two_sessions_is_told_who_was_first(workspace: Workspace, register: Register) -> None:
    mine = add(register)
    finished(start(workspace, """
with open_register(workspace) as register:
    seen = find_action(register, "A-1")
    change_action(register, "A-1", seen_version=seen.version, who="wang", now=now, owner="wang", note="took it")
"""))  # fmt: skip
    with pytest.raises(ChangedMeanwhileError) as caught:
        change_action(register, "A-1", seen_version=mine.version, who="li", now=NOW, owner="li")
    assert str(caught.value) == (
        "action 'A-1': it is at version 2, the change was made on version 1\n"
        "  rows : version 2: owner by wang, 2026-11-02 00:00 UTC\n"
        "         version 2: note by wang, 2026-11-02 00:00 UTC\n"
        "  fix  : read the action again and repeat the change on what is there now"
    )
    assert caught.value.exit_code == 1
    assert find_action(register, "A-1").owner == "wang"


def test_created_at_and_the_version_cannot_be_changed(register: Register) -> None:
    add(register)
    for field, value in {"created_at": NOW, "version": 9, "closed_at": NOW}.items():
        with pytest.raises(ParameterError, match=f"{field}: no such field"):
            change_action(register, "A-1", seen_version=1, who="li", now=NOW, **{field: value})


def test_a_clock_without_zone_is_refused(register: Register) -> None:
    with pytest.raises(ParameterError, match="now: 2026-11-02T08:30:00 has no time zone"):
        add_action(register, "A-1", title="x", who="li", now=NOW.replace(tzinfo=None))


# --- list ---------------------------------------------------------------------------------------------------------


def test_actions_are_listed_oldest_first_and_filtered(register: Register) -> None:
    add(register, "b", owner="li", team="SQ", state="hold", issue="I-1")
    add(register, "B", owner="li", team="FQ", failure_mode="cell leak")
    add(register, "ä", owner="wang", team="SQ", created_at=NOW - dt.timedelta(days=1))

    def ids(**conditions: Any) -> list[str]:
        return [action.action_id for action in list_actions(register, **conditions)]

    assert ids() == ["ä", "B", "b"]
    assert ids(states=["hold"]) == ["b"]
    assert ids(states=("hold", "proposed"), owner="li") == ["B", "b"]
    assert ids(team="SQ") == ["ä", "b"]
    assert ids(failure_mode="cell leak") == ["B"]
    assert ids(issue="I-1", team="FQ") == []
    with pytest.raises(ParameterError, match="no state 'open'; known: proposed"):
        list_actions(register, states=["open"])


def test_an_empty_register_lists_nothing(register: Register) -> None:
    assert list_actions(register) == []


# --- import -------------------------------------------------------------------------------------------------------


def test_the_demo_file_becomes_an_action(register: Register, csv_file: Callable[..., Path]) -> None:
    done = import_actions(register, csv_file(HEADER, LINE), "li", NOW)
    assert done == ActionImport(1, ("A-2022-07",), (), ())
    action = find_action(register, "A-2022-07")
    assert (action.title, action.title_zh) == (
        "Battery cells of S07: new cell seal, from batch 2022Q3 on",
        "更换 S07 电池密封工艺, 自 2022Q3 批次起",
    )
    # midnight in Shanghai, the site's zone by default
    assert action.created_at == dt.datetime(2022, 6, 19, 16, tzinfo=dt.UTC)
    assert (action.implemented_at, action.review_at) == (dt.date(2022, 7, 1), dt.date(2024, 1, 15))
    assert (action.state, action.kind, action.owner) == ("implemented", "supplier change", "supplier quality")
    assert (action.scope, action.failure_mode, action.version) == (SEAL, "cell leak", 1)
    created = action_history(register, "A-2022-07")[0]
    assert (created.changed_by, created.changed_at, created.source) == ("li", NOW, "actions.csv")


def test_the_same_file_again_changes_nothing(register: Register, csv_file: Callable[..., Path]) -> None:
    path = csv_file(HEADER, LINE, "A-2,Second,,,,,,,,,,,,,")
    import_actions(register, path, "li", NOW)
    before = list_actions(register), action_history(register, "A-2022-07"), action_history(register, "A-2")
    assert import_actions(register, path, "wang", LATER) == ActionImport(2, (), (), ("A-2022-07", "A-2"))
    after = list_actions(register), action_history(register, "A-2022-07"), action_history(register, "A-2")
    assert after == before


def test_a_corrected_line_changes_its_action_only(register: Register, csv_file: Callable[..., Path]) -> None:
    import_actions(register, csv_file(HEADER, LINE, "A-2,Second,,,,,,,,,,,,,"), "li", NOW)
    corrected = csv_file(HEADER, LINE.replace("2022Q3;2022Q4", "2022Q3;2022Q5"), "A-2,Second,,,,,,,,,,,,,")
    assert import_actions(register, corrected, "wang", LATER) == ActionImport(2, (), ("A-2022-07",), ("A-2",))
    action = find_action(register, "A-2022-07")
    assert action.scope == Scope("supplier", "S07", "batch", ("2022Q2",), ("2022Q3", "2022Q5", "2023Q1"))
    assert action.version == 2
    last = action_history(register, "A-2022-07")[-1]
    assert (last.field, last.changed_by, last.source) == ("scope", "wang", "actions.csv")
    assert import_actions(register, corrected, "wang", LATER).changed == ()


def test_what_a_person_changed_survives_the_same_file(register: Register, csv_file: Callable[..., Path]) -> None:
    path = csv_file(HEADER, LINE)
    import_actions(register, path, "li", NOW)
    change_action(register, "A-2022-07", seen_version=1, who="wang", now=LATER, state="closed", owner="wang")
    assert import_actions(register, path, "li", LATER).unchanged == ("A-2022-07",)
    retitled = csv_file(HEADER, LINE.replace("new cell seal", "better cell seal"))
    assert import_actions(register, retitled, "li", LATER).changed == ("A-2022-07",)
    action = find_action(register, "A-2022-07")
    assert (action.state, action.owner, action.closed_at) == ("closed", "wang", LATER)
    assert action.title == "Battery cells of S07: better cell seal, from batch 2022Q3 on"


def test_what_both_changed_is_reported_and_nothing_is_imported(
    register: Register, csv_file: Callable[..., Path]
) -> None:
    import_actions(register, csv_file(HEADER, LINE), "li", NOW)
    change_action(register, "A-2022-07", seen_version=1, who="wang", now=LATER, owner="wang")
    other = csv_file(HEADER, "A-3,Third,,,,,,,,,,,,,", LINE.replace("supplier quality", "zhao"))
    with pytest.raises(SourceError, match=r"line 3: owner: the file has 'zhao', the register 'wang' \(version 2\)"):
        import_actions(register, other, "li", LATER)
    assert [action.action_id for action in list_actions(register)] == ["A-2022-07"]
    agreed = csv_file(HEADER, LINE.replace("supplier quality", "wang"))
    assert import_actions(register, agreed, "li", LATER).unchanged == ("A-2022-07",)
    change_action(register, "A-2022-07", seen_version=2, who="wang", now=LATER, owner="chen")
    assert import_actions(register, agreed, "li", LATER).unchanged == ("A-2022-07",)  # the file agreed to 'wang' before
    assert find_action(register, "A-2022-07").owner == "chen"


def test_an_action_added_by_hand_is_adopted_when_the_file_says_the_same(
    register: Register, csv_file: Callable[..., Path]
) -> None:
    add(register, "A-1", "Seal", owner="li")
    with pytest.raises(SourceError, match="line 2: owner: the file has 'wang', the register 'li'"):
        import_actions(register, csv_file("action_id,title,owner", "A-1,Seal,wang"), "li", NOW)
    assert import_actions(register, csv_file("action_id,title,owner", "A-1,Seal,li"), "li", NOW).unchanged == ("A-1",)
    changed = import_actions(register, csv_file("action_id,title,owner", "A-1,Seal,wang"), "li", NOW)
    assert changed.changed == ("A-1",)
    assert find_action(register, "A-1").owner == "wang"


def test_columns_the_file_lacks_are_left_as_they_are(register: Register, csv_file: Callable[..., Path]) -> None:
    import_actions(register, csv_file(HEADER, LINE), "li", NOW)
    short = csv_file("title,action_id,metric,target_value,due_at,note", "New title,A-2022-07,complaint_rate,1.5,,x")
    assert import_actions(register, short, "li", LATER).changed == ("A-2022-07",)
    action = find_action(register, "A-2022-07")
    assert (action.title, action.metric, action.target_value, action.scope) == (
        "New title", "complaint_rate", 1.5, SEAL
    )  # fmt: skip


def test_all_problems_of_a_file_are_reported_with_their_lines(
    register: Register, csv_file: Callable[..., Path]
) -> None:
    path = csv_file(
        HEADER,
        "A-1,Fine,,,,,,,,,,,,,",
        ',"Title over\ntwo lines",,,,done,,,,,,,,,',
        "A-1,Again,,,,,2022-13-01,yesterday,,,,,,,",
        "",
        "A-2,Short,,",
        "A-3,Groups,,,,,,,,,supplier,S07,batch,a；b,b",
        "A-4,Overlap,,,,,,,,,supplier,,batch,a;b,b;",
        "A-5,Early,,,,implemented,,,2024-01-15,,,,,,",
        "A-6,Review,,,,,,2024-02-01,2024-01-15,,,,,,",
    )
    with pytest.raises(SourceError) as caught:
        import_actions(register, path, "li", NOW)
    assert (caught.value.where, caught.value.what) == ("actions.csv", "10 problems")
    assert [line.strip() for line in caught.value.rows.splitlines()] == [
        "line 3: action_id: is empty",
        "line 3: state: no state 'done'; known: proposed, accepted, in_progress, implemented, hold, cancelled, closed",
        "line 5: action_id: 'A-1' stands in line 2 already",
        "line 5: created_at: '2022-13-01' is not a date, YYYY-MM-DD",
        "line 5: implemented_at: 'yesterday' is not a date, YYYY-MM-DD",
        "line 7: 4 cells under 15 columns",
        "line 8: before: separate the names with ; instead of ；",
        "line 9: scope: dimension and value go together, one is empty; an empty name in before or after; both before "
        + "and after: b",
        "line 10: implemented_at: an action that is implemented needs the day it was implemented (one that was dropped "
        + "is cancelled)",
        "line 11: review_at: 2024-01-15 lies before implemented_at 2024-02-01",
    ]
    assert list_actions(register) == []


@pytest.mark.parametrize(
    ("lines", "words"),
    [
        ([], "line 1: the file is empty"),
        (["action_id,titel"], r"column 'title' is missing(.|\n)*unknown column 'titel' \(did you mean 'title'"),
        (["action_id,title,title", "1,2,3"], "column 'title' is there twice"),
        (
            ["action_id,title,before"],
            "of the columns dimension, value, cut_dimension, before, after there are only bef",
        ),
        (["action_id,title", 'A-1,"open'], "line 2: not readable as CSV"),
        (["action_id,title,target_value", "A-1,x,much", "A-2,x,inf"], r"'much' is not a number(.|\n)*inf is not a fin"),
        (["action_id,title", "A-1,a\0b"], "line 2: title: has a NUL character"),
    ],
)
def test_a_file_that_is_not_the_promised_table_is_refused(
    register: Register, csv_file: Callable[..., Path], lines: list[str], words: str
) -> None:
    with pytest.raises(SourceError, match=words):
        import_actions(register, csv_file(*lines), "li", NOW)


def test_a_file_in_another_encoding_or_absent_is_refused(register: Register, csv_file: Callable[..., Path]) -> None:
    with pytest.raises(SourceError, match=r"not UTF-8 \(byte \d+\)\n.*CSV UTF-8"):
        import_actions(register, csv_file(HEADER, LINE, encoding="gb18030"), "li", NOW)
    with pytest.raises(SourceError, match="cannot be read: No such file"):
        import_actions(register, csv_file("x").with_name("none.csv"), "li", NOW)


def test_what_excel_writes_is_read(register: Register, csv_file: Callable[..., Path]) -> None:
    path = csv_file(f"{HEADER}\r", f"{LINE}\r", ",,,,,,,,,,,,,,\r", encoding="utf-8-sig")
    assert import_actions(register, path, "li", NOW).added == ("A-2022-07",)
    assert find_action(register, "A-2022-07").scope == SEAL


def test_a_header_alone_imports_nothing(register: Register, csv_file: Callable[..., Path]) -> None:
    assert import_actions(register, csv_file(HEADER), "li", NOW) == ActionImport(0, (), (), ())


def test_a_file_full_of_problems_shows_fifty_and_counts_all(register: Register, csv_file: Callable[..., Path]) -> None:
    path = csv_file("action_id,title", *(f"A-{number}," for number in range(1200)))
    with pytest.raises(SourceError) as caught:
        import_actions(register, path, "li", NOW)
    assert caught.value.what == "1,200 problems"
    assert len(caught.value.rows.splitlines()) == 51
    assert re.search(r"\.\.\. and 1,150 more$", caught.value.rows)


def test_three_processes_importing_one_file_add_each_action_once(
    workspace: Workspace, register: Register, csv_file: Callable[..., Path]
) -> None:
    path = csv_file("action_id,title", *(f"A-{number:03},动作 {number}" for number in range(100)))
    code = f"""
from aftersales.improve.actions import import_actions
with open_register(workspace) as register:
    print(len(import_actions(register, {str(path)!r}, me, now).added))
"""
    counts = [int(finished(process)) for process in [start(workspace, code, f"w{number}") for number in range(3)]]
    assert sorted(counts) == [0, 0, 100]
    assert [action.title for action in list_actions(register)] == [f"动作 {number}" for number in range(100)]
    assert {len(action_history(register, f"A-{number:03}")) for number in range(100)} == {1}
