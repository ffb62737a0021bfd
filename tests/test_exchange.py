"""Claims out and in: the structure, the round trip, what is left out and why."""

from __future__ import annotations

import copy
import datetime as dt
import gzip
import json
import shutil
import uuid
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import typer.main
from conftest import TestWorkspace
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st
from lakes import LONG_AGO, lake

from aftersales.cli import app
from aftersales.collect.claims_model import breaches, claims_model
from aftersales.collect.exchange import ClaimImport, ExportOptions, export_claims, import_claims
from aftersales.collect.json_stream import json_items, replaced_text
from aftersales.collect.mapping import Source, read_source
from aftersales.lake.store import arrow_schema
from aftersales.model.errors import ParameterError, SourceError
from aftersales.model.tables import canonical_table

ROOT = Path(__file__).parent.parent
RECEIVED = dt.datetime(2026, 11, 2, 8, tzinfo=dt.UTC)
TASK = "430f56d3-1234-4234-8234-abc123456789"

CLAIM: dict[str, Any] = {
    "claimId": "K-1",
    "anonymizedVIN": "VIN7",
    "qualityTaskId": TASK,
    "countryCode": "DEU",
    "repairDate": "2026-02-04",
    "repairMileage": 30_000,
    "repairMileageUnit": "mi",
    "vehicleId": "urn:uuid:580d3adf-1981-44a0-a214-13d6ceed9379",
    "recordStatus": "new",
    "customerComment": "转向时有异响",
    "damageCode": "ST12345",
    "workshop": {"workShopId": "W-4", "latitude": 48.8, "longitude": 9.2},
    "diagnosticSessions": [{"sessionId": "S-1"}],
    "claimedParts": [
        {"partName": "Gearbox ECU", "partNumber": "GBX-3", "batchNumber": "LB#1", "serialNumber": "E2", "isPartCausal": True,
         "isPartReplaced": True, "amountOfReplacedParts": 1, "partTreatment": "scrap", "swVersion": "V001"},
    ],
    "spareParts": [{"partName": "Gearbox ECU", "partNumber": "GBX-4", "supplierName": "S07"}],
    "additionalInformationList": [{"key": "Steel", "value": "stainless"}],
    "monthInService": 10,
    "breakdown": False,
    "repeatedRepair": False,
}  # fmt: skip


@pytest.fixture
def source(workspace: TestWorkspace) -> Source:
    place = workspace.root / "data" / "sources" / "fleet_claims.yml"
    place.parent.mkdir(parents=True)
    shutil.copy(ROOT / "data" / "sources" / "examples" / "fleet_claims.yml", place)
    return read_source(place, workspace.open())


def received(workspace: TestWorkspace, *claims: Any, name: str = "partner.json", **more: Any) -> Path:
    path = workspace.root / name
    path.write_text(json.dumps({"claims": claims, **more}, ensure_ascii=False), encoding="utf-8")
    return path


def imported(workspace: TestWorkspace, source: Source, path: Path, **options: Any) -> ClaimImport:
    return import_claims(workspace.open(), path, source, received_at=RECEIVED, **options)


def claim(**changes: Any) -> dict[str, Any]:
    return {name: value for name, value in {**copy.deepcopy(CLAIM), **changes}.items() if value is not None}


# --- structure ----------------------------------------------------------------------------------------------------


def test_the_mapping_file_names_every_property_of_the_model_and_real_columns() -> None:
    model = claims_model()
    assert {name for name, spec in model.claim.items() if spec.required} == {
        "claimId", "anonymizedVIN", "qualityTaskId", "countryCode"
    }  # fmt: skip
    assert len(model.claim) == 22
    assert len(model.part) == 16
    assert set(model.claim["claimedParts"].of) - set(model.part) == {
        "isPartCausal", "isPartReplaced", "amountOfReplacedParts", "partTreatment"
    }  # fmt: skip
    assert set(model.claim["spareParts"].of) - set(model.part) == {"supplierName", "supplierId"}
    repair, part = canonical_table("repair").columns, canonical_table("part_use").columns
    assert {spec.column for spec in model.claim.values()} - {""} <= set(repair)
    for name in ("claimedParts", "spareParts"):
        assert {spec.column for spec in model.claim[name].of.values()} - {""} <= set(part)
    assert "CC-BY-4.0" in model.attribution


