"""Real files through the example sources: what the data's README says, or plain Python over the file, comes out.

The files are not in the repository. They are looked for in $AFTERSALES_SHARED, else in `shared` beside the repository.
"""

from __future__ import annotations

import csv
import datetime as dt
import gzip
import os
import re
import statistics
from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from aftersales.attribute.cells import Cells, failure_cells
from aftersales.attribute.drilldown import drill_down, rates_by
from aftersales.collect.ingest import Delivery, ingest_source
from aftersales.collect.mapping import read_source
from aftersales.lake.engine import connect
from aftersales.lake.store import Snapshot, Store
from aftersales.measure.compute import compute
from aftersales.model.settings import Workspace, open_workspace

ROOT = Path(__file__).parent.parent
EXAMPLES = ROOT / "data" / "sources" / "examples"
SHARED = Path(os.environ.get("AFTERSALES_SHARED") or ROOT.parent / "shared")
COMPLAINTS, RECALLS = "nhtsa_kia/kia_complaints.csv.gz", "nhtsa_kia/kia_recalls.csv.gz"
FIELD = "field_warranty_weibulltools/field_data.csv.gz"
INCIDENTS = "itsm_uci_incidents/incident_event_log.csv.gz"

RECALLED_MODELS = {"model": ["OPTIMA", "SORENTO", "SPORTAGE"], "generation": ["2011", "2012", "2013", "2014"]}
OLDEST_INCIDENT = dt.date(2000, 1, 1)


def instant(year: int, month: int, day: int) -> dt.datetime:
    return dt.datetime(year, month, day, tzinfo=dt.UTC)


KIA_AS_OF, INCIDENTS_AS_OF = instant(2017, 12, 31), instant(2017, 6, 30)
FIELD_AS_OF = instant(2015, 12, 31)
FIELD_RIPE = instant(2016, 1, 31)
"""failure_rate counts what is 21 days old: on this day all of 2015 is."""


@dataclass(frozen=True)
class Loaded:
    """A workspace after the example sources have been loaded into it once."""

    workspace: Workspace
    snapshot: Snapshot
    ledger: Mapping[tuple[str, str], Delivery]
    """(source, table) -> counts."""

    def reasons(self, kind: str, table: str) -> Counter[str]:
        """How often each reason stands in the quarantine."""
        rows = self.snapshot.table("quarantine").execute()
        rows = rows[(rows["kind"] == kind) & (rows["table"] == table)]
        return Counter(reason for reasons in rows["reasons"] for reason in reasons)


def real_file(name: str) -> Path:
    path = SHARED / "data" / name
    if not path.is_file():
        pytest.skip(f"real data are not here: {path} is absent (AFTERSALES_SHARED names the folder with data/)")
    return path


