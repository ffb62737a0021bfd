"""Small cells: groups of so few cases that a figure tells of persons are blanked, and with them enough others.

A total less the groups that are shown gives away a single hidden group. So of every total a reader can have (of all
groups, and of all that share some of their values) at least two groups stay hidden, which together hold at least
`smallest` cases. What several questions with shifted filters give away is not guarded against.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

STATE: Literal["suppressed"] = "suppressed"
Mask = npt.NDArray[np.bool_]
Codes = npt.NDArray[np.int64]


def is_small(values: object, smallest: int) -> Mask:
    """Which counts are above zero and below `smallest`; a missing one is not.

    Examples
    --------
    >>> is_small([0, 1, 4, 5, None], 5).tolist()
    [False, True, True, False, False]
    """
    counts = pd.to_numeric(pd.Series(values), errors="coerce").to_numpy(dtype=float, na_value=np.nan)
    return np.asarray((counts > 0) & (counts < smallest))


def told(count: int, smallest: int) -> str:
    """A count as it may be told.

    Examples
    --------
    >>> told(1204, 5), told(3, 5), told(3, 0)
    ('1,204', '<5', '3')
    """
    return f"<{smallest}" if 0 < count < smallest else f"{count:,}"


def hidden_groups(frame: pd.DataFrame, keys: Sequence[str], count: str, small: Mask, smallest: int) -> Mask:
    """Which rows to blank: the `small` ones, and others until no total gives one of them away.

    Parameters
    ----------
    frame
        One row per group, with the columns `keys`.
    count
        Column of the cases that add up to totals.
    small
        Rows that must not be told.

    Examples
    --------
    >>> frame = pd.DataFrame({"region": ["N", "S", "W", "E"], "count": [3, 40, 9, 70]})
    >>> hidden_groups(frame, ["region"], "count", is_small(frame["count"], 5), 5).tolist()
    [True, False, True, False]
    """
    hidden = small.copy()
    if not smallest or not small.any() or not keys:
        return hidden
    counts = pd.to_numeric(frame[count], errors="coerce").fillna(0).to_numpy(dtype=float)
    levels = _totals(frame, keys, count, smallest)
    while True:
        betrayed = [_betrayed(level, hidden, small, counts, smallest) for level in levels]
        worked_out = _worked_out(levels, hidden)
        if not (worked_out & small).any() and not any(lines.any() for lines in betrayed):
            return hidden
        more = np.zeros(len(frame), bool)
        for level, lines in zip(levels, betrayed, strict=True):  # the finest first: what it hides serves the others
            lines[np.unique(level.line[worked_out & (level.line >= 0)])] = True  # also where a neighbour is known
            more = _next_smallest(level, lines, hidden, counts)
            if more.any():
                break
        if not more.any():  # no other group to hide behind
            return np.ones(len(frame), bool)
        hidden |= more


def blanked(frame: pd.DataFrame, hidden: Mask, columns: Sequence[str], state: str = "state") -> pd.DataFrame:
    """`frame` with `columns` missing in the hidden rows, whose `state` says so; counts stay whole numbers."""
    if not hidden.any():
        return frame
    found = frame.copy()
    for name in columns:
        values = found[name].astype("Int64") if pd.api.types.is_integer_dtype(found[name]) else found[name]
        found[name] = values.mask(hidden)
    found[state] = np.where(hidden, STATE, found.get(state, "ok"))
    return found


@dataclass(frozen=True)
class _Level:
    """The totals of rows that share their values of some keys: of each row the number of its total, -1: not told."""

    line: Codes
    n: int


def _totals(frame: pd.DataFrame, keys: Sequence[str], count: str, smallest: int) -> list[_Level]:
    """Every total a reader can have, by asking with fewer keys; the finest first. Small totals are hidden as well."""
    found = []
    for size in range(len(keys) - 1, -1, -1):
        for names in itertools.combinations(keys, size):
            place = _numbered(frame, names)
            sums = frame.assign(_place=place).groupby("_place", sort=True)
            coarser = sums[[*names]].first().assign(**{count: sums[count].sum()}).reset_index()
            small = is_small(coarser[count], smallest)
            told_ = ~hidden_groups(coarser, names, count, small, smallest)
            found.append(_Level(np.where(told_[place], place, -1).astype(np.int64), len(coarser)))
    return found


def _numbered(frame: pd.DataFrame, names: Sequence[str]) -> Codes:
    """The combinations of `names` as numbers from 0 on; a missing value is a value."""
    place = np.zeros(len(frame), np.int64)
    for name in names:
        code = pd.factorize(frame[name], use_na_sentinel=False)[0].astype(np.int64)
        place = np.unique(place * (int(code.max(initial=0)) + 1) + code, return_inverse=True)[1].reshape(-1)
    return place.astype(np.int64)


def _betrayed(
    level: _Level, hidden: Mask, small: Mask, counts: npt.NDArray[np.float64], smallest: int
) -> npt.NDArray[np.bool_]:
    """Totals whose hidden rows hold so few cases together that the rest of the total tells of them."""
    inside = level.line >= 0
    line, kept = level.line[inside], hidden[inside]
    held = np.bincount(line, counts[inside] * kept, level.n)
    return np.asarray((np.bincount(line, small[inside], level.n) > 0) & (held < smallest))


def _worked_out(levels: Sequence[_Level], hidden: Mask) -> Mask:
    """Hidden rows that follow from the totals and the shown rows: those the linear system leaves no freedom."""
    unknown = np.flatnonzero(hidden)
    lines = [(level.line[unknown], level.n) for level in levels]
    system = np.vstack([(line == np.arange(n)[:, None]) for line, n in lines]).astype(float)
    system = np.unique(system[system.any(axis=1)], axis=0)
    found = np.zeros(len(hidden), bool)
    if len(system):
        _, strength, directions = np.linalg.svd(system, full_matrices=False)
        fixed = directions[strength > 1e-9]
        found[unknown] = (fixed**2).sum(axis=0) > 1 - 1e-7
    return found


def _next_smallest(level: _Level, lines: npt.NDArray[np.bool_], hidden: Mask, counts: npt.NDArray[np.float64]) -> Mask:
    """One more row for each of `lines`: the smallest that is shown and counts anything."""
    more = np.zeros(len(hidden), bool)
    offered = np.flatnonzero(~hidden & (counts > 0) & (level.line >= 0))
    offered = offered[np.argsort(counts[offered], kind="stable")]
    offered = offered[lines[level.line[offered]]]
    _, first = np.unique(level.line[offered], return_index=True)
    more[offered[first]] = True
    return more
