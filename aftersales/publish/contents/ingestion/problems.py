"""What is wrong with what came: rejected rows, changed columns, values without a code, failing checks, duplicates."""

from __future__ import annotations

import pandas as pd

from aftersales.collect.drift import CONSEQUENCES, KINDS
from aftersales.publish.charts import ranked_bars
from aftersales.publish.contents.ingestion.facts import (
    all_checks,
    all_deliveries,
    changed_columns,
    code_coverage,
    nothing_yet,
    open_codes,
    open_pairs,
    reasons,
    source_title,
)
from aftersales.publish.scene import Payload, Scene, column, section, table

ROWS_SHOWN = 60


def _all_well(scene: Scene, id: str, title: str, text: tuple[str, str], detail: str | None = None) -> Payload:
    """The section when there is nothing to do: that is an answer too."""
    if all_deliveries(scene).empty:
        return nothing_yet(scene, id, title)
    return section(scene, id, title, answer={"text": scene.say(*text), "detail": detail, "tone": "quiet"})


def _titled(scene: Scene, rows: pd.DataFrame) -> list[str]:
    return [source_title(scene, name) for name in rows["source"]]


def rejected(scene: Scene) -> Payload:
    """Reasons, most frequent first, with examples."""
    title = scene.say("What was rejected, and why?", "拒收了什么?为什么?")
    rows = reasons(scene)
    if rows.empty:
        return _all_well(scene, "rejected", title, ("Nothing was set aside.", "没有被搁置的数据。"))
    counts = rows.groupby("reason").agg(value=("rows", "sum")).reset_index()
    counts = counts.sort_values(["value", "reason"], ascending=[False, True]).head(15)
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
    kinds = {
        "row": scene.say("the whole row", "整行"),
        "value": scene.say("the value; the row is kept", "仅该值,行保留"),
        "duplicate": scene.say("a repeated key with other content", "键重复但内容不同"),
    }
    head = rows.head(ROWS_SHOWN)
    shown = head.assign(
        reason=[_reason_text(scene, reason) for reason in head["reason"]],
        kind=head["kind"].map(kinds),
        source=_titled(scene, head),
        example=[
            scene.say(f"{file}, row {row:,}", f"{file},第 {row:,} 行")
            for file, row in zip(head["source_file"], head["source_row"], strict=True)
        ],
    )
    columns = [
        column("reason", scene.say("Reason", "原因")),
        column("kind", scene.say("What was set aside", "搁置对象")),
        column("rows", scene.say("Rows", "行数"), "number"),
        column("source", scene.say("Source", "来源")),
        column("example", scene.say("Example: file and row", "示例:文件与行")),
    ]
    heading = scene.say("Reasons with an example each", "原因与示例")
    return section(
        scene, "rejected", title, charts=[chart], tables=[table("reasons", heading, columns, shown, total=len(rows))]
    )


_ROW_REASONS = {
    "too_many_fields": ("too many fields", "字段过多"),
    "cut_off": ("cut off", "行被截断"),
    "not_json": ("no JSON", "不是 JSON"),
    "unterminated_quote": ("quote never closed", "引号未闭合"),
    "repeated_header": ("the header again", "重复的表头"),
    "undecodable": ("in none of the declared encodings", "所列编码均无法解码"),
}
_VALUE_REASONS = {
    "missing": ("missing", "缺失"),
    "type": ("not readable", "无法识别"),
    "unknown_value": ("unknown value", "未知取值"),
    "not_allowed": ("value not allowed", "取值不允许"),
    "destroyed_by_excel": ("rounded by a spreadsheet", "编号被电子表格取整(科学计数法)"),
    "erased": ("erased on request", "已按请求删除"),
}


def _reason_text(scene: Scene, reason: str) -> str:
    """`closed_at:before_created_at` in words."""
    place, _, what = reason.partition(":")
    if place == "row":
        return scene.say(*(f"{word}{text}" for word, text in zip(("row: ", "行:"), _ROW_REASONS.get(what, (what, what)), strict=True)))  # fmt: skip
    if what in _VALUE_REASONS:
        return f"{place}: {scene.say(*_VALUE_REASONS[what])}"
    return f"{place}: {what.replace('_', ' ')}"


