"""Catalogue: every table and column, what it means, where it comes from and which figures use it.

Everything is read off the definitions (canonical tables, sources' YAML, metric files); only row counts come from the lake.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import pandas as pd

from aftersales.collect.mapping import Source
from aftersales.collect.mapping import catalogue as sources_of
from aftersales.measure.definitions import Metric, metrics
from aftersales.measure.lineage import fed_columns, filled_columns, used_columns
from aftersales.model.tables import BOOKKEEPING, Column, Table, canonical_tables
from aftersales.publish.charts import flow, missing
from aftersales.publish.scene import Payload, Scene, column, message, section, table

TYPES: Mapping[str, tuple[str, str]] = {
    "id": ("key", "键"), "cat": ("category", "类别"), "str": ("short text", "短文本"), "text": ("free text", "自由文本"),
    "int": ("whole number", "整数"), "num": ("number", "数值"), "bool": ("yes or no", "是或否"), "day": ("day", "日期"),
    "ts": ("instant", "时刻"),
}  # fmt: skip
TIERS: Mapping[str, tuple[str, str]] = {
    "P0": ("P0 public", "P0 公开"), "P1": ("P1 internal", "P1 内部"), "P2": ("P2 personal", "P2 个人"),
    "P3": ("P3 sensitive", "P3 敏感"),
}  # fmt: skip
CLOCKS: Mapping[str, tuple[str, str]] = {
    "E": ("when it happened", "发生时间"), "D": ("deadline", "期限"), "V": ("validity", "有效期"), "K": ("when known", "获知时间"),
    "-": ("", ""),
}  # fmt: skip
UNIT = re.compile(r"^(?P<title>.*?)\s*[(（](?P<unit>[^()（）]+)[)）]$")
COUNTING = ("counts", "clock", "exposure")


# ------------------------------------------------------------------------------------------------------ facts


def _sources(scene: Scene) -> dict[str, Source]:
    return scene.once("sources", lambda: sources_of(scene.workspace))


def _source_title(scene: Scene, name: str) -> str:
    source = _sources(scene).get(name)
    return source.title.get(scene.lang, name) if source else name


def _fed(scene: Scene) -> pd.DataFrame:
    return scene.once("fed columns", lambda: fed_columns(_sources(scene)))


def _used(scene: Scene) -> pd.DataFrame:
    return scene.once("used columns", lambda: used_columns(metrics()))


def _filled(scene: Scene) -> pd.DataFrame:
    return scene.once("filled columns", lambda: filled_columns(scene.snapshot))


def _counts(scene: Scene) -> dict[str, int | None]:
    """Rows by table; None where the viewer may not see the table, absent where it has none."""
    rows = _filled(scene)
    return {name: None if missing(n) else int(n) for name, n in zip(rows["table"], rows["rows"], strict=True)}


def _table_title(scene: Scene, name: str) -> str:
    spec = canonical_tables()[name]
    return scene.say(spec.name, spec.name_zh)


def _all_columns(scene: Scene) -> pd.DataFrame:
    """One row per column of every table, its site's own columns among them, with everything that is known of it."""
    return scene.once("all columns", lambda: _described(scene))


def _described(scene: Scene) -> pd.DataFrame:
    fed, used, filled, counts = _fed(scene), _used(scene), _filled(scene), _counts(scene)
    known = {(row["table"], row["column"]): row["filled"] for row in filled.to_dict("records")}
    by_source = dict(iter(fed.groupby(["table", "column"], sort=False)))
    by_metric = dict(iter(used.groupby(["table", "column"], sort=False)))
    found = []
    for name, spec in canonical_tables().items():
        site = sorted(
            {c for t, c in [*known, *by_source] if t == name and c and c not in (*spec.columns, *BOOKKEEPING)}
        )
        for at, field in enumerate([*spec.columns, *site, "known_at"]):
            feeding, using = by_source.get((name, field)), by_metric.get((name, field))
            n, rows = known.get((name, field)), counts.get(name)
            found.append({
                "table": name, "column": field, "place": at, **_meaning(scene, spec, field, spec.column(field)),
                "rows": rows, "filled": None if n is None or missing(n) or not rows else float(n) / rows,
                "has_values": bool(n) if not missing(n) else False,
                "sources": [] if feeding is None else list(feeding["source"]),
                "raw": [] if feeding is None else list(feeding["raw"]),
                "metrics": [] if using is None else list(using["metric"]),
                "uses": [] if using is None else list(using["use"]),
            })  # fmt: skip
    return pd.DataFrame(found)


