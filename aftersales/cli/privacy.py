"""Commands about persons: export everything about one, erase one, empty what has passed its retention time."""

from __future__ import annotations

import datetime as dt
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from aftersales.cli.console import JsonOption, WorkspaceOption, day_option, err, now, out, print_json, print_rows, who
from aftersales.model.errors import AccessError, ParameterError
from aftersales.model.settings import Workspace, open_workspace

app = typer.Typer(no_args_is_help=True, help="One person: export, erase; retention times.")

SubjectArgument = Annotated[
    str, typer.Argument(help="The id as a source writes it, the pseudonym, or ticket:<id> where no customer is known.")
]


def _place(folder: Path | None) -> Workspace:
    """The workspace, for those who may see everything in it."""
    from aftersales.lake.viewer import resolve_viewer

    place = open_workspace(folder)
    viewer = resolve_viewer(place)
    if not viewer.sees_everything:
        raise AccessError(
            f"role {viewer.role}",
            "may not export or erase persons",
            fix="ask one of access.administrators in workbench.yml",
        )
    return place


@app.command()
def export(
    subject: SubjectArgument,
    target: Annotated[Path, typer.Option("--out", metavar="FILE", help=".json, or .zip with JSON and xlsx.")],
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Write everything about one person: every table, earlier versions too, with provenance.

    Example: aftersales privacy export C0000123 --out subject.zip
    """
    from aftersales.collect.subject import export_subject, find_subject
    from aftersales.lake.vault import open_vault

    place = _place(workspace)
    person = find_subject(place, subject)
    rows = export_subject(place, person, target, now())
    open_vault(place).note(
        "export", subject=" ".join(person.ids or person.owners[:1]), by=who(), reason="", details=rows, now=now()
    )
    print_json({"file": str(target), "rows": rows}) if json_ else print_rows(
        [{"table": name, "rows": count} for name, count in rows.items()]
    )


@app.command()
def erase(
    subject: SubjectArgument,
    reason: Annotated[str, typer.Option("--reason", help="Why; it is kept in the audit.")],
    raw: Annotated[
        bool, typer.Option("--raw", help="Empty the person's lines in received csv, tsv and jsonl files.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do it: it cannot be undone.")] = False,
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Make everything personal about one person unreadable, in every version; counts stay.

    Example: aftersales privacy erase C0000123 --reason 'request of 2026-03-01' --yes
    """
    from aftersales.collect.erasure import erase_subject
    from aftersales.collect.redaction import raw_files, redact_raw
    from aftersales.collect.subject import find_subject

    place = _place(workspace)
    if not reason.strip():
        raise ParameterError("--reason", "is empty", fix="say why; it is kept in the audit")
    person = find_subject(place, subject)
    files = raw_files(place, person)
    if not yes:
        listed = [{"file": file.name, "rows": file.rows, "can be emptied": file.can_redact} for file in files]
        print_json({"erased": False, "raw_files": listed}) if json_ else print_rows(listed)
        err.print("nothing was done; --yes erases, and it cannot be undone", markup=False)
        raise typer.Exit(1)
    done = erase_subject(place, person, reason=reason, by=who(), now=now())
    redacted = {file.name: redact_raw(place, person, file) for file in files if file.can_redact} if raw else {}
    listed = [{"file": file.name, "rows": file.rows, "emptied": redacted.get(file.name, 0)} for file in files]
    if json_:
        print_json({"erased": True, **asdict(done), "raw_files": listed})
        return
    out.print(f"{done.keys} keys shredded, {sum(done.rows.values())} current rows emptied", markup=False)
    if files:
        out.print("files as received that name the person:")
        print_rows(listed)
    if done.runs:
        out.print(f"reports that name the pseudonym: {', '.join(done.runs)}", markup=False, soft_wrap=True)


@app.command()
def retention(
    apply: Annotated[
        bool, typer.Option("--apply", help="Empty what has expired; without it, only say what would be.")
    ] = False,
    as_of: Annotated[str, typer.Option("--as-of", help="The day that counts as today, YYYY-MM-DD.")] = "",
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Empty what has passed the retention times of workbench.yml; a dry run unless --apply is given.

    Example: aftersales privacy retention --apply
    """
    from aftersales.collect.erasure import expired

    place = _place(workspace)
    day = day_option(as_of, "as-of")
    moment = dt.datetime.combine(day, dt.time(), dt.UTC) if day else now()
    rows = [asdict(expiry) for expiry in expired(place, moment, apply=apply)]
    print_json({"applied": apply, "expired": rows}) if json_ else print_rows(rows)
    if not apply and any(row["rows"] or row["periods"] for row in rows):
        err.print("nothing was done; --apply empties them, and it cannot be undone", markup=False)