def drift(scene: Scene) -> Payload:
    """Columns that are new, missing or renamed, each with a proposal."""
    title = scene.say("Did the files change their columns?", "文件的字段有变化吗?")
    rows = changed_columns(scene)
    if rows.empty:
        return _all_well(scene, "drift", title, ("Every file has the columns it had.", "各文件字段与以往一致。"))
    head = rows.head(ROWS_SHOWN)
    shown = head.assign(
        kind=[scene.say(*KINDS[kind]) for kind in head["kind"]],
        consequence=[scene.say(*CONSEQUENCES[what]) for what in head["consequence"]],
        title=_titled(scene, head),
    )
    columns = [
        column("title", scene.say("Source", "来源")),
        column("file", scene.say("File", "文件")),
        column("kind", scene.say("Change", "变化")),
        column("column", scene.say("Column", "字段")),
        column("consequence", scene.say("Consequence", "后果")),
        column("proposal", scene.say("Proposal for the source's YAML", "建议(写入来源 YAML)")),
    ]
    return section(scene, "drift", title, tables=[table("drift", title, columns, shown, total=len(rows))])


def codes(scene: Scene) -> Payload:
    """Values that no code list knows, by frequency, with suggestions; and how much the lists cover."""
    title = scene.say("Which values have no code?", "哪些取值没有编码?")
    covered, rows = code_coverage(scene), open_codes(scene)
    if covered.empty:
        return _all_well(scene, "codes", title, ("No source uses a code list.", "没有来源使用编码表。"))
    tables = [_coverage_table(scene, covered[covered["share"] < 1])] if (covered["share"] < 1).any() else []
    if len(rows):
        head = rows.head(ROWS_SHOWN)
        fate = {
            "reject": scene.say("row rejected", "整行拒收"),
            "blank": scene.say("value left out", "值留空"),
            "keep": scene.say("kept as it is", "原样保留"),
        }
        shown = head.assign(title=_titled(scene, head), place=head["table"] + "." + head["column"],
                            fate=head["otherwise"].map(fate))  # fmt: skip
        columns = [
            column("value", scene.say("Value", "取值")),
            column("rows", scene.say("Rows", "行数"), "bar"),
            column("suggestion", scene.say("Suggested code", "建议编码")),
            column("score", scene.say("Likeness (0-100)", "相似度(0-100)"), "number", digits=0),
            column("because", scene.say("Because of", "依据")),
            column("place", scene.say("Column", "字段")),
            column("title", scene.say("Source", "来源")),
            column("fate", scene.say("Until then", "暂时处理")),
        ]
        heading = scene.say("Values without a code, the most frequent first", "未映射取值,频次高者在前")
        tables.insert(0, table("unmapped", heading, columns, shown, total=len(rows)))
    n = len(covered)
    text = scene.say(f"Every value of {n} columns has a code.", f"{n} 个字段的取值均已映射。")
    well = None if len(rows) else {"text": text, "detail": None, "tone": "quiet"}
    return section(scene, "codes", title, answer=well, tables=tables)


def _coverage_table(scene: Scene, covered: pd.DataFrame) -> Payload:
    """Code lists that lack a value, with the share of values they know."""
    head = covered.head(ROWS_SHOWN)
    shown = head.assign(
        title=_titled(scene, head), place=head["table"] + "." + head["column"], list=head["map"].replace("", "YAML")
    )
    columns = [
        column("title", scene.say("Source", "来源")),
        column("place", scene.say("Column", "字段")),
        column("list", scene.say("Code list", "编码表")),
        column("good", scene.say("Values mapped", "已映射值"), "number"),
        column("base", scene.say("Values", "取值数"), "number"),
        column("share", scene.say("Coverage", "覆盖率"), "share"),
    ]
    heading = scene.say("Code lists that lack a value, the worst first", "有缺漏的编码表,最差在前")
    return table("coverage", heading, columns, shown, total=len(covered))


