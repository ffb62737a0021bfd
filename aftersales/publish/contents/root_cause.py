"""Root cause: what fails, since when, on what, compared with what, and how sure that is."""

from __future__ import annotations

import datetime as dt
import math
from dataclasses import asdict
from typing import Any

import pandas as pd

from aftersales.attribute.cells import MISSING, Cells, failure_cells
from aftersales.attribute.drilldown import Drilldown, Finding, drill_down, rates_by
from aftersales.attribute.pareto import pareto
from aftersales.improve.actions import list_actions
from aftersales.lake.register import open_register
from aftersales.lake.suppression import STATE, is_small, told
from aftersales.measure.compute import MetricResult
from aftersales.measure.definitions import metric
from aftersales.measure.dimensions import UNIT_SIDE, dimension_title, filled_unit_dimensions, find_dimension
from aftersales.measure.selection import only_failures, refused_units
from aftersales.model.errors import MetricError
from aftersales.publish.charts import Chart, heat, monthly_counts, ranked_bars, rates_with_intervals, trend
from aftersales.publish.scene import Payload, Scene, column, message, section, table
from aftersales.publish.wording import number_kind, quantity

UNIT_FILTERS = ("model", "generation", "batch", "supplier", "region", "fw_version")
MODES = {"failure_rate": "fault_code", "complaint_rate": "category"}
MOST_EVENTS = 8
COUNTS = {"failure_rate": "repair", "complaint_rate": "complaint"}
COUNT_METRICS = {"failure_rate": "repair_count", "complaint_rate": "complaint_count"}


def _question(scene: Scene) -> str:
    """The rate in question; complaints where there are no repairs."""
    name = scene.text("measure")
    if name == "failure_rate" and not scene.snapshot.has_rows("repair") and scene.snapshot.has_rows("complaint"):
        return "complaint_rate"
    return name


def _has_rate(scene: Scene) -> bool:
    events = COUNTS[_question(scene)]
    has_both = scene.snapshot.has_rows("unit") and scene.snapshot.has_rows(events)
    return has_both and not only_failures(scene.snapshot, events)


def _no_rate(scene: Scene) -> str:
    """Why there is no rate: no units, or only those that failed."""
    listed = only_failures(scene.snapshot, COUNTS[_question(scene)]) if scene.snapshot.has_rows("unit") else ()
    if listed:
        return scene.say(*refused_units(listed))
    return scene.say(
        "No rate can be given: no units in service are known, so failures have no base. Counts are shown below.",
        "无法给出比率:没有在用产品数据,故障数缺少基数。以下仅显示数量。",
    )


def _mode(scene: Scene) -> str:
    """The dimension that says how it failed, or what about: failure mode, component group or category."""
    name = _question(scene)
    mode = MODES[name]
    if name == "complaint_rate":
        try:
            find_dimension(scene.snapshot, "complaint", "component_group")
        except MetricError:
            return mode
        return "component_group"
    return mode


def _window(scene: Scene) -> tuple[dt.date | None, dt.date | None]:
    start, end = scene.text("start"), scene.text("end")
    return (dt.date.fromisoformat(start) if start else None, dt.date.fromisoformat(end) if end else None)


def _cells(scene: Scene) -> Cells:
    def make() -> Cells:
        start, end = _window(scene)
        chosen = scene.chosen("failure_mode")
        return failure_cells(
            scene.snapshot,
            _question(scene),
            filled_unit_dimensions(scene.snapshot),
            as_of=scene.as_of,
            start=start,
            end=end,
            where=scene.where(*UNIT_FILTERS),
            events_where={_mode(scene): chosen} if chosen else {},
        )

    scene.metric_versions[_question(scene)] = metric(_question(scene)).version
    return scene.once("cells", make)


def _drill(scene: Scene) -> Drilldown:
    return scene.once("drill", lambda: drill_down(_cells(scene), max_findings=scene.number("max_findings")))


def _event_where(scene: Scene, skip: str | None = None) -> dict[str, list[str]]:
    """Filters for counts of events: unit and product side, and the failure mode under its own name."""
    where = scene.where(*UNIT_FILTERS, skip=skip)
    if scene.chosen("failure_mode") and skip != "failure_mode":
        where[_mode(scene)] = scene.chosen("failure_mode")
    return where


# --------------------------------------------------------------------------------------------------- the answer


