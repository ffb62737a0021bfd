"""Expressions of metric files: values on a few rows, and what is refused, where."""

from __future__ import annotations

from typing import Any

import ibis
import pyarrow as pa
import pytest
from lakes import at

from aftersales.lake.store import ARROW_TYPES
from aftersales.measure.grammar import parse
from aftersales.model.errors import MetricError
from aftersales.model.tables import canonical_table

ROWS = {
    "repair_id": ["R1", "R2", "R3", "R4"],
    "unit_id": ["U1", "U1", "U2", None],
    "fault_code": ["seal", "seal", "seal", "seal"],
    "result": ["fixed", "ntf", None, "fixed"],
    "visits_n": [1, 2, None, 0],
    "reported_at": ["2024-01-01 00:00", "2024-01-20 00:00", "2024-01-02 00:00", "2024-01-03 00:00"],
    "finished_at": ["2024-01-02 12:00", None, "2024-01-01 00:00", "2024-01-03 00:00"],
}


def rows(data: dict[str, list[Any]] = ROWS) -> ibis.Table:
    columns = {
        name: pa.array([text and at(text) for text in column], ARROW_TYPES["ts"]) if name.endswith("_at") else column
        for name, column in data.items()
    }
    return ibis.memtable(pa.table(columns))


def values(text: str, data: dict[str, list[Any]] = ROWS, clock: str = "finished_at") -> list[Any]:
    table = rows(data)
    found = table.select(
        "repair_id", found=parse(text, table, canonical_table("repair"), clock=clock, where="metric x")
    )
    return [row["found"] for row in found.order_by("repair_id").to_pyarrow().to_pylist()]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("visits_n <= 1", [True, False, None, True]),
        ("visits_n <= 1 and result == 'fixed'", [True, False, None, True]),
        ("visits_n > 1 or result == 'fixed'", [True, True, None, True]),
        ("not result == 'ntf'", [True, False, None, True]),
        ("result != 'ntf' or not is_known(result)", [True, False, True, True]),
        ("result in ['ntf', 'fixed']", [True, True, None, True]),
        ("result not in ('ntf',)", [True, False, None, True]),
        ("is_known(visits_n)", [True, True, False, True]),
        ("visits_n * 2 + 1 - 3", [0, 2, None, -2]),
        ("-visits_n", [-1, -2, None, 0]),
        ("2 / visits_n", [2.0, 1.0, None, None]),
        ("visits_n / 0", [None, None, None, None]),
        ("1 < visits_n", [False, True, None, False]),
        ("1 < 2 and visits_n == 1", [True, False, None, False]),
        ("hours_between(reported_at, finished_at)", [36.0, None, None, 0.0]),
        ("  visits_n == 1\n", [True, False, None, False]),
    ],
)
def test_an_expression_has_the_value_it_has_by_hand(text: str, expected: list[Any]) -> None:
    assert values(text) == expected


def test_a_unit_that_comes_back_with_the_same_fault_in_time_is_a_repeat() -> None:
    assert values("has_repeat_within(days=30)") == [True, False, False, False]
    assert values("has_repeat_within(days=17)") == [False, False, False, False]  # back 17.5 days after the repair
    assert values("has_repeat_within(days=18)") == [True, False, False, False]


def test_an_open_repeat_counts_as_soon_as_it_is_reported() -> None:
    assert ROWS["finished_at"][1] is None
    assert values("has_repeat_within(days=30)")[0] is True


def test_another_fault_another_unit_or_an_unknown_one_is_no_repeat() -> None:
    data = {
        "repair_id": ["R1", "R2", "R3", "R4", "R5"],
        "unit_id": ["U1", "U1", "U2", None, None],
        "fault_code": ["seal", "motor", "seal", "seal", "seal"],
        "reported_at": ["2024-01-01", "2024-01-02", "2024-01-03", "2024-01-04", "2024-01-05"],
    }
    assert values("has_repeat_within(days=30, same='fault_code')", data, "reported_at") == [False] * 5


def test_two_jobs_of_one_instant_follow_each_other_by_key_whatever_their_order_in_the_file() -> None:
    data = {"repair_id": ["R1", "R2"], "unit_id": ["U1", "U1"], "fault_code": ["seal", "seal"],
            "reported_at": ["2024-01-01", "2024-01-01"]}  # fmt: skip
    turned = {name: column[::-1] for name, column in data.items()}
    for given in (data, turned):
        assert values("has_repeat_within(days=1)", given, "reported_at") == [True, False]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("visits", "no column 'visits'"),
        ("sum(visits_n)", "no function 'sum'"),
        ("visits_n.real", "Attribute is not allowed here"),
        ("__import__('os')", "no function '__import__'"),
        ("[x for x in visits_n]", "ListComp is not allowed here"),
        ("lambda: 1", "Lambda is not allowed here"),
        ("1 < visits_n < 3", "Compare is not allowed here"),
        ("visits_n is None", "Compare is not allowed here"),
        ("visits_n ** 2", "BinOp is not allowed here"),
        ("visits_n == None", "Constant is not allowed here"),
        ("visits_n + 'a'", "these values do not go together"),
        ("visits_n == 'a'", "these values do not go together"),
        ("not 'a'", "this is no condition"),
        ("visits_n and result", "this is no condition"),
        ("-result", "these values do not go together"),
        ("result in 3", "these values do not go together"),
        ("is_known()", "is_known does not take these arguments"),
        ("is_known(visits_n, result)", "is_known does not take these arguments"),
        ("hours_between(reported_at, result)", "hours_between does not take these arguments"),
        ("has_repeat_within(30)", "has_repeat_within takes days=<whole number>"),
        ("has_repeat_within(days=1.5)", "has_repeat_within takes days=<whole number>"),
        ("has_repeat_within(days=30, same='nothing')", "no column 'nothing'"),
        ("has_repeat_within(**visits_n)", "has_repeat_within takes days=<whole number>"),
        ("visits_n ==", "not readable: invalid syntax"),
        ("", "not readable: invalid syntax"),
        ("visits_n\x00", "not readable"),
        ("(" * 5000, "not readable"),
    ],
)
def test_what_is_not_in_the_grammar_is_refused(text: str, what: str) -> None:
    table = rows()
    with pytest.raises(MetricError) as caught:
        parse(text, table, canonical_table("repair"), clock="finished_at", where="metric x, numerator.where")
    assert what in caught.value.what
    assert caught.value.where == "metric x, numerator.where"


def test_the_message_points_at_the_place_also_behind_chinese_text() -> None:
    with pytest.raises(MetricError) as caught:
        parse("result == '已修复' and visits", rows(), canonical_table("repair"), clock="", where="x")
    text, mark = caught.value.rows.split("\n")
    assert text.index("visits") == mark.index("^") - 9  # nine blanks indent the second line
    assert "known: fault_code, finished_at, " in caught.value.fix
