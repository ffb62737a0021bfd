"""The leaf table of a drill-down: worked by hand, and beside a plain count of the same events."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lakes import at, day, lake

from aftersales.attribute.cells import MISSING, failure_cells
from aftersales.lake.store import Snapshot
from aftersales.measure.compute import compute
from aftersales.model.errors import MetricError

AS_OF = at("2024-12-31")
MONTH_DAYS = 30.4375


def world(tmp_path: Path, **more: Any) -> Snapshot:
    units = [
        {"unit_id": "A0", "batch": "A", "region": "N", "product_id": "P", "in_service_at": "2024-01-01"},
        {"unit_id": "A1", "batch": "A", "region": "S", "product_id": "P", "in_service_at": "2024-01-01"},
        {"unit_id": "B0", "batch": "B'1, /", "region": "S", "product_id": "P", "in_service_at": "2024-03-01"},
        {"unit_id": "X0", "batch": "B'1, /", "region": "S", "in_service_at": "2024-01-01", "removed_at": "2024-02-10"},
    ]
    repairs = [
        {"unit_id": "A0", "reported_at": "2024-01-01", "fault_code": "seal"},
        {"unit_id": "A0", "reported_at": "2024-05-01", "fault_code": "seal"},
        {"unit_id": "A1", "reported_at": "2024-05-01", "fault_code": "motor"},
        {"unit_id": "X0", "reported_at": "2024-04-20", "fault_code": "seal"},  # reported after it was taken out
        {"unit_id": "B0", "reported_at": "2024-02-01", "fault_code": "seal"},  # before service
        {"unit_id": "gone", "reported_at": "2024-02-01", "fault_code": "seal"},
        {"reported_at": "2024-02-01", "fault_code": "seal"},
        {"unit_id": "A0", "reported_at": "2024-05-01", "result": "ntf"},
        {"unit_id": "A0", "reported_at": "2024-12-20", "fault_code": "seal"},  # not ripe
    ]
    return lake(tmp_path, **{"unit": units, "repair": repairs, "product": [{"product_id": "P", "model": "M1"}], **more})


def leaves(snapshot: Snapshot, dimensions: list[str], **options: Any) -> dict[tuple[Any, ...], tuple[int, float]]:
    frame = failure_cells(snapshot, "failure_rate", dimensions, as_of=AS_OF, **options).leaves
    keys = [*dimensions, "age_band"]
    return {tuple(row[k] for k in keys): (row["failures"], round(row["unit_months"] * MONTH_DAYS, 6))
            for row in frame.to_dict("records")}  # fmt: skip


def test_leaves_by_hand(tmp_path: Path) -> None:
    found = leaves(world(tmp_path), ["batch"], end=day("2024-06-01"))
    assert found == {
        ("A", 0): (1, 2 * 91.0),
        ("A", 3): (2, 2 * 61.0),  # 1 April to 31 May
        ("B'1, /", 0): (1, 40.0 + 91.0),
        ("B'1, /", 3): (0, 1.0),
    }


def test_events_without_a_unit_in_service_are_in_no_cell_and_counted(tmp_path: Path) -> None:
    cells = failure_cells(world(tmp_path), "failure_rate", ["batch", "region"], as_of=AS_OF)
    assert (cells.events_n, cells.events_without_base_n) == (7, 3)
    assert (cells.units_n, cells.estimated_n) == (4, 0)
    assert (cells.start, cells.end) == (day("2024-01-01"), day("2024-12-10"))
    assert cells.leaves["failures"].sum() == 4


def test_cells_and_the_rate_of_the_engine_have_the_same_counts_and_base(tmp_path: Path) -> None:
    snapshot = world(tmp_path)
    cells = failure_cells(snapshot, "failure_rate", ["batch"], as_of=AS_OF)
    rows = compute(snapshot, "failure_rate", ["batch"], as_of=AS_OF).rows.set_index("batch")
    table = cells.leaves.groupby("batch")[["failures", "unit_months"]].sum()
    assert table["failures"].to_dict() == rows["count"].to_dict()
    assert table["unit_months"].to_dict() == pytest.approx(rows["base"].to_dict())


def test_a_failure_mode_narrows_the_events_and_leaves_the_exposure(tmp_path: Path) -> None:
    snapshot = world(tmp_path)
    everything, motor = leaves(snapshot, ["batch"]), leaves(snapshot, ["batch"], events_where={"fault_code": ["motor"]})
    assert {key: months for key, (_, months) in motor.items()} == {
        key: months for key, (_, months) in everything.items()
    }
    assert {key: n for key, (n, _) in motor.items() if n} == {("A", 3): 1}


def test_a_filter_narrows_both(tmp_path: Path) -> None:
    found = leaves(world(tmp_path), ["batch"], where={"region": ["N"]}, end=day("2024-06-01"))
    assert found == {("A", 0): (1, 91.0), ("A", 3): (1, 61.0)}


def test_a_dimension_known_for_few_units_is_left_out_and_a_missing_value_is_its_own(tmp_path: Path) -> None:
    snapshot = world(tmp_path)
    cells = failure_cells(snapshot, "failure_rate", ["batch", "model"], as_of=AS_OF)
    assert (cells.dimensions, cells.skipped) == (("batch",), {"model": 0.75})
    cells = failure_cells(snapshot, "failure_rate", ["batch", "model"], as_of=AS_OF, gate=0.5)
    assert cells.dimensions == ("batch", "model")
    assert set(cells.leaves["model"]) == {"M1", MISSING}
    assert cells.leaves.loc[cells.leaves["model"] == MISSING, "failures"].sum() == 1


@pytest.mark.parametrize("dimensions", [[], ["batch"], ["batch", "batch"]])
def test_no_event_is_zero_failures_and_no_dimension_one_cell_an_age(tmp_path: Path, dimensions: list[str]) -> None:
    cells = failure_cells(world(tmp_path, repair=[]), "failure_rate", dimensions, as_of=AS_OF, start=day("2024-01-01"))
    assert cells.dimensions == tuple(dict.fromkeys(dimensions))
    assert (cells.events_n, cells.leaves["failures"].sum()) == (0, 0)
    assert cells.leaves["unit_months"].sum() > 20


def test_a_window_without_service_has_no_leaves(tmp_path: Path) -> None:
    cells = failure_cells(world(tmp_path), "failure_rate", ["batch"], as_of=AS_OF, start=day("2030-01-01"))
    assert cells.leaves.empty
    assert list(cells.leaves.columns) == ["batch", "age_band", "failures", "unit_months"]


def test_only_rates_can_be_drilled_and_only_with_units(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="metric csat: is no rate") as caught:
        failure_cells(world(tmp_path), "csat", ["batch"], as_of=AS_OF)
    assert caught.value.fix == "use complaint_rate or failure_rate"
    with pytest.raises(MetricError, match="no units in service are known"):
        failure_cells(world(tmp_path, unit=[]), "failure_rate", ["batch"], as_of=AS_OF)
