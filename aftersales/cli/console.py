"""What all commands share: options, the pinned lake, output as tables or JSON."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from aftersales.model.errors import ParameterError
from aftersales.model.settings import Workspace

if TYPE_CHECKING:
    from aftersales.lake.store import Snapshot

WorkspaceOption = Annotated[
    Path | None,
    typer.Option(
        "--workspace",
        "-w",
        metavar="DIR",
        show_default=False,
        help="Folder with workbench.yml; else the nearest one above here.",
    ),
]
AsRoleOption = Annotated[
    str, typer.Option("--as-role", metavar="ROLE", help="One of your roles; any role for administrators.")
]
AsUserOption = Annotated[
    str, typer.Option("--as-user", metavar="USER", help="See what this user sees: administrators only.")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, highlight=False)


def print_json(value: Any) -> None:
    """Data on standard output as JSON; Chinese stays readable."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def print_rows(rows: Sequence[Mapping[Any, Any]], columns: Mapping[str, str] | Sequence[str] | None = None) -> None:
    """Rows as a table on the terminal; `columns` names them, or maps them to shorter heads."""
    if not rows:
        out.print("nothing")
        return
    heads = columns if isinstance(columns, Mapping) else {name: name for name in columns or list(rows[0])}
    table = Table(box=None, pad_edge=False)
    for name, head in heads.items():
        numeric = any(isinstance(row.get(name), int | float) for row in rows)
        table.add_column(head, justify="right" if numeric else "left", no_wrap=numeric, overflow="fold")
    for row in rows:
        table.add_row(*(_cell(row.get(name)) for name in heads))
    out.print(table)


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    return (
        f"{value:,.4g}"
        if isinstance(value, float) and abs(value) < 1000
        else f"{value:,.0f}"
        if isinstance(value, int | float)
        else escape(str(value))
    )


def who() -> str:
    """The operating-system user."""
    from aftersales.lake.viewer import system_user

    return system_user()


def now() -> dt.datetime:
    """This instant, in UTC."""
    return dt.datetime.now(dt.UTC)


@contextlib.contextmanager
def pinned_lake(
    workspace: Workspace, as_of: str = "", *, as_role: str = "", as_user: str = "", purpose: str = ""
) -> Iterator[tuple[Snapshot, dt.datetime]]:
    """The pinned lake as of the end of a day at the site, or of the workspace's day, or of now; as the user may see it.

    What was asked inside is in the access log when the block ends: print after it.
    """
    from aftersales.lake.access import snapshot_for
    from aftersales.lake.engine import connect
    from aftersales.lake.viewer import resolve_viewer

    viewer = resolve_viewer(workspace, as_role=as_role, as_user=as_user)
    connection = connect(workspace)
    moment = workspace.end_of_day(as_of or workspace.settings.as_of)
    try:
        snapshot = snapshot_for(workspace, connection, viewer, as_of=moment, purpose=purpose)
        trail = snapshot.access.trail if snapshot.access else None
        with contextlib.closing(trail) if trail else contextlib.nullcontext():
            yield snapshot, moment or now()
    finally:
        connection.disconnect()


def day_option(text: str | None, name: str) -> dt.date | None:
    """The day an option `--name` gives; None when it was left out."""
    if not text:
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise ParameterError(f"--{name}", f"'{text}' is no date", fix="write YYYY-MM-DD") from None


def name_values(pairs: list[str], option: str = "--where") -> dict[str, list[str]]:
    """`name=value` texts as name -> values."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise ParameterError(option, f"'{pair}' has no =", fix="write NAME=VALUE")
        found.setdefault(name.strip(), []).append(value)
    return found
