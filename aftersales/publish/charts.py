"""Charts: ready rows in, a Vega-Lite spec without data out.

Every chart of the product is made here, so the same thing looks the same everywhere. The palette, the light and the
dark look and the number formats stand once, in this module; the board (screen) and the export (report) read them.

A chart never holds its data: `Chart.spec` names the data set "source", `Chart.rows` holds the rows. When a filter
changes only the rows change, and the board swaps them without drawing anew. That is also why the marks that follow a
selection read a parameter `sel`: the list of chosen keys.

Columns with a fixed meaning in all charts
    k         key of the row, what a click reports
    label     name of the row in the reader's language, unique
    value     the number shown; shares are 0..1
    low, high 95 % interval of `value`
    n, base   count and denominator
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

from aftersales.publish.imports import without_address_grammar

if TYPE_CHECKING:
    import altair as alt
    import pandas as pd

Lang = Literal["en", "zh"]
Number = Literal["count", "share", "rate", "ratio"]
Grain = Literal["month", "quarter"]

FONT = 'Inter, "Noto Sans CJK SC", "PingFang SC", "Microsoft YaHei", system-ui, sans-serif'
EXPORT_FONT = '"Noto Sans CJK SC", "Microsoft YaHei", "PingFang SC", sans-serif'

CATEGORIES = ("#0072b2", "#e69f00", "#009e73", "#d55e00", "#56b4e9", "#cc79a7", "#f0e442")
"""Okabe-Ito: one fixed colour per category, in this order."""

LIGHT: dict[str, str] = {
    "ground": "#f5f6f8",
    "paper": "#ffffff",
    "ink": "#1f2933",
    "soft": "#566270",
    "faint": "#7b8794",
    "grid": "#e4e7eb",
    "rest": "#b4bdc7",
    "unripe": "#d3d9e0",
    "accent": "#0072b2",
    "bad": "#d55e00",
    "good": "#009e73",
    "warn": "#e69f00",
    "low3": "#2f77b4",
    "low2": "#7fb0d8",
    "low1": "#c3d9ec",
    "middle": "#eceef1",
    "high1": "#f9d6a8",
    "high2": "#f0a04b",
    "high3": "#d55f02",
}
"""Name -> colour on paper. No colour appears twice: the dark look is found by exchanging each for its namesake."""

DARK: dict[str, str] = {
    "ground": "#14181d",
    "paper": "#1b2128",
    "ink": "#e6e9ee",
    "soft": "#a5afbb",
    "faint": "#8590a0",
    "grid": "#2b333d",
    "rest": "#586472",
    "unripe": "#3d4753",
    "accent": "#4ca6dd",
    "bad": "#f0813a",
    "good": "#37bf97",
    "warn": "#f0b733",
    "low3": "#6fb3ea",
    "low2": "#41779f",
    "low1": "#2c4a61",
    "middle": "#2c323a",
    "high1": "#5d4526",
    "high2": "#a86a24",
    "high3": "#f08433",
}

HEAT_INK = "#1f2934"
"""Numbers in strong heat cells; the same in both looks, since those cells are light in both."""

EVENT_LANES = 3
"""Most event labels above one another."""

HEAT_STEPS = (0.5, 0.67, 0.8, 1.25, 1.5, 2.0)
"""Borders of the risk-ratio classes; 0.8 to 1.25 is the middle, and every other border has its reciprocal."""

WORDS: dict[str, dict[str, str]] = {
    "en": {
        "n": "Count",
        "base": "Base",
        "interval": "95 % interval",
        "share": "Cumulative share",
        "overall": "overall",
        "ratio": "Times the rest",
        "ripe": "Ripe",
        "yes": "yes",
        "no": "not yet",
        "before": "before",
        "after": "after",
        "accepted": "accepted",
        "rejected": "rejected",
        "duplicate": "duplicate",
        "rows": "Rows",
        "period": "Period",
        "event": "Event",
        "compare": "Comparison",
        "to": "to",
        "under": "under",
        "over": "over",
    },
    "zh": {
        "n": "数量",
        "base": "基数",
        "interval": "95 % 区间",
        "share": "累计占比",
        "overall": "总体",
        "ratio": "相对其余的倍数",
        "ripe": "数据成熟",
        "yes": "是",
        "no": "尚未",
        "before": "之前",
        "after": "之后",
        "accepted": "接收",
        "rejected": "拒收",
        "duplicate": "重复",
        "rows": "行数",
        "period": "时期",
        "event": "事件",
        "compare": "对照",
        "to": "至",
        "under": "低于",
        "over": "高于",
    },
}
"""The few words that charts add themselves; the caller's `words` go before them."""

FORMATS: dict[Number, str] = {"count": ",.0f", "share": ".1%", "rate": ",.1f", "ratio": ",.1f"}
_AXIS_FORMATS: dict[Number, str] = {"count": ",~f", "share": ".2~%", "rate": ",~f", "ratio": ",~f"}

NUMBER_LOCALE: dict[str, Any] = {
    "decimal": ".",
    "thousands": ",",
    "grouping": [3],
    "currency": ["¥", ""],
    "percent": " %",
}
"""d3-format locale: a thin form of "3.4 %" in both languages."""

_EN_MONTHS = [
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
]
_EN_DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
_ZH_DAYS = [f"星期{day}" for day in "日一二三四五六"]

TIME_LOCALE: dict[str, dict[str, Any]] = {
    "en": {
        "dateTime": "%x, %X",
        "date": "%Y-%m-%d",
        "time": "%H:%M:%S",
        "periods": ["AM", "PM"],
        "days": _EN_DAYS,
        "shortDays": [day[:3] for day in _EN_DAYS],
        "months": _EN_MONTHS,
        "shortMonths": [month[:3] for month in _EN_MONTHS],
    },
    "zh": {
        "dateTime": "%x %X",
        "date": "%Y-%m-%d",
        "time": "%H:%M:%S",
        "periods": ["上午", "下午"],
        "days": _ZH_DAYS,
        "shortDays": [day.replace("星期", "周") for day in _ZH_DAYS],
        "months": [f"{month}月" for month in range(1, 13)],
        "shortMonths": [f"{month}月" for month in range(1, 13)],
    },
}


@dataclass(frozen=True)
class Chart:
    """One chart of a section: what the board and the report draw.

    `filter` names the page parameter a click sets from column `k`; `filters` names two, from columns `k` and `k2`.
    `selected` holds the chosen keys (for `filters`: two lists of them).
    """

    id: str
    title: str
    subtitle: str
    spec: dict[str, Any]
    rows: list[dict[str, Any]]
    filter: str | None = None
    filters: tuple[str, str] | None = None
    selected: tuple[Any, ...] = ()
    alt: str = ""
    wide: bool = False

    def payload(self) -> dict[str, Any]:
        """The chart as the board receives it, JSON only."""
        return {
            "id": self.id,
            "title": self.title,
            "subtitle": self.subtitle,
            "spec": self.spec,
            "rows": self.rows,
            "filter": self.filter,
            "filters": list(self.filters) if self.filters else None,
            "selected": [list(value) if isinstance(value, tuple) else value for value in self.selected],
            "alt": self.alt or f"{self.title}. {self.subtitle}",
            "wide": self.wide,
        }


