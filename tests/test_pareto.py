"""Pareto: counts, shares and the running share by hand; labels, filters, missing values, nothing at all."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from lakes import at, day, lake
from statsmodels.stats.proportion import proportion_confint

from aftersales.attribute.pareto import pareto
from aftersales.lake.store import Snapshot
from aftersales.model.errors import MetricError

AS_OF = at("2024-12-31")


def tickets(tmp_path: Path, *channels: str | None, **more: Any) -> Snapshot:
    rows = [
        {"ticket_id": f"T{i}", "channel": channel, "created_at": f"2024-0{i + 1}-01"}
        for i, channel in enumerate(channels)
    ]
    return lake(tmp_path, ticket=rows, **more)


def test_the_most_frequent_group_comes_first_and_the_unknown_is_a_group(tmp_path: Path) -> None:
    found = pareto(tickets(tmp_path, "b", "a'/电", None, "b", "a", "b"), "ticket", "channel", as_of=AS_OF)
    assert (found.total, found.is_multiple, found.dimension) == (6, False, "channel")
    rows = found.rows
    assert rows["channel"].fillna("?").tolist() == ["b", "a", "a'/电", "?"]
    assert rows["count"].tolist() == [3, 1, 1, 1]
    assert rows["share"].tolist() == pytest.approx([1 / 2, 1 / 6, 1 / 6, 1 / 6])
    assert rows["cumulative_share"].tolist() == pytest.approx([1 / 2, 2 / 3, 5 / 6, 1])
    low, high = proportion_confint(3, 6, method="wilson")
    assert (rows["low"][0], rows["high"][0]) == pytest.approx((low, high))


def test_a_row_with_several_labels_is_under_each_and_once_in_the_total(tmp_path: Path) -> None:
    tags = [{"tag_id": str(i), "source_table": "ticket", "source_id": source, "tag_set": "topic", "tag": tag}
            for i, (source, tag) in enumerate([("T0", "door"), ("T0", "cell"), ("T1", "cell")])]  # fmt: skip
    snapshot = tickets(tmp_path, "a", "b", "b", tag=tags)
    found = pareto(snapshot, "ticket", "topic", as_of=AS_OF)
    assert (found.total, found.is_multiple) == (3, True)
    assert dict(zip(found.rows["topic"].fillna("?"), found.rows["count"], strict=True)) == {
        "cell": 2,
        "door": 1,
        "?": 1,
    }
    filtered = pareto(snapshot, "ticket", "channel", as_of=AS_OF, where={"topic": ["door", "cell"]})
    assert dict(zip(filtered.rows["channel"], filtered.rows["count"], strict=True)) == {"a": 1, "b": 1}


def test_a_filter_on_the_dimension_itself_is_passed_over(tmp_path: Path) -> None:
    snapshot = tickets(tmp_path, "a", "b", "b")
    one = pareto(snapshot, "ticket", "channel", as_of=AS_OF)
    other = pareto(snapshot, "ticket", "channel", as_of=AS_OF, where={"channel": ["a"]})
    assert one.rows["count"].tolist() == other.rows["count"].tolist() == [2, 1]


@pytest.mark.parametrize(
    ("as_of", "start", "end", "n"),
    [("2024-12-31", None, None, 4), ("2024-03-01", None, None, 3), ("2024-12-31", "2024-02-01", "2024-04-01", 2),
     ("2024-12-31", "2025-02-01", None, 0), ("2023-12-31", None, None, 0)],
)  # fmt: skip
def test_the_window_has_its_first_day_and_not_its_end(
    tmp_path: Path, as_of: str, start: str | None, end: str | None, n: int
) -> None:
    first, last = (day(text) if text else None for text in (start, end))
    found = pareto(tickets(tmp_path, *"aaaa"), "ticket", "channel", as_of=at(as_of), start=first, end=last)
    assert (found.total, found.rows["count"].sum()) == (n, n)


def test_an_empty_lake_has_an_empty_pareto(tmp_path: Path) -> None:
    found = pareto(lake(tmp_path), "ticket", "channel", as_of=AS_OF)
    assert found.total == 0
    assert found.to_frame().empty


def test_an_unknown_dimension_lists_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(MetricError, match="rows of ticket do not have it") as caught:
        pareto(tickets(tmp_path, "a"), "ticket", "colour", as_of=AS_OF)
    assert "channel" in caught.value.rows
