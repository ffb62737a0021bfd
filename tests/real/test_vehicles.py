"""Vehicles in the field: units, failures, exposure and what selection forbids to say."""

from __future__ import annotations

import re
from collections import Counter

import pandas as pd
import pytest

from aftersales.attribute.cells import Cells, failure_cells
from aftersales.attribute.drilldown import drill_down, rates_by
from aftersales.measure.compute import compute
from real.sets import SETS, Loaded, Sets, instant, rows_of

FIELD = SETS["vehicles"]["vehicle_field_data"]
FIELD_AS_OF = instant(2015, 12, 31)
FIELD_RIPE = instant(2016, 1, 31)
"""failure_rate counts what is 21 days old: on this day all of 2015 is."""


@pytest.fixture(scope="module")
def field(sets: Sets) -> Loaded:
    return sets("vehicles")


@pytest.fixture(scope="module")
def engine_cells(field: Loaded) -> Cells:
    dimensions = ["x_engine_type", "x_gear_type", "x_fuel", "x_transmission", "model", "x_climatic_zone"]
    return failure_cells(field.snapshot, "failure_rate", dimensions, as_of=FIELD_RIPE)


def test_every_vehicle_is_a_unit_and_every_failed_one_a_repair(field: Loaded) -> None:
    ledger = {table: delivery for (_, table), delivery in field.ledger.items()}
    assert (ledger["unit"].rows_read, ledger["unit"].accepted, ledger["unit"].rejected) == (10_684, 10_684, 0)
    assert (ledger["repair"].rows_read, ledger["repair"].accepted, ledger["repair"].left_out) == (684, 684, 10_000)
    assert [delivery.values_set_aside for delivery in ledger.values()] == [0, 0, 0]
    units = field.snapshot.table("unit").execute()
    assert units["in_service_at"].isna().sum() == 9_140
    raw = {row["vin"].removesuffix(".0"): row["registration_date"] for row in rows_of(FIELD)}
    started = units.dropna(subset="in_service_at")
    assert dict(zip(started["unit_id"], started["in_service_at"].astype(str), strict=True)) == {
        unit: day for unit, day in raw.items() if day
    }


def test_escaped_letters_in_region_names_are_letters(field: Loaded) -> None:
    regions = Counter(field.snapshot.table("unit").execute()["region"].dropna())
    raw = Counter(row["region"].encode("ascii").decode("unicode_escape") for row in rows_of(FIELD) if row["region"])
    assert regions == raw
    assert regions["Iğdir"] > 0


def test_all_failures_are_in_two_engine_types(field: Loaded, engine_cells: Cells) -> None:
    raw = Counter(row["engine_type"] for row in rows_of(FIELD) if row["status"] == "1.0")
    assert raw == {"engine 273": 582, "engine 120": 102}
    rates = rates_by(engine_cells, ["x_engine_type"]).set_index("x_engine_type")["failures"]
    assert rates[rates > 0].to_dict() == raw
    assert (engine_cells.events_n, engine_cells.events_without_base_n) == (684, 0)
    rows = compute(field.snapshot, "failure_rate", by=["x_engine_type"], as_of=FIELD_RIPE).rows
    assert len(rows) == 54
    rows = rows[rows["count"] > 0]
    assert dict(zip(rows["x_engine_type"], rows["count"], strict=True)) == raw


def test_on_the_last_day_of_the_study_the_youngest_failures_do_not_count_yet(field: Loaded) -> None:
    raw = Counter(
        row["engine_type"] for row in rows_of(FIELD) if row["status"] == "1.0" and row["report_date"] < "2015-12-10"
    )
    cells = failure_cells(field.snapshot, "failure_rate", ["x_engine_type"], as_of=FIELD_AS_OF)
    rates = rates_by(cells, ["x_engine_type"]).set_index("x_engine_type")["failures"]
    assert rates[rates > 0].to_dict() == raw
    assert sum(raw.values()) == 633


def test_the_two_engine_types_are_what_the_drill_down_names(engine_cells: Cells) -> None:
    findings = drill_down(engine_cells).findings
    assert findings[0].cell["x_engine_type"] == "engine 273"
    assert findings[0].failures == 582
    assert {finding.cell.get("x_engine_type") for finding in findings} == {"engine 273", "engine 120"}


def test_a_rate_by_climate_is_refused_as_registration_is_unknown_for_most_intact_units(
    field: Loaded, engine_cells: Cells
) -> None:
    raw = rows_of(FIELD)
    known = sum(bool(row["climatic_zone"]) for row in raw) / len(raw)
    intact = sum(not row["registration_date"] for row in raw if row["status"] == "0.0")
    assert (round(known, 3), intact) == (0.145, 9_140)
    result = compute(field.snapshot, "failure_rate", by=["x_climatic_zone"], as_of=FIELD_AS_OF)
    assert result.state == "refused"
    assert "climatic zone is known for 14% of 10,684 units" in result.reason
    assert re.search(r"registration\) is unknown for 9,140 units, most of them intact", result.reason)
    assert engine_cells.skipped == {"x_climatic_zone": pytest.approx(known)}


def test_crude_shares_mislead_by_country_climate_and_month_of_production(field: Loaded) -> None:
    units = field.snapshot.table("unit").execute()
    failed = units["unit_id"].isin(set(field.snapshot.table("repair").unit_id.execute()))
    assert failed.groupby(units["country"]).mean().round(3)[["Turkey", "Germany"]].tolist() == [0.149, 0.005]
    climates = failed.groupby(units["x_climatic_zone"]).agg(["size", "mean"])
    common = climates[climates["size"] > 10]["mean"]  # the few units in the tropics have all failed
    assert common.between(0.40, 0.475).all()  # selection: the zone of intact units is mostly unknown
    months = failed.groupby(pd.to_datetime(units["built_at"]).dt.month).mean().round(3)
    assert months[[1, 12]].tolist() == [0.093, 0.021]
