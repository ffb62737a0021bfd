"""Commands of data quality: quality, quarantine, codes, tags."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer
import typer.core

from aftersales.cli.console import (
    JsonOption,
    WorkspaceOption,
    day_option,
    out,
    pinned_lake,
    print_json,
    print_rows,
)
from aftersales.model.errors import ParameterError, known_names
from aftersales.model.settings import Workspace, open_workspace

if TYPE_CHECKING:
    import pandas as pd

    from aftersales.collect.mapping import Source

app = typer.Typer()


class _ListByDefault(typer.core.TyperGroup):
    """`codes repairs` is `codes list repairs`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        first = next(iter(args), "")
        return super().parse_args(ctx, args if first in self.commands or first == "--help" else ["list", *args])


codes_app = typer.Typer(cls=_ListByDefault, help="Code lists: coverage, unmapped values, accepting a meaning.")

SourceArgument = Annotated[str | None, typer.Argument(help="Only this source.", show_default=False)]


def records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows of a table as plain values, not-a-number as nothing."""
    days = {name: frame[name].map(str) for name in ("period", "day") if name in frame}
    return list(json.loads(frame.assign(**days).to_json(orient="records", date_format="iso", double_precision=15)))


def check_source(name: str | None, sources: dict[str, Source]) -> None:
    """The source exists.

    Raises
    ------
    ParameterError
        It does not; the message lists the known ones.
    """
    if name is not None and name not in sources:
        raise ParameterError("source", f"no source '{name}'", rows=known_names(sources, 40), fix="use one of them")


@app.command()
def quality(
    source: SourceArgument = None,
    weeks: Annotated[int, typer.Option(help="Volume of the last weeks.", min=1)] = 4,
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Scores of every source, checks that fail, and days with an implausible number of rows.

    Example: aftersales quality hotline
    """
    from aftersales.collect.checks import check_results, table_checks
    from aftersales.collect.mapping import catalogue
    from aftersales.collect.quality import score_history, scores
    from aftersales.collect.volume import odd_periods

    place = open_workspace(workspace)
    sources = catalogue(place)
    check_source(source, sources)
    with pinned_lake(place) as (snapshot, _):
        found = {
            "scores": scores(snapshot),
            "checks": check_results(snapshot, table_checks(place)),
            "history": score_history(snapshot),
            "volume": odd_periods(snapshot, [source] if source else list(sources), weeks=weeks),
        }
    if source:
        found = {name: frame[frame["source"] == source] for name, frame in found.items()}
    if json_:
        print_json({name: records(frame) for name, frame in found.items()})
        return
    print_rows(records(found["scores"]), ["source", "dimension", "score", "good", "base", "gate", "state", "weakest"])
    failing = found["checks"][found["checks"]["state"].isin(["failing", "cannot_tell"])]
    out.print(f"\n{len(found['checks']):,} checks, {len(failing):,} with findings")
    if len(failing):
        shown = ["source", "table", "kind", "column", "rule", "n_failing", "n_checked", "share", "state", "examples"]
        print_rows(records(failing), shown)
    out.print(f"\nvolume of the last {weeks} weeks: {len(found['volume']):,} implausible days")
    if len(found["volume"]):
        print_rows(records(found["volume"]), ["source", "period", "rows", "expected", "low", "high", "state"])


def quality_problems(place: Workspace) -> list[str]:
    """What is wrong with the rows in the lake: scores below their gate, and checks that surely fail."""
    from aftersales.collect.checks import check_results, table_checks
    from aftersales.collect.quality import TITLES, scores
    from aftersales.measure.gates import percent

    with pinned_lake(place) as (snapshot, _):
        judged, found = scores(snapshot), check_results(snapshot, table_checks(place))
    low, failing = judged[judged["state"] == "below_gate"], found[found["state"] == "failing"]
    return [
        f"quality of {row['source']}: {TITLES[row['dimension']][0]} {percent(row['score'], row['gate'])} < "
        f"{row['gate']:.0%}\n  rows : {row['base'] - row['good']:,} of {row['base']:,}, most in {row['weakest']}\n"
        f"  fix  : aftersales quality {row['source']}".replace("%", " %")
        for row in low.to_dict("records")
    ] + [
        f"check of {row['source']}: {row['table']}.{row['column']} {row['kind']} {row['rule']}: "
        f"{row['n_failing']:,} of {row['n_checked']:,} rows fail\n  rows : {', '.join(row['examples'])}\n"
        f"  fix  : mend the source, or the check in {place.settings.folders.quality}/{row['table']}.yml"
        for row in failing.to_dict("records")
    ]


