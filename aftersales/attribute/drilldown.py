"""Which batch, supplier, region ... fails more than the rest at equal time in service, and how sure that is.

Every cell of one or two dimensions is compared with what units of the same age elsewhere would show. The cell that
explains most, after paying for the number of cells it was picked from, is named; its rows are taken out and the
search is repeated, so that one cause does not fill the list. Words: a finding "goes together with" the failures.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from aftersales.attribute.cells import MISSING, Cells
from aftersales.attribute.leaves import Comparison, Leaves, Mask, leaves_of
from aftersales.lake.suppression import blanked, hidden_groups, is_small
from aftersales.measure.dimensions import PARENTS, dimension_title
from aftersales.model.statistics import false_discovery_q, rate_excess_p, rate_ratio_interval

MIN_FAILURES = 5
MAX_FINDINGS = 8
FALSE_DISCOVERY_LEVEL = 0.05
WORTH_RATIO = 1.2
"""Excesses below this ratio are not named: with many failures any difference becomes significant."""
CARRIED = 0.8
"""A parent is replaced by its child when the child carries this share of the parent's excess."""


@dataclass(frozen=True)
class Finding:
    """One cell whose failures exceed what its age would give. `ratio` and its 95 % interval are against the rest."""

    cell: Mapping[str, str]
    failures: int
    exposure: float
    """Unit-months in service."""
    expected: float
    """Failures that units of the same age elsewhere would have had."""
    ratio: float
    low: float
    high: float
    q: float
    """False discovery rate over every cell that was looked at (Benjamini-Hochberg)."""
    excess: float
    share_explained: float
    """Part of all failures in the question that this excess is."""

    def path(self, lang: str = "en") -> str:
        """The cell in words: `Batch 2022Q2 > Supplier S07`."""
        return " > ".join(f"{dimension_title(name, lang)} {value}" for name, value in self.cell.items())


@dataclass(frozen=True)
class Drilldown:
    """Findings, worst first, and the ledger of what was looked at."""

    findings: tuple[Finding, ...]
    cells_screened: int
    dimensions: tuple[str, ...]
    failures: int
    unit_months: float

    def to_frame(self) -> pd.DataFrame:
        columns = ["path", "failures", "exposure", "expected", "ratio", "low", "high", "q", "excess", "share_explained"]
        rows = [{**asdict(finding), "path": finding.path()} for finding in self.findings]
        return pd.DataFrame(rows, columns=columns)

    def summary(self, lang: str = "en") -> str:
        """One sentence a manager can repeat."""
        if not self.findings:
            if lang == "zh":
                return f"没有任何组合明显突出(共检查 {self.cells_screened:,} 个单元)。"
            return f"No combination stands out ({self.cells_screened:,} cells looked at)."
        top = self.findings[0]
        n, span = f"{top.failures:,}", f"[{top.low:.1f}, {_times(top.high)}]"
        if lang == "zh":
            times = f"为同龄产品预期的 {_times(top.ratio)} 倍" if np.isfinite(top.ratio) else "而其余同龄产品没有故障"
            return f"{top.path('zh')}:{n} 次,{times} {span},多出约 {top.excess:,.0f} 次。"
        times = f"{_times(top.ratio)} times what units of the same age elsewhere show"
        if not np.isfinite(top.ratio):
            times = "while units of the same age elsewhere show none"
        return f"{top.path()} goes together with {n} failures, {times} {span}: about {top.excess:,.0f} too many."


def _times(value: float) -> str:
    return f"{value:.1f}" if np.isfinite(value) else "∞"


def rates_by(cells: Cells, by: Sequence[str]) -> pd.DataFrame:
    """Failure rate of every cell of one or two dimensions against the rest at equal age, worst first.

    Returns
    -------
    One row per cell: by..., failures, unit_months, expected (at equal age), ratio, low, high (against the rest),
    p (one-sided), q (Benjamini-Hochberg over these cells), state. Worst first means by the low end of the ratio. The
    figures of cells too small for the viewer are missing, and their `state` is suppressed.

    Notes
    -----
    Expected failures are indirectly standardised over bands of months in service (Breslow and Day 1987, Statistical
    Methods in Cancer Research II, 2.3), the guard against Simpson's paradox: batches differ in age. The standard
    includes the cell itself: where one cell is most of its age band, its ratio is drawn towards 1.
    """
    leaves = leaves_of(cells, ())
    frame = cells.leaves.assign(expected=leaves.expected(leaves.everything))
    table = frame.groupby(list(by), sort=True)[["failures", "unit_months", "expected"]].sum().reset_index()
    rest = float(table["failures"].sum()) - table["failures"], float(table["expected"].sum()) - table["expected"]
    ratio = rate_ratio_interval(table["failures"], table["expected"], *rest)
    table["ratio"], table["low"], table["high"] = ratio
    table["p"] = rate_excess_p(table["failures"], table["expected"], *rest)
    table["q"] = false_discovery_q(table["p"])
    table["state"] = "ok"
    small = is_small(table["failures"], cells.smallest)
    hidden = hidden_groups(table, list(by), "failures", small, cells.smallest)
    table = blanked(table, hidden, ["failures", "unit_months", "expected", "ratio", "low", "high", "p", "q"])
    order = ["low", "ratio", *by]
    return table.sort_values(order, ascending=[False, False, *[True] * len(by)], ignore_index=True)


