"""What a snapshot was already asked: facts that cannot change while it is pinned, computed once.

A page asks for dozens of metrics on one snapshot. Median delays, tag sets, coverage and the tables themselves are
the same for all of them.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Hashable
from typing import Any, TypeVar, cast

import ibis.expr.types as ir

from aftersales.lake.store import Snapshot

T = TypeVar("T")

_MEMORY: dict[int, dict[Hashable, Any]] = {}


def once(snapshot: Snapshot, name: Hashable, make: Callable[[], T]) -> T:
    """The result of `make`, computed at the first call for this snapshot and gone with it."""
    if id(snapshot) not in _MEMORY:
        _MEMORY[id(snapshot)] = {}
        weakref.finalize(snapshot, _MEMORY.pop, id(snapshot), None)
    known = _MEMORY[id(snapshot)]
    if name not in known:
        known[name] = make()
    return cast(T, known[name])


def table_of(snapshot: Snapshot, name: str) -> ir.Table:
    """`snapshot.table(name)`, asked for once: each call costs the engine two look-ups."""
    return once(snapshot, ("table", name), lambda: snapshot.table(name))
