"""Commands on the way in: ingest, status, tables, check."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aftersales.cli.console import (
    AsRoleOption,
    AsUserOption,
    JsonOption,
    WorkspaceOption,
    err,
    out,
    pinned_lake,
    print_json,
    print_rows,
)
from aftersales.model.errors import AftersalesError, ParameterError, SettingsError
from aftersales.model.settings import FILE_NAME, Workspace, open_workspace

if TYPE_CHECKING:
    from aftersales.lake.store import Snapshot

app = typer.Typer()


@app.command()
def ingest(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Names of the catalogue, or paths of source YAMLs; all when absent.")
    ] = None,
    files: Annotated[
        str | None, typer.Option("--files", help="Glob that replaces the one in the YAML (one source only).")
    ] = None,
    replay: Annotated[
        bool, typer.Option("--replay", help="Map the rows of the quarantine again; the files are not needed.")
    ] = False,
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Load what the sources delivered; the same file again changes nothing.

    Example: aftersales ingest hotline
    Example: aftersales ingest --replay repairs
    Example: aftersales ingest data/sources/examples/nhtsa_complaints.yml --files 'downloads/*.csv.gz'
    """
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from aftersales.collect.ingest import ingest_source
    from aftersales.collect.replay import replay_source

    place = open_workspace(workspace)
    wanted = _wanted_sources(place, sources or [])
    if files and replay:
        raise ParameterError("--files", "goes without --replay, which reads no file", fix="leave one of them out")
    if files and len(wanted) != 1:
        raise ParameterError("--files", f"goes with one source, {len(wanted)} were named", fix="name one source")
    records: list[dict[str, Any]] = []
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=err, transient=True
    ) as progress:
        task = progress.add_task("ingest", total=len(wanted))

        def told(text: str) -> None:
            progress.update(task, description=text)

        for source in wanted:
            progress.update(task, description=source.name)
            loads = ingest_source(place, source, files=files, report=told)
            for deliveries in replay_source(place, source) if replay else loads:
                records += [delivery.record() for delivery in deliveries]
            progress.advance(task)
    refused = [record for record in records if record["refused"]]
    if json_:
        print_json(records)
    else:
        _print_ledger(records)
        for record in refused:
            err.print(_refused_text(record), style="red", markup=False, soft_wrap=True)
    if refused:
        raise typer.Exit(1)


def _refused_text(record: dict[str, Any]) -> str:
    return (
        f"{record['source_file']}: table {record['table']} was not loaded, the file {record['refused']}\n"
        f"  rows : {record['left_out']:,} left out; the other tables of the file are loaded\n"
        f"  fix  : mend data/sources/{record['source']}.yml (aftersales status proposes lines), then run it again"
    )


def _print_ledger(records: list[dict[str, Any]]) -> None:
    counts = {name: name for name in ("accepted", "rejected", "duplicate")}
    shown = {"source_file": "file", "table": "table", "rows_read": "read", **counts}
    shown |= {"inserted": "new", "corrected": "corrected", "skipped": "skipped"}
    print_rows(records, shown)
    out.print(
        "read = accepted + rejected + duplicate. new, corrected: of the accepted rows, what was not in the lake yet.\n"
        "skipped: the file was loaded before, nothing was done. Why rows were rejected: aftersales status",
        style="dim",
    )


def _wanted_sources(workspace: Workspace, names: list[str]) -> list[Any]:
    from aftersales.collect.mapping import catalogue, read_source
    from aftersales.model.errors import known_names

    if not names:
        found = list(catalogue(workspace).values())
        if not found:
            raise SettingsError(
                str(workspace.sources),
                "no source is described here",
                fix="write data/sources/<name>.yml; examples lie in data/sources/examples/",
            )
        return found
    chosen = []
    known = catalogue(workspace) if any(not name.endswith((".yml", ".yaml")) for name in names) else {}
    for name in names:
        if name.endswith((".yml", ".yaml")):
            chosen.append(
                read_source(Path(name).resolve() if Path(name).exists() else workspace.root / name, workspace)
            )
        elif name in known:
            chosen.append(known[name])
        else:
            raise ParameterError(
                "source",
                f"no source '{name}'",
                rows=known_names(known, 40),
                fix="use one of them, or the path of a YAML",
            )
    return chosen


