"""Problem tags entered by service staff: are they in the dictionary, on how many tickets, and do people agree?

The dictionary is a CSV in `data/reference/` (`problem_tags.csv`): tag, name_en, name_zh, group, definition, valid_from,
valid_to, replaced_by. What staff entered lies in the table `tag` (tag_set `problem`, one row per ticket and tag).
"""

from __future__ import annotations

import csv
import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from aftersales.collect.codes import suggestions
from aftersales.collect.mapping import folded
from aftersales.lake.store import Snapshot
from aftersales.model.errors import SettingsError, known_names
from aftersales.model.settings import Workspace
from aftersales.model.statistics import agreement_alpha, share_interval

DICTIONARY = "problem_tags.csv"
TAG_SET = "problem"
COLUMNS = ("tag", "name_en", "name_zh", "group", "definition", "valid_from", "valid_to", "replaced_by")
LEAST_TICKETS = 30
"""Of fewer tickets than these a team's share or agreement cannot be told yet."""


@dataclass(frozen=True)
class ProblemTag:
    """One tag of the dictionary, with the first and last day on which it is to be used."""

    tag: str
    name_en: str
    name_zh: str
    group: str
    definition: str
    valid_from: dt.date = dt.date.min
    valid_to: dt.date = dt.date.max
    replaced_by: str = ""

    def state_on(self, day: dt.date) -> str:
        """`valid`, `retired` or `not_yet`."""
        return "not_yet" if day < self.valid_from else "retired" if day > self.valid_to else "valid"


def read_tags(workspace: Workspace, name: str = DICTIONARY) -> dict[str, ProblemTag]:
    """The tag dictionary by folded tag (no blanks around, narrow, lower case); empty where there is no file.

    Raises
    ------
    SettingsError
        A column is missing, a tag stands there twice, a day is none, or `replaced_by` names no tag: all at once.
    """
    path = workspace.reference / name
    if not path.exists():
        return {}
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        lines = [(reader.line_num, row) for row in reader]
        header = reader.fieldnames or []
    if missing := [column for column in ("tag", "name_en", "name_zh") if column not in header]:
        raise SettingsError(name, f"lacks the columns {', '.join(missing)}", rows=", ".join(header), fix="add them")
    found: dict[str, ProblemTag] = {}
    problems: list[str] = []
    for line, row in lines:
        try:
            tag = _tag({column: (row.get(column) or "").strip() for column in COLUMNS})
        except ValueError as error:
            problems.append(f"line {line}: {error}")
            continue
        if folded(tag.tag) in found:
            problems.append(f"line {line}: '{tag.tag}' stands there twice")
        found.setdefault(folded(tag.tag), tag)
    problems += [
        f"'{tag.tag}' is replaced by '{tag.replaced_by}', which is no tag"
        for tag in found.values()
        if tag.replaced_by and folded(tag.replaced_by) not in found
    ]
    if problems:
        raise SettingsError(
            name, f"{len(problems)} problems", rows="\n         ".join(problems),
            fix=f"mend the lines; {known_names([tag.tag for tag in found.values()], 30)}",
        )  # fmt: skip
    return found


def _tag(row: Mapping[str, str]) -> ProblemTag:
    if not row["tag"]:
        raise ValueError("no tag")
    since = dt.date.fromisoformat(row["valid_from"]) if row["valid_from"] else dt.date.min
    until = dt.date.fromisoformat(row["valid_to"]) if row["valid_to"] else dt.date.max
    if until < since:
        raise ValueError(f"'{row['tag']}' ends {until} before it begins {since}")
    plain = {key: row[key] for key in ("tag", "name_en", "name_zh", "group", "definition", "replaced_by")}
    return ProblemTag(**plain, valid_from=since, valid_to=until)


def tagged_tickets(snapshot: Snapshot, tags: Mapping[str, ProblemTag], tag_set: str = TAG_SET) -> pd.DataFrame:
    """One row per ticket and tag: ticket_id, team, day (opened, at the site), code, tag, state.

    `code` is the failure mode of the ticket, else its symptom. `state` is `valid`, `unknown` (not in the dictionary),
    `retired` or `not_yet` (by the day the ticket was opened).
    """
    labels, tickets = snapshot.table("tag"), snapshot.table("ticket")
    labels = labels.filter((labels.source_table == "ticket") & (labels.tag_set == tag_set)).distinct()
    seen = tickets.select(
        "ticket_id",
        "team",
        day=snapshot.site_time(tickets.created_at).date(),
        code=tickets.fault_code.fill_null(tickets.symptom_code),
    )
    joined = labels.select("tag", ticket_id=labels.source_id).distinct().inner_join(seen, "ticket_id")
    found = snapshot.connection.execute(joined.select("ticket_id", "team", "day", "code", "tag"))
    found["day"] = pd.to_datetime(found["day"]).dt.date
    pairs = found[["tag", "day"]].drop_duplicates()
    states = {(tag, day): _state(tags.get(folded(tag)), day) for tag, day in pairs.itertuples(index=False)}
    found["state"] = [states[pair] for pair in zip(found["tag"], found["day"], strict=True)]
    return found


