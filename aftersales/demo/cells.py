"""Cells of an export: moments written in a system's own format, codes in its own words."""

from __future__ import annotations

import numpy as np
import pandas as pd

ISO_PLACES = {"%Y": (0, 4), "%m": (5, 7), "%d": (8, 10), "%H": (11, 13), "%M": (14, 16), "%S": (17, 19)}
UTC_OFFSET = np.timedelta64(8 * 3600, "s")  # Asia/Shanghai has no summer time


def written(moments: np.ndarray, layout: str) -> np.ndarray:
    """Moments as texts in a strftime layout (%Y %m %d %H %M %S only); empty for NaT."""
    moments = np.asarray(moments).astype("datetime64[s]")
    if not len(moments):
        return np.array([], dtype=object)
    iso = np.datetime_as_string(np.where(np.isnat(moments), np.datetime64(0, "s"), moments), unit="s")
    letters = iso.astype("U19").view("U1").reshape(-1, 19)
    columns, place = [], 0
    while place < len(layout):
        token = layout[place : place + 2]
        if token in ISO_PLACES:
            first, last = ISO_PLACES[token]
            columns.append(letters[:, first:last])
            place += 2
        else:
            columns.append(np.full((len(letters), 1), layout[place]))
            place += 1
    table = np.ascontiguousarray(np.hstack(columns))
    texts = table.view(f"U{table.shape[1]}").ravel().astype(object)
    texts[np.isnat(moments)] = ""
    return texts


def as_utc(moments: np.ndarray) -> np.ndarray:
    """Local moments (Asia/Shanghai) as UTC."""
    return np.asarray(moments).astype("datetime64[s]") - UTC_OFFSET


def as_cells(moments: np.ndarray) -> np.ndarray:
    """Moments as datetime objects for a spreadsheet; None for NaT."""
    return np.asarray(moments).astype("datetime64[s]").astype(object)


def in_words(codes: pd.Series, words: dict[str, str]) -> np.ndarray:
    """Codes in a system's own words; empty for missing codes."""
    categories = codes.astype("category").cat
    table = np.array([*(words[str(name)] for name in categories.categories), ""], dtype=object)
    return table[categories.codes.to_numpy()]


def latest(*moments: np.ndarray) -> np.ndarray:
    """The latest known moment of each row; NaT counts as unknown."""
    result = moments[0]
    for other in moments[1:]:
        result = np.fmax(result, other)
    return result
