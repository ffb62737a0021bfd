"""Small cells: which groups are blanked, and that no total gives one of them away."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aftersales.lake.suppression import blanked, hidden_groups, is_small, told


def hidden(counts: list[int], smallest: int = 5, **keys: list[Any]) -> list[bool]:
    keys = keys or {"k": list(range(len(counts)))}
    frame = pd.DataFrame({**keys, "count": counts})
    return hidden_groups(frame, list(keys), "count", is_small(frame["count"], smallest), smallest).tolist()


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ([10, 20, 30], [False, False, False]),
        ([0, 20, 30], [False, False, False]),  # a zero tells of nobody
        ([3, 20, 30], [True, True, False]),  # 53 - 50 would be 3
        ([3, 4, 30], [True, True, False]),  # 7 in two groups
        ([1, 1, 30, 40], [True, True, True, False]),  # 2 in two groups is 1 and 1
        ([2, 0, 30], [True, False, True]),  # the zero hides nothing
        ([3], [True]),
        ([3, 0], [True, False]),
        ([], []),
    ],
)
def test_a_small_group_hides_behind_the_next_smallest(counts: list[int], expected: list[bool]) -> None:
    assert hidden(counts) == expected


def test_no_row_and_no_column_total_of_two_dimensions_gives_a_cell_away() -> None:
    found = hidden([2, 30, 40, 50, 60, 70], a=list("xxyyzz"), b=list("pqpqpq"))
    assert found == [True, True, True, True, False, False]


def test_totals_that_are_withheld_themselves_give_nothing_away() -> None:
    # of the totals of a neither is told (3, and 70 beside it); those of b, 53 and 20, leave two unknown groups in p
    assert hidden([3, 20, 50], a=list("xyy"), b=list("pqp")) == [True, False, True]


def test_with_zero_nothing_is_hidden() -> None:
    assert hidden([1, 2, 3], smallest=0) == [False] * 3


def test_blank_rows_keep_their_group_and_other_counts_stay_whole_numbers() -> None:
    frame = pd.DataFrame({"k": ["a", "b"], "count": [3, 20], "value": [0.1, 0.2], "state": ["small_n", "ok"]})
    found = blanked(frame, np.array([True, False]), ["count", "value"])
    assert found["state"].tolist() == ["suppressed", "ok"]
    assert found["k"].tolist() == ["a", "b"]
    assert found["count"].isna().tolist() == [True, False]
    assert (found["count"].iloc[1], str(found["count"].dtype)) == (20, "Int64")


def test_told() -> None:
    assert [told(n, 5) for n in (0, 1, 4, 5, 1204)] == ["0", "<5", "<5", "5", "1,204"]


@st.composite
def tables(draw: st.DrawFn) -> tuple[pd.DataFrame, list[str], int]:
    keys = ["a", "b", "c"][: draw(st.integers(1, 3))]
    values = draw(st.lists(st.tuples(*[st.integers(0, 3)] * len(keys)), min_size=1, max_size=14, unique=True))
    counts = draw(st.lists(st.integers(0, 12), min_size=len(values), max_size=len(values)))
    return pd.DataFrame([[*v, n] for v, n in zip(values, counts, strict=True)], columns=[*keys, "count"]), keys, draw(
        st.sampled_from([2, 3, 5])
    )  # fmt: skip


@settings(max_examples=150, deadline=None, derandomize=True)
@given(tables())
def test_no_small_group_can_be_worked_out_from_totals_and_shown_groups(
    drawn: tuple[pd.DataFrame, list[str], int],
) -> None:
    frame, keys, smallest = drawn
    small = is_small(frame["count"], smallest)
    mask = hidden_groups(frame, keys, "count", small, smallest)
    assert (mask | ~small).all(), "what is small is hidden"
    if not small.any():
        assert not mask.any(), "nothing is hidden without need"
        return
    if mask.all():
        return  # nothing is shown, and no total of several groups with it
    unknown = np.flatnonzero(mask)
    lines = []
    for size in range(len(keys)):
        for names in itertools.combinations(keys, size):
            marked = frame.assign(_row=range(len(frame)))
            grouped = marked.groupby(list(names)) if names else marked.assign(_=0).groupby("_")
            totals = grouped["count"].sum().reset_index()
            told_totals = ~hidden_groups(totals, names, "count", is_small(totals["count"], smallest), smallest)
            for is_told, rows in zip(told_totals, grouped["_row"].agg(list), strict=True):
                if is_told:
                    lines.append(np.isin(unknown, rows).astype(float))
                    left = frame["count"].iloc[rows][mask[rows]].sum()
                    assert left >= smallest or not small[rows].any(), "what is left of a total is a small group"
    if not lines:
        return
    system = np.array(lines)
    rank = np.linalg.matrix_rank(system)
    for place, row in enumerate(unknown):
        if small[row]:
            unit = np.zeros(len(unknown))
            unit[place] = 1
            assert np.linalg.matrix_rank(np.vstack([system, unit])) > rank, f"{keys}: row {row} follows from the totals"
