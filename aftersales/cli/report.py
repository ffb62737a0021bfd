"""`aftersales report`: pages run by Papermill and kept."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aftersales.cli.console import (
    AsRoleOption,
    AsUserOption,
    JsonOption,
    WorkspaceOption,
    err,
    name_values,
    out,
    print_json,
    print_rows,
    who,
)
from aftersales.model.settings import open_workspace

if TYPE_CHECKING:
    pass

app = typer.Typer(no_args_is_help=True, help="Reports: pages run by Papermill and kept.")


@app.command("run")
def report_run(
    pages: Annotated[list[str] | None, typer.Argument(help="Pages; all when absent.")] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="Parameter of the page; several times."),
    ] = None,
    if_changed: Annotated[
        bool, typer.Option("--if-changed", help="Skip a page whose newest run would come out the same.")
    ] = False,
    as_role: AsRoleOption = "",
    as_user: AsUserOption = "",
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Run pages and keep notebook, HTML and run.json. With --as-user or --as-role as the recipient may see them.

    Example: aftersales report run root_cause -p model=L1 -p lang=zh
    """
    from aftersales.lake.viewer import resolve_viewer
    from aftersales.publish.reports import report_names, run_report, unchanged_run
    from aftersales.publish.sidecars import parameters_from_texts, read_sidecar

    place = open_workspace(workspace)
    viewer = resolve_viewer(place, as_role=as_role, as_user=as_user)
    given = name_values(parameters or [], "--parameter")
    names = pages or report_names(place)
    checked = {page: parameters_from_texts(read_sidecar(place, page), given) for page in names}
    runs = []
    for page, values in checked.items():
        same = unchanged_run(place, page, values, viewer=viewer) if if_changed else None
        if same:
            if not json_:
                out.print(
                    f"{page}: unchanged since {same['started_at']} -> {Path(same['folder']) / 'report.html'}",
                    markup=False,
                    soft_wrap=True,
                )
            continue
        with err.status(f"running {page}"):
            run = run_report(place, page, values, started_by=who(), viewer=viewer)
        runs.append(run)
        if not json_:
            shown = (
                f"{run.page}: {run.state}"
                + (f" ({run.reason})" if run.reason else "")
                + f", {run.seconds:.1f} s -> "
                + (run.folder if run.state == "failed" else f"{run.folder}/report.html")
            )
            out.print(shown, markup=False, soft_wrap=True)
    if json_:
        print_json([{**run.record(), "folder": run.folder} for run in runs])
    if any(run.state == "failed" for run in runs):
        raise typer.Exit(3)
    if any(run.state == "refused" for run in runs):
        raise typer.Exit(1)


@app.command("list")
def report_list(
    page: Annotated[str | None, typer.Argument(help="Only this page.")] = None,
    pages: Annotated[bool, typer.Option("--pages", help="List the pages instead of runs.")] = False,
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Runs, newest first.

    Example: aftersales report list --json
    """
    from aftersales.lake.viewer import resolve_viewer
    from aftersales.publish.reports import list_runs, may_read_run
    from aftersales.publish.sidecars import sidecars

    place = open_workspace(workspace)
    if pages:
        rows = [
            {
                "page": name,
                "title": item.title["en"],
                "title_zh": item.title["zh"],
                "parameters": ", ".join(item.parameters),
            }
            for name, item in sidecars(place).items()
        ]
        print_json(rows) if json_ else print_rows(rows)
        return
    viewer = resolve_viewer(place)
    runs = [run for run in list_runs(place, page) if may_read_run(run, viewer)]
    print_json(runs) if json_ else print_rows(runs, ["run_id", "page", "state", "reason", "started_at", "seconds"])


@app.command("show")
def report_show(
    run_id: Annotated[str, typer.Argument(help="A run id, 'latest' or 'latest:PAGE'.")],
    workspace: WorkspaceOption = None,
) -> None:
    """The record of one run.

    Example: aftersales report show latest:root_cause
    """
    from aftersales.lake.viewer import resolve_viewer
    from aftersales.publish.reports import find_run, may_read_run

    place = open_workspace(workspace)
    viewer = resolve_viewer(place)
    print_json(find_run(place, run_id, lambda run: may_read_run(run, viewer)))