def answer(scene: Scene) -> Payload:
    """One sentence a manager can repeat, and the findings for the run's record."""
    title = scene.say("The answer", "结论")
    if not _has_rate(scene):
        return section(
            scene,
            "answer",
            title,
            message=message("refused", _no_rate(scene)),
            facts={"findings": []},
            answer={"text": _counts_sentence(scene), "detail": None, "tone": "quiet"},
        )
    drill, cells = _drill(scene), _cells(scene)
    if not drill.failures or is_small([drill.failures], scene.snapshot.smallest).any():
        return section(scene, "answer", title, message=_too_few(scene, drill.failures), facts={"findings": []})
    tone = "finding" if drill.findings else "quiet"
    detail = scene.say(
        f"{drill.failures:,} ripe failures in {drill.unit_months:,.0f} unit-months, {cells.start} to {cells.end}; "
        f"{drill.cells_screened:,} cells compared at equal time in service, false discoveries held at 5 %. "
        '"Goes together with" is not yet a cause: the 8D verifies that.',
        f"{cells.start} 至 {cells.end} 共 {drill.failures:,} 次已成熟故障、{drill.unit_months:,.0f} 台月;按相同使用时长比较了 "
        f"{drill.cells_screened:,} 个单元,错误发现率控制在 5 %。“相关”尚非“原因”,需由 8D 验证。",
    )
    notice = None if drill.findings else message("weak", _power_text(scene, drill))
    findings = [{**asdict(finding), "path": finding.path()} for finding in drill.findings]
    return section(
        scene,
        "answer",
        title,
        answer={"text": drill.summary(scene.lang), "detail": detail, "tone": tone},
        message=notice,
        facts={"findings": findings, "cells_screened": drill.cells_screened},
    )


def _too_few(scene: Scene, n: int) -> Payload:
    """Why nothing is said of so few failures: none, or too few to be told."""
    if n == 0:
        return message("empty", scene.say("No failures match these filters.", "没有符合筛选条件的故障。"))
    least = scene.snapshot.smallest
    text = scene.say(f"Fewer than {least} failures match: not shown.", f"符合条件的故障少于 {least} 例:不予显示。")
    return message("refused", text)


def _counts_sentence(scene: Scene) -> str:
    result = scene.metric("complaint_count", where=_event_where(scene), start=_window(scene)[0], end=_window(scene)[1])
    if result.state in ("suppressed", "refused"):
        return result.refusal(scene.lang)
    n = int(result.rows["count"].iloc[0]) if result.state == "ok" else 0
    return scene.say(f"{n:,} complaints match.", f"共有 {n:,} 条投诉。")


def _power_text(scene: Scene, drill: Drilldown) -> str:
    """How small an excess this much data could have shown, for a cell with a tenth of the failures."""
    share = max(drill.failures / 10, 1.0)
    ratio = 1 + 4 / share**0.5
    return scene.say(
        f"A group with a tenth of the failures would have to fail about {ratio:.1f} times as often to be seen here.",
        f"以占十分之一故障的分组计,故障率须约达 {ratio:.1f} 倍才能在此看出。",
    )


# -------------------------------------------------------------------------------------------------------- where


def where(scene: Scene) -> Payload:
    """Pareto of failure modes or components: a click filters the page."""
    start, end = _window(scene)
    mode = _mode(scene)
    result = pareto(
        scene.snapshot,
        COUNTS[_question(scene)],
        mode,
        as_of=scene.as_of,
        start=start,
        end=end,
        where=_event_where(scene, skip="failure_mode"),
        counted=metric(COUNT_METRICS[_question(scene)]).numerator.where,
    )
    title = scene.say("What fails most?", "哪些故障最多?")
    if result.rows.empty:
        return section(
            scene,
            "where",
            title,
            message=message("empty", scene.say("Nothing matches these filters.", "没有符合筛选条件的数据。")),
        )
    if result.shown.empty:
        return section(scene, "where", title, message=scene.left_out(result))
    rows = result.shown.head(15).rename(columns={"count": "value"})
    rows = rows.assign(
        k=rows[mode].fillna(MISSING),
        label=rows[mode].map(scene.label),
        n=rows["value"],
        base=result.total,
        share=rows["cumulative_share"] if not result.is_multiple else None,
    )
    noun = (
        scene.say("Complaints", "投诉数") if _question(scene) == "complaint_rate" else scene.say("Failures", "故障数")
    )
    note = (
        scene.say(
            "One complaint can name several components: bars add up to more than the total.",
            "一条投诉可涉及多个部件,各条之和大于总数。",
        )
        if result.is_multiple
        else ""
    )
    chart = ranked_bars(
        rows,
        id="pareto",
        title=scene.say(f"{noun} by {dimension_title(mode).lower()}", f"按{dimension_title(mode, 'zh')}的{noun}"),
        subtitle=scene.say(f"{result.total:,} in all. {note}", f"共 {result.total:,}。{note}").strip(),
        quantity=scene.say(f"{noun} (count)", f"{noun}(次)"),
        name=dimension_title(mode, scene.lang),
        lang=scene.lang,
        filter="failure_mode",
        selected=scene.chosen("failure_mode"),
        wide=True,
    )
    return section(scene, "where", title, charts=[chart], message=scene.left_out(result))


