"""Overview: how after-sales stands, against the year before, and where to look next."""

from __future__ import annotations

import datetime as dt

import pandas as pd

from aftersales.attribute.pareto import pareto
from aftersales.lake.suppression import STATE
from aftersales.measure.compute import MetricResult, first_unripe_day
from aftersales.measure.definitions import metric
from aftersales.measure.dimensions import dimension_title, find_dimension
from aftersales.model.errors import MetricError
from aftersales.publish.charts import monthly_counts, number_text, ranked_bars, rates_with_intervals, trend
from aftersales.publish.scene import Payload, Scene, column, message, section, table
from aftersales.publish.wording import figure, number_kind, quantity

FIELD = ("complaint_rate", "failure_rate", "repeat_failure_rate", "first_time_fix_rate")
SERVICE = ("first_response_time", "resolution_time", "csat", "nps", "sla_attainment")
COUNTS = ("ticket_count", "complaint_count", "repair_count")
FILTERS = ("channel", "ticket_type", "model")


def _window(scene: Scene, maturity_days: int = 0) -> tuple[dt.date, dt.date, dt.date]:
    """First day of the year before, first day, and end (excluded) of the months shown: whole, ripe months only."""
    months = scene.number("months")
    unripe = pd.Period(first_unripe_day(scene.snapshot.day_of(scene.as_of), maturity_days), "M")
    before, start = unripe - 2 * months, unripe - months
    return before.start_time.date(), start.start_time.date(), unripe.start_time.date()


def _ripe_window(scene: Scene, name: str) -> tuple[dt.date, dt.date, dt.date]:
    """The same span moved back until the metric is ripe, so that both years are equally ripe."""
    return _window(scene, metric(name).maturity_days)


def _filters(scene: Scene, name: str, skip: str | None = None) -> dict[str, list[str]] | None:
    """The page's filters as far as the metric has those dimensions; None when one does not apply."""
    wanted = scene.where(*FILTERS, skip=skip)
    known = metric(name).dimensions
    return wanted if set(wanted) <= set(known) else None


def _two_years(scene: Scene, name: str) -> tuple[MetricResult, MetricResult] | None:
    where = _filters(scene, name)
    if where is None:
        return None
    before, start, end = _ripe_window(scene, name)
    return scene.metric(name, where=where, start=start, end=end), scene.metric(
        name, where=where, start=before, end=start
    )


def _spark(scene: Scene, name: str) -> list[float | None]:
    where = _filters(scene, name)
    if where is None:
        return []
    _, start, end = _ripe_window(scene, name)
    rows = scene.metric(name, where=where, start=start, end=end, period="month").shown
    return [None if pd.isna(value) else round(float(value), 4) for value in rows["value"]] if len(rows) else []


def answer(scene: Scene) -> Payload:
    """The volume and the one measure that moved most against the year before."""
    before, start, end = _window(scene)
    title = scene.say("How are we doing?", "售后情况如何?")
    counted = [name for name in COUNTS if _filters(scene, name) is not None]
    pairs = [
        (scene.metric(name, where=_filters(scene, name), start=start, end=end),
         scene.metric(name, where=_filters(scene, name), start=before, end=start))
        for name in counted
    ]  # fmt: skip
    now, prior = next((pair for pair in pairs if pair[0].state == "ok"), (None, None))
    if now is None or prior is None:
        if withheld := next((pair[0] for pair in pairs if pair[0].state in ("refused", "suppressed")), None):
            return section(scene, "answer", title, message=message("refused", withheld.refusal(scene.lang)))
        nothing = scene.say("Nothing has been loaded for this period.", "该时段没有数据。")
        return section(scene, "answer", title, message=message("empty", nothing, "aftersales ingest"))
    count, old = int(now.rows["count"].iloc[0]), int(prior.rows["count"].iloc[0]) if prior.state == "ok" else 0
    change = f"{(count / old - 1):+.0%}" if old else ""
    span = scene.say(
        f"{start:%b %Y} to {(end - dt.timedelta(days=1)):%b %Y}",
        f"{start.year}年{start.month}月至{(end - dt.timedelta(days=1)).year}年{(end - dt.timedelta(days=1)).month}月",
    )
    noun = now.metric.title(scene.lang)
    text = scene.say(
        f"{count:,} {noun.lower()} in {span}" + (f", {change} against the {old:,} of the year before." if old else "."),
        f"{span}共 {count:,} 件{noun}" + (f",上一年为 {old:,},变化 {change}。" if old else "。"),
    )
    moved = _largest_move(scene)
    return section(
        scene,
        "answer",
        title,
        answer={
            "text": f"{text} {moved}".strip(),
            "detail": scene.say(
                "Months that are not ripe are left out of every figure; changes whose intervals overlap are called noise.",
                "未成熟月份不计入任何指标;区间重叠的变化视为误差范围内。",
            ),
            "tone": "quiet",
        },
    )


