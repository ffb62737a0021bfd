"""The header of a file: on the first line, on a line that is told, or on the line that has the mapped names."""

from __future__ import annotations

import csv
import io
import itertools
from collections.abc import Sequence
from typing import IO, Any

from aftersales.collect.connectors.files.names import plain_name
from aftersales.collect.mapping import FIND, Source
from aftersales.model.errors import SourceError

SEARCHED = 50
"""Lines in which `header_row: find` looks."""


def header_place(source: Source, rows: Sequence[Sequence[Any]]) -> int:
    """The place (0, 1, ...) of the header among the first rows of a file or sheet.

    `find` takes the row with most of the mapped names; where none has any, the first that is not blank.
    """
    if isinstance(source.header_row, int):
        return source.header_row - 1
    filled = [place for place, row in enumerate(rows) if any(plain_name(cell) for cell in row)]
    if source.header_row == FIND and filled:
        wanted = source.raw_columns
        return max(filled, key=lambda place: (len(wanted & {plain_name(cell) for cell in rows[place]}), -place))
    return filled[0] if filled else 0


def no_header(name: str, source: Source) -> SourceError:
    """The error of a file that ends before its header."""
    return SourceError(
        name,
        f"has no line {source.header_row} for the header",
        rows="none of its rows was loaded",
        fix="mend 'header_row' in the source's YAML",
    )


def delimited_header(opened: IO[bytes], source: Source, delimiter: str, name: str) -> tuple[list[str], int]:
    """Cells of the header of a text file, and how many lines stand before it; no cells where the file has none."""
    lines = io.TextIOWrapper(opened, encoding="utf-8-sig", newline="")
    if source.header_row is None:
        for blank_lines, cells in enumerate(csv.reader(lines, delimiter=delimiter)):
            if cells:
                return cells, blank_lines
        return [], 0
    first = list(itertools.islice(lines, SEARCHED if source.header_row == FIND else source.header_row))
    place = header_place(source, [next(csv.reader([line], delimiter=delimiter), []) for line in first])
    if place >= len(first):
        raise no_header(name, source)
    return next(csv.reader(itertools.chain(first[place:], lines), delimiter=delimiter), []), place
