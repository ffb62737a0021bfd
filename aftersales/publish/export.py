"""The same sections without a browser: report HTML, xlsx and CSV.

A report is made from the payloads that boards left in a notebook's outputs (`board.SECTION_MIME`). The charts are drawn
here, in the process that exports, as SVG: a tenth of the size of PNG, sharp in print, and the numbers stay numbers.
"""

from __future__ import annotations

import base64
import copy
import csv
import html
import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from aftersales.publish.board import SECTION_MIME, stylesheet
from aftersales.publish.charts import EXPORT_FONT, NUMBER_LOCALE, TIME_LOCALE, chart_config, missing
from aftersales.publish.serving import SHARE, VEGA_LITE

if TYPE_CHECKING:
    from nbformat import NotebookNode  # loads slowly; pages need this module for downloads only

WIDE_PIXELS, HALF_PIXELS = 760, 372
"""Width of charts in a report: the whole column, and two beside each other."""

MOST_ROWS = 200
"""Rows of a table that a report shows; the xlsx has all."""

HIDDEN_TAGS = frozenset({"parameters", "injected-parameters", "hide-cell"})

_WORDS = {
    "en": {
        "product": "After-sales workbench",
        "rows": "rows",
        "first": "first {shown} of {total} rows; the whole table is in the xlsx file",
        "failed": "This part could not be computed.",
        "no_rows": "Nothing matches these filters.",
        "error_id": "Error number",
        "all_data": "no filter",
    },
    "zh": {
        "product": "售后工作台",
        "rows": "行",
        "first": "共 {total} 行,此处为前 {shown} 行;完整数据见 xlsx 文件",
        "failed": "此部分未能计算。",
        "no_rows": "没有符合当前筛选条件的数据。",
        "error_id": "错误编号",
        "all_data": "无筛选",
    },
}

_STATIC = Path(__file__).parent / "static"


# ---------------------------------------------------------------- a section as HTML


def section_html(section: Mapping[str, Any], *, lang: str) -> str:
    """One section as HTML without a script: same look and order as the board, charts as images."""
    parts = _strip(section, lang) if section.get("kind") == "strip" else _section(section, lang)
    kind = html.escape(str(section.get("kind", "section")))
    name = html.escape(str(section.get("id", "")))
    return f'<section class="as-board" data-kind="{kind}" data-section="{name}">{"".join(parts)}</section>'


def _tag(name: str, classes: str, *inner: str | None, **attributes: Any) -> str:
    """An element; `inner` is HTML, attributes are escaped."""
    said = "".join(f' {key.replace("_", "-")}="{html.escape(str(value))}"' for key, value in attributes.items())
    classed = f' class="{classes}"' if classes else ""
    return f"<{name}{classed}{said}>{''.join(part for part in inner if part)}</{name}>"


def _text(value: Any) -> str:
    return html.escape(str(value)) if value not in (None, "") else ""


def _strip(section: Mapping[str, Any], lang: str) -> list[str]:
    """In a report the strip says how fresh the data are and which filters are set."""
    chips = [_tag("span", "as-chip", _text(chip["text"])) for chip in section.get("chips") or []]
    none = _tag("span", "as-small", _WORDS[lang]["all_data"])
    return [
        _tag("p", "as-lead", _text(section["lead"])) if section.get("lead") else "",
        _tag("p", "as-fresh", _text(section.get("freshness"))),
        _message(section["message"], lang) if section.get("message") else "",
        _tag("div", "as-chips", *(chips or [none])),
    ]


def _message(message: Mapping[str, Any], lang: str) -> str:
    number = f"{_WORDS[lang]['error_id']} {message['id']}" if message.get("id") else ""
    return _tag(
        "div",
        f"as-message as-message-{_text(message['kind'])}",
        _tag("strong", "", _text(message["text"])),
        _tag("p", "", _text(message["detail"])) if message.get("detail") else "",
        _tag("p", "as-small", _text(number)) if number else "",
    )


