"""`aftersales duplicates`: probable duplicates, proposed by a search, decided by people; and how the keys meet."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from aftersales.cli.console import (
    JsonOption,
    WorkspaceOption,
    now,
    out,
    pinned_lake,
    print_json,
    print_rows,
    who,
)
from aftersales.model.settings import open_workspace

if TYPE_CHECKING:
    pass

app = typer.Typer(no_args_is_help=True, help="Probable duplicate tickets: proposed, reviewed, never merged silently.")


@app.command("find")
def find(
    days: Annotated[float, typer.Option(help="How far apart two tickets may be.")] = 7.0,
    threshold: Annotated[float, typer.Option(help="Points from which a pair is proposed, up to 100.")] = 70.0,
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Look for tickets of one customer or unit that tell the same within days; new pairs go to the register.

    Example: aftersales duplicates find --days 3
    """
    from aftersales.collect.identity import DuplicateRules, find_duplicates, propose
    from aftersales.lake.register import open_register

    place = open_workspace(workspace)
    rules = DuplicateRules(within_days=days, threshold=threshold)
    with pinned_lake(place, purpose="duplicates find") as (snapshot, _):
        snapshot.check_rows("ticket")
        found = find_duplicates(snapshot, rules)
    with open_register(place) as register:
        new = propose(register, found.pairs, who=who(), now=now())
    counts = {
        "tickets": found.tickets,
        "compared": found.compared,
        "crowded": found.crowded,
        "pairs": len(found.pairs),
        "new": new,
    }
    if json_:
        print_json({**counts, "rules": asdict(rules), "found": found.pairs.to_dict("records")})
        return
    out.print(
        f"{found.tickets:,} tickets, {found.compared:,} pairs compared: {len(found.pairs):,} probable duplicates, "
        f"{new:,} of them new. Review them: aftersales duplicates list"
    )
    if found.crowded:
        out.print(f"{found.crowded:,} tickets share a key with too many others to be compared with all", style="dim")


@app.command("list")
def list_(
    state: Annotated[str, typer.Option(help="open, same, different, unsure or all.")] = "open",
    limit: Annotated[int, typer.Option(min=1, help="At most so many.")] = 50,
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Proposed pairs, best first: ids, score and evidence, no text.

    Example: aftersales duplicates list --state unsure
    """
    from aftersales.collect.identity import list_pairs, pairs_seen
    from aftersales.lake.register import open_register

    place = open_workspace(workspace)
    with open_register(place) as register:
        pairs = list_pairs(register, state)
    with pinned_lake(place, purpose="duplicates list") as (snapshot, _):
        pairs = pairs_seen(snapshot, pairs)
    rows: list[dict[str, Any]] = [asdict(pair) for pair in pairs[:limit]]
    if json_:
        print_json(rows)
        return
    for row in rows:
        facts = row["evidence"]
        row["why"] = ", ".join(f"{word} {points:+.0f}" for word, points in facts.get("points", {}).items())
    print_rows(rows, ["pair_id", "left_id", "right_id", "score", "why", "decision", "decided_by"])
    if len(pairs) > limit:
        out.print(f"{len(pairs) - limit:,} more; --limit shows them", style="dim")


@app.command("decide")
def decide_(
    pair: Annotated[str, typer.Argument(help="Id of the pair.")],
    decision: Annotated[str, typer.Argument(help="same, different or unsure.")],
    note: Annotated[str, typer.Option(help="Why; no personal data.")] = "",
    workspace: WorkspaceOption = None,
    json_: JsonOption = False,
) -> None:
    """Decide about one pair; earlier decisions stay in its history.

    Example: aftersales duplicates decide D-0123456789ab same --note "one visit, two channels"
    """
    from aftersales.collect.identity import decide
    from aftersales.lake.register import open_register

    with open_register(open_workspace(workspace)) as register:
        row = asdict(decide(register, pair, decision, who=who(), now=now(), note=note))
    print_json(row) if json_ else out.print(f"{pair}: {row['left_id']} and {row['right_id']} {decision}", markup=False)


@app.command("links")
def links_(workspace: WorkspaceOption = None, json_: JsonOption = False) -> None:
    """How the keys of the tables meet: share resolved, unresolved rows by id, keys that meet several.

    Example: aftersales duplicates links --json
    """
    from aftersales.collect.identity import customers, links

    with pinned_lake(open_workspace(workspace)) as (snapshot, _):
        found, stitched = links(snapshot), customers(snapshot)
    rows, people = (json.loads(table.to_json(orient="records")) for table in (found, stitched))  # missing is null
    if json_:
        print_json({"links": rows, "customers": people})
        return
    shown = [
        {**row, "link": f"{row['table']}.{row['column']} -> {row['target']}", "examples": ", ".join(row["examples"])}
        for row in rows
    ]
    heads = ["link", "rows", "filled", "share_resolved", "unresolved", "near", "ambiguous", "examples"]
    print_rows(shown, heads)
    out.print()
    print_rows(people)
    out.print(
        "near: meets exactly one key once case, width and separators are ignored; ambiguous: meets several.",
        style="dim",
    )
