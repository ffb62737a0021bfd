"""How good the data of a source is: five shares, measured on every delivery from the staged rows and kept for ever.

Each share is `good` of `base`, so shares of several files are pooled by adding both:

    completeness      values there, of the expected columns of the accepted rows (M23)
    validity          rows that were not rejected, of the rows read
    uniqueness        rows that repeat no other one of their file, of the accepted ones; an older state is no repeat
    timeliness        hours in which the newest row known was as fresh as promised, of the hours since the last delivery
    mapping_coverage  values their code list knows, of the values of columns that have one; a column whose mapping says
                      `otherwise: keep` wants to have the others as they are, and is not in it

The score of a source is the least of its shares: a mean would let four good ones hide a broken fifth.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, get_args

import duckdb

from aftersales.collect.mapping import Source, TableMapping
from aftersales.lake.engine import literal, quoted
from aftersales.lake.store import Snapshot

if TYPE_CHECKING:  # loads measure; only questions to what was measured need it
    import pandas as pd

Dimension = Literal["completeness", "validity", "uniqueness", "timeliness", "mapping_coverage"]
DIMENSIONS: tuple[Dimension, ...] = get_args(Dimension)

KEPT = "mapping_kept"
"""What is measured of a code list whose other values are kept: it is shown with the coverage, and in no score."""

TITLES: dict[str, tuple[str, str]] = {
    "completeness": ("completeness", "完整性"), "validity": ("validity", "有效性"),
    "uniqueness": ("uniqueness", "唯一性"), "timeliness": ("timeliness", "及时性"),
    "mapping_coverage": ("mapping coverage", "编码映射覆盖率"), "overall": ("overall", "总分"),
}  # fmt: skip

LEAST_BASE = 30
"""A share of fewer rows or values than these is shown, but judges nothing yet."""

VALUES_KEPT = 500
"""Unmapped values of one column and delivery that are kept by name, the most frequent ones."""

SCORE_COLUMNS = ("source", "dimension", "good", "base", "score", "low", "high", "gate", "state", "weakest")


# --------------------------------------------------------------------------------------------- one delivery


def delivery_facts(
    connection: duckdb.DuckDBPyConnection,
    source: Source,
    name: str,
    expected: Sequence[str],
    since: dt.datetime | None = None,
) -> list[dict[str, Any]]:
    """`good` and `base` of every dimension of the rows in `staged`: one row a dimension, or one a column of it.

    Parameters
    ----------
    expected
        Columns whose filled share is the completeness.
    since
        The newest moment known from the deliveries before.
    """
    mapping = source.tables[name]
    coded = coded_columns(mapping)
    asked = {"n": "count(*)", "accepted": "count(*) filter (_reasons is null)"}
    asked |= {f"filled_{i}": f"count({quoted(column)}) filter (_reasons is null)" for i, column in enumerate(expected)}
    asked |= {f"coded_{i}": f"count({quoted(f'_coded_{column}')})" for i, column in enumerate(coded)}
    asked |= {f"known_{i}": f"count(*) filter ({quoted(f'_coded_{column}')})" for i, column in enumerate(coded)}
    cursor = connection.execute(f"select {', '.join(f'{sql} as {key}' for key, sql in asked.items())} from staged")
    row = cursor.fetchone()
    assert row is not None
    counts = dict(zip(asked, row, strict=True))
    (copies,) = connection.execute("select count(*) from repeated where is_copy").fetchone() or (0,)
    facts = [
        _fact("validity", counts["accepted"], counts["n"]),
        _fact("uniqueness", counts["accepted"] - copies, counts["accepted"]),
        *(
            _fact("completeness", counts[f"filled_{i}"], counts["accepted"], column)
            for i, column in enumerate(expected)
        ),
        *(
            _fact(
                coverage_of(mapping, column),
                counts[f"known_{i}"],
                counts[f"coded_{i}"],
                column,
                **_map_of(mapping, column),
            )
            for i, column in enumerate(coded)
        ),
    ]
    if name == source.primary:
        facts.append(_fact("timeliness", *_fresh_hours(connection, source.fresh_within_hours, since)))
    return [{"source": source.name, "table": name, **fact} for fact in facts]


def _fresh_hours(connection: duckdb.DuckDBPyConnection, promised: float, since: dt.datetime | None) -> tuple[int, int]:
    """Hours without a longer silence than promised, and all hours, from `since` to the newest row known."""
    moments = "select date_trunc('hour', known_at) as h from staged where _reasons is null and known_at is not null"
    before = f" union select date_trunc('hour', {literal(since.isoformat())}::timestamptz)" if since else ""
    row = connection.execute(f"""
        with hours as (select distinct h from ({moments}){before}),
        gaps as (select epoch(h - lag(h) over (order by h)) / 3600 as gap from hours)
        select coalesce(sum(least(gap, {promised})), 0)::bigint, coalesce(sum(gap), 0)::bigint from gaps
        where gap is not null""").fetchone()
    return (int(row[0]), int(row[1])) if row else (0, 0)


def coverage_of(mapping: TableMapping, column: str) -> str:
    """The dimension in which the code list of a column is measured."""
    return KEPT if mapping.columns[column].otherwise == "keep" else "mapping_coverage"


def _fact(dimension: str, good: int, base: int, column: str = "", **more: Any) -> dict[str, Any]:
    return {"dimension": dimension, "column": column, "good": good, "base": base, "map": "", "costs_row": False, **more}


def coded_columns(mapping: TableMapping) -> list[str]:
    """Columns whose value a code list decides."""
    return [name for name, spec in mapping.columns.items() if spec.map or spec.map_file]


def _map_of(mapping: TableMapping, column: str) -> dict[str, Any]:
    spec = mapping.columns[column]
    loses_row = spec.otherwise == "reject" and (spec.required or spec.on_bad == "reject")
    return {"map": spec.map_file or "", "costs_row": loses_row}


def unmapped_values(connection: duckdb.DuckDBPyConnection, source: Source, name: str) -> list[dict[str, Any]]:
    """Values in `staged` that their code list lacks, with rows and the first and last moment they were known."""
    mapping = source.tables[name]
    found = connection.execute(f"""
        with each as (select unnest(_unmapped) as u, known_at from staged where _unmapped is not null),
        counted as (select u.c as c, left(u.v, 200) as v, count(*) as n, min(known_at) as f, max(known_at) as l
                    from each group by all)
        select c, v, n, epoch_us(f), epoch_us(l) from counted
        qualify row_number() over (partition by c order by n desc, v) <= {VALUES_KEPT}
        order by c, n desc, v""").fetchall()
    return [
        {
            "source": source.name,
            "table": name,
            "column": column,
            "map": mapping.columns[column].map_file or "",
            "otherwise": mapping.columns[column].otherwise,
            "value": value,
            "rows": rows,
            "first_seen": first,
            "last_seen": last,
        }
        for column, value, rows, first, last in found
    ]


# ------------------------------------------------------------------------------------------------ questions


def facts(snapshot: Snapshot) -> pd.DataFrame:
    """What was measured on each delivery, a file loaded or replayed again counting with its newest measurement.

    Columns: source, table, column, dimension, map, costs_row, good, base, source_file, sha256, loaded_at,
    ingest_run_id.
    """
    rows = snapshot.connection.execute(snapshot.versions_of("quality"))
    return newest_run(rows)


def newest_run(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the newest run of each source, table and file."""
    if rows.empty:
        return rows
    keys = ["source", "table", "sha256"]
    runs = rows.sort_values("loaded_at", kind="stable").drop_duplicates(keys, keep="last")
    return rows.merge(runs[[*keys, "ingest_run_id"]], on=[*keys, "ingest_run_id"]).reset_index(drop=True)