def _meaning(scene: Scene, spec: Table, field: str, one: Column) -> dict[str, str]:
    text = scene.say(one.en, one.zh)
    found = UNIT.match(text) if one.type in ("int", "num") else None
    kind, clock = (words[scene.lang == "zh"] for words in (TYPES[one.type], CLOCKS[one.clock]))
    is_clock = field == spec.clock
    return {
        "title": found["title"] if found else text,
        "both": f"{one.en} {one.zh}",
        "type": ", ".join(filter(None, (kind, found["unit"] if found else "", clock))) + (" ★" if is_clock else ""),
        "tier_code": one.tier,
    }


def _chosen_columns(scene: Scene) -> pd.DataFrame:
    """The columns the filters leave."""
    rows = _all_columns(scene)
    if chosen := scene.chosen("table"):
        rows = rows[rows["table"].isin(chosen)]
    if sources := set(scene.chosen("source")):
        rows = rows[[bool(sources & set(names)) for names in rows["sources"]]]
    if tiers := scene.chosen("tier"):
        rows = rows[rows["tier_code"].isin(tiers)]
    if words := scene.text("find").casefold().split():
        rows = rows[[all(word in text for word in words) for text in _searched(scene, rows)]]
    if scene.text("show") == "used":
        kept = (
            rows["has_values"]
            | (rows["sources"].str.len() > 0)
            | rows["uses"].map(lambda uses: bool(set(uses) & set(COUNTING)))
        )
        rows = rows[kept]
    return rows


def _searched(scene: Scene, rows: pd.DataFrame) -> list[str]:
    """What the search looks through: names and meanings in both languages, the sources' own names, the metrics."""
    known = metrics()
    return [
        " ".join([
            row["table"], row["column"], row["both"], canonical_tables()[row["table"]].name,
            canonical_tables()[row["table"]].name_zh, *row["sources"], *row["raw"],
            *(f"{name} {known[name].name} {known[name].name_zh}" for name in row["metrics"]),
        ]).casefold()
        for row in rows.to_dict("records")
    ]  # fmt: skip


def _without_data(scene: Scene) -> list[Metric]:
    """Metrics whose table has no rows."""
    counts = _counts(scene)
    return [one for one in metrics().values() if not counts.get(one.numerator.table, 0)]


# --------------------------------------------------------------------------------------------------- sections


def answer(scene: Scene) -> Payload:
    """What is there, and which figures lack their data."""
    title = scene.say("What is in the lake?", "数据湖中有什么?")
    rows, counts, lacking = _all_columns(scene), _counts(scene), _without_data(scene)
    with_rows, fed = [n for n in counts.values() if n], _fed(scene)
    sources = len(_sources(scene))
    mapped = len(fed[["table", "column"]].drop_duplicates())
    read = _used(scene)
    read_n = len(read[read["use"].isin(COUNTING)][["table", "column"]].drop_duplicates())
    text = scene.say(
        f"{len(canonical_tables())} tables with {len(rows):,} columns are defined, {len(with_rows)} tables hold rows. "
        f"{sources} sources feed {mapped:,} columns; {len(metrics())} metrics read {read_n}.",
        f"定义了 {len(canonical_tables())} 张表、{len(rows):,} 列,其中 {len(with_rows)} 张表有数据。"
        f"{sources} 个来源供给 {mapped:,} 列;{len(metrics())} 个指标使用其中 {read_n} 列。",
    )
    names = scene.say(", ", "、").join(one.title(scene.lang) for one in lacking)
    detail = scene.say(f"Without data: {names}.", f"缺少数据的指标:{names}。") if lacking and with_rows else None
    empty = None
    if not with_rows:
        empty = message("empty", scene.say("Nothing has been loaded yet; what stands here is what could be.",
                                           "尚未载入数据;以下为定义内容。"), "aftersales ingest")  # fmt: skip
    facts = {"tables": len(canonical_tables()), "columns": len(rows), "tables_with_rows": len(with_rows),
             "sources": sources, "metrics_without_data": [one.name for one in lacking]}  # fmt: skip
    return section(
        scene, "answer", title, message=empty, facts=facts,
        answer={"text": text, "detail": detail, "tone": "finding" if detail else "quiet"},
    )  # fmt: skip