@app.command()
def status(
    as_role: AsRoleOption = "",
    as_user: AsUserOption = "",
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """What has been loaded: rows by source, tables with versions, freshness. Only what the user may see.

    Example: aftersales status --json
    """
    import pandas as pd

    from aftersales.collect.drift import drift_of
    from aftersales.collect.ledger import fresh_sources, latest_deliveries, set_aside
    from aftersales.collect.mapping import catalogue
    from aftersales.lake.audit import asked

    place = open_workspace(workspace)
    with (
        pinned_lake(place, as_role=as_role, as_user=as_user, purpose="status") as (snapshot, as_of),
        asked(snapshot, "cli", "status", {}, list(snapshot.versions)) as entry,
    ):
        ledger = latest_deliveries(snapshot)
        shows_examples = snapshot.may_read("quarantine") and (snapshot.access is None or snapshot.access.shows_rows)
        reasons = set_aside(snapshot) if shows_examples else pd.DataFrame()
        drift = drift_of(snapshot) if snapshot.may_read("drift") else pd.DataFrame()
        tables = [
            {"table": name, "version": version, "rows": _rows_told(snapshot, name)}
            for name, version in snapshot.versions.items()
            if snapshot.may_read(name)
        ]
        entry.answered(len(ledger))
        fresh = fresh_sources(snapshot, catalogue(place), as_of)
    counts = ["rows_read", "accepted", "rejected", "duplicate", "left_out", "values_set_aside"]
    by_source = (
        []
        if ledger.empty
        else ledger.groupby(["source", "table"], sort=False)[counts].sum().reset_index().to_dict("records")
    )
    primary = ledger[ledger["is_primary"]] if len(ledger) else ledger
    totals = {name: int(primary[name].sum()) if len(primary) else 0 for name in counts}
    report = {
        "workspace": str(place.root),
        "as_of": as_of.isoformat(),
        "totals": totals,
        "sources": by_source,
        "tables": tables,
        "freshness": json.loads(fresh.to_json(orient="records", date_format="iso")),
        "reasons": reasons.to_dict("records"),
        "drift": json.loads(drift.to_json(orient="records", date_format="iso")),
    }
    if json_:
        print_json(report)
        return
    out.print(f"workspace {place.root}, as of {as_of:%Y-%m-%d}", markup=False, soft_wrap=True)
    print_rows(by_source, ["source", "table", *counts[:5]])
    out.print()
    print_rows(tables)
    if len(reasons):
        out.print()
        print_rows(reasons.head(10).to_dict("records"), ["source", "reason", "kind", "rows"])
    if len(drift):
        out.print()
        _print_drift([{str(key): value for key, value in row.items()} for row in drift.head(10).to_dict("records")])


def _print_drift(rows: list[dict[str, Any]]) -> None:
    """Columns that changed, what it costs, and below each the lines that would mend it."""
    from aftersales.collect.drift import CONSEQUENCES, KINDS

    for row in rows:
        instead = f", now '{row['found']}'" if row["found"] else ""
        said = f"{KINDS[row['kind']][0]} '{row['column']}'{instead}; {CONSEQUENCES[row['consequence']][0]}"
        out.print(f"{row['source']}/{row['table']}: {row['file']}: {said}", markup=False, soft_wrap=True)
        for line in row["proposal"].splitlines():
            out.print(f"    {line}", markup=False, soft_wrap=True, style="bold")


def _rows_told(snapshot: Snapshot, table: str) -> int | None:
    """How many rows of the table the viewer sees; None where that are too few to be told.

    Bookkeeping is counted whole: a workspace whose day lies in the past was loaded after it.
    """
    from aftersales.lake.store import SYSTEM_TABLES

    seen = snapshot.versions_of(table) if table in SYSTEM_TABLES else snapshot.table(table)
    rows = int(snapshot.connection.execute(seen.count()))
    return None if 0 < rows < snapshot.smallest else rows


@app.command()
def maintain(
    keep_hours: Annotated[
        float, typer.Option("--keep-hours", help="How long replaced files stay for pages that have them open.")
    ] = 7 * 24,
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Put small files of the lake together and remove files that nobody needs; versions that reports cite stay.

    Example: aftersales maintain
    """
    from dataclasses import asdict

    from aftersales.lake import upkeep
    from aftersales.publish.reports import cited_versions

    place = open_workspace(workspace)
    rows = [asdict(done) for done in upkeep.maintain(place, cited_versions(place), keep_hours=keep_hours)]
    print_json(rows) if json_ else print_rows(rows)


@app.command()
def tables(
    table: Annotated[str | None, typer.Argument(help="Only this table.")] = None,
    lang: Annotated[str, typer.Option(help="en or zh.")] = "en",
    json_: JsonOption = False,
) -> None:
    """Columns of the canonical tables: type, privacy tier, clock and meaning. What a source's YAML can fill.

    Example: aftersales tables ticket
    """
    from aftersales.model.tables import canonical_table, describe_tables

    if lang not in ("en", "zh"):
        raise ParameterError("--lang", f"'{lang}' is neither en nor zh", fix="use one of them")
    if table is not None:
        canonical_table(table)
    rows = [row for row in describe_tables(lang) if table in (None, row["table"])]  # type: ignore[arg-type]
    print_json(rows) if json_ else print_rows(rows)


@app.command()
def check(
    quality: Annotated[bool, typer.Option("--quality", help="Also judge the rows that are loaded.")] = False,
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Read every YAML, reach every source and read every file that is not loaded yet; nothing is loaded.

    A remote source is connected to, logged in to and looked at (one page, row or message); the columns of its mapping
    are compared with what came. Columns of files that are new, missing or renamed are shown with a line for the YAML.

    Example: aftersales check
    """
    from aftersales.cli.quality import quality_problems
    from aftersales.collect.checks import table_checks
    from aftersales.collect.drift import foreseen
    from aftersales.collect.mapping import read_source
    from aftersales.collect.reach import reach
    from aftersales.lake.access import check_policy
    from aftersales.measure.definitions import metrics
    from aftersales.publish.sidecars import page_names, read_sidecar

    place = open_workspace(workspace)
    problems: list[str] = []
    drift: list[dict[str, Any]] = []
    checked: list[str] = [FILE_NAME]

    def attempt(name: str, action: Any) -> None:
        checked.append(name)
        try:
            action()
        except AftersalesError as error:
            problems.append(str(error))

    sources: list[dict[str, Any]] = []

    def look(path: Path) -> None:
        source = read_source(path, place)
        with err.status(f"reaching {source.name}"):
            found = reach(place, source)
        sources.append(found.record())
        if found.state == "problem":
            problems.append(found.said)
            return
        if not json_:
            out.print(f"{source.name} ({source.connector}): {found.said}", markup=False, soft_wrap=True)
        for file, finding in foreseen(place, source, dt.datetime.now(dt.UTC)) if source.connector == "files" else ():
            drift.append({"source": source.name, "file": file, **asdict(finding)})

    for path in sorted(place.sources.glob("*.yml")):
        attempt(f"source {path.stem}", lambda path=path: look(path))
    stopped = sum(row["consequence"] == "refused" for row in drift)
    attempt("checks of tables", lambda: table_checks(place))
    attempt("metric dictionary", metrics)
    attempt("roles", lambda: check_policy(place))
    for page in page_names(place):
        attempt(f"page {page}", lambda page=page: read_sidecar(place, page))
    if quality:
        checked.append("quality")
        problems += quality_problems(place)
    if json_:
        print_json({"checked": checked, "problems": problems, "drift": drift, "sources": sources})
    else:
        if drift:
            _print_drift(drift)
        for problem in problems:
            err.print(problem, style="red", markup=False, soft_wrap=True)
        out.print(f"{len(checked)} checked, {len(problems)} with problems")
        if stopped:
            out.print(f"{stopped} missing {'column stops' if stopped == 1 else 'columns stop'} a table")
    if problems or stopped:
        raise typer.Exit(1)