def scores(snapshot: Snapshot) -> pd.DataFrame:
    """The score of every source in every dimension, and overall: the least of them.

    Returns
    -------
    One row per source and dimension, then `overall`: source, dimension, good, base, score (0..1) with low and high
    (95 %), gate (0: none), state and weakest (the dimension the overall score is that of, or the table and column that
    score least). `state` is `ok`, `below_gate`, `cannot_tell` (a base of fewer than 30) or `no_data`.
    """
    import pandas as pd

    from aftersales.model.statistics import share_interval

    known = facts(snapshot)
    if known.empty:
        return pd.DataFrame(columns=list(SCORE_COLUMNS))
    known = known[known["dimension"].isin(DIMENSIONS)]
    pooled = _pooled(known, ["source", "dimension"])
    least = _weakest_places(known)
    pooled["weakest"] = [least.get(key, "") for key in zip(pooled["source"], pooled["dimension"], strict=True)]
    found = pd.concat([pooled, _overall(pooled, ["source"])], ignore_index=True)
    found["low"], found["high"] = share_interval(found["good"], found["base"])
    gates = snapshot.gates.model_dump()
    found["gate"] = [float(gates.get(name, 0)) for name in found["dimension"]]
    found["state"] = [
        _state(base, score, gate)
        for base, score, gate in zip(found["base"], found["score"], found["gate"], strict=True)
    ]
    order = {name: place for place, name in enumerate([*DIMENSIONS, "overall"])}
    found = found.assign(_place=found["dimension"].map(order)).sort_values(["source", "_place"], ignore_index=True)
    return found[list(SCORE_COLUMNS)]


