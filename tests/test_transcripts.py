"""Texts of calls in three ways of writing, and lists of call-backs with those nobody reached."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import TestWorkspace, csv_text
from hypothesis import given, settings
from hypothesis import strategies as st
from statsmodels.stats.proportion import proportion_confint

from aftersales.collect.connectors.files.transcripts import calls_of
from aftersales.collect.mapping import Source, read_source
from aftersales.measure.compute import compute

EXAMPLES = Path(__file__).parent.parent / "data" / "sources" / "examples"

LINES = """call_id: C-7
ticket_id: hl-1
started_at: 2026-03-01T09:30:00
direction: 呼入
agent: A12
note: second call

[00:00:02] 客服：您好，请问有什么可以帮您？
[00:00:06] 客户：门锁没电了
电话: 见工单
[00:01:15] 客服: 已为您登记
"""
SRT = """1
00:00:02,000 --> 00:00:05,500
agent: Hello, how can I help?

2
00:00:06,250 --> 00:00:09,000
customer: The lock has no power,
screen is black
"""
JSON = {
    "call_id": "C-9",
    "started_at": "2026-03-01 09:30:00",
    "turns": [
        {"speaker": "Agent", "text": "您好", "start": 1.5, "end": "00:00:02.250"},
        {"role": "customer", "content": "没电"},
    ],
}


def example(workspace: TestWorkspace, name: str) -> Source:
    place = workspace.root / "data" / "sources" / f"{name}.yml"
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(EXAMPLES / f"{name}.yml", place)
    return read_source(place, workspace.open())


def turns(text: str) -> list[tuple[str | None, str, float | None]]:
    (call,) = calls_of(text)
    return [(turn.speaker, turn.text, turn.start_s) for turn in call.turns]


# --- reading ------------------------------------------------------------------------------------------------------


def test_lines_with_times_and_a_turn_that_goes_on() -> None:
    (call,) = calls_of(LINES)
    assert call.about["started_at"] == "2026-03-01T09:30:00"
    assert turns(LINES) == [
        ("客服", "您好，请问有什么可以帮您？", 2.0),
        ("客户", "门锁没电了\n电话: 见工单", 6.0),  # no speaker: it goes on
        ("客服", "已为您登记", 75.0),
    ]


def test_other_names_open_turns_where_no_usual_speaker_occurs() -> None:
    assert turns("Li: hello\nWang: hi: there") == [("Li", "hello", None), ("Wang", "hi: there", None)]


def test_srt_blocks() -> None:
    (call,) = calls_of(SRT)
    assert [(turn.start_s, turn.end_s) for turn in call.turns] == [(2.0, 5.5), (6.25, 9.0)]
    assert call.turns[1].text == "The lock has no power,\nscreen is black"


def test_json_calls_lists_of_calls_and_lists_of_turns() -> None:
    assert turns(json.dumps(JSON)) == [("Agent", "您好", 1.5), ("customer", "没电", None)]
    assert [call.about.get("call_id") for call in calls_of(json.dumps([JSON, {**JSON, "call_id": "C-10"}]))] == [
        "C-9",
        "C-10",
    ]
    assert turns(json.dumps(JSON["turns"])) == turns(json.dumps(JSON))


def test_what_has_no_speaker_is_kept_as_such() -> None:
    assert turns("hello there\nagent: hi") == [(None, "hello there", None), ("agent", "hi", None)]
    assert turns('{"turns": ["hm", {"text": "x"}]}') == [(None, "hm", None), (None, '{"text": "x"}', None)]
    assert turns("{'turns' broken") == [(None, "{'turns' broken", None)]


@settings(max_examples=150, deadline=None)
@given(st.text(alphabet=st.sampled_from('agent客户:：[]() 0123:,->\n{}"x'), max_size=80))
def test_any_text_is_read_without_losing_a_letter(text: str) -> None:
    said = "".join(turn.text + (turn.speaker or "") for call in calls_of(text) for turn in call.turns)
    if text.strip()[:1] not in ("{", "[") and "-->" not in text:
        about = "".join("".join(pair) for call in calls_of(text) for pair in call.about.items())
        letters = [letter for letter in text if letter.isalpha()]
        assert sorted(letters) == sorted(letter for letter in said + about if letter.isalpha())


# --- loading ------------------------------------------------------------------------------------------------------


def test_three_ways_of_writing_become_contacts_and_messages(workspace: TestWorkspace) -> None:
    source = example(workspace, "call_transcripts")
    workspace.file("call_transcripts/C-7.txt", LINES)
    workspace.file(
        "call_transcripts/C-8.srt.gz", gzip.compress(f"call_id: C-8\nstarted_at: 2026-03-02 10:00\n\n{SRT}".encode())
    )
    workspace.file("call_transcripts/C-9.json", json.dumps(JSON))
    done = workspace.ingest(source)
    assert [(one.table, one.accepted, one.rejected, one.left_out) for one in done] == [
        ("contact", 1, 0, 3), ("message", 3, 0, 1), ("contact", 1, 0, 2), ("message", 2, 0, 1), ("contact", 1, 0, 2),
        ("message", 2, 0, 1),
    ]  # fmt: skip
    contacts = workspace.rows("contact", "contact_id", "ticket_id", "channel", "direction", "queued_at")
    half_past_nine = dt.datetime(2026, 3, 1, 1, 30, tzinfo=dt.UTC)
    assert contacts == [
        ("C-7", "HL-1", "phone", "inbound", half_past_nine),
        ("C-8", None, "phone", None, dt.datetime(2026, 3, 2, 2, tzinfo=dt.UTC)),
        ("C-9", None, "phone", None, half_past_nine),
    ]
    said = workspace.rows("message", "message_id", "contact_id", "sender_kind", "direction", "sent_at")
    assert said[1] == ("C-7/0002", "C-7", "customer", "inbound", half_past_nine + dt.timedelta(seconds=6))
    assert [row[2] for row in said] == ["human", "customer", "human", "human", "customer", "human", "customer"]


def test_a_turn_nobody_is_named_for_is_rejected_with_its_text(workspace: TestWorkspace) -> None:
    source = example(workspace, "call_transcripts")
    workspace.file(
        "call_transcripts/a.json",
        json.dumps({**JSON, "turns": [*JSON["turns"], "noise", {"speaker": "dog", "text": "wau"}]}),
    )
    workspace.ingest(source)
    assert len(workspace.rows("message", "message_id")) == 2
    held = workspace.snapshot().table("quarantine").to_pyarrow().to_pylist()
    assert sorted(reason for row in held for reason in row["reasons"]) == [
        "row:no_speaker",
        "sender_kind:unknown_value",
    ]
    assert any("noise" in row["raw"] for row in held)


def test_a_call_without_an_id_is_named_after_its_file(workspace: TestWorkspace) -> None:
    source = example(workspace, "call_transcripts")
    workspace.file("call_transcripts/2026-03-01_0042.txt", "started_at: 2026-03-01\n\nagent: hello")
    workspace.ingest(source)
    assert workspace.rows("message", "message_id") == ["2026-03-01_0042/0001"]


# --- call-backs ---------------------------------------------------------------------------------------------------

HEAD = ["回访单号", "工单号", "序列号", "客户编号", "回访项目", "计划时间", "截止时间", "拨打次数", "接通时间", "结束时间", "结果",
        "满意度", "评价时间", "备注", "登记时间"]  # fmt: skip


def call_back(number: int, reached: bool, score: Any = "") -> list[Any]:
    answered = "2026-03-02 10:05" if score != "" else ""
    return [f"HF{number}", f"hl-{number}", "", "", "修后", "2026-03-02 09:00", "", 1 if reached else 3,
            "2026-03-02 10:00" if reached else "", "", "已接通" if reached else "未接通", score, answered, "", "2026-03-02 18:00"]  # fmt: skip


def test_those_nobody_reached_and_those_who_did_not_answer_count_in_the_base(workspace: TestWorkspace) -> None:
    source = example(workspace, "survey_callbacks")
    rows = [call_back(i, reached=i < 30, score=5 if i < 12 else 2 if i < 18 else "") for i in range(40)]
    workspace.file("survey_callbacks/march.csv", csv_text(HEAD, rows))
    assert [(one.table, one.accepted) for one in workspace.ingest(source)] == [("planned_task", 40), ("survey", 40)]
    as_of = dt.datetime(2026, 5, 1, tzinfo=dt.UTC)

    def figures(metric: str) -> tuple[float, ...]:
        (row,) = compute(workspace.snapshot(), metric, as_of=as_of).rows.to_dict("records")
        return tuple(float(row[name]) for name in ("count", "base", "value", "low", "high"))

    for metric, count in (("callback_reach_rate", 30), ("survey_response_rate", 18)):
        bounds = proportion_confint(count, 40, method="wilson")
        assert figures(metric) == pytest.approx((count, 40, count / 40, *bounds), abs=1e-6)
    assert figures("csat")[:3] == pytest.approx((12, 18, 2 / 3))


def test_the_same_list_again_changes_nothing(workspace: TestWorkspace) -> None:
    source = example(workspace, "survey_callbacks")
    workspace.file("survey_callbacks/a.csv", csv_text(HEAD, [call_back(1, True, 4)]))
    workspace.ingest(source)
    before = workspace.lake_files()
    assert all(delivery.skipped for delivery in workspace.ingest(source))
    assert workspace.lake_files() == before