def drill_down(
    cells: Cells,
    *,
    max_findings: int = MAX_FINDINGS,
    level: float = FALSE_DISCOVERY_LEVEL,
    worth_ratio: float = WORTH_RATIO,
) -> Drilldown:
    """The cells of one and two dimensions that explain the excess failures, worst first.

    Parameters
    ----------
    max_findings
        At most this many.
    level
        False discovery rate over all cells looked at.
    worth_ratio
        Smallest ratio against the rest that is worth naming.

    Notes
    -----
    Score: Poisson log-likelihood ratio of the cell against the rest, conditional on the total (Kulldorff 1997,
    Commun. Stat. 26:1481-1496), less ln(cells in the cuboid) + ln(number of cuboids), the price of the choice in
    nats. The order of rows and of dimensions does not matter.
    """
    leaves = leaves_of(cells)
    total = int(leaves.failures.sum())
    alive = leaves.everything.copy()
    chosen: list[tuple[dict[str, str], Mask, float]] = []
    screened = 0
    while len(chosen) < max_findings and total and leaves.codes:
        table = _screened(leaves, alive)
        screened = max(screened, len(table))
        worthy = table[(table["q"] <= level) & (table["score"] > 0) & (table["low"] > 1)]
        worthy = worthy[(worthy["ratio"] >= worth_ratio) & ~worthy["has_missing"]]
        if worthy.empty:
            break
        cell = _refined(worthy, _Search(leaves, alive, worth_ratio))
        mask = leaves.inside(cell) & alive
        chosen.append((cell, mask, _q_of(table, cell)))
        alive &= ~mask
    chosen = [item for item in chosen if _may_be_told(leaves, item[0], item[1], cells.smallest)]
    findings = [_finding(leaves, alive, cell, mask, q, total) for cell, mask, q in chosen]
    worst_first = sorted((item for item in findings if item.low > 1), key=lambda item: -item.excess)
    return Drilldown(tuple(worst_first), screened, cells.dimensions, total, float(leaves.unit_months.sum()))


def _may_be_told(leaves: Leaves, cell: Mapping[str, str], mask: Mask, smallest: int) -> bool:
    """Whether neither the finding, nor what it leaves of any total around it, is too small to be told."""
    n = float(leaves.failures[mask].sum())
    around = [
        {name: cell[name] for name in names}
        for size in range(len(cell) + 1)
        for names in itertools.combinations(cell, size)
    ]
    left = [float(leaves.failures[leaves.inside(wider)].sum()) - n for wider in around]
    return not is_small([n, *left], smallest).any()


def _q_of(table: pd.DataFrame, cell: Mapping[str, str]) -> float:
    return float(table.loc[table["cell"].map(lambda other: other == cell), "q"].iloc[0])


def _cuboids(dimensions: Sequence[str]) -> list[tuple[str, ...]]:
    """All single dimensions and pairs; a dimension is never crossed with the one that contains it."""
    pairs = [
        pair
        for pair in itertools.combinations(dimensions, 2)
        if pair[1] not in PARENTS.get(pair[0], ()) and pair[0] not in PARENTS.get(pair[1], ())
    ]
    return [*((name,) for name in dimensions), *pairs]


def _screened(leaves: Leaves, alive: Mask) -> pd.DataFrame:
    """Every cell of every cuboid with enough failures: counts, ratio, p, q over all of them, score."""
    failures = np.where(alive, leaves.failures, 0.0)
    expected = np.where(alive, leaves.expected(alive), 0.0)
    total, all_expected = failures.sum(), expected.sum()
    cuboids = _cuboids(tuple(leaves.codes))
    parts = [_counted(leaves, cuboid, failures, expected, np.log(len(cuboids))) for cuboid in cuboids]
    table = pd.concat(parts, ignore_index=True)
    n, e = table["n"].to_numpy(float), table["e"].to_numpy(float)
    rest, rest_e = total - n, np.maximum(all_expected - e, 0.0)
    table["ratio"], table["low"], table["high"] = rate_ratio_interval(n, e, rest, rest_e)
    table["q"] = false_discovery_q(rate_excess_p(n, e, rest, rest_e))
    gain = _log_gain(n, e) + _log_gain(rest, rest_e)  # expected adds up to the failures: both are the total
    table["score"] = np.where(table["ratio"] > 1, gain, 0.0) - table["price"]
    table["has_missing"] = table["cell"].map(lambda cell: MISSING in cell.values())
    return table


