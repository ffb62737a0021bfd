"""The pages on the demo world in a real browser, without a network: drawn, clicked, shared, switched, on a phone."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlsplit

import browser as b
import psutil
import pytest
from worlds import ROOT, DemoWorld

from aftersales.model.settings import WORKSPACE_VARIABLE
from aftersales.publish.contents import catalogue, improvement_review, index, ingestion, overview, root_cause

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = pytest.mark.browser

MODULES = (index, ingestion, catalogue, overview, root_cause, improvement_review)
BOARDS = {module.__name__.rsplit(".", 1)[1]: 1 + len(module.SECTIONS) for module in MODULES}
VOLUMES = ("surveys", "hotline", "shipments", "repairs", "app_tickets", "mes_units")
CHARTS = {
    "ingestion": {"scores", "ledger", "reasons", *(f"volume_{name}" for name in VOLUMES)},
    "catalogue": {"lineage"},
    "overview": {"tickets", "complaint_rate", "channel", "ticket_type", "symptoms", "speed"},
    "root_cause": {"pareto", "since_when", "on_what", "pair"},
    "improvement_review": {"before_after_mode", "before_after_all", "over_time"},
}
# what is clicked on each page, and the parameter it sets
CLICKS = {
    "ingestion": ("ledger", "source"),
    "overview": ("channel", "channel"),
    "root_cause": ("pareto", "failure_mode"),
}


@dataclass(frozen=True)
class Site:
    """The page server over the demo world, and a browser."""

    url: str
    browser: Browser

    @contextmanager
    def open(self, page: str, query: str = "", **options: Any) -> Iterator[b.Page]:
        """A page in a fresh profile, drawn to the end; nothing may go wrong on it."""
        address = self.url + page + (f"?{query}" if query else "")
        with b.open_page(self.browser, address, boards=BOARDS[page], **options) as opened:
            yield opened
            assert opened.errors == [], f"console of {page}"
            assert opened.outside == [], f"requests of {page}"


@pytest.fixture(scope="module")
def site(demo: DemoWorld, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    b.chromium_path()
    place = demo.borrow(tmp_path_factory.mktemp("site"))
    environment = {WORKSPACE_VARIABLE: str(place.root), "PYTHONPATH": str(ROOT)}
    cache = tmp_path_factory.mktemp("cache")
    with b.serve(place.notebooks, environment, cache=cache) as url, b.chromium() as browser:
        yield Site(url, browser)


def texts(page: b.Page) -> dict[str, str]:
    """The words and figures of every board."""
    return dict(
        page.tab.evaluate(
            """() => Object.fromEntries([...document.querySelectorAll('.as-board')].map(
                 (node) => [node.dataset.section, node.innerText]))"""
        )
    )


def chart_ids(page: b.Page) -> set[str]:
    return set(page.tab.evaluate("[...document.querySelectorAll('[data-chart]')].map((node) => node.dataset.chart)"))


def ink(page: b.Page, chart: str) -> int:
    """Painted pixels of a chart."""
    return int(
        page.tab.evaluate(
            """(id) => {
              const canvas = document.querySelector(`[data-chart="${id}"] canvas`);
              const pixels = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
              let painted = 0;
              for (let i = 3; i < pixels.length; i += 4) painted += pixels[i] > 0;
              return painted;
            }""",
            chart,
        )
    )


def click_first_bar(page: b.Page, chart: str) -> None:
    """The first bar of a ranked chart; where it lies depends on the legend and on the length of the names."""
    canvas = page.tab.locator(f'[data-chart="{chart}"] canvas')
    canvas.scroll_into_view_if_needed()
    box = canvas.bounding_box()
    assert box
    before = page.rev()
    for y in (16, 40):
        for share in (0.45, 0.35, 0.55, 0.25):
            page.tab.mouse.click(box["x"] + box["width"] * share, box["y"] + y)
            page.tab.wait_for_timeout(60)
            if page.tab.locator(".as-busy").count() or page.rev() != before:
                return
    raise AssertionError(f"no bar of {chart} took the click")


def fits(page: b.Page, width: int) -> None:
    """Nothing is wider than the window."""
    assert page.tab.evaluate("document.documentElement.scrollWidth") <= width
    for chart in chart_ids(page):
        box = page.tab.locator(f'[data-chart="{chart}"] canvas').bounding_box()
        assert box
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= width, chart
        assert ink(page, chart) > 500, chart


@pytest.mark.parametrize("name", CHARTS)
def test_a_page_opens_filters_on_a_click_and_comes_back_from_its_address(
    site: Site, demo: DemoWorld, name: str
) -> None:
    boards = BOARDS[name]
    with site.open(name) as page:
        assert chart_ids(page) == CHARTS[name]
        for chart in CHARTS[name]:
            assert ink(page, chart) > 500, chart
        assert page.tab.locator(".as-message-error").count() == 0
        before = page.rev()
        if name in CLICKS:
            chart, parameter = CLICKS[name]
            click_first_bar(page, chart)
        else:
            parameter = {"catalogue": "table"}.get(name, "action")
            page.tab.locator("tr.as-clickable").first.click()
        page.settled(boards, rev=before + boards)
        chosen = parse_qs(urlsplit(page.tab.url).query)
        assert list(chosen) == [parameter], "the address tells"
        assert page.tab.locator(".as-chip").count() == 1
        filtered, address = texts(page), page.tab.url
        with site.open(name, urlsplit(address).query) as again:
            assert texts(again) == filtered, "the address opened anew gives the same view"
            assert again.tab.url == address
            assert chart_ids(again) == chart_ids(page)
            for chart in chart_ids(page):
                assert abs(ink(page, chart) - ink(again, chart)) < 0.02 * ink(page, chart), chart
        if name == "ingestion":
            downloads_what_it_shows(page)
        page.tab.set_viewport_size({"width": 390, "height": 844})
        page.tab.wait_for_function("document.documentElement.scrollWidth <= 390")


def downloads_what_it_shows(page: b.Page) -> None:
    with page.tab.expect_download() as waiting:
        page.tab.locator("[data-key='download:files:csv']").click()
    with open(waiting.value.path(), encoding="utf-8-sig") as stream:
        lines = stream.read().splitlines()
    assert len(lines) - 1 == page.tab.locator("[data-section=files] tbody tr").count() > 0


def test_a_page_fits_on_a_phone_and_the_root_cause_page_names_the_planted_cell(site: Site, demo: DemoWorld) -> None:
    with site.open("root_cause", width=390) as page:
        fits(page, 390)
        answer = page.tab.locator("[data-section=answer] .as-answer-text").inner_text()
        assert all(value in answer for value in demo.truth["cell"].values())
        assert demo.truth["distractor"]["region"] not in answer


def heading(page: b.Page, text: str) -> Any:
    """A heading of the notebook's prose."""
    return page.tab.locator(".as-prose h2", has_text=text)


