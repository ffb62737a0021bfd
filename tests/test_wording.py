"""Figures in words: value, interval, n and base, change, state, in both languages."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any, Literal, cast

import pandas as pd
import pytest
from worlds import new_workspace

from aftersales.lake.store import Snapshot
from aftersales.measure.compute import MetricResult
from aftersales.measure.definitions import metric, metrics
from aftersales.publish.scene import Lang, Scene
from aftersales.publish.sidecars import read_sidecar
from aftersales.publish.wording import base_text, change_text, figure, number_kind, quantity, unit_text

AS_OF = dt.datetime(2025, 12, 31, tzinfo=dt.UTC)


@pytest.fixture(scope="module")
def english(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return scene_in(tmp_path_factory.mktemp("workspace"), "en")


@pytest.fixture(scope="module")
def chinese(tmp_path_factory: pytest.TempPathFactory) -> Scene:
    return scene_in(tmp_path_factory.mktemp("workspace"), "zh")


def scene_in(folder: Path, lang: Lang) -> Scene:
    place = new_workspace(folder)
    sidecar = read_sidecar(place, "overview")
    return Scene("overview", place, cast(Snapshot, None), sidecar, sidecar.defaults(), lang, AS_OF)


def row_of(
    value: float,
    low: float,
    high: float,
    *,
    count: int = 100,
    base: float = 1000.0,
    ripe: bool = True,
    state: str = "ok",
) -> pd.Series:
    return pd.Series(
        {"count": count, "base": base, "value": value, "low": low, "high": high, "ripe": ripe, "state": state}
    )


def result_of(
    name: str, *rows: pd.Series, state: Literal["ok", "no_data", "refused"] = "ok", reason: tuple[str, str] = ("", "")
) -> MetricResult:
    return MetricResult(
        name, metric(name), (), pd.DataFrame(list(rows)), AS_OF.date(), AS_OF.date(), AS_OF, state, *reason
    )


@pytest.mark.parametrize(
    ("name", "kind", "en", "zh"),
    [
        ("ticket_count", "count", "", ""),
        ("csat", "share", "%", "%"),
        ("nps", "rate", "points", "分"),
        ("first_response_time", "rate", "hours", "小时"),
        ("complaint_rate", "rate", "per 10k unit-months", "每万台月"),
        ("complaints_per_10k_units", "rate", "per 10k units", "每万台"),
    ],
)
def test_an_axis_names_the_metric_and_its_unit(name: str, kind: str, en: str, zh: str) -> None:
    definition = metric(name)
    assert number_kind(definition) == kind
    assert quantity(definition, "en") == (f"{definition.name} ({en})" if en else definition.name)
    assert quantity(definition, "zh") == (f"{definition.name_zh} ({zh})" if zh else definition.name_zh)


def test_every_metric_of_the_dictionary_has_words_in_both_languages(english: Scene, chinese: Scene) -> None:
    now, before = row_of(2.0, 1.5, 2.5), row_of(1.0, 0.5, 1.4)
    for name, definition in metrics().items():
        for scene in (english, chinese):
            assert quantity(definition, scene.lang).startswith(definition.title(scene.lang)), name
            unit_text(definition, scene.lang)
            assert base_text(now, definition, scene).startswith("n 100"), name
            assert change_text(now, before, definition, scene), name


@pytest.mark.parametrize(
    ("name", "en", "zh"),
    [
        ("ticket_count", "n 1,204", "n 1,204"),
        ("csat", "n 1,204 of 20,331", "n 1,204 / 20,331"),
        ("complaint_rate", "n 1,204 in 20,331 unit-months", "n 1,204,基数 20,331 台月"),
        ("complaints_per_10k_units", "n 1,204 in 20,331 units in service", "n 1,204,基数 20,331 台在用"),
    ],
)
def test_a_figure_says_its_count_and_its_base(english: Scene, chinese: Scene, name: str, en: str, zh: str) -> None:
    row = row_of(1, 1, 1, count=1204, base=20331.4)
    assert base_text(row, metric(name), english) == en
    assert base_text(row, metric(name), chinese) == zh


@pytest.mark.parametrize(
    ("name", "now", "before", "said"),
    [
        ("csat", (0.80, 0.78, 0.82), (0.75, 0.73, 0.77), "+5.0 points against the year before"),
        ("csat", (0.75, 0.70, 0.80), (0.76, 0.71, 0.81), "-1.0 points against the year before (within the noise)"),
        ("nps", (12.0, 10, 14), (20.5, 18, 22), "-8.5 points against the year before"),
        ("ticket_count", (1200, 1100, 1300), (1000, 900, 1090), "+200 against the year before"),
        ("failure_rate", (12.5, 11, 14), (10, 9, 10.9), "+2.5 against the year before"),
        ("failure_rate", (12.5, 11, 14), (10, 9, 11), "+2.5 against the year before (within the noise)"),
    ],
)
def test_a_change_says_its_size_and_whether_it_is_more_than_noise(
    english: Scene, name: str, now: Any, before: Any, said: str
) -> None:
    assert change_text(row_of(*now), row_of(*before), metric(name), english) == said


def test_a_change_in_chinese_names_percentage_points(chinese: Scene) -> None:
    said = change_text(row_of(0.80, 0.78, 0.82), row_of(0.75, 0.73, 0.79), metric("csat"), chinese)
    assert said == "较上一年 +5.0 个百分点(在误差范围内)"


@pytest.mark.parametrize("before", [None, row_of(float("nan"), float("nan"), float("nan"))])
def test_without_a_year_before_there_is_no_change(english: Scene, before: pd.Series | None) -> None:
    assert change_text(row_of(0.8, 0.7, 0.9), before, metric("csat"), english) is None


def test_a_headline_figure_holds_value_interval_base_and_change(english: Scene) -> None:
    made = figure(
        english,
        result_of("csat", row_of(0.801, 0.78, 0.82, count=801)),
        result_of("csat", row_of(0.75, 0.73, 0.77)),
        [0.7, 0.8],
    )
    assert (made["label"], made["value"], made["unit"]) == (metric("csat").name, "80.1\u00a0%", "")
    assert (made["low"], made["high"], made["n"], made["state"], made["note"]) == (
        "78.0 %",
        "82.0 %",
        "n 801 of 1,000",
        "ok",
        None,
    )
    assert (made["change"], made["better"], made["spark"]) == ("+5.1 points against the year before", "up", [0.7, 0.8])
    low, value, high, least, most = made["interval"]
    assert (low, value, high) == (0.78, 0.801, 0.82)
    assert least < 0.73 < 0.82 < most, "the year before fits on the same scale"


def test_what_is_weak_is_called_weak(english: Scene, chinese: Scene) -> None:
    assert (
        figure(english, result_of("csat", row_of(0.8, 0.4, 0.9, count=4, base=5, state="small_n")))["note"]
        == "few cases"
    )
    assert (
        figure(chinese, result_of("csat", row_of(0.8, 0.4, 0.9, count=4, base=5, state="small_n")))["note"]
        == "样本较少"
    )
    assert figure(english, result_of("csat", row_of(0.8, 0.7, 0.9, ripe=False)))["state"] == "unripe"


@pytest.mark.parametrize(("state", "shown"), [("refused", "refused"), ("no_data", "no_data")])
def test_what_cannot_be_said_is_a_dash_with_its_reason(english: Scene, chinese: Scene, state: Any, shown: str) -> None:
    result = result_of("complaint_rate", state=state, reason=("no units in service", "没有在用产品"))
    made = figure(english, result)
    assert (made["value"], made["interval"], made["change"], made["state"], made["note"]) == (
        "–",
        None,
        None,
        shown,
        "no units in service",
    )
    assert figure(chinese, result)["note"] == "没有在用产品"


def test_a_value_without_an_interval_draws_none(english: Scene) -> None:
    made = figure(english, result_of("failure_rate", row_of(0.0, float("nan"), float("nan"), count=0)))
    assert (made["value"], made["interval"], made["low"]) == ("0.0", None, "")


def test_an_interval_of_no_width_still_has_a_scale(english: Scene) -> None:
    *_, least, most = figure(english, result_of("failure_rate", row_of(0.0, 0.0, 0.0)))["interval"]
    assert least < 0.0 < most
