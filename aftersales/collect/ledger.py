"""Questions to the ledger: what was delivered, what was set aside and why, how fresh every source is.

An entry of the quarantine is open until a row of `release` closes it (`aftersales ingest --replay`).
"""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import pandas as pd

from aftersales.collect.delivery import Delivery, delivery_of
from aftersales.collect.mapping import Source
from aftersales.lake.engine import literal
from aftersales.lake.store import Snapshot, Store
from aftersales.lake.suppression import hidden_groups, is_small
from aftersales.lake.vault import UNREADABLE, unsealed_values
from aftersales.model.settings import Workspace

if TYPE_CHECKING:
    import ibis.expr.types as ir


def latest_deliveries(snapshot: Snapshot) -> pd.DataFrame:
    """The ledger, one row per file and table; a file loaded again under a mended mapping counts with its newest load.

    Columns: those of `delivery`, and `is_primary` (the table that accounts for the file's rows).
    """
    rows = snapshot.connection.execute(snapshot.versions_of("delivery"))
    if rows.empty:
        return rows.assign(is_primary=pd.Series(dtype=bool))
    rows = rows.assign(_replayed=rows["replay_run_id"].fillna("") != "")
    rows = rows.sort_values(["loaded_at", "_replayed"], kind="stable").drop(columns="_replayed")
    rows = rows.drop_duplicates(["source", "table", "sha256"], keep="last")
    rows = rows.assign(is_primary=rows["place"] == 0)
    return rows.sort_values(["source", "source_file", "is_primary"], ascending=[True, True, False], ignore_index=True)


def set_aside(snapshot: Snapshot, sources: Sequence[str] = ()) -> pd.DataFrame:
    """Reasons for which rows or values are set aside, most frequent first, each with one example.

    Columns: source, reason, kind (row, value, duplicate), rows, source_file, source_row. Groups of too few rows for the
    viewer are left out.

    Raises
    ------
    AccessError
        The viewer may not see what was set aside, or sees no single rows.
    """
    held = _open(snapshot, sources)
    if held is None:
        return pd.DataFrame(columns=["source", "reason", "kind", "rows", "source_file", "source_row"])
    spread = held.select("source", "kind", "source_file", "source_row", reason=held.reasons.unnest())
    grouped = spread.group_by(["source", "reason", "kind"]).aggregate(
        rows=spread.count(), source_file=spread.source_file.min(), source_row=spread.source_row.min()
    )
    found = snapshot.connection.execute(grouped)
    small = is_small(found["rows"], snapshot.smallest)
    found = found[~hidden_groups(found, ["source", "reason", "kind"], "rows", small, snapshot.smallest)]
    return found.sort_values(["rows", "source", "reason"], ascending=[False, True, True], ignore_index=True)


def _open(snapshot: Snapshot, sources: Sequence[str] = ()) -> ir.Table | None:
    """Entries of the newest load of each file that nothing has closed; None where nothing was ever loaded."""
    snapshot.check_rows("quarantine")
    newest = latest_deliveries(snapshot)
    if newest.empty:
        return None
    held, closed = snapshot.versions_of("quarantine"), _releases(snapshot)
    # by delivery, not by run: rows that a killed load had set aside count for the run that completed it
    place = held.quarantine_id.split("/")
    loads = newest["source"] + "/" + newest["table"] + "/" + newest["sha256"].str[:32] + "/" + newest["mapping_hash"]
    held = held.filter((held.source + "/" + held.table + "/" + place[0] + "/" + place[1]).isin(loads.tolist()))
    held = held.anti_join(closed.select("quarantine_id"), "quarantine_id")
    return held.filter(held.source.isin(list(sources))) if sources else held


def _releases(snapshot: Snapshot) -> ir.Table:
    """What was released, whoever asks: it decides which entries are open, and no row of it is shown by itself."""
    return replace(snapshot, access=None).versions_of("release")


QUARANTINE_COLUMNS = ("source", "table", "kind", "reasons", "source_file", "source_row", "loaded_at", "raw")


def quarantine(
    snapshot: Snapshot,
    source: str | None = None,
    *,
    reason: str | None = None,
    limit: int = 50,
    released: bool = False,
) -> pd.DataFrame:
    """Rows and values that are set aside, with their raw row, in the order of the files.

    Parameters
    ----------
    reason
        Only entries with this reason, or with a reason of this column (`closed_at`).
    limit
        At most so many entries.
    released
        Those that came through later instead: `released_at`, `released_by` (run) and `outcome` say when and how.

    Returns
    -------
    quarantine_id, source, table, kind (row, value, duplicate), reasons, source_file, source_row, loaded_at and raw
    (JSON; masked, and only where the viewer may read it).
    """
    columns = ["quarantine_id", *QUARANTINE_COLUMNS]
    if released:
        if snapshot.access is not None:
            snapshot.access.check_rows("quarantine")
        closed = _releases(snapshot)
        told = closed.select("quarantine_id", "outcome", released_at=closed.loaded_at, released_by=closed.ingest_run_id)
        held = snapshot.versions_of("quarantine")
        held = (held.filter(held.source == source) if source else held).inner_join(told, "quarantine_id")
        columns += ["released_at", "released_by", "outcome"]
    else:
        found = _open(snapshot, [source] if source else [])
        if found is None:
            return pd.DataFrame(columns=columns)
        held = found
    if reason:
        fits = held.reasons.filter(lambda text: (text == reason) | text.startswith(f"{reason}:"))
        held = held.filter(fits.length() > 0)
    shown = held.select(*columns).order_by("source", "source_file", "source_row", "table", "quarantine_id").limit(limit)
    return snapshot.connection.execute(shown)


