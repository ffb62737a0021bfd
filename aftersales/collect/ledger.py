"""Questions to the ledger: what was delivered, what was set aside and why, how fresh every source is."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from typing import cast

import pandas as pd

from aftersales.collect.mapping import Source
from aftersales.lake.store import Snapshot
from aftersales.lake.suppression import hidden_groups, is_small


def latest_deliveries(snapshot: Snapshot) -> pd.DataFrame:
    """The ledger, one row per file and table; a file loaded again under a mended mapping counts with its newest load.

    Columns: those of `delivery`, and `is_primary` (the table that accounts for the file's rows).
    """
    rows = snapshot.connection.execute(snapshot.versions_of("delivery"))
    if rows.empty:
        return rows.assign(is_primary=pd.Series(dtype=bool))
    rows = rows.sort_values("loaded_at", kind="stable").drop_duplicates(["source", "table", "sha256"], keep="last")
    rows = rows.assign(is_primary=rows["place"] == 0)
    return rows.sort_values(["source", "source_file", "is_primary"], ascending=[True, True, False], ignore_index=True)


def set_aside(snapshot: Snapshot, sources: Sequence[str] = ()) -> pd.DataFrame:
    """Reasons for which rows or values were set aside, most frequent first, each with one example.

    Columns: source, reason, kind (row, value, duplicate), rows, source_file, source_row. Groups of too few rows for the
    viewer are left out.

    Raises
    ------
    AccessError
        The viewer may not see what was set aside, or sees no single rows.
    """
    if snapshot.access is not None:
        snapshot.access.check_rows("quarantine")
    held = snapshot.versions_of("quarantine")
    newest = latest_deliveries(snapshot)
    if newest.empty:
        return pd.DataFrame(columns=["source", "reason", "kind", "rows", "source_file", "source_row"])
    # by delivery, not by run: rows that a killed load had set aside count for the run that completed it
    place = held.quarantine_id.split("/")
    held = held.filter((held.source + "/" + held.table + "/" + place[0] + "/" + place[1]).isin(newest["delivery_id"]))
    held = held.filter(held.source.isin(list(sources))) if sources else held
    spread = held.select("source", "kind", "source_file", "source_row", reason=held.reasons.unnest())
    grouped = spread.group_by(["source", "reason", "kind"]).aggregate(
        rows=spread.count(), source_file=spread.source_file.min(), source_row=spread.source_row.min()
    )
    found = snapshot.connection.execute(grouped)
    small = is_small(found["rows"], snapshot.smallest)
    found = found[~hidden_groups(found, ["source", "reason", "kind"], "rows", small, snapshot.smallest)]
    return found.sort_values(["rows", "source", "reason"], ascending=[False, True, True], ignore_index=True)


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