def _largest_move(scene: Scene) -> str:
    """The measure whose change stands farthest outside its intervals."""
    moves = []
    for name in (*FIELD, *SERVICE):
        pair = _two_years(scene, name)
        if pair is None or any(part.state != "ok" or part.rows.empty for part in pair):
            continue
        now, old = pair[0].rows.iloc[0], pair[1].rows.iloc[0]
        width = (now["high"] - now["low"] + old["high"] - old["low"]) / 2
        if width > 0 and (now["low"] > old["high"] or now["high"] < old["low"]):
            moves.append((abs(now["value"] - old["value"]) / width, name, float(old["value"]), float(now["value"])))
    if not moves:
        return scene.say("No headline measure moved beyond its interval.", "各主要指标的变化均在误差范围内。")
    _, name, old_value, value = max(moves)
    definition = metric(name)
    kind = number_kind(definition)
    worse = (value > old_value) == (definition.better == "lower")
    verdict = scene.say("worse" if worse else "better", "变差" if worse else "改善")
    return scene.say(
        f"What moved most: {definition.title('en').lower()}, {number_text(old_value, kind)} to {number_text(value, kind)} ({verdict}).",
        f"变化最大:{definition.title('zh')},由 {number_text(old_value, kind)} 至 {number_text(value, kind)}({verdict})。",
    )


def _figures(scene: Scene, names: tuple[str, ...], id: str, title: str) -> Payload:
    figures = []
    for name in names:
        pair = _two_years(scene, name)
        if pair is None:
            continue
        if pair[0].state == "no_data" and name == "sla_attainment":
            continue  # the sources do not judge service levels
        figures.append(figure(scene, *pair, spark=_spark(scene, name)))
    note = (
        None
        if figures
        else message(
            "empty", scene.say("These filters do not apply to these measures.", "这些指标没有所选的筛选维度。")
        )
    )
    return section(scene, id, title, figures=figures, message=note)


def field(scene: Scene) -> Payload:
    """Headline figures of the product in the field."""
    return _figures(scene, FIELD, "field", scene.say("Product in the field", "产品现场表现"))


def service(scene: Scene) -> Payload:
    """Headline figures of the service."""
    return _figures(scene, SERVICE, "service", scene.say("Service", "服务表现"))


def over_time(scene: Scene) -> Payload:
    """Tickets, and the complaint rate where there is a population, month by month."""
    before, _, _ = _window(scene)
    title = scene.say("Is it rising?", "是否在上升?")
    charts = []
    counts = scene.metric("ticket_count", where=_filters(scene, "ticket_count"), start=before, period="month")
    if counts.state == "ok":
        rows = counts.shown.assign(n=counts.shown["count"])
        charts.append(
            monthly_counts(
                rows,
                id="tickets",
                title=scene.say("Tickets by month", "每月工单量"),
                quantity=scene.say("Tickets (count)", "工单(件)"),
                lang=scene.lang,
            )
        )
    where = _filters(scene, "complaint_rate")
    rate = scene.metric("complaint_rate", where=where, start=before, period="month") if where is not None else None
    if rate is not None and rate.state == "ok":
        rows = rate.shown.assign(n=rate.shown["count"])
        charts.append(
            trend(
                rows,
                id="complaint_rate",
                title=scene.say("Complaint rate by month", "每月投诉率"),
                quantity=quantity(rate.metric, scene.lang),
                number="rate",
                lang=scene.lang,
            )
        )
    notice = message("refused", rate.refusal(scene.lang)) if rate is not None and rate.state == "refused" else None
    notice = notice or scene.left_out(counts, *([rate] if rate is not None else []))
    if not charts:
        notice = notice or message("empty", scene.say("No tickets in this window.", "该时段没有工单。"))
    return section(scene, "over_time", title, charts=charts, message=notice)


