"""Complaints and requests of three authorities: shares, open cases and months, as their README says."""

from __future__ import annotations

import csv
import datetime as dt
import gzip
from collections import Counter

import pandas as pd
import pytest

from aftersales.measure.compute import compute
from real.sets import Loaded, Sets, instant, real_file

# --------------------------------------------------------------------------------------------------------- banks


@pytest.fixture(scope="module")
def banks(sets: Sets) -> pd.DataFrame:
    return sets("cfpb").snapshot.table("complaint").execute()


def test_timely_answers_open_cases_and_the_largest_groups(banks: pd.DataFrame) -> None:
    assert Counter(banks["timely"]) == {True: 8_179, False: 161}
    assert round(banks["timely"].mean(), 3) == 0.981
    assert (banks["status"] == "in_progress").sum() == 1_759
    assert (banks["decision"] == "in progress").sum() == 1_759
    products = banks["category"].value_counts()
    assert products[["Mortgage", "Debt collection", "Credit reporting"]].tolist() == [2_210, 2_118, 1_661]
    companies = banks["x_company"].value_counts()
    assert (companies.index[0], companies.iloc[0]) == ("Equifax", 601)
    assert banks["accepted_by_complainant"].isna().mean() == pytest.approx(0.874, abs=0.001)


def test_days_of_month_first_dates(banks: pd.DataFrame) -> None:
    days = banks["received_at"].dt.tz_convert("America/New_York").dt.date
    assert (days.min(), days.max()) == (dt.date(2014, 10, 10), dt.date(2014, 11, 13))


def test_the_service_level_of_the_tickets_is_the_share_of_timely_answers(sets: Sets) -> None:
    row = compute(sets("cfpb").snapshot, "sla_attainment", as_of=instant(2014, 12, 31)).rows.iloc[0]
    assert (row["count"], row["base"]) == (8_179, 8_340)


# -------------------------------------------------------------------------------------------------------- devices


@pytest.fixture(scope="module")
def devices(sets: Sets) -> Loaded:
    return sets("maude")


def test_reports_jump_in_the_last_quarter_with_one_maker(devices: Loaded) -> None:
    rows = compute(devices.snapshot, "complaint_count", period="month", as_of=instant(2018, 1, 31)).rows
    months = dict(zip(rows["period"], rows["count"], strict=True))
    assert sum(n for month, n in months.items() if month < dt.date(2017, 10, 1)) == 310
    assert sum(n for month, n in months.items() if month >= dt.date(2017, 10, 1)) == 225
    reports = devices.snapshot.table("complaint").execute()
    maker = reports[reports["x_manufacturer"] == "BIOMET FRANCE S.A.R.L."]
    monthly = maker["received_at"].dt.month.value_counts()
    assert monthly[10] == 48
    assert sorted(monthly[range(1, 10)])[-1] == 23


def test_harm_and_lots_that_are_no_lots(devices: Loaded) -> None:
    reports = devices.snapshot.table("complaint").execute()
    assert reports["category"].value_counts()[["death", "injury", "malfunction"]].tolist() == [11, 182, 341]
    assert reports["severity"].value_counts()[["critical", "high", "medium"]].tolist() == [11, 182, 341]
    assert reports["x_lot_number"].isna().sum() == 35 + 32 + 10 + 9 + 3  # blank, NI, UNK, UNKNOWN, N/A
    assert not {"NI", "UNK", "UNKNOWN", ""} & set(reports["x_lot_number"].dropna())


def test_the_simulated_region_is_not_loaded_and_a_rate_is_refused(devices: Loaded) -> None:
    assert "x_region" not in devices.snapshot.table("complaint").columns
    result = compute(devices.snapshot, "complaint_rate", as_of=instant(2018, 1, 31))
    assert result.state == "refused"
    assert "no units in service" in result.refusal("en")


# ----------------------------------------------------------------------------------------------------------- city


@pytest.fixture(scope="module")
def city(sets: Sets) -> Loaded:
    return sets("nyc")


