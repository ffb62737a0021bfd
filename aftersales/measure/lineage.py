"""Where a column comes from and what it is used for, read off the definitions: sources' YAML and metric files.

Nothing here is typed by hand: a column that a metric's expression names, that its clock is, or that its exposure is
computed from, is used by that metric.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping

import pandas as pd

from aftersales.collect.mapping import Source
from aftersales.lake.store import Snapshot
from aftersales.measure.definitions import Metric
from aftersales.measure.dimensions import PRODUCT_SIDE, UNIT_SIDE
from aftersales.measure.exposure import SERVICE_COLUMNS
from aftersales.model.errors import AccessError
from aftersales.model.tables import BOOKKEEPING, SITE_PREFIX, Table, canonical_tables

BUILT = {"build_quarter": "built_at", "build_month": "built_at"}
USES = ("counts", "clock", "exposure", "split")
"""How a metric uses a column: in its conditions and values, as its clock, for its base, as a dimension."""


def fed_columns(sources: Mapping[str, Source]) -> pd.DataFrame:
    """One row per source and canonical column it fills: table, column, source, raw (the source's own names for it).

    `raw` is `= value` for a constant; a key that is built from other columns is listed with them.
    """
    found = [row for name, source in sources.items() for row in _fed(name, source)]
    return pd.DataFrame(found, columns=["table", "column", "source", "raw"], dtype="object")


def _fed(name: str, source: Source) -> Iterator[tuple[str, str, str, str]]:
    for table, mapping in source.tables.items():
        for column, spec in mapping.columns.items():
            raw = " + ".join(spec.sources) if spec.join is not None else " / ".join(spec.sources)
            split = f" ({mapping.split.column})" if mapping.split and "@part" in raw else ""
            yield table, column, name, f"{raw}{split}" if spec.sources else f"= {spec.value}"
        key = canonical_tables()[table].key
        if key not in mapping.columns:
            yield table, key, name, " + ".join(canonical_tables()[table].key_from)


def used_columns(dictionary: Mapping[str, Metric]) -> pd.DataFrame:
    """One row per metric, column and kind of use: table, column, metric, use (one of `USES`)."""
    found = [(table, column, name, use) for name, one in dictionary.items() for table, column, use in _used(one)]
    rows = pd.DataFrame(found, columns=["table", "column", "metric", "use"], dtype="object")
    return rows.drop_duplicates(ignore_index=True)


def _used(metric: Metric) -> Iterator[tuple[str, str, str]]:
    table = metric.numerator.table
    spec = canonical_tables()[table]
    yield table, metric.clock, "clock"
    for text in (metric.numerator.where, metric.numerator.value, metric.denominator.where):
        for column in _named(text, spec):
            yield table, column, "counts"
    if metric.denominator.exposure:
        yield table, "unit_id", "exposure"
        for column in SERVICE_COLUMNS:
            yield "unit", column, "exposure"
    for dimension in metric.dimensions:
        yield from _split(dimension, table, spec, is_rate=metric.denominator.exposure is not None)


def _named(text: str, spec: Table) -> Iterator[str]:
    """Columns an expression reads; a repeat is looked for by unit, clock and what has to be the same."""
    for node in ast.walk(ast.parse(text.strip(), mode="eval")) if text else ():
        if isinstance(node, ast.Name) and (node.id in spec.columns or node.id.startswith(SITE_PREFIX)):
            yield node.id
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "has_repeat_within":
            same = [
                word.value.value
                for word in node.keywords
                if word.arg == "same" and isinstance(word.value, ast.Constant)
            ]
            yield from ("unit_id", spec.clock, *(str(name) for name in same or ["fault_code"]))


def _split(name: str, table: str, spec: Table, *, is_rate: bool) -> Iterator[tuple[str, str, str]]:
    """The column a dimension is read from: the row's own, its unit's or its product's; labels stand in `tag`."""
    if name in spec.columns and not is_rate:
        yield table, name, "split"
    elif name in UNIT_SIDE:
        yield "unit", BUILT.get(name, name), "split"
    elif name in PRODUCT_SIDE:
        yield "product", name, "split"
    else:
        yield "tag", "tag", "split"


def filled_columns(snapshot: Snapshot) -> pd.DataFrame:
    """One row per column of every table with rows: table, column, rows, filled (rows that have a value).

    Sealed texts are not opened for it: `filled` of free text is missing. A table the viewer may not see has `rows`
    missing and one row, without a column.
    """
    parts = [part for name in canonical_tables() if snapshot.has_rows(name) for part in _filled(snapshot, name)]
    return pd.DataFrame(parts, columns=["table", "column", "rows", "filled"])


def _filled(snapshot: Snapshot, name: str) -> Iterator[tuple[str, str, int | None, int | None]]:
    try:
        rows = snapshot.table(name)
    except AccessError:
        yield name, "", None, None
        return
    spec = canonical_tables()[name]
    known = [column for column in rows.columns if column not in BOOKKEEPING or column in spec.columns]
    counted = [
        column for column in known if column not in spec.columns or spec.columns[column].type not in ("text", "str")
    ]
    sums = {f"c{place}": rows[column].notnull().sum() for place, column in enumerate(counted)}
    counts = snapshot.connection.execute(rows.aggregate(n=rows.count(), **sums)).iloc[0]
    filled = {column: int(counts[f"c{place}"] or 0) if not pd.isna(counts[f"c{place}"]) else 0
              for place, column in enumerate(counted)}  # fmt: skip
    for column in known:
        yield name, column, int(counts["n"]), filled.get(column)
