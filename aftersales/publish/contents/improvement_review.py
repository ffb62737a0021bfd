"""Improvement review: one action, before and after, beside a group that got no action."""

from __future__ import annotations

import pandas as pd

from aftersales.improve.actions import ImprovementAction, list_actions
from aftersales.improve.effect import BeforeAfter, describe_before_after
from aftersales.lake.register import open_register
from aftersales.measure.definitions import metric
from aftersales.measure.dimensions import dimension_title
from aftersales.publish.charts import before_after, number_text, trend
from aftersales.publish.scene import Payload, Scene, column, message, section, table
from aftersales.publish.wording import quantity


def _actions(scene: Scene) -> list[ImprovementAction]:
    def read() -> list[ImprovementAction]:
        with open_register(scene.workspace) as register:
            return list_actions(register)

    return scene.once("actions", read)


def _action(scene: Scene) -> ImprovementAction | None:
    """The action asked for; the newest implemented one with a scope when none is."""
    wanted = scene.text("action")
    if wanted:
        return next((action for action in _actions(scene) if action.action_id == wanted), None)
    scoped = [action for action in _actions(scene) if action.scope is not None and action.implemented_at is not None]
    return max(scoped, key=lambda action: (action.implemented_at, action.action_id), default=None)


def _name(scene: Scene, action: ImprovementAction) -> str:
    return scene.say(action.title, action.title_zh or action.title)


def _effect(scene: Scene, *, whole: bool = False) -> BeforeAfter:
    """The comparison for the action's failure mode, or for all failures."""
    action = _action(scene)
    assert action is not None
    assert action.scope is not None
    scope, name = action.scope, action.metric or "failure_rate"
    scene.metric_versions[name] = metric(name).version
    modes = {} if whole or not action.failure_mode else {"fault_code": [action.failure_mode]}
    return scene.once(
        ("effect", whole),
        lambda: describe_before_after(
            scene.snapshot,
            name,
            dimension=scope.dimension,
            value=scope.value,
            cut_dimension=scope.cut_dimension,
            before=scope.before,
            after=scope.after,
            as_of=scene.as_of,
            months=scene.number("months"),
            events_where=modes,
        ),
    )


def _missing(scene: Scene, id: str, title: str) -> Payload | None:
    """Why nothing can be compared."""
    if _action(scene) is None:
        text = scene.say(
            f"No action '{scene.text('action')}' in the register."
            if scene.text("action")
            else "No implemented action in the register yet.",
            f"登记册中没有措施 {scene.text('action')}。" if scene.text("action") else "登记册中尚无已实施的措施。",
        )
        return section(scene, id, title, message=message("empty", text, "aftersales action add --help"))
    if not scene.snapshot.has_rows("unit"):
        return section(
            scene,
            id,
            title,
            message=message(
                "refused",
                scene.say(
                    "No units in service are known: before and after cannot be compared at equal age.",
                    "没有在用产品数据,无法按相同使用时长比较前后。",
                ),
            ),
        )
    return None


def answer(scene: Scene) -> Payload:
    """What changed, described."""
    title = scene.say("Did it get better?", "改善了吗?")
    missing = _missing(scene, "answer", title)
    if missing:
        return missing
    action, effect = _action(scene), _effect(scene)
    assert action is not None
    if effect.is_suppressed:
        return section(scene, "answer", title, message=_too_few(scene))
    detail = scene.say(
        "Descriptive: equal months in service and a comparison group guard against ageing and general trends, not against luck, selection or other events. A pre-registered verdict is a different thing.",
        "描述性结果:相同使用时长与对照组可排除老化与总体趋势,但不能排除偶然、选择或其他事件;它不等同于预先登记的裁决。",
    )
    facts = {
        "action": action.action_id,
        "label": effect.label,
        "action_ratio": effect.action_ratio,
        "comparison_ratio": effect.comparison_ratio,
        "relative_ratio": effect.relative_ratio,
    }
    notice = (
        message("weak", scene.say("Too few failures are to be expected in a cohort.", "某一批组的预期故障过少。"))
        if effect.is_thin
        else None
    )
    return section(
        scene,
        "answer",
        title,
        answer={"text": f"{action.action_id}: {effect.summary(scene.lang)}", "detail": detail, "tone": "finding"},
        message=notice,
        facts=facts,
    )


def plan(scene: Scene) -> Payload:
    """The action as the register has it."""
    title = scene.say("The action", "措施")
    action = _action(scene)
    if action is None:
        return _missing(scene, "plan", title) or section(scene, "plan", title)
    scope = action.scope
    lines = [
        (scene.say("Number", "编号"), action.action_id),
        (scene.say("What", "内容"), _name(scene, action)),
        (scene.say("Kind", "类别"), action.kind),
        (scene.say("Owner", "负责人"), action.owner),
        (scene.say("State", "状态"), action.state),
        (scene.say("Implemented", "实施日期"), str(action.implemented_at or "–")),
        (scene.say("Review due", "评审日期"), str(action.review_at or "–")),
        (
            scene.say("Failure mode", "故障模式"),
            scene.label(action.failure_mode) if action.failure_mode else scene.say("all", "全部"),
        ),
    ]
    if scope is not None:
        cut = dimension_title(scope.cut_dimension, scene.lang)
        lines += [
            (
                scene.say("Group with the action", "措施组"),
                f"{dimension_title(scope.dimension, scene.lang)} {scope.value}",
            ),
            (
                scene.say("Comparison group", "对照组"),
                scene.say(
                    f"every other {dimension_title(scope.dimension).lower()}, same {cut.lower()}",
                    f"其他{dimension_title(scope.dimension, 'zh')},相同{cut}",
                ),
            ),
            (scene.say("Before", "之前"), f"{cut} {', '.join(scope.before)}"),
            (scene.say("After", "之后"), f"{cut} {', '.join(scope.after)}"),
        ]
    columns = [column("what", scene.say("What", "项目")), column("value", scene.say("Value", "内容"))]
    return section(
        scene,
        "plan",
        title,
        tables=[table("plan", title, columns, [{"what": what, "value": value} for what, value in lines])],
    )


