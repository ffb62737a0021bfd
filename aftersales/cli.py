"""The command `aftersales`: one subcommand per step of the loop.

Exit codes: 0 ok, 1 findings or refused, 2 usage, 3 failed. Data goes to standard output, progress and errors to
standard error. Heavy packages are imported inside the commands that need them.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import getpass
import json
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.table import Table

from aftersales.model.errors import AftersalesError, ParameterError, SettingsError
from aftersales.model.settings import FILE_NAME, WORKSPACE_VARIABLE, Workspace, open_workspace

if TYPE_CHECKING:
    from aftersales.lake.store import Snapshot

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="After-sales data goes in; out comes the one thing to fix next, why, and the proof that it worked.",
)
metric_app = typer.Typer(no_args_is_help=True, help="Metrics of the dictionary.")
action_app = typer.Typer(no_args_is_help=True, help="Improvement actions of the register.")
report_app = typer.Typer(no_args_is_help=True, help="Reports: pages run by Papermill and kept.")
app.add_typer(metric_app, name="metric")
app.add_typer(action_app, name="action")
app.add_typer(report_app, name="report")

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
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON.")]

out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
err = Console(stderr=True, highlight=False)


def main() -> NoReturn:
    """Run the command line; errors come in four parts, without a traceback unless --debug is given."""
    debug = "--debug" in sys.argv
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    try:
        app(args=arguments, prog_name="aftersales", standalone_mode=True)
    except AftersalesError as error:
        if debug:
            raise
        err.print(str(error), style="red", markup=False, soft_wrap=True)
        sys.exit(error.exit_code)
    except OSError as error:
        if debug:
            raise
        where, what = error.filename or "disk", error.strerror or type(error).__name__
        err.print(
            f"{where}: {what}\n  rows : none lost: what was committed before stays\n"
            "  fix  : free disk space or mend the rights, then run the command again",
            style="red", markup=False, soft_wrap=True,
        )  # fmt: skip
        sys.exit(3)
    except KeyboardInterrupt:
        err.print("interrupted; what was committed before stays", markup=False)
        sys.exit(3)
    except Exception as error:
        if debug:
            raise
        err.print(
            f"aftersales: {type(error).__name__}: {error}\n  fix  : run again with --debug and report what it prints",
            style="red",
            markup=False,
            soft_wrap=True,
        )
        sys.exit(3)
    sys.exit(0)


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, default=str))


def _print_rows(rows: Sequence[Mapping[Any, Any]], columns: Mapping[str, str] | Sequence[str] | None = None) -> None:
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
        else str(value)
    )


def _who() -> str:
    return getpass.getuser()


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@contextlib.contextmanager
def _snapshot(workspace: Workspace, as_of: str = "") -> Iterator[tuple[Snapshot, dt.datetime]]:
    """The pinned lake as of the end of a day at the site, or of the workspace's day, or of now."""
    from aftersales.lake.engine import connect
    from aftersales.lake.store import Store

    connection = connect(workspace)
    moment = workspace.end_of_day(as_of or workspace.settings.as_of)
    try:
        yield (
            Store(workspace.lake).pin(connection, as_of=moment, time_zone=workspace.settings.time_zone),
            moment or _now(),
        )
    finally:
        connection.disconnect()


def _day(text: str | None, name: str) -> dt.date | None:
    if not text:
        return None
    try:
        return dt.date.fromisoformat(text)
    except ValueError:
        raise ParameterError(f"--{name}", f"'{text}' is no date", fix="write YYYY-MM-DD") from None


# ----------------------------------------------------------------------------------------------------- workspace

STARTER = """# Settings of this workspace; every key is optional. No secrets in here.
name: {name}
name_zh: {name}
language: en                 # en or zh
time_zone: Asia/Shanghai     # the site's clock
"""


