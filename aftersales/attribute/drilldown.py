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
            return (f"没有任何组合明显突出(共检查 {self.cells_screened:,} 个单元)。" if lang == "zh" else
                    f"No combination stands out ({self.cells_screened:,} cells looked at).")
        top = self.findings[0]
        if lang == "zh":
            return (f"{top.path('zh')}:{top.failures:,} 次,为同龄产品预期的 {top.ratio:.1f} 倍 "
                    f"[{top.low:.1f}, {top.high:.1f}],多出约 {top.excess:,.0f} 次。")
        return (f"{top.path()} goes together with {top.failures:,} failures, {top.ratio:.1f} times what units of the same "
                f"age elsewhere show [{top.low:.1f}, {top.high:.1f}]: about {top.excess:,.0f} too many.")


def rates_by(cells: Cells, by: Sequence[str]) -> pd.DataFrame:
    """Failure rate of every cell of one or two dimensions against the rest at equal age, worst first.

    Returns
    -------
    One row per cell: by..., failures, unit_months, expected (at equal age), ratio, low, high (against the rest),
    p (one-sided), q (Benjamini-Hochberg over these cells). Worst first means by the low end of the ratio.

    Notes
    -----
    Expected failures are indirectly standardised over bands of months in service (Breslow and Day 1987, Statistical
    Methods in Cancer Research II, 2.3), the guard against Simpson's paradox: batches differ in age.
    """
    leaves = cells.leaves
    expected = _expected(leaves)
    table = leaves.assign(expected=expected).groupby(list(by), sort=True)[["failures", "unit_months", "expected"]].sum().reset_index()
    total, all_expected = float(table["failures"].sum()), float(table["expected"].sum())
    rest, rest_expected = total - table["failures"], all_expected - table["expected"]
    table["ratio"], table["low"], table["high"] = rate_ratio_interval(table["failures"], table["expected"], rest, rest_expected)
    table["p"] = rate_excess_p(table["failures"], table["expected"], rest, rest_expected)
    table["q"] = false_discovery_q(table["p"])
    return table.sort_values(["low", "ratio"], ascending=False, ignore_index=True)


def drill_down(cells: Cells, *, max_findings: int = MAX_FINDINGS, level: float = FALSE_DISCOVERY_LEVEL,
               worth_ratio: float = WORTH_RATIO) -> Drilldown:
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
    dimensions = tuple(sorted(cells.dimensions))
    leaves = cells.leaves
    total = int(leaves["failures"].sum())
    months = float(leaves["unit_months"].sum())
    cuboids = _cuboids(dimensions)
    codes = {name: pd.factorize(leaves[name], sort=True) for name in dimensions}
    alive = np.ones(len(leaves), bool)
    chosen: list[tuple[dict[str, str], npt.NDArray[np.bool_], float]] = []
    screened = 0
    while len(chosen) < max_findings and total:
        table = _score_all(leaves, alive, cuboids, codes)
        screened = max(screened, len(table))
        table = table[table["q"] <= level]
        table = table[(table["score"] > 0) & (table["low"] > 1) & (table["ratio"] >= worth_ratio)]
        table = table[~table["has_missing"]]
        if table.empty:
            break
        cell = _refined(table, leaves, alive, worth_ratio)
        mask = _inside(leaves, cell) & alive
        row = table[table["cell"].map(lambda found, cell=cell: found == cell)]
        q = float(row["q"].iloc[0]) if len(row) else level
        chosen.append((cell, mask, q))
        alive &= ~mask
    findings = [_finding(leaves, alive, cell, mask, q, total) for cell, mask, q in chosen]
    findings = [finding for finding in findings if finding.low > 1]
    return Drilldown(tuple(sorted(findings, key=lambda finding: -finding.excess)), screened, cells.dimensions, total, months)


def _cuboids(dimensions: Sequence[str]) -> list[tuple[str, ...]]:
    """All single dimensions and pairs; a dimension is never crossed with the one that contains it."""
    pairs = [pair for pair in itertools.combinations(dimensions, 2)
             if pair[1] not in PARENTS.get(pair[0], ()) and pair[0] not in PARENTS.get(pair[1], ())]
    return [*((name,) for name in dimensions), *pairs]


def _expected(leaves: pd.DataFrame, alive: npt.NDArray[np.bool_] | None = None) -> npt.NDArray[np.float64]:
    """Failures each leaf would have at the rate of its age band among `alive` leaves."""
    base = leaves if alive is None else leaves[alive]
    sums = base.groupby("age_band")[["failures", "unit_months"]].sum()
    rate = (sums["failures"] / sums["unit_months"]).reindex(leaves["age_band"]).fillna(0.0).to_numpy()
    return np.asarray(rate * leaves["unit_months"].to_numpy(), dtype=float)


