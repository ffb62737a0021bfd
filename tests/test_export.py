"""Sections outside a browser: report HTML, CSV, xlsx."""

from __future__ import annotations

import io
import re
import zipfile
from typing import Any

import nbformat
import pandas as pd
import pytest

from aftersales.publish import charts, export
from aftersales.publish.board import Board

TABLE: dict[str, Any] = {
    "id": "suppliers",
    "title": "Suppliers: compared",
    "columns": [
        {"field": "name", "title": "Supplier", "kind": "text"},
        {"field": "n", "title": "Failures", "kind": "number", "digits": 0},
        {"field": "rate", "title": "Failure rate", "kind": "share", "digits": 1},
        {"field": "ci", "title": "95 % interval", "kind": "interval", "digits": 1},
        {"field": "ratio", "title": "Times overall", "kind": "bar", "digits": 1},
        {"field": "last", "title": "Last seen", "kind": "date"},
    ],
    "rows": [
        {"name": "S02 <b>", "n": 1420, "rate": 0.108, "ci": [9.8, 11.7], "ratio": 2.8, "last": "2026-10-28T00:00:00"},
        {"name": "=cmd|' /C calc'!A0", "n": None, "rate": -0.01, "ci": None, "ratio": 0.5, "last": None},
    ],
    "sorted": "rate",
    "total": 2,
}


def bars(id: str = "bars", *, wide: bool = False) -> dict[str, Any]:
    rows = pd.DataFrame({"k": list("abc"), "label": ["电池漏液", "Motor", "Latch"], "value": [412, 30, 19]})
    return charts.ranked_bars(rows, id=id, title="Which?", quantity="Failures", alt_text="Bars", wide=wide).payload()


def section(**parts: Any) -> dict[str, Any]:
    return {"kind": "section", "id": "where", "lang": "en", "title": "Where?", **parts}


def notebook(*sections: dict[str, Any]) -> nbformat.NotebookNode:
    prose = '<div lang="zh">\n\n哪里?\n\n</div>\n<div lang="en">\n\nWhere **does** it fail? [x](https://e.com) ![i](https://e.com/a.png)\n\n</div>'
    parameters = nbformat.v4.new_code_cell('secret_default = "P1"', metadata={"tags": ["parameters"]})
    parameters.outputs = [nbformat.v4.new_output("stream", name="stdout", text="from parameters")]
    cells = [nbformat.v4.new_markdown_cell(prose), parameters]
    for payload in sections:
        data, metadata = Board(payload)._repr_mimebundle_()
        cell = nbformat.v4.new_code_cell("page.render()")
        cell.outputs = [nbformat.v4.new_output("execute_result", data=data, metadata=metadata)]
        cells.append(cell)
    return nbformat.v4.new_notebook(cells=cells)


def report(*sections: dict[str, Any], **options: str) -> str:
    said = {"lang": "en", "title": "Root cause", "footer": 'run 7f3a · "x" </style>'} | options
    return export.report_html(notebook(*sections), **said)


def test_a_section_shows_everything_and_escapes_what_it_shows() -> None:
    said = section(
        lead="Look <here>",
        message={"kind": "weak", "text": "Few", "detail": None, "id": "E7"},
        answer={"text": "S02 & S03", "detail": "sure", "tone": "finding"},
        figures=[
            {"label": "Rate", "value": "3.8", "unit": "%", "interval": [3, 4, 5, 0, 10], "spark": [1, None, 2, 3]}
        ],
        charts=[bars()],
        tables=[TABLE],
        links=[{"text": "near", "href": "/trend"}, {"text": "far", "href": "https://example.org/x"}],
    )
    html = export.section_html(said, lang="en")
    assert "Look &lt;here&gt;" in html
    assert "S02 &amp; S03" in html
    assert "Error number E7" in html
    assert "left:30.00%;right:50.00%" in html
    assert 'alt="Bars"' in html
    assert "S02 &lt;b&gt;" in html
    assert "<script" not in html
    assert ">near<" not in html, "an address within the workbench leads nowhere from a file"
    assert ">far<" in html


def test_the_change_says_by_sign_and_colour_whether_it_is_better() -> None:
    def change(text: str, better: str | None) -> str:
        return export.section_html(
            section(figures=[{"label": "a", "value": "1", "change": text, "better": better}]), lang="en"
        )

    assert "as-change-worse" in change("+1.2 points", "down")
    assert "as-change-better" in change("−1.2 points", "down")
    assert "as-change-none" in change("+3", None)
    assert "as-arrow" not in change("no change", "up")


@pytest.mark.parametrize(
    ("value", "kind", "digits", "text"),
    [
        (1204.0, "number", None, "1,204"),
        (12.34, "number", None, "12.3"),
        (0.034, "share", None, "3.4 %"),
        ([1.0, 2.5], "interval", 1, "[1.0, 2.5]"),
        ("2026-10-28T10:00", "date", None, "2026-10-28"),
        (None, "number", None, ""),
        (float("nan"), "share", 1, ""),
    ],
)
def test_cells_read_as_on_the_page(value: Any, kind: str, digits: int | None, text: str) -> None:
    assert export.cell_text(value, {"kind": kind, "digits": digits}) == text


