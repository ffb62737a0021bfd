"""`aftersales exchange`: claims out to and in from partners, in the open Fleet Claim Data 3.0.0 model."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aftersales.cli.console import (
    JsonOption,
    WorkspaceOption,
    day_option,
    err,
    now,
    out,
    pinned_lake,
    print_json,
    print_rows,
)
from aftersales.model.errors import SettingsError
from aftersales.model.settings import Workspace, open_workspace

if TYPE_CHECKING:
    from aftersales.collect.mapping import Source

app = typer.Typer(
    no_args_is_help=True,
    help="Claims of partners in the open Fleet Claim Data 3.0.0 model (Eclipse Tractus-X, CC-BY-4.0).",
)
SOURCE = "fleet_claims.yml"


@app.command("export")
def export(
    file: Annotated[Path, typer.Argument(help="Where to write; .json or .json.gz.")],
    quality_task: Annotated[str, typer.Option(help="UUID of the task for repairs without an issue.")] = "",
    issue: Annotated[list[str] | None, typer.Option(help="Only repairs of this issue; may be repeated.")] = None,
    start: Annotated[str, typer.Option(help="Only repairs reported from this day on, YYYY-MM-DD.")] = "",
    end: Annotated[str, typer.Option(help="Only repairs reported up to this day.")] = "",
    comments: Annotated[bool, typer.Option("--comments", help="With the comments: they may name people.")] = False,
    own_fields: Annotated[
        bool, typer.Option("--own-fields", help="With costs, codes and times the model has no property for.")
    ] = False,
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Write repairs and their parts as claims; what cannot be a claim is left out and named.

    Example: aftersales exchange export claims.json.gz --quality-task 0b0f4e7c-2f0e-4a53-9d5c-3d1f0a6f7b21
    """
    from aftersales.collect.exchange import ExportOptions, export_claims
    from aftersales.lake.audit import asked

    options = ExportOptions(
        quality_task, comments, own_fields, tuple(issue or ()), day_option(start, "start"), day_option(end, "end")
    )
    place = open_workspace(workspace)
    with (
        pinned_lake(place, purpose="exchange export") as (snapshot, _),
        asked(snapshot, "export", "claims", asdict(options), ["repair", "part_use", "unit"]) as entry,
        err.status("writing claims"),
    ):
        snapshot.check_rows("repair")
        done = export_claims(snapshot, file, options, repair_date=place.settings.exchange.repair_date)
        entry.answered(done.repairs)
    if json_:
        print_json({**asdict(done), "path": str(done.path)})
    else:
        out.print(f"{done.repairs:,} repairs: {done.claims:,} claims with {done.parts:,} parts -> {file}, "
                  f"{done.left_out:,} left out", markup=False, soft_wrap=True)  # fmt: skip
        if done.reasons:
            print_rows([asdict(one) for one in done.reasons], {"place": "property", "problem": "problem",
                                                               "claims": "repairs", "example": "example"})  # fmt: skip
        _say_repair_date(done.repair_date)
    if done.left_out:
        raise typer.Exit(1)


@app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="A file of claims; .json or .json.gz.")],
    source: Annotated[str, typer.Option(help="YAML of the source; else fleet_claims.yml of the workspace.")] = "",
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Load a file of claims through quarantine and ledger; the same file again changes nothing.

    Example: aftersales exchange import partner_2026-11.json
    """
    from aftersales.collect.exchange import import_claims

    place = open_workspace(workspace)
    described = _source(place, source)
    with pinned_lake(place) as (snapshot, _), err.status("reading claims"):
        done = import_claims(place, file, described, received_at=now(), snapshot=snapshot)
    record: dict[str, Any] = {
        **{name: value for name, value in vars(done).items() if name not in ("breaches", "deliveries")},
        "path": str(done.path),
        "breaches": [asdict(one) for one in done.breaches],
        "deliveries": [delivery.record() for delivery in done.deliveries],
    }
    if json_:
        print_json(record)
        return
    out.print(f"{done.claims:,} claims with {done.parts:,} parts -> {done.raw}", markup=False, soft_wrap=True)
    counts = ["table", "rows_read", "accepted", "rejected", "duplicate", "inserted", "corrected", "skipped"]
    print_rows(record["deliveries"], counts)
    if done.breaches:
        out.print("\nagainst the structure of the model:")
        print_rows(record["breaches"], ["place", "problem", "claims", "example"])
    if done.not_mapped:
        listed = ", ".join(f"{name} ({count:,})" for name, count in done.not_mapped.items())
        out.print(f"\nwithout a column, kept in the raw table: {listed}", markup=False, soft_wrap=True)
    if done.repeats:
        out.print(f"repeated repairs: {done.repeats:,}, {done.repeats_unresolved:,} without a known predecessor")
    if done.withdrawn:
        out.print(f"withdrawn by their sender: {done.withdrawn:,}; their rows stay with record_status withdrawn")
    _say_repair_date(done.repair_date)


def _say_repair_date(column: str) -> None:
    out.print(
        f"repairDate is {column}. The model describes it as the day the claim was first reported; when the partner "
        "means another day, set exchange.repair_date in workbench.yml.",
        style="dim",
        soft_wrap=True,
    )


def _source(workspace: Workspace, given: str) -> Source:
    from aftersales.collect.mapping import read_source

    places = [Path(given)] if given else [workspace.sources / SOURCE, workspace.sources / "examples" / SOURCE]
    for path in places:
        if path.is_file():
            return read_source(path.resolve(), workspace)
    raise SettingsError(
        given or str(workspace.sources), f"no {SOURCE} here" if not given else "no such file",
        fix="aftersales init copies the examples; or give --source",
    )  # fmt: skip
