"""Every source: how fresh, how good, and who answers for it."""

from __future__ import annotations

import pandas as pd

from aftersales.collect.quality import DIMENSIONS
from aftersales.publish.charts import share_matrix
from aftersales.publish.contents.ingestion.attention import dimension_text
from aftersales.publish.contents.ingestion.facts import (
    all_scores,
    catalogued,
    freshness,
    nothing_yet,
    of_chosen,
    source_title,
)
from aftersales.publish.scene import Payload, Scene, column, section, table


def scored(scene: Scene) -> Payload:
    """Freshness and quality of every source, against its promise and the gates."""
    title = scene.say("How fresh and how good is each source?", "各来源的新鲜度与质量如何?")
    rows = freshness(scene)
    if rows.empty:
        return nothing_yet(scene, "sources", title)
    shown = _with_scores(scene, of_chosen(scene, rows))
    states = {
        "fresh": scene.say("as promised", "按约定"),
        "late": scene.say("late", "延迟"),
        "never": scene.say("never loaded", "从未载入"),
    }
    shown = shown.assign(
        title=[source_title(scene, name) for name in shown["source"]],
        newest=[scene.local_text(value) for value in shown["newest_known_at"]],
        promise=[_promise(scene, name) for name in shown["source"]],
        state=shown["state"].map(states),
    )
    columns = [
        column("title", scene.say("Source", "来源")),
        column("owner", scene.say("Owner", "负责人")),
        column("state", scene.say("Freshness", "新鲜度")),
        column("newest", scene.say("Newest row known", "最新一行获知时间")),
        column("age_hours", scene.say("Age (h)", "距今(小时)"), "number", digits=0),
        column("promise", scene.say("Promise", "约定")),
        column("overall", scene.say("Quality score", "质量分"), "share"),
        column("weakest", scene.say("Its weakest dimension", "最弱维度")),
    ]
    charts = [_matrix(scene)] if len(all_scores(scene)) else []
    return section(
        scene,
        "sources",
        title,
        charts=charts,
        tables=[table("sources", scene.say("Sources", "来源"), columns, shown)],
    )


def _promise(scene: Scene, name: str) -> str:
    source = catalogued(scene)[name]
    hours = f"≤ {source.fresh_within_hours:g} h"
    return f"{source.cadence}, {hours}" if source.cadence else hours


def _with_scores(scene: Scene, rows: pd.DataFrame) -> pd.DataFrame:
    """The sources with their overall score and the dimension it is that of."""
    found = all_scores(scene)
    overall = found[found["dimension"] == "overall"].set_index("source")
    known = dict(zip(overall.index, overall["score"].astype(float), strict=True))
    return rows.assign(
        overall=rows["source"].map(known),
        weakest=[
            dimension_text(scene, overall["weakest"][name]) if name in overall.index else "" for name in rows["source"]
        ],
    )


def _matrix(scene: Scene) -> object:
    """Source x dimension: the share, and whether it lies below its gate."""
    found = of_chosen(scene, all_scores(scene))
    found = found[found["dimension"].isin(DIMENSIONS)]
    order = {name: place for place, name in enumerate(DIMENSIONS)}
    below = found["state"] == "below_gate"
    cells = pd.DataFrame(
        {
            "k": found["source"],
            "row": [source_title(scene, name) for name in found["source"]],
            "column": [dimension_text(scene, name) for name in found["dimension"]],
            "column_order": found["dimension"].map(order),
            "value": found["score"],
            "low": found["low"],
            "high": found["high"],
            "n": found["good"],
            "base": found["base"],
            "below": below,
            "mark": [
                scene.say("below its gate", "低于门槛") if is_below else scene.say("too few to tell", "样本过少") if state == "cannot_tell" else ""
                for is_below, state in zip(below, found["state"], strict=True)
            ],
        }
    )  # fmt: skip
    return share_matrix(
        cells,
        id="scores",
        title=scene.say("Quality of each source, by dimension", "各来源各维度的质量"),
        subtitle=scene.say(
            "Share of values, rows or hours that are as they should be; ▼ marks one below its gate",
            "符合要求的值、行或小时占比;▼ 表示低于门槛",
        ),
        row_title=scene.say("Source", "来源"),
        column_title=scene.say("Dimension", "维度"),
        quantity=scene.say("Share (%)", "占比(%)"),
        lang=scene.lang,
        filter="source",
        selected=scene.chosen("source"),
    )