def test_a_long_table_says_that_it_is_cut() -> None:
    long = TABLE | {"rows": [TABLE["rows"][0]] * 250, "total": 250}
    html = export.section_html(section(tables=[long]), lang="en")
    assert html.count("<tr>") == 201
    assert "first 200 of 250 rows" in html


def test_an_empty_chart_says_so_instead_of_showing_nothing() -> None:
    html = export.section_html(section(charts=[bars() | {"rows": []}]), lang="zh")
    assert "没有符合当前筛选条件的数据" in html
    assert "<img" not in html


def test_a_chart_is_drawn_with_its_selection_and_chinese_text() -> None:
    chart = bars() | {"selected": ["a"]}
    svg = export.chart_svg(chart, lang="zh", width=400)
    assert "电池漏液" in svg
    assert "Noto Sans CJK SC" in svg
    assert 'opacity="0.3"' in svg
    assert 'width="400"' in svg


def test_a_report_stands_alone() -> None:
    html = report(section(charts=[bars()], tables=[TABLE]))
    assert "<script" not in html
    assert "<link" not in html
    assert not re.findall(r'(?:src|srcset|poster)="(?!data:)', html)
    assert not re.findall(r"url\((?!data:)|@import", html)
    assert "secret_default" not in html
    assert "from parameters" not in html
    assert "page.render" not in html
    assert "widget-view" not in html
    assert "Where <strong>does</strong> it fail?" in html
    assert "哪里" not in html
    assert "e.com/a.png" not in html


def test_the_foot_of_a_report_cannot_break_out_of_its_style() -> None:
    html = report(section())
    assert html.count("</style>") == 1
    assert "run 7f3a · \\22 x\\22  \\3c /style\\3e" in html
    assert 'run 7f3a · "x" &lt;/style&gt;</footer>' in html


def test_a_report_in_chinese_has_only_chinese_prose() -> None:
    html = report(section(), lang="zh", title="根因分析")
    assert 'lang="zh-CN"' in html
    assert "哪里" in html
    assert "does" not in html


def test_a_report_with_eight_charts_stays_below_half_a_megabyte() -> None:
    html = report(section(charts=[bars(f"c{number}", wide=True) for number in range(8)]))
    assert html.count("<img ") == 8
    assert len(html.encode()) < 500_000


def test_a_failed_cell_is_one_sentence_without_a_traceback() -> None:
    book = notebook()
    cell = nbformat.v4.new_code_cell("1/0")
    cell.outputs = [nbformat.v4.new_output("error", ename="ZeroDivisionError", evalue="x", traceback=["secret.py"])]
    book.cells.append(cell)
    html = export.report_html(book, lang="en", title="t", footer="f")
    assert "This part could not be computed." in html
    assert "secret.py" not in html


def test_csv_opens_in_excel_and_runs_nothing() -> None:
    content = export.table_to_csv(TABLE)
    assert content.startswith(b"\xef\xbb\xbf")
    lines = content.decode("utf-8-sig").split("\r\n")
    assert lines[0] == "Supplier,Failures,Failure rate,95 % interval,Times overall,Last seen"
    assert lines[1] == 'S02 <b>,1420,0.108,"[9.8, 11.7]",2.8,2026-10-28'
    assert lines[2].startswith("'=cmd|' /C calc'!A0,,-0.01,"), "a number below zero stays a number"


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t"])
def test_every_start_of_a_formula_is_made_harmless(start: str) -> None:
    table = {"columns": [{"field": "a", "title": "a", "kind": "text"}], "rows": [{"a": f"{start}1"}]}
    assert f"'{start}1".encode() in export.table_to_csv(table)


def test_xlsx_has_one_sheet_per_table_and_about() -> None:
    content = export.tables_to_xlsx([TABLE, TABLE], {"page": "root_cause", "model": "P1"})
    with zipfile.ZipFile(io.BytesIO(content)) as book:
        names = re.findall(r'<sheet name="([^"]+)"', book.read("xl/workbook.xml").decode())
        first = book.read("xl/worksheets/sheet1.xml").decode()
        styles = book.read("xl/styles.xml").decode()
    assert names == ["Suppliers  compared", "Suppliers  compared (2)", "About"]
    assert 'state="frozen"' in first
    assert "<f>" not in first, "no text became a formula"
    assert 'formatCode="0.0%"' in styles
    assert 'formatCode="yyyy-mm-dd"' in styles


def test_no_tables_still_give_a_workbook_that_says_what_it_is() -> None:
    assert export.tables_to_xlsx([], {"page": "x"}).startswith(b"PK")
