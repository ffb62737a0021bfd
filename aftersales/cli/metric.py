"""`aftersales metric`: the dictionary."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from aftersales.cli.console import (
    AsRoleOption,
    AsUserOption,
    JsonOption,
    WorkspaceOption,
    day_option,
    err,
    name_values,
    pinned_lake,
    print_json,
    print_rows,
)
from aftersales.model.errors import ParameterError
from aftersales.model.settings import open_workspace

if TYPE_CHECKING:
    pass

app = typer.Typer(no_args_is_help=True, help="Metrics of the dictionary.")


@app.command("list")
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
    print_json(rows) if json_ else print_rows(rows)


@app.command("show")
def metric_show(
    name: Annotated[str, typer.Argument(help="Metric, e.g. complaint_rate.")], json_: JsonOption = False
) -> None:
    """The definition of one metric.

    Example: aftersales metric show complaint_rate
    """
    from aftersales.measure.definitions import metric

    definition = metric(name)
    record = {"metric": name, **definition.model_dump(exclude_defaults=True), "version": definition.version}
    print_json(record) if json_ else print_rows([{"key": key, "value": str(value)} for key, value in record.items()])


@app.command("compute")
def metric_compute(
    name: Annotated[str, typer.Argument(help="Metric, e.g. complaint_rate.")],
    by: Annotated[str, typer.Option("--by", help="Dimensions, separated by commas.")] = "",
    where: Annotated[list[str] | None, typer.Option("--where", help="dimension=value; several times.")] = None,
    period: Annotated[str, typer.Option(help="month, quarter or year: one row each.")] = "",
    start: Annotated[str, typer.Option(help="First day, YYYY-MM-DD.")] = "",
    end: Annotated[str, typer.Option(help="Day after the last.")] = "",
    as_of: Annotated[str, typer.Option(help="What was known at the end of this day.")] = "",
    as_role: AsRoleOption = "",
    as_user: AsUserOption = "",
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
    place, purpose = open_workspace(workspace), "metric compute"
    with pinned_lake(place, as_of, as_role=as_role, as_user=as_user, purpose=purpose) as (snapshot, moment):
        result = compute(
            snapshot,
            name,
            names,
            as_of=moment,
            where=name_values(where or []),
            start=day_option(start, "start"),
            end=day_option(end, "end"),
            period=period or None,  # type: ignore[arg-type]
        )
    days = {"period": [str(day)[:10] for day in result.rows["period"]]} if "period" in result.rows else {}
    rows = json.loads(result.rows.assign(**days).to_json(orient="records", date_format="iso", double_precision=15))
    if json_:
        print_json(rows)
    elif result.state == "ok":
        print_rows(rows)
    for note, _ in dict.fromkeys(result.notes):
        err.print(f"note: {note}", style="dim", markup=False)
    if result.state != "ok":
        err.print(f"{name}: {result.reason}", style="yellow", markup=False, soft_wrap=True)
        raise typer.Exit(1)