def _state(tag: ProblemTag | None, day: dt.date) -> str:
    return "unknown" if tag is None else tag.state_on(day)


def tag_findings(tagged: pd.DataFrame, tags: Mapping[str, ProblemTag]) -> pd.DataFrame:
    """Tags that are not to be used, most frequent first: tag, state, tickets, example, suggestion.

    `tagged` comes from `tagged_tickets`; `suggestion` is what replaces a retired tag, or what an unknown one resembles.
    """
    wrong = tagged[tagged["state"] != "valid"]
    found = wrong.groupby(["tag", "state"], as_index=False).agg(
        tickets=("ticket_id", "nunique"), example=("ticket_id", "min")
    )
    words = {word: tag.tag for tag in tags.values() for word in (tag.tag, tag.name_en, tag.name_zh) if word}
    found["suggestion"] = [_instead(tag, tags, words) for tag in found["tag"]]
    return found.sort_values(["tickets", "tag"], ascending=[False, True], ignore_index=True)


def _instead(text: str, tags: Mapping[str, ProblemTag], words: Mapping[str, str]) -> str:
    if known := tags.get(folded(text)):
        return known.replaced_by
    return next((found.target for found in suggestions(text, words)), "")


def tag_coverage(snapshot: Snapshot, tagged: pd.DataFrame, *, since: dt.date | None = None) -> pd.DataFrame:
    """Share of each team's tickets with at least one valid tag: team, tickets, tagged, share, low, high, state.

    Counted are the tickets opened from `since` on, else from the day of the first tagged ticket on: before there were
    tags nobody could enter them. `state` is `ok`, or `cannot_tell` below 30 tickets.
    """
    columns = ["team", "tickets", "tagged", "share", "low", "high", "state"]
    if tagged.empty and since is None:
        return pd.DataFrame(columns=columns)
    first = since or min(tagged["day"])
    tickets = snapshot.table("ticket")
    tickets = tickets.filter(tickets.created_at >= snapshot.midnight(first))
    found = snapshot.connection.execute(tickets.group_by("team").aggregate(tickets=tickets.count()))
    valid = tagged[(tagged["state"] == "valid") & (tagged["day"] >= first)]
    having = valid.groupby("team", dropna=False)["ticket_id"].nunique()
    found["tagged"] = [int(having.get(team, 0)) for team in found["team"]]
    found["share"] = found["tagged"] / found["tickets"]
    found["low"], found["high"] = share_interval(found["tagged"], found["tickets"])
    found["state"] = ["ok" if n >= LEAST_TICKETS else "cannot_tell" for n in found["tickets"]]
    return found.sort_values(["share", "team"], ignore_index=True)[columns]


def tag_consistency(tagged: pd.DataFrame) -> pd.DataFrame:
    """How consistently each team tags tickets of one failure code, within the team and with the others.

    Returns
    -------
    team, codes and tickets (those with a code and a valid tag), alpha, agreeing (tickets that carry the tags most
    frequent on their code among all other teams), compared, agreement with low and high (95 %), state. `alpha` is
    Krippendorff's for nominal codes: the failure code is what is coded, each ticket one coding, its set of tags the
    code; 1 is perfect, 0 is no better than chance. `state` is `ok`, or `cannot_tell` below 30 tickets or where all
    tags are the same.
    """
    columns = ["team", "codes", "tickets", "alpha", "agreeing", "compared", "agreement", "low", "high", "state"]
    valid = tagged[(tagged["state"] == "valid") & tagged["code"].notna() & tagged["team"].notna()]
    if valid.empty:
        return pd.DataFrame(columns=columns)
    sets = valid.assign(tag=valid["tag"].map(folded)).sort_values("tag").groupby(["team", "code", "ticket_id"])["tag"]
    combined = sets.agg(" + ".join).reset_index()
    counts = combined.groupby(["team", "code", "tag"]).size().unstack("tag", fill_value=0)
    total = counts.groupby(level="code").sum()
    records = []
    for team, own in counts.groupby(level="team"):
        own = own.droplevel("team")
        mine, others = own.to_numpy(), (total.loc[own.index] - own).to_numpy()
        having = others.sum(axis=1) > 0
        usual = mine[np.arange(len(mine)), others.argmax(axis=1)]
        records.append(
            {
                "team": team,
                "codes": len(own),
                "tickets": int(mine.sum()),
                "alpha": agreement_alpha(mine),
                "agreeing": int(usual[having].sum()),
                "compared": int(mine[having].sum()),
            }
        )
    found = pd.DataFrame(records)
    found["agreement"] = found["agreeing"] / found["compared"].where(found["compared"] > 0)
    found["low"], found["high"] = share_interval(found["agreeing"], found["compared"])
    told = (found["tickets"] >= LEAST_TICKETS) & found["alpha"].notna()
    found["state"] = ["ok" if known else "cannot_tell" for known in told]
    return found.sort_values(["alpha", "team"], ignore_index=True, na_position="last")[columns]
