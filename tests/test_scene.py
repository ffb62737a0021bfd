"""A scene: what sections of one view share, and the JSON that a section is."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pytest
from worlds import new_workspace

from aftersales.lake.store import Snapshot
from aftersales.model.settings import Workspace
from aftersales.publish import scene as scenes
from aftersales.publish.charts import ranked_bars
from aftersales.publish.scene import Lang, Scene, column, message, section, table
from aftersales.publish.sidecars import read_sidecar

NO_SNAPSHOT = cast(Snapshot, None)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return new_workspace(tmp_path_factory.mktemp("workspace"))


def scene_of(place: Workspace, lang: Lang = "en", **values: Any) -> Scene:
    sidecar = read_sidecar(place, "overview")
    as_of = dt.datetime(2025, 12, 31, 15, 59, 59, tzinfo=dt.UTC)
    return Scene("overview", place, NO_SNAPSHOT, sidecar, {**sidecar.defaults(), **values}, lang, as_of)


def test_texts_come_in_the_language_of_the_reader(place: Workspace) -> None:
    assert scene_of(place).say("Where?", "哪里?") == "Where?"
    assert scene_of(place, "zh").say("Where?", "哪里?") == "哪里?"


def test_what_several_sections_need_is_made_once(place: Workspace) -> None:
    scene, made = scene_of(place), []

    def make() -> int:
        made.append(1)
        return 7

    assert [scene.once("seven", make), scene.once("seven", make)] == [7, 7]
    assert made == [1]
    assert scene.once("nothing", lambda: None) is None
    assert scene.once("nothing", lambda: pytest.fail("made again")) is None
    assert scene_of(place).once("seven", lambda: 8) == 8, "another view has a memory of its own"


@pytest.mark.parametrize(
    ("skip", "expected"),
    [
        (None, {"channel": ["app"], "model": ["L1", "L3"]}),
        ("model", {"channel": ["app"]}),
        ("ticket_type", {"channel": ["app"], "model": ["L1", "L3"]}),
    ],
)
def test_a_charts_own_filter_can_be_left_out(
    place: Workspace, skip: str | None, expected: dict[str, list[str]]
) -> None:
    scene = scene_of(place, channel=["app"], model=["L1", "L3"])
    assert scene.where("channel", "ticket_type", "model", skip=skip) == expected


def test_a_filter_handed_out_is_a_copy(place: Workspace) -> None:
    scene = scene_of(place, model=["L1"])
    scene.chosen("model").append("L2")
    assert scene.chosen("model") == ["L1"]
    assert scene.chosen("batch") == [], "a filter the page does not have is empty"


def test_a_metric_is_computed_once_per_question_and_noted(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[Any, ...]] = []

    class Answer:
        class metric:
            version = "2026-11-22.abc"

    def compute(snapshot: Any, name: str, by: Any, **options: Any) -> Answer:
        asked.append((name, tuple(by), options["where"], options["period"]))
        assert options["as_of"] == dt.datetime(2025, 12, 31, 15, 59, 59, tzinfo=dt.UTC)
        return Answer()

    monkeypatch.setattr(scenes, "compute", compute)
    scene = scene_of(place)
    first = scene.metric("csat", ["channel"], where={"model": ["L1"], "channel": ["app"]})
    assert scene.metric("csat", ("channel",), where={"channel": ["app"], "model": ["L1"]}) is first, (
        "order of filters is irrelevant"
    )
    scene.metric("csat", ["channel"], where={"model": ["L2"]})
    scene.metric("csat", ["channel"], period="month")
    scene.metric("nps")
    assert [name for name, *_ in asked] == ["csat", "csat", "csat", "nps"]
    assert scene.metric_versions == {"csat": "2026-11-22.abc", "nps": "2026-11-22.abc"}


@pytest.mark.parametrize(
    ("value", "en", "zh"),
    [
        ("battery_leakage", "Battery leakage", "电池漏液"),
        ("first_reply", "first reply", "first reply"),
        ("LK_L1", "LK_L1", "LK_L1"),
        ("华东", "华东", "华东"),
        (None, "not stated", "未注明"),
        (float("nan"), "not stated", "未注明"),
        (3, "3", "3"),
    ],
)
def test_codes_read_as_the_code_lists_of_the_workspace_name_them(
    place: Workspace, value: object, en: str, zh: str
) -> None:
    assert scene_of(place).label(value) == en
    assert scene_of(place, "zh").label(value) == zh


def test_a_code_list_without_names_or_with_gaps_changes_no_label(tmp_path: Path) -> None:
    place = new_workspace(tmp_path)
    (place.reference / "regions.csv").write_text("\ufeffsource_value,target_value\nEAST,east\n", encoding="utf-8")
    (place.reference / "teams.csv").write_text(
        "target_value,name_en,name_zh\nt1,Team one,\nt2,Team two,二组\n", encoding="utf-8"
    )
    assert [scene_of(place, "zh").label(code) for code in ("east", "t1", "t2")] == ["east", "t1", "二组"]


@pytest.mark.parametrize(
    ("moment", "text"),
    [
        (dt.datetime(2025, 12, 31, 16, 30, tzinfo=dt.UTC), "2026-01-01 00:30"),
        (pd.Timestamp("2025-06-30T23:59:59Z"), "2025-07-01 07:59"),
        (None, ""),
        (pd.NaT, ""),
    ],
)
def test_instants_are_shown_on_the_sites_clock(place: Workspace, moment: object, text: str) -> None:
    assert scene_of(place).local_text(moment) == text


# ------------------------------------------------------------------------------------------------------- payloads


def test_a_section_is_plain_json_with_every_key(place: Workspace) -> None:
    chart = ranked_bars(
        pd.DataFrame({"k": ["a"], "label": ["a"], "value": [1.0]}),
        id="c",
        title="T",
        quantity="Q (count)",
        name="N",
        lang="en",
    )
    payload = section(
        scene_of(place), "where", "Where?", charts=[chart], tables=[table("t", "T", [column("a", "A")], [{"a": 1}])]
    )
    assert json.loads(json.dumps(payload, allow_nan=False)) == payload
    assert (payload["kind"], payload["id"], payload["lang"], payload["name"], payload["title"]) == (
        "section",
        "where",
        "en",
        "Where?",
        None,
    )
    assert {"message", "answer", "figures", "links", "facts", "lead"} <= set(payload)
    assert payload["charts"][0]["id"] == "c"


def test_a_table_holds_plain_values_and_only_its_columns() -> None:
    rows = pd.DataFrame(
        {
            "n": np.array([1, 2], dtype="int64"),
            "rate": [np.float64(0.5), np.nan],
            "day": [dt.date(2025, 1, 31), None],
            "at": pd.to_datetime(["2025-01-31T10:00:00Z", None]),
            "ok": [np.bool_(True), None],
            "customer": ["13800000000", "x"],
        }
    )
    names = ["n", "rate", "day", "at", "ok", "absent"]
    made = table("t", "T", [column(name, name) for name in names], rows)
    assert made["rows"] == [
        {"n": 1, "rate": 0.5, "day": "2025-01-31", "at": "2025-01-31T10:00:00+00:00", "ok": True, "absent": None},
        {"n": 2, "rate": None, "day": None, "at": None, "ok": None, "absent": None},
    ]
    json.dumps(made, allow_nan=False)
    assert made["total"] == 2
    assert table("t", "T", [column("n", "n")], rows.head(1), total=99)["total"] == 99


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf"), np.float64("nan"), pd.NA, pd.NaT, None])
def test_missing_and_infinite_numbers_are_null_in_a_table(value: Any) -> None:
    for rows in ([{"a": value}], pd.DataFrame({"a": pd.Series([value], dtype="object")})):
        made = table("t", "T", [column("a", "A", "number")], rows)
        assert made["rows"] == [{"a": None}]


def test_an_empty_table_is_a_table() -> None:
    made = table("t", "T", [column("a", "A")], pd.DataFrame({"a": []}))
    assert (made["rows"], made["total"]) == ([], 0)


@pytest.mark.parametrize(
    ("kind", "side"), [("text", "left"), ("date", "left"), ("number", "right"), ("share", "right"), ("bar", "right")]
)
def test_numbers_stand_right_and_words_left(kind: str, side: str) -> None:
    assert column("f", "F", kind)["align"] == side


def test_a_message_says_what_kind_it_is() -> None:
    assert message("error", "Broken", id="ab12") == {"kind": "error", "text": "Broken", "detail": None, "id": "ab12"}
    assert message("empty", "Nothing", "aftersales ingest")["detail"] == "aftersales ingest"
