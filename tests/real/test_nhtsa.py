"""Owner complaints and recalls of one make: what the data's README says, or plain Python over the file, comes out."""

from __future__ import annotations

import datetime as dt
import re
from collections import Counter, defaultdict
from collections.abc import Mapping

import pandas as pd
import pytest

from aftersales.collect.ingest import ingest_source
from aftersales.collect.mapping import read_source
from aftersales.lake.engine import connect
from aftersales.lake.store import Store
from aftersales.measure.compute import compute
from real.sets import EXAMPLES, RECALLS, SETS, Loaded, Sets, instant, real_file, rows_of

COMPLAINTS = SETS["kia"]["nhtsa_complaints"]
RECALLED_MODELS = {"model": ["OPTIMA", "SORENTO", "SPORTAGE"], "generation": ["2011", "2012", "2013", "2014"]}
OLDEST_INCIDENT = dt.date(2000, 1, 1)
KIA_AS_OF = instant(2017, 12, 31)


@pytest.fixture(scope="module")
def kia(sets: Sets) -> Loaded:
    return sets("kia")


@pytest.fixture(scope="module")
def narratives(kia: Loaded) -> pd.DataFrame:
    return kia.snapshot.table("complaint").select("complaint_id", "product_id", "received_at", "description").execute()


@pytest.fixture(scope="module")
def raw_complaints() -> list[dict[str, str]]:
    return rows_of(COMPLAINTS)


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
    found = kia.snapshot.table("complaint").select("complaint_id", "safety_flag", "severity").execute()
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


# ------------------------------------------------------------------------------------------- what the narratives say


def test_an_issue_without_a_recall_is_in_the_labels_and_in_the_narratives(
    kia: Loaded, narratives: pd.DataFrame
) -> None:
    complaints = narratives.set_index("complaint_id")
    sorento = complaints[complaints["product_id"] == "KIA/SORENTO/2011"]
    tags = kia.snapshot.table("tag").execute()
    structure = set(tags[(tags["source_table"] == "complaint") & tags["tag"].str.contains("STRUCTURE")]["source_id"])
    found = sorento[sorento.index.isin(structure)]
    assert (len(found), found["description"].str.contains("handle", case=False).sum()) == (162, 54)
    years = found["received_at"].dt.year.value_counts()
    assert years[[2015, 2016]].sum() > years.drop([2015, 2016]).sum()


def test_shattered_sunroofs_are_found_in_the_text_only(narratives: pd.DataFrame) -> None:
    text = narratives["description"].fillna("")
    broken = text.str.contains("sunroof|sun roof|panoram", case=False) & text.str.contains("explod|shatter", case=False)
    models = narratives[broken]["product_id"].str.split("/").str[1].value_counts()
    assert (broken.sum(), models[["SORENTO", "OPTIMA", "SPORTAGE"]].tolist()) == (157, [76, 44, 17])


def test_no_narrative_has_a_telephone_number_any_more(
    kia: Loaded, narratives: pd.DataFrame, raw_complaints: list[dict[str, str]]
) -> None:
    plain = re.compile(r"\d{3}-\d{3}-\d{4}")
    before = [row["Summary"] for row in raw_complaints if plain.search(row["Summary"])]
    assert sum(bool(re.search(rf"\b{plain.pattern}\b", text)) for text in before) == 46
    assert len(before) == 48  # two more are written 1800-333-4542
    assert not narratives["description"].fillna("").str.contains(plain).any()
    assert not kia.snapshot.table("quarantine").raw.execute().str.contains(plain).any()
