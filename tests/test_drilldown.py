"""Drill-down on small worlds with a known cause: what is named, what is not, and how sure."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from aftersales.attribute.cells import MISSING, Cells
from aftersales.attribute.drilldown import Drilldown, Finding, drill_down, rates_by
from aftersales.attribute.leaves import leaves_of

Cell = Mapping[str, str]
BATCHES, SUPPLIERS, REGIONS, LINES = 12, 5, 4, 3  # 720 combinations, three ages each


def world(
    seed: int = 1, causes: list[tuple[Cell, float]] | None = None, *, months: float = 60.0, rate: float = 0.02,
    aged: float = 3.0, older: str = "",
) -> Cells:  # fmt: skip
    """Poisson failures over 720 combinations at three ages; old units fail `aged` times as often as new ones.

    Region `older` has ten times the old units, and nothing else against it.
    """
    random = np.random.default_rng(seed)
    codes = itertools.product(range(BATCHES), range(SUPPLIERS), range(REGIONS), range(LINES), (0, 3, 6))
    frame = pd.DataFrame(codes, columns=["batch", "supplier", "region", "line", "age_band"])
    for name, letter in (("batch", "B"), ("supplier", "S"), ("region", "R"), ("line", "L")):
        frame[name] = letter + frame[name].astype(str)
    frame["unit_months"] = months * random.uniform(0.5, 1.5, len(frame))
    frame.loc[(frame["region"] == older) & (frame["age_band"] == 6), "unit_months"] *= 10
    expected = rate * frame["unit_months"] * aged ** (frame["age_band"] / 6)
    for cell, ratio in causes or []:
        expected = expected * np.where(members(frame, cell), ratio, 1.0)
    frame["failures"] = random.poisson(expected)
    return cells_of(frame, "batch", "supplier", "region", "line")


def members(frame: pd.DataFrame, cell: Cell) -> np.ndarray[Any, Any]:
    return np.logical_and.reduce([(frame[name] == value).to_numpy() for name, value in cell.items()])


def cells_of(frame: pd.DataFrame, *dimensions: str) -> Cells:
    day = dt.date(2024, 1, 1)
    n = int(frame["failures"].sum())
    return Cells(frame, tuple(dimensions), n, 0, 0, 0, day, day, {})


def leaf_table(rows: list[tuple[Any, ...]], *dimensions: str) -> Cells:
    return cells_of(pd.DataFrame(rows, columns=[*dimensions, "age_band", "failures", "unit_months"]), *dimensions)


def named(found: Drilldown) -> list[dict[str, str]]:
    return [dict(finding.cell) for finding in found.findings]


PAIR: Cell = {"batch": "B3", "supplier": "S2"}


# ------------------------------------------------------------------------------------------------- planted causes


@pytest.mark.parametrize("cell", [PAIR, {"line": "L1", "region": "R2"}, {"batch": "B7"}, {"region": "R0"}])
def test_a_planted_cause_is_found_first_and_alone_neither_as_its_parent_nor_as_its_children(cell: Cell) -> None:
    """25 worlds each. False discoveries are held at 5 %: alone in 95 %, with a standard error of 4.4 points."""
    found = [named(drill_down(world(seed, [(cell, 2.5)]))) for seed in range(25)]
    assert all(names[0] == cell for names in found)
    assert sum(names == [cell] for names in found) >= 25 * (0.95 - 2 * 0.044)


def test_two_planted_causes_are_both_found_in_order_of_excess() -> None:
    found = drill_down(world(4, [({"line": "L2", "region": "R1"}, 3.0), ({"batch": "B5"}, 3.0)]))
    assert named(found) == [{"batch": "B5"}, {"line": "L2", "region": "R1"}] or named(found) == [
        {"line": "L2", "region": "R1"}, {"batch": "B5"}]  # fmt: skip
    excess = [finding.excess for finding in found.findings]
    assert excess == sorted(excess, reverse=True)


def test_the_interval_covers_the_planted_ratio_as_often_as_it_says() -> None:
    """60 worlds at 95 %: fewer than 52 covered has a chance below 1 in 10,000 (binomial)."""
    hits = 0
    for seed in range(60):
        leaves = leaves_of(cells := world(seed, [(PAIR, 2.0)]))
        inside = leaves.inside(PAIR)
        found = leaves.compared(inside, ~inside)
        assert found.failures == cells.leaves.loc[members(cells.leaves, PAIR), "failures"].sum()
        hits += found.low <= 2.0 <= found.high
    assert hits >= 52


def test_nothing_is_named_where_nothing_is_planted() -> None:
    """100 worlds of noise; a false-alarm share of 5 % would have a standard error of 2.2 points."""
    alarms = sum(bool(drill_down(world(seed + 1000, months=12.0)).findings) for seed in range(100))
    assert alarms <= 5


def test_a_distractor_that_is_only_older_is_not_named_though_its_crude_rate_is_higher() -> None:
    cells = world(7, [(PAIR, 2.5)], aged=6.0, older="R3")
    by_region = cells.leaves.groupby("region")[["failures", "unit_months"]].sum()
    crude = by_region["failures"] / by_region["unit_months"]
    assert crude["R3"] > 1.5 * crude.drop("R3").max()
    assert named(drill_down(cells)) == [PAIR]
    rates = rates_by(cells, ["region"]).set_index("region")
    assert 0.9 < rates["ratio"]["R3"] < 1.1


def test_figures_of_a_finding_by_hand() -> None:
    """Bad: 40 in 100 + 10 in 200 unit-months; others: 10 in 200 + 10 in 400. Ratio: 100/3 over 20/3."""
    cells = leaf_table(
        [("bad", 0, 40, 100.0), ("bad", 3, 10, 200.0), ("ok", 0, 10, 200.0), ("ok", 3, 10, 400.0)], "batch"
    )
    (found,) = drill_down(cells).findings
    assert found.cell == {"batch": "bad"}
    assert (found.failures, found.exposure) == (50, 300.0)
    ratio = (40 * 200 / 300 + 10 * 400 / 600) / (10 * 100 / 300 + 10 * 200 / 600)
    assert found.ratio == pytest.approx(ratio) == pytest.approx(5.0)
    variance = (50 * 100 * 200 / 300**2 + 20 * 200 * 400 / 600**2) / ((100 / 3) * (20 / 3))
    assert (found.low, found.high) == pytest.approx(tuple(5 * np.exp(s * 1.959964 * variance**0.5) for s in (-1, 1)))
    assert (found.expected, found.excess, found.share_explained) == pytest.approx((10.0, 40.0, 40 / 70))


def test_the_table_of_rates_by_hand() -> None:
    cells = leaf_table([("a", 0, 8, 100.0), ("b", 0, 4, 300.0), ("c", 0, 0, 50.0)], "batch")
    table = rates_by(cells, ["batch"]).set_index("batch")
    assert table["failures"].to_dict() == {"a": 8, "b": 4, "c": 0}
    assert table["expected"].to_dict() == pytest.approx({"a": 12 * 100 / 450, "b": 8.0, "c": 12 * 50 / 450})
    assert table["ratio"].to_dict() == pytest.approx({"a": 8 / 100 / (4 / 350), "b": 4 / 300 / (8 / 150), "c": 0.0})
    assert table["p"]["a"] == pytest.approx(stats.binomtest(8, 12, 100 / 450, alternative="greater").pvalue)
    assert table.index[0] == "a"


def test_q_is_over_every_cell_that_was_screened() -> None:
    rows = [("bad", 0, 30, 100.0), *[(f"n{i}", 0, 10 + i % 3, 100.0) for i in range(19)]]
    found = drill_down(leaf_table(rows, "batch"))
    total = sum(row[2] for row in rows)
    p = [stats.binomtest(row[2], total, 1 / 20, alternative="greater").pvalue for row in rows]
    assert found.cells_screened == 20
    assert found.findings[0].q == pytest.approx(stats.false_discovery_control(p)[0])


# ------------------------------------------------------------------------------------------------------ properties


def comparable(found: Drilldown) -> list[dict[str, Any]]:
    return [{**finding.__dict__, "cell": dict(sorted(finding.cell.items()))} for finding in found.findings]


def test_the_order_of_rows_and_of_dimensions_changes_nothing() -> None:
    cells = world(11, [(PAIR, 2.5), ({"line": "L1"}, 1.6)])
    expected = comparable(drill_down(cells))
    assert len(expected) == 2
    for seed, dimensions in enumerate(itertools.islice(itertools.permutations(cells.dimensions), 0, 24, 5)):
        frame = cells.leaves.sample(frac=1, random_state=seed, ignore_index=True)
        turned = comparable(drill_down(cells_of(frame, *dimensions)))
        for one, other in zip(expected, turned, strict=True):
            assert one["cell"] == other["cell"]
            assert [v for k, v in one.items() if k != "cell"] == pytest.approx(
                [v for k, v in other.items() if k != "cell"]
            )


def test_a_missing_value_is_never_named() -> None:
    for missing in (MISSING, None, float("nan")):
        cells = world(5, [({"supplier": "S4"}, 3.0)])
        frame = cells.leaves.assign(supplier=cells.leaves["supplier"].astype(object).replace({"S4": missing}))
        found = drill_down(cells_of(frame, *cells.dimensions))
        assert all(
            MISSING not in finding.cell.values() and "nan" not in finding.cell.values() for finding in found.findings
        )


def test_findings_do_not_share_failures() -> None:
    cells = world(12, [(PAIR, 4.0), ({"batch": "B3"}, 1.5)])
    found = drill_down(cells)
    assert len(found.findings) == 2
    assert sum(finding.failures for finding in found.findings) == cells.leaves.loc[
        members(cells.leaves, {"batch": "B3"}), "failures"].sum()  # fmt: skip


def test_identical_columns_name_the_cause_once_with_one_dimension() -> None:
    cells = world(6, [({"batch": "B2"}, 3.0)])
    frame = cells.leaves.assign(lot=cells.leaves["batch"])
    assert named(drill_down(cells_of(frame, *cells.dimensions, "lot"))) == [{"batch": "B2"}]


def test_a_dimension_is_not_crossed_with_the_one_that_contains_it() -> None:
    cells = world(6, [({"batch": "B2"}, 3.0)])
    frame = cells.leaves.rename(columns={"batch": "model", "supplier": "family"})
    found = drill_down(cells_of(frame, "model", "family"))
    assert found.cells_screened == BATCHES + SUPPLIERS


def test_bands_that_only_one_side_has_say_nothing() -> None:
    cells = leaf_table(
        [("old", 0, 5, 100.0), ("old", 57, 500, 10.0), ("new", 0, 5, 100.0), ("new2", 0, 5, 100.0)], "batch"
    )
    assert drill_down(cells).findings == ()


# ---------------------------------------------------------------------------------------------------------- edges


def test_all_failures_in_one_cell_are_a_finding_with_an_infinite_ratio() -> None:
    found = drill_down(leaf_table([("bad", 0, 30, 100.0), ("ok", 0, 0, 300.0)], "batch"))
    (finding,) = found.findings
    low = (0.025 ** (1 / 30)) / (1 - 0.025 ** (1 / 30)) * 3
    assert (finding.ratio, finding.high, finding.expected, finding.excess) == (np.inf, np.inf, 0.0, 30.0)
    assert finding.low == pytest.approx(low)
    assert found.summary() == (
        "Batch bad goes together with 30 failures, while units of the same age elsewhere show none "
        f"[{low:.1f}, ∞]: about 30 too many."
    )
    assert "其余同龄产品没有故障" in found.summary("zh")


@pytest.mark.parametrize(
    "cells",
    [
        leaf_table([], "batch"),
        leaf_table([("a", 0, 0, 10.0), ("b", 0, 0, 10.0)], "batch"),  # no failure
        leaf_table([("a", 0, 50, 10.0)], "batch"),  # nothing to compare with
        leaf_table([("a", 0, 1, 10.0), ("b", 0, 0, 10.0)], "batch"),  # one failure
        leaf_table([(0, 50, 10.0)]),  # no dimension
        leaf_table([("a", 0, 9, 0.0), ("b", 0, 9, 10.0)], "batch"),  # failures without exposure
    ],
)
def test_where_nothing_can_be_compared_nothing_stands_out(cells: Cells) -> None:
    found = drill_down(cells)
    assert found.findings == ()
    assert found.summary() == f"No combination stands out ({found.cells_screened:,} cells looked at)."
    assert found.summary("zh") == f"没有任何组合明显突出(共检查 {found.cells_screened:,} 个单元)。"
    assert found.to_frame().empty


def test_values_of_any_kind_of_text_are_named_as_they_are() -> None:
    strange = ["批次'1", 'a"b', "x, y/z > w", "😀", " ", "é"]
    rows = [(value, 0, 90 if value == "x, y/z > w" else 20, 100.0) for value in strange]
    found = drill_down(leaf_table(rows, "batch"))
    assert named(found) == [{"batch": "x, y/z > w"}]
    assert found.findings[0].path("zh") == "批次 x, y/z > w"


def test_more_combinations_than_a_64_bit_number_counts_do_not_overflow() -> None:
    random = np.random.default_rng(3)
    n, dimensions = 4000, [f"x_{letter}" for letter in "abcdefg"]  # 4000^7 > 2^63
    frame = pd.DataFrame({name: [f"{name}{i}" for i in random.permutation(n)] for name in dimensions})
    frame = frame.assign(x_line=random.choice(["L1", "L2", "L3"], n), age_band=0, unit_months=10.0)
    frame["failures"] = random.poisson(np.where(frame["x_line"] == "L2", 0.3, 0.1))
    found = drill_down(cells_of(frame, *dimensions, "x_line"))
    assert named(found) == [{"x_line": "L2"}]


def test_a_finding_reads_as_a_path_and_a_sentence() -> None:
    finding = Finding({"batch": "2022Q2", "supplier": "S07"}, 963, 39180.0, 488.7, 1.97, 1.85, 2.1, 1e-9, 474.3, 0.02)
    found = Drilldown((finding,), 972, ("batch", "supplier"), 20286, 3e6)
    assert finding.path() == "Batch 2022Q2 > Supplier S07"
    assert found.summary() == (
        "Batch 2022Q2 > Supplier S07 goes together with 963 failures, 2.0 times what units of the same age elsewhere "
        "show [1.9, 2.1]: about 474 too many."
    )
    assert found.summary("zh") == "批次 2022Q2 > 供应商 S07:963 次,为同龄产品预期的 2.0 倍 [1.9, 2.1],多出约 474 次。"
    assert found.to_frame().loc[0, "path"] == "Batch 2022Q2 > Supplier S07"
