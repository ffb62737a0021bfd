"""What arrived: rows by source, their volume against what was to be expected, and every file."""

from __future__ import annotations

import pandas as pd

from aftersales.publish.charts import Chart, ledger_bars, volume_bars
from aftersales.publish.contents.ingestion.facts import (
    ODD,
    all_deliveries,
    chosen_sources,
    nothing_yet,
    odd_weeks,
    of_chosen,
    source_title,
    weekly,
)
from aftersales.publish.scene import Payload, Scene, column, message, section, table

COUNTS = ["rows_read", "accepted", "rejected", "duplicate", "left_out", "values_set_aside"]
CHARTS = 6
"""Most sources whose volume is drawn; the others stand in the table."""


def arrived(scene: Scene) -> Payload:
    """Rows by source: accepted, duplicate, rejected."""
    title = scene.say("What arrived?", "到了什么数据?")
    rows = all_deliveries(scene)
    if rows.empty:
        return nothing_yet(scene, "arrived", title)
    grouped = rows[rows["is_primary"]].groupby("source")[["accepted", "rejected", "duplicate"]].sum().reset_index()
    grouped = grouped.assign(
        k=grouped["source"],
        label=[source_title(scene, name) for name in grouped["source"]],
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
    chosen = of_chosen(scene, rows)
    shown = chosen.groupby(["source", "table"], sort=False)[COUNTS].sum().reset_index()
    shown = shown.assign(title=[source_title(scene, name) for name in shown["source"]])
    return section(
        scene,
        "arrived",
        title,
        charts=[chart],
        tables=[table("by_table", scene.say("By source and table", "按来源与表"), columns, shown)],
    )


def volumes(scene: Scene) -> Payload:
    """Rows a week against what the weeks before let expect."""
    title = scene.say("Is the volume plausible?", "数据量是否合理?")
    weeks = {name: rows for name in chosen_sources(scene) if len(rows := weekly(scene, name))}
    if not weeks:
        return nothing_yet(scene, "volume", title)
    judged = {name: rows for name, rows in weeks.items() if rows["expected"].notna().any()}
    unjudged = [source_title(scene, name) for name in weeks if name not in judged]
    busiest = sorted(judged, key=lambda name: -float(judged[name]["rows"].sum()))[:CHARTS]
    note = None
    if unjudged:
        names = ", ".join(unjudged)
        text = scene.say(f"Too short a history to tell: {names}.", f"历史过短,尚无法判断:{names}。")
        note = message("weak" if judged else "empty", text)
    odd = odd_weeks(scene)
    tables = [_odd_table(scene, odd)] if len(odd) else []
    charts = [_volume_chart(scene, name, judged[name]) for name in busiest]
    return section(scene, "volume", title, message=note, charts=charts, tables=tables, facts={"odd_weeks": len(odd)})


def _states(scene: Scene) -> dict[str, str]:
    return {
        "ok": scene.say("as expected", "符合预期"),
        "too_few": scene.say("too few", "过少"),
        "too_many": scene.say("too many", "过多"),
        "missing": scene.say("nothing came", "无数据"),
        "cannot_tell": scene.say("cannot tell yet", "尚无法判断"),
        "open": scene.say("week not over", "本周未结束"),
    }


def _volume_chart(scene: Scene, name: str, rows: pd.DataFrame) -> Chart:
    states = _states(scene)
    shown = rows.assign(value=rows["rows"], state_text=rows["state"].map(states))
    odd = int(rows["state"].isin(ODD).sum())
    what = scene.say(f"{odd} of {len(rows)} weeks implausible", f"{len(rows)} 周中 {odd} 周异常")
    return volume_bars(
        shown,
        id=f"volume_{name}",
        title=source_title(scene, name),
        subtitle=what if odd else scene.say("every week plausible", "各周均合理"),
        quantity=scene.say("Rows per week (count)", "每周行数(行)"),
        expected=scene.say("Expected", "预期"),
        state=scene.say("State", "状态"),
        lang=scene.lang,
    )


def _odd_table(scene: Scene, odd: pd.DataFrame) -> Payload:
    newest = odd.sort_values(["period", "source"], ascending=[False, True])
    shown = newest.assign(
        title=[source_title(scene, name) for name in newest["source"]], state=newest["state"].map(_states(scene))
    )
    columns = [
        column("title", scene.say("Source", "来源")),
        column("period", scene.say("Week from", "周起始日"), "date"),
        column("rows", scene.say("Rows", "行数"), "number"),
        column("expected", scene.say("Expected", "预期"), "number", digits=0),
        column("low", scene.say("Plausible from", "合理下限"), "number", digits=0),
        column("high", scene.say("to", "合理上限"), "number", digits=0),
        column("state", scene.say("State", "状态")),
    ]
    return table("odd_weeks", scene.say("Implausible weeks, the newest first", "异常周,最近在前"), columns, shown)


def files(scene: Scene) -> Payload:
    """Every delivered file with its ledger."""
    title = scene.say("Which files?", "有哪些文件?")
    rows = of_chosen(scene, all_deliveries(scene))
    if rows.empty:
        return nothing_yet(scene, "files", title)
    shown = rows[rows["is_primary"]].sort_values(["source", "source_file"])
    shown = shown.assign(
        mb=shown["bytes"] / 1e6,
        sha=shown["sha256"].str[:12],
        loaded=[scene.local_text(value) for value in shown["loaded_at"]],
    )
    columns = [
        column("source_file", scene.say("File", "文件")),
        column("mb", scene.say("Size (MB)", "大小(MB)"), "number", digits=1),
        column("encoding", scene.say("Encoding", "编码")),
        column("rows_read", scene.say("Rows", "行数"), "number"),
        column("accepted", scene.say("Accepted", "接收"), "number"),
        column("rejected", scene.say("Rejected", "拒收"), "number"),
        column("loaded", scene.say("Loaded", "载入时间")),
        column("sha", scene.say("Fingerprint", "指纹")),
    ]
    return section(scene, "files", title, tables=[table("files", title, columns, shown)])
