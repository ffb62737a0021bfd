"""The board: the one widget of a page. One board shows one section and reports what the reader does with it.

Python makes the section (a payload, already in the reader's language), the browser draws it. A click, a filter, the
language switch or a download comes back as an event and is only a wish: whoever opens the page can send any event, so
`on_event` must check name and value against the page's parameters before it acts.
"""

from __future__ import annotations

import html
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets

from aftersales.publish.charts import look, palette_css

SECTION_MIME = "application/vnd.aftersales.section+json"
"""What a section is called in a notebook's outputs; the report is made from it."""

UI_WORDS: dict[str, dict[str, str]] = {
    "en": {
        "all": "all",
        "busy": "Working …",
        "chosen": "chosen",
        "clear_all": "Clear all filters",
        "connection_lost": "Connection to the workbench lost",
        "copied": "Link copied",
        "dark": "Dark",
        "download": "Download",
        "draw_failed": "This section could not be drawn. The others still work.",
        "error_id": "Error number",
        "light": "Light",
        "loading": "Loading …",
        "no_rows": "Nothing matches these filters.",
        "open_page": "Open this section as a page to use it.",
        "pages": "Pages",
        "remove": "Remove filter",
        "rows": "rows",
        "share": "Copy link",
    },
    "zh": {
        "all": "全部",
        "busy": "处理中…",
        "chosen": "项已选",
        "clear_all": "清除全部筛选",
        "connection_lost": "与工作台的连接已断开",
        "copied": "链接已复制",
        "dark": "深色",
        "download": "下载",
        "draw_failed": "本节无法绘制,其他部分仍可使用。",
        "error_id": "错误编号",
        "light": "浅色",
        "loading": "加载中…",
        "no_rows": "没有符合当前筛选条件的数据。",
        "open_page": "请以页面形式打开本节后使用。",
        "pages": "页面",
        "remove": "移除筛选",
        "rows": "行",
        "share": "复制链接",
    },
}
"""Words of buttons and notices; a strip may send its own `words`, which go before these."""

_STATIC = Path(__file__).parent / "static"


def stylesheet() -> str:
    """The look of sections: palette and rules, one text for page and report."""
    return palette_css() + (_STATIC / "board.css").read_text(encoding="utf-8")


class Board(anywidget.AnyWidget):
    """One section of a page on screen.

    Parameters
    ----------
    section
        The payload: `kind` ("strip" | "section" | "cards"), `id`, `lang`, and what the kind shows.
    on_event
        Called with each event: `kind` "toggle" | "toggle_pair" | "set" | "clear" | "lang" | "download" and its values.
        The browser shows the section as busy until `show` or `send_file` answers.
    """

    _esm = (_STATIC / "board.js").read_text(encoding="utf-8")
    _css = stylesheet()

    section = traitlets.Dict().tag(sync=True)
    event = traitlets.Dict().tag(sync=True)
    rev = traitlets.Int(0).tag(sync=True)
    look = traitlets.Dict().tag(sync=True)

    def __init__(
        self, section: Mapping[str, Any], on_event: Callable[[dict[str, Any]], None] | None = None, **options: Any
    ) -> None:
        super().__init__(section=dict(section), look=look() | {"words": UI_WORDS}, **options)
        if on_event is not None:
            self.observe(lambda change: on_event(dict(change["new"])), "event")

    def show(self, section: Mapping[str, Any]) -> None:
        """Draw `section` in place of the last one; charts whose spec is the same only get new rows."""
        with self.hold_sync():
            self.section = dict(section)
            self.rev += 1

    def send_file(self, name: str, mime: str, content: bytes) -> None:
        """Hand `content` to the browser as a download called `name`."""
        self.send({"kind": "file", "name": name, "mime": mime}, buffers=[content])

    def _repr_mimebundle_(self, **kwargs: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The live view, the payload for reports, and a few words for viewers that know neither."""
        bundle = super()._repr_mimebundle_(**kwargs)
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle or {}, {})
        data = {**data, SECTION_MIME: self.section, "text/html": _fallback(self.section)}
        data["text/plain"] = f"<Board {self.section.get('id', '')}>"
        return data, metadata


def _fallback(section: Mapping[str, Any]) -> str:
    """Title, answer and figures as plain HTML, for viewers without widgets."""
    lang = "zh" if section.get("lang") == "zh" else "en"
    parts = [section.get("page_title") or section.get("title"), (section.get("answer") or {}).get("text")]
    parts.append((section.get("message") or {}).get("text"))
    parts += [
        f"{figure.get('label')}: {figure.get('value')} {figure.get('unit') or ''}"
        for figure in section.get("figures") or []
    ]
    parts += [chart.get("alt") or chart.get("title") for chart in section.get("charts") or []]
    parts.append(UI_WORDS[lang]["open_page"])
    return "".join(f"<p>{html.escape(str(part).strip())}</p>" for part in parts if part)