def lineage(scene: Scene) -> Payload:
    """Source to table to metric, drawn."""
    title = scene.say("What feeds what?", "数据从哪里来,用到哪里?")
    links = _links(scene)
    if links.empty:
        return section(scene, "lineage", title, message=message("empty", scene.say(
            "No source is described and no table holds rows.", "没有来源定义,也没有任何表有数据。"), "data/sources/"))  # fmt: skip
    chart = flow(
        links,
        id="lineage",
        title=scene.say("Sources, tables, metrics", "来源、表、指标"),
        subtitle=scene.say(
            "A line is a mapping (left) or a definition (right); thicker for more columns. Click a table.",
            "连线为映射(左)或指标定义(右),越粗列数越多。点击表可筛选。",
        ),
        heads=(scene.say("Source", "来源"), scene.say("Table", "表"), scene.say("Metric", "指标")),
        filter="table",
        selected=scene.chosen("table"),
    )
    return section(scene, "lineage", title, charts=[chart])


def _links(scene: Scene) -> pd.DataFrame:
    """Lines of the drawing: tables that a source feeds, or that hold rows; metrics that read one of them."""
    fed, used = _fed(scene), _used(scene)
    if sources := scene.chosen("source"):
        fed = fed[fed["source"].isin(sources)]
    used = used[used["use"].isin(COUNTING)]
    wanted = set(fed["table"]) | ({name for name, n in _counts(scene).items() if n} if not sources else set())
    known, rows = metrics(), []
    for name in canonical_tables():
        if name not in wanted:
            continue
        shown = _table_title(scene, name)
        common = {"middle": shown, "k": name}
        mine = [
            (0, _source_title(scene, str(key)), shown, len(part))
            for key, part in fed[fed["table"] == name].groupby("source")
        ]
        mine += [(1, shown, known[str(key)].title(scene.lang), part["column"].nunique())
                 for key, part in used[used["table"] == name].groupby("metric")]  # fmt: skip
        rows += [
            {**common, "stage": s, "left": a, "right": b, "n": n} for s, a, b, n in mine or [(-1, shown, shown, 0)]
        ]
    return pd.DataFrame(rows, columns=["stage", "left", "right", "middle", "k", "n"])


def tables(scene: Scene) -> Payload:
    """One row per table."""
    title = scene.say("Which tables are there?", "有哪些表?")
    rows, counts = _chosen_columns(scene), _counts(scene)
    every = _all_columns(scene)
    shown = []
    for name in dict.fromkeys(rows["table"]):
        spec, mine = canonical_tables()[name], every[every["table"] == name]
        known = counts.get(name, 0)
        reads = {name for row in mine.to_dict("records") for name in _reading(row)}
        shown.append({
            "table": name, "title": scene.say(spec.name, spec.name_zh), "row": scene.say(spec.row, spec.row_zh),
            "rows": known, "columns": f"{int(mine['has_values'].sum())} / {len(mine)}",
            "tier": TIERS[mine["tier_code"].max()][scene.lang == "zh"],
            "sources": len({source for names in mine["sources"] for source in names}), "metrics": len(reads),
            "selected": name in scene.chosen("table"),
        })  # fmt: skip
    columns = [
        column("table", scene.say("Table", "表")),
        column("title", scene.say("Name", "名称")),
        column("row", scene.say("One row is", "一行表示")),
        column("rows", scene.say("Rows", "行数"), "number"),
        column("columns", scene.say("Columns with values", "有值的列")),
        column("tier", scene.say("Highest tier", "最高密级")),
        column("sources", scene.say("Sources", "来源数"), "number"),
        column("metrics", scene.say("Metrics", "指标数"), "number"),
    ]
    if not shown:
        return section(scene, "tables", title, message=_nothing_found(scene))
    listed = table("tables", scene.say("Tables", "表"), columns, shown, filter={"name": "table", "field": "table"})
    return section(scene, "tables", title, tables=[listed])


def columns(scene: Scene) -> Payload:
    """One row per column the filters leave."""
    title = scene.say("What does a column mean, and who uses it?", "某一列是什么意思?谁在使用?")
    rows = _chosen_columns(scene)
    if rows.empty:
        return section(scene, "columns", title, message=_nothing_found(scene))
    known = metrics()
    shown = [
        {
            "name": f"{row['table']}.{row['column']}",
            "title": row["title"],
            "type": row["type"],
            "tier": row["tier_code"],
            "filled": row["filled"],
            "metrics": scene.say(", ", "、").join(known[name].title(scene.lang) for name in _reading(row)),
            "sources": _feeding(scene, row),
        }
        for row in rows.to_dict("records")
    ]
    heads = [
        column("name", scene.say("Column", "列")),
        column("title", scene.say("Meaning", "含义")),
        column("type", scene.say("Type, unit, clock", "类型、单位、时间含义")),
        column("tier", scene.say("Tier", "密级")),
        column("filled", scene.say("Filled", "填充率"), "share"),
        column("sources", scene.say("Source: its own column", "来源:原始列")),
        column("metrics", scene.say("Used by", "用于指标")),
    ]
    listed = table("columns", scene.say("Columns", "列"), heads, shown, total=len(shown))
    return section(scene, "columns", title, tables=[listed])