def _section(section: Mapping[str, Any], lang: str) -> list[str]:
    def block(tag: str, classes: str, value: Any) -> str:
        return _tag(tag, classes, _text(value)) if value else ""

    parts = [block("h2", "", section.get("title")), block("p", "as-lead", section.get("lead"))]
    message, answer = section.get("message"), section.get("answer")
    if message:
        parts.append(_message(message, lang))
    if answer:
        detail = block("p", "as-answer-detail", answer.get("detail"))
        tone = f"as-answer as-answer-{answer.get('tone') or 'finding'}"
        parts.append(_tag("div", tone, block("p", "as-answer-text", answer["text"]), detail))
    if section.get("figures"):
        parts.append(_tag("div", "as-figures", *map(_figure, section["figures"])))
    if section.get("charts"):
        parts.append(_tag("div", "as-charts", *_charts(section["charts"], lang)))
    parts += [_table(table, lang) for table in section.get("tables") or []]
    if section.get("cards"):
        cards = [
            _tag(
                "div",
                "as-card as-index-card",
                block("h3", "", card["title"]),
                block("p", "", card.get("text")),
                block("p", "as-small", card.get("meta")),
            )
            for card in section["cards"]
        ]
        parts.append(_tag("div", "as-index", *cards))
    links = [link for link in section.get("links") or [] if urlsplit(link["href"]).scheme in ("http", "https")]
    if links:  # an address within the workbench leads nowhere from a file
        parts.append(_tag("p", "as-links", *(_tag("a", "", _text(link["text"]), href=link["href"]) for link in links)))
    return parts


def _figure(figure: Mapping[str, Any]) -> str:
    state = figure.get("state") or "ok"
    known = state in ("ok", "unripe")
    unit = _tag("span", "as-figure-unit", _text(figure["unit"])) if known and figure.get("unit") else ""
    spark = _spark(figure["spark"]) if known and figure.get("spark") else ""
    low, high = figure.get("low"), figure.get("high")
    lines = [
        _tag("div", "as-figure-label", _text(figure["label"])),
        _tag("div", "as-figure-main", _tag("div", "as-figure-value", _text(figure.get("value")), unit), spark),
        _range_bar(figure["interval"]) if figure.get("interval") else "",
        _tag("div", "as-small", _text(f"[{low}, {high}]")) if low and high else "",
        _change(figure) if figure.get("change") else "",
        _tag("div", "as-small", _text(figure["n"])) if figure.get("n") else "",
        _tag("div", "as-figure-note", _text(figure["note"])) if figure.get("note") else "",
    ]
    return _tag("div", f"as-figure as-figure-{state}", *lines)


def _change(figure: Mapping[str, Any]) -> str:
    """The change with an arrow of its sign; the colour tells whether that is the better way."""
    change, better = str(figure["change"]).strip(), figure.get("better")
    if change[0] not in "+-−–":
        return _tag("div", "as-figure-change", _text(change))
    up = change[0] == "+"
    tone = "none" if not better else "better" if (better == "up") == up else "worse"
    arrow = _tag("span", "as-arrow", "▴ " if up else "▾ ", aria_hidden="true")
    return _tag("div", f"as-figure-change as-change-{tone}", arrow, _text(change))


def _range_bar(interval: Sequence[float]) -> str:
    low, value, high, least, most = interval
    low, value, high = (max(0.0, min(100.0, 100 * (at - least) / ((most - least) or 1))) for at in (low, value, high))
    band = _tag("span", "as-range-band", style=f"left:{low:.2f}%;right:{100 - high:.2f}%")
    return _tag("div", "as-range", band, _tag("span", "as-range-tick", style=f"left:{value:.2f}%"), aria_hidden="true")


def _spark(numbers: Sequence[float | None]) -> str:
    known = [number for number in numbers if number is not None]
    if len(known) < 2:
        return ""
    least, spread = min(known), (max(known) - min(known)) or 1
    points = [
        None if number is None else (2 + place * 92 / (len(numbers) - 1), 24 - 20 * (number - least) / spread)
        for place, number in enumerate(numbers)
    ]
    path, pen = "", "M"
    for point in points:
        path += f"{pen}{point[0]:.1f} {point[1]:.1f}" if point else ""
        pen = "L" if point else "M"
    x, y = [point for point in points if point][-1]
    line = f'<path d="{path}"/><circle cx="{x:.1f}" cy="{y:.1f}" r="2.5"/>'
    return f'<svg class="as-spark" viewBox="0 0 98 28" aria-hidden="true">{line}</svg>'


def _charts(charts: Sequence[Mapping[str, Any]], lang: str) -> list[str]:
    """Chart cards; the last narrow one without a neighbour gets the whole width."""
    narrow = [chart["id"] for chart in charts if not chart.get("wide")]
    alone = narrow[-1] if len(narrow) % 2 else None
    cards = []
    for chart in charts:
        full = bool(chart.get("wide")) or chart["id"] == alone
        title = _tag("h3", "", _text(chart.get("title")))
        subtitle = _tag("p", "as-small", _text(chart.get("subtitle"))) if chart.get("subtitle") else ""
        if chart["rows"]:
            svg = chart_svg(chart, lang=lang, width=WIDE_PIXELS if full else HALF_PIXELS)
            source = "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
            alt = html.escape(str(chart.get("alt") or chart.get("title") or ""))
            plot = f'<div class="as-plot"><img src="{source}" alt="{alt}"></div>'
        else:
            plot = _tag("p", "as-none", _text(_WORDS[lang]["no_rows"]))
        cards.append(_tag("figure", "as-card as-chart" + (" as-wide" if full else ""), title, subtitle, plot))
    return cards


