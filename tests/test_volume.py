"""Expected volume: a second way of computing it, honest with little history, odd days found."""

from __future__ import annotations

import datetime as dt

import numpy as np
import pytest
from conftest import TestWorkspace, csv_text
from scipy import stats

from aftersales.collect.volume import judge, odd_periods, volume

FIRST = dt.date(2024, 1, 1)  # a Monday


def test_the_interval_is_that_of_a_negative_binomial_around_the_median() -> None:
    history = [10, 30, 20, 20, 10, 30, 20, 20]
    found = judge(np.array([*history, 21]), "week")
    variance = (1.4826 * 5) ** 2 * (1 + np.pi / 2 / 8)  # deviations 10 10 0 0 10 10 0 0: their median is 5
    chance = 20 / variance
    expected = stats.nbinom(20 * chance / (1 - chance), chance)
    assert found["expected"][-1] == 20
    assert (found["low"][-1], found["high"][-1]) == (expected.ppf(0.0025), expected.ppf(0.9975))


def test_the_interval_is_never_narrower_than_that_of_a_poisson_count() -> None:
    found = judge(np.array([100] * 13), "week")
    poisson = stats.poisson(100)
    assert found["low"][-1] <= poisson.ppf(0.0025)
    assert found["high"][-1] >= poisson.ppf(0.9975)
    assert found["high"][-1] < 140


@pytest.mark.parametrize(("last", "state"), [(0, "missing"), (20, "too_few"), (100, "ok"), (200, "too_many")])
def test_a_week_is_judged_by_the_weeks_before_it(last: int, state: str) -> None:
    assert judge(np.array([100, 104, 97, 99, 102, 101, 98, last]), "week")["state"][-1] == state


def test_one_odd_week_in_the_history_moves_nothing() -> None:
    steady = judge(np.array([100] * 10), "week")
    odd = judge(np.array([100, 100, 5000, 100, 100, 100, 100, 100, 100, 100]), "week")
    assert odd["expected"][-1] == steady["expected"][-1] == 100
    assert odd["state"][-1] == "ok"


def test_with_little_history_it_cannot_be_told() -> None:
    days = judge(np.array([50] * 40), "day")
    assert days["history_n"].tolist()[:8] == [0] * 7 + [1]
    assert set(days["state"][:35]) == {"cannot_tell"}
    assert days["state"][35] == "ok"
    assert np.isnan(days["low"][34])


def test_false_alarms_are_as_rare_as_promised() -> None:
    counts = np.random.default_rng(7).poisson(40, 7000)
    states = judge(counts, "day")["state"]
    assert np.isin(states, ["too_few", "too_many", "missing"]).mean() < 0.02


def test_rare_events_never_miss_a_day() -> None:
    assert judge(np.zeros(100), "day")["state"][-1] == "ok"


@pytest.fixture
def loaded(workspace: TestWorkspace) -> TestWorkspace:
    """Ten rows a day for ten weeks, twenty on Mondays; one Sunday brings none and one Wednesday eighty."""
    rows = []
    for day in range(70):
        date = FIRST + dt.timedelta(days=day)
        n = {55: 0, 58: 80}.get(day, 20 if date.weekday() == 0 else 10)
        rows += [[f"t{day}-{i}", f"{date} {10 + i % 10}:00:00", "open", "1"] for i in range(n)]
    workspace.file("a.csv", csv_text(["id", "created", "status", "cost"], rows))
    workspace.ingest(workspace.source())
    return workspace


def test_the_days_of_a_source_come_without_gaps_and_the_odd_ones_marked(loaded: TestWorkspace) -> None:
    found = volume(loaded.snapshot(), "crm").set_index("period")
    assert len(found) == 70
    assert found["rows"].sum() == 70 * 10 + 10 * 10 - 10 + 70
    assert found.loc[dt.date(2024, 2, 25), ["rows", "state"]].tolist() == [0, "missing"]
    assert found.loc[dt.date(2024, 2, 28), ["rows", "state"]].tolist() == [80, "too_many"]
    assert found.loc[dt.date(2024, 2, 26), ["rows", "expected", "state"]].tolist() == [20, 20.0, "ok"]
    assert found["state"].iloc[-1] == "open"
    assert set(found["state"].iloc[:35]) == {"cannot_tell"}


def test_the_odd_days_of_the_last_weeks_are_listed(loaded: TestWorkspace) -> None:
    found = odd_periods(loaded.snapshot(), ["crm", "nobody"], weeks=3)
    assert found[["source", "rows", "state"]].to_numpy().tolist() == [["crm", 0, "missing"], ["crm", 80, "too_many"]]


def test_weeks_add_up_the_days(loaded: TestWorkspace) -> None:
    found = volume(loaded.snapshot(), "crm", per="week", since=dt.date(2024, 2, 19))
    assert found[["rows", "state"]].to_numpy().tolist() == [[70, "ok"], [150, "too_many"], [80, "open"]]


def test_a_source_that_delivered_nothing_has_no_volume(workspace: TestWorkspace) -> None:
    assert volume(workspace.snapshot(), "crm").empty
    assert odd_periods(workspace.snapshot(), []).empty


def test_days_whose_rows_are_not_all_known_yet_are_open(workspace: TestWorkspace) -> None:
    """A tenth of the rows becomes known five days late: the last five days have lost nothing, they are just young."""
    rows = []
    for day in range(70):
        date = FIRST + dt.timedelta(days=day)
        for i in range(20):
            known = date + dt.timedelta(days=5 if i < 2 else 0)
            if known <= FIRST + dt.timedelta(days=69):
                rows.append([f"t{day}-{i}", f"{date} 10:00:00", f"{known} 10:00:00"])
    workspace.file("a.csv", csv_text(["id", "created", "known"], rows))
    text = """
        owner: test
        files: data/raw/*
        tables: {ticket: {columns: {ticket_id: id, created_at: created, known_at: known}}}
    """
    workspace.ingest(workspace.source(text))
    states = volume(workspace.snapshot(), "crm")["state"].tolist()
    assert states[-6:] == ["open"] * 6
    assert set(states[35:-6]) == {"ok"}