@app.command()
def quarantine(
    source: SourceArgument = None,
    reason: Annotated[str, typer.Option(help="Only with this reason, or one of this column.")] = "",
    limit: Annotated[int, typer.Option(help="At most so many entries.", min=1)] = 50,
    released: Annotated[bool, typer.Option("--released", help="Those that came through later.")] = False,
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Rows and values that were set aside: the file and row, every reason, the raw row.

    Example: aftersales quarantine hotline --reason closed_at --limit 10
    """
    from aftersales.collect.ledger import quarantine as entries
    from aftersales.collect.mapping import catalogue

    place = open_workspace(workspace)
    check_source(source, catalogue(place))
    with pinned_lake(place) as (snapshot, _):
        found = entries(snapshot, source, reason=reason or None, limit=limit, released=released)
    if json_:
        print_json(records(found))
        return
    shown = {"source_file": "file", "source_row": "row", "table": "table", "kind": "kind", "reasons": "reasons"}
    shown |= {"outcome": "outcome", "released_at": "released"} if released else {"raw": "raw"}
    rows = [{**row, "reasons": ", ".join(row["reasons"]), "raw": (row["raw"] or "")[:200]} for row in records(found)]
    print_rows(rows, shown)


@codes_app.command("list")
def codes_list(
    source: SourceArgument = None,
    unmapped: Annotated[bool, typer.Option("--unmapped", help="The values that the lists lack.")] = False,
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Coverage of every code list, or the values it lacks, each with what it probably means.

    Example: aftersales codes list repairs --unmapped
    """
    from aftersales.collect.codes import coverage
    from aftersales.collect.codes import unmapped as unmapped_values
    from aftersales.collect.mapping import catalogue

    place = open_workspace(workspace)
    sources = catalogue(place)
    check_source(source, sources)
    with pinned_lake(place) as (snapshot, _):
        found = unmapped_values(snapshot, sources, place, source=source) if unmapped else coverage(snapshot, source)
    if json_:
        print_json(records(found))
        return
    if unmapped:
        shown = ["source", "table", "column", "value", "rows", "otherwise", "suggestion", "score", "because"]
        print_rows(records(found), shown)
        out.print("accept one: aftersales codes accept SOURCE COLUMN VALUE TARGET", style="dim", markup=False)
    else:
        print_rows(records(found), ["source", "table", "column", "map", "good", "base", "share", "low", "high"])


@codes_app.command("accept")
def codes_accept(
    source: Annotated[str, typer.Argument(help="Source, e.g. repairs.")],
    column: Annotated[str, typer.Argument(help="Column, e.g. fault_code, or table.column.")],
    value: Annotated[str, typer.Argument(help="The value as the source writes it.")],
    target: Annotated[str, typer.Argument(help="What it means.")],
    since: Annotated[str, typer.Option("--from", help="First day of this meaning, YYYY-MM-DD.")] = "",
    new: Annotated[bool, typer.Option("--new", help="A target the list does not have yet.")] = False,
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Append a meaning to the code list of a column; rows set aside come in with `aftersales ingest --replay`.

    Example: aftersales codes accept repairs fault_code 漏液了 battery_leakage
    """
    from aftersales.collect.codes import accept_code
    from aftersales.collect.mapping import catalogue

    place = open_workspace(workspace)
    sources = catalogue(place)
    check_source(source, sources)
    first = day_option(since, "from")
    path = accept_code(place, sources[source], column, value, target, since=first, new_target=new)
    shown = str(path.relative_to(place.root)) if path.is_relative_to(place.root) else str(path)
    if json_:
        print_json({"file": shown, "source_value": value, "target_value": target, "valid_from": since or None})
        return
    out.print(f"{shown}: {value} -> {target}{f' from {since}' if since else ''}", markup=False)
    out.print(f"next: aftersales ingest --replay {source}", style="dim", markup=False)


@app.command()
def tags(
    since: Annotated[str, typer.Option(help="Tickets opened from this day on, YYYY-MM-DD.")] = "",
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Problem tags of service staff: unknown and retired ones, coverage and consistency per team.

    Example: aftersales tags --since 2025-01-01
    """
    from aftersales.collect.tags import read_tags, tag_consistency, tag_coverage, tag_findings, tagged_tickets

    place = open_workspace(workspace)
    dictionary, first = read_tags(place), day_option(since, "since")
    with pinned_lake(place) as (snapshot, _):
        tagged = tagged_tickets(snapshot, dictionary)
        tagged = tagged[tagged["day"] >= first] if first else tagged
        found = {
            "findings": tag_findings(tagged, dictionary),
            "coverage": tag_coverage(snapshot, tagged, since=first),
            "consistency": tag_consistency(tagged),
        }
    if json_:
        print_json({name: records(frame) for name, frame in found.items()})
        return
    for name, frame in found.items():
        out.print(f"{name}:", style="bold")
        print_rows(records(frame))
        out.print()
