"""Dimensions: where a row finds them, what a filter keeps, and what is said when there is none."""

from __future__ import annotations

from pathlib import Path

import pytest
from lakes import lake

from aftersales.lake.store import Snapshot
from aftersales.measure.dimensions import MISSING, dimension_title, find_dimension, matching, tag_sets, with_dimensions
from aftersales.model.errors import MetricError


@pytest.fixture
def snapshot(tmp_path: Path) -> Snapshot:
    return lake(
        tmp_path,
        unit=[
            {"unit_id": "U1", "product_id": "P1", "batch": "B1", "region": "N", "built_at": "2024-05-06",
             "x_hand": "left", "status": "sold"},
            {"unit_id": "U2", "product_id": "P9", "batch": None, "region": "S"},
        ],
        product=[{"product_id": "P1", "model": "M1", "category": "lock"}, {"product_id": "P2", "model": "M2"}],
        complaint=[
            {"complaint_id": "C1", "unit_id": "U1", "product_id": "P2", "category": "noise", "status": "open"},
            {"complaint_id": "C2", "unit_id": "U2", "product_id": "P2", "category": "smell"},
            {"complaint_id": "C3", "product_id": "P2"},
            {"complaint_id": "C4", "unit_id": "unheard of"},
        ],
        tag=[
            {"tag_id": str(i), "source_table": "complaint", "source_id": source, "tag_set": tag_set, "tag": tag,
             "tag_group": group}
            for i, (source, tag_set, tag, group) in enumerate([
                ("C1", "component", "motor", "drive"), ("C1", "component", "gear", "drive"),
                ("C1", "component", "cell", "power"), ("C2", "component", "cell", "power"),
                ("C1", "age_group", "young", None)])
        ],
    )  # fmt: skip


def column(snapshot: Snapshot, name: str, *, conformed: bool = False) -> dict[str, list[str | None]]:
    rows = snapshot.table("complaint").select("complaint_id", "unit_id", "product_id", "category", "status")
    frame = with_dimensions(snapshot, "complaint", rows, [name], conformed=conformed).execute()
    found: dict[str, list[str | None]] = {}
    for key, value in zip(frame["complaint_id"], frame[name], strict=True):
        found.setdefault(key, []).append(None if value != value else value)
    return {key: sorted(values, key=str) for key, values in sorted(found.items())}


@pytest.mark.parametrize(
    ("name", "home", "expected"),
    [
        ("batch", "unit", [["B1"], [None], [None], [None]]),
        ("x_hand", "unit", [["left"], [None], [None], [None]]),
        ("build_quarter", "unit", [["2024Q2"], [None], [None], [None]]),
        ("build_month", "unit", [["2024-05"], [None], [None], [None]]),
        ("model", "product", [["M1"], [None], ["M2"], [None]]),  # the unit's product, else the row's own
        ("category", "own", [["noise"], ["smell"], [None], [None]]),
        ("status", "own", [["open"], [None], [None], [None]]),
        ("component", "tag", [["cell", "gear", "motor"], ["cell"], [None], [None]]),
        ("component_group", "tag", [["drive", "power"], ["power"], [None], [None]]),
        ("age_group", "tag", [["young"], [None], [None], [None]]),
    ],
)
def test_a_row_finds_its_dimension(snapshot: Snapshot, name: str, home: str, expected: list[list[str | None]]) -> None:
    found = find_dimension(snapshot, "complaint", name)
    assert (found.home, found.is_multiple) == (home, home == "tag")
    assert list(column(snapshot, name).values()) == expected


@pytest.mark.parametrize(("name", "expected"), [("category", "lock"), ("status", "sold")])
def test_for_a_rate_the_units_side_is_taken_even_where_the_row_has_a_column_of_that_name(
    snapshot: Snapshot, name: str, expected: str
) -> None:
    assert column(snapshot, name, conformed=True)["C1"] == [expected]


def test_an_unknown_dimension_lists_the_known_ones(snapshot: Snapshot) -> None:
    with pytest.raises(MetricError, match="dimension colour: rows of complaint do not have it") as caught:
        find_dimension(snapshot, "complaint", "colour")
    for known in ("batch", "category", "component", "model", "supplier"):
        assert f" {known}," in caught.value.rows
    with pytest.raises(MetricError, match="the units in service do not have it"):
        find_dimension(snapshot, "complaint", "component", conformed=True)


def keys(snapshot: Snapshot, where: dict[str, list[str]], by: tuple[str, ...] = ()) -> list[str]:
    rows = matching(snapshot, "complaint", snapshot.table("complaint"), where, by=by)
    return sorted(rows.execute()["complaint_id"])


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({}, ["C1", "C2", "C3", "C4"]),
        ({"batch": ["B1", "B7"]}, ["C1"]),
        ({"batch": "B1"}, ["C1"]),
        ({"batch": [MISSING]}, ["C2", "C3", "C4"]),
        ({"batch": ["B1", MISSING]}, ["C1", "C2", "C3", "C4"]),
        ({"batch": []}, []),
        ({"component": ["cell", "gear"]}, ["C1", "C2"]),  # C1 has both and comes once
        ({"component": [MISSING]}, ["C3", "C4"]),
        ({"component_group": ["drive"]}, ["C1"]),
        ({"component": ["cell"], "batch": ["B1"]}, ["C1"]),
        ({"model": ["M2"]}, ["C3"]),
    ],
)
def test_a_filter_keeps_the_rows_that_have_one_of_the_values(
    snapshot: Snapshot, where: dict[str, list[str]], expected: list[str]
) -> None:
    assert keys(snapshot, where) == expected
    assert keys(snapshot, dict(reversed(where.items()))) == expected


def test_a_filter_on_the_labels_rows_are_split_by_keeps_only_these_labels(snapshot: Snapshot) -> None:
    assert keys(snapshot, {"component": ["cell", "gear"]}, by=("component",)) == ["C1", "C1", "C2"]


def test_tag_sets_belong_to_a_table(snapshot: Snapshot, tmp_path: Path) -> None:
    assert tag_sets(snapshot, "complaint") == ["age_group", "component"]
    assert tag_sets(snapshot, "ticket") == []
    assert tag_sets(lake(tmp_path, unit=[{"unit_id": "U1"}]), "complaint") == []


@pytest.mark.parametrize(
    ("name", "en", "zh"),
    [
        ("batch", "Batch", "批次"),
        ("build_month", "Build month", "生产月份"),
        ("x_engine_type", "Engine type", "Engine type"),
    ],
)
def test_a_dimension_has_a_name_in_both_languages(name: str, en: str, zh: str) -> None:
    assert (dimension_title(name), dimension_title(name, "zh")) == (en, zh)
