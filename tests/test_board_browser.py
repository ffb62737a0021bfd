"""A page in a real browser: drawn, clicked, switched, exported, without a network."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import browser as b
import nbformat
import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser


PAGE_CODE = textwrap.dedent(
    """
    import os
    from urllib.parse import parse_qs, urlencode

    import pandas as pd

    from aftersales.publish import charts
    from aftersales.publish.board import UI_WORDS, Board
    from aftersales.publish.export import table_to_csv

    asked = parse_qs(os.environ.get("QUERY_STRING", ""))
    state = {"lang": asked.get("lang", ["en"])[0], "supplier": asked.get("supplier", [])}
    ROWS = pd.DataFrame({"k": ["S01", "S02", "S03"], "label": ["S01", "S02", "S03"], "value": [40, 30, 20], "n": [40, 30, 20]})
    boards = {}


    def said(en, zh):
        return zh if state["lang"] == "zh" else en


    def strip():
        chips = [{"name": "supplier", "value": value, "text": value} for value in state["supplier"]]
        control = {"name": "supplier", "label": said("Supplier", "供应商"), "type": "choices", "value": state["supplier"],
                   "choices": [{"value": k, "label": k} for k in ROWS["k"]], "help": None}
        query = [("supplier", value) for value in state["supplier"]] + [("lang", state["lang"])]
        return {"kind": "strip", "id": "strip", "lang": state["lang"], "product": said("Workbench", "工作台"),
                "page_title": said("Root cause", "根因分析"), "nav": [{"title": "Home", "href": "/", "current": True}],
                "controls": [control], "chips": chips, "freshness": os.environ.get("HTTP_X_FORWARDED_USER", "nobody"),
                "query": urlencode(query), "words": UI_WORDS[state["lang"]]}


    def table():
        rows = [{"k": k, "n": n, "selected": k in state["supplier"]} for k, n in zip(ROWS["k"], ROWS["n"])]
        columns = [{"field": "k", "title": said("Supplier", "供应商"), "kind": "text"}, {"field": "n", "title": "n", "kind": "number"}]
        return {"id": "suppliers", "title": "T", "columns": columns, "rows": rows, "total": 3, "downloads": ["csv"],
                "filter": {"name": "supplier", "field": "k"}, "sorted": "n"}


    def section():
        months = pd.DataFrame({"period": pd.date_range("2026-01-01", periods=6, freq="MS"), "value": range(1, 7)})
        if state["supplier"]:
            months["value"] *= 2
        bars = charts.ranked_bars(ROWS, id="bars", title=said("Who?", "谁?"), quantity=said("Failures", "失效数"), number="count",
                                  lang=state["lang"], filter="supplier", selected=state["supplier"])
        trend = charts.trend(months, id="trend", title=said("Since when?", "何时?"), quantity=said("Failures per month", "每月失效数"), lang=state["lang"])
        return {"kind": "section", "id": "where", "lang": state["lang"], "title": said("Where?", "哪里?"),
                "answer": {"text": "<img src=x onerror=alert(1)>", "detail": None, "tone": "quiet"},
                "charts": [bars.payload(), trend.payload()], "tables": [table()]}


    def on_event(event):
        if event["kind"] == "toggle" and event["name"] == "supplier":
            chosen = state["supplier"]
            state["supplier"] = [x for x in chosen if x != event["value"]] if event["value"] in chosen else [*chosen, event["value"]]
        elif event["kind"] == "set":
            state["supplier"] = event["value"]
        elif event["kind"] == "clear":
            state["supplier"] = []
        elif event["kind"] == "lang":
            state["lang"] = event["value"]
        elif event["kind"] == "download":
            boards["section"].send_file("suppliers.csv", "text/csv", table_to_csv(table()))
            return
        boards["strip"].show(strip())
        boards["section"].show(section())


    boards["strip"] = Board(strip(), on_event)
    boards["section"] = Board(section(), on_event)
    """
)
PROSE = '<div lang="zh">\n\n说明文字\n\n</div>\n<div lang="en">\n\nSome prose\n\n</div>'


def write_page(path: Path, *codes: str) -> None:
    cells = [nbformat.v4.new_markdown_cell(PROSE), *(nbformat.v4.new_code_cell(code) for code in codes)]
    book = nbformat.v4.new_notebook(cells=cells)
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, path)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with b.chromium() as running:
        yield running


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    b.chromium_path()
    notebooks = tmp_path_factory.mktemp("notebooks")
    write_page(notebooks / "index.ipynb", PAGE_CODE, 'boards["strip"]', 'boards["section"]')
    write_page(notebooks / "root_cause.ipynb", PAGE_CODE, 'boards["strip"]', 'boards["section"]')
    write_page(
        notebooks / "broken.ipynb", PAGE_CODE, 'boards["strip"]', 'raise ValueError("secret")', 'boards["section"]'
    )
    root = str(Path(__file__).parent.parent)
    with b.serve(notebooks, {"PYTHONPATH": root}, cache=tmp_path_factory.mktemp("cache")) as address:
        yield address


def ink(page: b.Page, chart: str) -> int:
    """How many pixels of a chart's canvas are painted."""
    return int(
        page.tab.evaluate(
            """chart => {
              const canvas = document.querySelector(`[data-chart="${chart}"] canvas`);
              const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
              let painted = 0;
              for (let i = 3; i < pixels.length; i += 4) if (pixels[i] > 0) painted += 1;
              return painted;
            }""",
            chart,
        )
    )