# --------------------------------------------------------------------------------------------------- since when


def since_when(scene: Scene) -> Payload:
    """The rate, or the count where there is no rate, by quarter."""
    title = scene.say("Since when?", "从何时开始?")
    start, end = _window(scene)
    grain = scene.text("grain")
    if _has_rate(scene) and not scene.chosen("failure_mode"):
        result = scene.metric(_question(scene), where=scene.where(*UNIT_FILTERS), start=start, end=end, period=grain)  # type: ignore[arg-type]
    else:
        name = COUNT_METRICS[_question(scene)]
        result = scene.metric(name, where=_event_where(scene), start=start, end=end, period=grain)  # type: ignore[arg-type]
    if result.state != "ok":
        return section(scene, "since_when", title, message=message("empty", result.refusal(scene.lang)))
    rows = _whole_periods(result, grain)
    is_count = result.metric.unit == "count"
    options: dict[str, Any] = {
        "id": "since_when",
        "title": quantity(result.metric, scene.lang),
        "grain": grain,
        "lang": scene.lang,
        "wide": True,
        "subtitle": scene.say("by the date it was reported", "按上报日期"),
        "events": _events(scene),
    }
    chart: Chart = (
        monthly_counts(rows, quantity=quantity(result.metric, scene.lang) + scene.say(" (count)", "(次)"), **options)
        if is_count
        else trend(rows, quantity=quantity(result.metric, scene.lang), number=number_kind(result.metric), **options)
    )
    columns = [
        column("period", scene.say("Period", "时期"), "date"),
        column("count", scene.say("Count", "数量"), "number"),
        *(
            []
            if is_count
            else [
                column("base", scene.say("Unit-months", "台月"), "number", digits=0),
                column("value", quantity(result.metric, scene.lang), "number", digits=1),
            ]
        ),
        column("low", scene.say("Low", "下限"), "number", digits=1),
        column("high", scene.say("High", "上限"), "number", digits=1),
        column("ripe_text", scene.say("Ripe", "成熟")),
    ]
    shown = rows.assign(
        ripe_text=[scene.say("yes", "是") if ripe else scene.say("not yet", "尚未") for ripe in rows["ripe"]],
        count=rows["n"],
    )
    shown["period"] = [_period_label(day, grain) for day in rows["period"]]
    return section(
        scene,
        "since_when",
        title,
        charts=[chart],
        message=scene.left_out(result),
        tables=[table("by_period", scene.say("The same figures", "数据表"), columns, shown)],
    )


def _events(scene: Scene) -> list[Payload]:
    """Recalls of the chosen products and components, and actions on the failure mode, to be marked on the time axis.

    Too many marks say nothing: beyond `MOST_EVENTS` none is drawn.
    """
    events = [*_recalls(scene), *_implemented_actions(scene)]
    return sorted(events, key=lambda event: str(event["period"])) if len(events) <= MOST_EVENTS else []


def _recalls(scene: Scene) -> list[Payload]:
    """Campaigns on the chosen products whose component begins like a chosen one: taxonomies are renamed over the years."""
    snapshot, where = scene.snapshot, scene.where("model", "generation")
    if not snapshot.has_rows("recall") or not (where or scene.chosen("failure_mode")):
        return []
    recalls, tags, products = snapshot.table("recall"), snapshot.table("tag"), snapshot.table("product")
    tags = tags.filter(tags.source_table == "recall")
    for name, values in where.items():
        products = products.filter(products[name].isin(values))
    about = [tags.filter((tags.tag_set == "product") & tags.tag.isin(products.product_id))] if where else []
    for mode in scene.chosen("failure_mode"):
        about.append(tags.filter((tags.tag_set == "component") & tags.tag.startswith(mode)))
    for matching in about:
        recalls = recalls.filter(recalls.recall_id.isin(matching.source_id))
    found = recalls.select("recall_id", "published_at").execute().dropna()
    return [{"period": row.published_at.date(), "label": row.recall_id} for row in found.itertuples()]


