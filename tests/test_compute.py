"""The metric engine: every metric a second way on dirty rows, worked examples, refusals, windows and states."""

from __future__ import annotations

import datetime as dt
import itertools
import math
from collections.abc import Callable, Hashable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from lakes import at, day, lake
from scipy import stats
from statsmodels.stats.proportion import proportion_confint

from aftersales.lake.store import Snapshot
from aftersales.measure.compute import RESULT_COLUMNS, MetricResult, compute
from aftersales.measure.definitions import metric, metrics
from aftersales.model.errors import MetricError

AS_OF = at("2024-12-31 15:59")
MONTH_DAYS = 30.4375
STRANGE = ["M'1", 'M"2, b', "型号/三", "M😀4", None]

Row = dict[str, Any]


# ------------------------------------------------------------------------------------------------- the dirty world


def dirty_world(seed: int = 20240501) -> dict[str, list[Row]]:
    """A few hundred rows with unknown units, missing values, negative spans and strange names."""
    random = np.random.default_rng(seed)

    def pick(*values: Any) -> Any:
        return values[random.integers(len(values))]

    def moment(low: int = 0, high: int = 730) -> dt.datetime:
        return at("2023-01-01") + dt.timedelta(days=int(random.integers(low, high)), hours=int(random.integers(24)))

    def maybe(value: Any, missing: float = 0.2) -> Any:
        return None if random.random() < missing else value

    units: list[Row] = []
    for i in range(150):
        built = moment(-300, 500).date()
        start = maybe(built + dt.timedelta(days=int(random.integers(5, 90))))
        units.append({"unit_id": f"U{i}", "product_id": pick("P0", "P1", "P2", "P3"), "batch": pick("B1", "B2", "B3"),
                      "supplier": pick("S1", "S2"), "region": pick("N", "S"), "built_at": built,
                      "sold_at": maybe(built + dt.timedelta(days=4), 0.5), "in_service_at": start,
                      "removed_at": maybe(built + dt.timedelta(days=int(random.integers(60, 900))), 0.8),
                      "status": pick("sold", "sold", "sold", "stock", None)})  # fmt: skip
    products = [{"product_id": f"P{i}", "model": STRANGE[i]} for i in range(4)]

    def unit() -> Any:
        return pick(*[row["unit_id"] for row in units], None, "U-unheard of", "U-unheard of")

    tickets = []
    for i in range(400):
        created = moment()
        tickets.append({"ticket_id": f"T{i}", "unit_id": unit(), "channel": pick("app", "hot'line", "邮件", None),
                        "ticket_type": pick("fault", "complaint"), "created_at": created,
                        "sla_met": pick(True, False, None),
                        "first_reply_at": maybe(created + dt.timedelta(hours=int(random.integers(-9, 99)))),
                        "last_resolved_at": maybe(created + dt.timedelta(minutes=int(random.integers(-99, 9999)))),
                        })  # fmt: skip
    complaints = [{"complaint_id": f"C{i}", "unit_id": unit(), "channel": pick("app", "shop"), "received_at": moment()}
                  for i in range(300)]  # fmt: skip
    repairs = []
    for i in range(300):
        reported = moment()
        repairs.append({"repair_id": f"R{i}", "unit_id": unit(), "fault_code": pick("seal", "motor", None),
                        "result": pick("fixed", "fixed", "ntf", "referred", None), "reported_at": reported,
                        "visits_n": pick(1, 1, 2, None),
                        "finished_at": maybe(reported + dt.timedelta(days=int(random.integers(0, 30))))})  # fmt: skip
    surveys = [{"answer_id": f"A{i}", "unit_id": unit(), "channel": pick("app", "shop"), "asked_at": moment(),
                "instrument": pick("csat", "nps_transactional"), "scale_max": pick(5, 5, 10, None),
                "score": maybe(float(random.integers(0, 11)))} for i in range(400)]  # fmt: skip
    reviews = [
        {
            "review_id": f"V{i}",
            "platform": pick("shop", "app'store", None),
            "published_at": moment(),
            "stars": maybe(float(random.integers(1, 6))),
            "scale_max": pick(5, 5, None),
        }
        for i in range(300)
    ]
    tasks = []
    for i in range(300):
        planned = moment()
        tasks.append({"task_id": f"K{i}", "unit_id": unit(), "task_kind": pick("callback", "callback", "maintenance", None),
                      "planned_at": planned, "reached_at": maybe(planned + dt.timedelta(hours=5), 0.4)})  # fmt: skip
    return {"unit": units, "product": products, "ticket": tickets, "complaint": complaints, "repair": repairs,
            "survey": surveys, "review": reviews, "planned_task": tasks}  # fmt: skip