def test_a_click_on_a_bar_filters_and_the_address_tells(browser: Browser, url: str) -> None:
    with b.open_page(browser, url, boards=2) as page:
        assert ink(page, "bars") > 1000
        assert ink(page, "trend") > 1000
        assert page.tab.title() == "Root cause · Workbench"
        assert page.tab.get_by_text("<img src=x onerror=alert(1)>").count() == 1, "data is text, never HTML"
        canvas = page.tab.locator("[data-chart=bars] canvas")
        node = canvas.element_handle()
        box = canvas.bounding_box()
        assert box
        page.tab.mouse.click(box["x"] + box["width"] / 2, box["y"] + 16)
        page.settled(2, rev=2)
        assert page.tab.url == f"{url}?supplier=S01&lang=en"
        assert page.tab.locator(".as-chip").inner_text().startswith("S01")
        assert page.tab.locator("tr.as-selected").count() == 1
        assert node.evaluate("node => node.isConnected"), "the same spec keeps its view"
        page.tab.keyboard.press("Tab")
        page.tab.locator("[data-key='clear']").press("Enter")
        page.settled(2, rev=4)
        assert page.tab.url == f"{url}?lang=en"
        assert (page.errors, page.outside) == ([], [])


def test_a_shared_address_brings_the_state_back(browser: Browser, url: str) -> None:
    address = f"{url}root_cause?supplier=S02&lang=zh"
    with b.open_page(browser, address, boards=2, locale="zh-CN", headers={"X-Forwarded-User": "wang"}) as page:
        assert page.tab.locator("h1").inner_text() == "根因分析"
        assert page.tab.locator(".as-chip").inner_text().startswith("S02")
        assert page.tab.locator(".as-fresh").inner_text() == "wang", "the proxy's header reaches the kernel"
        assert page.tab.locator("html").get_attribute("lang") == "zh-CN"
        assert page.tab.get_by_text("说明文字").is_visible()
        assert not page.tab.get_by_text("Some prose").is_visible()
        assert (page.errors, page.outside) == ([], [])


def test_table_rows_and_filters_work_with_keys_alone(browser: Browser, url: str) -> None:
    with b.open_page(browser, url, boards=2) as page:
        row = page.tab.locator("tr.as-clickable").nth(2)
        row.focus()
        page.tab.keyboard.press("Enter")
        page.settled(2, rev=2)
        assert "supplier=S03" in page.tab.url
        assert page.tab.evaluate("document.activeElement.dataset.key") == "row:suppliers:S03", "focus stays"
        page.tab.locator("summary").press("Enter")
        page.tab.locator("[data-key='control:supplier:S01']").press("Space")
        page.settled(2, rev=4)
        assert "supplier=S01&supplier=S03" in page.tab.url
        assert page.tab.locator("details[open]").count() == 1, "the menu stays open for the next choice"


def test_language_and_theme_switch_in_place(browser: Browser, url: str) -> None:
    with b.open_page(browser, url, boards=2) as page:
        page.tab.locator("[data-key='lang:zh']").click()
        page.settled(2, rev=2)
        assert page.tab.locator("h2").inner_text() == "哪里?"
        assert page.tab.url == f"{url}?lang=zh"
        assert page.tab.get_by_text("说明文字").is_visible()
        paper = page.tab.evaluate("getComputedStyle(document.body).backgroundColor")
        page.tab.locator("[data-key='theme']").click()
        page.tab.wait_for_function("document.documentElement.dataset.asTheme === 'dark'")
        page.settled(2, rev=2)
        assert page.tab.evaluate("getComputedStyle(document.body).backgroundColor") != paper
        assert page.tab.locator("[data-key='theme']").inner_text() == "浅色"
        assert ink(page, "bars") > 1000
        assert (page.errors, page.outside) == ([], [])