@dataclass(frozen=True)
class Entry:
    """An open entry of the quarantine with its kept row."""

    quarantine_id: str
    table: str
    kind: str
    source_row: int
    reasons: tuple[str, ...]
    stored: str
    """The kept row as the lake has it, sealed where that is asked for."""
    raw: str

    def content(self) -> dict[str, Any]:
        """Raw column -> text."""
        found: dict[str, Any] = json.loads(self.raw)
        return found


Offered = dict[int, list[Entry]]
"""Row of the file -> its open entries in one table."""


def open_entries(workspace: Workspace, store: Store, source: str) -> Iterator[tuple[dict[str, Delivery], list[Entry]]]:
    """Per file of a source: the ledgers of its newest load as a whole, and its open entries that can be mapped again.

    Left out are lines that could not be read at all, rows that repeat another one, and rows of erased persons.
    """
    if not store.exists("delivery") or not store.exists("quarantine"):
        return
    closed = set()
    if store.exists("release"):
        rows = store.rows("release", f"source = {literal(source)}", columns="quarantine_id")
        closed = set(rows["quarantine_id"].to_pylist())
    for ledgers in _newest_loads(store, source):
        first = next(iter(ledgers.values()))
        prefix = f"{first.sha256[:32]}/{first.mapping_hash}/"
        where = f"source = {literal(source)} and starts_with(quarantine_id, {literal(prefix)}) and kind <> 'duplicate'"
        held = store.rows("quarantine", where).to_pylist()
        plain = unsealed_values(workspace, [row["raw"] for row in held])
        entries = [
            Entry(row["quarantine_id"], row["table"], row["kind"], row["source_row"], tuple(row["reasons"]),
                  row["raw"], raw)
            for row, raw in zip(held, plain, strict=True)
            if row["quarantine_id"] not in closed
            and raw is not None and raw != UNREADABLE
            and not any(reason.startswith(("row:", "privacy:")) for reason in row["reasons"])
        ]  # fmt: skip
        if entries:
            yield ledgers, entries


def _newest_loads(store: Store, source: str) -> Iterator[dict[str, Delivery]]:
    """Table -> ledger of the newest load of each file, oldest file first; replays do not count."""
    rows = store.rows("delivery", f"source = {literal(source)}").to_pylist()
    loads: dict[str, dict[str, dict[str, Any]]] = {}
    for row in sorted(rows, key=lambda row: (row["loaded_at"], row["place"])):
        if not row.get("replay_run_id"):
            of_file = loads.setdefault(row["sha256"], {})
            if any(other["mapping_hash"] != row["mapping_hash"] for other in of_file.values()):
                of_file.clear()
            of_file[row["table"]] = row
    for of_file in loads.values():
        yield {name: delivery_of(row) for name, row in of_file.items()}


def fresh_sources(snapshot: Snapshot, sources: Mapping[str, Source], as_of: dt.datetime) -> pd.DataFrame:
    """Every source of the catalogue: its newest row (by `known_at`), the age in hours, and fresh, late or never."""
    rows = latest_deliveries(snapshot)
    newest = rows.groupby("source")[["newest_known_at", "loaded_at"]].max() if len(rows) else pd.DataFrame()
    found = []
    for name, source in sources.items():
        seen = newest.loc[name] if name in newest.index else None
        event = seen["newest_known_at"] if seen is not None else pd.NaT
        age = None if seen is None or pd.isna(event) else (as_of - cast("pd.Timestamp", event)).total_seconds() / 3600
        state = "never" if seen is None else "late" if age is not None and age > source.fresh_within_hours else "fresh"
        found.append(
            {
                "source": name,
                "owner": source.owner,
                "newest_known_at": event,
                "age_hours": None if age is None else max(age, 0.0),
                "fresh_within_hours": source.fresh_within_hours,
                "loaded_at": seen["loaded_at"] if seen is not None else pd.NaT,
                "state": state,
            }
        )
    return pd.DataFrame(
        found, columns=["source", "owner", "newest_known_at", "age_hours", "fresh_within_hours", "loaded_at", "state"]
    )
