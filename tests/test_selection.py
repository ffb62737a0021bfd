"""Selection: one-sided answers and lists of failures are told from fair samples, by hand-worked chances."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from lakes import at, lake

from aftersales.attribute.cells import failure_cells
from aftersales.lake.store import Snapshot
from aftersales.measure.compute import MetricResult, compute
from aftersales.measure.selection import ENOUGH_ANSWERS
from aftersales.model.errors import MetricError

AS_OF = at("2024-12-31")


def answers(*scores: float, source: str = "test") -> list[dict[str, Any]]:
    return [
        {"review_id": f"{source}-{i}", "published_at": at("2024-03-01"), "stars": score, "scale_max": 5,
         "source_system": source, "platform": source}
        for i, score in enumerate(scores)
    ]  # fmt: skip


def satisfaction(tmp_path: Path, *groups: list[dict[str, Any]], by: tuple[str, ...] = ()) -> MetricResult:
    snapshot = lake(tmp_path, review=[row for group in groups for row in group])
    return compute(snapshot, "review_satisfaction", by, as_of=AS_OF)


def test_the_limit_is_where_one_in_fifty_would_have_shown() -> None:
    assert ENOUGH_ANSWERS == 228
    assert 0.98**228 < 0.01 < 0.98**227


@pytest.mark.parametrize("score", [5.0, 1.0, 3.0])
def test_a_source_with_one_answer_only_is_refused_in_both_languages(tmp_path: Path, score: float) -> None:
    result = satisfaction(tmp_path, answers(*[score] * 228))
    assert (result.state, result.rows.empty) == ("refused", True)
    assert f"every one of 228 answers of test is {score:g}" in result.refusal("en")
    assert f"228 个回答全部为 {score:g}" in result.refusal("zh")
    assert "100" not in result.summary("en")


def test_a_few_equal_answers_give_the_figure_with_a_caveat(tmp_path: Path) -> None:
    result = satisfaction(tmp_path, answers(*[5.0] * 227))
    assert (result.state, result.rows["value"].tolist()) == ("ok", [1.0])
    assert result.notes[0][0] == "may be selection: every one of 227 answers of test is 5"
    assert result.notes[0][1] == "可能存在样本选择:来源 test 的 227 个回答全部为 5"


@pytest.mark.parametrize("scores", [[5.0] * 29, [5.0] * 500 + [4.0], [], [5.0]])
def test_very_few_or_varied_answers_say_nothing_about_selection(tmp_path: Path, scores: list[float]) -> None:
    assert satisfaction(tmp_path, answers(*scores, 5.0)[: len(scores)]).notes == ()


def test_unanswered_questions_are_no_answers(tmp_path: Path) -> None:
    rows = [{**row, "stars": None} for row in answers(*[5.0] * 300)]
    result = satisfaction(tmp_path, rows, answers(*[4.0, 2.0], source="shop"))
    assert (result.rows["base"].tolist(), result.notes) == ([2], ())


def test_among_others_the_one_sided_source_is_in_no_figure_and_no_group(tmp_path: Path) -> None:
    fair = answers(*[5.0, 4.0, 2.0, 1.0], source="shop")
    result = satisfaction(tmp_path, answers(*[5.0] * 300, source="jd"), fair)
    assert (result.rows["count"].tolist(), result.rows["base"].tolist()) == ([2], [4])
    assert result.notes[0][0] == "selection: every one of 300 answers of jd is 5; they are in no figure"
    assert "未计入" in result.notes[0][1]
    groups = satisfaction(tmp_path, answers(*[5.0] * 300, source="jd"), fair, by=("platform",))
    assert groups.rows["platform"].tolist() == ["shop"]


def test_a_filter_on_equal_answers_of_a_varied_source_keeps_its_figure(tmp_path: Path) -> None:
    rows = answers(*[5.0] * 400, 1.0)
    rows[-1]["platform"] = "elsewhere"
    snapshot = lake(tmp_path, review=rows)
    result = compute(snapshot, "review_satisfaction", as_of=AS_OF, where={"platform": ["test"]})
    assert (result.state, result.rows["value"].tolist(), result.notes) == ("ok", [1.0], ())


def test_surveys_are_judged_by_their_instrument(tmp_path: Path) -> None:
    csat = [{"asked_at": at("2024-03-01"), "instrument": "csat", "score": 5.0, "scale_max": 5}] * 300
    nps = [{"asked_at": at("2024-03-01"), "instrument": "nps_transactional", "score": float(i % 11), "scale_max": 10}
           for i in range(300)]  # fmt: skip
    snapshot = lake(tmp_path, survey=[*csat, *nps])
    assert compute(snapshot, "csat", as_of=AS_OF).state == "refused"
    assert compute(snapshot, "nps", as_of=AS_OF).state == "ok"


# ------------------------------------------------------------------------------------------------- lists of failures


def machines(failures: list[int], source: str = "test", *, dated: bool = True) -> tuple[list[Any], list[Any]]:
    start = {"in_service_at": "2024-01-01"} if dated else {}
    units = [{"unit_id": f"{source}-{i}", "source_system": source, **start} for i in range(len(failures))]
    repairs = [
        {"unit_id": f"{source}-{i}", "reported_at": at("2024-06-01"), "source_system": source}
        for i, count in enumerate(failures)
        for _ in range(count)
    ]
    return units, repairs


def failure_rate(tmp_path: Path, *groups: tuple[list[Any], list[Any]]) -> MetricResult:
    units, repairs = ([row for group in groups for row in group[side]] for side in (0, 1))
    snapshot: Snapshot = lake(tmp_path, unit=units, repair=repairs)
    return compute(snapshot, "failure_rate", as_of=AS_OF)


@pytest.mark.parametrize("dated", [True, False])
def test_a_list_of_failures_is_no_population(tmp_path: Path, dated: bool) -> None:
    # one failure each: 37 % of a population would have none, so sixteen in a row are one in 1,500
    assert (1 - math.exp(-1)) ** 16 < 0.001 < (1 - math.exp(-1)) ** 15
    result = failure_rate(tmp_path, machines([1] * 16, dated=dated))
    assert (result.state, result.rows.empty) == ("refused", True)
    assert "every one of the 16 units known (test) has such an event" in result.refusal("en")
    assert "故障清单" in result.refusal("zh")


@pytest.mark.parametrize("failures", [[1] * 15, [1] * 99 + [0], [8] * 100])
def test_a_population_keeps_its_rate_even_when_every_unit_failed_often(tmp_path: Path, failures: list[int]) -> None:
    result = failure_rate(tmp_path, machines(failures))
    assert (result.state, result.notes) == ("ok", ())
    assert result.rows["count"].tolist() == [sum(failures)]


def test_among_others_a_list_of_failures_is_named(tmp_path: Path) -> None:
    result = failure_rate(tmp_path, machines([1] * 20, "list"), machines([0] * 50 + [1], "fleet"))
    assert result.state == "ok"
    assert result.notes[0][0].startswith("every one of the 20 units of list has such an event")
    assert "20 台产品" in result.notes[0][1]


def test_a_drill_down_into_a_list_of_failures_is_refused(tmp_path: Path) -> None:
    units, repairs = machines([1] * 20)
    snapshot = lake(tmp_path, unit=units, repair=repairs)
    with pytest.raises(MetricError, match=r"every one of the 20 units known.*\n  fix  : load the intact units"):
        failure_cells(snapshot, "failure_rate", ["batch"], as_of=AS_OF)