def checks(scene: Scene) -> Payload:
    """Checks of the tables that fail, or cannot be told yet."""
    title = scene.say("Do the rows make sense?", "数据是否合理?")
    rows = all_checks(scene)
    if rows.empty:
        return _all_well(scene, "checks", title, ("Nothing has been checked yet.", "尚无检查结果。"))
    wanted = rows[rows["state"].isin(["failing", "cannot_tell"])]
    passed = int((rows["state"] == "ok").sum())
    if wanted.empty:
        return _all_well(scene, "checks", title, (f"All {passed} checks pass.", f"全部 {passed} 项检查通过。"))
    states = {
        "failing": scene.say("fails", "未通过"),
        "cannot_tell": scene.say("cannot tell yet", "尚无法判断"),
    }
    kinds = {
        "required": scene.say("must be there", "必填"),
        "range": scene.say("range", "取值范围"),
        "reference": scene.say("refers to", "引用"),
        "order": scene.say("order of times", "时间先后"),
        "allowed": scene.say("allowed values", "允许取值"),
    }
    head = wanted.head(ROWS_SHOWN)
    shown = head.assign(
        title=_titled(scene, head),
        place=head["table"] + "." + head["column"],
        kind=[kinds.get(kind, kind) for kind in head["kind"]],
        state=head["state"].map(states),
        examples=[", ".join(map(str, keys)) for keys in head["examples"]],
    )
    columns = [
        column("place", scene.say("Column", "字段")),
        column("kind", scene.say("Check", "检查")),
        column("rule", scene.say("Rule", "规则")),
        column("n_failing", scene.say("Rows that fail", "不符行数"), "number"),
        column("n_checked", scene.say("Rows checked", "检查行数"), "number"),
        column("share", scene.say("Share", "占比"), "share"),
        column("state", scene.say("State", "状态")),
        column("examples", scene.say("Examples (keys)", "示例(主键)")),
        column("title", scene.say("Source", "来源")),
    ]
    heading = scene.say(f"{len(wanted)} of {len(rows)} checks want a look; {passed} pass", f"{len(rows)} 项检查中 {len(wanted)} 项需查看,{passed} 项通过")  # fmt: skip
    return section(scene, "checks", title, tables=[table("checks", heading, columns, shown, total=len(wanted))])  # fmt: skip


def duplicates(scene: Scene) -> Payload:
    """Pairs of tickets that are probably one; a person decides, nothing is merged by itself."""
    title = scene.say("Which tickets are probably the same?", "哪些工单可能重复?")
    pairs = open_pairs(scene)
    if not pairs:
        text = ("No pair waits for a decision.", "没有待判定的重复对。")
        return _all_well(scene, "duplicates", title, text, "aftersales duplicates find")
    shown = [
        {
            "left": pair.left_id,
            "right": pair.right_id,
            "score": pair.score,
            "hours": pair.evidence.get("hours_between"),
            "text": pair.evidence.get("text_similarity"),
            "same": _agreements(scene, pair.evidence),
            "pair": pair.pair_id,
        }
        for pair in pairs[:ROWS_SHOWN]
    ]
    columns = [
        column("left", scene.say("Ticket", "工单")),
        column("right", scene.say("Probably the same as", "疑似重复于")),
        column("score", scene.say("Score (0-100)", "得分(0-100)"), "number", digits=0),
        column("same", scene.say("What agrees", "一致项")),
        column("text", scene.say("Likeness of the text", "文本相似度"), "share"),
        column("hours", scene.say("Hours between", "间隔(小时)"), "number", digits=1),
        column("pair", scene.say("Number of the pair", "配对编号")),
    ]
    heading = scene.say("Pairs to decide, the surest first", "待判定配对,最可信在前")
    return section(scene, "duplicates", title, tables=[table("duplicates", heading, columns, shown, total=len(pairs))])


_AGREEMENTS = {
    "customer": ("customer", "客户"),
    "unit": ("unit", "产品"),
    "symptom": ("symptom", "症状"),
    "channel": ("channel", "渠道"),
}


def _agreements(scene: Scene, evidence: object) -> str:
    facts = dict(evidence) if isinstance(evidence, dict) else {}
    return scene.say(", ", "、").join(scene.say(*words) for name, words in _AGREEMENTS.items() if facts.get(name) == "same")  # fmt: skip
