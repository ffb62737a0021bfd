"""Dirt: a clean table of cells on its way into an export. Every dirty row carries exactly one kind of dirt."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

MISSING_TEXTS = ("N/A", "-", "null")
FULL_WIDTH = str.maketrans("0123456789", "０１２３４５６７８９")


def full_width(text: str) -> str:
    """The text with 全角 digits: SL1 becomes SL１."""
    return text.translate(FULL_WIDTH)


def trailing_blanks(text: str) -> str:
    """The text with blanks behind, one of them 全角."""
    return f"{text} \u3000"


class DirtyTable:
    """A table of cells (object columns) that is made dirty step by step, with a count of each kind of dirt.

    Rows once dirtied are not touched again, and only clean rows are repeated, so the counts are exact for the file.
    """

    def __init__(self, table: pd.DataFrame, rng: np.random.Generator) -> None:
        self.table = table.astype(object)
        self.rng = rng
        self.counts: dict[str, int] = {}
        self._is_clean = np.ones(len(table), dtype=bool)
        self._place = np.arange(len(table), dtype=float)

    def rows(self, kind: str, share: float, where: np.ndarray | None = None, least: int = 2) -> np.ndarray:
        """Positions of clean rows picked for `kind`: `share` of all rows that qualify, at least `least`."""
        allowed = self._is_clean if where is None else self._is_clean & where
        wanted = max(least, round(share * (len(self.table) if where is None else int(where.sum()))))
        free = np.flatnonzero(allowed)
        picked = np.sort(self.rng.choice(free, min(wanted, len(free)), replace=False))
        self._is_clean[picked] = False
        self.counts[kind] = self.counts.get(kind, 0) + len(picked)
        return picked

    def is_filled(self, column: str) -> np.ndarray:
        """True where the cell has a value."""
        cells = self.table[column]
        return (cells.notna() & (cells != "")).to_numpy()

    def put(
        self, kind: str, column: str, values: tuple[object, ...], share: float, where: np.ndarray | None = None
    ) -> None:
        """Overwrites filled cells of a column with one of `values`, only where asked."""
        filled = self.is_filled(column)
        rows = self.rows(kind, share, filled if where is None else filled & where)
        self.write(column, rows, [values[i] for i in self.rng.integers(0, len(values), len(rows))])

    def change(self, kind: str, column: str, how: Callable[[str], str], share: float) -> None:
        """Rewrites filled cells of a column, e.g. in lower case."""
        rows = self.rows(kind, share, self.is_filled(column))
        self.write(column, rows, [how(cell) for cell in self.table[column].to_numpy()[rows]])

    def swap(self, kind: str, first: str, second: str, share: float) -> None:
        """Exchanges two moments of a row, so that the later one comes first."""
        known = self.is_filled(first) & self.is_filled(second)
        rows = self.rows(kind, share, known & (self.table[first] != self.table[second]).to_numpy())
        one, other = (list(self.table[name].to_numpy()[rows]) for name in (first, second))
        self.write(first, rows, other)
        self.write(second, rows, one)

    def write(self, column: str, rows: np.ndarray, cells: list[object]) -> None:
        """Puts `cells` into the rows of a column."""
        values = self.table[column].to_numpy(dtype=object, copy=True)
        values[rows] = np.fromiter(cells, dtype=object, count=len(cells))
        self.table[column] = pd.Series(values, dtype=object)

    def deliver_older_state(self, rows: np.ndarray, older: dict[str, Any]) -> None:
        """Adds, before each of the rows, the state the system had exported earlier (constant or per-row cells)."""
        self._append(self.table.iloc[rows].assign(**older), self._place[rows] - 0.5)

    def duplicate(self, share: float) -> None:
        """Adds exact copies of clean rows a little further down."""
        rows = self.rows("exact_duplicate", share)
        self._append(self.table.iloc[rows], self._place[rows] + self.rng.uniform(0.1, 60, len(rows)))

    def _append(self, extra: pd.DataFrame, places: np.ndarray) -> None:
        self.table = pd.concat([self.table, extra], ignore_index=True)
        self._place = np.concatenate([self._place, places])
        self._is_clean = np.concatenate([self._is_clean, np.zeros(len(extra), dtype=bool)])

    def spell_missing(self, columns: list[str], share: float) -> None:
        """Writes N/A, - or null into part of the empty cells; the same word in copies of a row."""
        for number, column in enumerate(columns):
            bucket = (np.floor(self._place) * 7919 + number * 104_729).astype("int64") % 1000
            empty = ~self.is_filled(column) & (bucket < share * 1000)
            words = np.array(MISSING_TEXTS, dtype=object)[bucket % len(MISSING_TEXTS)]
            self.table[column] = np.where(empty, words, self.table[column])

    def done(self) -> pd.DataFrame:
        """The dirty table in the order of delivery."""
        for word in MISSING_TEXTS:
            self.counts[f"missing_as_{word}"] = int((self.table == word).to_numpy().sum())
        return self.table.iloc[np.argsort(self._place, kind="stable")].reset_index(drop=True)
