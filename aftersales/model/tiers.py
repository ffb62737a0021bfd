"""Privacy tiers that a site has raised above those of tables.yml: in workbench.yml, or in the YAML of a source."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from aftersales.model.settings import Workspace

TIERS = ("P0", "P1", "P2", "P3")
ColumnName = tuple[str, str]


def raised_tiers(workspace: Workspace) -> dict[ColumnName, str]:
    """(table, column) -> the highest tier that `privacy.tiers` or a source of the catalogue gives it.

    A tier raised by one source holds for the column, whatever source filled it. Sources are only looked through here;
    what is wrong with them is said where they are read.
    """
    found: dict[ColumnName, str] = {}
    raised = [(*name.split(".", 1), tier) for name, tier in workspace.settings.privacy.tiers.items()]
    for path in sorted(workspace.sources.glob("*.yml")):
        raised += _raised_in(path, path.stat().st_mtime_ns)
    for table, column, tier in raised:
        found[table, column] = max(found.get((table, column), "P0"), tier)
    return found


@functools.lru_cache(maxsize=500)
def _raised_in(path: Path, changed_ns: int) -> list[tuple[str, str, str]]:
    text = path.read_text(encoding="utf-8", errors="replace")
    if "tier" not in text:  # most sources raise none
        return []
    try:
        content = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except yaml.YAMLError:
        return []
    return list(_entries(content))


def _entries(content: Any) -> Iterator[tuple[str, str, str]]:
    for table, mapping in _mapping(_mapping(content).get("tables")).items():
        for column, spec in _mapping(_mapping(mapping).get("columns")).items():
            tier = _mapping(spec).get("tier")
            if tier in TIERS:
                yield str(table), str(column), str(tier)


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, dict) else {}