def rows_of(name: str) -> list[dict[str, str]]:
    """The rows of a file as the standard library reads them."""
    with gzip.open(real_file(name), "rt", encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def load(root: Path, files: Mapping[str, str]) -> Loaded:
    paths = {source: real_file(name) for source, name in files.items()}
    (root / "workbench.yml").write_text("name: real data\n", encoding="utf-8")
    workspace = open_workspace(root)
    ledger: dict[tuple[str, str], Delivery] = {}
    for name, path in paths.items():
        source = read_source(EXAMPLES / f"{name}.yml", workspace)
        for deliveries in ingest_source(workspace, source, files=str(path)):
            ledger |= {(name, delivery.table): delivery for delivery in deliveries}
    return Loaded(workspace, Store(workspace.lake).pin(connect(workspace)), ledger)


KIA_FILES = {"nhtsa_complaints": COMPLAINTS, "nhtsa_recalls": RECALLS, "nhtsa_recall_products": RECALLS}


@pytest.fixture(scope="session")
def kia(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load(tmp_path_factory.mktemp("kia"), KIA_FILES)


@pytest.fixture(scope="session")
def field(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load(tmp_path_factory.mktemp("field"), {"vehicle_field_data": FIELD})


@pytest.fixture(scope="session")
def incidents(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    return load(tmp_path_factory.mktemp("incidents"), {"incident_event_log": INCIDENTS})


@pytest.fixture(scope="session")
def raw_complaints() -> list[dict[str, str]]:
    return rows_of(COMPLAINTS)


@pytest.fixture(scope="session")
def engine_cells(field: Loaded) -> Cells:
    dimensions = ["x_engine_type", "x_gear_type", "x_fuel", "x_transmission", "model", "x_climatic_zone"]
    return failure_cells(field.snapshot, "failure_rate", dimensions, as_of=FIELD_RIPE)


# ---------------------------------------------------------------------------------------------- the example files


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yml")), ids=lambda path: path.stem)
def test_an_example_loads_and_says_what_it_is_its_licence_and_where_the_file_goes(path: Path, tmp_path: Path) -> None:
    (tmp_path / "workbench.yml").write_text("name: examples\n", encoding="utf-8")
    source = read_source(path, open_workspace(tmp_path))
    header = path.read_text(encoding="utf-8").split("\nname:")[0]
    assert source.files.startswith("data/raw/")
    assert source.licence
    assert set(source.title) == {"en", "zh"}
    assert re.search("^# What +:", header)
    assert ("Licence" in header and "aftersales ingest" in header) or "nhtsa_recalls.yml; see there" in header


# ------------------------------------------------------------------------------------------------ Kia: complaints


def json_date(text: str) -> tuple[dt.datetime, dt.date]:
    """The instant and the day where it was written, of '/Date(1080709200000-0500)/'."""
    found = re.fullmatch(r"/Date\((-?\d+)([+-])(\d\d)(\d\d)\)/", text)
    assert found
    milliseconds, sign, hours, minutes = found.groups()
    moment = instant(1970, 1, 1) + dt.timedelta(milliseconds=int(milliseconds))
    shift = dt.timedelta(hours=int(hours), minutes=int(minutes))
    return moment, (moment + shift if sign == "+" else moment - shift).date()


def labels_of(row: Mapping[str, str]) -> set[str]:
    return {label.strip() for label in row["Component"].split(" | ") if label.strip()}


def test_every_complaint_row_is_accounted_for(kia: Loaded) -> None:
    ledger = kia.ledger["nhtsa_complaints", "complaint"]
    assert (ledger.rows_read, ledger.accepted, ledger.rejected, ledger.duplicate) == (11_012, 10_996, 0, 16)
    for delivery in kia.ledger.values():
        assert delivery.rows_read == delivery.accepted + delivery.rejected + delivery.duplicate
        assert delivery.accepted == delivery.inserted + delivery.corrected + delivery.unchanged


def test_repeated_numbers_are_reported_and_keep_their_labels(kia: Loaded, raw_complaints: list[dict[str, str]]) -> None:
    rows_by_number = defaultdict(list)
    for row in raw_complaints:
        rows_by_number[row["ODINumber"]].append(row)
    repeated = {number: rows for number, rows in rows_by_number.items() if len(rows) > 1}
    assert sum(len(rows) - 1 for rows in repeated.values()) == 16

    kept_back = kia.snapshot.table("quarantine").execute()
    kept_back = kept_back[(kept_back["kind"] == "duplicate") & (kept_back["table"] == "complaint")]
    # one of the 16 differs from the row that stays in its labels only, and those are all kept
    assert kia.reasons("duplicate", "complaint") == {"key:repeated_with_other_content": 15}
    only_labels = {number for number, rows in repeated.items() if number not in " ".join(kept_back["raw"])}
    assert only_labels == {"563585"}

    tags = kia.snapshot.table("tag").execute()
    for number, rows in repeated.items():
        found = tags[(tags["source_id"] == number) & (tags["source_table"] == "complaint")]["tag"]
        assert set(found) == set().union(*(labels_of(row) for row in rows))


def test_dates_before_1970_are_read(kia: Loaded) -> None:
    # /Date(-2177434800000-0500)/ is 1 January 1901 in New York: 20 times; and one of 1917
    rows = kia.snapshot.table("quarantine").execute()
    aside = rows[rows["raw"].str.contains(r"/Date\(-", regex=True)]
    assert len(aside) == 21
    assert {reason for reasons in aside["reasons"] for reason in reasons} == {"occurred_at:before_2000-01-01"}
    first = kia.snapshot.table("complaint").received_at.min().execute()
    assert first.to_pydatetime() == dt.datetime(2000, 10, 12, 4, tzinfo=dt.UTC)


def test_impossible_incident_dates_are_set_aside_and_the_complaint_stays(
    kia: Loaded, raw_complaints: list[dict[str, str]]
) -> None:
    too_old, too_late, before_1990 = [], [], 0
    for row in raw_complaints:
        if not row["DateofIncident"]:
            continue
        happened, filed = json_date(row["DateofIncident"])[1], json_date(row["DateComplaintFiled"])[1]
        too_old += [row["ODINumber"]] if happened < OLDEST_INCIDENT else []
        too_late += [row["ODINumber"]] if happened > filed else []
        before_1990 += happened.year < 1990
    assert before_1990 == 23  # the data's README
    assert (len(too_old), len(too_late)) == (27, 2)

    expected = {"occurred_at:before_2000-01-01": 27, "occurred_at:after_received_at": 2}
    assert kia.reasons("value", "complaint") == expected
    assert kia.ledger["nhtsa_complaints", "complaint"].values_set_aside == 29
    complaint = kia.snapshot.table("complaint")
    stay = complaint.filter(complaint.complaint_id.isin([*too_old, *too_late])).execute()
    assert len(stay) == 29
    assert stay["occurred_at"].isna().all()
    assert complaint.occurred_at.min().execute().date() >= OLDEST_INCIDENT


def test_safety_and_severity_follow_crash_fire_injuries_and_deaths(
    kia: Loaded, raw_complaints: list[dict[str, str]]
) -> None:
    last = {row["ODINumber"]: row for row in raw_complaints}  # of a repeated number the last row stays
    flagged = {number for number, row in last.items() if "Yes" in (row["Crash"], row["Fire"])}
    harm = Counter(
        "critical" if row["NumberOfDeaths"] != "0" else "high" if row["NumberOfInjured"] != "0" else "low"
        for row in last.values()
    )
    found = kia.snapshot.table("complaint").execute()
    assert set(found[found["safety_flag"]]["complaint_id"]) == flagged
    assert Counter(found["severity"]) == harm


def test_a_complaint_counts_once_in_total_and_once_under_each_component(
    kia: Loaded, raw_complaints: list[dict[str, str]]
) -> None:
    numbers_of_group = defaultdict(set)
    for row in raw_complaints:
        for label in labels_of(row):
            numbers_of_group[label.split(":")[0].strip()].add(row["ODINumber"])
    total = compute(kia.snapshot, "complaint_count", as_of=KIA_AS_OF).rows
    groups = compute(kia.snapshot, "complaint_count", by=["component_group"], as_of=KIA_AS_OF).rows
    assert total["count"].tolist() == [10_996]
    assert dict(zip(groups["component_group"], groups["count"], strict=True)) == {
        group: len(numbers) for group, numbers in numbers_of_group.items()
    }
    assert groups["count"].sum() > 10_996


@pytest.mark.parametrize("dimension", ["component_group", "component"])
def test_engine_complaints_of_the_recalled_models_jump_after_publicity(kia: Loaded, dimension: str) -> None:
    # the label is exactly ENGINE; 'ENGINE AND ENGINE COOLING' is the name before mid-2012
    result = compute(
        kia.snapshot,
        "complaint_count",
        where={**RECALLED_MODELS, dimension: ["ENGINE"]},
        period="quarter",
        as_of=KIA_AS_OF,
    )
    quarters = dict(zip(result.rows["period"], result.rows["count"], strict=True))
    assert quarters[dt.date(2016, 7, 1)] == 73
    assert quarters[dt.date(2017, 4, 1)] == 131
    assert max(count for quarter, count in quarters.items() if quarter < dt.date(2016, 7, 1)) == 36


def test_what_was_known_on_1_october_2016_already_has_the_first_jump_and_nothing_later(kia: Loaded) -> None:
    as_of = instant(2016, 10, 1)
    snapshot = Store(kia.workspace.lake).pin(connect(kia.workspace), as_of=as_of)
    result = compute(
        snapshot,
        "complaint_count",
        where={**RECALLED_MODELS, "component_group": ["ENGINE"]},
        period="quarter",
        as_of=as_of,
    )
    quarters = dict(zip(result.rows["period"], result.rows["count"], strict=True))
    assert max(quarters) == dt.date(2016, 7, 1)
    assert quarters[dt.date(2016, 7, 1)] == 73


@pytest.mark.parametrize("by", [[], ["model"]])
def test_a_complaint_rate_is_refused_because_no_sales_are_known(kia: Loaded, by: list[str]) -> None:
    result = compute(kia.snapshot, "complaint_rate", by=by, as_of=KIA_AS_OF)
    assert result.state == "refused"
    assert "no units in service" in result.refusal("en")
    assert "分母" in result.refusal("zh")
    assert result.rows.empty


def test_the_same_file_again_changes_nothing(kia: Loaded) -> None:
    before = Store(kia.workspace.lake).pin(connect(kia.workspace)).versions
    source = read_source(EXAMPLES / "nhtsa_complaints.yml", kia.workspace)
    (again,) = ingest_source(kia.workspace, source, files=str(real_file(COMPLAINTS)))
    assert all(delivery.skipped for delivery in again)
    assert Store(kia.workspace.lake).pin(connect(kia.workspace)).versions == before


# --------------------------------------------------------------------------------------------------- Kia: recalls


def test_recall_rows_fold_into_campaigns_and_lose_no_product(kia: Loaded) -> None:
    ledger = kia.ledger["nhtsa_recalls", "recall"]
    assert (ledger.rows_read, ledger.accepted, ledger.rejected, ledger.duplicate) == (194, 69, 0, 125)
    raw = {(row["NHTSACampaignNumber"], f"{row['Make']}/{row['Model']}/{row['ModelYear']}") for row in rows_of(RECALLS)}
    tags = kia.snapshot.table("tag").execute()
    tags = tags[(tags["source_table"] == "recall") & (tags["tag_set"] == "product")]
    assert len(raw) == 194
    assert set(zip(tags["source_id"], tags["tag"], strict=True)) == raw


def test_recall_17v224_names_the_models_whose_complaints_jump(kia: Loaded) -> None:
    tags = kia.snapshot.table("tag").execute()
    tags = tags[tags["source_id"] == "17V224000"]
    assert set(tags[tags["tag_set"] == "component"]["tag_group"]) == {"ENGINE AND ENGINE COOLING"}
    products = tags[tags["tag_set"] == "product"]
    assert Counter(products["tag_group"]) == {"OPTIMA": 4, "SORENTO": 3, "SPORTAGE": 3}
    known = kia.snapshot.table("product").execute()
    assert set(products["tag"]) <= set(known["product_id"])  # recalls and complaints meet in the product
    recall = kia.snapshot.table("recall").execute().set_index("recall_id").loc["17V224000"]
    assert recall["published_at"].date() == dt.date(2017, 3, 31)


# ------------------------------------------------------------------------------------------- vehicles in the field


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


# -------------------------------------------------------------------------------------------------- incident log


def test_every_event_is_kept_and_every_incident_is_one_ticket(incidents: Loaded) -> None:
    tickets, events = (incidents.ledger["incident_event_log", table] for table in ("ticket", "ticket_event"))
    assert (tickets.rows_read, tickets.accepted, tickets.rejected, tickets.duplicate) == (141_712, 24_918, 0, 116_794)
    assert (events.rows_read, events.accepted, events.rejected, events.duplicate) == (141_712, 141_712, 0, 0)
    assert compute(incidents.snapshot, "ticket_count", as_of=INCIDENTS_AS_OF).rows["count"].tolist() == [24_918]


def test_a_ticket_has_the_state_of_its_last_event(incidents: Loaded) -> None:
    last = {row["number"]: row for row in rows_of(INCIDENTS)}  # the file is in the order of updates
    found = incidents.snapshot.table("ticket").execute().set_index("ticket_id")
    assert found["team"].fillna("?").to_dict() == {number: row["assignment_group"] for number, row in last.items()}
    assert found["reassigned_n"].to_dict() == {number: int(row["reassignment_count"]) for number, row in last.items()}
    assert set(found["status"]) == {"closed"}


def test_five_unreadable_states_are_set_aside_and_reported(incidents: Loaded) -> None:
    assert incidents.reasons("value", "ticket_event") == {"to_status:unknown_value": 5}


def test_service_level_as_the_source_judged_it(incidents: Loaded) -> None:
    whole = compute(incidents.snapshot, "sla_attainment", as_of=INCIDENTS_AS_OF).rows
    assert (whole["base"].iloc[0], round(whole["value"].iloc[0], 3)) == (24_918, 0.634)
    rows = compute(incidents.snapshot, "sla_attainment", by=["severity"], as_of=INCIDENTS_AS_OF).rows
    assert rows.set_index("severity")["value"].round(3).to_dict() == {
        "critical": 0.019,
        "high": 0.005,
        "medium": 0.645,
        "low": 0.841,
    }


def test_resolution_ends_when_resolved_and_not_at_the_automatic_close(incidents: Loaded) -> None:
    def moment(text: str) -> dt.datetime:
        day, clock = text.split(" ")
        d, m, y = (int(part) for part in day.split("/"))
        return dt.datetime(y, m, d, *(int(part) for part in clock.split(":")))

    last = {row["number"]: row for row in rows_of(INCIDENTS)}.values()
    hours = {
        end: statistics.median(
            (moment(row[end]) - moment(row["opened_at"])).total_seconds() / 3600 for row in last if row[end] != "?"
        )
        for end in ("resolved_at", "closed_at")
    }
    result = compute(incidents.snapshot, "resolution_time", as_of=INCIDENTS_AS_OF)
    row = result.rows.iloc[0]
    assert (row["base"], row["base"] - row["count"]) == (24_918, 1_556)
    assert row["value"] == pytest.approx(hours["resolved_at"])
    assert round(row["value"], 1) == 22.1
    assert row["low"] < row["value"] < row["high"]
    assert round(hours["closed_at"]) == 6 * 24 + 2  # the trap
    assert "1,556" in result.notes[0][0]


def test_reopened_and_reassigned_shares(incidents: Loaded) -> None:
    tickets = incidents.snapshot.table("ticket").execute()
    assert round(tickets["is_reopened"].mean(), 3) == 0.011
    assert round((tickets["reassigned_n"] > 0).mean(), 3) == 0.456


def test_nearly_everything_comes_by_phone(incidents: Loaded) -> None:
    channels = compute(incidents.snapshot, "ticket_share", by=["channel"], as_of=INCIDENTS_AS_OF).rows
    assert round(channels.set_index("channel")["value"]["phone"], 2) == 0.99