def _pooled(known: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    pooled = known.groupby(keys, as_index=False)[["good", "base"]].sum()
    pooled["score"] = pooled["good"] / pooled["base"].where(pooled["base"] > 0)
    return pooled


def _overall(pooled: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """The least score of each group that has any, with the counts of the dimension it comes from."""
    having = pooled[pooled["score"].notna()]
    least = having.sort_values("score", kind="stable").drop_duplicates(keys)
    return least.assign(weakest=least["dimension"], dimension="overall")


def _weakest_places(known: pd.DataFrame) -> dict[tuple[str, str], str]:
    """(source, dimension) -> `table.column` that scores least, where something is missing at all."""
    places = _pooled(known, ["source", "dimension", "table", "column"])
    places = places[places["score"] < 1].sort_values("score", kind="stable").drop_duplicates(["source", "dimension"])
    return {
        (row["source"], row["dimension"]): ".".join(filter(None, (row["table"], row["column"])))
        for row in places.to_dict("records")
    }


def _state(base: float, score: float, gate: float) -> str:
    if base == 0:
        return "no_data"
    if base < LEAST_BASE:
        return "cannot_tell"
    return "below_gate" if score < gate else "ok"


def score_history(snapshot: Snapshot, source: str | None = None) -> pd.DataFrame:
    """Scores of what was delivered on each day of loading, oldest first: source, day, dimension, good, base, score.

    A file that is loaded or replayed again on a later day stands there again; within a day its newest run counts.
    `dimension` includes `overall`.
    """
    import pandas as pd

    rows = snapshot.connection.execute(snapshot.versions_of("quality"))
    rows = rows[rows["dimension"].isin(DIMENSIONS)]
    rows = rows[rows["source"] == source] if source else rows
    if rows.empty:
        return pd.DataFrame(columns=["source", "day", "dimension", "good", "base", "score"])
    days = [snapshot.day_of(pd.Timestamp(moment).to_pydatetime()) for moment in rows["loaded_at"]]
    parts = [newest_run(part) for _, part in rows.assign(day=days).groupby("day")]
    pooled = _pooled(pd.concat(parts), ["source", "day", "dimension"])
    found = pd.concat([pooled, _overall(pooled, ["source", "day"]).drop(columns="weakest")], ignore_index=True)
    return found.sort_values(["source", "day", "dimension"], ignore_index=True)


def by_column(snapshot: Snapshot, dimension: Dimension, *, source: str | None = None) -> pd.DataFrame:
    """One dimension per source, table and column, worst first: good, base, share with low and high (95 %).

    With `completeness` that is M23 by field; with `mapping_coverage` there is also the `map` and whether a value it
    lacks `costs_row`; columns whose other values are kept are listed with the rest.
    """
    import pandas as pd

    from aftersales.model.statistics import share_interval

    known = facts(snapshot)
    columns = ["source", "table", "column", "map", "costs_row", "good", "base", "share", "low", "high"]
    if known.empty:
        return pd.DataFrame(columns=columns)
    known = known[known["dimension"].isin((dimension, KEPT) if dimension == "mapping_coverage" else (dimension,))]
    known = known[known["source"] == source] if source else known
    found = _pooled(known, ["source", "table", "column", "map", "costs_row"]).rename(columns={"score": "share"})
    found["low"], found["high"] = share_interval(found["good"], found["base"])
    return found.sort_values(["share", "source", "table", "column"], ignore_index=True)[columns]