def where_from(scene: Scene) -> Payload:
    """Tickets by channel and type; a click filters the page."""
    title = scene.say("Where do they come from?", "来自哪里?")
    _, start, end = _window(scene)
    charts, results = [], []
    for name in ("channel", "ticket_type"):
        result = scene.metric(
            "ticket_share", [name], where=_filters(scene, "ticket_share", skip=name), start=start, end=end
        )
        results.append(result)
        if result.state != "ok":
            continue
        rows = result.shown.sort_values("count", ascending=False)
        rows = rows.assign(k=rows[name], label=rows[name].map(scene.label), n=rows["count"])
        charts.append(
            ranked_bars(
                rows,
                id=name,
                title=scene.say(
                    f"Share of tickets by {dimension_title(name).lower()}", f"按{dimension_title(name, 'zh')}的工单占比"
                ),
                number="share",
                quantity=scene.say("Share of tickets (%)", "工单占比(%)"),
                name=dimension_title(name, scene.lang),
                lang=scene.lang,
                filter=name,
                selected=scene.chosen(name),
            )
        )
    notice = scene.left_out(*results)
    if not charts:
        notice = notice or message("empty", scene.say("No tickets in this window.", "该时段没有工单。"))
    return section(scene, "where_from", title, charts=charts, message=notice)


def symptoms(scene: Scene) -> Payload:
    """What customers report most."""
    title = scene.say("What do customers report?", "客户反映什么?")
    _, start, end = _window(scene)
    for source, name in (("ticket", "symptom_code"), ("complaint", "component_group"), ("ticket", "issue_type")):
        try:
            find_dimension(scene.snapshot, source, name)
            found = pareto(
                scene.snapshot,
                source,
                name,
                as_of=scene.as_of,
                start=start,
                end=end,
                where=scene.where(*FILTERS) if source == "ticket" else {},
            )
        except MetricError:
            continue
        if found.shown[name].notna().any():
            rows = found.shown[found.shown[name].notna()].head(12)
            rows = rows.assign(
                k=rows[name], label=rows[name].map(scene.label), value=rows["count"], n=rows["count"], base=found.total
            )
            chart = ranked_bars(
                rows,
                id="symptoms",
                title=scene.say(
                    f"Most frequent: {dimension_title(name).lower()}", f"最常见的{dimension_title(name, 'zh')}"
                ),
                quantity=scene.say("Tickets (count)", "工单(件)"),
                name=dimension_title(name, scene.lang),
                lang=scene.lang,
                wide=True,
            )
            link = {"text": scene.say("Find the cause", "查找原因"), "href": f"root_cause?lang={scene.lang}"}
            return section(scene, "symptoms", title, charts=[chart], links=[link], message=scene.left_out(found))
    return section(
        scene, "symptoms", title, message=message("empty", scene.say("No symptoms recorded.", "没有故障现象记录。"))
    )


def speed(scene: Scene) -> Payload:
    """First response by channel, with intervals and tails."""
    title = scene.say("Who waits longest?", "谁等得最久?")
    _, start, end = _ripe_window(scene, "first_response_time")
    result = scene.metric(
        "first_response_time",
        ["channel"],
        where=_filters(scene, "first_response_time", skip="channel") or {},
        start=start,
        end=end,
    )
    if result.state != "ok":
        return section(scene, "speed", title, message=message("empty", result.refusal(scene.lang)))
    rows = result.rows.sort_values("value", ascending=False)
    rows = rows.assign(k=rows["channel"], label=rows["channel"].map(scene.label), n=rows["count"])
    overall = scene.metric("first_response_time", start=start, end=end).rows["value"].iloc[0]
    chart = rates_with_intervals(
        rows[rows["state"] != STATE],
        id="speed",
        title=scene.say("Median hours to the first human reply, by channel", "各渠道首次人工响应时间中位数"),
        quantity=scene.say("First response (calendar hours, median)", "首次响应(自然小时,中位数)"),
        overall=float(overall),
        number="rate",
        name=dimension_title("channel", scene.lang),
        lang=scene.lang,
        filter="channel",
        selected=scene.chosen("channel"),
        wide=True,
    )
    columns = [
        column("label", dimension_title("channel", scene.lang)),
        column("value", scene.say("Median (h)", "中位数(小时)"), "number", digits=1),
        column("low", scene.say("Low", "下限"), "number", digits=1),
        column("high", scene.say("High", "上限"), "number", digits=1),
        column("count", scene.say("Answered", "已响应"), "number"),
        column("open", scene.say("No reply or times unusable", "未响应或时间不可用"), "number"),
        column("base", scene.say("Tickets", "工单"), "number"),
    ]
    columns, shown = scene.withheld(columns, rows.assign(open=rows["base"] - rows["count"]))
    return section(
        scene,
        "speed",
        title,
        charts=[chart],
        message=scene.left_out(result),
        tables=[
            table(
                "speed",
                scene.say("The same figures", "数据表"),
                columns,
                shown,
                filter={"name": "channel", "field": "label"},
            )
        ],
    )


SECTIONS = {
    "answer": answer,
    "field": field,
    "service": service,
    "over_time": over_time,
    "where_from": where_from,
    "symptoms": symptoms,
    "speed": speed,
}
