"""Ingestion: what arrived, what was rejected and why, how fresh it is."""

from __future__ import annotations

import pandas as pd

from aftersales.collect.ledger import fresh_sources, latest_deliveries, set_aside
from aftersales.collect.mapping import Source, catalogue
from aftersales.publish.charts import ledger_bars, number_text, ranked_bars
from aftersales.publish.scene import Payload, Scene, column, message, section, table


def _deliveries(scene: Scene) -> pd.DataFrame:
    rows = scene.once("deliveries", lambda: latest_deliveries(scene.snapshot))
    chosen = scene.chosen("source")
    return rows[rows["source"].isin(chosen)] if chosen else rows


def _sources(scene: Scene) -> dict[str, Source]:
    return scene.once("sources", lambda: catalogue(scene.workspace))


def _title(scene: Scene, name: str) -> str:
    source = _sources(scene).get(name)
    return source.title.get(scene.lang, name) if source else name


def _nothing(scene: Scene, id: str, title: str) -> Payload:
    return section(
        scene,
        id,
        title,
        message=message("empty", scene.say("Nothing has been loaded yet.", "尚未载入任何数据。"), "aftersales ingest"),
    )


def answer(scene: Scene) -> Payload:
    """Is everything here, and can it be trusted?"""
    title = scene.say("Is all feedback here?", "反馈数据是否齐全?")
    rows = _deliveries(scene)
    if rows.empty:
        return _nothing(scene, "answer", title)
    first = rows[rows["is_primary"]]
    read, accepted, rejected, duplicate = (
        int(first[name].sum()) for name in ("rows_read", "accepted", "rejected", "duplicate")
    )
    late = fresh_sources(scene.snapshot, _sources(scene), scene.as_of)
    late_n = int((late["state"] == "late").sum())
    text = scene.say(
        f"{read:,} rows read: {accepted:,} accepted, {duplicate:,} duplicate, {rejected:,} rejected ({number_text(rejected / read, 'share')}). None unaccounted for.",
        f"共读取 {read:,} 行:接收 {accepted:,}、重复 {duplicate:,}、拒收 {rejected:,}({number_text(rejected / read, 'share')}),全部可追溯。",
    )
    fresh = scene.say(
        f"{late_n} of {len(late)} sources are late." if late_n else "Every source is as fresh as promised.",
        f"{len(late)} 个来源中 {late_n} 个延迟。" if late_n else "所有来源均按约定更新。",
    )
    facts = {
        "rows_read": read,
        "accepted": accepted,
        "rejected": rejected,
        "duplicate": duplicate,
        "balanced": read == accepted + rejected + duplicate,
    }
    return section(
        scene,
        "answer",
        title,
        answer={"text": f"{text} {fresh}", "detail": None, "tone": "finding" if late_n else "quiet"},
        facts=facts,
    )


def arrived(scene: Scene) -> Payload:
    """Rows by source: accepted, duplicate, rejected."""
    title = scene.say("What arrived?", "到了什么数据?")
    rows = scene.once("deliveries", lambda: latest_deliveries(scene.snapshot))
    if rows.empty:
        return _nothing(scene, "arrived", title)
    grouped = rows[rows["is_primary"]].groupby("source")[["accepted", "rejected", "duplicate"]].sum().reset_index()
    grouped = grouped.assign(
        k=grouped["source"],
        label=[_title(scene, name) for name in grouped["source"]],
        total=grouped[["accepted", "rejected", "duplicate"]].sum(axis=1),
    )
    chart = ledger_bars(
        grouped.sort_values("total", ascending=False),
        id="ledger",
        title=scene.say("Rows read, by source", "各来源读取行数"),
        quantity=scene.say("Rows (count)", "行数(行)"),
        subtitle=scene.say("read = accepted + rejected + duplicate", "读取 = 接收 + 拒收 + 重复"),
        name=scene.say("Source", "来源"),
        lang=scene.lang,
        filter="source",
        selected=scene.chosen("source"),
        wide=True,
    )
    columns = [
        column("title", scene.say("Source", "来源")),
        column("table", scene.say("Table", "表")),
        column("rows_read", scene.say("Read", "读取"), "number"),
        column("accepted", scene.say("Accepted", "接收"), "number"),
        column("rejected", scene.say("Rejected", "拒收"), "number"),
        column("duplicate", scene.say("Duplicate", "重复"), "number"),
        column("left_out", scene.say("Not for this table", "不属于此表"), "number"),
        column("values_set_aside", scene.say("Values set aside", "搁置的值"), "number"),
    ]
    shown = (
        _deliveries(scene)
        .groupby(["source", "table"], sort=False)[
            ["rows_read", "accepted", "rejected", "duplicate", "left_out", "values_set_aside"]
        ]
        .sum()
        .reset_index()
    )
    shown = shown.assign(title=[_title(scene, name) for name in shown["source"]])
    return section(
        scene,
        "arrived",
        title,
        charts=[chart],
        tables=[table("by_table", scene.say("By source and table", "按来源与表"), columns, shown)],
    )


