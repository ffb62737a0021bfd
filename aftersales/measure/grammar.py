"""Expressions in metric files: a small Python-like grammar, parsed with `ast`, turned into Ibis, never evaluated.

Allowed: column names, texts, numbers, comparisons, `in [...]`, and / or / not, + - * /, and the functions of
`FUNCTIONS`. Everything else is refused with the place in the text. A comparison with an unknown value is unknown,
and a row of which a condition is unknown does not count.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import ibis
import ibis.expr.types as ir
from ibis.common.annotations import ValidationError
from ibis.common.exceptions import IbisError

from aftersales.model.errors import MetricError, known_names
from aftersales.model.tables import Table

HELP = "see the grammar in CONTRIBUTING.md"
WRONG_TYPES = (TypeError, AttributeError, ValueError, IbisError, ValidationError)


def _divided(a: Any, b: Any) -> Any:
    """`a / b`, unknown where `b` is zero."""
    return a / (ibis.literal(b) if isinstance(b, int | float) else b).nullif(0)


_COMPARE: Mapping[type[ast.cmpop], Callable[[Any, Any], Any]] = {
    ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt,
    ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
    ast.In: lambda a, b: a.isin(b), ast.NotIn: lambda a, b: ~a.isin(b),
}  # fmt: skip
_ARITHMETIC: Mapping[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: _divided,
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
    try:
        tree = ast.parse(text, mode="eval")
    except SyntaxError as error:
        raise _refused(where, text, error.offset or 1, f"not readable: {error.msg}") from error
    except (ValueError, RecursionError, MemoryError) as error:  # null bytes; brackets without end
        raise _refused(where, text[:80], 1, "not readable") from error
    found = _Reader(text, table, spec, clock, where).read(tree.body)
    return found if isinstance(found, ir.Value) else ibis.literal(found)


def _refused(where: str, text: str, offset: int, what: str, fix: str = HELP) -> MetricError:
    return MetricError(where, what, rows=f"{text}\n         {' ' * (offset - 1)}^", fix=fix)


class _Reader:
    def __init__(self, text: str, table: ir.Table, spec: Table, clock: str, where: str) -> None:
        self.text, self.table, self.spec, self.clock, self.where = text, table, spec, clock, where

    def fail(self, node: ast.AST, what: str, fix: str = HELP) -> MetricError:
        before = self.text.encode()[: getattr(node, "col_offset", 0)]  # ast counts bytes
        return _refused(self.where, self.text, len(before.decode(errors="ignore")) + 1, what, fix)

    def read(self, node: ast.AST) -> Any:
        try:
            return self.value(node)
        except WRONG_TYPES as error:
            raise self.fail(node, "these values do not go together") from error

    def value(self, node: ast.AST) -> Any:
        match node:
            case ast.Constant(value=value) if isinstance(value, str | int | float):
                return value
            case ast.Name(id=name):
                return self.column(node, name)
            case ast.BoolOp(op=op, values=values):
                both = operator.and_ if isinstance(op, ast.And) else operator.or_
                return reduce(both, [self.condition(value) for value in values])
            case ast.UnaryOp(op=ast.Not(), operand=operand):
                return ~self.condition(operand)
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return -self.read(operand)
            case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
                return _COMPARE[type(op)](_lifted(self.read(left)), self.read(right))
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

    def condition(self, node: ast.expr) -> ir.BooleanValue:
        found = _lifted(self.read(node))
        if not isinstance(found, ir.BooleanValue):
            raise self.fail(node, "this is no condition")
        return found

    def call(self, node: ast.Call, name: str) -> ir.Value:
        arguments = [self.read(argument) for argument in node.args]
        options = {keyword.arg or "**": self.read(keyword.value) for keyword in node.keywords}
        if name == "has_repeat_within":
            return self.repeat(node, arguments, options)
        if name not in FUNCTIONS:
            raise self.fail(node, f"no function '{name}'", known_names([*FUNCTIONS, "has_repeat_within"]))
        try:
            return FUNCTIONS[name](*arguments, **options)
        except WRONG_TYPES as error:
            raise self.fail(node, f"{name} does not take these arguments") from error

    def repeat(self, node: ast.Call, arguments: list[Any], options: Mapping[str, Any]) -> ir.Value:
        days, same = options.get("days"), options.get("same", "fault_code")
        is_days = isinstance(days, int) and not isinstance(days, bool)
        if not is_days or not isinstance(same, str) or arguments or set(options) - {"days", "same"}:
            raise self.fail(node, "has_repeat_within takes days=<whole number> and same='<column>'")
        for name in ("unit_id", same):
            self.column(node, name)
        return has_repeat_within(self.table, self.spec, self.clock, int(options["days"]), same)


def _lifted(value: Any) -> Any:
    """A number or text as an expression, so that it compares like one."""
    return ibis.literal(value) if isinstance(value, str | int | float) else value
