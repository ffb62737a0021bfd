"""Expressions in YAML files: a small Python-like grammar, parsed with `ast`, turned into Ibis, never evaluated.

Allowed: column names, texts, numbers, comparisons, `in [...]`, and / or / not, + - * /, and the functions the caller
offers. Everything else is refused with the place in the text. A comparison with an unknown value is unknown, and a
row of which a condition is unknown does not count. Metric files (`measure.grammar`) and row rules of roles
(`lake.access`) are both written in it.
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

from aftersales.model.errors import AftersalesError, MetricError, known_names

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


def is_known(value: ir.Value) -> ir.BooleanValue:
    """Whether the value is there."""
    return value.notnull()


def syntax_tree(text: str, where: str, error: type[AftersalesError] = MetricError) -> ast.expr:
    """The tree of `text`.

    Raises
    ------
    AftersalesError
        Of the class `error`: the text is no expression; the place is marked.
    """
    try:
        return ast.parse(text, mode="eval").body
    except SyntaxError as problem:
        raise refused(where, text, problem.offset or 1, f"not readable: {problem.msg}", error=error) from problem
    except (ValueError, RecursionError, MemoryError) as problem:  # null bytes; brackets without end
        raise refused(where, text[:80], 1, "not readable", error=error) from problem


def names_in(text: str) -> list[str]:
    """Names of columns an expression uses, each once; none when it cannot be read.

    Examples
    --------
    >>> names_in("visits_n <= 1 and result in ['fixed'] and is_known(result)")
    ['visits_n', 'result']
    """
    try:
        tree = ast.parse(text.strip(), mode="eval") if text.strip() else ast.Module([], [])
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    called = {id(node.func) for node in ast.walk(tree) if isinstance(node, ast.Call)}
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Name) and id(node) not in called]
    found.sort(key=lambda node: (node.lineno, node.col_offset))
    return list(dict.fromkeys(node.id for node in found))


def refused(
    where: str, text: str, offset: int, what: str, fix: str = HELP, *, error: type[AftersalesError] = MetricError
) -> AftersalesError:
    """The error that marks a place in an expression."""
    return error(where, what, rows=f"{text}\n         {' ' * (offset - 1)}^", fix=fix)


class Reader:
    """Turns one syntax tree into an Ibis expression over one table."""

    functions: Mapping[str, Callable[..., ir.Value]] = {"is_known": is_known}
    error: type[AftersalesError] = MetricError

    def __init__(self, text: str, table: ir.Table, where: str) -> None:
        self.text, self.table, self.where = text, table, where

    def fail(self, node: ast.AST, what: str, fix: str = HELP) -> AftersalesError:
        before = self.text.encode()[: getattr(node, "col_offset", 0)]  # ast counts bytes
        offset = len(before.decode(errors="ignore")) + 1
        return refused(self.where, self.text, offset, what, fix, error=self.error)

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
                return self.compared(op, self.read(left), self.read(right))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return _ARITHMETIC[type(op)](self.read(left), self.read(right))
            case ast.List(elts=items) | ast.Tuple(elts=items):
                return [self.read(item) for item in items]
            case ast.Call(func=ast.Name(id=name)):
                return self.call(node, name)
        raise self.fail(node, f"{type(node).__name__} is not allowed here")

    def compared(self, op: ast.cmpop, left: Any, right: Any) -> Any:
        return _COMPARE[type(op)](_lifted(left), right)

    def column(self, node: ast.AST, name: str) -> Any:
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
        if name not in self.functions:
            raise self.fail(node, f"no function '{name}'", known_names(self.known_functions))
        try:
            return self.functions[name](*arguments, **options)
        except WRONG_TYPES as error:
            raise self.fail(node, f"{name} does not take these arguments") from error

    @property
    def known_functions(self) -> list[str]:
        return list(self.functions)


def _lifted(value: Any) -> Any:
    """A number or text as an expression, so that it compares like one."""
    return ibis.literal(value) if isinstance(value, str | int | float) else value
