"""Charts: what their specifications say; pixels are looked at elsewhere."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pandas as pd
import pytest

from aftersales.publish import charts
from aftersales.publish.charts import Chart, interval_text, number_text

GROUPS = pd.DataFrame(
    {
        "k": ["S02", "S01"],
        "label": ["供应商 S02", "Supplier S01"],
        "value": [0.108, 0.024],
        "low": [0.098, 0.019],
        "high": [0.117, 0.029],
        "n": [420, 101],
        "base": [3900, 4200],
    }
)
MONTHS = pd.DataFrame(
    {
        "period": pd.to_datetime(["2026-07-01", "2026-08-01", "2026-09-01", "2026-10-01"]),
        "value": [9.0, None, 12.0, 4.0],
        "low": [8.0, None, 11.0, 3.0],
        "high": [10.0, None, 13.0, 5.0],
        "n": [9, 0, 12, 4],
        "base": [10_000, 10_000, 10_000, 10_000],
        "ripe": [True, True, True, False],
    }
)
CELLS = pd.DataFrame(
    {
        "k": ["2024Q2", "2024Q3"],
        "column": ["2024Q2", "2024Q3"],
        "k2": ["S02", "S02"],
        "row": ["S02", "S02"],
        "value": [6.1, None],
        "low": [5.4, None],
        "high": [6.9, None],
        "n": [412, 1],
        "base": [3900, 12],
    }
)
LEDGER = pd.DataFrame({"k": ["crm"], "label": ["CRM"], "accepted": [90], "rejected": [4], "duplicate": [6]})
PHASES = pd.DataFrame(
    {
        "k": ["action", "action", "comparison", "comparison"],
        "label": ["With", "With", "Without", "Without"],
        "phase": ["before", "after"] * 2,
        "value": [0.061, 0.019, 0.058, 0.052],
        "low": [0.05, 0.01, 0.05, 0.04],
        "high": [0.07, 0.03, 0.07, 0.06],
        "n": [61, 19, 58, 52],
        "base": [1000] * 4,
    }
)
SAID = {"id": "c", "title": "Which one?", "subtitle": "Share of units"}

MAKERS: dict[str, Callable[..., Chart]] = {
    "ranked_bars": lambda rows=GROUPS, **o: charts.ranked_bars(
        rows, quantity="Rate (share)", number="share", **SAID, **o
    ),
    "rates": lambda rows=GROUPS, **o: charts.rates_with_intervals(
        rows, quantity="Rate (share)", overall=0.04, **SAID, **o
    ),
    "trend": lambda rows=MONTHS, **o: charts.trend(rows, quantity="Rate (share)", **SAID, **o),
    "months": lambda rows=MONTHS, **o: charts.monthly_counts(rows, quantity="Rate (share)", **SAID, **o),
    "heat": lambda rows=CELLS, **o: charts.heat(rows, row_title="Rate (share)", column_title="Batch", **SAID, **o),
    "ledger": lambda rows=LEDGER, **o: charts.ledger_bars(rows, quantity="Rate (share)", **SAID, **o),
    "before_after": lambda rows=PHASES, **o: charts.before_after(rows, quantity="Rate (share)", **SAID, **o),
}


def encodings(spec: dict[str, Any]) -> list[dict[str, Any]]:
    """All encodings of a layered spec."""
    return [layer.get("encoding", {}) for layer in spec.get("layer", [spec])]


def texts(spec: Any) -> str:
    return json.dumps(spec, ensure_ascii=False)


@pytest.mark.parametrize("lang", ["en", "zh"])
@pytest.mark.parametrize("name", MAKERS)
def test_every_spec_is_valid_and_holds_no_data_and_no_config(name: str, lang: str) -> None:
    alt = charts.altair()
    spec = MAKERS[name](lang=lang).spec
    alt.LayerChart.from_dict(spec)
    assert "config" not in spec
    assert spec["width"] == "container"
    assert '"values"' not in texts(spec)
    assert "Rate (share)" in texts(spec), "the axis names its quantity and unit"


@pytest.mark.parametrize("name", MAKERS)
def test_every_field_has_a_type(name: str) -> None:
    for encoding in encodings(MAKERS[name]().spec):
        for channel, definition in encoding.items():
            for one in definition if isinstance(definition, list) else [definition]:
                if "field" in one and channel not in ("x2", "y2"):
                    assert one.get("type"), (name, channel, one)


@pytest.mark.parametrize("name", MAKERS)
def test_other_rows_leave_the_spec_as_it_is(name: str) -> None:
    make = MAKERS[name]
    rows = {"heat": CELLS, "ledger": LEDGER, "before_after": PHASES, "trend": MONTHS, "months": MONTHS}.get(
        name, GROUPS
    )
    changed = rows.copy()
    for column in ("value", "accepted"):
        if column in changed:
            changed[column] = changed[column] * 0.9
    first, second = make(rows), make(changed)
    assert first.spec == second.spec, "the board would draw anew instead of swapping rows"
    assert first.rows != second.rows


@pytest.mark.parametrize("name", MAKERS)
def test_the_tooltip_says_n_and_base(name: str) -> None:
    lines = [line for encoding in encodings(MAKERS[name]().spec) for line in encoding.get("tooltip", [])]
    said = {line["title"] for line in lines}
    assert {"Count", "Base"} <= said


@pytest.mark.parametrize("name", ["ranked_bars", "rates", "trend", "months", "heat", "ledger", "before_after"])
def test_the_empty_table_gives_a_chart_without_rows(name: str) -> None:
    rows = {"heat": CELLS, "ledger": LEDGER, "before_after": PHASES, "trend": MONTHS, "months": MONTHS}.get(
        name, GROUPS
    )
    assert MAKERS[name](rows.iloc[:0]).rows == []


@pytest.mark.parametrize("name", ["ranked_bars", "rates", "heat", "ledger", "months"])
def test_marks_follow_the_selection(name: str) -> None:
    spec = MAKERS[name]().spec
    assert {"name": "sel", "value": []} in spec["params"]
    assert "length(sel" in texts(spec)


def test_bars_start_at_zero_and_keep_the_order_of_the_rows() -> None:
    spec = MAKERS["ranked_bars"](filter="supplier", selected=["S02"]).spec
    bars = encodings(spec)[0]
    assert bars["x"]["scale"]["zero"] is True
    assert bars["y"]["sort"] == {"field": "rank", "op": "min", "order": "ascending"}


def test_a_chart_is_json_and_remembers_what_a_click_means() -> None:
    payload = MAKERS["ranked_bars"](filter="supplier", selected=["S02"]).payload()
    assert json.loads(json.dumps(payload)) == payload
    assert (payload["filter"], payload["selected"]) == ("supplier", ["S02"])
    assert payload["alt"] == "Which one?. Share of units"
    row = payload["rows"][0]
    assert (row["k"], row["value_text"], row["interval"]) == ("S02", "10.8 %", "[9.8 %, 11.7 %]")


def test_groups_above_the_overall_rate_are_coloured() -> None:
    assert "datum.low > datum.overall" in texts(MAKERS["rates"]().spec)
    assert "datum.high < datum.overall" in texts(MAKERS["rates"](accent_when="below").spec)


def test_a_missing_month_is_a_gap_and_an_unripe_one_hangs_on_the_last_ripe_point() -> None:
    rows = MAKERS["trend"]().rows
    assert [row["value"] for row in rows] == [9.0, None, 12.0, 4.0]
    assert [row["tail"] for row in rows] == [False, False, True, True]
    assert rows[0]["period"].startswith("2026-07-01T00:00:00")
    assert not rows[0]["period"].endswith("Z"), "a month must not move with the reader's time zone"


def test_events_become_rows_and_near_labels_take_other_lanes() -> None:
    events = [{"period": "2026-08-01", "label": "Recall"}, {"period": "2026-08-10", "label": "Release"}]
    chart = MAKERS["trend"](events=events)
    held = [row for row in chart.rows if row["kind"] == "event"]
    assert [(row["event"], row["lane"]) for row in held] == [("Recall", 0), ("Release", 1)]


def test_heat_classes_are_symmetric_and_a_refused_cell_has_none() -> None:
    chart = MAKERS["heat"](filters=("batch", "supplier"), selected=(["2024Q2"], []))
    assert [row["class"] for row in chart.rows] == ["over 2", None]
    assert chart.payload()["filters"] == ["batch", "supplier"]
    assert chart.payload()["selected"] == [["2024Q2"], []]
    steps = charts.HEAT_STEPS
    assert all(abs(low * high - 1) < 0.01 for low, high in zip(steps, reversed(steps), strict=True))


def test_the_ledger_adds_up() -> None:
    rows = MAKERS["ledger"]().rows
    assert [(row["part"], row["value"]) for row in rows] == [("accepted", 90), ("duplicate", 6), ("rejected", 4)]
    assert {row["total_text"] for row in rows} == {"100"}


def test_before_stands_above_after() -> None:
    assert [row["end_text"] for row in MAKERS["before_after"]().rows[:2]] == ["before  6.1 %", "after  1.9 %"]
    assert MAKERS["before_after"](lang="zh").rows[0]["phase_text"] == "之前"


@pytest.mark.parametrize(
    ("value", "number", "text"),
    [
        (1204, "count", "1,204"),
        (0.0341, "share", "3.4 %"),
        (0, "share", "0.0 %"),
        (12.66, "rate", "12.7"),
        (6.1, "ratio", "6.1x"),
        (None, "rate", ""),
        (float("nan"), "count", ""),
    ],
)
def test_numbers_read_the_same_everywhere(value: float | None, number: charts.Number, text: str) -> None:
    assert number_text(value, number) == text


def test_half_an_interval_is_none() -> None:
    assert interval_text(0.1, None, "share") == ""
    assert interval_text(0.054, 0.069, "share") == "[5.4 %, 6.9 %]"


def test_large_counts_read_in_ten_thousands_in_chinese() -> None:
    assert "万" in texts(MAKERS["months"](lang="zh").spec)
    assert "万" not in texts(MAKERS["months"](lang="en").spec)


def test_a_spec_is_made_once_and_a_caller_cannot_spoil_it() -> None:
    first = MAKERS["rates"]()
    first.spec["layer"] = []
    assert MAKERS["rates"]().spec["layer"]