def _implemented_actions(scene: Scene) -> list[Payload]:
    with open_register(scene.workspace) as register:
        actions = list_actions(register)
    modes = scene.chosen("failure_mode")
    return [
        {"period": action.implemented_at, "label": action.action_id}
        for action in actions
        if action.implemented_at and (not modes or action.failure_mode in modes)
    ]


def _period_label(day: dt.date, grain: str) -> str:
    stamp = pd.Timestamp(day)
    return f"{stamp.year}Q{stamp.quarter}" if grain == "quarter" else stamp.strftime("%Y-%m")


def _whole_periods(result: MetricResult, grain: str) -> pd.DataFrame:
    """Rows of every period of the window, zeros included where a count is zero."""
    rows = result.shown.rename(columns={"count": "n"}).copy()
    if result.metric.unit == "count" and len(rows):
        code = {"month": "M", "quarter": "Q", "year": "Y"}[grain]
        every = [
            period.start_time.date()
            for period in pd.period_range(rows["period"].min(), rows["period"].max(), freq=code)
        ]
        hidden = set(result.rows["period"]) - set(rows["period"])  # withheld, not zero
        every = [day for day in every if day not in hidden]
        rows = rows.set_index("period").reindex(every).rename_axis("period").reset_index()
        rows[["n", "base", "value"]] = rows[["n", "base", "value"]].fillna(0)
        rows["ripe"] = rows["ripe"].astype("boolean").fillna(True).astype(bool)
    return rows


# ------------------------------------------------------------------------------------------------------- on what


def on_what(scene: Scene) -> Payload:
    """Failure rate of each value of one dimension against the rest, at equal time in service."""
    title = scene.say("On what?", "出在什么产品上?")
    if not _has_rate(scene):
        return _counts_by(scene, title)
    cells = _cells(scene)
    by = scene.text("by") if scene.text("by") in cells.dimensions else (cells.dimensions or ("model",))[0]
    notices = _skipped_text(scene, cells, scene.text("by"))
    if scene.text("by") in cells.skipped:
        return section(scene, "on_what", title, message=message("refused", notices))
    rates = rates_by(cells, [by])
    rates = rates[(rates["failures"] + rates["expected"] > 0).fillna(True).astype(bool)]  # withheld ones stay
    if rates.empty:
        text = scene.say("No failures match these filters.", "没有符合筛选条件的故障。")
        return section(scene, "on_what", title, message=message("empty", text))
    rows = (
        rates[(rates[by] != MISSING) & (rates["state"] != STATE)]
        .head(20)
        .assign(
            k=lambda t: t[by],
            label=lambda t: t[by],
            value=lambda t: t["ratio"],
            n=lambda t: t["failures"],
            base=lambda t: t["unit_months"],
        )
    )
    name = dimension_title(by, scene.lang)
    chart = rates_with_intervals(
        rows[rows["value"].notna()],
        id="on_what",
        title=scene.say(f"{name}: times what units of equal age elsewhere show", f"{name}:相对同龄其他产品的倍数"),
        subtitle=scene.say(
            "Dot: failures against expected; line: 95 % interval; worst first", "点:实际/预期;线:95 % 区间;最差在上"
        ),
        quantity=scene.say("Ratio to the rest (1 = as expected)", "与其余之比(1 = 符合预期)"),
        overall=1.0,
        name=name,
        number="ratio",
        lang=scene.lang,
        filter=by if by in UNIT_FILTERS else None,
        selected=scene.chosen(by) if by in UNIT_FILTERS else (),
        wide=True,
    )
    charts = [chart, *_pair_chart(scene, cells)]
    notice = message("weak", notices) if notices else None
    tables = [_rates_table(scene, cells, rates, by)]
    return section(scene, "on_what", title, charts=charts, message=notice, tables=tables)


