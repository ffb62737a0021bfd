"""Privacy tiers that a site has raised above those of tables.yml: in workbench.yml, or in the YAML of a source."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import get_args

import yaml

from aftersales.model.errors import SettingsError
from aftersales.model.policy import Tier
from aftersales.model.settings import Workspace


def raised_tiers(workspace: Workspace) -> dict[str, Tier]:
    """table.column -> the highest tier that `privacy.tiers` or a source of the workspace gives it.

    A tier raised by one source holds for the column, whatever source filled it.

    Raises
    ------
    SettingsError
        A source cannot be read: what it holds to be personal is not known.
    """
    found: dict[str, Tier] = dict(workspace.settings.privacy.tiers)
    for path in sorted(workspace.sources.glob("*.yml")):
        for name, tier in _raised_in(path, path.stat().st_mtime_ns).items():
            found[name] = max(tier, found.get(name, "P0"))
    return found


@functools.lru_cache(maxsize=500)
def _raised_in(path: Path, changed_ns: int) -> dict[str, Tier]:
    """What one source raises; read once for each of its changes."""
    found: dict[str, Tier] = {}
    try:
        text = path.read_text(encoding="utf-8")
        if "tier" not in text:  # most sources raise none
            return found
        content = yaml.load(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) or {}
        for table, mapping in (content.get("tables") or {}).items():
            for column, spec in (mapping.get("columns") or {}).items():
                if isinstance(spec, dict) and spec.get("tier") in get_args(Tier):
                    found[f"{table}.{column}"] = spec["tier"]
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, TypeError) as error:
        raise SettingsError(
            f"data/sources/{path.name}",
            "cannot be read, so what is personal in it is not known",
            fix="aftersales check names the line",
        ) from error
    return found
