"""Whether a source can be reached and read as its YAML says, found out without loading anything."""

from __future__ import annotations

import difflib
from dataclasses import asdict, dataclass
from typing import Any, Literal

from aftersales.collect.channels import LANDING_FORMATS
from aftersales.collect.connectors import connector
from aftersales.collect.connectors.files import matching_files
from aftersales.collect.fit import uses
from aftersales.collect.mapping import Source
from aftersales.model.errors import AftersalesError, SourceError, known_names
from aftersales.model.settings import Workspace


@dataclass(frozen=True)
class Reach:
    """What a look at one source showed."""

    source: str
    connector: str
    state: Literal["ok", "problem"]
    said: str
    """In words: what was reached, or the problem in four parts."""
    columns: tuple[str, ...] = ()
    not_seen: tuple[str, ...] = ()
    """Mapped columns that did not come; a web service may leave out keys without a value."""
    sampled: int = 0

    def record(self) -> dict[str, Any]:
        """The look as plain values, for output; no row of the sample is among them."""
        return {**asdict(self), "columns": list(self.columns), "not_seen": list(self.not_seen)}


def reach(workspace: Workspace, source: Source) -> Reach:
    """Connect, log in, look at one page, row or message, and compare the mapped columns with what came.

    Of a source of files it says how many there are; their columns are compared when they are loaded.
    """
    try:
        if source.connector not in LANDING_FORMATS:
            count = len(matching_files(source, workspace.root))
            return Reach(source.name, source.connector, "ok", f"{count:,} {'file' if count == 1 else 'files'} there")
        return _probed(workspace, source)
    except AftersalesError as error:
        return Reach(source.name, source.connector, "problem", str(error))


def _probed(workspace: Workspace, source: Source) -> Reach:
    seen = connector(source.connector).probe(source, workspace)
    mapped = dict.fromkeys(name for mapping in source.tables.values() for name in mapping.raw_columns)
    # an empty list of items says nothing about their keys
    missing = tuple(name for name in mapped if name not in seen.columns) if seen.columns else ()
    every = [use for table, mapping in source.tables.items() for use in uses(table, mapping) if use.is_needed]
    needed = {name for use in every for name in use.lacks(seen.columns)}
    fatal = [name for name in missing if name in needed or source.connector != "rest"]
    said = f"reached {seen.reached}"
    if not seen.columns:
        said += "; nothing there to compare the mapping with"
    elif missing:
        said += f"; not there: {', '.join(missing)}"
    found = Reach(source.name, source.connector, "ok", said, seen.columns, missing, len(seen.sample))
    if fatal:
        raise SourceError(
            f"source {source.name}",
            f"what came lacks {len(fatal)} of {len(mapped)} mapped columns: {_hints(fatal, seen.columns)}",
            rows=known_names(seen.columns, 40),
            fix=f"mend 'from' in {source.name}.yml, or ask for the column; nothing was loaded",
        )
    return found


def _hints(names: list[str], known: tuple[str, ...]) -> str:
    hints = []
    for name in names:
        near = difflib.get_close_matches(name, known, n=1)
        hints.append(f"'{name}'" + (f" (did you mean '{near[0]}'?)" if near else ""))
    return ", ".join(hints)