def _counted(
    leaves: Leaves, cuboid: tuple[str, ...], failures: npt.NDArray[np.float64], expected: npt.NDArray[np.float64],
    price: float,
) -> pd.DataFrame:  # fmt: skip
    """Failures and expected failures of the cells of one cuboid that have enough of them."""
    keys, place = leaves.cells_of(cuboid)
    n, e = np.bincount(place, failures, len(keys)), np.bincount(place, expected, len(keys))
    kept = np.flatnonzero((n >= MIN_FAILURES) & (e > 0))
    price += np.log(max(int((e > 0).sum()), 1))
    named = [leaves.cell(cuboid, int(keys[i])) for i in kept]
    return pd.DataFrame({"cell": pd.Series(named, dtype=object), "n": n[kept], "e": e[kept], "price": price,
                         "size": len(cuboid)})  # fmt: skip


def _log_gain(n: npt.NDArray[np.float64], e: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    counts = (n > 0) & (e > 0)
    return np.where(counts, n * np.log(np.where(counts, n, 1.0) / np.where(counts, e, 1.0)), 0.0)


@dataclass(frozen=True)
class _Search:
    """What is left of the leaves, and the comparisons that decide between a cell and its relatives."""

    leaves: Leaves
    alive: Mask
    worth_ratio: float

    def stays_in_excess(self, parent: Mapping[str, str], child: Mapping[str, str]) -> bool:
        """Whether the parent without the child still fails more than everything outside the parent."""
        whole = self.leaves.inside(parent)
        return self._exceeds(whole & ~self.leaves.inside(child), ~whole)

    def adds_to(self, parent: Mapping[str, str], child: Mapping[str, str]) -> bool:
        """Whether the child fails more than the rest of its parent."""
        inside = self.leaves.inside(child)
        return self._exceeds(inside, self.leaves.inside(parent) & ~inside)

    def _exceeds(self, inside: Mask, against: Mask) -> bool:
        found = self.leaves.compared(inside & self.alive, against & self.alive)
        return found.low > 1 and found.ratio >= self.worth_ratio


def _refined(table: pd.DataFrame, search: _Search) -> dict[str, str]:
    """The best-scoring cell, exchanged for its parent or child when that tells the same story better.

    A parent is named when it stays in excess without the child; a child when it carries nearly all of the
    parent's excess and fails more than the rest of the parent. Ties go to fewer dimensions.
    """
    best = table.sort_values(["score", "size"], ascending=[False, True], kind="stable").iloc[0]
    cell: dict[str, str] = dict(best["cell"])
    return _child_or_self(table, search, cell, best) if len(cell) == 1 else _parent_or_self(search, cell)


def _child_or_self(table: pd.DataFrame, search: _Search, cell: dict[str, str], best: pd.Series) -> dict[str, str]:
    ((name, value),) = cell.items()
    children = table[table["cell"].map(lambda other: len(other) == 2 and other.get(name) == value)]
    carrying = children[(children["n"] - children["e"]) >= CARRIED * (best["n"] - best["e"])]
    for child in carrying.sort_values("score", ascending=False, kind="stable")["cell"]:
        if search.adds_to(cell, child) and not search.stays_in_excess(cell, child):
            return dict(child)
    return cell


def _parent_or_self(search: _Search, cell: dict[str, str]) -> dict[str, str]:
    parents = [{name: value} for name, value in cell.items()]
    standing = [parent for parent in parents if search.stays_in_excess(parent, cell)]
    if len(standing) == 1 and not search.adds_to(standing[0], cell):
        return standing[0]
    return cell


def _finding(leaves: Leaves, alive: Mask, cell: Mapping[str, str], mask: Mask, q: float, total: int) -> Finding:
    """The figures of a chosen cell against the rest that is left after all findings are taken out."""
    found: Comparison = leaves.compared(mask, alive)
    excess = found.failures - found.expected
    months = float(leaves.unit_months[mask].sum())
    share = excess / total if total else 0.0
    figures = (found.expected, found.ratio, found.low, found.high, q, excess, share)
    return Finding(dict(cell), int(found.failures), months, *figures)
