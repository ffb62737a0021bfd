"""A page without a browser: what it shows, what it takes from outside, and what it does when something breaks."""

from __future__ import annotations

import csv
import io
import json
import logging
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlencode

import pandas as pd
import pytest
from worlds import DemoWorld, new_workspace

from aftersales.model.errors import MetricError, ParameterError
from aftersales.model.settings import WORKSPACE_VARIABLE, Workspace
from aftersales.publish.pages import ADDRESS_VARIABLE, Page, open_page
from aftersales.publish.sidecars import checked_parameters, read_sidecar

PAGES = ("index", "ingestion", "catalogue", "overview", "root_cause", "improvement_review")


@pytest.fixture(autouse=True)
def own_log() -> Iterator[None]:
    """Each test's workspace has its own log."""
    logger = logging.getLogger("aftersales.pages")
    yield
    for handler in [handler for handler in logger.handlers if isinstance(handler, logging.FileHandler)]:
        logger.removeHandler(handler)
        handler.close()


@pytest.fixture(scope="module")
def place(demo: DemoWorld, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return demo.borrow(tmp_path_factory.mktemp("pages"))


def opened(place: Workspace, name: str, address: str = "", **given: object) -> Page:
    sidecar = read_sidecar(place, name)
    return Page(name, place, sidecar, checked_parameters(sidecar, given, page=name), address)


def shown(page: Page) -> dict[str, dict[str, Any]]:
    """Every section of a page, the strip first, as the browser gets it."""
    return {name: page.show(name).section for name in ("strip", *page._sections)}


def send(page: Page, board: str = "strip", **event: Any) -> None:
    """An event as it comes from a browser."""
    page._boards[board].event = {**event, "n": len(str(event)) + page._boards[board].rev}


def log_of(place: Workspace) -> str:
    path = place.cache / "pages.log"
    return path.read_text(encoding="utf-8") if path.exists() else ""


def messages(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    return {name: section["message"]["kind"] for name, section in sections.items() if section.get("message")}


# --------------------------------------------------------------------------------------------------- what is shown


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", PAGES)
def test_every_section_of_a_page_shows_something_in_the_readers_language(
    place: Workspace, name: str, lang: str
) -> None:
    sections = view(place, name, lang)
    assert messages(sections) == {}
    for id, section in sections.items():
        assert section["lang"] == lang, id
        json.dumps(section, allow_nan=False)
        if id != "strip":
            assert (
                section.get("answer")
                or section.get("charts")
                or section.get("figures")
                or section.get("tables")
                or section.get("cards")
            ), id
        for chart in section.get("charts", []):
            assert chart["rows"], f"{id}: chart {chart['id']} is empty"
    if lang == "en":
        words = " ".join(texts(sections))
        assert not re.search(r"[\u3000-\u303f\uff00-\uffef]|[的是在了]", words)


VIEWS: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}


def view(place: Workspace, name: str, lang: str) -> dict[str, dict[str, Any]]:
    """All sections of a page without filters; drawn once for all tests that only look."""
    if (name, lang) not in VIEWS:
        VIEWS[name, lang] = shown(opened(place, name, f"lang={lang}"))
    return VIEWS[name, lang]


def texts(sections: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Headings, answers, axis titles and column heads: what the product says itself."""
    said: list[str] = []
    for section in sections.values():
        answer = section.get("answer") or {}
        said += [str(answer.get("text", "")), str(answer.get("detail", "")), str(section.get("name", ""))]
        said += [
            f"{figure['label']} {figure['unit']} {figure['n']} {figure['change']}"
            for figure in section.get("figures", [])
        ]
        for chart in section.get("charts", []):
            said += [chart["title"], str(chart.get("subtitle") or ""), *axis_titles(chart["spec"])]
        for table in section.get("tables", []):
            said += [table["title"], *(column["title"] for column in table["columns"])]
        said += [control["label"] for control in section.get("controls", [])]
    return said


def axis_titles(spec: Any) -> list[str]:
    """Titles of the x and y channels anywhere in a Vega-Lite spec."""
    if isinstance(spec, list):
        return [title for part in spec for title in axis_titles(part)]
    if not isinstance(spec, dict):
        return []
    found = []
    for channel in ("x", "y"):
        definition = spec.get("encoding", {}).get(channel, {})
        if isinstance(definition, dict) and "field" in definition:
            axis = definition.get("axis")
            title = axis.get("title", definition.get("title")) if isinstance(axis, dict) else definition.get("title")
            found.append("" if title is None else str(title))
    return found + [title for key, part in spec.items() if key != "encoding" for title in axis_titles(part)]


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", PAGES[1:])
def test_every_chart_says_its_quantity_with_a_unit(place: Workspace, name: str, lang: str) -> None:
    units = (
        "(count)",
        "(%)",
        "unit-months",
        "hours",
        "= as expected",
        "次)",
        "件)",
        "%",
        "台月",
        "小时",
        "符合预期",
        "(行)",
    )
    seen = 0
    for section in view(place, name, lang).values():
        for chart in section.get("charts", []):
            titles = [title for title in axis_titles(chart["spec"]) if title]
            seen += 1
            if chart["id"] == "lineage":  # names and lines between them: nothing is measured
                continue
            if chart["id"] != "pair":  # a heat map: the two dimensions are the axes
                assert any(unit in title for title in titles for unit in units), (chart["id"], titles)
            assert titles, chart["id"]
    assert seen


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", PAGES)
def test_an_empty_workspace_says_what_is_missing_and_breaks_nothing(tmp_path: Path, name: str, lang: str) -> None:
    place = new_workspace(tmp_path)
    sections = shown(opened(place, name, f"lang={lang}"))
    kinds = messages(sections)
    assert set(kinds.values()) <= {"empty", "refused"}, (kinds, log_of(place))
    for id, section in sections.items():
        if id in ("strip", "cards", "sources") or (name == "catalogue" and id != "answer"):
            continue  # the catalogue shows what could be loaded
        figures = section.get("figures", [])
        assert id in kinds or (
            figures and all(figure["state"] in ("no_data", "refused") and figure["note"] for figure in figures)
        ), id
        assert not section.get("charts"), id
    assert "aftersales ingest" in sections["strip"]["freshness"]
    assert log_of(place) == ""


@pytest.mark.parametrize("name", PAGES[1:])
@pytest.mark.parametrize("day", ["2022-03-01", "2199-12-31"])
def test_a_day_outside_the_data_breaks_nothing(place: Workspace, name: str, day: str) -> None:
    sections = shown(opened(place, name, f"as_of={day}"))
    assert "error" not in messages(sections).values(), log_of(place)[-1500:]


def test_a_day_in_the_past_hides_what_was_not_known(place: Workspace) -> None:
    """Tickets of twelve months on the site's clock: recomputed from the lake with pandas."""
    page = opened(place, "overview", "as_of=2024-06-30")
    text = page.show("answer").section["answer"]["text"]
    rows = page.scene.snapshot.versions_of("ticket").select("created_at", "known_at", "superseded_at").execute()
    day = pd.Timestamp("2024-06-30 23:59:59", tz="Asia/Shanghai")
    known = rows[(rows["known_at"] <= day) & (rows["superseded_at"].isna() | (rows["superseded_at"] > day))]
    year = known[(known["created_at"] >= pd.Timestamp("2023-07-01", tz="Asia/Shanghai")) & (known["created_at"] <= day)]
    assert f"{len(year):,} " in text
    assert page.show("strip").section["freshness"].endswith("as of 2024-06-30 23:59")


# --------------------------------------------------------------------------------------------------------- address


@pytest.mark.parametrize(
    "view",
    [
        {"supplier": ["S07"], "batch": ["2022Q2"]},
        {"region": ["西北", "华东"], "lang": "zh"},
        {"model": ["a & b", "c+d", "e=f", "\"'<b>", "100 %", "🔒", "#1"], "grain": "month"},
        {"failure_mode": ["battery_leakage"], "max_findings": 3, "as_of": "2025-06-30"},
    ],
)
def test_a_view_comes_back_from_its_own_address(place: Workspace, view: dict[str, Any]) -> None:
    page = opened(
        place,
        "root_cause",
        urlencode(
            [(key, item) for key, value in view.items() for item in (value if isinstance(value, list) else [value])]
        ),
    )
    strip = page.show("strip").section
    assert strip["message"] is None
    assert {name: page.values[name] for name in view} == view
    again = opened(place, "root_cause", strip["query"])
    assert again.values == page.values
    assert again.show("strip").section["query"] == strip["query"]


def test_the_same_address_gives_the_same_rows(place: Workspace) -> None:
    one, other = (opened(place, "overview", "channel=app&months=6") for _ in range(2))
    for name in one._sections:
        assert one.show(name).section == other.show(name).section, name


@pytest.mark.parametrize(
    ("address", "said"),
    [
        ("channl=app", "no parameter 'channl'"),
        ("months=many", "'many' is no integer"),
        ("months=0", "below 1"),
        ("as_of=2025-13-01", "no date"),
        ("x;import os=1", "no parameter 'x;import os'"),
        ("__class__=1", "no parameter '__class__'"),
        ("&".join(["model=x"] * 101), "at most 100 texts"),
        ("&".join(["model=x"] * 500), "more than 200 values"),
        ("model=" + "x" * 500, "200 characters"),
        ("months=" + "9" * 4000, "above 36"),
        ("months=" + "9" * 5000, "is no integer"),
        ("%ff%fe=%00", "no parameter"),
    ],
)
def test_a_wrong_address_is_refused_in_words_and_everything_is_shown(place: Workspace, address: str, said: str) -> None:
    page = opened(place, "ingestion" if "x;" in address else "overview", address)
    strip = page.show("strip").section
    notice = strip["message"]
    assert notice["kind"] == "refused"
    assert said in notice["text"]
    assert "Everything is shown" in notice["text"]
    assert len(notice["text"]) < 400
    assert page.values == page.sidecar.defaults()
    assert strip["query"] == ""


def test_a_wrong_address_is_refused_in_its_own_language(place: Workspace) -> None:
    strip = opened(place, "overview", "channl=app&lang=zh").show("strip").section
    assert strip["message"]["text"].startswith("无法识别该地址")
    assert "现显示全部数据" in strip["message"]["text"]
    assert strip["query"] == "lang=zh"
    assert opened(place, "overview", "lang=fr").show("strip").section["lang"] == "en"


def test_a_wrong_address_keeps_working_and_the_notice_goes_with_the_next_click(place: Workspace) -> None:
    page = opened(place, "ingestion", "sourc=hotline")
    page.show("strip")
    send(page, kind="toggle", name="source", value="hotline")
    strip = page._boards["strip"].section
    assert strip["message"] is None
    assert strip["query"] == "source=hotline"


def test_the_notebooks_own_parameters_lie_under_the_address(place: Workspace) -> None:
    page = opened(place, "overview", "channel=app", channel=["hotline"], months=6)
    assert (page.values["channel"], page.values["months"]) == (["app"], 6)


def test_a_notebook_opens_its_page_with_its_own_names(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(WORKSPACE_VARIABLE, str(place.root))
    monkeypatch.setenv(ADDRESS_VARIABLE, "lang=zh")
    page = open_page("overview", {"months": 3, "_private": object(), "pd": pd})
    assert (page.values["months"], page.lang) == (3, "zh")
    with pytest.raises(ParameterError, match="months"):
        open_page("overview", {"months": "3"})
    with pytest.raises(ParameterError, match="known: catalogue, improvement_review"):
        open_page("overvew", {})


# ---------------------------------------------------------------------------------------------------------- events


def test_a_click_toggles_a_filter_and_every_section_follows(place: Workspace) -> None:
    page = opened(place, "overview")
    shown(page)
    before = int(page._boards["over_time"].section["charts"][0]["rows"][-1]["n"])
    send(page, "where_from", kind="toggle", name="channel", value="app")
    assert page.values["channel"] == ["app"]
    strip = page._boards["strip"].section
    assert strip["query"] == "channel=app"
    assert [(chip["name"], chip["value"]) for chip in strip["chips"]] == [("channel", "app")]
    bars = page._boards["where_from"].section["charts"][0]
    assert bars["selected"] == ["app"]
    assert len(bars["rows"]) > 1, "a chart's own bars stay, to be clicked"
    after = int(page._boards["over_time"].section["charts"][0]["rows"][-1]["n"])
    assert 0 < after < before
    assert all(board.rev == 1 for board in page._boards.values())
    send(page, "where_from", kind="toggle", name="channel", value="app")
    assert page.values == page.sidecar.defaults()
    assert int(page._boards["over_time"].section["charts"][0]["rows"][-1]["n"]) == before


def test_set_clear_and_language_change_what_they_name(place: Workspace) -> None:
    page = opened(place, "root_cause")
    page.show("strip")
    send(page, kind="set", name="supplier", value=["S07", "S03"])
    send(page, kind="set", name="max_findings", value=5)
    send(page, kind="set", name="grain", value="month")
    send(page, kind="toggle_pair", names=["batch", "supplier"], values=["2022Q2", "S03"])
    send(page, kind="lang", value="zh")
    assert page._boards["strip"].section["query"] == "batch=2022Q2&grain=month&lang=zh&max_findings=5&supplier=S07"
    assert page._boards["strip"].section["page_title"] == "根因分析"
    send(page, kind="clear", name="supplier")
    assert page.values["supplier"] == []
    send(page, kind="clear", name=None)
    assert page._boards["strip"].section["query"] == "lang=zh", "clearing filters keeps the language"
    send(page, kind="lang", value="en")
    assert page._boards["strip"].section["page_title"] == "Root cause"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_findings", 5),
        ("grain", "month"),
        ("start", "2025-01-01"),
        ("by", "batch"),
        ("measure", "complaint_rate"),
        ("region", ["西北"]),
    ],
)
def test_every_chip_can_be_taken_away(place: Workspace, name: str, value: Any) -> None:
    page = opened(place, "root_cause", **{name: value})
    chip = page.show("strip").section["chips"][0]
    send(page, kind="toggle", name=chip["name"], value=chip["value"])
    assert page.values == page.sidecar.defaults()


@pytest.fixture(scope="module")
def receiving(place: Workspace) -> Page:
    """One page that everybody sends nonsense to."""
    page = opened(place, "overview", "model=L1&lang=zh", channel=["app"])
    page.show("strip")
    return page


@pytest.mark.parametrize(
    "event",
    [
        {},
        {"kind": None},
        {"kind": ["toggle"]},
        {"kind": {"a": 1}},
        {"kind": "eval", "name": "model", "value": "1"},
        {"kind": "x" * 100_000},
        {"kind": "toggle"},
        {"kind": "toggle", "name": "model"},
        {"kind": "toggle", "name": "nope", "value": "x"},
        {"kind": "toggle", "name": "__class__", "value": "x"},
        {"kind": "toggle", "name": "x; import os", "value": "x"},
        {"kind": "toggle", "name": None, "value": "x"},
        {"kind": "toggle", "name": ["model"], "value": "x"},
        {"kind": "toggle", "name": {"a": 1}, "value": "x"},
        {"kind": "toggle", "name": "model", "value": None},
        {"kind": "toggle", "name": "model", "value": ["L1"]},
        {"kind": "toggle", "name": "model", "value": {"$ne": 1}},
        {"kind": "toggle", "name": "model", "value": "x" * 201},
        {"kind": "toggle", "name": "months", "value": "many"},
        {"kind": "toggle", "name": "months", "value": 1e308},
        {"kind": "toggle_pair", "names": ["model"], "values": ["a", "b"]},
        {"kind": "toggle_pair", "names": "model", "values": "xxxxx"},
        {"kind": "toggle_pair", "names": ["model", "nope"], "values": ["a", "b"]},
        {"kind": "toggle_pair", "names": ["model"] * 100_000, "values": ["a"] * 100_000},
        {"kind": "toggle_pair", "names": 3, "values": 4},
        {"kind": "toggle_pair", "values": ["a", "b"]},
        {"kind": "set", "name": "model", "value": {"a": "b"}},
        {"kind": "set", "name": "model", "value": [["a"]]},
        {"kind": "set", "name": "model", "value": [1, 2]},
        {"kind": "set", "name": "model", "value": ["x"] * 10_000},
        {"kind": "set", "name": "model", "value": ["x" * 100_000]},
        {"kind": "set", "name": "months", "value": None},
        {"kind": "set", "name": "months", "value": True},
        {"kind": "set", "name": "months", "value": 12.5},
        {"kind": "set", "name": "months", "value": 10**40},
        {"kind": "set", "name": "months", "value": "9" * 10_000},
        {"kind": "set", "name": "months", "value": [12]},
        {"kind": "set", "name": "as_of", "value": "tomorrow"},
        {"kind": "set", "name": "nope", "value": "x"},
        {"kind": "set", "name": "values", "value": {}},
        {"kind": "lang", "value": "fr"},
        {"kind": "lang", "value": ["zh"]},
        {"kind": "lang"},
        {"kind": "clear", "name": "nope"},
        {"kind": "clear", "name": ["model"]},
        {"kind": "clear", "name": {"a": 1}},
        {"kind": "download"},
        {"kind": "download", "table": ["by_table"], "format": "csv"},
        {"kind": "download", "table": "../../etc/passwd", "format": "csv"},
    ],
)  # fmt: skip
def test_an_event_that_is_not_ours_changes_nothing(receiving: Page, place: Workspace, event: dict[str, Any]) -> None:
    board, before = receiving._boards["strip"], dict(receiving.values)
    section, scene, rev = board.section, receiving.scene, board.rev
    send(receiving, **event)
    assert receiving.values == before
    assert board.section == section
    assert receiving.scene is scene, "nothing is computed for it"
    assert board.rev == rev + 1 or event.get("kind") == "download", "the browser hears an answer"
    assert "Traceback" not in log_of(place)


def test_the_page_still_works_after_all_of_them(receiving: Page) -> None:
    send(receiving, kind="set", name="months", value=6)
    assert receiving.values["months"] == 6
    assert "months=6" in receiving._boards["strip"].section["query"]


def test_the_log_says_that_an_event_was_refused_but_not_its_content(tmp_path: Path) -> None:
    place = new_workspace(tmp_path)
    page = opened(place, "overview")
    page.show("strip")
    send(page, kind="set", name="model", value=["张三 13800000000"] * 200)
    send(page, kind="x\nCRITICAL forged line", name="model")
    lines = log_of(place).splitlines()
    assert len(lines) == 2, "one line an event"
    assert "refused an event of kind 'set'" in lines[0]
    assert "138" not in log_of(place)


# ---------------------------------------------------------------------------------------------------- what breaks


@pytest.mark.parametrize(("lang", "said"), [("en", "This section could not be computed"), ("zh", "本节计算失败")])
def test_a_broken_section_shows_a_number_and_the_log_has_the_reason(place: Workspace, lang: str, said: str) -> None:
    page = opened(place, "ingestion", f"lang={lang}")

    def broken(scene: Any) -> dict[str, Any]:
        raise ZeroDivisionError("secret 13800000000")

    page._sections = {**page._sections, "arrived": broken}
    sections = shown(page)
    notice = sections["arrived"]["message"]
    assert notice["kind"] == "error"
    assert notice["text"].startswith(said)
    assert "secret" not in json.dumps(sections, ensure_ascii=False)
    assert re.fullmatch(r"[0-9a-f]{8}", notice["id"])
    assert f"page ingestion, section arrived, error {notice['id']}\nTraceback" in log_of(place)
    assert "ZeroDivisionError" in log_of(place)
    assert messages(sections) == {"arrived": "error"}, "the others still work"
    send(page, kind="toggle", name="source", value="hotline")
    assert page._boards["files"].section["tables"][0]["rows"], "the page goes on"


@pytest.mark.parametrize("lang", ["en", "zh"])
def test_an_error_made_on_purpose_is_a_refusal_in_its_own_words(place: Workspace, lang: str) -> None:
    page = opened(place, "ingestion", f"lang={lang}")

    def refused(scene: Any) -> dict[str, Any]:
        raise MetricError("metric nps", "has no dimension 'batch'", rows="known: channel", fix="ask for one of them")

    page._sections = {"answer": refused}
    before = log_of(place)
    notice = page.show("answer").section["message"]
    assert (notice["kind"], notice["text"]) == ("refused", "has no dimension 'batch'")
    assert notice["detail"] == "known: channel ask for one of them"
    assert log_of(place) == before, "nothing broke"


def test_an_unknown_section_names_the_known_ones(place: Workspace) -> None:
    with pytest.raises(ParameterError, match=r"no section 'answr'\n.*answer, sources, arrived, volume, .*, files"):
        opened(place, "ingestion").show("answr")


# ------------------------------------------------------------------------------------------------------- downloads


def test_a_download_holds_exactly_the_rows_that_are_shown(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PAGES[1:]:
        page = opened(place, name, "source=hotline" if name == "ingestion" else "")
        sections = shown(page)
        seen: set[str] = set()
        for id, section in sections.items():
            for table in section.get("tables", []):
                assert table["id"] not in seen, f"{name}: two tables are called {table['id']}"
                seen.add(table["id"])
                sent: list[tuple[str, str, bytes]] = []
                monkeypatch.setattr(
                    type(page._boards[id]), "send_file", lambda self, *file, sent=sent: sent.append(file)
                )
                send(page, id, kind="download", table=table["id"], format="csv")
                ((file, mime, content),) = sent
                assert (file, mime) == (f"{table['id']}.csv", "text/csv")
                rows = list(csv.reader(io.StringIO(content.decode("utf-8-sig"))))
                assert rows[0] == [column["title"] for column in table["columns"]]
                assert len(rows) - 1 == len(table["rows"])
                numbers = [column["field"] for column in table["columns"] if column["kind"] == "number"]
                for row, line in zip(table["rows"], rows[1:], strict=True):
                    for column, cell in zip(table["columns"], line, strict=True):
                        if column["field"] in numbers and row[column["field"]] is not None:
                            assert float(cell) == float(row[column["field"]])
        assert seen, name


def test_an_xlsx_says_which_view_it_is(place: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from python_calamine import CalamineWorkbook

    page = opened(place, "ingestion", "source=hotline")
    board = page.show("files")
    sent: list[tuple[str, str, bytes]] = []
    monkeypatch.setattr(type(board), "send_file", lambda self, *file: sent.append(file))
    send(page, "files", kind="download", table="files", format="xlsx")
    ((file, _, content),) = sent
    book = CalamineWorkbook.from_filelike(io.BytesIO(content))
    about = dict(book.get_sheet_by_name("About").to_python())
    assert file == "files.xlsx"
    assert about["address"] == "source=hotline"
    assert about["as of"] == page.scene.as_of.isoformat()
    assert len(book.get_sheet_by_index(0).to_python()) - 1 == len(board.section["tables"][0]["rows"])


def test_a_download_that_fails_is_answered_and_logged(
    tmp_path: Path, demo: DemoWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    from aftersales.publish import pages

    def full_disk(*_: object) -> bytes:
        raise OSError("No space left on device")

    place = demo.borrow(tmp_path)
    page = opened(place, "ingestion")
    board = page.show("files")
    monkeypatch.setattr(pages, "table_to_csv", full_disk)
    send(page, "files", kind="download", table="files", format="csv")
    assert board.rev == 1, "the board is no longer busy"
    assert "No space left on device" in log_of(place)


# -------------------------------------------------------------------------------------------------------- the strip


def test_the_strip_leads_to_every_page_in_the_readers_language(place: Workspace) -> None:
    strip = opened(place, "overview", "lang=zh").show("strip").section
    assert [(item["title"], item["href"]) for item in strip["nav"]] == [
        ("售后质量工作台", "index?lang=zh"), ("总览", "overview?lang=zh"), ("根因分析", "root_cause?lang=zh"),
        ("改进评审", "improvement_review?lang=zh"), ("数据接入", "ingestion?lang=zh"),
        ("数据目录", "catalogue?lang=zh")]  # fmt: skip
    assert [item["current"] for item in strip["nav"]] == [False, True, False, False, False, False]
    assert strip["product"] == "门锁演示"


def test_filters_offer_what_the_data_have_and_keep_what_is_chosen(place: Workspace) -> None:
    controls = {
        control["name"]: control
        for control in opened(place, "root_cause", "supplier=S99").show("strip").section["controls"]
    }
    offered = {name: [choice["value"] for choice in control["choices"]] for name, control in controls.items()}
    assert "S07" in offered["supplier"]
    assert "S99" in offered["supplier"], "a value of the address is shown, even where no unit has it"
    assert "2022Q2" in offered["batch"]
    assert "西北" in offered["region"]
    labels = {choice["value"]: choice["label"] for choice in controls["failure_mode"]["choices"]}
    assert labels["battery_leakage"] == "Battery leakage"
    assert "lang" not in controls
    assert controls["by"]["type"] == "choice"


def test_cards_of_the_index_lead_to_every_other_page(place: Workspace) -> None:
    cards = opened(place, "index").show("cards").section["cards"]
    assert [card["href"] for card in cards] == [
        "overview",
        "root_cause",
        "improvement_review",
        "ingestion",
        "catalogue",
    ]
    assert all(card["text"].endswith("?") for card in cards)


def test_a_link_out_of_a_section_keeps_the_language(place: Workspace) -> None:
    (link,) = opened(place, "overview", "lang=zh").show("symptoms").section["links"]
    assert parse_qs(link["href"].partition("?")[2]) == {"lang": ["zh"]}