# ---------------------------------------------------------------- the look


def chart_config(mode: Literal["light", "dark"] = "light", *, font: str = FONT) -> dict[str, Any]:
    """Vega-Lite `config` of the light or the dark look: quiet grid, no frame, one font with Chinese in it."""
    ink = LIGHT if mode == "light" else DARK
    axis = {
        "domain": False,
        "ticks": False,
        "gridColor": ink["grid"],
        "labelColor": ink["soft"],
        "titleColor": ink["soft"],
        "labelFontSize": 12,
        "titleFontSize": 12,
        "titleFontWeight": "normal",
        "labelPadding": 6,
        "titlePadding": 10,
        "labelLimit": 200,
        "labelFlush": False,
        "labelOverlap": "greedy",
        "labelSeparation": 6,
    }
    return {
        "background": "transparent",
        "font": font,
        "padding": 2,
        "view": {"stroke": None},
        "axis": axis,
        "axisY": {"minExtent": 28},
        "axisBand": {"labelOverlap": False},
        "legend": {
            "orient": "top",
            "direction": "horizontal",
            "titleColor": ink["soft"],
            "labelColor": ink["soft"],
            "titleFontSize": 12,
            "titleFontWeight": "normal",
            "labelFontSize": 12,
            "symbolType": "square",
            "symbolSize": 120,
            "offset": 8,
            "layout": {"top": {"anchor": "start"}},
        },
        "range": {"category": list(CATEGORIES)},
        "text": {"color": ink["ink"], "fontSize": 12},
        "title": {"color": ink["ink"], "fontSize": 14, "anchor": "start"},
    }


def look() -> dict[str, Any]:
    """What the browser needs to draw light and dark: both configs, the exchange of colours, both locales."""
    return {
        "light": chart_config("light"),
        "dark": chart_config("dark"),
        "swap": {LIGHT[name]: DARK[name] for name in LIGHT},
        "number": NUMBER_LOCALE,
        "time": TIME_LOCALE,
    }


def palette_css() -> str:
    """The palette as CSS variables `--as-<name>`, light and dark."""
    light = "".join(f"--as-{name}:{colour};" for name, colour in LIGHT.items())
    dark = "".join(f"--as-{name}:{colour};" for name, colour in DARK.items())
    return f':root{{{light}--as-font:{FONT};}}\n:root[data-as-theme="dark"]{{{dark}}}\n'


@cache
def altair() -> ModuleType:
    """Altair with our theme registered and on; imported here since it takes a second and not every page draws."""
    with without_address_grammar():
        import altair as alt

    @alt.theme.register("aftersales", enable=True)
    def theme() -> Any:
        return {"config": chart_config("light", font=EXPORT_FONT)}

    return alt


# ---------------------------------------------------------------- numbers and rows


def missing(value: Any) -> bool:
    """Whether there is no value: None or not a number."""
    return value is None or (isinstance(value, float) and math.isnan(value))


def number_text(value: float | None, number: Number = "count") -> str:
    """`value` as readers see it: 1,204; 3.4 %; 12.7; 6.1x. Empty for a missing value."""
    if value is None or missing(value):
        return ""
    if number == "share":
        return f"{value * 100:,.1f} %" if abs(value) >= 0.001 or value == 0 else f"{value * 100:,.2g} %"
    if number == "count":
        return f"{value:,.0f}"
    text = f"{value:,.1f}" if abs(value) >= 0.1 or value == 0 else f"{value:,.2g}"
    return f"{text}x" if number == "ratio" else text


def interval_text(low: float | None, high: float | None, number: Number = "count") -> str:
    """Interval as text, "[2.1 %, 3.4 %]"; empty when a side is missing."""
    low_text, high_text = number_text(low, number), number_text(high, number)
    return f"[{low_text}, {high_text}]" if low_text and high_text else ""