def _counts_by(scene: Scene, title: str) -> Payload:
    start, end = _window(scene)
    name = COUNT_METRICS[_question(scene)]
    result = scene.metric(name, ["model"], where=_event_where(scene, skip="model"), start=start, end=end)
    if result.state != "ok":
        return section(scene, "on_what", title, message=message("empty", result.refusal(scene.lang)))
    rows = result.shown.sort_values("count", ascending=False).head(20)
    rows = rows.assign(k=rows["model"], label=rows["model"].fillna(scene.say("not stated", "未注明")), n=rows["count"])
    chart = ranked_bars(
        rows,
        id="on_what",
        title=scene.say("Counts by model", "按型号的数量"),
        quantity=scene.say("Count", "数量(次)"),
        subtitle=scene.say(
            "Counts, not rates: how many of each are in use is not known", "仅为数量,并非比率:各型号在用台数未知"
        ),
        name=dimension_title("model", scene.lang),
        lang=scene.lang,
        filter="model",
        selected=scene.chosen("model"),
        wide=True,
    )
    return section(scene, "on_what", title, charts=[chart], message=scene.left_out(result))


def _pair_chart(scene: Scene, cells: Cells) -> list[Chart]:
    """A heat map over the two dimensions of the first two-dimensional finding."""
    pairs = [finding for finding in _drill(scene).findings if len(finding.cell) == 2]
    if not pairs:
        return []
    first, second = pairs[0].cell
    rates = rates_by(cells, [first, second])
    rates = rates[(rates[first] != MISSING) & (rates[second] != MISSING) & (rates["state"] != STATE)]
    if rates[first].nunique() > 40 or rates[second].nunique() > 40:
        return []
    if rates[first].nunique() > rates[second].nunique():
        first, second = second, first
    rows = rates.assign(
        k=rates[first],
        row=rates[first],
        k2=rates[second],
        column=rates[second],
        value=rates["ratio"].where(rates["expected"] >= 3),
        n=rates["failures"],
        base=rates["unit_months"],
    ).sort_values(["row", "column"])
    both = tuple(name if name in UNIT_FILTERS else None for name in (first, second))
    clickable = (first, second) if None not in both else None
    return [
        heat(
            rows,
            id="pair",
            title=scene.say(
                f"{dimension_title(first)} by {dimension_title(second).lower()}: ratio to the rest",
                f"{dimension_title(first, 'zh')} × {dimension_title(second, 'zh')}:与其余之比",
            ),
            subtitle=scene.say(
                "At equal time in service; cells with fewer than 3 expected failures are left blank",
                "按相同使用时长;预期不足 3 次的单元留空",
            ),
            row_title=dimension_title(first, scene.lang),
            column_title=dimension_title(second, scene.lang),
            lang=scene.lang,
            filters=clickable,
            selected=(scene.chosen(first), scene.chosen(second)) if clickable else ((), ()),
        )
    ]


def _rates_table(scene: Scene, cells: Cells, rates: pd.DataFrame, by: str) -> Payload:
    crude = rates["failures"] / rates["unit_months"].where(rates["unit_months"] > 0) * 10_000
    whole = cells.leaves["failures"].sum() / cells.leaves["unit_months"].sum() * 10_000
    rows = rates.assign(crude=crude, crude_ratio=crude / whole if whole else None)
    columns = [
        column(by, dimension_title(by, scene.lang)),
        column("failures", scene.say("Failures", "故障数"), "number"),
        column("unit_months", scene.say("Unit-months", "台月"), "number", digits=0),
        column("crude", scene.say("Crude rate per 10k unit-months", "粗故障率(每万台月)"), "number", digits=1),
        column("crude_ratio", scene.say("Crude ratio", "粗比值"), "number", digits=2),
        column("ratio", scene.say("Ratio at equal age", "同龄比值"), "number", digits=2),
        column("low", scene.say("Low", "下限"), "number", digits=2),
        column("high", scene.say("High", "上限"), "number", digits=2),
    ]
    columns, rows = scene.withheld(columns, rows)
    return table(
        "rates",
        scene.say(
            f"Crude and age-matched, by {dimension_title(by).lower()}",
            f"按{dimension_title(by, 'zh')}:粗比值与同龄比值",
        ),
        columns,
        rows.head(100),
        filter={"name": by, "field": by} if by in UNIT_FILTERS else None,
        sorted_by="low",
        total=len(rows),
    )


