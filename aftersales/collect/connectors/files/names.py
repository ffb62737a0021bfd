"""Names of raw columns: as the header says, made unique the way DuckDB compares them."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

from aftersales.collect.mapping import BLANKS

SURPLUS = 8
"""Surplus fields of a ragged line that are kept, in `_surplus_1`..."""

RESERVED = (
    "_row", "_bad", "_line", "_label", "_offered", "_sheet", *(f"_surplus_{i}" for i in range(1, SURPLUS + 1))
)  # fmt: skip


def unique_names(header: Iterable[Any]) -> list[str]:
    """Header names without blanks around them; a repeated one gets `#2`, an empty one its position.

    Examples
    --------
    >>> unique_names(["a", "category ", "", "category", "A"])
    ['a', 'category', 'column_3', 'category#2', 'A#2']
    """
    taken = set(RESERVED)
    names = []
    for position, cell in enumerate(header, start=1):
        name = plain_name(cell) or f"column_{position}"
        candidates = itertools.chain([name], (f"{name}#{n}" for n in itertools.count(2)))
        names.append(next(candidate for candidate in candidates if _ascii_lower(candidate) not in taken))
        taken.add(_ascii_lower(names[-1]))
    return names


def plain_name(cell: Any) -> str:
    """A cell of the header as a name, perhaps empty."""
    return str("" if cell is None else cell).replace("\0", "").strip(BLANKS)


def _ascii_lower(name: str) -> str:
    """`name` as DuckDB compares identifiers."""
    return "".join(chr(ord(c) + 32) if "A" <= c <= "Z" else c for c in name)