def _copy_new(source: str, target: str) -> None:
    """Copy a file, unless the user has one there."""
    if not Path(target).exists():
        shutil.copy2(source, target)


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="New folder.")]) -> None:
    """Make a new workspace with the pages and an example source.

    Example: aftersales init ~/after-sales
    """
    if (folder / FILE_NAME).exists():
        raise SettingsError(str(folder), f"already has a {FILE_NAME}", fix="take another folder, or work in this one")
    for name in ("data/raw", "data/sources", "data/reference"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_text(
        STARTER.format(name=json.dumps(folder.resolve().name, ensure_ascii=False)), encoding="utf-8"
    )
    home = Path(__file__).parent.parent
    if (home / "notebooks").is_dir():
        for name in ("notebooks", "data/sources/examples"):
            hidden = shutil.ignore_patterns(".*")
            shutil.copytree(home / name, folder / name, dirs_exist_ok=True, ignore=hidden, copy_function=_copy_new)
    out.print(
        f"{folder} is a workspace. Put an export into data/raw/, describe it in data/sources/<name>.yml "
        "(see data/sources/examples/), then: aftersales ingest",
        markup=False,
        soft_wrap=True,
    )


@app.command()
def demo(
    workspace: WorkspaceOption = None,
    rows: Annotated[int, typer.Option("--rows", min=1000, help="About this many tickets.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Another seed makes another world.")] = 20_220_401,
    json_: JsonOption = False,
) -> None:
    """Write the demo world's files into data/demo; the same arguments give the same files.

    Example: aftersales demo --rows 20000
    """
    from aftersales.demo import write_demo

    place = open_workspace(workspace).root / "data" / "demo"
    with err.status("making the demo world"):
        truth = write_demo(place, tickets=rows, seed=seed)
    files = sorted(path.name for path in place.iterdir() if path.is_file())
    if json_:
        _print_json({"folder": str(place), "files": files, "tickets": truth["tickets"], "units": truth["units"]})
        return
    out.print(
        f"demo world: {truth['units']:,} units, {truth['tickets']:,} tickets in {len(files)} files -> {place}",
        markup=False,
        soft_wrap=True,
    )


# ------------------------------------------------------------------------------------------------------- collect


@app.command()
def ingest(
    sources: Annotated[
        list[str] | None, typer.Argument(help="Names of the catalogue, or paths of source YAMLs; all when absent.")
    ] = None,
    files: Annotated[
        str | None, typer.Option("--files", help="Glob that replaces the one in the YAML (one source only).")
    ] = None,
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Load what the sources delivered; the same file again changes nothing.

    Example: aftersales ingest hotline
    Example: aftersales ingest data/sources/examples/nhtsa_complaints.yml --files 'downloads/*.csv.gz'
    """
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    from aftersales.collect.ingest import ingest_source

    place = open_workspace(workspace)
    wanted = _wanted_sources(place, sources or [])
    if files and len(wanted) != 1:
        raise ParameterError("--files", f"goes with one source, {len(wanted)} were named", fix="name one source")
    records: list[dict[str, Any]] = []
    with Progress(
        SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), console=err, transient=True
    ) as progress:
        task = progress.add_task("ingest", total=len(wanted))
        for source in wanted:
            progress.update(task, description=source.name)
            for deliveries in ingest_source(place, source, files=files):
                records += [delivery.record() for delivery in deliveries]
            progress.advance(task)
    if json_:
        _print_json(records)
        return
    counts = {name: name for name in ("accepted", "rejected", "duplicate")}
    shown = {"source_file": "file", "table": "table", "rows_read": "read", **counts}
    shown |= {"inserted": "new", "corrected": "corrected", "skipped": "skipped"}
    _print_rows(records, shown)
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
def status(workspace: WorkspaceOption = None, json_: JsonOption = False) -> None:
    """What has been loaded: rows by source, tables with versions, freshness.

    Example: aftersales status --json
    """
    from aftersales.collect.ledger import fresh_sources, latest_deliveries, set_aside
    from aftersales.collect.mapping import catalogue

    place = open_workspace(workspace)
    with _snapshot(place) as (snapshot, as_of):
        ledger = latest_deliveries(snapshot)
        reasons = set_aside(snapshot)
        tables = [
            {"table": name, "version": version, "rows": int(snapshot.connection.execute(snapshot.table(name).count()))}
            for name, version in snapshot.versions.items()
        ]
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
    }
    if json_:
        _print_json(report)
        return
    out.print(f"workspace {place.root}, as of {as_of:%Y-%m-%d}", markup=False, soft_wrap=True)
    _print_rows(by_source, ["source", "table", *counts[:5]])
    out.print()
    _print_rows(tables)
    if len(reasons):
        out.print()
        _print_rows(reasons.head(10).to_dict("records"), ["source", "reason", "kind", "rows"])


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
    _print_json(rows) if json_ else _print_rows(rows)


@app.command()
def check(workspace: WorkspaceOption = None, json_: JsonOption = False) -> None:
    """Read every YAML of the workspace and every file its sources name, and load nothing; all problems at once.

    Example: aftersales check
    """
    from aftersales.collect.connectors.files import matching_files
    from aftersales.collect.mapping import read_source
    from aftersales.measure.definitions import metrics
    from aftersales.publish.sidecars import page_names, read_sidecar

    place = open_workspace(workspace)
    problems: list[str] = []
    checked: list[str] = [FILE_NAME]

    def attempt(name: str, action: Any) -> None:
        checked.append(name)
        try:
            action()
        except AftersalesError as error:
            problems.append(str(error))

    for path in sorted(place.sources.glob("*.yml")):
        attempt(f"source {path.stem}", lambda path=path: matching_files(read_source(path, place), place.root))
    attempt("metric dictionary", metrics)
    for page in page_names(place):
        attempt(f"page {page}", lambda page=page: read_sidecar(place, page))
    if json_:
        _print_json({"checked": checked, "problems": problems})
    else:
        for problem in problems:
            err.print(problem, style="red", markup=False, soft_wrap=True)
        out.print(f"{len(checked)} checked, {len(problems)} with problems")
    if problems:
        raise typer.Exit(1)


# ------------------------------------------------------------------------------------------------------- metrics


@metric_app.command("list")
def metric_list(json_: JsonOption = False) -> None:
    """All metrics with unit and version.

    Example: aftersales metric list
    """
    from aftersales.measure.definitions import metrics

    rows = [
        {
            "metric": name,
            "name": item.name,
            "name_zh": item.name_zh,
            "unit": item.unit,
            "better": item.better,
            "version": item.version,
        }
        for name, item in metrics().items()
    ]
    _print_json(rows) if json_ else _print_rows(rows)


@metric_app.command("show")
def metric_show(
    name: Annotated[str, typer.Argument(help="Metric, e.g. complaint_rate.")], json_: JsonOption = False
) -> None:
    """The definition of one metric.

    Example: aftersales metric show complaint_rate
    """
    from aftersales.measure.definitions import metric

    definition = metric(name)
    record = {"metric": name, **definition.model_dump(exclude_defaults=True), "version": definition.version}
    _print_json(record) if json_ else _print_rows([{"key": key, "value": str(value)} for key, value in record.items()])


@metric_app.command("compute")
def metric_compute(
    name: Annotated[str, typer.Argument(help="Metric, e.g. complaint_rate.")],
    by: Annotated[str, typer.Option("--by", help="Dimensions, separated by commas.")] = "",
    where: Annotated[list[str] | None, typer.Option("--where", help="dimension=value; several times.")] = None,
    period: Annotated[str, typer.Option(help="month, quarter or year: one row each.")] = "",
    start: Annotated[str, typer.Option(help="First day, YYYY-MM-DD.")] = "",
    end: Annotated[str, typer.Option(help="Day after the last.")] = "",
    as_of: Annotated[str, typer.Option(help="What was known at the end of this day.")] = "",
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """A metric per group, each row with count, base, value, 95 % interval and ripeness.

    Example: aftersales metric compute complaint_rate --by model,batch --json
    """
    from aftersales.measure.compute import compute

    if period not in ("", "month", "quarter", "year"):
        raise ParameterError("--period", f"'{period}' is none of month, quarter, year", fix="use one of them")
    names = [part.strip() for part in by.split(",") if part.strip()]
    with _snapshot(open_workspace(workspace), as_of) as (snapshot, moment):
        result = compute(
            snapshot,
            name,
            names,
            as_of=moment,
            where=_filters(where or []),
            start=_day(start, "start"),
            end=_day(end, "end"),
            period=period or None,  # type: ignore[arg-type]
        )
    days = {"period": [str(day)[:10] for day in result.rows["period"]]} if "period" in result.rows else {}
    rows = json.loads(result.rows.assign(**days).to_json(orient="records", date_format="iso", double_precision=15))
    if json_:
        _print_json(rows)
    elif result.state == "ok":
        _print_rows(rows)
    for note, _ in dict.fromkeys(result.notes):
        err.print(f"note: {note}", style="dim", markup=False)
    if result.state != "ok":
        err.print(f"{name}: {result.reason}", style="yellow", markup=False, soft_wrap=True)
        raise typer.Exit(1)


def _filters(pairs: list[str], option: str = "--where") -> dict[str, list[str]]:
    """`name=value` texts as name -> values."""
    found: dict[str, list[str]] = {}
    for pair in pairs:
        name, sign, value = pair.partition("=")
        if not sign:
            raise ParameterError(option, f"'{pair}' has no =", fix="write NAME=VALUE")
        found.setdefault(name.strip(), []).append(value)
    return found


# ------------------------------------------------------------------------------------------------------- actions


@action_app.command("list")
def action_list(workspace: WorkspaceOption = None, json_: JsonOption = False) -> None:
    """Actions of the register.

    Example: aftersales action list
    """
    from dataclasses import asdict

    from aftersales.improve.actions import list_actions
    from aftersales.lake.register import open_register

    with open_register(open_workspace(workspace)) as register:
        rows = [asdict(action) for action in list_actions(register)]
    _print_json(rows) if json_ else _print_rows(
        rows, ["action_id", "title", "owner", "state", "implemented_at", "review_at"]
    )


@action_app.command("show")
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
        _print_json({**record, "history": history})
        return
    _print_rows([{"key": key, "value": str(value)} for key, value in record.items()])
    out.print()
    _print_rows(history, ["changed_at", "changed_by", "field", "old", "new"])


@action_app.command("add")
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
        "due_at": _day(due, "due"),
        "implemented_at": _day(implemented, "implemented"),
        "state": "implemented" if implemented else "proposed",
    }
    if group:
        dimension, value = _pair(group, "group")
        cut, first = _pair(before, "before")
        values["scope"] = Scope(dimension, value, cut, tuple(first.split(";")), tuple(after.split(";")))
    with open_register(open_workspace(workspace)) as register:
        action = add_action(register, action_id, title=title, who=_who(), now=_now(), **values)
    out.print(f"{action.action_id} added, version {action.version}", markup=False)


def _pair(text: str, name: str) -> tuple[str, str]:
    left, sign, right = text.partition("=")
    if not sign or not left or not right:
        raise ParameterError(f"--{name}", f"'{text}' is no dimension=value", fix=f"write --{name} supplier=S07")
    return left, right


@action_app.command("import")
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
        done = import_actions(register, path, _who(), _now())
    if json_:
        _print_json(asdict(done))
    else:
        out.print(
            f"{done.rows_read} read: {len(done.added)} added, {len(done.changed)} changed, "
            f"{len(done.unchanged)} unchanged"
        )


# ------------------------------------------------------------------------------------------------------- reports


@report_app.command("run")
def report_run(
    pages: Annotated[list[str] | None, typer.Argument(help="Pages; all when absent.")] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("-p", "--parameter", metavar="NAME=VALUE", help="Parameter of the page; several times."),
    ] = None,
    if_changed: Annotated[
        bool, typer.Option("--if-changed", help="Skip a page whose newest run would come out the same.")
    ] = False,
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Run pages and keep notebook, HTML and run.json.

    Example: aftersales report run root_cause -p model=L1 -p lang=zh
    """
    from aftersales.publish.reports import report_names, run_report, unchanged_run
    from aftersales.publish.sidecars import parameters_from_texts, read_sidecar

    place = open_workspace(workspace)
    given = _filters(parameters or [], "--parameter")
    names = pages or report_names(place)
    checked = {page: parameters_from_texts(read_sidecar(place, page), given) for page in names}
    runs = []
    for page, values in checked.items():
        same = unchanged_run(place, page, values) if if_changed else None
        if same:
            if not json_:
                out.print(
                    f"{page}: unchanged since {same['started_at']} -> {Path(same['folder']) / 'report.html'}",
                    markup=False,
                    soft_wrap=True,
                )
            continue
        with err.status(f"running {page}"):
            run = run_report(place, page, values, started_by=_who())
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
        _print_json([{**run.record(), "folder": run.folder} for run in runs])
    if any(run.state == "failed" for run in runs):
        raise typer.Exit(3)
    if any(run.state == "refused" for run in runs):
        raise typer.Exit(1)


@report_app.command("list")
def report_list(
    page: Annotated[str | None, typer.Argument(help="Only this page.")] = None,
    pages: Annotated[bool, typer.Option("--pages", help="List the pages instead of runs.")] = False,
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Runs, newest first.

    Example: aftersales report list --json
    """
    from aftersales.publish.reports import list_runs
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
        _print_json(rows) if json_ else _print_rows(rows)
        return
    runs = list_runs(place, page)
    _print_json(runs) if json_ else _print_rows(runs, ["run_id", "page", "state", "reason", "started_at", "seconds"])


@report_app.command("show")
def report_show(
    run_id: Annotated[str, typer.Argument(help="A run id, 'latest' or 'latest:PAGE'.")],
    workspace: WorkspaceOption = None,
) -> None:
    """The record of one run.

    Example: aftersales report show latest:root_cause
    """
    from aftersales.publish.reports import find_run

    _print_json(find_run(open_workspace(workspace), run_id))


# ------------------------------------------------------------------------------------------------------- serving


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8866,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Serve the pages on 127.0.0.1 until interrupted.

    Example: aftersales serve --port 8866 --open
    """
    from aftersales.publish.serving import voila_command

    place = open_workspace(workspace)
    command, environment = voila_command(
        place.notebooks, port=port, cache=place.cache / "jupyter", open_browser=open_browser
    )
    err.print(f"pages of {place.root} at http://127.0.0.1:{port}/  (Ctrl-C ends)", markup=False, soft_wrap=True)
    os.execve(command[0], command, {**environment, WORKSPACE_VARIABLE: str(place.root)})


@app.command()
def lab(
    workspace: WorkspaceOption = None,
    arguments: Annotated[list[str] | None, typer.Argument(help="Further arguments for JupyterLab, after --.")] = None,
) -> None:
    """Open JupyterLab on the workspace, on 127.0.0.1.

    Example: aftersales lab -- --no-browser
    """
    from aftersales.publish.serving import jupyter_path

    place = open_workspace(workspace)
    environment = {
        **os.environ,
        "JUPYTER_PATH": jupyter_path(place.cache / "jupyter"),
        WORKSPACE_VARIABLE: str(place.root),
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.root_dir={place.root}",
        *(arguments or []),
    ]
    os.execve(command[0], command, environment)


if __name__ == "__main__":
    main()
