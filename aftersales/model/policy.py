"""Who may see what: the keys `roles` and `access` of `workbench.yml`.

Only the schema stands here. `lake.access` applies it to the base tables, before any metric sees them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field, field_validator

from aftersales.model.documents import Document, Problem
from aftersales.model.errors import known_names

Tier = Literal["P0", "P1", "P2", "P3"]
Show = Literal["show", "hide", "hash", "last4", "year", "unsealed"]

OWNER = "owner"
"""The role of everybody in a workspace without roles."""
ADMINISTRATOR = "administrator"
"""The role of those who keep the policy: they see everything, and may look through the eyes of another role."""
EVERY = "*"
"""In `rows`: the rule of every table that has the columns; in `columns`, before the dot: every table."""
ALL = "all"
VIA = "via "


class ColumnRule(Document):
    """What a role sees of a column, where one word is not enough."""

    show: Show
    groups: bool = Field(default=False, description="Whether the masked column may be grouped and filtered by")


class Role(Document):
    """What one role may see."""

    title: dict[Literal["en", "zh"], str] = {}
    tables: Literal["all"] | list[str] = "all"
    tier: Tier = Field(default="P1", description="Columns above this tier are hidden unless `columns` says otherwise")
    rows: dict[str, str] = Field(default={}, description="Table -> condition, `all`, or `via <table>`; none: all rows")
    columns: dict[str, Show | ColumnRule] = Field(default={}, description="table.column or *.column -> what is shown")
    small_cells: int = Field(default=5, ge=0, description="Groups of fewer cases are blanked; 0: none")
    aggregates_only: bool = Field(default=False, description="Figures and groups, never a row of a table")

    @field_validator("columns")
    @classmethod
    def _table_and_column(cls, columns: dict[str, Any]) -> dict[str, Any]:
        bad = [name for name in columns if name.count(".") != 1 or not all(name.split("."))]
        if bad:
            raise ValueError(f"write table.column or *.column, not {', '.join(bad)}")
        return columns


class Person(Document):
    """A user: roles, the first of which counts unless another is asked for, and facts that row rules may use."""

    roles: list[str] = []
    attributes: dict[str, str | list[str]] = {}


class Group(Document):
    """Users who share roles and attributes."""

    members: list[str]
    roles: list[str] = []
    attributes: dict[str, str | list[str]] = {}


class AccessSettings(Document):
    """Who has which role, and which names of users are believed."""

    administrators: list[str] = []
    default_role: str = Field(default="", description="Role of users who are not listed; empty: they are refused")
    trusted_proxy: bool = Field(default=False, description="Served pages take the user from X-Forwarded-User")
    jupyterhub: bool = Field(default=False, description="JUPYTERHUB_USER names the user")
    users: dict[str, Person] = {}
    groups: dict[str, Group] = {}


def policy_problems(content: Mapping[Any, Any]) -> list[Problem]:
    """Roles that are given to somebody and not defined, or defined under a name that is taken."""
    roles, access = content.get("roles"), content.get("access")
    known = set(roles) if isinstance(roles, dict) else set()
    problems: list[Problem] = [
        (("roles", name), f"'{name}' is a role of its own; take another name")
        for name in (OWNER, ADMINISTRATOR)
        if name in known
    ]
    for place, name in _given_roles(access if isinstance(access, dict) else {}):
        if name not in known:
            problems.append((place, f"no role '{name}'; {known_names(known)}"))
    if not known and isinstance(access, dict) and access.get("administrators"):
        problems.append((("access", "administrators"), "there are no roles, so everybody sees everything"))
    return problems


def _given_roles(access: Mapping[Any, Any]) -> list[tuple[tuple[Any, ...], str]]:
    """Every place of the file that names a role, with the name."""
    found: list[tuple[tuple[Any, ...], str]] = []
    if isinstance(access.get("default_role"), str) and access["default_role"]:
        found.append((("access", "default_role"), access["default_role"]))
    for kind in ("users", "groups"):
        entries = access.get(kind)
        for name, entry in entries.items() if isinstance(entries, dict) else ():
            roles = entry.get("roles") if isinstance(entry, dict) else None
            for i, role in enumerate(roles if isinstance(roles, list) else []):
                if isinstance(role, str):
                    found.append((("access", kind, name, "roles", i), role))
    return found
