"""Connectors: one module per kind of channel, found by its name."""

from __future__ import annotations

import importlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, cast

if TYPE_CHECKING:
    from aftersales.collect.landing import Cursor, Fetched, Landing
    from aftersales.collect.mapping import Source
    from aftersales.model.settings import Workspace

SAMPLE_ROWS = 3


@dataclass(frozen=True)
class Probed:
    """What a look at a channel showed; nothing was loaded."""

    reached: str
    """What was reached, in words, without secrets."""
    columns: tuple[str, ...] = ()
    sample: tuple[dict[str, Any], ...] = field(default=(), repr=False)
    """At most `SAMPLE_ROWS` rows as they came. They may hold personal data: count them, do not print them."""


class Connector(Protocol):
    """What every module for a remote channel offers."""

    def fetch(self, source: Source, workspace: Workspace, since: Cursor | None, landing: Landing) -> Fetched:
        """Land everything since `since` (None: from the beginning); returns files, newest cursor and rows."""

    def probe(self, source: Source, workspace: Workspace) -> Probed:
        """Connect, log in and look at one page, row or message."""


MODULES = {name: f"{__name__}.{name}" for name in ("sql", "rest", "mail")}


def connector(name: str) -> Connector:
    """The module that fetches channels of this kind; its libraries are imported only now."""
    return cast(Connector, importlib.import_module(MODULES[name]))
