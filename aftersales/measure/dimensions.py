"""Dimensions: where each one lives, and how a row of any table reaches it.

A dimension is a column of the table itself, of its unit, of its product, or a tag set (`component`), whose labels
may be several per row. For a rate both sides must use the same one, so there only unit and product count.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from aftersales.lake.access import Access
from aftersales.lake.store import Snapshot
from aftersales.measure.memory import once, table_of
from aftersales.model.errors import MetricError, known_names
from aftersales.model.tables import SITE_PREFIX, canonical_table, canonical_tables

UNIT_SIDE = ("batch", "supplier", "fw_version", "sw_version", "line", "process_step", "region", "country",
             "channel_sold", "status", "build_quarter", "build_month")  # fmt: skip
PRODUCT_SIDE = ("model", "family", "category", "brand", "generation")
COMPARED = (
    "batch",
    "supplier",
    "region",
    "country",
    "fw_version",
    "sw_version",
    "channel_sold",
    "line",
    "process_step",
)
"""Unit columns a drill-down looks at; a build month or quarter is told by the batch."""
PARENTS: Mapping[str, tuple[str, ...]] = {
    "model": ("family", "brand", "category"), "region": ("country",), "build_month": ("build_quarter",),
}  # fmt: skip
"""Coarser dimensions that contain a finer one: never crossed with it."""

MISSING = "(unknown)"
"""How a missing value of a dimension reads; in a filter it asks for the rows that have none."""

TITLES: Mapping[str, tuple[str, str]] = {
    "build_quarter": ("Build quarter", "生产季度"), "build_month": ("Build month", "生产月份"),
    "component": ("Component", "部件"), "component_group": ("Component group", "部件大类"),
}  # fmt: skip

Filters = Mapping[str, Sequence[str]]
"""Dimension -> values; a row has to have one of them, in every dimension."""


@dataclass(frozen=True)
class Dimension:
    """One dimension as seen from one table."""

    name: str
    home: str
    """`own`, `unit`, `product` or `tag`."""

    @property
    def is_multiple(self) -> bool:
        """Whether a row can have several values: parts then add up to more than the whole."""
        return self.home == "tag"


def dimension_title(name: str, lang: str = "en") -> str:
    """The name of a dimension on screen.

    Examples
    --------
    >>> dimension_title("batch"), dimension_title("batch", "zh"), dimension_title("x_engine_type")
    ('Batch', '批次', 'Engine type')
    """
    if name in TITLES:
        return TITLES[name][lang == "zh"]
    first = ("unit", "product", "ticket", "repair", "complaint", "survey", "ticket_event", "order")
    for table in dict.fromkeys([*first, *canonical_tables()]):
        columns = canonical_table(table).columns
        if name in columns:
            return columns[name].zh if lang == "zh" else columns[name].en
    return name.removeprefix(SITE_PREFIX).replace("_", " ").capitalize()


def find_dimension(snapshot: Snapshot, table: str, name: str, *, conformed: bool = False) -> Dimension:
    """Where `name` lives for rows of `table`: in the row itself, its unit, its product or its labels.

    Parameters
    ----------
    conformed
        Only unit and product: for rates, whose base has no other dimension.

    Raises
    ------
    MetricError
        Rows of that table do not reach it.
    AccessError
        The viewer sees it masked, or not at all.
    """
    found = _found_dimension(snapshot, table, name, conformed=conformed)
    if snapshot.access is not None:
        _check_seen(snapshot, snapshot.access, table, found)
    return found


def _check_seen(snapshot: Snapshot, access: Access, table: str, dimension: Dimension) -> None:
    """Refuse a dimension of which the viewer sees a mask, or that is reached through one."""
    name, own = dimension.name, canonical_table(table).columns
    column = "built_at" if name in ("build_quarter", "build_month") else name
    if dimension.home == "own":
        access.check_columns(table, [column])
    elif dimension.home == "tag":
        access.check_columns(table, [], joins=[canonical_table(table).key])
        access.check_columns("tag", ["source_table", "tag_set", "tag", "tag_group"], joins=["source_id"])
    elif dimension.home == "unit":
        access.check_join(table, "unit", "unit_id")
        access.check_columns("unit", [column])
    else:
        by_unit = table != "unit" and "unit_id" in own and snapshot.has_rows("unit")
        if by_unit:
            access.check_join(table, "unit", "unit_id")
        for linked in [*(["unit"] if by_unit else []), *([table] if "product_id" in own else [])]:
            access.check_join(linked, "product", "product_id")
        access.check_columns("product", [column])


def _found_dimension(snapshot: Snapshot, table: str, name: str, *, conformed: bool) -> Dimension:
    has = canonical_table(table).columns
    by_unit = table == "unit" or ("unit_id" in has and (conformed or snapshot.has_rows("unit")))
    by_product = by_unit or "product_id" in has
    if not conformed and _is_own(snapshot, table, name):
        return Dimension(name, "own")
    if by_unit and _is_unit_dimension(snapshot, name):
        return Dimension(name, "own" if table == "unit" else "unit")
    if by_product and name in PRODUCT_SIDE:
        return Dimension(name, "product")
    if not conformed and _tag_set(snapshot, table, name):
        return Dimension(name, "tag")
    sides = [*(UNIT_SIDE if by_unit else ()), *(PRODUCT_SIDE if by_product else ())]
    known = sides if conformed else [*has, *sides, *tag_sets(snapshot, table)]
    side = "the units in service" if conformed else f"rows of {table}"
    raise MetricError(f"dimension {name}", f"{side} do not have it", rows=known_names(set(known), 60),
                      fix="ask for one of them, or fill it in the source's mapping")  # fmt: skip


def _is_own(snapshot: Snapshot, table: str, name: str) -> bool:
    return name in table_of(snapshot, table).columns and name != "product_id"


def _is_unit_dimension(snapshot: Snapshot, name: str) -> bool:
    return name in UNIT_SIDE or (name.startswith(SITE_PREFIX) and name in table_of(snapshot, "unit").columns)


def tag_sets(snapshot: Snapshot, table: str) -> list[str]:
    """Names of the multi-label columns rows of `table` have."""
    if not snapshot.has_rows("tag"):
        return []

    def read() -> Mapping[str, list[str]]:
        found = table_of(snapshot, "tag").select("source_table", "tag_set").distinct().execute().dropna()
        return {str(name): sorted(rows["tag_set"]) for name, rows in found.groupby("source_table")}

    return once(snapshot, "tag sets", read).get(table, [])


def _tag_set(snapshot: Snapshot, table: str, name: str) -> str:
    """The tag set `name` is, or the one whose groups it is; empty when it is none."""
    known = tag_sets(snapshot, table)
    return next((stem for stem in (name, name.removesuffix("_group")) if stem in known), "")


def with_dimensions(
    snapshot: Snapshot, table: str, rows: ir.Table, names: Iterable[str], *, conformed: bool = False
) -> ir.Table:
    """`rows` of `table` with the columns `names`; one row per label where a dimension has several."""
    dimensions = [find_dimension(snapshot, table, name, conformed=conformed) for name in dict.fromkeys(names)]
    unit_side = [d.name for d in dimensions if d.home == "unit"]
    product_side = [d.name for d in dimensions if d.home == "product"]
    by_unit = "unit_id" in rows.columns and table != "unit" and snapshot.may_read("unit")
    if unit_side or (product_side and by_unit):
        rows = _join_unit(snapshot, rows, unit_side, needs_product=bool(product_side))
    if table == "unit":
        rows = rows.mutate(**_built(rows, [d.name for d in dimensions]))
    if product_side:
        rows = _join_product(snapshot, rows, product_side)
    for dimension in dimensions:
        if dimension.home == "tag":
            rows = _join_tag(snapshot, table, rows, dimension.name)
    return rows


def matching(
    snapshot: Snapshot, table: str, rows: ir.Table, where: Filters, *, by: Iterable[str] = (), conformed: bool = False
) -> ir.Table:
    """`rows` of `table` with the dimensions `by`, only those that match `where`.

    A filter on labels keeps the rows that have one of them, each once; when the rows are also split by these labels,
    only the labels asked for are kept.
    """
    by = tuple(dict.fromkeys(by))
    homes = {name: find_dimension(snapshot, table, name, conformed=conformed) for name in where}
    for name, values in where.items():
        if homes[name].is_multiple and name not in by:
            rows = _having_label(snapshot, table, rows, name, values)
    plain = [name for name in where if not homes[name].is_multiple or name in by]
    rows = with_dimensions(snapshot, table, rows, [*by, *plain], conformed=conformed)
    return rows.filter([is_one_of(rows[name], where[name]) for name in plain]) if plain else rows


def is_one_of(column: ir.Value, values: Sequence[str]) -> ir.BooleanValue:
    """Whether the value is one of `values`; `(unknown)` among them also takes rows that have none."""
    wanted = [values] if isinstance(values, str) else list(values)
    found = column.isin(wanted).fill_null(False)
    return found | column.isnull() if MISSING in wanted else found


def _built(units: ir.Table, names: Iterable[str]) -> dict[str, ir.Value]:
    """Dimensions that are read off the build date."""
    built = units.built_at
    quarter = built.year().cast("string") + "Q" + built.quarter().cast("string")
    offered = {"build_quarter": quarter, "build_month": built.strftime("%Y-%m")}
    return {name: offered[name] for name in names if name in offered}


def _join_unit(snapshot: Snapshot, rows: ir.Table, names: list[str], *, needs_product: bool) -> ir.Table:
    units = table_of(snapshot, "unit")
    units = units.mutate(**_built(units, names))
    wanted = {name: units[name] for name in names}
    if needs_product:
        wanted["_unit_product"] = units.product_id
    side = units.select(_unit=units.unit_id, **wanted)
    joined = rows.drop(*[name for name in names if name in rows.columns]).left_join(side, rows.unit_id == side._unit)
    joined = joined.drop("_unit")
    if not needs_product:
        return joined
    own = joined.product_id if "product_id" in joined.columns else ibis.null("string")
    return joined.mutate(product_id=ibis.coalesce(joined._unit_product, own)).drop("_unit_product")


def _join_product(snapshot: Snapshot, rows: ir.Table, names: list[str]) -> ir.Table:
    products = table_of(snapshot, "product")
    side = products.select(_product=products.product_id, **{name: products[name] for name in names})
    rows = rows.drop(*[name for name in names if name in rows.columns])  # a complaint has a category of its own
    return rows.left_join(side, rows.product_id == side._product).drop("_product")


def _labels(snapshot: Snapshot, table: str, name: str) -> ir.Table:
    """The labels `name` of rows of `table`: `_source` and the label, each pair once."""
    tags = table_of(snapshot, "tag")
    tag_set = _tag_set(snapshot, table, name)
    value = tags.tag if name == tag_set else tags.tag_group
    side = tags.filter((tags.source_table == table) & (tags.tag_set == tag_set))
    return side.select(_source=side.source_id, **{name: value}).distinct()


def _join_tag(snapshot: Snapshot, table: str, rows: ir.Table, name: str) -> ir.Table:
    side = _labels(snapshot, table, name)
    rows = rows.drop(name) if name in rows.columns else rows
    return rows.left_join(side, rows[canonical_table(table).key] == side._source).drop("_source")


def _having_label(snapshot: Snapshot, table: str, rows: ir.Table, name: str, values: Sequence[str]) -> ir.Table:
    key = rows[canonical_table(table).key]
    labels = _labels(snapshot, table, name)
    wanted = [values] if isinstance(values, str) else list(values)
    found = key.isin(labels.filter(labels[name].isin(wanted))._source)
    if MISSING in wanted:  # rows without any label
        found = found | ~key.isin(labels.filter(labels[name].notnull())._source)
    return rows.filter(found)


def filled_unit_dimensions(snapshot: Snapshot, most: int = 2000) -> list[str]:
    """Dimensions of the units with two to `most` values, site columns too: those worth comparing by."""
    if not snapshot.has_rows("unit"):
        return []
    units = snapshot.table("unit")
    columns = [name for name in units.columns if name in COMPARED or name.startswith(SITE_PREFIX)]
    if (access := snapshot.access) is not None:
        columns = [name for name in columns if access.treatment("unit", name).groups]
    counted = units.aggregate(**{name: units[name].nunique() for name in columns}).execute().iloc[0]
    return ["model", *(name for name in columns if 1 < counted[name] <= most)]