def records(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of `table` as JSON: missing is None, instants are local ISO texts without a zone."""
    return json.loads(table.to_json(orient="records", date_format="iso", date_unit="s"))


def _words(lang: Lang, words: Mapping[str, str] | None) -> dict[str, str]:
    return WORDS[lang] | dict(words or {})


def _ready(table: pd.DataFrame, number: Number, optional: Sequence[str] = ()) -> pd.DataFrame:
    """Copy with the columns a spec may name: a rank, texts for labels and tooltips, and optional columns as missing."""
    ready = table.reset_index(drop=True).copy()
    for column in ("low", "high", "n", "base", *optional):
        if column not in ready:
            ready[column] = None
    ready["rank"] = range(len(ready))
    ready["value_text"] = [number_text(value, number) for value in ready["value"]]
    ready["interval"] = [interval_text(*pair, number) for pair in zip(ready["low"], ready["high"], strict=True)]
    return ready


# ---------------------------------------------------------------- parts of a spec


def _spec(chart: alt.TopLevelMixin) -> dict[str, Any]:
    """The chart as a dict: no data, no config (the page and the report apply theirs), no schema address."""
    # validated in the tests: validation costs more than drawing
    spec = chart.to_dict(validate=False)
    for name in ("config", "$schema", "datasets"):
        spec.pop(name, None)
    # the width comes from the card, the height from the rows
    return spec | {"autosize": {"type": "fit-x", "contains": "padding"}}


_drawn: dict[str, str] = {}


def _once(*key: Any, draw: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The spec for `key`, made once: Altair takes 40 ms for a chart, and a click redraws the page with the same specs.

    `key` holds everything the spec depends on, so rows and selections are no part of it.
    """
    name = json.dumps(key, ensure_ascii=False)
    if name not in _drawn:
        if len(_drawn) >= 500:
            _drawn.clear()
        _drawn[name] = json.dumps(draw())
    spec: dict[str, Any] = json.loads(_drawn[name])
    return spec


def _base() -> alt.Chart:
    alt = altair()
    return alt.Chart(alt.NamedData("source"))


def _selection() -> alt.Parameter:
    return altair().param(name="sel", value=[])


def _chosen(test: str = "length(sel) == 0 || indexof(sel, datum.k) >= 0", rest: float = 0.3) -> Any:
    """Opacity of a mark: full when nothing is chosen or its own key is."""
    alt = altair()
    return alt.condition(test, alt.value(1), alt.value(rest))


def _row_axis(field: str = "label") -> alt.Y:
    """Categories from top to bottom in the order of the rows."""
    alt = altair()
    return alt.Y(
        f"{field}:N",
        sort=alt.EncodingSortField(field="rank", op="min", order="ascending"),
        axis=alt.Axis(title=None, grid=False, labelPadding=8, labelColor=LIGHT["ink"]),
    )


def _value_axis(quantity: str, number: Number, lang: Lang, **options: Any) -> alt.Axis:
    """Axis of a quantity with its unit; few ticks; 万 for large counts in Chinese."""
    alt = altair()
    if number == "count" and lang == "zh":
        ten_thousands = "format(datum.value / 10000, ',.2~f') + '万'"
        options["labelExpr"] = f"datum.value >= 10000 ? {ten_thousands} : format(datum.value, ',~f')"
    if number == "count":
        options["tickMinStep"] = 1
    return alt.Axis(**({"title": quantity, "format": _AXIS_FORMATS[number], "tickCount": 5} | options))


def _upright(quantity: str, number: Number, lang: Lang, title_y: int) -> alt.Axis:
    """Axis of a vertical quantity whose title lies flat above the plot, where it can be read."""
    return _value_axis(
        quantity,
        number,
        lang,
        titleAngle=0,
        titleAlign="left",
        titleAnchor="start",
        titleBaseline="bottom",
        titleX=-26,
        titleY=title_y,
    )


def _tips(*pairs: tuple[str, str, str | None]) -> list[alt.Tooltip]:
    """Tooltip lines from (field with type, title, format)."""
    alt = altair()
    return [alt.Tooltip(field, title=title, **({"format": fmt} if fmt else {})) for field, title, fmt in pairs]


def _figure_tips(name: str, quantity: str, words: Mapping[str, str]) -> list[alt.Tooltip]:
    """Dimension, value with interval, n and base."""
    return _tips(
        ("label:N", name, None),
        ("value_text:N", quantity, None),
        ("interval:N", words["interval"], None),
        ("n:Q", words["n"], ",.0f"),
        ("base:Q", words["base"], ",.0f"),
    )


def _side_text(field: str, dx: int, *, bold: bool = False) -> alt.Chart:
    """A column of texts right of the plot, one per row."""
    alt = altair()
    return (
        _base()
        .mark_text(align="right", dx=dx, fontWeight="bold" if bold else "normal")
        .encode(y=_row_axis(), x=alt.value("width"), text=f"{field}:N", opacity=_chosen(rest=0.5))
    )


def _click_area(tips: list[alt.Tooltip], *, clickable: bool) -> alt.Chart:
    """An unseen rectangle over each whole row, so that short bars can be hit too."""
    return (
        _base()
        .mark_rect(fill="transparent", cursor="pointer" if clickable else "default")
        .encode(y=_row_axis(), tooltip=tips)
    )


def _rows_plot(layers: Iterable[alt.Chart], *, step: int) -> dict[str, Any]:
    """Layers over a row axis, as wide as the card and as high as the rows need."""
    alt = altair()
    chart = alt.layer(*layers).add_params(_selection())
    return _spec(chart.properties(width="container", height=alt.Step(step)))


# ---------------------------------------------------------------- charts over groups


def ranked_bars(
    rows: pd.DataFrame,
    *,
    id: str,
    title: str,
    quantity: str,
    subtitle: str = "",
    name: str = "",
    number: Number = "count",
    lang: Lang = "en",
    words: Mapping[str, str] | None = None,
    accent: Sequence[Any] | None = None,
    colour: Literal["accent", "bad"] = "accent",
    filter: str | None = None,
    selected: Sequence[Any] = (),
    alt_text: str = "",
    wide: bool = False,
) -> Chart:
    """Horizontal bars in the order of the rows, each with its value; whiskers and cumulative share where given.

    Parameters
    ----------
    rows
        Columns `k`, `label`, `value`; optional `low`, `high`, `n`, `base`, `share` (cumulative, 0..1). At most 20.
    quantity
        Axis title: quantity and unit, e.g. "Failures" or "Failures per 10k unit-months".
    name
        What a row is ("Supplier"), for the tooltip.
    accent
        Keys drawn in colour, the rest grey; None colours all.
    """
    said = _words(lang, words)
    ready = _ready(rows, number, ["share"])
    ready["accent"] = True if accent is None else ready["k"].isin(list(accent))
    ready["share_text"] = [number_text(value, "share").replace(".0 %", " %") for value in ready["share"]]
    has_share, has_interval = (bool(ready["share"].notna().any()), bool(ready["low"].notna().any()))

    def draw() -> dict[str, Any]:
        alt = altair()
        tips = _figure_tips(name, quantity, said)
        if has_share:
            tips += _tips(("share_text:N", said["share"], None))
        bars = (
            _base()
            .mark_bar(height={"band": 0.68}, cornerRadiusEnd=2)
            .encode(
                y=_row_axis(),
                x=alt.X("value:Q", axis=_value_axis(quantity, number, lang), scale=alt.Scale(zero=True)),
                color=alt.condition("datum.accent", alt.value(LIGHT[colour]), alt.value(LIGHT["rest"])),
                opacity=_chosen(),
            )
        )
        layers = [bars]
        if has_interval:
            layers.append(
                _base().mark_rule(strokeWidth=1.5, color=LIGHT["ink"]).encode(y=_row_axis(), x="low:Q", x2="high:Q")
            )
        layers.append(_side_text("value_text", 62, bold=True))
        if has_share:
            layers.append(_side_text("share_text", 116))
        layers.append(_click_area(tips, clickable=filter is not None))
        return _rows_plot(layers, step=26)

    return Chart(
        id=id,
        title=title,
        subtitle=subtitle,
        spec=_once(
            "ranked_bars",
            quantity,
            name,
            number,
            lang,
            colour,
            filter is not None,
            has_share,
            has_interval,
            said,
            draw=draw,
        ),
        rows=records(ready),
        filter=filter,
        selected=tuple(selected),
        alt=alt_text,
        wide=wide,
    )


def rates_with_intervals(
    rows: pd.DataFrame,
    *,
    id: str,
    title: str,
    quantity: str,
    overall: float,
    subtitle: str = "",
    name: str = "",
    number: Number = "share",
    lang: Lang = "en",
    words: Mapping[str, str] | None = None,
    accent_when: Literal["above", "below"] = "above",
    filter: str | None = None,
    selected: Sequence[Any] = (),
    alt_text: str = "",
    wide: bool = False,
) -> Chart:
    """A dot and its interval per group, with a rule at the overall rate.

    Groups whose whole interval lies on the wrong side of `overall` (`accent_when`) are coloured, the rest are grey.
    `rows` as in `ranked_bars`, with `low` and `high`.
    """
    said = _words(lang, words)
    ready = _ready(rows, number)
    ready["overall"] = float(overall)

    def draw() -> dict[str, Any]:
        alt = altair()
        test = "datum.low > datum.overall" if accent_when == "above" else "datum.high < datum.overall"
        colour = alt.condition(test, alt.value(LIGHT["bad"]), alt.value(LIGHT["faint"]))
        axis = _value_axis(quantity, number, lang)
        overall_text = f"'{said['overall']} ' + format(datum.overall, '{FORMATS[number]}')"
        line = _base().transform_aggregate(overall="mean(overall)")
        layers = [
            line.mark_rule(strokeDash=[4, 3], color=LIGHT["soft"]).encode(x="overall:Q"),
            line.transform_calculate(text=overall_text)
            .mark_text(align="left", baseline="bottom", dx=4, dy=-3, color=LIGHT["soft"])
            .encode(x="overall:Q", y=alt.value(0), text="text:N"),
            _base()
            .mark_rule(strokeWidth=3, strokeCap="round")
            .encode(y=_row_axis(), x="low:Q", x2="high:Q", color=colour, opacity=_chosen()),
            _base()
            .mark_circle(size=80, opacity=1)
            .encode(
                y=_row_axis(),
                x=alt.X("value:Q", axis=axis, scale=alt.Scale(zero=True)),
                color=colour,
                opacity=_chosen(),
            ),
            _side_text("value_text", 62, bold=True),
            _click_area(_figure_tips(name, quantity, said), clickable=filter is not None),
        ]
        return _rows_plot(layers, step=26)

    return Chart(
        id=id,
        title=title,
        subtitle=subtitle,
        spec=_once("rates", quantity, name, number, lang, accent_when, filter is not None, said, draw=draw),
        rows=records(ready),
        filter=filter,
        selected=tuple(selected),
        alt=alt_text,
        wide=wide,
    )


def ledger_bars(
    rows: pd.DataFrame,
    *,
    id: str,
    title: str,
    subtitle: str = "",
    quantity: str = "",
    name: str = "",
    lang: Lang = "en",
    words: Mapping[str, str] | None = None,
    filter: str | None = None,
    selected: Sequence[Any] = (),
    alt_text: str = "",
    wide: bool = False,
) -> Chart:
    """What became of the rows of each source: accepted, duplicate, rejected, stacked, with the counts as text.

    `rows`: columns `k`, `label`, `accepted`, `rejected`, `duplicate` (counts).
    """
    said = _words(lang, words)
    parts = ["accepted", "duplicate", "rejected"]
    wide_rows = rows.reset_index(drop=True)
    wide_rows = wide_rows.assign(rank=range(len(wide_rows)), total=wide_rows[parts].sum(axis=1))
    ready = wide_rows.melt(
        id_vars=["k", "label", "rank", "total"], value_vars=parts, var_name="part", value_name="value"
    )
    ready["order"] = ready["part"].map({part: place for place, part in enumerate(parts)})
    ready["part_text"] = ready["part"].map(said)
    ready["total_text"] = [number_text(value) for value in ready["total"]]
    ready = ready.sort_values(["rank", "order"], ignore_index=True)
    rejected = wide_rows.set_index("k")["rejected"]
    ready["rejected_text"] = [f"{number_text(rejected[k])} {said['rejected']}" for k in ready["k"]]

    def draw() -> dict[str, Any]:
        alt = altair()
        first = _base().transform_filter("datum.order == 0")
        stack = (
            _base()
            .mark_bar(height={"band": 0.68}, cursor="pointer" if filter else "default")
            .encode(
                y=_row_axis(),
                x=alt.X("value:Q", stack="zero", axis=_value_axis(quantity or said["rows"], "count", lang)),
                order="order:O",
                color=alt.Color(
                    "part_text:N",
                    scale=alt.Scale(
                        domain=[said[part] for part in parts], range=[LIGHT["accent"], LIGHT["rest"], LIGHT["bad"]]
                    ),
                    legend=alt.Legend(title=None),
                ),
                opacity=_chosen(),
                tooltip=_tips(
                    ("label:N", name, None),
                    ("part_text:N", said["rows"], None),
                    ("value:Q", said["n"], ",.0f"),
                    ("total:Q", said["base"], ",.0f"),
                ),
            )
        )

        def side(field: str, dx: int, **mark: Any) -> Any:
            text = first.mark_text(align="right", dx=dx, **mark)
            return text.encode(y=_row_axis(), x=alt.value("width"), text=f"{field}:N")

        layers = [stack, side("total_text", 66, fontWeight="bold"), side("rejected_text", 160, color=LIGHT["soft"])]
        return _rows_plot(layers, step=28)

    return Chart(
        id=id,
        title=title,
        subtitle=subtitle,
        spec=_once("ledger", quantity, name, lang, filter is not None, said, draw=draw),
        rows=records(ready),
        filter=filter,
        selected=tuple(selected),
        alt=alt_text,
        wide=wide,
    )


def before_after(
    rows: pd.DataFrame,
    *,
    id: str,
    title: str,
    quantity: str,
    subtitle: str = "",
    name: str = "",
    number: Number = "share",
    lang: Lang = "en",
    words: Mapping[str, str] | None = None,
    filter: str | None = None,
    selected: Sequence[Any] = (),
    alt_text: str = "",
    wide: bool = False,
) -> Chart:
    """Rate with interval before and after, one band per group, so that a fall without the action shows too.

    `rows`: one per group and phase; columns `k` (group), `label`, `phase` ("before" | "after"), `value`, `low`, `high`,
    `n`, `base`, optional `accent` (True for the group that got the action). Groups keep the order of the rows.
    """
    said = _words(lang, words)
    ready = _ready(rows, number)
    if "accent" not in ready:
        ready["accent"] = ready["k"].eq("action")
    ready["rank"] = ready.groupby("k", sort=False).ngroup()
    ready["order"] = ready["phase"].map({"before": 0, "after": 1})
    ready["phase_text"] = ready["phase"].map(said)
    ready["end_text"] = [
        f"{phase}  {text}" for phase, text in zip(ready["phase_text"], ready["value_text"], strict=True)
    ]
    ready["tone"] = [
        "before" if order == 0 else "action" if accent else "after"
        for order, accent in zip(ready["order"], ready["accent"], strict=True)
    ]

    def draw() -> dict[str, Any]:
        alt = altair()
        colour = alt.Color(
            "tone:N",
            scale=alt.Scale(
                domain=["before", "after", "action"], range=[LIGHT["rest"], LIGHT["soft"], LIGHT["accent"]]
            ),
            legend=None,
        )
        tips = _tips(
            ("label:N", name, None),
            ("phase_text:N", said["period"], None),
            ("value_text:N", quantity, None),
            ("interval:N", said["interval"], None),
            ("n:Q", said["n"], ",.0f"),
            ("base:Q", said["base"], ",.0f"),
        )
        offset = alt.YOffset("order:O", scale=alt.Scale(domain=[0, 1], paddingInner=0.3, paddingOuter=0.5))
        layers = [
            _base()
            .mark_rule(strokeWidth=3, strokeCap="round")
            .encode(y=_row_axis(), yOffset=offset, x="low:Q", x2="high:Q", color=colour),
            _base()
            .mark_point(filled=True, size=90, opacity=1)
            .encode(
                y=_row_axis(),
                yOffset=offset,
                x=alt.X("value:Q", axis=_value_axis(quantity, number, lang), scale=alt.Scale(zero=True)),
                color=colour,
                tooltip=tips,
            ),
            _base()
            .mark_text(align="right", dx=104)
            .encode(y=_row_axis(), yOffset=offset, x=alt.value("width"), text="end_text:N", tooltip=tips),
        ]
        return _rows_plot(layers, step=30)

    return Chart(
        id=id,
        title=title,
        subtitle=subtitle,
        spec=_once("before_after", quantity, name, number, lang, said, draw=draw),
        rows=records(ready),
        filter=filter,
        selected=tuple(selected),
        alt=alt_text,
        wide=wide,
    )


def heat(
    rows: pd.DataFrame,
    *,
    id: str,
    title: str,
    row_title: str,
    column_title: str,
    subtitle: str = "",
    lang: Lang = "en",
    words: Mapping[str, str] | None = None,
    filters: tuple[str, str] | None = None,
    selected: tuple[Sequence[Any], Sequence[Any]] = ((), ()),
    alt_text: str = "",
    wide: bool = True,
) -> Chart:
    """Risk ratio of each cell against the rest: grey around 1, blue below, orange above, in classes.

    Parameters
    ----------
    rows
        One per cell: `k`, `row` (row key and label), `k2`, `column`, `value` (ratio, missing where it is refused),
        `low`, `high`, `n`, `base`; optional `accent` (True writes the ratio into the cell).
    filters
        Page parameters that a click on a cell sets, from `k` and `k2`.
    """
    said = _words(lang, words)
    ready = _ready(rows, "ratio")
    if "accent" not in ready:
        ready["accent"] = ready["low"].astype("float64") > 1.25
    classes = [LIGHT[name] for name in ("low3", "low2", "low1", "middle", "high1", "high2", "high3")]
    edges = [f"{edge:g}" for edge in HEAT_STEPS]
    labels = [f"{said['under']} {edges[0]}", *(f"{a}–{b}" for a, b in pairwise(edges))]
    labels.append(f"{said['over']} {edges[-1]}")
    ready["class"] = [
        None if missing(value) else labels[sum(value >= edge for edge in HEAT_STEPS)] for value in ready["value"]
    ]

    def draw() -> dict[str, Any]:
        alt = altair()
        test = (
            "(length(sel[0] || []) == 0 || indexof(sel[0], datum.k) >= 0) && "
            "(length(sel[1] || []) == 0 || indexof(sel[1], datum.k2) >= 0)"
        )
        y = alt.Y(
            "row:N",
            sort=alt.EncodingSortField(field="row", op="min", order="ascending"),
            axis=alt.Axis(
                title=row_title,
                grid=False,
                labelPadding=8,
                titleAngle=0,
                titleAlign="left",
                titleBaseline="bottom",
                titleAnchor="start",
                titleY=-10,
                titleX=-36,
            ),
        )
        x = alt.X(
            "column:N",
            sort=alt.EncodingSortField(field="column", op="min", order="ascending"),
            axis=alt.Axis(title=column_title, grid=False, labelAngle=0, labelOverlap="parity"),
        )
        tips = _tips(
            ("row:N", row_title, None),
            ("column:N", column_title, None),
            ("value_text:N", said["ratio"], None),
            ("interval:N", said["interval"], None),
            ("n:Q", said["n"], ",.0f"),
            ("base:Q", said["base"], ",.0f"),
        )
        cells = (
            _base()
            .mark_rect(cornerRadius=2, stroke=LIGHT["paper"], strokeWidth=2, cursor="pointer" if filters else "default")
            .encode(
                x=x,
                y=y,
                color=alt.Color(
                    "class:N",
                    scale=alt.Scale(domain=labels, range=classes),
                    legend=alt.Legend(
                        title=said["ratio"],
                        titleOrient="left",
                        columns=alt.ExprRef("width < 520 ? 2 : 7"),
                        columnPadding=12,
                        offset=26,
                    ),
                ),
                opacity=_chosen(test, 0.25),
                tooltip=tips,
            )
        )
        numbers = (
            _base()
            .transform_filter("datum.accent")
            .mark_text(
                fontWeight="bold", fontSize=11, color=HEAT_INK, opacity=alt.ExprRef("bandwidth('x') < 30 ? 0 : 1")
            )
            .encode(x=x, y=y, text="value_text:N")
        )
        unknown = (
            _base()
            .transform_filter("!isValid(datum.value)")
            .mark_text(text="·", color=LIGHT["faint"])
            .encode(x=x, y=y, tooltip=tips)
        )
        chart = alt.layer(cells, unknown, numbers).add_params(_selection())
        return _spec(chart.properties(width="container", height=alt.Step(28)))

    return Chart(
        id=id,
        title=title,
        subtitle=subtitle,
        spec=_once("heat", row_title, column_title, filters is not None, said, draw=draw),
        rows=records(ready),
        filters=filters,
        selected=tuple(tuple(keys) for keys in selected),
        alt=alt_text,
        wide=wide,
    )


def share_matrix(
    rows: pd.DataFrame,
    *,
    id: str,
    title: str,
    row_title: str,
    column_title: str,
    quantity: str,
    subtitle: str = "",
    lang: Lang = "en",
    words: Mapping[str, str] | None = None,
    filter: str | None = None,
    selected: Sequence[Any] = (),
    alt_text: str = "",
    wide: bool = True,
) -> Chart:
    """Shares of things that are as they should be, written into a grid: the paler the better, ▼ where too low.

    `rows`: one per cell: `k`, `row`, `column`, `column_order`, `value` (0..1), `low`, `high`, `n`, `base`, `below`
    (True: marked), `mark` (what the mark means, or empty).
    """
    said = _words(lang, words)
    ready = _ready(rows, "share")
    ready["cell"] = ready["below"].map({True: "▼ ", False: ""}) + ready["value_text"]
    ready["short"] = [f"{100 * value:.0f}" for value in ready["value"]]  # where a cell is too narrow for more
    ready["lacking"] = 1 - ready["value"]

    def draw() -> dict[str, Any]:
        alt = altair()
        y = alt.Y("row:N", sort=alt.EncodingSortField(field="row", op="min", order="ascending"),
                  axis=alt.Axis(title=None, grid=False, labelPadding=8, labelLimit=170))  # fmt: skip
        narrow = "bandwidth('x') < 56"
        heads = alt.Axis(
            title=quantity, titleAnchor="start", titleFontWeight="normal", orient="top", grid=False,
            labelLimit=120, labelOverlap=False, minExtent=alt.ExprRef(f"{narrow} ? 92 : 0"),
            labelAngle=alt.ExprRef(f"{narrow} ? -45 : 0"), labelAlign=alt.ExprRef(f"{narrow} ? 'left' : 'center'"),
        )  # fmt: skip
        order = alt.EncodingSortField(field="column_order", op="min", order="ascending")
        x = alt.X("column:N", sort=order, axis=heads)
        tips = _tips(
            ("row:N", row_title, None), ("column:N", column_title, None), ("value_text:N", quantity, None),
            ("interval:N", said["interval"], None), ("n:Q", said["n"], ",.0f"), ("base:Q", said["base"], ",.0f"),
            ("mark:N", " ", None),
        )  # fmt: skip
        shade = alt.Color("lacking:Q", legend=None, scale=alt.Scale(
            type="threshold", domain=[0.02, 0.2], range=[LIGHT["middle"], LIGHT["high1"], LIGHT["high3"]]))  # fmt: skip
        cells = _base().mark_rect(cornerRadius=2, stroke=LIGHT["paper"], strokeWidth=2,
                                  cursor="pointer" if filter else "default")  # fmt: skip
        cells = cells.encode(x=x, y=y, color=shade, opacity=_chosen(), tooltip=tips)
        ink = alt.condition("datum.lacking >= 0.2", alt.value(HEAT_INK), alt.value(LIGHT["ink"]))

        def numbers(text: str, size: int, shown: str) -> Any:
            mark = _base().mark_text(fontSize=size, opacity=alt.ExprRef(f"{shown} ? 1 : 0"))
            return mark.encode(x=x, y=y, text=f"{text}:N", tooltip=tips, color=ink)

        chart = alt.layer(cells, numbers("cell", 12, f"!({narrow})"), numbers("short", 11, narrow))
        return _spec(chart.add_params(_selection()).properties(width="container", height=alt.Step(30)))

    return Chart(
        id=id,
        title=title,
        subtitle=subtitle,
        spec=_once("share_matrix", row_title, column_title, quantity, lang, filter is not None, said, draw=draw),
        rows=records(ready),
        filter=filter,
        selected=tuple(selected),
        alt=alt_text,
        wide=wide,
    )


# ---------------------------------------------------------------- charts over time


def _month_axis(grain: Grain, lang: Lang, periods: int) -> alt.Axis:
    """Ticks at months or quarters; the year stands below January and below the first tick only."""
    alt = altair()
    year = "timeFormat(datum.value, '%Y年')" if lang == "zh" else "timeFormat(datum.value, '%Y')"
    small = "'Q' + quarter(datum.value)" if grain == "quarter" else "timeFormat(datum.value, '%b')"
    first = "month(datum.value) == 0 || datum.index == 0"
    months = periods * (3 if grain == "quarter" else 1)
    step = next((step for step, most in ((1, 14), (3, 40), (6, 72)) if months <= most), 12)
    if grain == "quarter":
        step = max(step, 3)
    return alt.Axis(
        title=None,
        grid=False,
        ticks=True,
        tickColor=LIGHT["grid"],
        domain=True,
        domainColor=LIGHT["rest"],
        labelExpr=f"{first} ? [{small}, {year}] : {small}",
        tickCount={"interval": "month", "step": step},
        labelOverlap="greedy",
        labelFlush=False,
    )


def _with_events(table: pd.DataFrame, events: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Period rows first, then one row per event, told apart by `kind`; labels that would touch stand in other lanes."""
    import pandas as pd

    rows = [{**row, "kind": "period"} for row in records(table)]
    start, end = table["period"].min(), table["period"].max()
    ends = [-1.0] * EVENT_LANES
    for event in sorted(events, key=lambda event: str(event["period"])):
        day = pd.Timestamp(event["period"]).tz_localize(None)
        place = (day - start) / (end - start) if end > start else 0.0
        lane = next((lane for lane in range(EVENT_LANES) if ends[lane] <= place), 0)
        ends[lane] = place + 0.2
        side = "right" if place > 0.8 else "left"
        text = {"event": str(event["label"]), "lane": lane, "side": side}
        rows.append({"kind": "event", "period": day.strftime("%Y-%m-%dT00:00:00"), **text})
    return rows


def _event_places(rows: Sequence[Mapping[str, Any]]) -> list[tuple[int, Any]]:
    """Lanes and sides that event labels use; the only thing of the events a spec depends on."""
    return sorted({(row["lane"], row["side"]) for row in rows if row["kind"] == "event"})


def _event_layers(rows: Sequence[Mapping[str, Any]], words: Mapping[str, str]) -> list[alt.Chart]:
    """Thin vertical rules, each with its label above the plot."""
    alt = altair()
    tips = _tips(("event:N", words["event"], None), ("period:T", words["period"], "%Y-%m-%d"))
    layers: list[Any] = []
    for lane, side in _event_places(rows):
        test = f"datum.kind == 'event' && datum.lane == {lane} && datum.side == '{side}'"
        here = _base().transform_filter(test)
        top = -4 - 15 * lane
        rule = here.mark_rule(color=LIGHT["faint"], strokeWidth=1)
        layers.append(rule.encode(x="period:T", y=alt.value(top), y2=alt.value("height"), tooltip=tips))
        label = here.mark_text(
            align=side, baseline="bottom", dx=4 if side == "left" else -4, fontSize=11, color=LIGHT["soft"], limit=170
        )
        layers.append(label.encode(x="period:T", y=alt.value(top + 4), text="event:N", tooltip=tips))
    return layers


def _title_height(rows: Sequence[Mapping[str, Any]]) -> int:
    """Where the title of the upright axis stands, so that it is above all event labels."""
    lanes = [row["lane"] for row in rows if row["kind"] == "event"]
    return -14 - 15 * (max(lanes) + 1) if lanes else -14


def _period_format(grain: Grain, lang: Lang) -> str:
    if grain == "quarter":
        return "%Y年 Q%q" if lang == "zh" else "%Y Q%q"
    return "%Y年%-m月" if lang == "zh" else "%b %Y"


def _period_tips(quantity: str, grain: Grain, lang: Lang, words: Mapping[str, str]) -> list[alt.Tooltip]:
    return _tips(
        ("period:T", words["period"], _period_format(grain, lang)),
        ("value_text:N", quantity, None),
        ("interval:N", words["interval"], None),
        ("n:Q", words["n"], ",.0f"),
        ("base:Q", words["base"], ",.0f"),
        ("ripe_text:N", words["ripe"], None),
    )


def _periods(rows: pd.DataFrame, number: Number, words: Mapping[str, str]) -> pd.DataFrame:
    """Ready rows over time; `tail` marks the unripe end with the ripe point it leaves from."""
    import pandas as pd

    ready = _ready(rows, number, ["compare"])
    ready["period"] = pd.to_datetime(ready["period"]).dt.tz_localize(None)
    ready["ripe"] = ready["ripe"].astype(bool) if "ripe" in ready else True
    ready["tail"] = ~ready["ripe"] | ~ready["ripe"].shift(-1, fill_value=True)
    ready["ripe_text"] = ready["ripe"].map({True: words["yes"], False: words["no"]})
    ready["is_last"] = ready.index == len(ready) - 1
    return ready


def trend(
    rows: pd.DataFrame,
    *,
    id: str,
    title: str,
    quantity: str,
    subtitle: str = "",
    number: Number = "rate",
    grain: Grain = "month",
    lang: Lang = "en",
    words: Mapping[str, str] | None = None,
    events: Sequence[Mapping[str, Any]] = (),
    compare_label: str = "",
    zero: bool = True,
    filter: str | None = None,
    selected: Sequence[Any] = (),
    alt_text: str = "",
    wide: bool = False,
) -> Chart:
    """A line over months or quarters with the band of its interval; unripe periods grey and dashed.

    Parameters
    ----------
    rows
        `period` (date), `value`; optional `low`, `high`, `n`, `base`, `ripe`, `compare` (a second, grey series).
        A missing value is a gap.
    events
        {"period": date, "label": text}: drawn as rules.
    zero
        Whether the axis starts at zero; only a level that never comes near it (a score) may say no.
    """
    said = _words(lang, words)
    ready = _periods(rows, number, said)
    data = _with_events(ready, events)
    has_compare = bool(ready["compare"].notna().any())

    def draw() -> dict[str, Any]:
        alt = altair()
        x = alt.X("period:T", axis=_month_axis(grain, lang, len(ready)), scale=alt.Scale(padding=8))
        y = alt.Y(
            "value:Q", axis=_upright(quantity, number, lang, _title_height(data)), scale=alt.Scale(zero=zero, nice=True)
        )
        periods = _base().transform_filter("datum.kind == 'period'")
        ripe, tail = (periods.transform_filter("datum.ripe"), periods.transform_filter("datum.tail"))
        layers = [ripe.mark_area(opacity=0.15, color=LIGHT["accent"]).encode(x=x, y="low:Q", y2="high:Q")]
        if has_compare:
            grey = periods.transform_filter("isValid(datum.compare)")
            layers.append(grey.mark_line(color=LIGHT["rest"], strokeWidth=2).encode(x=x, y="compare:Q"))
            last = periods.transform_filter("datum.is_last")
            layers.append(
                last.transform_calculate(text=json.dumps(compare_label or said["compare"], ensure_ascii=False))
                .mark_text(align="right", baseline="top", dy=7, fontSize=11, color=LIGHT["soft"])
                .encode(x=x, y="compare:Q", text="text:N")
            )
        layers += [
            tail.mark_line(color=LIGHT["rest"], strokeWidth=2, strokeDash=[4, 4]).encode(x=x, y=y),
            ripe.mark_line(color=LIGHT["accent"], strokeWidth=2.5).encode(x=x, y=y),
            periods.mark_point(filled=True, size=36, opacity=1).encode(
                x=x, y=y, color=alt.condition("datum.ripe", alt.value(LIGHT["accent"]), alt.value(LIGHT["rest"]))
            ),
            *_event_layers(data, said),
            periods.mark_rule(opacity=0, strokeWidth=14).encode(x=x, tooltip=_period_tips(quantity, grain, lang, said)),
        ]
        chart = alt.layer(*layers).add_params(_selection())
        return _spec(chart.properties(width="container", height=230))

    return Chart(
        id=id,
        title=title,
        subtitle=subtitle,
        spec=_once(
            "trend",
            quantity,
            number,
            grain,
            lang,
            len(ready),
            has_compare,
            compare_label,
            zero,
            _event_places(data),
            said,
            draw=draw,
        ),
        rows=data,
        filter=filter,
        selected=tuple(selected),
        alt=alt_text,
        wide=wide,
    )


def monthly_counts(
    rows: pd.DataFrame,
    *,
    id: str,
    title: str,
    quantity: str,
    subtitle: str = "",
    grain: Grain = "month",
    lang: Lang = "en",
    words: Mapping[str, str] | None = None,
    events: Sequence[Mapping[str, Any]] = (),
    filter: str | None = None,
    selected: Sequence[Any] = (),
    alt_text: str = "",
    wide: bool = False,
) -> Chart:
    """Counts per month or quarter as bars from zero; unripe periods grey; events as rules.

    `rows`: `period` (date), `value`; optional `k` (what a click reports), `n`, `base`, `ripe`.
    """
    said = _words(lang, words)
    ready = _periods(rows, "count", said)
    if "k" not in ready:
        ready["k"] = ready["period"].dt.strftime("%Y-%m")
    data = _with_events(ready, events)

    def draw() -> dict[str, Any]:
        alt = altair()
        unit = "yearquarter" if grain == "quarter" else "yearmonth"
        periods = _base().transform_filter("datum.kind == 'period'")
        bars = periods.mark_bar(
            cornerRadiusEnd=1, width={"band": 0.8}, cursor="pointer" if filter else "default"
        ).encode(
            x=alt.X("period:T", timeUnit=unit, axis=_month_axis(grain, lang, len(ready))),
            y=alt.Y("value:Q", axis=_upright(quantity, "count", lang, _title_height(data)), scale=alt.Scale(zero=True)),
            color=alt.condition("datum.ripe", alt.value(LIGHT["accent"]), alt.value(LIGHT["unripe"])),
            opacity=_chosen(),
            tooltip=_period_tips(quantity, grain, lang, said),
        )
        chart = alt.layer(bars, *_event_layers(data, said)).add_params(_selection())
        return _spec(chart.properties(width="container", height=200))

    return Chart(
        id=id,
        title=title,
        subtitle=subtitle,
        spec=_once(
            "monthly_counts",
            quantity,
            grain,
            lang,
            len(ready),
            filter is not None,
            _event_places(data),
            said,
            draw=draw,
        ),
        rows=data,
        filter=filter,
        selected=tuple(selected),
        alt=alt_text,
        wide=wide,
    )


def volume_bars(
    rows: pd.DataFrame,
    *,
    id: str,
    title: str,
    quantity: str,
    expected: str,
    state: str,
    subtitle: str = "",
    lang: Lang = "en",
    words: Mapping[str, str] | None = None,
    alt_text: str = "",
    wide: bool = False,
) -> Chart:
    """Counts per week as bars over the band of what was to be expected; implausible ones in the warning colour.

    `rows`: `period` (first day), `value`, `expected`, `low`, `high` (missing where nothing can be expected), `state`
    (`too_few`, `too_many` and `missing` are marked with ▼ and ▲), `state_text`.
    """
    import pandas as pd

    said = _words(lang, words)
    ready = rows.assign(period=pd.to_datetime(rows["period"]))
    ready["odd"] = ready["state"].isin(["too_few", "too_many", "missing"])
    ready["mark"] = ready["state"].map({"too_few": "▼", "missing": "▼", "too_many": "▲"}).fillna("")
    ready["is_open"] = ready["state"] == "open"
    ready["interval"] = [
        interval_text(low, high, "count") if not missing(low) else ""
        for low, high in zip(ready["low"], ready["high"], strict=True)
    ]
    ready["high"] = ready["high"].clip(upper=2 * max(ready["value"].max(), ready["expected"].max(), 1))  # drawn so far
    kept = ["period", "value", "expected", "low", "high", "odd", "mark", "is_open", "interval", "state_text"]

    def draw() -> dict[str, Any]:
        alt = altair()
        x = alt.X("period:T", axis=_month_axis("month", lang, max(len(ready) // 4, 1)), scale=alt.Scale(padding=8))
        y = alt.Y("value:Q", axis=_upright(quantity, "count", lang, -14), scale=alt.Scale(zero=True))
        tips = _tips(
            ("period:T", said["period"], "%Y-%m-%d"), ("value:Q", quantity, ",.0f"), ("expected:Q", expected, ",.0f"),
            ("interval:N", expected, None), ("state_text:N", state, None),
        )  # fmt: skip
        known = _base().transform_filter("isValid(datum.low)")
        band = known.mark_area(opacity=0.18, color=LIGHT["rest"], interpolate="monotone")
        middle = known.mark_line(color=LIGHT["rest"], strokeDash=[4, 4], strokeWidth=1.5, interpolate="monotone")
        shade = (
            alt.when("datum.odd").then(alt.value(LIGHT["bad"]))
            .when("datum.is_open").then(alt.value(LIGHT["unripe"])).otherwise(alt.value(LIGHT["accent"]))
        )  # fmt: skip
        bars = _base().mark_bar(size=7, cornerRadiusEnd=1).encode(x=x, y=y, tooltip=tips, color=shade)
        marks = _base().transform_filter("datum.odd").mark_text(dy=-9, fontSize=11, color=LIGHT["bad"])
        layers = [
            band.encode(x=x, y="low:Q", y2="high:Q"),
            middle.encode(x=x, y="expected:Q"),
            bars,
            marks.encode(x=x, y=y, text="mark:N", tooltip=tips),
        ]
        return _spec(alt.layer(*layers).add_params(_selection()).properties(width="container", height=150))

    return Chart(
        id=id,
        title=title,
        subtitle=subtitle,
        spec=_once("volume", quantity, expected, state, lang, len(ready), said, draw=draw),
        rows=records(ready[kept]),
        alt=alt_text,
        wide=wide,
    )


# ---------------------------------------------------------------- where data come from and go to

FLOW_ROW = 26
"""Height of one name in a flow, in pixels."""


def flow(
    links: pd.DataFrame,
    *,
    id: str,
    title: str,
    heads: tuple[str, str, str],
    subtitle: str = "",
    filter: str | None = None,
    selected: Sequence[Any] = (),
    alt_text: str = "",
) -> Chart:
    """Three columns of names and the lines between neighbours: what feeds what.

    Parameters
    ----------
    links
        One row per line: `left` and `right` (names), `stage` (0: first to second column, 1: second to third), `middle`
        (the one of the two that stands in the middle) with its key `k`, `n` (how many columns the line stands for).
        A middle name without lines comes with stage -1. The same name may stand in two columns.
    heads
        What stands in the three columns.
    filter
        Page parameter that a click on a middle name or its lines sets.
    """
    columns = _flow_columns(links)
    rows = [
        *_flow_heads(heads),
        *_flow_names(columns, links, set(selected)),
        *_flow_lines(columns, links, set(selected)),
    ]
    height = FLOW_ROW * (max(len(names) for names in columns) + 1)

    def draw() -> dict[str, Any]:
        alt = altair()

        def x_of(field: str) -> Any:
            return alt.X(f"{field}:Q", scale=alt.Scale(domain=[0, 1]), axis=None)

        def y_of(field: str) -> Any:
            return alt.Y(f"{field}:Q", scale=alt.Scale(domain=[0, height], reverse=True), axis=None)

        x, y = x_of("x"), y_of("y")
        shade = alt.condition("datum.on", alt.value(1), alt.value(0.25))

        def kind(name: str) -> Any:
            return _base().transform_filter(f"datum.kind == '{name}'")

        lines = (
            kind("line")
            .mark_line(interpolate="basis", cursor="pointer" if filter else "default")
            .encode(x=x, y=y, detail="path:N", order="place:O", opacity=shade, tooltip=_tips(("what:N", title, None)),
                    strokeWidth=alt.StrokeWidth("weight:Q", scale=None),
                    color=alt.condition("datum.accent", alt.value(LIGHT["accent"]), alt.value(LIGHT["rest"])))
        )  # fmt: skip
        boxes = (
            kind("middle")
            .mark_rect(cornerRadius=4, fill=LIGHT["middle"], cursor="pointer" if filter else "default")
            .encode(
                x=x_of("x1"),
                x2="x2:Q",
                y=y_of("top"),
                y2="bottom:Q",
                opacity=shade,
                tooltip=_tips(("label:N", heads[1], None)),
            )
        )

        def names(which: str, align: str, share: float, **mark: Any) -> Any:
            text = kind(which).mark_text(
                align=align, baseline="middle", limit=alt.ExprRef(f"width * {share}"), color=LIGHT["ink"], **mark
            )
            return text.encode(x=x, y=y, text="label:N", opacity=shade, tooltip=_tips(("label:N", "", None)))

        layers = [lines, boxes, names("left", "right", 0.27), names("middle", "center", 0.2, fontWeight="bold"),
                  names("right", "left", 0.3)]  # fmt: skip
        for place, align in (("left", "right"), ("middle", "center"), ("right", "left")):
            head = kind(f"head {place}").mark_text(align=align, baseline="middle", color=LIGHT["soft"])
            layers.append(head.encode(x=x, y=y, text="label:N"))
        chart = alt.layer(*layers).add_params(_selection())
        return _spec(chart.properties(width="container", height=height))

    return Chart(
        id=id,
        title=title,
        subtitle=subtitle,
        spec=_once("flow", title, heads, filter is not None, height, draw=draw),
        rows=rows,
        filter=filter,
        selected=tuple(selected),
        alt=alt_text,
        wide=True,
    )


_FLOW_X = (0.28, 0.40, 0.60, 0.69)
"""Ends of the lines as shares of the width: first names end, box begins, box ends, last names begin."""


def _flow_columns(links: pd.DataFrame) -> list[list[str]]:
    """The names of the three columns from top to bottom: outer ones near the middle names they belong to."""
    middle = list(dict.fromkeys(links["middle"]))
    place = {name: number for number, name in enumerate(middle)}
    columns = [middle]
    for stage, field in ((0, "left"), (1, "right")):
        mine = links[links["stage"] == stage]
        means = mine.assign(at=mine["middle"].map(place)).groupby(field, sort=False)["at"].mean()
        columns.insert(2 * stage, list(means.sort_values(kind="stable").index))
    return columns


def _flow_tops(columns: list[list[str]]) -> list[dict[str, float]]:
    """Vertical place of each name: shorter columns are spread over the height of the longest one."""
    most = max(len(names) for names in columns)
    return [
        {name: FLOW_ROW * (1.5 + (number + 0.5) * most / len(names) - 0.5) for number, name in enumerate(names)}
        for names in columns
    ]


def _flow_heads(heads: tuple[str, str, str]) -> list[dict[str, Any]]:
    places = (("left", _FLOW_X[0] - 0.01), ("middle", 0.5), ("right", _FLOW_X[3] + 0.01))
    return [
        {"kind": f"head {place}", "x": x, "y": FLOW_ROW / 2, "label": head, "on": True}
        for (place, x), head in zip(places, heads, strict=True)
    ]


def _flow_names(columns: list[list[str]], links: pd.DataFrame, selected: set[Any]) -> list[dict[str, Any]]:
    tops = _flow_tops(columns)
    keys = dict(zip(links["middle"], links["k"], strict=True))
    lit = links[links["k"].isin(selected)] if selected else links
    shown = [set(lit["left"][lit["stage"] == 0]), set(lit["middle"]), set(lit["right"][lit["stage"] == 1])]
    kinds, xs = ("left", "middle", "right"), (_FLOW_X[0] - 0.01, 0.5, _FLOW_X[3] + 0.01)
    rows = []
    for kind, x, names, on in zip(kinds, xs, tops, shown, strict=True):
        for name, y in names.items():
            row = {"kind": kind, "x": x, "y": y, "label": name, "on": name in on}
            if kind == "middle":
                row |= {"k": keys[name], "x1": _FLOW_X[1], "x2": _FLOW_X[2], "top": y - 10, "bottom": y + 10}
            rows.append(row)
    return rows


def _flow_lines(columns: list[list[str]], links: pd.DataFrame, selected: set[Any]) -> list[dict[str, Any]]:
    tops = _flow_tops(columns)
    rows = []
    for number, link in enumerate(links.to_dict("records")):
        stage = int(link["stage"])
        if stage < 0:
            continue
        start, end = tops[stage][link["left"]], tops[stage + 1][link["right"]]
        x0, x1 = _FLOW_X[2 * stage], _FLOW_X[2 * stage + 1]
        bend = (x0 + x1) / 2
        for place, (x, y) in enumerate(((x0, start), (bend, start), (bend, end), (x1, end))):
            rows.append({
                "kind": "line", "path": number, "place": place, "x": x, "y": y, "k": link["k"],
                "on": not selected or link["k"] in selected, "accent": link["k"] in selected,
                "weight": 1 + min(4.0, math.sqrt(link["n"]) / 1.5),
                "what": f"{link['left']} → {link['right']}: {link['n']:,}",
            })  # fmt: skip
    return rows