@pytest.fixture(scope="module")
def world() -> dict[str, list[Row]]:
    return dirty_world()


@pytest.fixture(scope="module")
def snapshot(world: dict[str, list[Row]], tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return lake(tmp_path_factory.mktemp("dirty"), **world)


# ---------------------------------------------------------------------------------- the second way, in plain Python


def days_since(moment: Any) -> int:
    return (moment.date() if isinstance(moment, dt.datetime) else moment).toordinal()


def service(world: dict[str, list[Row]]) -> dict[str, tuple[int | None, int]]:
    """First day in service and first day out of each unit."""
    medians = {}
    for column in ("sold_at", "built_at"):
        spans = [days_since(u["in_service_at"]) - days_since(u[column]) for u in world["unit"]
                 if u["in_service_at"] and u[column]]  # fmt: skip
        medians[column] = max(0, round(float(np.median(spans))))
    found: dict[str, tuple[int | None, int]] = {}
    for unit in world["unit"]:
        start = days_since(unit["in_service_at"]) if unit["in_service_at"] else None
        if start is None and unit["status"] != "stock":
            start = next(days_since(unit[c]) + medians[c] for c in ("sold_at", "built_at") if unit[c])
        found[unit["unit_id"]] = (start, days_since(unit["removed_at"]) if unit["removed_at"] else 10**9)
    return found


def comes_back(world: dict[str, list[Row]], row: Row, days: int) -> bool:
    later = [r for r in world["repair"] if row["unit_id"] is not None and r["unit_id"] == row["unit_id"]
             and row["fault_code"] is not None and r["fault_code"] == row["fault_code"]
             and (r["reported_at"], r["repair_id"]) > (row["reported_at"], row["repair_id"])]  # fmt: skip
    following = min(later, key=lambda r: (r["reported_at"], r["repair_id"]), default=None)
    return following is not None and following["reported_at"] - row["finished_at"] <= dt.timedelta(days=days)


def hours(row: Row, end: str) -> float | None:
    if row[end] is None or row[end] < row["created_at"]:
        return None
    return (row[end] - row["created_at"]).total_seconds() / 3600


Rule = Callable[[dict[str, list[Row]], Row], bool]
YES: Rule = lambda world, row: True  # noqa: E731

# metric -> table, clock, days of maturity, rows that could count, rows that do
RULES: dict[str, tuple[str, str, int, Rule, Rule]] = {
    "ticket_count": ("ticket", "created_at", 0, YES, YES),
    "ticket_share": ("ticket", "created_at", 0, YES, YES),
    "complaint_count": ("complaint", "received_at", 0, YES, YES),
    "repair_count": ("repair", "reported_at", 21, YES, lambda w, r: r["result"] != "ntf"),
    "complaint_rate": ("complaint", "received_at", 7, YES, YES),
    "complaints_per_10k_units": ("complaint", "received_at", 7, YES, YES),
    "failure_rate": ("repair", "reported_at", 21, YES, lambda w, r: r["result"] != "ntf"),
    "sla_attainment": ("ticket", "created_at", 0, lambda w, r: r["sla_met"] is not None, lambda w, r: r["sla_met"]),
    "csat": ("survey", "asked_at", 14, lambda w, r: r["instrument"] == "csat" and r["score"] is not None
             and r["scale_max"] is not None, lambda w, r: r["score"] >= r["scale_max"] - 1),
    "nps": ("survey", "asked_at", 14, lambda w, r: r["instrument"] != "csat" and r["score"] is not None,
            lambda w, r: r["score"] >= 9),
    "review_satisfaction": ("review", "published_at", 0,
                            lambda w, r: r["stars"] is not None and r["scale_max"] is not None,
                            lambda w, r: r["stars"] >= r["scale_max"] - 1),
    "survey_response_rate": ("survey", "asked_at", 14, YES, lambda w, r: r["score"] is not None),
    "callback_reach_rate": ("planned_task", "planned_at", 7, lambda w, r: r["task_kind"] == "callback",
                            lambda w, r: r["reached_at"] is not None),
    "first_time_fix_rate": ("repair", "finished_at", 51,
                            lambda w, r: r["result"] == "fixed" and r["visits_n"] is not None,
                            lambda w, r: r["visits_n"] <= 1 and not comes_back(w, r, 30)),
    "repeat_failure_rate": ("repair", "finished_at", 111, lambda w, r: r["result"] != "ntf",
                            lambda w, r: comes_back(w, r, 90)),
    "first_response_time": ("ticket", "created_at", 7, YES, lambda w, r: hours(r, "first_reply_at") is not None),
    "resolution_time": ("ticket", "created_at", 30, YES, lambda w, r: hours(r, "last_resolved_at") is not None),
}  # fmt: skip
ENDS = {"first_response_time": "first_reply_at", "resolution_time": "last_resolved_at"}
GROUPS = {"ticket": "channel", "complaint": "model", "repair": "model", "survey": "model", "review": "platform",
          "planned_task": "model"}  # fmt: skip


def dimension(world: dict[str, list[Row]], row: Row, name: str) -> Any:
    if name != "model":
        return row[name]
    product = next((u["product_id"] for u in world["unit"] if u["unit_id"] == row["unit_id"]), None)
    return next((p["model"] for p in world["product"] if p["product_id"] == product), None)


def exact_poisson(n: int, base: float) -> tuple[float, float]:
    low = stats.chi2.ppf(0.025, 2 * n) / 2 if n else 0.0
    return low / base, stats.chi2.ppf(0.975, 2 * (n + 1)) / 2 / base


def figures(name: str, base: float, rows: list[Row], world: dict[str, list[Row]]) -> tuple[float, ...]:
    """Count, base, value, low and high of one group; `rows` could count, `base` is given for rates."""
    _, _, _, _, counts = RULES[name]
    counted = [row for row in rows if counts(world, row)]
    n, kind = len(counted), metric(name).statistic
    if kind == "count":
        return n, n, n, *exact_poisson(n, 1)
    if kind == "rate":
        return n, base, n / base * 1e4, *(10_000 * bound for bound in exact_poisson(n, base))
    if kind in ("share", "share_of_total"):
        whole = base if kind == "share_of_total" else len(rows)
        return n, whole, n / whole, *proportion_confint(n, whole, method="wilson")
    if kind == "net_score":
        answers = [1 if r["score"] >= 9 else -1 if r["score"] <= 6 else 0 for r in rows]
        mean, error = 100 * np.mean(answers), 100 * np.std(answers) / math.sqrt(len(answers))
        return n, len(rows), mean, max(mean - 1.959964 * error, -100), min(mean + 1.959964 * error, 100)
    spans = sorted(hours(row, ENDS[name]) or 0.0 for row in counted)
    if not spans:
        return n, len(rows), math.nan, math.nan, math.nan
    half = 1.959964 * math.sqrt(n) / 2
    low, high = max(math.floor(n / 2 - half), 1), min(math.ceil(n / 2 + half) + 1, n)
    return n, len(rows), float(np.median(spans)), spans[low - 1], spans[high - 1]


def second_way(
    world: dict[str, list[Row]], name: str, by: str, *, monthly: bool = False
) -> dict[Any, tuple[float, ...]]:
    table, clock, maturity, could, counts = RULES[name]
    today = AS_OF.date().toordinal()
    until = today + 1 if monthly or maturity == 0 else today - maturity
    inside = [row for row in world[table] if row[clock] is not None and days_since(row[clock]) < until]
    start = min(days_since(row[clock]) for row in world[table] if row[clock] is not None)
    is_rate = metric(name).statistic == "rate"
    spans = service(world) if is_rate else {}

    def placed(row: Row) -> bool:
        begins = spans.get(row["unit_id"], (None, 0))[0] if is_rate else None
        return not is_rate or (begins is not None and begins <= days_since(row[clock]))

    def key_of(row: Row) -> Hashable:
        group = dimension(world, row, by) if by else None
        return (group, row[clock].date().replace(day=1)) if monthly else group

    rows: dict[Any, list[Row]] = {}
    for row in inside:
        if could(world, row) and placed(row):
            rows.setdefault(key_of(row), []).append(row)
    bases: dict[Any, float] = {}
    if is_rate:
        bases = exposure(world, name, by, start, until, monthly=monthly)
    elif metric(name).statistic == "share_of_total":
        bases = {key: sum(len(v) for k, v in rows.items() if not monthly or k[1] == key[1]) for key in rows}
    keys = set(bases) if is_rate else {k for k, v in rows.items() if metric(name).statistic != "count"
                                       or any(counts(world, r) for r in v)}  # fmt: skip
    return {key: figures(name, bases.get(key, 0.0), rows.get(key, []), world) for key in keys}


def exposure(
    world: dict[str, list[Row]], name: str, by: str, start: int, until: int, *, monthly: bool
) -> dict[Any, float]:
    """Day by day: unit-months, or units with a day in service, per group (and month)."""
    found: dict[Any, float] = {}
    seen: set[tuple[str, Any]] = set()
    spans = service(world)
    for unit in world["unit"]:
        begins, ends = spans[unit["unit_id"]]
        group = dimension(world, unit, by) if by else None
        for number in range(max(start, begins), min(ends, until)) if begins is not None else ():
            key = (group, dt.date.fromordinal(number).replace(day=1)) if monthly else group
            if name == "complaints_per_10k_units":
                found[key] = found.get(key, 0) + ((unit["unit_id"], key) not in seen)
                seen.add((unit["unit_id"], key))
            else:
                found[key] = found.get(key, 0) + 1 / MONTH_DAYS
    return found


def as_dict(result: MetricResult) -> dict[Any, tuple[float, ...]]:
    found = {}
    for _, row in result.rows.iterrows():
        key = tuple(row[name] for name in [*result.by, *(["period"] if "period" in result.rows else [])])
        found[key[0] if len(key) == 1 else key or None] = tuple(
            float(row[n]) for n in ("count", "base", "value", "low", "high"))  # fmt: skip
    return found


def same(found: dict[Any, tuple[float, ...]], expected: dict[Any, tuple[float, ...]]) -> None:
    assert set(found) == set(expected)
    for key, figures_ in expected.items():
        assert found[key] == pytest.approx(figures_, rel=1e-6, abs=1e-9, nan_ok=True), key


def test_the_second_way_knows_every_metric() -> None:
    assert set(RULES) == set(metrics())


@pytest.mark.parametrize("name", sorted(RULES))
def test_the_whole_is_what_a_second_way_finds(snapshot: Snapshot, world: dict[str, list[Row]], name: str) -> None:
    same(as_dict(compute(snapshot, name, as_of=AS_OF)), second_way(world, name, ""))


@pytest.mark.parametrize("name", sorted(RULES))
def test_a_dimension_is_what_a_second_way_finds(snapshot: Snapshot, world: dict[str, list[Row]], name: str) -> None:
    by = GROUPS[RULES[name][0]]
    result = compute(snapshot, name, [by], as_of=AS_OF)
    same(as_dict(result), second_way(world, name, by))
    assert list(result.rows.columns) == [by, *RESULT_COLUMNS]
    assert set(result.rows["metric_version"]) == {metric(name).version}


@pytest.mark.parametrize("name", sorted(RULES))
def test_months_are_what_a_second_way_finds(snapshot: Snapshot, world: dict[str, list[Row]], name: str) -> None:
    by = GROUPS[RULES[name][0]]
    result = compute(snapshot, name, [by], as_of=AS_OF, period="month")
    same(as_dict(result), second_way(world, name, by, monthly=True))
    ripe = AS_OF.date() - dt.timedelta(days=metric(name).maturity_days)
    for first, flag in zip(result.rows["period"], result.rows["ripe"], strict=True):
        following = (pd.Timestamp(first) + pd.DateOffset(months=1)).date()
        assert flag == (following <= ripe + dt.timedelta(days=metric(name).maturity_days == 0))


@pytest.mark.parametrize("name", sorted(RULES))
def test_the_order_of_rows_is_irrelevant(
    snapshot: Snapshot, world: dict[str, list[Row]], name: str, tmp_path: Path
) -> None:
    turned = lake(tmp_path, **{table: rows[::-1] for table, rows in world.items()})
    by = [GROUPS[RULES[name][0]]]
    one, other = (compute(lake_, name, by, as_of=AS_OF).rows for lake_ in (snapshot, turned))
    pd.testing.assert_frame_equal(one, other)


@pytest.mark.parametrize("name", ["complaint_rate", "failure_rate", "complaint_count", "repair_count", "csat"])
def test_groups_and_periods_add_up_to_the_whole(snapshot: Snapshot, name: str) -> None:
    end = day("2024-06-30")  # everything is ripe
    whole = compute(snapshot, name, as_of=AS_OF, end=end).rows.iloc[0]
    for by, period in itertools.product([[], ["model"], ["region", "model"]], [None, "month", "quarter", "year"]):
        rows = compute(snapshot, name, by, as_of=AS_OF, end=end, period=period).rows
        assert rows["count"].sum() == whole["count"]
        assert rows["base"].sum() == pytest.approx(whole["base"])


def test_filters_commute_and_agree_with_the_row_of_a_group(snapshot: Snapshot) -> None:
    where = {"model": ["型号/三", "M'1"], "batch": ["B1"]}
    one = compute(snapshot, "failure_rate", as_of=AS_OF, where=where).rows
    other = compute(snapshot, "failure_rate", as_of=AS_OF, where=dict(reversed(where.items()))).rows
    pd.testing.assert_frame_equal(one, other)
    rows = compute(snapshot, "failure_rate", ["batch", "model"], as_of=AS_OF).rows
    rows = rows[(rows["batch"] == "B1") & rows["model"].isin(where["model"])]
    assert one["count"][0] == rows["count"].sum()
    assert one["base"][0] == pytest.approx(rows["base"].sum())


# ------------------------------------------------------------------------------------------------- worked examples


def small(tmp_path: Path, **more: Any) -> Snapshot:
    """Two batches in service for all of 2024; A has three complaints, B none."""
    units = [
        {"unit_id": f"{batch}{i}", "batch": batch, "in_service_at": "2024-01-01"} for batch in "AB" for i in range(5)
    ]
    complaints = [{"unit_id": "A0", "received_at": moment} for moment in ("2024-01-01", "2024-03-05", "2024-12-20")]
    return lake(tmp_path, **{"unit": units, "complaint": complaints, **more})


def test_a_batch_without_complaints_is_a_zero_row(tmp_path: Path) -> None:
    rows = compute(small(tmp_path), "complaint_rate", ["batch"], as_of=at("2024-12-31")).rows.set_index("batch")
    months = 5 * 358 / MONTH_DAYS  # ripe up to 24 December: 1 January to 23 December
    assert rows["base"].tolist() == pytest.approx([months, months])
    assert rows["count"].to_dict() == {"A": 3, "B": 0}
    assert rows["value"].tolist() == pytest.approx([3 / months * 1e4, 0.0])
    assert rows["low"]["B"] == 0.0
    assert rows["high"]["B"] == pytest.approx(-math.log(0.025) / months * 1e4)
    assert rows["state"].to_dict() == {"A": "small_n", "B": "small_n"}


def test_unripe_months_are_marked_and_the_whole_is_cut_at_the_ripe_end(tmp_path: Path) -> None:
    snapshot, as_of = small(tmp_path), at("2024-12-22")
    months = compute(snapshot, "complaint_rate", as_of=as_of, period="month").rows.set_index("period")
    assert months["ripe"].tolist() == [True] * 11 + [False]
    assert months["count"].to_dict() == {**dict.fromkeys(months.index, 0), day("2024-01-01"): 1, day("2024-03-01"): 1,
                                         day("2024-12-01"): 1}  # fmt: skip
    whole = compute(snapshot, "complaint_rate", as_of=as_of).rows.iloc[0]
    assert (whole["count"], whole["ripe"]) == (2, True)  # 20 December is not ripe on the 22nd
    assert whole["base"] == pytest.approx(10 * 349 / MONTH_DAYS)


def test_a_window_that_starts_within_a_month_cuts_that_months_base(tmp_path: Path) -> None:
    rows = compute(small(tmp_path), "complaint_rate", as_of=at("2024-12-31"), start=day("2024-01-22"),
                   end=day("2024-03-06"), period="month").rows  # fmt: skip
    assert rows["period"].tolist() == [day("2024-01-01"), day("2024-02-01"), day("2024-03-01")]
    assert rows["base"].tolist() == pytest.approx([10 * d / MONTH_DAYS for d in (10, 29, 5)])
    assert rows["count"].tolist() == [0, 0, 1]


def test_today_counts_where_nothing_has_to_ripen(tmp_path: Path) -> None:
    snapshot = lake(tmp_path, ticket=[{"created_at": "2024-03-31 08:00"}, {"created_at": "2024-04-01 08:00"}])
    assert compute(snapshot, "ticket_count", as_of=at("2024-03-31 15:59")).rows["count"].tolist() == [1]
    rows = compute(snapshot, "ticket_count", as_of=at("2024-03-31 15:59"), period="month").rows
    assert rows[["count", "ripe"]].to_numpy().tolist() == [[1, True]]
    assert compute(snapshot, "ticket_count", as_of=at("2024-04-01 15:59")).rows["count"].tolist() == [2]


def test_complaints_of_unknown_units_or_before_service_are_in_the_notes_and_in_no_rate(tmp_path: Path) -> None:
    units = [{"unit_id": "A0", "batch": "A", "product_id": "P", "in_service_at": "2024-01-01"},
             {"unit_id": "A1", "batch": "A", "product_id": "P", "in_service_at": "2024-06-01"}]  # fmt: skip
    complaints = [{"unit_id": "A0"}, {"unit_id": "A1"}, {"unit_id": "gone", "product_id": "P"}, {}, {"product_id": "P"}]
    snapshot = lake(tmp_path, unit=units, product=[{"product_id": "P", "model": "M"}],
                    complaint=[{**row, "received_at": "2024-03-01"} for row in complaints])  # fmt: skip
    for by in ([], ["batch"], ["model"]):
        result = compute(snapshot, "complaint_rate", by, as_of=at("2024-12-31"))
        assert result.rows["count"].tolist() == [1]
        assert result.notes[0][0] == "4 events are in no rate: 3 of unknown units, 1 of units not in service"
        assert result.notes[0][1] == "4 条事件未计入比率:3 条产品未知,1 条产品尚未启用"
    assert compute(snapshot, "complaint_count", as_of=at("2024-12-31")).rows["count"].tolist() == [5]


def test_a_failure_whose_group_has_no_day_in_service_has_no_base(tmp_path: Path) -> None:
    units = [{"unit_id": "A0", "batch": "A", "in_service_at": "2024-01-01"},
             {"unit_id": "B0", "batch": "B", "in_service_at": "2024-02-01", "removed_at": "2024-02-01"}]  # fmt: skip
    snapshot = lake(tmp_path, unit=units, complaint=[{"unit_id": "B0", "received_at": "2024-02-01"}])
    rows = compute(snapshot, "complaint_rate", ["batch"], as_of=at("2024-12-31")).rows.set_index("batch")
    assert rows["state"].to_dict() == {"A": "small_n", "B": "no_base"}
    assert (rows["count"]["B"], rows["base"]["B"]) == (1, 0.0)
    assert math.isnan(rows["value"]["B"])


def test_a_repair_without_a_result_is_a_failure_and_one_without_a_fault_found_is_none(tmp_path: Path) -> None:
    repairs = [{"unit_id": "A0", "reported_at": "2024-02-01", "result": result} for result in (None, "fixed", "ntf")]
    snapshot = small(tmp_path, repair=repairs)
    for name in ("failure_rate", "repair_count"):
        assert compute(snapshot, name, as_of=AS_OF).rows["count"].tolist() == [2]


def test_a_row_with_several_labels_counts_once_in_total_and_once_under_each(tmp_path: Path) -> None:
    tags = [{"source_table": "complaint", "source_id": source, "tag_set": "component", "tag": tag, "tag_group": "x"}
            for source, tag in (("C1", "motor"), ("C1", "cell"), ("C2", "cell"), ("C2", "cell'/电"))]  # fmt: skip
    snapshot = lake(tmp_path, complaint=[{"complaint_id": f"C{i}", "received_at": "2024-01-01"} for i in (1, 2, 3)],
                    tag=[{**tag, "tag_id": str(i)} for i, tag in enumerate(tags)])  # fmt: skip
    assert compute(snapshot, "complaint_count", as_of=AS_OF).rows["count"].tolist() == [3]
    rows = compute(snapshot, "complaint_count", ["component"], as_of=AS_OF).rows
    assert dict(zip(rows["component"], rows["count"], strict=True)) == {"motor": 1, "cell": 2, "cell'/电": 1, None: 1}
    grouped = compute(snapshot, "complaint_count", ["component_group"], as_of=AS_OF).rows
    assert dict(zip(grouped["component_group"], grouped["count"], strict=True)) == {"x": 2, None: 1}
    where = {"component": ["cell", "motor"]}
    assert compute(snapshot, "complaint_count", as_of=AS_OF, where=where).rows["count"].tolist() == [2]


def test_a_row_of_two_wanted_labels_is_in_a_median_once(tmp_path: Path) -> None:
    tickets = [
        {"ticket_id": f"T{i}", "created_at": "2024-01-01", "first_reply_at": f"2024-01-01 0{i}:00"} for i in (1, 2)
    ]
    tags = [{"tag_id": str(i), "source_table": "ticket", "source_id": "T1", "tag_set": "x_topic", "tag": tag}
            for i, tag in enumerate("ab")]  # fmt: skip
    snapshot = lake(tmp_path, ticket=tickets, tag=tags)
    row = compute(snapshot, "first_response_time", as_of=AS_OF, where={"x_topic": ["a", "b"]}).rows.iloc[0]
    assert (row["count"], row["base"], row["value"]) == (1, 1, 1.0)


def test_what_is_known_later_than_as_of_is_hidden(tmp_path: Path) -> None:
    tickets = [{"created_at": "2024-01-01", "first_reply_at": "2024-01-03", "known_at": "2024-01-01"},
               {"created_at": "2024-01-01", "first_reply_at": "2024-01-02", "known_at": "2024-02-01"},
               {"created_at": "2024-01-01", "known_at": "2024-01-01", "superseded_at": "2024-01-09"}]  # fmt: skip
    seen = {moment: compute(lake(tmp_path, ticket=tickets, as_of=at(moment)), "first_response_time",
                            as_of=at("2024-12-31")).rows.iloc[0]
            for moment in ("2024-01-02", "2024-01-08", "2024-01-10", "2024-03-01")}  # fmt: skip
    assert [(row["base"], row["count"]) for row in seen.values()] == [(2, 0), (2, 1), (1, 1), (2, 2)]
    assert seen["2024-03-01"]["value"] == 36.0


def test_one_row_has_a_median_and_no_more(tmp_path: Path) -> None:
    snapshot = lake(tmp_path, ticket=[{"created_at": "2024-01-01", "first_reply_at": "2024-01-01 06:00"}])
    row = compute(snapshot, "first_response_time", as_of=AS_OF).rows.iloc[0]
    assert (row["count"], row["base"], row["value"], row["low"], row["high"]) == (1, 1, 6.0, 6.0, 6.0)
    assert row["state"] == "small_n"


@pytest.mark.parametrize(("n", "state"), [(29, "small_n"), (30, "ok")])
def test_few_answers_are_marked(tmp_path: Path, n: int, state: str) -> None:
    snapshot = lake(tmp_path, ticket=[{"created_at": "2024-01-01", "sla_met": True}] * n)
    row = compute(snapshot, "sla_attainment", as_of=AS_OF).rows.iloc[0]
    assert (row["state"], row["base"], row["value"]) == (state, n, 1.0)


# ------------------------------------------------------------------------------------------- nothing, and refusals


@pytest.mark.parametrize("name", sorted(RULES))
@pytest.mark.parametrize("period", [None, "quarter"])
def test_an_empty_lake_gives_no_data_in_both_languages(tmp_path: Path, name: str, period: Any) -> None:
    result = compute(lake(tmp_path), name, as_of=AS_OF, period=period)
    table = RULES[name][0]
    assert (result.state, result.reason) == ("no_data", f"no {table} has been loaded")
    assert result.summary("zh") == f"{metric(name).name_zh}: 尚未载入 {table} 数据"
    assert list(result.rows.columns) == [*(["period"] if period else []), *RESULT_COLUMNS]


@pytest.mark.parametrize("name", sorted(RULES))
@pytest.mark.parametrize("period", [None, "month"])
def test_a_window_before_all_rows_gives_no_data(snapshot: Snapshot, name: str, period: Any) -> None:
    by = [GROUPS[RULES[name][0]]]
    result = compute(snapshot, name, by, as_of=AS_OF, start=day("1990-01-01"), end=day("1990-03-01"), period=period)
    assert (result.state, result.refusal("en"), result.refusal("zh")) == (
        "no_data", "no rows in this window", "该时间窗内无数据")  # fmt: skip
    assert result.rows.empty


def test_a_window_after_as_of_gives_no_data(snapshot: Snapshot) -> None:
    for name in RULES:
        assert compute(snapshot, name, as_of=AS_OF, start=day("2025-03-01")).state == "no_data"


@pytest.mark.parametrize("by", [[], ["model"], ["batch"], ["region", "supplier"]])
def test_a_rate_without_units_is_refused_by_any_dimension(tmp_path: Path, by: list[str]) -> None:
    result = compute(lake(tmp_path, complaint=[{"received_at": "2024-01-01"}]), "complaint_rate", by, as_of=AS_OF)
    assert result.state == "refused"
    assert result.summary() == ("Complaint rate: refused: no units in service are known, so a rate has no denominator; "
                                "counts can be had")  # fmt: skip
    assert result.summary("zh") == "投诉率: 拒绝计算:没有在用产品数据,比率缺少分母;可以查看数量"


def thin(tmp_path: Path, known: int) -> Snapshot:
    """A hundred units built in 2023; region and registration are known for the first `known`, which failed."""
    units = [{"unit_id": f"U{i}", "built_at": "2023-01-01",
              **({"region": "N", "in_service_at": "2023-02-01"} if i < known else {})} for i in range(100)]  # fmt: skip
    return lake(
        tmp_path, unit=units, complaint=[{"unit_id": f"U{i}", "received_at": "2024-01-01"} for i in range(known)]
    )


@pytest.mark.parametrize("question", [{"by": ["region"]}, {"where": {"region": ["N"]}}])
def test_a_rate_by_what_is_known_for_few_units_is_refused(tmp_path: Path, question: dict[str, Any]) -> None:
    result = compute(thin(tmp_path, 15), "complaint_rate", as_of=AS_OF, **question)
    assert (result.state, len(result.rows)) == ("refused", 0)
    assert result.reason == (
        "refused: region is known for 15% of 100 units, below the gate of 90%; the day of going into service "
        "(registration) is unknown for 85 units, most of them intact. The known ones are not a fair sample."
    )
    assert result.refusal("zh") == (
        "拒绝计算:区域 仅 15% 的产品已知(共 100 台),低于 90% 的门槛;85 台的启用(注册)日期未知,多数未发生过事件。"
        "已知部分并非公平样本。"
    )


@pytest.mark.parametrize(("known", "state"), [(89, "refused"), (90, "ok")])
def test_the_gate_is_nine_tenths(tmp_path: Path, known: int, state: str) -> None:
    assert compute(thin(tmp_path, known), "complaint_rate", ["region"], as_of=AS_OF).state == state


def test_unknown_names_list_the_known_ones(snapshot: Snapshot) -> None:
    with pytest.raises(MetricError, match="no metric 'complaints'"):
        compute(snapshot, "complaints", as_of=AS_OF)
    for question in ({"by": ["colour"]}, {"where": {"colour": ["red"]}}):
        with pytest.raises(MetricError, match="metric complaint_rate: has no dimension 'colour'") as caught:
            compute(snapshot, "complaint_rate", as_of=AS_OF, **question)
        assert (
            caught.value.rows
            == "known: batch, channel_sold, country, family, fw_version, generation, line, model, process_step, region, supplier, sw_version"
        )
    with pytest.raises(MetricError, match="dimension x_colour: the units in service do not have it"):
        compute(snapshot, "complaint_rate", ["x_colour"], as_of=AS_OF)


@pytest.mark.parametrize(
    ("name", "lang", "text"),
    [
        ("ticket_count", "en", "Tickets: 2 [0, 7], n 2 / 2"),
        ("sla_attainment", "zh", "SLA 达成率: 50.0% [9.5, 90.5], n 1 / 2"),
        ("first_response_time", "en", "First response time: 7.0 hours [6.0, 8.0], n 2 / 2"),
        ("first_response_time", "zh", "首次响应时间: 7.0 小时 [6.0, 8.0], n 2 / 2"),
    ],
)
def test_a_summary_is_the_whole_figure(tmp_path: Path, name: str, lang: str, text: str) -> None:
    tickets = [{"created_at": "2024-01-01", "first_reply_at": f"2024-01-01 0{hour}:00", "sla_met": hour == 6}
               for hour in (6, 8)]  # fmt: skip
    assert compute(lake(tmp_path, ticket=tickets), name, as_of=AS_OF).summary(lang) == text


def test_a_summary_of_groups_says_how_many(snapshot: Snapshot) -> None:
    result = compute(snapshot, "complaint_rate", ["batch"], as_of=AS_OF)
    assert (result.summary(), result.summary("zh")) == ("Complaint rate: 3 rows", "投诉率: 3 行")


def test_days_and_months_begin_by_the_sites_clock(tmp_path: Path) -> None:
    # 2023-12-31 17:00 UTC is 2024-01-01 01:00 in Shanghai, and 2023-12-31 12:00 in New York
    rows = [{"ticket_id": "a", "created_at": "2023-12-31 17:00"}, {"ticket_id": "b", "created_at": "2024-01-31 12:00"}]
    at_utc = lake(tmp_path, ticket=rows)
    months = {
        zone: compute(replace(at_utc, time_zone=zone), "ticket_count", as_of=AS_OF, period="month").rows
        for zone in ("UTC", "Asia/Shanghai", "America/New_York")
    }
    found = {
        zone: dict(zip(frame["period"].astype(str), frame["count"], strict=True)) for zone, frame in months.items()
    }
    assert found == {
        "UTC": {"2023-12-01": 1, "2024-01-01": 1},
        "Asia/Shanghai": {"2024-01-01": 2},
        "America/New_York": {"2023-12-01": 1, "2024-01-01": 1},
    }


def test_a_window_opens_at_the_sites_midnight_also_across_a_change_of_summer_time(tmp_path: Path) -> None:
    # 31 March 2024, Berlin: the day has 23 hours and begins at 23:00 UTC of the day before
    rows = [{"ticket_id": str(i), "created_at": f"2024-03-{day}"} for i, day in
            enumerate(["30 22:59", "30 23:00", "31 21:59", "31 22:00"])]  # fmt: skip
    snapshot = replace(lake(tmp_path, ticket=rows), time_zone="Europe/Berlin")
    window = {"start": dt.date(2024, 3, 31), "end": dt.date(2024, 4, 1)}
    assert compute(snapshot, "ticket_count", as_of=AS_OF, **window).rows["count"].tolist() == [2]
