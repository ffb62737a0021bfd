"""Figures in words: how a metric's value, interval, change and state read in both languages."""

from __future__ import annotations

import pandas as pd

from aftersales.measure.compute import MetricResult
from aftersales.measure.definitions import Metric
from aftersales.publish.charts import Lang, Number, number_text
from aftersales.publish.scene import Payload, Scene

UNITS: dict[str, tuple[str, str]] = {
    "count": ("", ""), "share": ("", ""), "hours": ("hours", "小时"), "points": ("points", "分"),
    "per_10k_units": ("per 10k units", "每万台"), "per_10k_unit_months": ("per 10k unit-months", "每万台月"),
}  # fmt: skip

BASES: dict[str, tuple[str, str]] = {
    "per_10k_units": ("units in service", "台在用"), "per_10k_unit_months": ("unit-months", "台月"),
}  # fmt: skip


def number_kind(metric: Metric) -> Number:
    """How numbers of this metric are written."""
    return {"count": "count", "share": "share"}.get(metric.unit, "rate")  # type: ignore[return-value]


def unit_text(metric: Metric, lang: Lang) -> str:
    """The unit as it stands behind a number."""
    return UNITS[metric.unit][lang == "zh"]


def quantity(metric: Metric, lang: Lang) -> str:
    """Axis title: the metric and its unit."""
    unit = {"share": "%", "count": ""}.get(metric.unit, unit_text(metric, lang))
    return f"{metric.title(lang)} ({unit})" if unit else metric.title(lang)


def base_text(row: pd.Series, metric: Metric, scene: Scene) -> str:
    """`n 1,204 of 20,331 unit-months`."""
    count, base = int(row["count"]), float(row["base"])
    if metric.unit == "count":
        return f"n {count:,}"
    if metric.unit in BASES:
        return scene.say(
            f"n {count:,} in {base:,.0f} {BASES[metric.unit][0]}",
            f"n {count:,},基数 {base:,.0f} {BASES[metric.unit][1]}",
        )
    return scene.say(f"n {count:,} of {base:,.0f}", f"n {count:,} / {base:,.0f}")


def change_text(now: pd.Series, before: pd.Series | None, metric: Metric, scene: Scene) -> str | None:
    """Change against the comparable period, and whether the intervals keep apart."""
    if before is None or pd.isna(before["value"]) or pd.isna(now["value"]):
        return None
    difference = float(now["value"] - before["value"])
    apart = bool(now["low"] > before["high"] or now["high"] < before["low"])
    if metric.unit == "share":
        size = scene.say(f"{difference * 100:+.1f} points", f"{difference * 100:+.1f} 个百分点")
    elif metric.unit == "points":
        size = scene.say(f"{difference:+.1f} points", f"{difference:+.1f} 分")
    elif metric.unit == "count":
        size = f"{difference:+,.0f}"
    else:
        size = f"{difference:+,.1f}"
    sure = "" if apart else scene.say(" (within the noise)", "(在误差范围内)")
    return scene.say(f"{size} against the year before{sure}", f"较上一年 {size}{sure}")


def figure(
    scene: Scene, result: MetricResult, before: MetricResult | None = None, spark: list[float | None] | None = None
) -> Payload:
    """A headline figure: value, unit, interval, n and base, change, state."""
    metric = result.metric
    better = {"higher": "up", "lower": "down"}.get(metric.better)
    blank: Payload = {
        "label": metric.title(scene.lang),
        "value": "–",
        "unit": "",
        "low": "",
        "high": "",
        "interval": None,
        "n": "",
        "change": None,
        "better": better,
        "spark": spark or [],
        "state": "no_data",
        "note": None,
        "href": None,
    }
    if result.state != "ok":
        return {
            **blank,
            "state": result.state,
            "note": result.refusal(scene.lang),
        }
    row = result.rows.iloc[0]
    kind = number_kind(metric)
    state = "unripe" if not row["ripe"] else "ok"
    note = scene.say("few cases", "样本较少") if row["state"] == "small_n" else None
    prior = before.rows.iloc[0] if before is not None and before.state == "ok" and len(before.rows) else None
    low, value, high = (float(row[name]) for name in ("low", "value", "high"))
    bounds = [
        low,
        value,
        high,
        *_span([low, high] + ([float(prior["low"]), float(prior["high"])] if prior is not None else [])),
    ]
    return {
        **blank,
        "value": number_text(value, kind).replace(" ", "\u00a0"),
        "unit": unit_text(metric, scene.lang),
        "low": number_text(low, kind),
        "high": number_text(high, kind),
        "interval": None if any(b != b for b in bounds) else bounds,
        "n": base_text(row, metric, scene),
        "change": change_text(row, prior, metric, scene),
        "state": state,
        "note": note,
    }


def _span(values: list[float]) -> list[float]:
    """Ends of the scale a range bar is drawn on: a little wider than what it holds."""
    low, high = min(values), max(values)
    margin = (high - low) * 0.6 or abs(high) * 0.1 or 1.0
    return [low - margin, high + margin]