def rejected(scene: Scene) -> Payload:
    """Reasons, most frequent first, with examples."""
    title = scene.say("What was rejected, and why?", "拒收了什么?为什么?")
    rows = set_aside(scene.snapshot, scene.chosen("source"))
    if rows.empty:
        return section(
            scene,
            "rejected",
            title,
            message=message("empty", scene.say("Nothing was set aside.", "没有被搁置的数据。")),
        )
    counts = (
        rows.groupby("reason")
        .agg(value=("rows", "sum"))
        .reset_index()
        .sort_values(["value", "reason"], ascending=[False, True])
        .head(15)
    )
    counts = counts.assign(
        k=counts["reason"], label=[_reason_text(scene, reason) for reason in counts["reason"]], n=counts["value"]
    )
    chart = ranked_bars(
        counts,
        id="reasons",
        title=scene.say("Rows and values set aside, by reason", "按原因统计的搁置行与值"),
        quantity=scene.say("Rows (count)", "行数(行)"),
        name=scene.say("Reason", "原因"),
        lang=scene.lang,
        colour="bad",
        wide=True,
    )
    columns = [
        column("reason", scene.say("Reason", "原因")),
        column("kind", scene.say("What was set aside", "搁置对象")),
        column("rows", scene.say("Rows", "行数"), "number"),
        column("source", scene.say("Source", "来源")),
        column("example", scene.say("Example: file and row", "示例:文件与行")),
    ]
    kinds = {
        "row": scene.say("the whole row", "整行"),
        "value": scene.say("the value; the row is kept", "仅该值,行保留"),
        "duplicate": scene.say("a repeated key with other content", "键重复但内容不同"),
    }
    shown = rows.head(60).assign(
        kind=rows["kind"].map(kinds),
        source=[_title(scene, name) for name in rows.head(60)["source"]]
        if len(rows) <= 60
        else [_title(scene, name) for name in rows["source"]][:60],
        example=[
            f"{file}, {scene.say('row', '第')} {row:,}{scene.say('', ' 行')}"
            for file, row in zip(rows["source_file"].head(60), rows["source_row"].head(60), strict=True)
        ],
    )
    return section(
        scene,
        "rejected",
        title,
        charts=[chart],
        tables=[
            table("reasons", scene.say("Reasons with an example each", "原因与示例"), columns, shown, total=len(rows))
        ],
    )


def _reason_text(scene: Scene, reason: str) -> str:
    """`closed_at:before_created_at` in words."""
    column_name, _, what = reason.partition(":")
    if column_name == "row":
        words = {
            "too_many_fields": ("too many fields", "字段过多"),
            "cut_off": ("cut off", "行被截断"),
            "not_json": ("no JSON", "不是 JSON"),
            "unterminated_quote": ("quote never closed", "引号未闭合"),
            "undecodable": ("in none of the declared encodings", "所列编码均无法解码"),
            "repeated_header": ("the header again", "重复的表头"),
        }
        return scene.say("row: " + words.get(what, (what, what))[0], "行:" + words.get(what, (what, what))[1])
    words = {
        "missing": ("missing", "缺失"),
        "type": ("not readable", "无法识别"),
        "unknown_value": ("unknown value", "未知取值"),
        "not_allowed": ("value not allowed", "取值不允许"),
        "destroyed_by_excel": ("rounded by a spreadsheet", "编号被电子表格取整(科学计数法)"),
    }
    if what in words:
        return f"{column_name}: {scene.say(*words[what])}"
    return f"{column_name}: {what.replace('_', ' ')}"


def fresh(scene: Scene) -> Payload:
    """How far each source goes and when it was last loaded, against its promise."""
    title = scene.say("How fresh is it?", "数据有多新?")
    rows = fresh_sources(scene.snapshot, _sources(scene), scene.as_of)
    if rows.empty:
        return _nothing(scene, "fresh", title)
    states = {
        "fresh": scene.say("as promised", "按约定"),
        "late": scene.say("late", "延迟"),
        "never": scene.say("never loaded", "从未载入"),
    }
    shown = rows.assign(
        title=[_title(scene, name) for name in rows["source"]],
        newest=[scene.local_text(value) for value in rows["newest_known_at"]],
        loaded=[scene.local_text(value) for value in rows["loaded_at"]],
        promise=[f"{hours:g} h" for hours in rows["fresh_within_hours"]],
        state=rows["state"].map(states),
    )
    columns = [
        column("title", scene.say("Source", "来源")),
        column("owner", scene.say("Owner", "负责人")),
        column("newest", scene.say("Newest row known", "最新一行获知时间")),
        column("age_hours", scene.say("Age (h)", "距今(小时)"), "number", digits=0),
        column("promise", scene.say("Promised within", "约定时效")),
        column("state", scene.say("State", "状态")),
        column("loaded", scene.say("Last loaded", "最近载入")),
    ]
    return section(scene, "fresh", title, tables=[table("fresh", title, columns, shown)])


def files(scene: Scene) -> Payload:
    """Every delivered file with its ledger."""
    title = scene.say("Which files?", "有哪些文件?")
    rows = _deliveries(scene)
    if rows.empty:
        return _nothing(scene, "files", title)
    shown = rows[rows["is_primary"]].sort_values(["source", "source_file"])
    shown = shown.assign(mb=shown["bytes"] / 1e6, speed=shown["rows_read"] / shown["seconds"].clip(lower=0.001))
    columns = [
        column("source_file", scene.say("File", "文件")),
        column("mb", scene.say("Size (MB)", "大小(MB)"), "number", digits=1),
        column("encoding", scene.say("Encoding", "编码")),
        column("rows_read", scene.say("Rows", "行数"), "number"),
        column("accepted", scene.say("Accepted", "接收"), "number"),
        column("rejected", scene.say("Rejected", "拒收"), "number"),
        column("duplicate", scene.say("Duplicate", "重复"), "number"),
        column("sha", scene.say("Fingerprint", "指纹")),
    ]
    shown = shown.assign(sha=shown["sha256"].str[:12])
    return section(scene, "files", title, tables=[table("files", title, columns, shown)])


SECTIONS = {"answer": answer, "arrived": arrived, "rejected": rejected, "fresh": fresh, "files": files}