def test_a_claim_of_the_model_breaks_nothing() -> None:
    assert list(breaches(CLAIM, claims_model().claim)) == []


@pytest.mark.parametrize(
    ("changes", "found"),
    [
        ({"claimId": None}, ("claimId", "missing")),
        ({"qualityTaskId": "QT-1"}, ("qualityTaskId", "no UUID")),
        ({"countryCode": "Germany"}, ("countryCode", "no three-letter country code")),
        ({"repairDate": "2026-02-30"}, ("repairDate", "no day YYYY-MM-DD")),
        ({"repairDate": "04.02.2026"}, ("repairDate", "no day YYYY-MM-DD")),
        ({"repairMileage": -2}, ("repairMileage", "below -1")),
        ({"repairMileage": 2_000_000}, ("repairMileage", "not below 2e+06")),
        ({"repairMileageUnit": "miles"}, ("repairMileageUnit", "none of km, mi")),
        ({"monthInService": 1.5}, ("monthInService", "no whole number from 0")),
        ({"breakdown": "no"}, ("breakdown", "neither true nor false")),
        ({"workshop": {"latitude": 91}}, ("workshop.latitude", "above 90")),
        ({"workshop": {"latitude": 1}}, ("workshop.workShopId", "missing")),
        ({"spareParts": [{"partNumber": "1"}]}, ("spareParts.partName", "missing")),
        ({"claimedParts": {"partName": "x"}}, ("claimedParts", "no list")),
        ({"colour": "red"}, ("colour", "unknown property")),
    ],
)
def test_what_breaks_the_structure_is_named(changes: dict[str, Any], found: tuple[str, str]) -> None:
    assert found in list(breaches(claim(**changes), claims_model().claim))


def test_null_stands_for_a_country_and_a_day_that_are_not_there() -> None:
    assert list(breaches(claim(countryCode="NULL", repairDate="null"), claims_model().claim)) == []


@settings(max_examples=80, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.floats() | st.text(max_size=5),
        lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from([*CLAIM, "x"]), x, max_size=4),
        max_leaves=12,
    )
)
def test_anything_json_can_hold_is_judged_without_a_crash(value: Any) -> None:
    for place, problem in breaches(value, claims_model().claim):
        assert place
        assert problem


