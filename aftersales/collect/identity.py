"""Who is who: how well the keys of the tables meet, and which tickets are probably one ticket told twice.

Nothing is merged here. A probable duplicate is a pair of tickets with a score and the evidence for it; people decide,
the register keeps every decision, and `confirmed_duplicates` hands the confirmed ones to whoever asks for them.

Candidates come from blocks: tickets of one customer or one unit, each compared with its next `neighbours` tickets
within `within_days`. So the work grows with the number of tickets, not with its square, also where one key stands for
thousands of walk-ins. Text is read for candidates only and never leaves this module: pairs keep ids and scores.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import duckdb
import ibis
import ibis.expr.types as ir
import numpy as np
import pandas as pd
import pyarrow as pa
import sqlalchemy as sa

from aftersales.lake.engine import quoted
from aftersales.lake.register import (
    DUPLICATE_DECISIONS,
    DuplicateDecision,
    DuplicatePair,
    Register,
    UnknownPairError,
)
from aftersales.lake.store import Snapshot
from aftersales.model.errors import ParameterError, known_names
from aftersales.model.tables import canonical_table, canonical_tables

EXAMPLES = 5
TABLE = "ticket"
BLOCKS = ("customer_key", "unit_id")
FACTS = ("customer_key", "unit_id", "product_id", "symptom_code", "ticket_type", "language", "channel")
TEXTS = ("subject", "description")
PAIR_BATCH = 100_000


# ------------------------------------------------------------------------------------------------------- links


def links(snapshot: Snapshot) -> pd.DataFrame:
    """How the keys of the tables meet: one row per column that names a row of another table.

    Columns: table, column, target, rows, filled, resolved, share_resolved (of the filled), unresolved, near (unresolved
    keys that meet exactly one target once case, width, blanks and separators are ignored), ambiguous (that meet
    several), examples (ids of unresolved rows). Links nobody fills are left out.
    """
    found = [
        _link(snapshot, table, column, target)
        for table, column, target in _foreign_keys()
        if snapshot.has_rows(table) and snapshot.has_rows(target)
    ]
    found = [link for link in found if link["filled"]]
    names = ["table", "column", "target", "rows", "filled", "resolved", "share_resolved", "unresolved", "near",
             "ambiguous", "examples"]  # fmt: skip
    return pd.DataFrame(found, columns=names)


def _foreign_keys() -> Iterator[tuple[str, str, str]]:
    """Columns named like the key of another table, and those that name a row of their own table."""
    keys = {table.key: name for name, table in canonical_tables().items()}
    for name, table in canonical_tables().items():
        for column, spec in table.columns.items():
            if spec.type == "id" and column in keys and column != table.key:
                yield name, column, keys[column]
            elif column in ("repeat_of", "duplicate_of"):
                yield name, column, name


def _link(snapshot: Snapshot, table: str, column: str, target: str) -> dict[str, Any]:
    spec = canonical_table(table)
    rows = snapshot.table(table).select(id=spec.key, key=column)
    keys = snapshot.table(target).select(target=canonical_table(target).key).distinct()
    joined = rows.left_join(keys, rows.key == keys.target)
    counts = snapshot.connection.execute(
        joined.aggregate(rows=joined.count(), filled=joined.key.count(), resolved=joined.target.count())
    ).iloc[0]
    open_rows = joined.filter(joined.key.notnull() & joined.target.isnull()).select("id", "key")
    unresolved = int(counts["filled"] - counts["resolved"])
    near, ambiguous, examples = 0, 0, []
    if unresolved:
        near, ambiguous = _folded_matches(snapshot, open_rows, keys)
        examples = snapshot.connection.execute(open_rows.order_by("id").limit(EXAMPLES))["id"].tolist()
    filled, resolved = int(counts["filled"]), int(counts["resolved"])
    return {
        "table": table, "column": column, "target": target, "rows": int(counts["rows"]), "filled": filled,
        "resolved": resolved, "share_resolved": resolved / filled if filled else None, "unresolved": unresolved,
        "near": near, "ambiguous": ambiguous, "examples": examples,
    }  # fmt: skip


def _folded_matches(snapshot: Snapshot, open_rows: ir.Table, keys: ir.Table) -> tuple[int, int]:
    """Unresolved keys that meet exactly one target, and several, when only letters and digits count."""
    wanted = open_rows.select("key").distinct().mutate(folded=_folded(open_rows.select("key").distinct().key))
    offered = keys.mutate(folded=_folded(keys.target))
    met = wanted.inner_join(offered, wanted.folded == offered.folded).group_by("key").aggregate(n=ibis._.count())
    found = snapshot.connection.execute(met)["n"]
    return int((found == 1).sum()), int((found > 1).sum())


def _folded(key: ir.StringValue) -> ir.StringValue:
    return key.upper().re_replace(r"[^\p{L}\p{N}]", "")


def customers(snapshot: Snapshot) -> pd.DataFrame:
    """How customers are stitched over the tables by their pseudonym: one row per table that names customers.

    Columns: table, rows, filled, keys (distinct customers), shared (of them, those another table names too),
    share_shared.
    """
    tables = [
        name
        for name, table in canonical_tables().items()
        if "customer_key" in table.columns and snapshot.has_rows(name)
    ]
    found = []
    for name in tables:
        rows = snapshot.table(name).select("customer_key")
        keys = rows.filter(rows.customer_key.notnull()).distinct()
        others = [snapshot.table(other).select("customer_key") for other in tables if other != name]
        shared = keys.semi_join(ibis.union(*others), "customer_key") if len(others) > 1 else None
        shared = keys.semi_join(others[0], "customer_key") if len(others) == 1 else shared
        counts = snapshot.connection.execute(rows.aggregate(rows=rows.count(), filled=rows.customer_key.count())).iloc[
            0
        ]
        distinct = int(snapshot.connection.execute(keys.count()))
        met = 0 if shared is None else int(snapshot.connection.execute(shared.count()))
        found.append({"table": name, "rows": int(counts["rows"]), "filled": int(counts["filled"]), "keys": distinct,
                      "shared": met, "share_shared": met / distinct if distinct else None})  # fmt: skip
    return pd.DataFrame(found, columns=["table", "rows", "filled", "keys", "shared", "share_shared"])


# -------------------------------------------------------------------------------------------------- duplicates


@dataclass(frozen=True)
class DuplicateRules:
    """What speaks for and against two tickets being one, in points; from `threshold` on a pair is proposed.

    Points add up to 0..100. Text counts from `text_from` (no points) to `text_full` (all of them); below `text_from`
    two texts in one language speak against the pair. Texts in two languages say nothing: there the symptom, the
    customer, the unit and the time decide.
    """

    within_days: float = 7.0
    neighbours: int = 10
    threshold: float = 70.0
    same_customer: float = 35.0
    other_customer: float = -15.0
    same_unit: float = 30.0
    other_unit: float = -30.0
    text_points: float = 40.0
    text_from: float = 0.65
    text_full: float = 0.9
    other_text: float = -20.0
    same_symptom: float = 10.0
    other_symptom: float = -15.0
    other_product: float = -25.0
    other_type: float = -10.0
    close_in_time: float = 10.0

    def __post_init__(self) -> None:
        if not 0 < self.within_days <= 366:
            raise ParameterError("days", f"{self.within_days:g} is not between 0 and 366", fix="give e.g. 7")
        if not 0 < self.threshold <= 100:
            raise ParameterError("threshold", f"{self.threshold:g} is not between 0 and 100", fix="give e.g. 70")
        if not 1 <= self.neighbours <= 100:
            raise ParameterError("neighbours", f"{self.neighbours} is not between 1 and 100", fix="give e.g. 10")


@dataclass(frozen=True)
class DuplicateSearch:
    """What a search found, and how far it looked.

    `pairs`: pair_id, left_id (the older ticket), right_id, score, evidence (a mapping), best first. `crowded`: tickets
    with more neighbours in their block than were compared.
    """

    pairs: pd.DataFrame
    tickets: int
    compared: int
    crowded: int


def find_duplicates(snapshot: Snapshot, rules: DuplicateRules | None = None) -> DuplicateSearch:
    """Pairs of tickets that are probably one, with score and evidence; nothing is written.

    The same lake and the same rules give the same pairs, whatever the order of the rows.
    """
    rules = rules or DuplicateRules()
    rows = snapshot.table(TABLE)
    facts = rows.select("ticket_id", "created_at", *FACTS).filter(rows.created_at.notnull()).to_pyarrow()
    candidates, crowded = _candidates(facts, rules)
    scored = [
        part[part["score"] >= rules.threshold] for part in _scored_batches(snapshot, candidates, rules) if len(part)
    ]
    empty = pd.DataFrame(
        {name: pd.Series(dtype="object") for name in ("pair_id", "left_id", "right_id", "score", "evidence")}
    )
    pairs = pd.concat(scored) if scored else empty
    pairs = pairs.sort_values(["score", "left_id", "right_id"], ascending=[False, True, True], ignore_index=True)
    return DuplicateSearch(pairs[list(empty.columns)], facts.num_rows, len(candidates), crowded)


def _candidates(facts: pa.Table, rules: DuplicateRules) -> tuple[pd.DataFrame, int]:
    """Pairs that share a block and lie close in time, with what both rows say; and how many rows were too crowded."""
    with duckdb.connect() as connection:
        connection.execute("set TimeZone='UTC'")
        connection.register("facts", facts)
        seconds = rules.within_days * 86_400
        blocks = " union all ".join(
            f"select {i} as block, {quoted(name)} as k, ticket_id, epoch(created_at) as moment from facts "
            f"where {quoted(name)} is not null"
            for i, name in enumerate(BLOCKS)
        )
        order = "(partition by block, k order by moment, ticket_id)"
        connection.execute(
            f"create temp table placed as select *, row_number() over {order} as place, "
            f"lead(moment, {rules.neighbours + 1}) over {order} - moment <= {seconds} as crowded from ({blocks})"
        )
        both = ", ".join(f"a.{quoted(name)} as a_{name}, b.{quoted(name)} as b_{name}" for name in FACTS)
        # places are joined by equality, one step after the other: a block of thousands is never squared
        found = connection.execute(f"""
            with near as (
                select distinct a.ticket_id as left_id, b.ticket_id as right_id, b.moment - a.moment as seconds
                from (select *, unnest(range(1, {rules.neighbours + 1})) as step from placed) as a
                join placed as b on b.block = a.block and b.k = a.k and b.place = a.place + a.step
                where b.moment - a.moment <= {seconds} and a.ticket_id <> b.ticket_id)
            select near.*, {both} from near
            join facts as a on a.ticket_id = left_id join facts as b on b.ticket_id = right_id
            order by left_id, right_id""").df()
        crowded = connection.execute("select count(distinct ticket_id) from placed where crowded").fetchone()
    return found, int(crowded[0]) if crowded else 0


def _scored_batches(snapshot: Snapshot, candidates: pd.DataFrame, rules: DuplicateRules) -> Iterator[pd.DataFrame]:
    for start in range(0, len(candidates), PAIR_BATCH):
        batch = candidates.iloc[start : start + PAIR_BATCH].reset_index(drop=True)
        texts = _texts(snapshot, pd.unique(pd.concat([batch["left_id"], batch["right_id"]])))
        left = [texts.get(key, "") for key in batch["left_id"]]
        right = [texts.get(key, "") for key in batch["right_id"]]
        yield _scored(batch, text_similarity(left, right), rules)


def _texts(snapshot: Snapshot, ids: Sequence[str]) -> dict[str, str]:
    """Prepared texts of these tickets; a ticket without text, or whose text the reader may not see, has none."""
    rows = snapshot.table(TABLE)
    wanted = ibis.memtable(pa.table({"ticket_id": pa.array(list(ids), pa.string())}))
    found = rows.semi_join(wanted, "ticket_id").select("ticket_id", *TEXTS).to_pyarrow().to_pydict()
    return {
        key: prepared(" ".join(part for part in parts if part))
        for key, *parts in zip(found["ticket_id"], *(found[name] for name in TEXTS), strict=True)
    }


_LEFT_OUT = re.compile(r"\d{6,}|⟨[^⟩]*⟩")
"""Order numbers, which make every text unique, and the tokens of masked words, which make all texts alike."""
_PIECES = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af]+|[^\W_]+")


def prepared(text: str) -> str:
    """Text as it is compared: narrow, lower case, order numbers and masks out, Chinese as overlapping pairs.

    Examples
    --------
    >>> prepared("电池漏液 No. 20260101234567")
    '电池 池漏 漏液 no'
    """
    plain = _LEFT_OUT.sub(" ", unicodedata.normalize("NFKC", text).lower())
    words: list[str] = []
    for piece in _PIECES.findall(plain):
        if piece[0] < "\u3040" or len(piece) < 3:
            words.append(piece)
        else:
            words += [piece[i : i + 2] for i in range(len(piece) - 1)]
    return " ".join(words)


def text_similarity(left: Sequence[str], right: Sequence[str]) -> np.ndarray:
    """Similarity 0..1 of prepared texts, pair by pair; not-a-number where one of them is empty.

    The mean of two ratios of rapidfuzz: all words in sorted order, and shared words against the rest. The first is low
    when one text says more, the second forgives it; the mean ranks a half-told duplicate above a shared phrase.
    """
    from rapidfuzz import fuzz, process

    whole = process.cpdist(left, right, scorer=fuzz.token_sort_ratio, dtype=np.float32, workers=1)
    shared = process.cpdist(left, right, scorer=fuzz.token_set_ratio, dtype=np.float32, workers=1)
    has_text = np.array([bool(a) and bool(b) for a, b in zip(left, right, strict=True)], dtype=bool)
    return np.where(has_text, (whole + shared) / 200.0, np.nan)


def _scored(batch: pd.DataFrame, similarity: np.ndarray, rules: DuplicateRules) -> pd.DataFrame:
    agrees = {name: _agreement(batch[f"a_{name}"], batch[f"b_{name}"]) for name in FACTS}
    days = batch["seconds"].to_numpy(dtype=float) / 86_400
    full = np.clip((similarity - rules.text_from) / (rules.text_full - rules.text_from), 0, 1)
    unlike = np.where(agrees["language"] == "other", 0.0, rules.other_text)
    points = {
        "customer": _points(agrees["customer_key"], rules.same_customer, rules.other_customer),
        "unit": _points(agrees["unit_id"], rules.same_unit, rules.other_unit),
        "text": np.nan_to_num(np.where(similarity >= rules.text_from, full * rules.text_points, unlike), nan=0.0)
        * ~np.isnan(similarity),
        "symptom": _points(agrees["symptom_code"], rules.same_symptom, rules.other_symptom),
        "product": _points(agrees["product_id"], 0.0, rules.other_product),
        "type": _points(agrees["ticket_type"], 0.0, rules.other_type),
        "time": rules.close_in_time * (1 - days / rules.within_days),
    }
    score = np.clip(sum(points.values()), 0, 100)
    known = {"customer": "customer_key", "unit": "unit_id", "symptom": "symptom_code", "channel": "channel",
             "language": "language"}  # fmt: skip
    evidence = [
        {**{word: str(agrees[name][i]) for word, name in known.items()},
         "text_similarity": None if np.isnan(similarity[i]) else round(float(similarity[i]), 3),
         "hours_between": round(float(days[i] * 24), 1),
         "points": {word: round(float(values[i]), 1) for word, values in points.items() if abs(values[i]) > 0.05}}
        for i in np.flatnonzero(score >= rules.threshold)
    ]  # fmt: skip
    kept = batch.loc[score >= rules.threshold, ["left_id", "right_id"]]
    ids = [pair_id(left, right) for left, right in zip(kept["left_id"], kept["right_id"], strict=True)]
    return kept.assign(pair_id=ids, score=np.round(score[score >= rules.threshold], 1), evidence=evidence)


def _agreement(left: pd.Series, right: pd.Series) -> np.ndarray:
    """`same`, `other`, or `unknown` where one side says nothing."""
    unknown = (left.isna() | right.isna()).to_numpy()
    same = left.astype("object").to_numpy() == right.astype("object").to_numpy()
    return np.where(unknown, "unknown", np.where(same, "same", "other"))


def _points(agreement: np.ndarray, same: float, other: float) -> np.ndarray:
    return np.where(agreement == "same", same, np.where(agreement == "other", other, 0.0))


def pair_id(left: str, right: str) -> str:
    """The id of a pair of tickets, whichever stands first.

    Examples
    --------
    >>> pair_id("T-1", "T-2") == pair_id("T-2", "T-1")
    True
    """
    named = "\0".join([TABLE, *sorted((left, right))])
    return f"D-{hashlib.sha256(named.encode()).hexdigest()[:12]}"


# ---------------------------------------------------------------------------------------------------- decisions


@dataclass(frozen=True)
class ProposedPair:
    """One pair of the register with the newest decision on it; `decision` is `open` while nobody has decided."""

    pair_id: str
    left_id: str
    right_id: str
    score: float
    evidence: Mapping[str, Any]
    found_at: dt.datetime
    decision: str
    decided_by: str
    decided_at: dt.datetime | None
    note: str


def propose(register: Register, pairs: pd.DataFrame, *, who: str, now: dt.datetime) -> int:
    """Put pairs that the register does not have yet into it; how many were new. Decisions stay as they are."""
    with register.session() as session:
        there = set(session.scalars(sa.select(DuplicatePair.pair_id)))
        new = [row for row in pairs.to_dict("records") if row["pair_id"] not in there]
        session.add_all(
            DuplicatePair(
                pair_id=row["pair_id"], table_name=TABLE, left_id=row["left_id"], right_id=row["right_id"],
                score=float(row["score"]), evidence=row["evidence"], found_at=now, found_by=who,
            )
            for row in new
        )  # fmt: skip
    return len(new)


def list_pairs(register: Register, state: str = "open") -> list[ProposedPair]:
    """Pairs in `state` (open, one of the decisions, or all), best first.

    Raises
    ------
    ParameterError
        No such state.
    """
    states = ("open", *DUPLICATE_DECISIONS, "all")
    if state not in states:
        raise ParameterError("state", f"no state '{state}'", rows=known_names(states), fix="use one of them")
    with register.reading() as session:
        pairs = session.scalars(sa.select(DuplicatePair)).all()
        newest = {row.pair_id: row for row in session.scalars(_in_order())}
    found = [_proposed(pair, newest.get(pair.pair_id)) for pair in pairs]
    wanted = [pair for pair in found if state in ("all", pair.decision)]
    return sorted(wanted, key=lambda pair: (-pair.score, pair.left_id, pair.right_id))


def pairs_seen(snapshot: Snapshot, pairs: Sequence[ProposedPair]) -> list[ProposedPair]:
    """The pairs of which the viewer sees both tickets.

    Raises
    ------
    AccessError
        The viewer sees no single tickets.
    """
    if snapshot.access is None or snapshot.access.role is None:
        return list(pairs)
    snapshot.check_rows(TABLE)
    seen = set(snapshot.connection.execute(snapshot.table(TABLE).ticket_id))
    return [pair for pair in pairs if {pair.left_id, pair.right_id} <= seen]


def _in_order() -> sa.Select[DuplicateDecision]:
    return sa.select(DuplicateDecision).order_by(DuplicateDecision.decision_id)


def _proposed(pair: DuplicatePair, decision: DuplicateDecision | None) -> ProposedPair:
    return ProposedPair(
        pair.pair_id, pair.left_id, pair.right_id, pair.score, dict(pair.evidence), pair.found_at,
        decision.decision if decision else "open", decision.decided_by if decision else "",
        decision.decided_at if decision else None, decision.note if decision else "",
    )  # fmt: skip


def decide(register: Register, pair: str, decision: str, *, who: str, now: dt.datetime, note: str = "") -> ProposedPair:
    """The pair with the new decision on it; earlier decisions stay in its history.

    Raises
    ------
    ParameterError
        The decision is not one of same, different, unsure.
    UnknownPairError
        The register has no such pair.
    """
    if decision not in DUPLICATE_DECISIONS:
        raise ParameterError(
            "decision", f"no decision '{decision}'", rows=known_names(DUPLICATE_DECISIONS), fix="use one of them"
        )
    with register.session() as session:
        found = session.get(DuplicatePair, pair)
        if found is None:
            raise UnknownPairError("duplicates", f"no pair '{pair}'", fix="aftersales duplicates list --state all")
        row = DuplicateDecision(pair_id=pair, decision=decision, decided_at=now, decided_by=who, note=note)
        session.add(row)
        session.flush()
        return _proposed(found, row)


def decisions(register: Register, pair: str) -> pd.DataFrame:
    """The history of one pair, oldest first: decision, decided_by, decided_at, note."""
    with register.reading() as session:
        rows = [row for row in session.scalars(_in_order()) if row.pair_id == pair]
    names = ["decision", "decided_by", "decided_at", "note"]
    return pd.DataFrame([{name: getattr(row, name) for name in names} for row in rows], columns=names)


def confirmed_duplicates(register: Register) -> pd.DataFrame:
    """Tickets that people confirmed to be another one again: ticket_id, duplicate_of.

    Confirmed pairs form groups; `duplicate_of` is the oldest ticket of the group. A group in which a pair was also
    decided `different` contradicts itself and is left out until somebody mends it (`contested_pairs`).

    A metric leaves duplicates out only when its definition says so; nothing else reads this.
    """
    same, different = _decided(register)
    oldest = _groups(same)
    contested = {oldest[left] for left, right in different if left in oldest and oldest[left] == oldest.get(right)}
    found = [(ticket, first) for ticket, first in sorted(oldest.items()) if ticket != first and first not in contested]
    return pd.DataFrame(found, columns=["ticket_id", "duplicate_of"], dtype="object")


def contested_pairs(register: Register) -> list[str]:
    """Ids of pairs decided `different` whose two tickets other decisions make one."""
    same, different = _decided(register)
    oldest = _groups(same)
    return sorted(
        pair_id(left, right) for left, right in different if left in oldest and oldest[left] == oldest.get(right)
    )


def _decided(register: Register) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    pairs = list_pairs(register, "all")
    same = [(pair.left_id, pair.right_id) for pair in pairs if pair.decision == "same"]
    return same, [(pair.left_id, pair.right_id) for pair in pairs if pair.decision == "different"]


def _groups(same: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Ticket -> the oldest of its group. In a pair the left ticket is the older one, so a group's oldest is the one
    that is never on the right; of several such, the smallest id."""
    parent: dict[str, str] = {}

    def root(ticket: str) -> str:
        while parent.setdefault(ticket, ticket) != ticket:
            parent[ticket] = parent[parent[ticket]]
            ticket = parent[ticket]
        return ticket

    for left, right in same:
        parent[root(right)] = root(left)
    later = {right for _, right in same}
    members: dict[str, list[str]] = {}
    for ticket in parent:
        members.setdefault(root(ticket), []).append(ticket)
    return {
        ticket: min([one for one in group if one not in later] or group)
        for group in members.values()
        for ticket in group
    }
