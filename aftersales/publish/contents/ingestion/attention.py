"""The answer: is everything here, can it be trusted, and what wants a hand this morning."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Iterable, Sequence

from aftersales.collect.identity import ProposedPair
from aftersales.model.errors import AccessError
from aftersales.publish.charts import number_text
from aftersales.publish.contents.ingestion.facts import (
    all_checks,
    all_deliveries,
    all_scores,
    changed_columns,
    freshness,
    nothing_yet,
    odd_weeks,
    of_chosen,
    open_codes,
    open_pairs,
    source_title,
)
from aftersales.publish.scene import Payload, Scene, column, section, table

RECENT = dt.timedelta(weeks=8)
"""How far back an implausible week still wants a hand; older ones stand in the table of volumes."""


def answer(scene: Scene) -> Payload:
    """Is everything here, and can it be trusted?"""
    title = scene.say("Is all feedback here, and can it be trusted?", "反馈数据是否齐全、可信?")
    rows = of_chosen(scene, all_deliveries(scene))
    if rows.empty:
        return nothing_yet(scene, "answer", title)
    first = rows[rows["is_primary"]]
    read, accepted, rejected, duplicate = (
        int(first[name].sum()) for name in ("rows_read", "accepted", "rejected", "duplicate")
    )
    share = number_text(rejected / read if read else None, "share")
    text = scene.say(
        f"{read:,} rows read: {accepted:,} accepted, {duplicate:,} duplicate, {rejected:,} rejected ({share}). None unaccounted for.",
        f"共读取 {read:,} 行:接收 {accepted:,}、重复 {duplicate:,}、拒收 {rejected:,}({share}),全部可追溯。",
    )
    todo = _todo(scene)
    detail = scene.say(
        f"{len(todo)} things want a hand, the most urgent first." if todo else "Nothing wants a hand today.",
        f"有 {len(todo)} 项需要处理,最紧急的在前。" if todo else "今日无待处理事项。",
    )
    facts = {
        "rows_read": read,
        "accepted": accepted,
        "rejected": rejected,
        "duplicate": duplicate,
        "balanced": read == accepted + rejected + duplicate,
        "to_do": [item["kind"] for item in todo],
    }
    columns = [
        column("what", scene.say("What", "事项")),
        column("who", scene.say("Source (owner)", "来源(负责人)")),
        column("next", scene.say("What to do", "处理方法")),
    ]
    return section(
        scene,
        "answer",
        title,
        answer={"text": text, "detail": detail, "tone": "finding" if todo else "quiet"},
        tables=[table("todo", scene.say("To do", "待办"), columns, todo)] if todo else [],
        facts=facts,
    )


def _todo(scene: Scene) -> list[Payload]:
    """What wants a hand, the most urgent first: nothing came, it cannot be trusted, it can be mended."""
    found: list[Payload] = []

    def add(kind: str, what: tuple[str, str], who: str, next: tuple[str, str]) -> None:
        found.append({"kind": kind, "what": scene.say(*what), "who": who, "next": scene.say(*next)})

    fresh = of_chosen(scene, freshness(scene))
    for row in fresh[fresh["state"] == "late"].to_dict("records"):
        hours, promised = row["age_hours"], row["fresh_within_hours"]
        add("late",
            (f"Late: newest row {hours:,.0f} h old, promised within {promised:g} h", f"延迟:最新一行距今 {hours:,.0f} 小时,约定 {promised:g} 小时内"),
            _owned(scene, row["source"]), ("Ask the owner for the delivery", "联系负责人补交数据"))  # fmt: skip
    never = fresh[fresh["state"] == "never"]["source"].tolist()
    if never:
        add("never", (f"Never loaded: {len(never)}", f"从未载入:{len(never)} 个"), _sources(scene, never),
            ("aftersales check, then aftersales ingest", "先 aftersales check,再 aftersales ingest"))  # fmt: skip
    scores = of_chosen(scene, all_scores(scene))
    low = scores[(scores["state"] == "below_gate") & (scores["dimension"] != "overall")]
    for row in low.to_dict("records"):
        name = dimension_text(scene, row["dimension"])
        share, gate = number_text(row["score"], "share"), number_text(row["gate"], "share")
        add("gate", (f"{name} {share}, gate {gate}: metrics of it are refused", f"{name} {share},门槛 {gate}:相关指标被拒绝计算"),
            _owned(scene, row["source"]), (f"Begin with {row['weakest']}", f"从 {row['weakest']} 开始"))  # fmt: skip
    odd = odd_weeks(scene)
    odd = odd[odd["period"] >= scene.snapshot.day_of(scene.as_of) - RECENT] if len(odd) else odd
    if len(odd):
        n, last = len(odd), max(odd["period"])
        add("volume", (f"{n} of the last weeks had an implausible volume, the newest from {last}", f"近期 {n} 周数据量异常,最近一周始于 {last}"),
            _sources(scene, odd["source"]), ("See the volumes below", "见下方数据量"))  # fmt: skip
    drift = changed_columns(scene)
    if len(drift):
        add("drift", (f"{len(drift)} columns are new, missing or renamed", f"{len(drift)} 个字段新增、缺失或改名"),
            _sources(scene, drift["source"]), ("Take over the proposals below", "采纳下方建议"))  # fmt: skip
    codes = open_codes(scene)
    if len(codes):
        n = int(codes["rows"].sum())
        add("codes", (f"{len(codes)} values without a code, in {n:,} rows", f"{len(codes)} 个取值未映射,涉及 {n:,} 行"),
            _sources(scene, codes["source"]), ("aftersales codes accept, then ingest --replay", "aftersales codes accept,再 ingest --replay"))  # fmt: skip
    failing = all_checks(scene)
    failing = failing[failing["state"] == "failing"] if len(failing) else failing
    if len(failing):
        add("checks", (f"{len(failing)} checks fail", f"{len(failing)} 项检查未通过"),
            _sources(scene, failing["source"]), ("See the checks below", "见下方检查"))  # fmt: skip
    pairs = _pairs(scene)
    if pairs:
        add("duplicates", (f"{len(pairs):,} probable duplicates wait for a decision", f"{len(pairs):,} 对疑似重复待判定"), "",
            ("aftersales duplicates decide", "aftersales duplicates decide"))  # fmt: skip
    return found


def _pairs(scene: Scene) -> Sequence[ProposedPair]:
    """Pairs to decide; none for a viewer who sees no single tickets."""
    with contextlib.suppress(AccessError):
        return open_pairs(scene)
    return []


def _sources(scene: Scene, names: Iterable[str]) -> str:
    """Up to three sources by name, more of them as a number."""
    titles = [source_title(scene, name) for name in dict.fromkeys(names)]
    return (
        scene.say(", ", "、").join(titles)
        if len(titles) <= 3
        else scene.say(f"{len(titles)} sources", f"{len(titles)} 个来源")
    )


def _owned(scene: Scene, name: str) -> str:
    rows = freshness(scene)
    owner = dict(zip(rows["source"], rows["owner"], strict=True)).get(name, "")
    title = source_title(scene, name)
    return scene.say(f"{title} ({owner})", f"{title}({owner})") if owner else title


def dimension_text(scene: Scene, dimension: str) -> str:
    """A dimension of quality in words."""
    from aftersales.collect.quality import TITLES

    text = scene.say(*TITLES[dimension])
    return text[:1].upper() + text[1:]
