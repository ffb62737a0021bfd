"""Expressions in metric files: the grammar of `lake.expressions` with the functions a metric needs.

`hours_between`, `is_known`, and `has_repeat_within`, which looks at the whole table and is bound in `parse`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Mapping
from typing import Any

import ibis
import ibis.expr.types as ir

from aftersales.lake.expressions import HELP, Reader, is_known, syntax_tree
from aftersales.model.tables import Table

__all__ = ["FUNCTIONS", "HELP", "has_repeat_within", "hours_between", "parse"]


def hours_between(start: ir.TimestampValue, stop: ir.TimestampValue) -> ir.FloatingValue:
    """Hours from `start` to `stop`; negative spans are null, they are a data fault."""
    seconds = stop.epoch_seconds().cast("float64") - start.epoch_seconds().cast("float64")
    return ibis.ifelse(seconds >= 0, seconds / 3600, ibis.null("float64"))


FUNCTIONS: Mapping[str, Callable[..., ir.Value]] = {"hours_between": hours_between, "is_known": is_known}
"""Functions of columns. `has_repeat_within` needs the whole table and is bound in `parse`."""


def has_repeat_within(table: ir.Table, spec: Table, clock: str, days: int, same: str) -> ir.BooleanValue:
    """Whether the same unit comes back with the same `same` within `days` after this row's `clock`.

    It comes back when the next row is opened (the table's own clock, for repairs `reported_at`), not when that one is
    done: an open repeat counts, and a slow one is not late. Rows opened at the same instant follow each other by key.
    """
    order = [table[spec.clock], table[spec.key]]
    window = ibis.window(group_by=[table.unit_id, table[same]], order_by=order)
    later = table[spec.clock].lead(1).over(window)
    seconds = later.epoch_seconds() - table[clock].epoch_seconds()
    known = table.unit_id.notnull() & table[same].notnull()
    return (known & later.notnull() & (seconds <= days * 86_400)).fill_null(False)


def parse(text: str, table: ir.Table, spec: Table, *, clock: str, where: str) -> ir.Value:
    """The Ibis expression of `text` over `table`.

    Parameters
    ----------
    spec
        The canonical table whose rows `table` has.
    clock
        The metric's clock, for functions that look ahead in time.
    where
        What to name in messages: the metric and its key.

    Raises
    ------
    MetricError
        Something that is not allowed, or a column or function that does not exist.

    Examples
    --------
    >>> from aftersales.model.tables import canonical_table
    >>> t = ibis.table({"result": "string", "visits_n": "int64"}, name="repair")
    >>> str(parse("visits_n <= 1 and result in ['fixed']", t, canonical_table("repair"), clock="", where="x").type())
    'boolean'
    """
    text = text.strip()
    found = _MetricReader(text, table, spec, clock, where).read(syntax_tree(text, where))
    return found if isinstance(found, ir.Value) else ibis.literal(found)


class _MetricReader(Reader):
    functions = FUNCTIONS

    def __init__(self, text: str, table: ir.Table, spec: Table, clock: str, where: str) -> None:
        super().__init__(text, table, where)
        self.spec, self.clock = spec, clock

    def call(self, node: ast.Call, name: str) -> ir.Value:
        if name != "has_repeat_within":
            return super().call(node, name)
        arguments = [self.read(argument) for argument in node.args]
        return self.repeat(node, arguments, {option.arg or "**": self.read(option.value) for option in node.keywords})

    @property
    def known_functions(self) -> list[str]:
        return [*self.functions, "has_repeat_within"]

    def repeat(self, node: ast.Call, arguments: list[Any], options: Mapping[str, Any]) -> ir.Value:
        days, same = options.get("days"), options.get("same", "fault_code")
        is_days = isinstance(days, int) and not isinstance(days, bool)
        if not is_days or not isinstance(same, str) or arguments or set(options) - {"days", "same"}:
            raise self.fail(node, "has_repeat_within takes days=<whole number> and same='<column>'")
        for name in ("unit_id", same):
            self.column(node, name)
        return has_repeat_within(self.table, self.spec, self.clock, int(options["days"]), same)
