"""Expressions in metric files: a small Python-like grammar, parsed with `ast`, turned into Ibis, never evaluated.

Allowed: column names, texts, numbers, comparisons, `in [...]`, and / or / not, + - * /, and the functions of
`FUNCTIONS`. Everything else is refused with the place in the text.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from typing import Any

import ibis
import ibis.expr.types as ir

from aftersales.model.errors import MetricError, known_names

_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt,
    ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: lambda a, b: a / ibis.literal(b).nullif(0) if isinstance(b, int | float) else a / b.nullif(0),
}  # fmt: skip


def hours_between(start: ir.TimestampValue, stop: ir.TimestampValue) -> ir.FloatingValue:
    """Hours from `start` to `stop`; negative spans are null, they are a data fault."""
    seconds = stop.epoch_seconds().cast("float64") - start.epoch_seconds().cast("float64")
    return ibis.ifelse(seconds >= 0, seconds / 3600, ibis.null("float64"))


def is_known(value: ir.Value) -> ir.BooleanValue:
    """Whether the value is there."""
    return value.notnull()


FUNCTIONS: Mapping[str, Callable[..., ir.Value]] = {"hours_between": hours_between, "is_known": is_known}
"""Functions of columns. `has_repeat_within` needs the whole table and is bound in `parse`."""


def has_repeat_within(table: ir.Table, clock: str, days: int, same: str) -> ir.BooleanValue:
    """Whether the same unit comes back with the same `same` within `days` after this row."""
    window = ibis.window(group_by=[table.unit_id, table[same]], order_by=[table[clock]])
    later = table[clock].lead(1).over(window)
    seconds = later.epoch_seconds() - table[clock].epoch_seconds()
    known = table.unit_id.notnull() & table[same].notnull()
    return (known & later.notnull() & (seconds <= days * 86_400)).fill_null(False)


def parse(text: str, table: ir.Table, *, clock: str, where: str) -> ir.Value:
    """The Ibis expression of `text` over `table`.

    Parameters
    ----------
    clock
        The time column of the table, for functions that need an order.
    where
        What to name in messages: the metric and its key.

    Raises
    ------
    MetricError
        Something that is not allowed, or a column or function that does not exist.

    Examples
    --------
    >>> t = ibis.table({"result": "string", "visits_n": "int64"}, name="repair")
    >>> str(parse("visits_n <= 1 and result in ['fixed']", t, clock="", where="x").type())
    'boolean'
    """
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise _refused(where, text, error.offset or 1, f"not readable: {error.msg}") from error
    return _Reader(text, table, clock, where).read(tree.body)


def _refused(where: str, text: str, offset: int, what: str, fix: str = "see the grammar in CONTRIBUTING.md") -> MetricError:
    return MetricError(where, what, rows=f"{text}\n         {' ' * (offset - 1)}^", fix=fix)


class _Reader:
    def __init__(self, text: str, table: ir.Table, clock: str, where: str) -> None:
        self.text, self.table, self.clock, self.where = text, table, clock, where

    def fail(self, node: ast.AST, what: str, fix: str = "see the grammar in CONTRIBUTING.md") -> MetricError:
        return _refused(self.where, self.text, getattr(node, "col_offset", 0) + 1, what, fix)

    def read(self, node: ast.AST) -> Any:
        match node:
            case ast.Constant(value=value) if isinstance(value, str | int | float | bool):
                return value
            case ast.Name(id=name):
                return self.column(node, name)
            case ast.BoolOp(op=op, values=values):
                parts = [self.read(value) for value in values]
                return _all(parts) if isinstance(op, ast.And) else _any(parts)
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self.read(operand)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.read(operand)
            case ast.Compare(left=left, ops=[op], comparators=[right]):
                return self.comparison(node, left, op, right)
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return _ARITHMETIC[type(op)](self.read(left), self.read(right))
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self.read(item) for item in items]
            case ast.Call(func=ast.Name(id=name)):
                return self.call(node, name)
        raise self.fail(node, f"{type(node).__name__} is not allowed here")

    def column(self, node: ast.AST, name: str) -> ir.Value:
        if name not in self.table.columns:
            raise self.fail(node, f"no column '{name}'", known_names(self.table.columns, 30))
        return self.table[name]

    def comparison(self, node: ast.AST, left: ast.expr, op: ast.cmpop, right: ast.expr) -> ir.Value:
        if isinstance(op, ast.In):
            return self.read(left).isin(self.read(right))
        if isinstance(op, ast.NotIn):
            return ~self.read(left).isin(self.read(right))
        if type(op) not in _COMPARE:
            raise self.fail(node, f"{type(op).__name__} is not allowed here")
        return _COMPARE[type(op)](self.read(left), self.read(right))

    def call(self, node: ast.Call, name: str) -> ir.Value:
        arguments = [self.read(argument) for argument in node.args]
        options = {keyword.arg: self.read(keyword.value) for keyword in node.keywords if keyword.arg}
        if name == "has_repeat_within":
            days, same = options.get("days"), options.get("same", "fault_code")
            if not isinstance(days, int) or not isinstance(same, str) or arguments or set(options) - {"days", "same"}:
                raise self.fail(node, "has_repeat_within takes days=<whole number> and same='<column>'")
            return has_repeat_within(self.table, self.clock, days, same)
        if name not in FUNCTIONS:
            raise self.fail(node, f"no function '{name}'", known_names([*FUNCTIONS, "has_repeat_within"]))
        try:
            return FUNCTIONS[name](*arguments, **options)
        except (TypeError, AttributeError) as error:
            raise self.fail(node, f"{name} does not take these arguments") from error


def _all(parts: list[Any]) -> Any:
    result = parts[0]
    for part in parts[1:]:
        result = result & part
    return result


def _any(parts: list[Any]) -> Any:
    result = parts[0]
    for part in parts[1:]:
        result = result | part
    return result
