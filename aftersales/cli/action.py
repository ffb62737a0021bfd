"""`aftersales action`: the register of improvement actions."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aftersales.cli.console import (
    JsonOption,
    WorkspaceOption,
    day_option,
    now,
    out,
    print_json,
    print_rows,
    who,
)
from aftersales.model.errors import ParameterError
from aftersales.model.settings import open_workspace

if TYPE_CHECKING:
    pass

app = typer.Typer(no_args_is_help=True, help="Improvement actions of the register.")


@app.command("list")
def action_list(workspace: WorkspaceOption = None, json_: JsonOption = False) -> None:
    """Actions of the register.

    Example: aftersales action list
    """
    from dataclasses import asdict

    from aftersales.improve.actions import list_actions
    from aftersales.lake.register import open_register

    with open_register(open_workspace(workspace)) as register:
        rows = [asdict(action) for action in list_actions(register)]
    print_json(rows) if json_ else print_rows(
        rows, ["action_id", "title", "owner", "state", "implemented_at", "review_at"]
    )


@app.command("show")
def action_show(
    action_id: Annotated[str, typer.Argument(help="Number of the action.")],
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """One action with its history.

    Example: aftersales action show A-2022-07
    """
    from dataclasses import asdict

    from aftersales.improve.actions import action_history, find_action
    from aftersales.lake.register import open_register

    with open_register(open_workspace(workspace)) as register:
        record = asdict(find_action(register, action_id))
        history = [asdict(change) for change in action_history(register, action_id)]
    if json_:
        print_json({**record, "history": history})
        return
    print_rows([{"key": key, "value": str(value)} for key, value in record.items()])
    out.print()
    print_rows(history, ["changed_at", "changed_by", "field", "old", "new"])


@app.command("add")
def action_add(
    action_id: Annotated[str, typer.Argument(help="Number of the action.")],
    title: Annotated[str, typer.Option(help="What is done.")],
    title_zh: Annotated[str, typer.Option(help="The same in Chinese.")] = "",
    kind: Annotated[str, typer.Option(help="E.g. supplier change.")] = "",
    owner: Annotated[str, typer.Option(help="Who does it.")] = "",
    due: Annotated[str, typer.Option(help="YYYY-MM-DD.")] = "",
    implemented: Annotated[str, typer.Option(help="YYYY-MM-DD; makes it implemented.")] = "",
    failure_mode: Annotated[str, typer.Option(help="Canonical failure mode.")] = "",
    group: Annotated[str, typer.Option(help="Who gets it: dimension=value, e.g. supplier=S07.")] = "",
    before: Annotated[str, typer.Option(help="Cohort before: dimension=a;b, e.g. batch=2022Q2.")] = "",
    after: Annotated[str, typer.Option(help="Cohort after: values a;b.")] = "",
    workspace: WorkspaceOption = None,
) -> None:
    """Put an action into the register.

    Example: aftersales action add A-7 --title "New seal" --owner QA --group supplier=S07
    --before batch=2022Q2 --after "2022Q3;2022Q4" --implemented 2022-07-01
    """
    from aftersales.improve.actions import Scope, add_action
    from aftersales.lake.register import open_register

    values: dict[str, Any] = {
        "title_zh": title_zh,
        "kind": kind,
        "owner": owner,
        "failure_mode": failure_mode,
        "due_at": day_option(due, "due"),
        "implemented_at": day_option(implemented, "implemented"),
        "state": "implemented" if implemented else "proposed",
    }
    if group:
        dimension, value = _pair(group, "group")
        cut, first = _pair(before, "before")
        values["scope"] = Scope(dimension, value, cut, tuple(first.split(";")), tuple(after.split(";")))
    with open_register(open_workspace(workspace)) as register:
        action = add_action(register, action_id, title=title, who=who(), now=now(), **values)
    out.print(f"{action.action_id} added, version {action.version}", markup=False)


def _pair(text: str, name: str) -> tuple[str, str]:
    left, sign, right = text.partition("=")
    if not sign or not left or not right:
        raise ParameterError(f"--{name}", f"'{text}' is no dimension=value", fix=f"write --{name} supplier=S07")
    return left, right


@app.command("import")
def action_import(
    path: Annotated[Path, typer.Argument(help="CSV; see CONTRIBUTING.md for its columns.")],
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Take actions from a CSV; the same file again changes nothing.

    Example: aftersales action import data/demo/actions.csv
    """
    from dataclasses import asdict

    from aftersales.improve.actions import import_actions
    from aftersales.lake.register import open_register

    with open_register(open_workspace(workspace)) as register:
        done = import_actions(register, path, who(), now())
    if json_:
        print_json(asdict(done))
    else:
        out.print(
            f"{done.rows_read} read: {len(done.added)} added, {len(done.changed)} changed, "
            f"{len(done.unchanged)} unchanged"
        )
