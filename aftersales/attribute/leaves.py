"""Leaves of a drill-down as arrays, and the comparison of two sets of them at equal time in service."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd

from aftersales.attribute.cells import MISSING, Cells
from aftersales.model.statistics import normal_quantile, rate_ratio_interval

Mask = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Comparison:
    """Failures of a set of leaves against another set: `expected` is what the other set would show at equal age."""

    failures: float
    expected: float
    ratio: float
    low: float
    high: float


@dataclass(frozen=True)
class Leaves:
    """One entry a leaf; `codes` numbers the values of each dimension, dimensions and values in order of name."""

    failures: Floats
    unit_months: Floats
    band: Codes
    codes: Mapping[str, Codes]
    values: Mapping[str, tuple[str, ...]]

    @property
    def everything(self) -> Mask:
        return np.ones(len(self.failures), bool)

    def by_age(self, mask: Mask) -> tuple[Floats, Floats]:
        """Failures and unit-months of the leaves in `mask` per age band."""
        n = int(self.band.max(initial=-1)) + 1
        failures = np.bincount(self.band[mask], self.failures[mask], n).astype(float)
        return failures, np.bincount(self.band[mask], self.unit_months[mask], n).astype(float)

    def expected(self, mask: Mask) -> Floats:
        """Failures each leaf would have at the rate its age band has among the leaves in `mask`."""
        failures, months = self.by_age(mask)
        rate = np.divide(failures, months, out=np.zeros_like(failures), where=months > 0)
        return np.asarray(rate[self.band] * self.unit_months, dtype=float)

    def inside(self, cell: Mapping[str, str]) -> Mask:
        """The leaves of a cell."""
        mask = self.everything
        for name, value in cell.items():
            mask &= self.codes[name] == self.values[name].index(value)
        return mask

    def cells_of(self, cuboid: tuple[str, ...]) -> tuple[Codes, Codes]:
        """Keys of the cells of one or two dimensions, and the place of each leaf among them."""
        key, size = np.zeros(len(self.failures), np.int64), 1
        for name in cuboid:  # two numbers of leaves: their product stays far below 2^63
            key = key * len(self.values[name]) + self.codes[name]
            size *= len(self.values[name])
        if size <= 4 * len(key):
            return np.arange(size, dtype=np.int64), key
        keys, place = np.unique(key, return_inverse=True)  # most combinations do not occur
        return keys, place.reshape(-1).astype(np.int64)

    def cell(self, cuboid: tuple[str, ...], key: int) -> dict[str, str]:
        """The cell of a key of `cells_of`."""
        named: dict[str, str] = {}
        for name in reversed(cuboid):
            key, code = divmod(key, len(self.values[name]))
            named[name] = self.values[name][code]
        return dict(reversed(named.items()))

    def compared(self, inside: Mask, against: Mask) -> Comparison:
        """Failures `inside` to failures `against` at equal age, with a 95 % interval.

        Bands that only one side has say nothing. Where `against` shows no failure the ratio is infinite and its low
        end exact; where nothing can be compared it is NaN and `expected` is what was seen.

        Notes
        -----
        Mantel-Haenszel ratio of person-time rates with the variance of Greenland and Robins (1985), Biometrics
        41:55-68.
        """
        (a, t1), (b, t0) = self.by_age(inside), self.by_age(against)
        both = t1 + t0
        part1 = np.divide(t1, both, out=np.zeros_like(both), where=both > 0)
        part0 = np.divide(t0, both, out=np.zeros_like(both), where=both > 0)
        above, below = float((a * part0).sum()), float((b * part1).sum())
        n = float(a.sum())
        if above == 0:
            return Comparison(n, n, np.nan if below == 0 else 0.0, np.nan if below == 0 else 0.0, np.nan)
        if below == 0:
            shared = (t1 > 0) & (t0 > 0)
            pooled = (a + b)[shared]
            _, low, _ = rate_ratio_interval(a[shared].sum(), (pooled * part1[shared]).sum(), 0.0,
                                            (pooled * part0[shared]).sum())  # fmt: skip
            return Comparison(n, float(n - a[shared].sum()), np.inf, float(low), np.inf)
        ratio = above / below
        spread = np.exp(normal_quantile(0.95) * np.sqrt(((a + b) * part1 * part0).sum() / (above * below)))
        return Comparison(n, n / ratio, ratio, float(ratio / spread), float(ratio * spread))


def leaves_of(cells: Cells, dimensions: Sequence[str] | None = None) -> Leaves:
    """The leaf table as arrays; dimensions sorted, so that their order does not matter."""
    frame = cells.leaves
    codes: dict[str, Codes] = {}
    values: dict[str, tuple[str, ...]] = {}
    for name in sorted(cells.dimensions if dimensions is None else dimensions):
        codes[name], values[name] = _numbered(frame[name])
    band, _ = pd.factorize(frame["age_band"], sort=True)
    return Leaves(frame["failures"].to_numpy(float), frame["unit_months"].to_numpy(float), band.astype(np.int64), codes,
                  values)  # fmt: skip


def _numbered(column: pd.Series) -> tuple[Codes, tuple[str, ...]]:
    """Each value's number and the values in order of their text; missing is a value of its own."""
    code, found = pd.factorize(column)
    texts = [*map(str, found), MISSING]
    values = sorted({texts[i] for i in np.unique(code)})
    number = {text: i for i, text in enumerate(values)}
    order = np.array([number.get(text, -1) for text in texts], dtype=np.int64)
    return order[code], tuple(values)  # code -1 is the last text