def compared(scene: Scene) -> Payload:
    """Rates before and after in both groups, for the failure mode and for all failures."""
    title = scene.say("Before and after, beside the comparison group", "前后对比与对照组")
    missing = _missing(scene, "compared", title)
    if missing:
        return missing
    action = _action(scene)
    assert action is not None
    charts, tables = [], []
    for whole in [False, True] if action.failure_mode else [True]:
        effect = _effect(scene, whole=whole)
        if effect.is_suppressed:
            return section(scene, "compared", title, message=_too_few(scene))
        what = scene.say("All failures", "全部故障") if whole else scene.label(action.failure_mode)
        names = {"action": _group(scene, action), "comparison": scene.say("Comparison group", "对照组")}
        rows = effect.rows.assign(
            k=effect.rows["arm"],
            label=effect.rows["arm"].map(names),
            n=effect.rows["failures"],
            base=effect.rows["unit_months"],
        )
        suffix = "all" if whole else "mode"
        charts.append(
            before_after(
                rows,
                id=f"before_after_{suffix}",
                title=what,
                subtitle=scene.say(f"first {effect.months} months in service", f"启用后前 {effect.months} 个月"),
                quantity=quantity(metric(action.metric or "failure_rate"), scene.lang),
                number="rate",
                lang=scene.lang,
            )
        )
        tables.append(_table(scene, rows, f"cohorts_{suffix}", what))
    return section(scene, "compared", title, charts=charts, tables=tables)


def _too_few(scene: Scene) -> Payload:
    least = scene.snapshot.smallest
    text = scene.say(
        f"A cohort has fewer than {least} failures: the comparison is not shown.",
        f"某一批组的故障少于 {least} 例:不予比较。",
    )
    return message("refused", text)


def _group(scene: Scene, action: ImprovementAction) -> str:
    assert action.scope is not None
    return f"{dimension_title(action.scope.dimension, scene.lang)} {action.scope.value}"


def _table(scene: Scene, rows: pd.DataFrame, id: str, title: str) -> Payload:
    phases = {"before": scene.say("before", "之前"), "after": scene.say("after", "之后")}
    shown = rows.assign(
        phase=rows["phase"].map(phases),
        interval=[
            f"{number_text(v, 'rate')} [{number_text(low, 'rate')}, {number_text(high, 'rate')}]"
            for v, low, high in zip(rows["value"], rows["low"], rows["high"], strict=True)
        ],
    )
    columns = [
        column("label", scene.say("Group", "组别")),
        column("phase", scene.say("Phase", "阶段")),
        column("failures", scene.say("Failures", "故障数"), "number"),
        column("unit_months", scene.say("Unit-months", "台月"), "number", digits=0),
        column("units", scene.say("Units", "台数"), "number"),
        column("interval", scene.say("Per 10k unit-months [95 %]", "每万台月 [95 %]")),
    ]
    return table(id, title, columns, shown)


def over_batches(scene: Scene) -> Payload:
    """The rate over time of the group with the action, with the day of the action marked."""
    title = scene.say("Over time", "随时间变化")
    missing = _missing(scene, "over_batches", title)
    if missing:
        return missing
    action = _action(scene)
    assert action is not None
    assert action.scope is not None
    name = action.metric or "failure_rate"
    result = scene.metric(name, where={action.scope.dimension: [action.scope.value]}, period="quarter")
    if result.state != "ok":
        return section(scene, "over_batches", title, message=message("empty", result.refusal(scene.lang)))
    events = [{"period": action.implemented_at, "label": action.action_id}] if action.implemented_at else []
    rows = result.shown.assign(n=result.shown["count"])
    chart = trend(
        rows,
        id="over_time",
        title=_group(scene, action),
        subtitle=scene.say(
            "all batches together, by calendar quarter: ageing included, not a comparison",
            "全部批次合计,按自然季度:含老化影响,不作为比较",
        ),
        quantity=quantity(result.metric, scene.lang),
        number="rate",
        grain="quarter",
        events=events,
        lang=scene.lang,
        wide=True,
    )
    return section(scene, "over_batches", title, charts=[chart], message=scene.left_out(result))


def others(scene: Scene) -> Payload:
    """All actions of the register."""
    title = scene.say("All actions", "全部措施")
    actions = _actions(scene)
    if not actions:
        return section(
            scene,
            "others",
            title,
            message=message(
                "empty", scene.say("The register is empty.", "登记册为空。"), "aftersales action add --help"
            ),
        )
    rows = [
        {
            "action_id": action.action_id,
            "title": _name(scene, action),
            "owner": action.owner,
            "state": action.state,
            "implemented_at": str(action.implemented_at or ""),
            "review_at": str(action.review_at or ""),
        }
        for action in actions
    ]
    columns = [
        column("action_id", scene.say("Number", "编号")),
        column("title", scene.say("Action", "措施")),
        column("owner", scene.say("Owner", "负责人")),
        column("state", scene.say("State", "状态")),
        column("implemented_at", scene.say("Implemented", "实施日期"), "date"),
        column("review_at", scene.say("Review", "评审日期"), "date"),
    ]
    return section(
        scene,
        "others",
        title,
        tables=[table("actions", title, columns, rows, filter={"name": "action", "field": "action_id"})],
    )


SECTIONS = {"answer": answer, "plan": plan, "compared": compared, "over_batches": over_batches, "others": others}