def _skipped_text(scene: Scene, cells: Cells, by: str) -> str:
    """Which rates cannot be given, and why: for the dimension asked for, else for all that were left out."""
    names = [by] if by in cells.skipped else list(cells.skipped)
    return scene.metric(_question(scene), names, where=scene.where(*UNIT_FILTERS)).refusal(scene.lang) if names else ""


# ------------------------------------------------------------------------------------------------ how sure, ledger


def findings(scene: Scene) -> Payload:
    """All findings with failures, exposure, expectation, ratio, interval and q."""
    title = scene.say("Compared with what, and how sure?", "与什么相比?有多大把握?")
    if not _has_rate(scene):
        return section(
            scene,
            "findings",
            title,
            message=message("refused", scene.say("Needs units in service.", "需要在用产品数据。")),
        )
    drill = _drill(scene)
    if not drill.findings:
        return section(scene, "findings", title, message=message("empty", drill.summary(scene.lang)))
    columns = [
        column("path", scene.say("Group", "分组")),
        column("failures", scene.say("Failures", "故障数"), "number"),
        column("expected", scene.say("Expected", "预期"), "number", digits=1),
        column("exposure", scene.say("Unit-months", "台月"), "number", digits=0),
        column("ratio_text", scene.say("Ratio [95 % interval]", "比值 [95 % 区间]")),
        column("excess", scene.say("Too many", "多出"), "bar", digits=0),
        column("share_explained", scene.say("Share of all failures", "占全部故障"), "share", digits=1),
        column("q_text", "q"),
    ]
    return section(
        scene,
        "findings",
        title,
        tables=[
            table(
                "findings",
                scene.say("Findings", "发现"),
                columns,
                [_finding_row(scene, item) for item in drill.findings],
                sorted_by="excess",
            )
        ],
    )


def _finding_row(scene: Scene, item: Finding) -> Payload:
    q = "< 0.001" if item.q < 0.001 else f"{item.q:.3f}"
    ratio, low, high = ("∞" if math.isinf(part) else f"{part:.2f}" for part in (item.ratio, item.low, item.high))
    return {
        **asdict(item),
        "path": item.path(scene.lang),
        "ratio_text": f"{ratio} [{low}, {high}]",
        "q_text": q,
    }


def ledger(scene: Scene) -> Payload:
    """What was looked at, what was not, and which events had no base."""
    title = scene.say("What was looked at", "检查范围")
    if not _has_rate(scene):
        return section(
            scene,
            "ledger",
            title,
            message=message("refused", _no_rate(scene)),
        )
    cells, drill = _cells(scene), _drill(scene)
    definition = metric(_question(scene))
    lines = [
        (scene.say("Measure", "指标"), f"{definition.title(scene.lang)} ({definition.version})"),
        (scene.say("Window (ripe part)", "时间窗(成熟部分)"), f"{cells.start} – {cells.end}"),
        (scene.say("Dimensions", "维度"), ", ".join(dimension_title(name, scene.lang) for name in cells.dimensions)),
        (scene.say("Cells compared, one and two dimensions", "比较的单元(一维与二维)"), f"{drill.cells_screened:,}"),
        (scene.say("Events", "事件"), told(cells.events_n, cells.smallest)),
        (
            scene.say("of these without a unit in service (in no cell)", "其中无对应在用产品(未计入)"),
            told(cells.events_without_base_n, cells.smallest),
        ),
        (scene.say("Units", "产品"), f"{cells.units_n:,}"),
        (scene.say("of these with an estimated service start", "其中启用日期为估计"), f"{cells.estimated_n:,}"),
        (
            scene.say("Left out: too rarely known", "略去:已知比例过低"),
            ", ".join(f"{dimension_title(n, scene.lang)} ({s:.0%})" for n, s in cells.skipped.items()) or "–",
        ),
        (scene.say("Not searched", "未检索"), scene.say("three and more dimensions at once", "三个及以上维度的组合")),
    ]
    columns = [column("what", scene.say("What", "项目")), column("value", scene.say("Value", "内容"))]
    return section(
        scene,
        "ledger",
        title,
        tables=[table("ledger", title, columns, [{"what": what, "value": value} for what, value in lines])],
    )


SECTIONS = {
    "answer": answer,
    "where": where,
    "since_when": since_when,
    "on_what": on_what,
    "findings": findings,
    "ledger": ledger,
}

assert set(UNIT_FILTERS) <= {*UNIT_SIDE, "model", "generation"}
