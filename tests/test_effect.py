"""Before and after an action: worked by hand, ageing alone, thin cohorts, both languages."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lakes import at, lake
from scipy import stats

from aftersales.improve.effect import BeforeAfter, describe_before_after
from aftersales.lake.store import Snapshot
from aftersales.model.errors import MetricError

MONTH_DAYS = 30.4375
YEAR = round(12 * MONTH_DAYS)
AS_OF = at("2025-01-01")
SCOPE: dict[str, Any] = {
    "dimension": "supplier",
    "value": "S1",
    "cut_dimension": "batch",
    "before": ["B1"],
    "after": ["B2"],
}
STARTS = {"B1": "2022-01-01", "B2": "2023-01-01"}


def units(n: int = 10, **changed: str) -> list[dict[str, Any]]:
    starts = {**STARTS, **changed}
    return [{"unit_id": f"{s}{b}{i}", "supplier": s, "batch": b, "in_service_at": starts[b]}
            for s, b, i in itertools.product(("S1", "S2"), ("B1", "B2"), range(n))]  # fmt: skip


def repairs(**counts: int) -> list[dict[str, Any]]:
    """So many repairs a cohort, spread over its units in their second month."""
    year = {"B1": 2022, "B2": 2023}
    return [{"unit_id": f"{name}{i % 10}", "reported_at": f"{year[name[2:]]}-02-05", "fault_code": "seal"}
            for name, n in counts.items() for i in range(n)]  # fmt: skip


def described(snapshot: Snapshot, **options: Any) -> BeforeAfter:
    return describe_before_after(snapshot, "failure_rate", **{**SCOPE, "as_of": AS_OF, **options})


def table(effect: BeforeAfter, column: str) -> dict[tuple[str, str], float]:
    return effect.rows.set_index(["arm", "phase"])[column].to_dict()


COHORTS = list(itertools.product(("action", "comparison"), ("before", "after")))


def test_cohorts_by_hand(tmp_path: Path) -> None:
    effect = described(lake(tmp_path, unit=units(), repair=repairs(S1B1=40, S1B2=10, S2B1=20, S2B2=20)))
    months = 10 * YEAR / MONTH_DAYS
    assert (effect.months, effect.label, effect.is_thin) == (12, "descriptive", False)
    assert table(effect, "failures") == dict(zip(COHORTS, (40, 10, 20, 20), strict=True))
    assert table(effect, "units") == dict.fromkeys(COHORTS, 10)
    assert table(effect, "unit_months") == pytest.approx(dict.fromkeys(COHORTS, months))
    assert table(effect, "value")["action", "before"] == pytest.approx(40 / months * 1e4)
    low = stats.chi2.ppf(0.025, 80) / 2
    assert table(effect, "low")["action", "before"] == pytest.approx(low / months * 1e4)
    exact = stats.binomtest(10, 50).proportion_ci(method="exact")
    assert effect.action_ratio == pytest.approx((0.25, exact.low / (1 - exact.low), exact.high / (1 - exact.high)))
    assert effect.comparison_ratio[0] == 1.0
    spread = math.exp(1.959964 * math.sqrt(1 / 40 + 1 / 10 + 1 / 20 + 1 / 20))
    assert effect.relative_ratio == pytest.approx((0.25, 0.25 / spread, 0.25 * spread))
    assert str(effect.counted_until) == "2024-12-11"
    assert effect.to_frame() is effect.rows


def test_a_fall_in_both_groups_is_taken_out(tmp_path: Path) -> None:
    effect = described(lake(tmp_path, unit=units(), repair=repairs(S1B1=40, S1B2=20, S2B1=40, S2B2=20)))
    assert effect.action_ratio[0] == effect.comparison_ratio[0] == 0.5
    assert effect.relative_ratio[0] == 1.0


def ageing(tmp_path: Path, n: int = 60) -> Snapshot:
    """Every unit fails more each month, the same in all cohorts; B2 is in service for four months only."""
    random = np.random.default_rng(8)
    rows = units(n, B1="2023-01-01", B2="2024-08-10")
    moments = []
    for unit in rows:
        start = np.datetime64(unit["in_service_at"])
        for month in range(12):
            for _ in range(random.poisson(0.1 * (month + 1))):
                day = start + np.timedelta64(int((month + random.random()) * 30.4), "D")
                moments.append({"unit_id": unit["unit_id"], "fault_code": "wear", "reported_at": str(day)})
    return lake(tmp_path, unit=rows, repair=moments)


def test_ageing_alone_is_no_effect_even_where_the_new_units_are_young(tmp_path: Path) -> None:
    effect = described(ageing(tmp_path))
    assert effect.months == 4  # what B2 has behind it
    for ratio, low, high in (effect.action_ratio, effect.comparison_ratio, effect.relative_ratio):
        assert low < 1 < high
        assert 0.7 < ratio < 1.4


def test_units_not_followed_long_enough_are_left_out(tmp_path: Path) -> None:
    late = [{"unit_id": "late", "supplier": "S1", "batch": "B2", "in_service_at": "2024-11-01"}]
    early = [{"unit_id": "late", "reported_at": "2024-11-02"}]
    effect = described(lake(tmp_path, unit=units() + late, repair=repairs(S1B1=20, S1B2=20, S2B1=20, S2B2=20) + early))
    assert effect.months == 12
    assert table(effect, "units")["action", "after"] == 10
    assert table(effect, "failures")["action", "after"] == 20


def test_only_the_first_months_in_service_count_and_only_while_in_service(tmp_path: Path) -> None:
    rows = units()
    rows[0]["removed_at"] = "2022-02-01"
    late = [{"unit_id": "S1B10", "reported_at": moment} for moment in ("2021-12-31", "2022-03-02", "2022-06-01")]
    effect = described(lake(tmp_path, unit=rows, repair=late), months=3)
    assert table(effect, "failures")["action", "before"] == 1
    days = 9 * round(3 * MONTH_DAYS) + 31
    assert table(effect, "unit_months")["action", "before"] == pytest.approx(days / MONTH_DAYS)


def test_a_failure_mode_narrows_the_failures(tmp_path: Path) -> None:
    rows = [
        *repairs(S1B1=20, S1B2=8, S2B1=9, S2B2=9),
        {"unit_id": "S1B20", "reported_at": "2023-02-01", "fault_code": "x"},
    ]
    snapshot = lake(tmp_path, unit=units(), repair=rows)
    assert table(described(snapshot), "failures")["action", "after"] == 9
    assert table(described(snapshot, events_where={"fault_code": ["seal"]}), "failures")["action", "after"] == 8


def test_units_whose_group_is_unknown_are_in_neither_arm(tmp_path: Path) -> None:
    unknown = [{"unit_id": "X", "batch": "B1", "in_service_at": "2022-01-01"}]
    effect = described(lake(tmp_path, unit=units() + unknown, repair=repairs(S1B1=9)))
    assert table(effect, "units") == dict.fromkeys(COHORTS, 10)


def test_no_failure_after_is_a_result_where_many_were_to_be_expected(tmp_path: Path) -> None:
    effect = described(lake(tmp_path, unit=units(), repair=repairs(S1B1=40, S2B1=40, S2B2=40)))
    assert not effect.is_thin
    assert effect.relative_ratio[:2] == (0.0, 0.0)
    assert 0 < effect.relative_ratio[2] < 0.25
    assert "the rate is 0.00 times what it was" in effect.summary()


@pytest.mark.parametrize("counts", [{}, {"S1B1": 4, "S1B2": 1, "S2B1": 50, "S2B2": 50}, {"S1B1": 50, "S1B2": 50}])
def test_thin_cohorts_say_so_in_both_languages(tmp_path: Path, counts: dict[str, int]) -> None:
    effect = described(lake(tmp_path, unit=units(), repair=repairs(**counts) or [{"reported_at": "2022-01-01"}]))
    assert effect.is_thin
    assert effect.summary() == "Too few failures to describe a difference yet."
    assert effect.summary("zh") == "故障太少,尚无法描述前后差异。"


def test_the_summary_has_both_groups_and_intervals(tmp_path: Path) -> None:
    effect = described(lake(tmp_path, unit=units(), repair=repairs(S1B1=40, S1B2=10, S2B1=20, S2B2=20)))
    assert effect.summary() == (
        "Described: after the action the rate is 0.25 times what it was [0.11, 0.51]; in the comparison "
        "group 1.00 times [0.51, 1.96]; net of what happened to both 0.25 times [0.10, 0.63].")  # fmt: skip
    assert effect.summary("zh") == (
        "描述性结果:措施后故障率为之前的 0.25 倍 [0.11, 0.51];对照组 1.00 倍 [0.51, 1.96];"
        "扣除共同变化后 0.25 倍 [0.10, 0.63]。")  # fmt: skip


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"value": "S9"}, "no unit in service for a month by 2024-12-11 in: action before, action after"),
        ({"after": ["B7"]}, "no unit in service for a month by 2024-12-11 in: action after, comparison after"),
        ({"after": ["B1", "B2"]}, "B1 is both before and after"),
        ({"as_of": at("2022-01-15")}, "no unit in service for a month by 2021-12-25 in: action before, action after"),
        ({"dimension": "region"}, "refused: region is known for 0% of 40 units, below the gate of 90%"),
        ({"dimension": "colour"}, "the units in service do not have it"),
    ],
)
def test_cohorts_that_cannot_be_compared_are_refused(tmp_path: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(MetricError) as caught:
        described(lake(tmp_path, unit=units(), repair=repairs(S1B1=9)), **options)
    assert message in str(caught.value)


def test_only_a_rate_can_be_described(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="metric csat: is no rate"):
        describe_before_after(lake(tmp_path, unit=units()), "csat", **SCOPE, as_of=AS_OF)