def _score_all(leaves: pd.DataFrame, alive: npt.NDArray[np.bool_], cuboids: Sequence[tuple[str, ...]],
               codes: Mapping[str, tuple[npt.NDArray[np.intp], pd.Index]]) -> pd.DataFrame:
    """Every cell of every cuboid with enough failures: counts, ratio, p, q over all of them, score."""
    failures = np.where(alive, leaves["failures"].to_numpy(float), 0.0)
    expected = np.where(alive, _expected(leaves, alive), 0.0)
    total, all_expected = failures.sum(), expected.sum()
    parts = []
    for cuboid in cuboids:
        key, size = np.zeros(len(leaves), np.int64), 1
        for name in cuboid:
            key = key * len(codes[name][1]) + codes[name][0]
            size *= len(codes[name][1])
        n, e = np.bincount(key, failures, size), np.bincount(key, expected, size)
        places = np.flatnonzero((n >= MIN_FAILURES) & (e > 0))
        price = np.log(max(int((e > 0).sum()), 1)) + np.log(len(cuboids))
        parts.append(pd.DataFrame({"cell": [_cell(cuboid, place, codes) for place in places], "n": n[places], "e": e[places],
                                   "price": price, "size": len(cuboid)}))
    table = pd.concat(parts, ignore_index=True)
    rest, rest_e = total - table["n"], all_expected - table["e"]
    table["ratio"], table["low"], table["high"] = rate_ratio_interval(table["n"], table["e"], rest, rest_e)
    table["p"] = rate_excess_p(table["n"], table["e"], rest, rest_e)
    table["q"] = false_discovery_q(table["p"])
    scale = total / all_expected if all_expected else 1.0
    gain = _log_gain(table["n"], table["e"] * scale) + _log_gain(rest, rest_e * scale)
    table["score"] = np.where(table["ratio"] > 1, gain, 0.0) - table["price"]
    table["has_missing"] = table["cell"].map(lambda cell: MISSING in cell.values())
    return table


def _log_gain(n: pd.Series, e: pd.Series) -> npt.NDArray[np.float64]:
    n_, e_ = n.to_numpy(float), e.to_numpy(float)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where((n_ > 0) & (e_ > 0), n_ * np.log(n_ / np.where(e_ > 0, e_, 1.0)), 0.0)


def _cell(cuboid: tuple[str, ...], place: int, codes: Mapping[str, tuple[npt.NDArray[np.intp], pd.Index]]) -> dict[str, str]:
    values: list[str] = []
    for name in reversed(cuboid):
        place, code = divmod(int(place), len(codes[name][1]))
        values.append(str(codes[name][1][code]))
    return dict(zip(cuboid, reversed(values), strict=True))


def _refined(table: pd.DataFrame, leaves: pd.DataFrame, alive: npt.NDArray[np.bool_], worth_ratio: float) -> dict[str, str]:
    """The best-scoring cell, exchanged for its parent or child when that tells the same story better.

    A parent is named when it stays in excess without the child; a child when it carries nearly all of the
    parent's excess.
    """
    best = table.sort_values(["score", "size"], ascending=[False, True]).iloc[0]
    cell = dict(best["cell"])
    if len(cell) == 1:
        (name, value), = cell.items()
        children = table[table["cell"].map(lambda other: len(other) == 2 and other.get(name) == value)]
        excess = best["n"] - best["e"]
        carrying = children[(children["n"] - children["e"]) >= CARRIED * excess]
        for child in carrying.sort_values("score", ascending=False)["cell"]:
            if not _stays_in_excess(leaves, alive, cell, dict(child), worth_ratio):
                return dict(child)
        return cell
    parents = [{name: value} for name, value in cell.items()]
    standing = [parent for parent in parents if _stays_in_excess(leaves, alive, parent, cell, worth_ratio)]
    if len(standing) == 1 and not _adds_to(leaves, alive, standing[0], cell, worth_ratio):
        return standing[0]
    return cell


def _ratio_of(leaves: pd.DataFrame, alive: npt.NDArray[np.bool_], inside: npt.NDArray[np.bool_],
              against: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Ratio of two sets of leaves at equal age, and its low end."""
    expected = _expected(leaves, alive & against)
    n = leaves["failures"].to_numpy(float)
    ratio, low, _ = rate_ratio_interval(n[inside & alive].sum(), expected[inside & alive].sum(),
                                        n[against & alive].sum(), expected[against & alive].sum())
    return float(ratio), float(low)


def _stays_in_excess(leaves: pd.DataFrame, alive: npt.NDArray[np.bool_], parent: Mapping[str, str], child: Mapping[str, str],
                     worth_ratio: float) -> bool:
    """Whether the parent without the child still fails more than everything outside the parent."""
    whole = _inside(leaves, parent)
    ratio, low = _ratio_of(leaves, alive, whole & ~_inside(leaves, child), ~whole)
    return low > 1 and ratio >= worth_ratio


def _adds_to(leaves: pd.DataFrame, alive: npt.NDArray[np.bool_], parent: Mapping[str, str], child: Mapping[str, str],
             worth_ratio: float) -> bool:
    """Whether the child fails more than the rest of its parent."""
    inside, whole = _inside(leaves, child), _inside(leaves, parent)
    ratio, low = _ratio_of(leaves, alive, inside, whole & ~inside)
    return low > 1 and ratio >= worth_ratio


def _inside(leaves: pd.DataFrame, cell: Mapping[str, str]) -> npt.NDArray[np.bool_]:
    mask = np.ones(len(leaves), bool)
    for name, value in cell.items():
        mask &= (leaves[name] == value).to_numpy()
    return mask


def _finding(leaves: pd.DataFrame, alive: npt.NDArray[np.bool_], cell: Mapping[str, str], mask: npt.NDArray[np.bool_],
             q: float, total: int) -> Finding:
    """The figures of a chosen cell against the rest that is left after all findings are taken out."""
    expected = _expected(leaves, alive)
    n = leaves["failures"].to_numpy(float)
    failures, base = float(n[mask].sum()), float(expected[mask].sum())
    ratio, low, high = rate_ratio_interval(failures, base, n[alive].sum(), expected[alive].sum())
    excess = failures - base
    months = float(leaves["unit_months"].to_numpy()[mask].sum())
    return Finding(dict(cell), int(failures), months, base, float(ratio), float(low), float(high), q, excess,
                   excess / total if total else 0.0)
