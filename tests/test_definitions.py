"""The metric dictionary: every file loads, mistakes are errors with their line, versions follow the meaning."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import pytest

from aftersales.measure.definitions import Metric, metric, metrics, read_dictionary
from aftersales.model.documents import read_document
from aftersales.model.errors import MetricError, SettingsError

FOLDER = Path(str(resources.files("aftersales.measure") / "dictionary"))
FILES = sorted(path.stem for path in FOLDER.glob("*.yml"))


def changed(tmp_path: Path, name: str, old: str, new: str) -> Path:
    text = (FOLDER / f"{name}.yml").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / f"{name}.yml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def test_the_dictionary_has_these_metrics() -> None:
    assert FILES == [
        "callback_reach_rate", "complaint_count", "complaint_rate", "complaints_per_10k_units", "csat", "failure_rate",
        "first_response_time", "first_time_fix_rate", "nps", "repair_count", "repeat_failure_rate",
        "resolution_time", "review_satisfaction", "sla_attainment", "survey_response_rate", "ticket_count", "ticket_share",
    ]  # fmt: skip
    assert list(metrics()) == FILES


@pytest.mark.parametrize("name", FILES)
def test_every_definition_loads_and_speaks_both_languages(name: str) -> None:
    found = metric(name)
    assert found.title("en").isascii()
    assert any("一" <= letter <= "鿿" for letter in found.title("zh"))
    assert any("一" <= letter <= "鿿" for letter in found.question_zh)
    assert found.version.startswith(f"{found.reviewed}.")
    assert len(found.dimensions) == len(set(found.dimensions))


@pytest.mark.parametrize(
    ("name", "old", "new", "problem"),
    [
        ("nps", "better: higher", "beter: higher", "line 9, beter: unknown key 'beter' (did you mean 'better'?)"),
        ("nps", "better: higher", "better: up", "line 9, better: Input should be 'higher', 'lower' or 'neither'"),
        ("nps", "clock: asked_at", "clock: score", "line 10, clock: 'score' is no instant of survey answer; known: "),
        ("nps", "table: survey", "table: surveys", "line 6, numerator.table: no table 'surveys'; known: "),
        ("nps", "score >= 9", "scores >= 9", "line 6, numerator.where: no column 'scores'; known: "),
        ("nps", "score >= 9", "score", "line 6, numerator.where: 'score' is no condition"),
        ("nps", "is_known(score)", "is_knwon(score)", "line 7, denominator.where: no function 'is_knwon'; known: "),
        ("nps", "unit: points", "unit: hours", "a net_score has the unit points, not hours"),
        ("nps", "maturity_days: 14", "maturity_days: -1", "line 11, maturity_days: "),
        ("nps", 'reviewed: "2026-11-22"', "reviewed: soon", "line 16, reviewed: "),
        ("nps", "dimensions: [channel, ticket_type, team, model, region, severity]", "dimensions: []", "dimensions: "),
        ("complaint_rate", "exposure: unit_months", "exposure: units",
         "a rate has the unit per_10k_units, not per_10k_unit_months"),
        ("complaint_rate", "statistic: rate", "statistic: count", "a rate, and only a rate, is divided by an exposure"),
        ("complaint_rate", "{exposure: unit_months}", "{exposure: units, where: 'is_known(unit_id)'}",
         "give 'exposure' or 'where', not both"),
        ("resolution_time", "statistic: quantile", "statistic: share", "a quantile, and only a quantile, needs"),
        ("resolution_time", "hours_between(created_at, last_resolved_at)", "severity",
         "numerator.value: 'severity' is no number"),
    ],
)  # fmt: skip
def test_a_mistake_is_an_error_with_its_line(tmp_path: Path, name: str, old: str, new: str, problem: str) -> None:
    with pytest.raises(SettingsError) as caught:
        read_document(changed(tmp_path, name, old, new), Metric)
    assert problem in str(caught.value)


def test_mistakes_of_several_files_are_reported_at_once(tmp_path: Path) -> None:
    changed(tmp_path, "nps", "score >= 9", "scores >= 9")
    changed(tmp_path, "csat", "table: survey", "table: surveys")
    with pytest.raises(SettingsError) as caught:
        read_dictionary(tmp_path)
    assert "2 definitions break their schema" in str(caught.value)
    assert "dictionary/nps.yml: line 6, numerator.where: no column 'scores'" in str(caught.value)
    assert "dictionary/csat.yml: line 6, numerator.table" in str(caught.value)


def test_an_expression_may_name_a_site_column(tmp_path: Path) -> None:
    path = changed(tmp_path, "nps", "score >= 9", "score >= 9 and x_market == 'EU'")
    assert read_document(path, Metric).numerator.where.endswith("x_market == 'EU'")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("score >= 9", "score >= 8"),
        ("maturity_days: 14", "maturity_days: 15"),
        ("clock: asked_at", "clock: answered_at"),
    ],
)
def test_the_version_changes_when_the_meaning_does(tmp_path: Path, old: str, new: str) -> None:
    assert read_document(changed(tmp_path, "nps", old, new), Metric).version != metric("nps").version


def test_the_version_stays_when_only_the_writing_changes(tmp_path: Path) -> None:
    path = changed(tmp_path, "nps", "better: higher", "better:   higher   # up is good")
    assert read_document(path, Metric).version == metric("nps").version


def test_an_unknown_metric_lists_the_known_ones() -> None:
    with pytest.raises(MetricError, match=r"no metric 'ftf_rate'") as caught:
        metric("ftf_rate")
    assert caught.value.rows == "known: " + ", ".join(FILES)