def chart_svg(chart: Mapping[str, Any], *, lang: str, width: int = WIDE_PIXELS) -> str:
    """The chart of a payload as SVG text, `width` pixels wide, in the light look."""
    import vl_convert

    spec = copy.deepcopy(dict(chart["spec"]))
    spec["data"] = {"name": "source", "values": chart["rows"]}
    spec["width"] = width
    for parameter in spec.get("params", []):
        if parameter.get("name") == "sel":
            parameter["value"] = list(chart.get("selected") or [])
    config = chart_config("light", font=EXPORT_FONT) | {"aria": False}
    config["axis"] = config["axis"] | {"labelLimit": round(max(90, min(240, width * 0.42)))}
    svg = vl_convert.vegalite_to_svg(
        spec,
        vl_version=VEGA_LITE,
        config=config,
        format_locale=NUMBER_LOCALE,
        time_format_locale=TIME_LOCALE[lang],
        allowed_base_urls=[],
    )
    # six decimals of a pixel are half of the file
    return re.sub(r"(\d+\.\d{2})\d+", r"\1", svg)


# ---------------------------------------------------------------- tables


def cell_text(value: Any, column: Mapping[str, Any]) -> str:
    """A table cell as readers see it; numbers with thousands separators, shares in percent."""
    kind, digits = column.get("kind", "text"), column.get("digits")
    if missing(value):
        return ""
    if kind == "interval" and isinstance(value, (list, tuple)):
        return "[" + ", ".join(_number(side, digits) for side in value) + "]"
    if kind == "share" and _is_number(value):
        return _number(value * 100, 1 if digits is None else digits) + " %"
    if kind in ("number", "bar"):
        return _number(value, digits)
    return str(value)[:10] if kind == "date" else str(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _number(value: Any, digits: int | None) -> str:
    if not _is_number(value):
        return str(value)
    places = digits if digits is not None else 0 if float(value).is_integer() else 1
    return f"{value:,.{places}f}"


def _side(column: Mapping[str, Any]) -> str:
    return str(column.get("align") or ("left" if column.get("kind", "text") in ("text", "date") else "right"))


def _table(table: Mapping[str, Any], lang: str) -> str:
    """All rows up to `MOST_ROWS`; beyond, a line says how many there are."""
    rows, total = table["rows"][:MOST_ROWS], table.get("total") or len(table["rows"])
    words = _WORDS[lang]
    count = (
        f"{total:,} {words['rows']}"
        if total <= len(rows)
        else words["first"].format(shown=f"{len(rows):,}", total=f"{total:,}")
    )
    title = _tag("h3", "", _text(table.get("title"))) if table.get("title") else ""
    head = _tag("div", "as-table-head", title, _tag("span", "as-small", _text(count)))
    if not rows:
        return _tag("div", "as-card as-table-card", head, _tag("p", "as-none", _text(words["no_rows"])))
    columns = table["columns"]
    most = {
        column["field"]: max((row.get(column["field"]) or 0 for row in rows), default=0) or 1
        for column in columns
        if column.get("kind") == "bar"
    }
    heads = [
        _tag(
            "th",
            f"as-{_side(column)}{' as-sorted' if column['field'] == table.get('sorted') else ''}",
            _text(column["title"]),
            scope="col",
        )
        for column in columns
    ]
    body = [_tag("tr", "", *(_cell(row.get(column["field"]), column, most) for column in columns)) for row in rows]
    whole = _tag("table", "", _tag("thead", "", _tag("tr", "", *heads)), _tag("tbody", "", *body))
    return _tag("div", "as-card as-table-card", head, _tag("div", "as-table-scroll", whole))


def _cell(value: Any, column: Mapping[str, Any], most: Mapping[str, float]) -> str:
    kind = column.get("kind", "text")
    text = _text(cell_text(value, column))
    if kind == "bar":
        share = max(0.0, 100 * (value or 0) / most[column["field"]])
        bar = _tag("span", "as-bar-track", _tag("span", "as-bar", style=f"width:{share:.1f}%"))
        text = bar + _tag("span", "as-bar-text", text)
    return _tag("td", f"as-{_side(column)} as-kind-{kind}", text)


# ---------------------------------------------------------------- a notebook as report


def report_html(notebook: NotebookNode, *, lang: str, title: str, footer: str) -> str:
    """One self-contained HTML file of an executed notebook, in one language, without code, prompts or parameters.

    Parameters
    ----------
    notebook
        As Papermill wrote it; not changed.
    footer
        Run id, definitions, versions: the last line of the page on screen, the foot of every page in print.
    """
    from nbconvert.exporters import HTMLExporter

    shown = copy.deepcopy(notebook)
    shown.cells = [cell for cell in shown.cells if not HIDDEN_TAGS & set(cell.metadata.get("tags", []))]
    shown.metadata.pop("widgets", None)
    exporter = HTMLExporter(
        template_name="aftersales",
        extra_template_basedirs=[str(SHARE / "nbconvert" / "templates")],
        anchor_link_text="",
        filters={
            "one_language": lambda prose: _one_language(prose, lang),
            "output_html": lambda output: _output_html(output, lang),
        },
    )
    about = {
        "lang": lang,
        "title": title,
        "product": _product(shown, lang),
        "footer": footer,
        "footer_css": _css_string(footer),
        "css": stylesheet() + (_STATIC / "report.css").read_text(encoding="utf-8"),
    }
    text, _ = exporter.from_notebook_node(shown, resources={"aftersales": about})
    return text


def warm_up() -> None:
    """Start the chart renderer: half a second that can pass beside a kernel.

    Nothing else is imported here: two threads that import the same packages can break each other.
    """
    import vl_convert

    vl_convert.vegalite_to_svg({"data": {"values": []}, "mark": "point"}, vl_version=VEGA_LITE, allowed_base_urls=[])


def _product(notebook: NotebookNode, lang: str) -> str:
    """The product's name from the strip, if the notebook has one."""
    for section in _sections(notebook):
        if section.get("kind") == "strip" and section.get("product"):
            return str(section["product"])
    return _WORDS[lang]["product"]


def _sections(notebook: NotebookNode) -> Iterable[Mapping[str, Any]]:
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            section = output.get("data", {}).get(SECTION_MIME)
            if section:
                yield json.loads(section) if isinstance(section, str) else section


def _css_string(text: str) -> str:
    """`text` as a CSS string: nothing in it can end the string or the style element."""
    return '"' + "".join(char if char.isalnum() or char in " .,:;-_/|·" else f"\\{ord(char):x} " for char in text) + '"'


def _one_language(prose: str, lang: str) -> str:
    """Rendered prose in one language, without pictures, scripts or addresses from elsewhere."""
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(str(prose), "html.parser")
    for block in soup.find_all("div", lang=True):
        if not str(block["lang"]).startswith(lang):
            block.decompose()
    for node in soup.find_all(["script", "style", "link", "iframe", "object", "embed", "form"]):
        node.decompose()
    for node in soup.find_all("img"):
        if not str(node.get("src", "")).startswith("data:image/"):
            node.decompose()
    for node in soup.find_all("a", class_="anchor-link"):
        node.decompose()
    for node in soup.find_all(True):
        node.attrs = {key: value for key, value in node.attrs.items() if not key.startswith("on") and key != "style"}
        if node.name == "a" and urlsplit(str(node.get("href", ""))).scheme not in ("http", "https"):
            node.attrs.pop("href", None)
    return f'<div class="as-prose">{soup}</div>' if soup.get_text(strip=True) or soup.find("img") else ""


def _output_html(output: Mapping[str, Any], lang: str) -> str:
    """An output for a report: sections, pictures, plain text; an error as one sentence."""
    if output["output_type"] == "error":
        return _tag("div", "as-board", _tag("div", "as-message as-message-error", _text(_WORDS[lang]["failed"])))
    data = output.get("data", {})
    if SECTION_MIME in data:
        section = data[SECTION_MIME]
        return section_html(json.loads(section) if isinstance(section, str) else section, lang=lang)
    if "image/png" in data:
        alt = _text(data.get("text/plain", ""))
        return _tag("div", "as-output", f'<img src="data:image/png;base64,{data["image/png"].strip()}" alt="{alt}">')
    if "text/html" in data:
        prose = _one_language(data["text/html"], lang)
        return _tag("div", "as-output", prose)
    if output.get("name") == "stdout" or "text/plain" in data:
        return _tag("div", "as-output", _tag("pre", "", _text(output.get("text") or data.get("text/plain"))))
    return ""


# ---------------------------------------------------------------- downloads

_FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")


def table_to_csv(table: Mapping[str, Any]) -> bytes:
    """The table as CSV that Excel opens rightly: UTF-8 with BOM, plain numbers, no text that a sheet would run."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow([_harmless(column["title"]) for column in table["columns"]])
    for row in table["rows"]:
        writer.writerow([_csv_cell(row.get(column["field"]), column) for column in table["columns"]])
    return b"\xef\xbb\xbf" + out.getvalue().encode("utf-8")


def _csv_cell(value: Any, column: Mapping[str, Any]) -> Any:
    if missing(value):
        return ""
    if _is_number(value):
        return value
    return _harmless(cell_text(value, column))


def _harmless(text: Any) -> str:
    """Text that no spreadsheet takes for a formula."""
    text = str(text)
    return f"'{text}" if text.startswith(_FORMULA_STARTS) else text


def tables_to_xlsx(tables: Sequence[Mapping[str, Any]], about: Mapping[str, Any]) -> bytes:
    """A workbook: one sheet per table with frozen head and number formats, then `About` (parameters, versions)."""
    import xlsxwriter

    out = io.BytesIO()
    # texts from customers must stay texts
    options = {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False, "nan_inf_to_errors": True}
    with xlsxwriter.Workbook(out, options) as book:
        book.set_calc_mode("auto")
        taken: set[str] = {"about"}
        for table in tables:
            _sheet(book, table, _sheet_name(str(table.get("title") or table["id"]), taken))
        sheet = book.add_worksheet("About")
        name_format = book.add_format({"bold": True, "valign": "top"})
        text_format = book.add_format({"text_wrap": True, "valign": "top"})
        for row, (name, value) in enumerate(about.items()):
            sheet.write_string(row, 0, str(name), name_format)
            sheet.write_string(row, 1, "" if value is None else str(value), text_format)
        sheet.set_column(0, 0, 28)
        sheet.set_column(1, 1, 90)
    return out.getvalue()


def _sheet_name(title: str, taken: set[str]) -> str:
    """A name Excel accepts: 31 characters, none of []:*?/\\, not used yet."""
    plain = re.sub(r"[\[\]:*?/\\]", " ", title).strip(" '")[:31] or "Table"
    name, number = plain, 2
    while name.lower() in taken:
        name, number = f"{plain[:27]} ({number})", number + 1
    taken.add(name.lower())
    return name


def _number_format(column: Mapping[str, Any]) -> str:
    kind, digits = column.get("kind", "text"), column.get("digits")
    if kind == "date":
        return "yyyy-mm-dd"
    places = (1 if kind == "share" else None) if digits is None else digits
    if places is None:
        return "#,##0.##" if kind in ("number", "bar") else "General"
    decimals = "." + "0" * places if places else ""
    return f"0{decimals}%" if kind == "share" else f"#,##0{decimals}"


def _sheet(book: Any, table: Mapping[str, Any], name: str) -> None:
    sheet = book.add_worksheet(name)
    head = book.add_format({"bold": True, "text_wrap": True, "valign": "top", "bottom": 1})
    sheet.freeze_panes(1, 0)
    for place, column in enumerate(table["columns"]):
        form = book.add_format({"num_format": _number_format(column)} if column.get("kind") != "text" else {})
        sheet.write_string(0, place, str(column["title"]), head)
        widest = len(str(column["title"]))
        for number, row in enumerate(table["rows"], start=1):
            value = row.get(column["field"])
            widest = max(widest, len(cell_text(value, column)))
            _write_cell(sheet, number, place, value, column, form)
        sheet.set_column(place, place, min(60, max(10, widest + 2)))
    if table["rows"] and table["columns"]:
        sheet.autofilter(0, 0, len(table["rows"]), len(table["columns"]) - 1)


def _write_cell(sheet: Any, row: int, place: int, value: Any, column: Mapping[str, Any], form: Any) -> None:
    if missing(value):
        return
    if isinstance(value, bool):
        sheet.write_boolean(row, place, value, form)
    elif _is_number(value):
        sheet.write_number(row, place, value, form)
    elif column.get("kind") == "date" and (day := _day(value)):
        sheet.write_datetime(row, place, day, form)
    else:
        sheet.write_string(row, place, cell_text(value, column), form)


def _day(value: Any) -> datetime | None:
    if isinstance(value, datetime):
        return value.replace(tzinfo=None)
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day)
    try:
        return datetime.fromisoformat(str(value)[:10])
    except ValueError:
        return None