def _reading(row: Mapping[Any, Any]) -> list[str]:
    """Metrics whose figures the column is a part of; being a dimension is not enough."""
    pairs = zip(row["metrics"], row["uses"], strict=True)
    return list(dict.fromkeys(name for name, use in pairs if use in COUNTING))


def _feeding(scene: Scene, row: Mapping[Any, Any]) -> str:
    """`Phone hotline: 工单号; App: id`: each source with its own name for the column."""
    wanted = scene.chosen("source")
    pairs = zip(row["sources"], row["raw"], strict=True)
    return "; ".join(f"{_source_title(scene, name)}: {raw}" for name, raw in pairs if not wanted or name in wanted)


def sources(scene: Scene) -> Payload:
    """One row per source of the catalogue, with what it feeds."""
    title = scene.say("Which sources feed it?", "由哪些来源供给?")
    fed = _fed(scene)
    wanted = {name for names in _chosen_columns(scene)["sources"] for name in names}
    shown = [
        {
            "source": name, "title": _source_title(scene, name), "owner": source.owner, "connector": source.connector,
            "cadence": source.cadence, "tables": scene.say(", ", "、").join(_table_title(scene, t) for t in source.tables),
            "columns": int((fed["source"] == name).sum()), "selected": name in scene.chosen("source"),
        }
        for name, source in _sources(scene).items()
        if name in wanted
    ]  # fmt: skip
    if not shown:
        return section(scene, "sources", title, message=message("empty", scene.say(
            "No source feeds what is shown.", "没有来源供给所示内容。"), "data/sources/"))  # fmt: skip
    heads = [
        column("source", scene.say("Source", "来源")),
        column("title", scene.say("Name", "名称")),
        column("owner", scene.say("Owner", "负责人")),
        column("connector", scene.say("Connector", "接入方式")),
        column("cadence", scene.say("Cadence", "频率")),
        column("tables", scene.say("Tables it feeds", "供给的表")),
        column("columns", scene.say("Columns", "列数"), "number"),
    ]
    listed = table("sources", scene.say("Sources", "来源"), heads, shown, filter={"name": "source", "field": "source"})
    return section(scene, "sources", title, tables=[listed])


def figures(scene: Scene) -> Payload:
    """One row per metric: what it counts, what it may be split by, and whether its data are there."""
    title = scene.say("Which figures are made of it?", "由此得出哪些指标?")
    used, counts = _used(scene), _counts(scene)
    chosen = set(zip(*(_chosen_columns(scene)[name] for name in ("table", "column")), strict=True))
    shown = []
    for name, one in metrics().items():
        mine = used[used["metric"] == name]
        reads = mine[mine["use"].isin(COUNTING)]
        pairs = list(dict.fromkeys(zip(reads["table"], reads["column"], strict=True)))
        if not chosen & set(pairs):
            continue
        shown.append({
            "title": one.title(scene.lang), "metric": name, "table": _table_title(scene, one.numerator.table),
            "reads": ", ".join(field if source == one.numerator.table else f"{source}.{field}" for source, field in pairs),
            "split": ", ".join(one.dimensions), "reviewed": one.reviewed,
            "state": scene.say("ready", "可用") if counts.get(one.numerator.table) else scene.say("no data", "缺数据"),
        })  # fmt: skip
    if not shown:
        return section(scene, "figures", title, message=message("empty", scene.say(
            "No metric reads what is shown.", "没有指标使用所示内容。")))  # fmt: skip
    heads = [
        column("title", scene.say("Metric", "指标")),
        column("metric", scene.say("Id", "标识")),
        column("state", scene.say("Data", "数据")),
        column("table", scene.say("Counts rows of", "统计的表")),
        column("reviewed", scene.say("Reviewed", "复核日期"), "date"),
        column("reads", scene.say("Columns it reads", "使用的列")),
        column("split", scene.say("Split by", "可分维度")),
    ]
    return section(scene, "figures", title, tables=[table("metrics", scene.say("Metrics", "指标"), heads, shown)])


def _nothing_found(scene: Scene) -> Payload:
    return message("empty", scene.say("No column fits these filters.", "没有符合筛选条件的列。"))


SECTIONS = {
    "answer": answer,
    "lineage": lineage,
    "tables": tables,
    "columns": columns,
    "sources": sources,
    "figures": figures,
}
