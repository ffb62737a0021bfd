"""Unit-months worked by hand: windows, removal, unknown starts, stock, age bands, periods."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from lakes import at, day, lake

from aftersales.lake.store import Snapshot
from aftersales.measure.exposure import (
    AGE_BANDS,
    DAYS_PER_MONTH,
    fleet,
    unit_months,
    unit_months_by_age,
    unit_months_by_period,
    with_service,
)
from aftersales.model.errors import MetricError

JAN, APR = day("2024-01-01"), day("2024-04-01")


def units(tmp_path: Path, *rows: dict[str, Any]) -> Snapshot:
    return lake(tmp_path, unit=[{"unit_id": f"U{i}", **row} for i, row in enumerate(rows)])


def days_of(tmp_path: Path, *rows: dict[str, Any]) -> float:
    whole = unit_months(fleet(units(tmp_path, *rows)), [], JAN, APR)
    return 0.0 if pd.isna(whole["unit_months"][0]) else float(whole["unit_months"][0]) * DAYS_PER_MONTH


@pytest.mark.parametrize(
    ("row", "days"),
    [
        ({"in_service_at": "2023-05-05"}, 91),  # in service all the time
        ({"in_service_at": "2024-03-02"}, 30),  # from the middle of the window on
        ({"in_service_at": "2024-03-31"}, 1),
        ({"in_service_at": "2024-04-01"}, 0),  # the window's end is excluded
        ({"in_service_at": "2025-01-01"}, 0),
        ({"in_service_at": "2023-01-01", "removed_at": "2024-01-11"}, 10),  # the day of removal is out
        ({"in_service_at": "2023-01-01", "removed_at": "2023-12-31"}, 0),
        ({"in_service_at": "2024-02-01", "removed_at": "2024-01-15"}, 0),  # removed before it starts: a data fault
        ({"in_service_at": "2024-01-01", "end_of_observation": "2024-02-01"}, 31),
        ({"in_service_at": "2024-01-01", "end_of_observation": "2024-02-01", "removed_at": "2024-01-03"}, 2),
        ({}, 0),  # no date at all: no exposure, not the whole window
        ({"removed_at": "2024-03-01"}, 0),
        ({"built_at": "2024-03-02"}, 30),  # no delay is known: in service when built
        ({"built_at": "2024-03-02", "status": "stock"}, 0),
        ({"in_service_at": "2024-03-02", "status": "stock"}, 30),  # a known start beats a stale state
    ],
)
def test_days_in_service_by_hand(tmp_path: Path, row: dict[str, Any], days: int) -> None:
    assert days_of(tmp_path, row) == pytest.approx(days)


def test_an_unknown_start_is_the_sale_the_shipment_or_the_build_plus_its_median_delay(tmp_path: Path) -> None:
    known = [
        {"sold_at": "2024-01-01", "shipped_at": "2023-12-22", "built_at": "2023-12-02", "in_service_at": start}
        for start in ("2024-01-03", "2024-01-05", "2024-01-31")
    ]  # median delays: sold 4, shipped 14, built 34 days
    snapshot = units(tmp_path, *known, {"sold_at": "2024-03-01", "built_at": "2023-01-01"},
                     {"shipped_at": "2024-03-01", "built_at": "2023-01-01"}, {"built_at": "2024-02-01"})  # fmt: skip
    whole = fleet(snapshot, keep=["unit_id"])
    starts = whole.units.execute().set_index("unit_id")["starts"]
    found = {name: pd.Timestamp(0) + pd.Timedelta(days=int(starts[name])) for name in ("U3", "U4", "U5")}
    assert {name: str(moment.date()) for name, moment in found.items()} == {
        "U3": "2024-03-05", "U4": "2024-03-15", "U5": "2024-03-06"}  # fmt: skip
    assert (whole.units_n, whole.estimated_n, whole.without_start_n, whole.estimated_share) == (6, 3, 0, 0.5)


def test_units_in_stock_or_without_a_date_are_counted_as_without_a_start(tmp_path: Path) -> None:
    whole = fleet(units(tmp_path, {"built_at": "2024-01-01", "status": "stock"}, {}, {"in_service_at": "2024-01-01"}))
    assert (whole.units_n, whole.estimated_n, whole.without_start_n) == (3, 0, 2)


def test_a_unit_of_unknown_age_is_in_no_age_band(tmp_path: Path) -> None:
    table = unit_months_by_age(fleet(units(tmp_path, {}, {"removed_at": "2024-02-01"})), [], JAN, APR)
    assert table.empty


def test_months_in_service_fall_into_bands_of_three_months(tmp_path: Path) -> None:
    snapshot = units(tmp_path, {"in_service_at": "2023-12-01"})  # 31 days old when the window opens
    table = unit_months_by_age(fleet(snapshot), [], JAN, APR).set_index("age_band")
    days = (table["unit_months"] * DAYS_PER_MONTH).round(6).to_dict()
    assert days == {0: 91 - 31, 3: 31}  # the second band starts at day 91
    assert table["units"].to_dict() == {0: 1, 3: 1}


def test_an_old_unit_is_in_the_last_open_band(tmp_path: Path) -> None:
    table = unit_months_by_age(fleet(units(tmp_path, {"in_service_at": "1990-01-01"})), [], JAN, APR)
    assert table["age_band"].tolist() == [AGE_BANDS[-1]] == [57]
    assert table["unit_months"].tolist() == pytest.approx([91 / DAYS_PER_MONTH])


def test_periods_cut_the_same_days(tmp_path: Path) -> None:
    snapshot = units(tmp_path, {"in_service_at": "2024-01-17"}, {"in_service_at": "2024-02-29"})
    edges = [JAN, day("2024-02-01"), day("2024-03-01"), APR]
    table = unit_months_by_period(fleet(snapshot), [], list(itertools.pairwise(edges))).set_index("period")
    assert (table["unit_months"] * DAYS_PER_MONTH).round(6).to_dict() == {edges[0]: 15, edges[1]: 30, edges[2]: 62}
    assert table["units"].to_dict() == {edges[0]: 1, edges[1]: 2, edges[2]: 2}


def test_parts_add_up_to_the_whole(tmp_path: Path) -> None:
    starts = pd.date_range("2019-01-01", "2024-06-01", periods=60)
    rows = [{"in_service_at": str(start.date()), "batch": ["A", "B'\"", None][i % 3],
             "region": "北,/" if i % 2 else "S",
             "removed_at": str((start + pd.Timedelta(days=400)).date()) if i % 4 == 0 else None}
            for i, start in enumerate(starts)]  # fmt: skip
    snapshot = units(tmp_path, *rows)
    whole = unit_months(fleet(snapshot), [], JAN, APR)["unit_months"][0]
    split = fleet(snapshot, ["batch", "region"])
    edges = [JAN, day("2024-01-31"), day("2024-03-01"), APR]
    for table in (unit_months(split, ["batch", "region"], JAN, APR), unit_months(split, ["batch"], JAN, APR),
                  unit_months_by_age(split, ["batch", "region"], JAN, APR),
                  unit_months_by_period(split, ["region"], list(itertools.pairwise(edges)))):  # fmt: skip
        assert table["unit_months"].sum() == pytest.approx(whole)
    assert set(unit_months(split, ["batch"], JAN, APR)["batch"].fillna("-")) == {"A", "B'\"", "-"}


def test_a_filter_takes_only_its_units_and_coverage_is_told(tmp_path: Path) -> None:
    snapshot = units(tmp_path, {"batch": "A", "in_service_at": "2024-01-01"},
                     {"batch": "B", "in_service_at": "2024-01-01"}, {"in_service_at": "2024-01-01"})  # fmt: skip
    assert fleet(snapshot, ["batch"]).known == {"batch": pytest.approx(2 / 3)}
    filtered = fleet(snapshot, where={"batch": ["A"]})
    assert filtered.units_n == 1
    assert unit_months(filtered, [], JAN, APR)["units"].tolist() == [1]


def test_without_units_there_is_no_base(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="no units in service are known") as caught:
        fleet(lake(tmp_path, ticket=[{"created_at": "2024-01-01"}]))
    assert "counts and shares can be had" in caught.value.fix


@pytest.mark.parametrize(
    ("row", "place", "age"),
    [
        ({"unit_id": "U0", "received_at": "2024-01-11 23:59"}, "in_service", 10),
        ({"unit_id": "U0", "received_at": "2024-01-01 00:00"}, "in_service", 0),
        ({"unit_id": "U0", "received_at": "2023-12-31 23:59"}, "out_of_service", None),
        ({"unit_id": "U1", "received_at": "2024-02-01"}, "in_service", 30),  # the day it was removed
        ({"unit_id": "U1", "received_at": "2024-05-01"}, "in_service", 30),  # the report comes late
        ({"unit_id": "U2", "received_at": "2024-02-01"}, "in_service", 30),
        ({"unit_id": "U2", "received_at": "2024-02-02"}, "out_of_service", None),  # nobody looked any more
        ({"unit_id": "U3", "received_at": "2024-02-02"}, "out_of_service", None),
        ({"unit_id": "U9", "received_at": "2024-02-02"}, "unknown_unit", None),
        ({"received_at": "2024-02-02"}, "unknown_unit", None),
    ],
)
def test_an_event_belongs_to_a_unit_from_the_day_it_is_in_service(
    tmp_path: Path, row: dict[str, Any], place: str, age: int | None
) -> None:
    start = {"in_service_at": "2024-01-01"}
    snapshot = lake(tmp_path, complaint=[row], unit=[
        {"unit_id": "U0", **start}, {"unit_id": "U1", "removed_at": "2024-02-01", **start},
        {"unit_id": "U2", "end_of_observation": "2024-02-01", **start}, {"unit_id": "U3"}])  # fmt: skip
    found = with_service(snapshot, snapshot.table("complaint"), "received_at").execute().iloc[0]
    assert found["_place"] == place
    assert (None if pd.isna(found["_age_days"]) else found["_age_days"]) == age


def test_what_is_learned_after_as_of_is_not_known_yet(tmp_path: Path) -> None:
    rows = [{"unit_id": "U0", "in_service_at": "2024-01-01"},
            {"unit_id": "U1", "in_service_at": "2024-01-01", "known_at": "2024-03-01"}]  # fmt: skip
    assert fleet(lake(tmp_path, unit=rows)).units_n == 2
    assert fleet(lake(tmp_path, unit=rows, as_of=at("2024-02-01"))).units_n == 1