def test_a_download_is_the_table(browser: Browser, url: str) -> None:
    with b.open_page(browser, url, boards=2) as page:
        with page.tab.expect_download() as waiting:
            page.tab.locator("[data-key='download:suppliers:csv']").click()
        assert waiting.value.suggested_filename == "suppliers.csv"
        assert Path(waiting.value.path()).read_bytes() == "\ufeffSupplier,n\r\nS01,40\r\nS02,30\r\nS03,20\r\n".encode()
        page.settled(2)


def test_nothing_is_cut_on_a_phone(browser: Browser, url: str) -> None:
    with b.open_page(browser, url, boards=2, width=390) as page:
        assert page.tab.evaluate("document.documentElement.scrollWidth") <= 390
        box = page.tab.locator("[data-chart=bars] canvas").bounding_box()
        assert box
        assert box["x"] + box["width"] <= 390


def test_a_failing_cell_leaves_what_stood_above_and_hides_the_reason(browser: Browser, url: str) -> None:
    with b.open_page(browser, f"{url}broken", boards=1) as page:
        assert page.tab.get_by_text("The page stopped here").is_visible()
        assert "secret" not in page.tab.content()


def test_plain_addresses(browser: Browser, url: str) -> None:
    context = browser.new_context()
    try:
        for address in ("voila/render/root_cause.ipynb", "root_cause.ipynb"):
            long = context.request.get(f"{url}{address}?lang=zh", max_redirects=0)
            assert (long.status, long.headers["location"]) == (302, "/root_cause?lang=zh")
        for nothing in ("nowhere", "voila/tree", "voila/api/contents", "voila/files/index.ipynb"):
            assert context.request.get(url + nothing).status in (403, 404), nothing
        answer = context.request.get(f"{url}nowhere")
        assert "There is no such page" in answer.text()
        assert "没有这个页面" in answer.text()
    finally:
        context.close()


def test_the_reader_is_told_when_the_line_is_lost(browser: Browser, tmp_path: Path) -> None:
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    write_page(notebooks / "index.ipynb", PAGE_CODE, 'boards["strip"]', 'boards["section"]')
    with b.serve(notebooks, {"PYTHONPATH": str(Path(__file__).parent.parent)}, cache=tmp_path) as address:
        opened = b.open_page(browser, address, boards=2)
        page = opened.__enter__()
        assert not page.tab.locator("#as-lost").is_visible()
    try:
        page.tab.locator("#as-lost").wait_for(state="visible")
        assert "Connection to the workbench lost" in page.tab.locator("#as-lost").inner_text()
    finally:
        opened.__exit__(None, None, None)


def test_a_report_opens_without_scripts_and_network_and_shows_its_charts(browser: Browser, tmp_path: Path) -> None:
    from aftersales.publish.export import report_html

    names: dict[str, object] = {}
    os.environ.pop("QUERY_STRING", None)
    exec(PAGE_CODE, names)
    boards = names["boards"]
    assert isinstance(boards, dict)
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(PROSE)])
    for board in boards.values():
        data, metadata = board._repr_mimebundle_()
        cell = nbformat.v4.new_code_cell("board")
        cell.outputs = [nbformat.v4.new_output("execute_result", data=data, metadata=metadata)]
        book.cells.append(cell)
    path = tmp_path / "report.html"
    path.write_text(report_html(book, lang="en", title="Root cause", footer="run 1"), encoding="utf-8")
    with b.open_page(browser, path.as_uri(), java_script_enabled=False) as page:
        pictures = page.tab.locator(".as-plot img")
        assert pictures.count() == 2
        for place in range(2):
            box = pictures.nth(place).bounding_box()
            assert box
            assert box["width"] > 300
            assert box["height"] > 80
        assert page.tab.get_by_text("Some prose").is_visible()
        assert page.tab.get_by_text("说明文字").count() == 0
        assert [url for url in page.requests if not url.startswith(("file:", "data:"))] == []
        assert page.errors == []