def test_open_requests_and_the_largest_groups(city: Loaded) -> None:
    tickets = city.snapshot.table("ticket").execute()
    assert round(tickets["closed_at"].isna().mean(), 3) == 0.415
    assert Counter(tickets["status"]) == {"closed": 5_852, "open": 4_148}
    kinds = tickets["issue_type"].value_counts()
    assert kinds[["Noise - Residential", "Illegal Parking"]].tolist() == [2_053, 1_787]
    assert tickets["team"].value_counts()["NYPD"] == 6_692
    assert tickets["region"].isna().sum() == 6  # 'Unspecified'
    local = tickets["created_at"].dt.tz_convert("America/New_York").dt.strftime("%Y-%m-%d %H:%M")
    assert (local.min(), local.max()) == ("2026-06-27 01:57", "2026-06-28 03:05")


def test_the_median_of_closed_requests_says_that_the_open_ones_are_not_in_it(city: Loaded) -> None:
    result = compute(city.snapshot, "resolution_time", as_of=instant(2026, 12, 31))
    row = result.rows.iloc[0]
    assert (row["base"], row["count"]) == (10_000, 5_852)
    assert round(row["value"], 1) == 1.0
    assert result.notes[0][0].startswith("4,148 rows have no end yet")


# -------------------------------------------------------------------------------------------------------- recalls


def test_recalls_of_one_brand_and_their_dates(sets: Sets) -> None:
    recalls = sets("korea").snapshot.table("recall").execute()
    days = recalls["published_at"].dt.tz_convert("Asia/Seoul").dt.date
    assert (days.min(), days.max()) == (dt.date(2011, 2, 7), dt.date(2016, 12, 30))
    assert (recalls["manufacturer"] == "BMW").sum() == 384
    assert (len(recalls), recalls["recall_qty"].isna().sum()) == (1_652, 1_182)  # one row without it occurs twice
    assert round((1_182 + 1) / 1_653, 3) == 0.716
    assert (recalls["built_to"].dropna() >= pd.Timestamp("1990-01-01")).all()
    first = recalls[(recalls["models"] == "아반떼하이브리드") & (days == dt.date(2011, 3, 23))].iloc[0]
    window = [pd.Timestamp(first[name]).date() for name in ("built_from", "built_to")]
    assert window == [dt.date(2009, 12, 1), dt.date(2010, 3, 31)]


def test_yearly_originals_give_what_their_text_says(sets: Sets) -> None:
    recalls = sets("korea_files").snapshot.table("recall").execute()
    per_file = recalls["source_file"].str.extract(r"(\d{4})")[0].value_counts().sort_index()
    assert per_file.to_dict() == {"2011": 83, "2012": 79, "2013": 90, "2014": 395, "2015": 495, "2016": 577}
    with gzip.open(real_file("korea_recalls/raw_2015.csv.gz"), "rt", encoding="cp949", newline="") as stream:
        rows = list(csv.DictReader(stream))
    found = recalls[recalls["source_file"].str.contains("2015")]
    assert Counter(found["models"]) == Counter(row["차명"].strip() for row in rows)
    assert found["recall_qty"].sum() == sum(int(row["대수"] or 0) for row in rows)
    assert recalls[recalls["source_file"].str.contains("2013")]["recall_qty"].isna().all()  # a year without the column


def test_production_windows_are_read_in_every_style(sets: Sets) -> None:
    recalls = sets("korea_files").snapshot.table("recall").execute()

    def window(file: str, model: str) -> list[list[str]]:
        rows = recalls[recalls["source_file"].str.contains(file) & (recalls["models"] == model)]
        return rows[["built_from", "built_to"]].astype(str).values.tolist()

    assert window("2011", "아반떼하이브리드") == [["2009-12-01", "2010-03-31"]]  # `09.12.01~`10.03.31
    assert window("2013", "아반떼,싼타페,베라크루즈") == [["2008-09-01", "2011-06-30"]]  # two columns
    assert ["2012-06-08", "2013-12-12"] in window("2014", "스파크")  # 12.06.08~13.12.12
    days = recalls["published_at"].dt.tz_convert("Asia/Seoul")
    assert (days.dt.year - recalls["source_file"].str.extract(r"(\d{4})")[0].astype(int)).abs().max() <= 2  # written so
    assert recalls["due_complete_at"].notna().sum() > 100  # 14.2.25~15.8.24