# --- reading large documents --------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 7, 64, 1 << 20])
def test_items_are_read_whatever_the_blocks_cut_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    monkeypatch.setattr("aftersales.collect.json_stream.CHUNK", size)
    items = [12, 345, -1.5e3, 'a"]},{', {"深": [1, {"b": "\\"}]}, None, [], True]
    path = tmp_path / "x.json"
    path.write_text(json.dumps({"meta": {"n": [1, 2]}, "claims": items, "after": 7}, indent=1, ensure_ascii=False))
    assert list(json_items(path, "claims")) == [
        ("meta", {"n": [1, 2]}),
        *(("claims", item) for item in items),
        ("after", 7),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "ends in the middle"),
        ('{"claims": [{"a": 1}', "ends in the middle"),
        ('{"claims": [{"a": 1', "is no complete JSON document"),
        ('[{"claimId": 1}]', r"'\[' stands where '\{' was expected"),
        ('{"claim": []}', "has no list 'claims'"),
        ('{"claims": 5}', "has no list 'claims'"),
        ('{"claims": []} x', "goes on after the end"),
        ('{"claims": [1 2]}', "'2' stands where ',' was expected"),
        ("{" * 5000, "no .*JSON document"),
    ],
)
def test_a_broken_document_is_refused_in_words(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(text)
    with pytest.raises(SourceError, match=said):
        list(json_items(path, "claims"))


def test_bytes_that_are_no_text_and_cut_archives_are_refused(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_bytes(b'{"claims": ["\xff"]}')
    with pytest.raises(SourceError, match="not UTF-8"):
        list(json_items(tmp_path / "x.json", "claims"))
    (tmp_path / "y.json.gz").write_bytes(gzip.compress(b'{"claims": [' + b"1," * 9999)[:-30])
    with pytest.raises(SourceError, match="cut off or damaged"):
        list(json_items(tmp_path / "y.json.gz", "claims"))


def test_a_file_that_was_not_finished_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt), replaced_text(path) as stream:
        stream.write("new")
        raise KeyboardInterrupt
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


# --- in -----------------------------------------------------------------------------------------------------------


def test_a_claim_becomes_a_repair_and_its_parts(workspace: TestWorkspace, source: Source) -> None:
    done = imported(workspace, source, received(workspace, CLAIM))
    assert (done.claims, done.parts, done.breaches) == (1, 2, [])
    (row,) = workspace.snapshot().table("repair").to_pyarrow().to_pylist()
    expected = {
        "repair_id": "K-1", "unit_id": "VIN7", "issue_id": TASK, "country": "DEU", "mileage_km": 48_280.32,
        "months_in_service": 10, "breakdown": False, "damage_code": "ST12345", "workshop_id": "W-4",
        "record_status": "active", "repeat_of": None, "known_at": RECEIVED,
        "reported_at": dt.datetime(2026, 2, 3, 16, tzinfo=dt.UTC),  # midnight in Shanghai
    }  # fmt: skip
    assert {name: row[name] for name in expected} == expected
    assert workspace.rows(
        "part_use", "part_use_id", "part_role", "part_no", "supplier", "is_causal", "qty", "treatment"
    ) == [
        ("K-1/claimed/1", "claimed", "GBX-3", None, True, 1.0, "scrap"),
        ("K-1/spare/1", "spare", "GBX-4", "S07", None, None, None),
    ]


def test_what_has_no_column_is_counted_and_kept(workspace: TestWorkspace, source: Source) -> None:
    done = imported(workspace, source, received(workspace, CLAIM, claim(claimId="K-2", colour="red")))
    assert done.not_mapped == {
        "vehicleId": 2, "diagnosticSessions": 2, "additionalInformationList": 2, "workshop.latitude": 2,
        "workshop.longitude": 2, "colour": 1,
    }  # fmt: skip
    assert [(one.place, one.problem, one.claims, one.example) for one in done.breaches] == [
        ("colour", "unknown property", 1, "K-2")
    ]
    kept = pa.parquet.read_table(workspace.root / done.raw)["not_mapped"].to_pylist()
    assert json.loads(kept[1])["colour"] == "red"
    assert json.loads(kept[0])["diagnosticSessions"] == [{"sessionId": "S-1"}]


def test_every_claim_is_accepted_rejected_or_a_duplicate(workspace: TestWorkspace, source: Source) -> None:
    claims = [
        CLAIM,
        CLAIM,
        claim(claimId=None),
        claim(claimId="K-3", repairDate="soon"),
        claim(claimId="K-4", anonymizedVIN=None),
        "no claim at all",
        claim(claimId="K-5", breakdown="perhaps", claimedParts=["x", {"partName": "y", "partTreatment": "repaired"}]),
    ]
    done = imported(workspace, source, received(workspace, *claims))
    repair, part_use = done.deliveries
    assert (done.claims, repair.rows_read) == (7, 7)
    assert (repair.accepted, repair.rejected, repair.duplicate) == (2, 4, 1)
    assert part_use.rows_read == part_use.accepted + part_use.rejected + part_use.duplicate
    held = workspace.rows("part_use", "part_use_id")
    assert held == ["K-1/claimed/1", "K-1/spare/1", "K-5/claimed/1", "K-5/claimed/2", "K-5/spare/1"]
    reasons = {
        reason for row in workspace.snapshot().table("quarantine").to_pyarrow().to_pylist() for reason in row["reasons"]
    }
    assert {
        "repair_id:missing",
        "unit_id:missing",
        "reported_at:type",
        "breakdown:type",
        "treatment:not_allowed",
    } <= reasons


def test_the_same_file_again_changes_nothing(workspace: TestWorkspace, source: Source) -> None:
    path = received(workspace, CLAIM, claim(claimId="K-2"))
    imported(workspace, source, path)
    before = workspace.lake_files()
    again = import_claims(workspace.open(), path, source, received_at=RECEIVED + dt.timedelta(days=9))
    assert all(delivery.skipped for delivery in again.deliveries)
    assert workspace.lake_files() == before
    assert len(list((workspace.root / "data" / "raw" / "fleet_claims").iterdir())) == 1


def test_a_later_file_corrects_and_withdraws(workspace: TestWorkspace, source: Source) -> None:
    imported(workspace, source, received(workspace, CLAIM))
    second = received(workspace, claim(recordStatus="deleted", damageCode="ST9"), name="week1.json")
    done = imported(workspace, source, second)
    assert (done.withdrawn, done.deliveries[0].corrected) == (1, 1)
    assert workspace.rows("repair", "repair_id", "record_status", "damage_code") == [("K-1", "withdrawn", "ST9")]


def test_a_repeat_finds_its_predecessor_in_the_file_and_in_the_lake(workspace: TestWorkspace, source: Source) -> None:
    def again(key: str, day: str, unit: str = "VIN7") -> dict[str, Any]:
        return claim(
            claimId=key, anonymizedVIN=unit, repeatedRepair=True, dateOfPreviousRepair=day, repairDate="2026-05-01"
        )

    first = received(workspace, CLAIM, again("K-2", "2026-02-04"), again("K-3", "2026-01-01"), claim(
        claimId="K-4", anonymizedVIN="VIN8", repeatedRepair=True))  # fmt: skip
    done = imported(workspace, source, first)
    assert (done.repeats, done.repeats_unresolved) == (3, 2)  # K-3: another day; K-4: no day
    later = received(workspace, again("K-5", "2026-02-04"), again("K-6", "2026-05-01"), name="later.json")
    done = imported(workspace, source, later, snapshot=workspace.snapshot())
    # K-6 could repeat K-2, K-3 or K-5, all of that day: it stays open
    assert (done.repeats, done.repeats_unresolved) == (2, 1)
    assert dict(workspace.rows("repair", "repair_id", "repeat_of")) == {
        "K-1": None, "K-2": "K-1", "K-3": None, "K-4": None, "K-5": "K-1", "K-6": None,
    }  # fmt: skip
    assert imported(workspace, source, later, snapshot=workspace.snapshot()).repeats_unresolved == 1


def test_the_meaning_of_repair_date_is_a_setting(workspace: TestWorkspace, source: Source) -> None:
    (workspace.root / "workbench.yml").write_text(
        "name: test\ntime_zone: Asia/Shanghai\nexchange: {repair_date: finished_at}\n", encoding="utf-8"
    )
    done = imported(workspace, source, received(workspace, CLAIM))
    assert done.repair_date == "finished_at"
    midnight = dt.datetime(2026, 2, 3, 16, tzinfo=dt.UTC)
    assert workspace.rows("repair", "reported_at", "finished_at") == [(midnight, midnight)]


def test_an_empty_list_of_claims_loads_nothing(workspace: TestWorkspace, source: Source) -> None:
    done = imported(workspace, source, received(workspace))
    assert (done.claims, done.deliveries[0].rows_read) == (0, 0)


def test_a_cut_off_file_loads_nothing(workspace: TestWorkspace, source: Source) -> None:
    path = received(workspace, CLAIM, CLAIM)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(SourceError, match="JSON document"):
        imported(workspace, source, path)
    assert list((workspace.root / "data" / "raw" / "fleet_claims").iterdir()) == []


# --- out ----------------------------------------------------------------------------------------------------------

REPAIRS: list[dict[str, Any]] = [
    {"repair_id": "R-1", "unit_id": "U1", "reported_at": "2026-01-05 09:30", "finished_at": "2026-01-06", "country": "CN",
     "issue_id": "P-7", "mileage_km": 12.5, "months_in_service": 3, "breakdown": True, "damage_code": "D1",
     "workshop_id": "W 1/中", "record_status": "active", "ticket_id": "T1", "fault_code": "leak", "labour_cost": 12.5,
     "result": "fixed", "failed_at": "2026-01-04", "customer_comment": "漏液", "technician_id": "li"},
    {"repair_id": "R-2", "unit_id": "U1", "reported_at": "2026-02-05 23:30", "country": "Atlantis", "issue_id": TASK,
     "months_in_service": 4.5, "repeat_of": "R-1", "record_status": "withdrawn"},
    {"repair_id": "R-3", "unit_id": "U2", "reported_at": "2026-02-06"},
    {"repair_id": "R-4", "reported_at": "2026-02-07", "issue_id": "P-7"},
]  # fmt: skip
PARTS: list[dict[str, Any]] = [
    {"part_use_id": "x1", "repair_id": "R-1", "unit_id": "U1", "part_no": "77", "part_name": "电池", "part_role": "claimed",
     "part_batch": "2022Q2", "serial_no": "s", "supplier": "S07", "is_causal": True, "is_replaced": True, "qty": 2,
     "treatment": "return", "cost": 46.0, "used_at": "2026-01-06"},
    {"part_use_id": "x2", "repair_id": "R-1", "unit_id": "U1", "part_role": "spare", "part_no": "78", "supplier": "S08",
     "qty": 1, "is_causal": False, "used_at": "2026-01-06"},
    {"part_use_id": "x3", "repair_id": "R-2", "unit_id": None, "qty": 0.5, "used_at": "2026-02-06"},
]  # fmt: skip
CARRIED = ("repair_id", "unit_id", "issue_id", "country", "reported_at", "mileage_km", "months_in_service", "breakdown",
           "damage_code", "workshop_id", "record_status", "repeat_of")  # fmt: skip


def exported(
    tmp_path: Path, name: str = "out.json", options: ExportOptions | None = None, **more: Any
) -> dict[str, Any]:
    snapshot = lake(tmp_path, repair=REPAIRS, part_use=PARTS)
    export_claims(snapshot, tmp_path / name, options or ExportOptions(quality_task=TASK), **more)
    text = (tmp_path / name).read_bytes()
    return json.loads(gzip.decompress(text) if name.endswith(".gz") else text)  # type: ignore[no-any-return]


def test_what_is_written_follows_the_structure_and_says_where_it_comes_from(tmp_path: Path) -> None:
    document = exported(tmp_path)
    assert [one["claimId"] for one in document["claims"]] == ["R-1", "R-2", "R-3"]
    assert [found for one in document["claims"] for found in breaches(one, claims_model().claim)] == []
    assert "Eclipse Tractus-X" in document["metaInformation"]["selectionCriteria"]
    assert "CC-BY-4.0" in document["metaInformation"]["selectionCriteria"]
    first, second = document["claims"][:2]
    assert (first["countryCode"], second["countryCode"]) == ("CHN", "NULL")
    assert first["qualityTaskId"] == str(uuid.uuid5(uuid.NAMESPACE_URL, "aftersales/issue/P-7"))
    assert (first["repairDate"], first["repairMileage"], first["monthInService"]) == ("2026-01-05", 12.5, 3)
    assert (second["repeatedRepair"], second["dateOfPreviousRepair"]) == (True, "2026-01-05")
    assert second["recordStatus"] == "deleted"
    assert first["claimedParts"] == [
        {"partName": "电池", "partNumber": "77", "batchNumber": "2022Q2", "serialNumber": "s", "isPartCausal": True,
         "isPartReplaced": True, "amountOfReplacedParts": 2, "partTreatment": "return"}
    ]  # fmt: skip


def test_repairs_that_cannot_be_a_claim_are_left_out_with_their_reason(tmp_path: Path) -> None:
    snapshot = lake(tmp_path, repair=REPAIRS, part_use=PARTS)
    done = export_claims(snapshot, tmp_path / "out.json")
    assert (done.repairs, done.claims, done.left_out, done.parts) == (4, 2, 2, 3)
    assert [(one.place, one.problem, one.claims, one.example) for one in done.reasons] == [
        ("anonymizedVIN", "missing", 1, "R-4"), ("qualityTaskId", "missing", 1, "R-3")
    ]  # fmt: skip


def test_comments_costs_and_names_stay_at_home_unless_asked_for(tmp_path: Path) -> None:
    plain = json.dumps(exported(tmp_path), ensure_ascii=False)
    assert "漏液" not in plain
    assert "labour_cost" not in plain
    asked = ExportOptions(quality_task=TASK, comments=True, own_fields=True)
    full = json.dumps(exported(tmp_path, options=asked), ensure_ascii=False)
    assert "漏液" in full
    assert "labour_cost" in full
    assert "technician_id" not in full  # P2 has no way out but the comments


def test_only_the_repairs_of_an_issue_or_of_some_days_go_out(tmp_path: Path) -> None:
    some = exported(tmp_path, options=ExportOptions(issues=["P-7"]))
    assert [one["claimId"] for one in some["claims"]] == ["R-1"]
    days = ExportOptions(quality_task=TASK, start=dt.date(2026, 2, 5), end=dt.date(2026, 2, 5))
    some = exported(tmp_path, options=days)
    assert [one["claimId"] for one in some["claims"]] == ["R-2"]
    assert some["metaInformation"]["selectionStart"] == "2026-02-05T00:00:00"


def test_the_date_of_a_repair_can_mean_another_column(tmp_path: Path) -> None:
    document = exported(tmp_path, repair_date="finished_at")
    assert [one.get("repairDate") for one in document["claims"]] == ["2026-01-06", None, None]


def test_the_same_lake_gives_the_same_bytes(tmp_path: Path) -> None:
    exported(tmp_path, "a.json.gz")
    exported(tmp_path, "b.json.gz")
    assert (tmp_path / "a.json.gz").read_bytes() == (tmp_path / "b.json.gz").read_bytes()


def test_an_empty_lake_exports_an_empty_list(tmp_path: Path) -> None:
    done = export_claims(lake(tmp_path), tmp_path / "out.json")
    assert (done.repairs, done.claims) == (0, 0)
    assert json.loads((tmp_path / "out.json").read_text())["claims"] == []


def test_a_quality_task_that_is_no_uuid_is_refused() -> None:
    with pytest.raises(ParameterError, match="no UUID"):
        ExportOptions(quality_task="QT-1")


@pytest.mark.parametrize("own_fields", [False, True])
def test_what_comes_back_is_what_went_out(
    tmp_path: Path, workspace: TestWorkspace, source: Source, own_fields: bool
) -> None:
    out = lake(tmp_path, repair=REPAIRS, part_use=PARTS)
    options = ExportOptions(quality_task=TASK, own_fields=own_fields, comments=True)
    export_claims(out, tmp_path / "out.json.gz", options)
    done = imported(workspace, source, tmp_path / "out.json.gz")
    assert done.breaches == []
    assert done.not_mapped == {}
    assert [delivery.rejected for delivery in done.deliveries] == [0, 0]
    assert all(delivery.values_set_aside == 0 for delivery in done.deliveries)
    columns = [*CARRIED, "customer_comment"]
    if own_fields:
        columns += ["ticket_id", "fault_code", "labour_cost", "result", "failed_at", "finished_at"]

    def rows(snapshot: Any, table: str, key: str, names: list[str]) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = snapshot.table(table).select(names).order_by(key).to_pyarrow().to_pylist()
        return found

    sent = [row for row in rows(out, "repair", "repair_id", columns) if row["unit_id"]]
    assert rows(workspace.snapshot(), "repair", "repair_id", columns) == sent
    names = [name for name in canonical_table("part_use").columns if name != "cost" or own_fields]
    assert rows(workspace.snapshot(), "part_use", "part_use_id", names) == rows(out, "part_use", "part_use_id", names)


@pytest.mark.slow
def test_a_hundred_thousand_claims_go_out_and_come_back_complete(
    tmp_path: Path, workspace: TestWorkspace, source: Source
) -> None:
    count, rng = 100_000, np.random.default_rng(5)
    schema = arrow_schema(canonical_table("repair"))
    moments = pa.array(1_700_000_000_000_000 + rng.integers(0, 10**13, count), pa.timestamp("us", tz="UTC"))
    facts = {
        "repair_id": pa.array([f"R{i:06d}" for i in range(count)]),
        "unit_id": pa.array([f"U{i}" for i in rng.integers(0, 40_000, count)]),
        "reported_at": moments,
        "issue_id": pa.array([TASK] * count),
        "country": pa.array(["CN"] * count),
        "mileage_km": pa.array(rng.random(count) * 1e5),
        "known_at": pa.array([LONG_AGO] * count, pa.timestamp("us", tz="UTC")),
        "yr": pa.array(["2023"] * count),
    }
    table = pa.table([facts.get(one.name, pa.nulls(count, one.type)).cast(one.type) for one in schema], schema=schema)
    write_deltalake(str(tmp_path / "out" / "repair"), table, partition_by=["yr"])
    from aftersales.lake.engine import connect
    from aftersales.lake.store import Store

    snapshot = Store(tmp_path / "out").pin(connect(workspace.open()))
    done = export_claims(snapshot, tmp_path / "out.json")
    back = imported(workspace, source, tmp_path / "out.json")
    assert (done.claims, done.left_out, back.claims, back.breaches) == (count, 0, count, [])
    assert (back.deliveries[0].accepted, back.deliveries[0].rejected) == (count, 0)
    columns = ["repair_id", "unit_id", "reported_at", "mileage_km", "country"]
    both = [
        lake_.table("repair").select(columns).order_by("repair_id").to_pyarrow()
        for lake_ in (snapshot, workspace.snapshot())
    ]
    assert both[0].equals(both[1])


def test_the_command_sends_out_and_takes_in(
    tmp_path: Path, workspace: TestWorkspace, source: Source, capsys: pytest.CaptureFixture[str]
) -> None:
    def said(*arguments: str, code: int = 0) -> Any:
        call = typer.main.get_command(app)
        found = call(["exchange", *arguments, "-w", str(workspace.root), "--json"], standalone_mode=False)
        assert (found or 0) == code
        return json.loads(capsys.readouterr().out)

    taken = said("import", str(received(workspace, CLAIM)))
    assert (taken["claims"], taken["deliveries"][0]["inserted"], taken["repair_date"]) == (1, 1, "reported_at")
    sent = said("export", str(tmp_path / "out.json"))
    assert (sent["repairs"], sent["claims"], sent["left_out"]) == (1, 1, 0)
    again = said("import", str(tmp_path / "out.json"))
    assert (again["deliveries"][0]["unchanged"], again["deliveries"][0]["corrected"]) == (
        0,
        1,
    )  # the comment stayed at home
