"""Machines, disks and work orders: populations, lists of failures and terse texts."""

from __future__ import annotations

import gzip
import json
from collections import Counter

import pandas as pd
import pytest

from aftersales.measure.compute import compute
from real.sets import SETS, Loaded, Sets, instant, real_file, rows_of

# ------------------------------------------------------------------------------------------------- machines: a fleet


@pytest.fixture(scope="module")
def machines(sets: Sets) -> Loaded:
    return sets("machines")


def test_failures_by_component_and_by_machine_of_a_model(machines: Loaded) -> None:
    repairs = machines.snapshot.table("repair").execute()
    assert Counter(repairs["component"]) == {"comp2": 259, "comp1": 192, "comp4": 179, "comp3": 131}
    units = machines.snapshot.table("unit").execute()
    failures = repairs.merge(units, on="unit_id", suffixes=("", "_unit"))["product_id"].value_counts()
    per_machine = (failures / units["product_id"].value_counts()).round(1)
    assert per_machine.to_dict() == {"model1": 11.8, "model2": 9.9, "model3": 6.3, "model4": 5.7}


def test_a_fleet_that_was_watched_has_a_rate(machines: Loaded) -> None:
    result = compute(machines.snapshot, "failure_rate", by=["model"], as_of=instant(2021, 3, 1))
    assert result.state == "ok"
    assert result.rows["count"].sum() == 761
    # a year of 366 days and one more day, 16 + 17 + 35 + 32 machines
    assert result.rows["base"].sum() == pytest.approx(100 * 362 / 30.4375, rel=0.02)
    assert result.rows.sort_values("value")["model"].tolist() == ["model4", "model3", "model2", "model1"]


def test_most_failures_have_their_replaced_part(machines: Loaded) -> None:
    repairs = set(machines.snapshot.table("repair").repair_id.execute())
    parts = machines.snapshot.table("part_use").execute()
    assert parts["repair_id"].isin(repairs).sum() == 743
    errors = machines.snapshot.table("telemetry_event").execute()
    known = set(machines.snapshot.table("unit").unit_id.execute())
    assert len(known) == 100
    assert {*parts["unit_id"], *errors["unit_id"]} <= known


# ------------------------------------------------------------------------------------------ disks: failed ones only


@pytest.fixture(scope="module")
def disks(sets: Sets) -> Loaded:
    return sets("disks")


@pytest.fixture(scope="module")
def tickets(disks: Loaded) -> pd.DataFrame:
    return disks.snapshot.table("ticket").execute()


def test_models_applications_and_the_worst_month(disks: Loaded, tickets: pd.DataFrame) -> None:
    shares = compute(disks.snapshot, "ticket_share", by=["model"], as_of=instant(2020, 6, 30)).rows.set_index("model")
    assert (shares.loc["C1", "count"], round(shares.loc["C1", "value"], 3)) == (10_510, 0.572)
    assert round((tickets["x_app"] == "WSM").mean(), 3) == 0.485
    months = tickets["created_at"].dt.tz_convert("Asia/Shanghai").dt.strftime("%Y-%m").value_counts()
    assert (months.index[0], months.iloc[0]) == ("2019-09", 1_460)


def test_failures_come_together_on_nodes_and_racks(tickets: pd.DataFrame) -> None:
    for place, share in (("x_node", 0.52), ("x_rack", 0.84)):
        counts = tickets[place].map(tickets[place].value_counts())
        assert round((counts > 1).mean(), 2) == share


def test_a_disk_number_names_a_disk_only_together_with_its_model(disks: Loaded) -> None:
    raw = rows_of(SETS["disks"]["ssd_failures"])
    assert len({row["disk_id"] for row in raw}) == 17_663
    assert disks.snapshot.table("unit").count().execute() == 18_387 == len({(r["model"], r["disk_id"]) for r in raw})


@pytest.mark.parametrize("by", [[], ["model"]])
def test_a_failure_rate_of_failed_disks_is_refused_for_lack_of_a_population(disks: Loaded, by: list[str]) -> None:
    result = compute(disks.snapshot, "failure_rate", by=by, as_of=instant(2020, 6, 30))
    assert (result.state, result.rows.empty) == ("refused", True)
    assert "every one of the 18,387 units known (ssd_failures)" in result.refusal("en")
    assert "no denominator" in result.refusal("en")
    assert "故障清单" in result.refusal("zh")
    assert compute(disks.snapshot, "repair_count", as_of=instant(2020, 6, 30)).rows["count"].tolist() == [18_387]


# ------------------------------------------------------------------------------------------------------ work orders


def test_a_row_moved_by_a_comma_is_rejected_and_its_machine_is_no_machine(sets: Sets) -> None:
    raw = rows_of(SETS["workorders"]["maintenance_workorders"])
    assert (len(raw), len({row["AssetID"] for row in raw})) == (500, 9)
    (moved,) = [row for row in raw if row["AssetID"] == "SID1"]
    assert (moved["PONumber"], moved["WorkCentre"], moved["SiteID"]) == ("2270", " routine ndt inspection", "PI1")
    loaded = sets("workorders")
    assert set(loaded.snapshot.table("unit").unit_id.execute()) == {f"AID{n}" for n in (1, 2, 3, 4, 5, 7, 8, 9)}
    repairs = loaded.snapshot.table("repair").execute()
    assert "2270" not in set(repairs["repair_id"])
    assert repairs["started_at"].isna().sum() == 310  # '0/1/00', in the rejected row too
    assert repairs["cost_total"].isna().all()
    assert repairs["technician_comment"].nunique() == 498


def test_every_mark_of_an_annotated_text_is_a_tag(sets: Sets) -> None:
    with gzip.open(real_file(SETS["annotations"]["annotated_workorders"]), "rt", encoding="utf-8") as stream:
        gold = json.load(stream)
    marks = Counter(entity["type"] for text in gold for entity in text["entities"])
    snapshot = sets("annotations").snapshot
    tags = snapshot.table("text_tag").execute()
    assert (len(gold), sum(marks.values())) == (1_076, 3_397)
    assert Counter(tags["aspect"]) == marks
    assert set(tags["topic"]) == {kind.split("/")[0] for kind in marks}
    texts = snapshot.table("repair").execute().set_index("repair_id")["technician_comment"]
    first = tags[tags["source_id"] == "maintie:1"].sort_values("span_start")
    assert texts["maintie:1"] == gold[0]["text"]
    assert list(zip(first["span_start"], first["span_end"], first["aspect"], strict=True)) == [
        (entity["start"], entity["end"], entity["type"]) for entity in gold[0]["entities"]
    ]