def test_the_language_switches_both_ways_and_the_address_keeps_it(site: Site) -> None:
    with site.open("overview") as page:
        boards = BOARDS["overview"]
        english = texts(page)
        page.tab.locator("[data-key='lang:zh']").click()
        page.settled(boards, rev=boards)
        assert page.tab.locator(".as-head h1").inner_text() == "总览"
        assert urlsplit(page.tab.url).query == "lang=zh"
        assert heading(page, "产品现场表现").is_visible()
        assert not heading(page, "The product in the field").is_visible()
        assert "lang=zh" in str(page.tab.locator("nav a").first.get_attribute("href"))
        page.tab.locator("[data-key='lang:en']").click()
        page.settled(boards, rev=2 * boards)
        assert page.tab.locator(".as-head h1").inner_text() == "Overview"
        assert heading(page, "The product in the field").is_visible()
        assert texts(page) == english


@pytest.mark.parametrize(
    ("query", "said"), [("suplier=S07", "This address was not understood"), ("source=a&x=1&lang=zh", "无法识别该地址")]
)
def test_a_wrong_address_is_refused_in_words_and_the_page_works(site: Site, query: str, said: str) -> None:
    with site.open("ingestion", query) as page:
        notice = page.tab.locator(".as-message-refused")
        assert said in notice.inner_text()
        assert notice.get_attribute("role") == "alert"
        assert "x=1" not in page.tab.url
        assert "suplier" not in page.tab.url
        before = page.rev()
        click_first_bar(page, "ledger")
        page.settled(BOARDS["ingestion"], rev=before + BOARDS["ingestion"])
        assert page.tab.locator(".as-message-refused").count() == 0
        assert page.tab.locator(".as-chip").count() == 1


def kernels() -> int:
    """Kernels that the page server of this test runs."""
    found = 0
    for process in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            found += any("ipykernel" in part for part in process.cmdline())
    return found


def test_the_cards_of_the_index_lead_to_the_pages_and_a_page_that_is_left_ends_its_kernel(site: Site) -> None:
    before = kernels()
    with site.open("index", "lang=zh") as page:
        assert kernels() == before + 1
        cards = page.tab.locator("a.as-index-card")
        leads = [str(card.get_attribute("href")) for card in cards.all()]
        assert leads == [
            f"{name}?lang=zh" for name in ("overview", "root_cause", "improvement_review", "ingestion", "catalogue")
        ]
        cards.last.click()
        page.tab.wait_for_url("**/catalogue?lang=zh")
        page.settled(BOARDS["catalogue"])
        assert page.tab.locator(".as-head h1").inner_text() == "数据目录"
        end = time.monotonic() + 20
        while kernels() > before + 1 and time.monotonic() < end:
            page.tab.wait_for_timeout(100)
        assert kernels() == before + 1, "closed pages must not keep a kernel each until they are culled"
