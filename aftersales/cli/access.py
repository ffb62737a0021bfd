"""`aftersales access`: who may see what, why, and who asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from aftersales.cli.console import (
    AsRoleOption,
    JsonOption,
    WorkspaceOption,
    day_option,
    err,
    out,
    pinned_lake,
    print_json,
    print_rows,
)
from aftersales.model.errors import AccessError
from aftersales.model.settings import open_workspace

if TYPE_CHECKING:
    from aftersales.model.settings import Workspace

app = typer.Typer(no_args_is_help=True, help="Roles: who may see what, why, and who asked.")


@app.command("explain")
def access_explain(
    user: Annotated[str, typer.Argument(help="A user; another than yourself: administrators only.")],
    table: Annotated[str, typer.Argument(help="A table, e.g. ticket.")],
    as_role: AsRoleOption = "",
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """What a user sees of a table: role, rows of all rows, and what happens to each column, by which rule.

    Example: aftersales access explain li.na ticket
    """
    from aftersales.lake.access import explain
    from aftersales.lake.audit import asked

    place = open_workspace(workspace)
    asked_for = user if place.settings.roles else ""
    with (
        pinned_lake(place, as_role=as_role, as_user=asked_for, purpose="access explain") as (snapshot, _),
        asked(snapshot, "cli", f"access explain {table}", {"table": table}, [table]) as entry,
    ):
        found = explain(snapshot, table)
        entry.answered(len(found["columns"]))
    _hide_total(place, found)
    if json_:
        print_json(found)
        return
    roles = f" (of {', '.join(found['roles'])})" if len(found["roles"]) > 1 else ""
    shown = "no row" if not found["may_read"] else f"{_number(found['rows'])} of {_number(found['rows_total'])} rows"
    out.print(f"user {found['user']}, role {found['role']}{roles}: {shown} of {table}", markup=False, soft_wrap=True)
    out.print(f"rows: {found['rows_rule']}", markup=False, soft_wrap=True)
    small = (
        f"groups of fewer than {found['small_cells']} are blanked" if found["small_cells"] else "no group is blanked"
    )
    only = "; figures and groups only, no single rows" if found["aggregates_only"] else ""
    out.print(f"figures: {small}{only}", markup=False, soft_wrap=True)
    print_rows(found["columns"])


def _number(count: int | None) -> str:
    return "?" if count is None else f"{count:,}"


def _hide_total(place: Workspace, found: dict[str, Any]) -> None:
    """How many rows there are beyond the own ones is told to those who may see them all."""
    from aftersales.lake.viewer import resolve_viewer

    if not resolve_viewer(place).sees_everything:
        found["rows_total"] = None
        if 0 < found["rows"] < found["small_cells"]:
            found["rows"] = None


@app.command("check")
def access_check(workspace: WorkspaceOption = None, json_: JsonOption = False) -> None:
    """Read every role against the tables there are, and say which table each role sees in which way.

    Example: aftersales access check
    """
    from aftersales.lake.access import check_policy, policy_overview

    place = open_workspace(workspace)
    check_policy(place)
    rows = policy_overview(place)
    if json_:
        print_json({"roles": list(place.settings.roles), "tables": rows})
        return
    if not place.settings.roles:
        out.print("workbench.yml has no roles: one user, who sees everything", markup=False)
        return
    print_rows(rows)


@app.command("log")
def access_log_(
    user: Annotated[str, typer.Option(help="Only of this user.")] = "",
    role: Annotated[str, typer.Option(help="Only in this role.")] = "",
    since: Annotated[str, typer.Option(help="First day, YYYY-MM-DD.")] = "",
    most: Annotated[int, typer.Option(min=1, help="At most this many entries.")] = 100,
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Who asked what, and how much the answer held; newest first. Administrators only.

    Example: aftersales access log --user li.na --json
    """
    from aftersales.lake.audit import access_log
    from aftersales.lake.viewer import resolve_viewer

    place = open_workspace(workspace)
    viewer = resolve_viewer(place)
    if not viewer.sees_everything:
        raise AccessError(
            f"user {viewer.user}", "may not read the access log", fix="only those in access.administrators may"
        )
    first = day_option(since, "since")
    rows = access_log(place, user=user, role=role, since=place.start_of_day(first) if first else None, most=most)
    if json_:
        print_json([{**row, "at": row["at"].isoformat()} for row in rows])
        return
    if not rows and not place.settings.roles:
        err.print("workbench.yml has no roles: nothing is written down", markup=False)
    shown = ["at", "user", "role", "purpose", "action", "object", "row_count", "suppressed_count", "milliseconds"]
    print_rows([{**row, "at": f"{row['at']:%Y-%m-%d %H:%M:%S}"} for row in rows], shown)
