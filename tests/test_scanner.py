"""The scanner: pages and reports show nobody's data, and say so without repeating it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from conftest import TestWorkspace
from test_masking import HARMLESS
from test_privacy import loaded
from worlds import DemoWorld, section_cell, write_page

from aftersales.lake.vault import Passages, opened_passages
from aftersales.publish.pages import Page
from aftersales.publish.reports import run_report
from aftersales.publish.scanner import Exposure, ExposureError, check_exposure, exposures, withheld_outputs
from aftersales.publish.scene import Payload, Scene, column, section, table
from aftersales.publish.sidecars import read_sidecar

PSEUDONYM = "c_abcdefghijklmnop2345"


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("客户电话 138-1234-5678", "phone"),
        ("mail ann@example.com", "email"),
        ("11010519491231002X", "id"),
        ("visa 4539 5787 6362 1486", "card"),
        ("京A·12345", "plate"),
        ("VIN 1M8GDM9AXKP042788", "vin"),
        (f"customer {PSEUDONYM}!", "pseudonym"),
        ("sealed:v1:1.2:AAAA", "sealed"),
    ],
)
def test_each_kind_is_found_wherever_it_stands(text: str, kind: str) -> None:
    assert exposures({"tables": [{"rows": [{"note": "x"}, {"note": text}]}]}) == [Exposure(kind, "tables.rows.note")]
    assert exposures({"figures": [{text: 1}]}) == [Exposure(kind, "figures")]


def test_what_only_looks_personal_passes() -> None:
    payload = {"tables": [{"rows": [{"note": text} for text in HARMLESS]}], "facts": {"n": 13812345678}}
    assert exposures(payload) == []
    assert exposures({"metric_versions": {"csat": "13812345678"}, "as_of": "2025-12-31T15:59:59+00:00"}) == []


def test_a_page_that_may_show_texts_still_shows_no_telephone_number() -> None:
    assert exposures([PSEUDONYM], tier="P2") == []
    assert [found.kind for found in exposures(["电话13812345678", "sealed:v1:1.2:AA"], tier="P2")] == [
        "phone",
        "sealed",
    ]


def test_the_error_names_section_and_kind_and_never_the_value() -> None:
    with pytest.raises(ExposureError) as caught:
        check_exposure({"rows": [{"13812345678": "ann@example.com"}]}, where="page p, section s")
    said = str(caught.value)
    assert said.splitlines()[0] == "page p, section s: personal data would be shown: e-mail address, telephone number"
    assert "email in rows...." in said
    assert "138" not in said
    assert "ann" not in said


def test_passages_of_texts_that_were_unsealed_are_recognised() -> None:
    text = "门锁装好第二天就打不开了,换了三次电池都没有用,客服让我等,已经等了整整两个星期还没有人上门"
    seen = Passages()
    assert not seen.holds(text)
    seen.add(text)
    seen.add("short label")
    assert seen.holds(text)
    assert seen.holds(f"示例:{text[5:36]}…")
    assert not seen.holds("short label")
    assert not seen.holds("门锁装好第二天就打不开了")


def test_a_text_read_from_the_lake_is_withheld(workspace: TestWorkspace) -> None:
    long = "我家的门锁从上个月开始就经常没有反应,按照说明书操作了很多次,还是没有任何改善,请尽快派人处理"
    loaded(workspace, [["T1", "2026-01-01", "2026-01-01", "u-1", "", "A", "east", long, "1"]])
    (text,) = workspace.rows("ticket", "description")
    assert text == long
    assert exposures({"answer": {"text": f"例:{text}"}}) == [Exposure("text", "answer.text")]
    assert exposures({"answer": {"text": f"例:{text}"}}, tier="P2") == []
    opened_passages._seen.clear()


def demo_page(demo: DemoWorld, folder: Path, lang: str, rows: list[dict[str, str]]) -> Page:
    place = demo.borrow(folder)
    sidecar = read_sidecar(place, "overview")
    page = Page("overview", place, sidecar, {**sidecar.defaults(), "lang": lang}, "")

    def exposed(scene: Scene) -> Payload:
        return section(scene, "exposed", "", tables=[table("t", "t", [column("note", "note")], rows)])

    page._sections = {**page._sections, "exposed": exposed}
    return page


@pytest.mark.parametrize(("lang", "words"), [("en", "withheld"), ("zh", "已拦截")])
def test_a_live_page_shows_a_notice_in_the_readers_language(
    demo: DemoWorld, tmp_path: Path, lang: str, words: str
) -> None:
    page = demo_page(demo, tmp_path / "w", lang, [{"note": "回电 13812345678"}])
    shown = page.show("exposed").section
    assert shown["tables"] == []
    assert shown["message"]["kind"] == "error"
    assert words in shown["message"]["text"]
    assert "telephone number" in shown["message"]["detail"]
    assert "13812345678" not in json.dumps(shown)
    assert "13812345678" not in (page.workspace.cache / "pages.log").read_text(encoding="utf-8")


def test_a_page_without_personal_data_is_not_touched(demo: DemoWorld, tmp_path: Path) -> None:
    page = demo_page(demo, tmp_path / "w", "zh", [{"note": "订单 4500123456"}])
    assert page.show("exposed").section["message"] is None
    for name in page._sections:
        assert (page.show(name).section["message"] or {}).get("id") != "privacy", name


def test_a_report_with_personal_data_fails_and_keeps_none_of_it(workspace: TestWorkspace) -> None:
    place = workspace.open()
    shown = section_cell(tables=[{"id": "t", "columns": [], "rows": [{"note": "call 954-545-7194"}], "title": "t"}])
    write_page(place, "leaky", {}, shown, "print('mail ann@example.com')", "print('fine')")
    run = run_report(place, "leaky", {})
    assert run.state == "failed"
    assert run.reason == "personal data would be shown (e-mail address, telephone number) in cell 1, cell 2"
    notebook = json.loads((Path(run.folder) / "notebook.ipynb").read_text(encoding="utf-8"))
    outputs = json.dumps([cell.get("outputs") for cell in notebook["cells"]])
    assert "7194" not in outputs
    assert "ann@" not in outputs
    assert "fine" in outputs
    assert not (Path(run.folder) / "report.html").exists()


def test_outputs_without_personal_data_stay_as_they_are() -> None:
    notebook = {
        "cells": [{"cell_type": "code", "outputs": [{"text": ["ok"]}]}, {"cell_type": "markdown"}],
        "metadata": {"widgets": 1},
    }
    assert withheld_outputs(notebook) == ([], notebook)
