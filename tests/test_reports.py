"""Reports: what a run keeps, what never reaches a notebook, how a run fails, and whether the demo's truth is found."""

from __future__ import annotations

import datetime as dt
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import pytest
from bs4 import BeautifulSoup
from worlds import DemoWorld, new_workspace, run_records, section_cell, write_page

from aftersales.lake.register import Run, open_register
from aftersales.lake.store import Store
from aftersales.model.errors import ParameterError
from aftersales.model.settings import Workspace, open_workspace
from aftersales.publish.reports import ReportRun, find_run, list_runs, report_names, run_report, unchanged_run

KEYS = [
    "run_id",
    "page",
    "state",
    "reason",
    "parameters",
    "table_versions",
    "metric_versions",
    "code_version",
    "started_at",
    "seconds",
]
PAGES = ("catalogue", "improvement_review", "ingestion", "overview", "root_cause")
LANGS = {"catalogue": "en", "improvement_review": "en", "ingestion": "zh", "overview": "zh", "root_cause": "en"}
TEXT = {"type": "text", "default": ""}


class Reports:
    """The reports of the demo world, each run once, two of them in Chinese."""

    def __init__(self, place: Workspace) -> None:
        self.place = place
        self.runs: dict[str, ReportRun] = {}

    def run(self, page: str) -> ReportRun:
        if page not in self.runs:
            self.runs[page] = run_report(self.place, page, {"lang": LANGS[page]}, started_by="test")
        return self.runs[page]

    def folder(self, page: str) -> Path:
        return Path(self.run(page).folder)

    def record(self, page: str) -> dict[str, Any]:
        return dict(json.loads((self.folder(page) / "run.json").read_text(encoding="utf-8")))

    def html(self, page: str) -> str:
        return (self.folder(page) / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def reports(demo: DemoWorld, tmp_path_factory: pytest.TempPathFactory) -> Reports:
    return Reports(demo.borrow(tmp_path_factory.mktemp("reports")))


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with one small page that writes down what it was given and starts quickly."""
    place = new_workspace(tmp_path_factory.mktemp("echo"), pages=False)
    parameters = {"text": TEXT, "names": {"type": "texts", "default": []}, "months": {"type": "integer", "default": 12, "maximum": 36},
                  "level": {"type": "number", "default": 0.5}, "is_open": {"type": "flag", "default": False}}  # fmt: skip
    tell = "import json, pathlib\npathlib.Path('told.json').write_text(json.dumps([text, names, months, level, is_open]), encoding='utf-8')"
    write_page(place, "echo", parameters, tell, section_cell(figures=[{"label": "a", "value": "1"}]))
    return place


# ------------------------------------------------------------------------------------------------------ run folder


@pytest.mark.parametrize("page", PAGES)
def test_a_run_keeps_notebook_page_and_record(reports: Reports, page: str) -> None:
    run, record = reports.run(page), reports.record(page)
    assert run.state == "ok", run.reason
    assert sorted(path.name for path in reports.folder(page).iterdir()) == ["notebook.ipynb", "report.html", "run.json"]
    assert list(record)[: len(KEYS)] == KEYS
    assert (record["page"], record["state"], record["reason"]) == (page, "ok", "")
    assert record["run_id"] == reports.folder(page).name
    assert record["parameters"]["lang"] == LANGS[page]
    assert record["table_versions"]["ticket"] >= 0
    assert {"ticket", "unit", "repair", "delivery"} <= set(record["table_versions"])
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\d\.[0-9a-f]{8}", version) for version in record["metric_versions"].values())
    assert dt.datetime.fromisoformat(record["started_at"]).tzinfo is not None
    assert record["seconds"] > 0
    assert (page == "root_cause") == ("findings" in record)
    assert oct(reports.folder(page).stat().st_mode & 0o777) == "0o755"


def test_the_record_is_strict_json_and_names_the_metrics_that_were_shown(reports: Reports) -> None:
    def not_json(text: str) -> None:
        raise AssertionError(f"{text} is no JSON")

    for page in PAGES:
        json.loads((reports.folder(page) / "run.json").read_text(encoding="utf-8"), parse_constant=not_json)
    assert set(reports.record("root_cause")["metric_versions"]) == {"failure_rate"}
    assert {"ticket_count", "complaint_rate", "csat", "nps"} <= set(reports.record("overview")["metric_versions"])


def test_the_notebook_of_a_run_holds_its_parameters_and_no_error(reports: Reports) -> None:
    for page in PAGES:
        book = nbformat.read(reports.folder(page) / "notebook.ipynb", as_version=4)
        (injected,) = [cell for cell in book.cells if "injected-parameters" in cell.metadata.get("tags", [])]
        assert f'lang = "{LANGS[page]}"' in injected.source
        assert book.metadata["papermill"]["exception"] is None
        assert not [
            output for cell in book.cells for output in cell.get("outputs", []) if output.output_type == "error"
        ]


def test_the_register_has_a_row_for_each_run(reports: Reports) -> None:
    run = reports.run("root_cause")
    with open_register(reports.place) as register, register.reading() as session:
        row = session.get(Run, run.run_id)
        assert row is not None
        assert (row.page, row.state, row.started_by, row.folder) == ("root_cause", "ok", "test", run.folder)


def test_runs_are_listed_newest_first_and_found_by_name(reports: Reports) -> None:
    made = [reports.run(page).run_id for page in PAGES]
    listed = list_runs(reports.place)
    assert {record["run_id"] for record in listed} == set(made)
    assert [record["started_at"] for record in listed] == sorted(
        (record["started_at"] for record in listed), reverse=True
    )
    assert find_run(reports.place, "latest:overview")["run_id"] == reports.run("overview").run_id
    assert find_run(reports.place, made[0])["page"] == PAGES[0]
    for nothing in ("nope", "latest:nope", "latest:/etc", "latest:../runs", "latest:**"):
        with pytest.raises(ParameterError, match="no run"):
            find_run(reports.place, nothing)


def test_the_index_is_a_page_only(reports: Reports) -> None:
    assert report_names(reports.place) == list(PAGES)
    with pytest.raises(ParameterError, match="page only"):
        run_report(reports.place, "index", {})


# ---------------------------------------------------------------------------------------------------- the demo truth


def test_the_root_cause_report_names_the_planted_cell_first(reports: Reports, demo: DemoWorld) -> None:
    truth, findings = demo.truth, reports.record("root_cause")["findings"]
    assert findings[0]["cell"] == truth["cell"]
    first = findings[0]
    assert {"cell", "failures", "exposure", "ratio", "low", "high", "q"} <= set(first)
    assert 1 < first["low"] < first["ratio"] < first["high"]
    assert first["q"] < 1e-6
    # the truth counts failures before dirt; most arrive
    assert first["failures"] == pytest.approx(truth["figures"]["planted_all"]["failures"], rel=0.1)
    assert first["ratio"] == pytest.approx(truth["figures"]["planted_all"]["age_matched_ratio"], rel=0.15)
    answer = BeautifulSoup(reports.html("root_cause"), "html.parser").select_one(
        "[data-section=answer] .as-answer-text"
    )
    assert answer
    assert all(value in answer.text for value in truth["cell"].values())


def test_no_finding_names_the_distractor_or_the_decoy(reports: Reports, demo: DemoWorld) -> None:
    truth = demo.truth
    innocent = {*truth["distractor"].values(), *truth["decoy"].values()}
    for finding in reports.record("root_cause")["findings"]:
        assert not innocent & set(finding["cell"].values()), finding
    soup = BeautifulSoup(reports.html("root_cause"), "html.parser")
    for name in ("answer", "findings"):
        section = soup.select_one(f"[data-section={name}]")
        assert section
        assert truth["distractor"]["region"] not in section.text


def test_the_improvement_review_describes_the_action(reports: Reports, demo: DemoWorld) -> None:
    truth, record = demo.truth, reports.record("improvement_review")
    assert record["action"] == truth["action"]["action_id"]
    assert record["label"] == "descriptive"
    ratio, low, high = record["action_ratio"]
    assert low < ratio < high < 1, "fewer after than before"
    assert low < 1 + truth["effect"]["after_change_leak"] < high, "the planted effect lies in the interval"
    relative, relative_low, relative_high = record["relative_ratio"]
    assert relative == pytest.approx(ratio / record["comparison_ratio"][0])
    assert relative_low < relative < relative_high


def test_the_ingestion_report_accounts_for_every_row(reports: Reports) -> None:
    record = reports.record("ingestion")
    assert record["balanced"] is True
    assert record["rows_read"] == record["accepted"] + record["rejected"] + record["duplicate"]


# --------------------------------------------------------------------------------------------------- the HTML file


@pytest.mark.parametrize("page", PAGES)
def test_a_report_needs_nothing_from_elsewhere(reports: Reports, page: str) -> None:
    text = reports.html(page)
    assert len(text.encode()) < 500_000
    soup = BeautifulSoup(text, "html.parser")
    assert soup.find_all(["script", "iframe", "object", "embed", "link", "base", "form"]) == []
    for node in soup.find_all(True):
        for name, value in node.attrs.items():
            assert not name.startswith("on"), f"{node.name} {name}"
            if name in ("src", "href", "srcset", "data", "action", "poster", "background", "xlink:href"):
                assert str(value).startswith(("data:", "#")), f"{node.name} {name}={str(value)[:80]}"
    for address in re.findall(r"url\(\s*['\"]?([^'\")]+)", text):
        assert address.startswith(("data:", "#")), address[:80]
    assert "@import" not in text
    plain = re.sub(r'src="data:[^"]+"', "", text)
    assert not re.search(r"https?://(?!www\.w3\.org/)", plain), re.search(r"https?://[^\s\"<]+", plain)
    assert str(reports.place.root) not in text, "no path of this machine"


@pytest.mark.parametrize("page", PAGES)
def test_a_report_is_in_one_language(reports: Reports, page: str) -> None:
    soup = BeautifulSoup(reports.html(page), "html.parser")
    html = soup.find("html")
    assert html
    assert str(html["lang"]).startswith(LANGS[page])
    prose = " ".join(node.get_text(" ") for node in soup.select(".as-prose"))
    assert bool(re.search(r"[\u4e00-\u9fff]", prose)) == (LANGS[page] == "zh")
    assert len(prose) > 100
    heads = " ".join(node.get_text(" ") for node in soup.select("h2, h3"))
    assert bool(re.search(r"[\u4e00-\u9fff]", heads)) == (LANGS[page] == "zh"), heads


@pytest.mark.parametrize("page", PAGES)
def test_a_report_shows_its_charts_its_versions_and_no_code(reports: Reports, page: str) -> None:
    text, run = reports.html(page), reports.run(page)
    soup = BeautifulSoup(text, "html.parser")
    pictures = soup.select("img")
    assert pictures
    assert all(picture.get("alt") for picture in pictures)
    assert run.run_id in soup.get_text(), "the footer names the run"
    assert run.code_version in soup.get_text()
    assert "2025-12-31" in soup.get_text()
    assert "open_page" not in text
    assert "Traceback" not in text


# ------------------------------------------------------------------------------------- parameters from outside


NASTY = [
    "x; import os",
    "__class__",
    "text\nimport os",
    "text = 1; text",
    "型号",
    "",
    " text",
    "text ",
    "Text",
    "os.system('id')",
    "text#",
    "🔒",
    "import",
    "x" * 3000,
]


@pytest.mark.parametrize("name", NASTY)
def test_an_unknown_parameter_never_reaches_a_notebook(
    echo: Workspace, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import papermill

    monkeypatch.setattr(papermill, "execute_notebook", lambda *_, **__: pytest.fail("it ran"))
    with pytest.raises(ParameterError, match=r"known: is_open, level, months, names, text") as refused:
        run_report(echo, "echo", {name: "1"})
    assert "nothing was run" in str(refused.value)
    assert list(echo.reports.rglob("*")) == [path for path in echo.reports.rglob("*") if path.suffix or path.is_dir()]
    assert not [record for record in run_records(echo) if name and name in json.dumps(record)]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"months": "12"}, "'12' is no integer"),
        ({"months": 37}, "above 36"),
        ({"names": "a"}, "is no texts"),
        ({"is_open": 1}, "is no flag"),
        ({"text": ["a"]}, "is no text"),
        ({"level": float("nan")}, "level"),
        ({"months": 0.5, "level": "x", "nope": 1}, "no parameter 'nope'"),
    ],
)
def test_an_ill_typed_value_is_refused_before_anything_runs(echo: Workspace, given: dict[str, Any], said: str) -> None:
    before = run_records(echo)
    with pytest.raises(ParameterError, match=re.escape(said)):
        run_report(echo, "echo", given)
    assert run_records(echo) == before


@pytest.mark.parametrize("page", ["nope", "../echo", "echo.ipynb", "echo\n", "/etc/passwd", "", "Echo"])
def test_an_unknown_page_is_refused_and_the_known_ones_are_listed(echo: Workspace, page: str) -> None:
    with pytest.raises(ParameterError, match="known: echo"):
        run_report(echo, page, {})


def test_values_arrive_as_they_are_and_are_never_evaluated(echo: Workspace) -> None:
    mean = "it's \"quoted\" {text} {{x}} ${HOME} %s \\n \n second line \t 🔒 深圳 __import__('os').system('touch evaluated')"
    given = {
        "text": mean,
        "names": [mean, "", "'''", '"""', "\\", "\\'", "\u2028", "\x00"],
        "months": 3,
        "level": -0.25,
        "is_open": True,
    }
    run = run_report(echo, "echo", given)
    assert run.state == "ok", run.reason
    assert json.loads((echo.root / "told.json").read_text(encoding="utf-8")) == [mean, given["names"], 3, -0.25, True]
    assert json.loads((Path(run.folder) / "run.json").read_text(encoding="utf-8"))["parameters"] == given
    assert not (echo.root / "evaluated").exists()
    assert mean not in (Path(run.folder) / "report.html").read_text(encoding="utf-8")


# ---------------------------------------------------------------------------------------------------------- states


@pytest.mark.parametrize("page", ["overview", "root_cause"])
def test_a_page_without_data_is_skipped_or_refused_and_says_why(tmp_path: Path, page: str) -> None:
    place = new_workspace(tmp_path)
    run = run_report(place, page, {})
    assert run.state in ("skipped", "refused")
    assert run.reason
    assert (Path(run.folder) / "report.html").exists()
    assert run.table_versions == {}


def page_of(place: Workspace, *cells: str) -> ReportRun:
    write_page(place, "small", {"text": TEXT}, *cells)
    return run_report(place, "small", {})


def test_states_follow_what_the_sections_show(tmp_path: Path) -> None:
    place = new_workspace(tmp_path, pages=False)
    figure = [{"label": "a", "value": "1"}]
    empty = {"kind": "empty", "text": "nothing loaded", "detail": None, "id": None}
    refused = {"kind": "refused", "text": "no base", "detail": None, "id": None}
    broken = {"kind": "error", "text": "broken", "detail": None, "id": "ab12cd34"}
    ok = page_of(place, section_cell(id="a", figures=figure), section_cell(id="b", message=refused))
    assert (ok.state, ok.reason) == ("ok", "b: no base")
    skipped = page_of(place, section_cell(message=empty))
    assert (skipped.state, skipped.reason) == ("skipped", "nothing loaded")
    no = page_of(place, section_cell(id="a", message=empty), section_cell(id="b", message=refused))
    assert (no.state, no.reason) == ("refused", "b: no base")
    failed = page_of(place, section_cell(id="a", figures=figure), section_cell(id="b", message=broken))
    assert (failed.state, failed.reason) == ("failed", "sections failed: b (error ab12cd34)")
    assert not (Path(failed.folder) / "report.html").exists(), "nobody shall read half a report"
    nothing = page_of(place, "1 + 1")
    assert (nothing.state, nothing.reason) == ("failed", "no section was shown")


def test_a_failing_cell_fails_the_run_and_keeps_the_notebook_for_whoever_mends_it(tmp_path: Path) -> None:
    place = new_workspace(tmp_path, pages=False)
    run = page_of(place, section_cell(figures=[{"label": "a", "value": "1"}]), "1 / 0", "after = 1")
    assert run.state == "failed"
    assert run.reason.endswith("ZeroDivisionError: division by zero")
    assert sorted(path.name for path in Path(run.folder).iterdir()) == ["notebook.ipynb", "run.json"]
    assert find_run(place, "latest:small")["state"] == "failed"
    with open_register(place) as register, register.reading() as session:
        row = session.get(Run, run.run_id)
        assert row is not None
        assert row.state == "failed"


def test_a_kernel_that_dies_fails_the_run(tmp_path: Path) -> None:
    place = new_workspace(tmp_path, pages=False)
    run = page_of(
        place,
        section_cell(figures=[{"label": "a", "value": "1"}]),
        "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)",
    )
    assert run.state == "failed"
    assert "died" in run.reason.lower() or "dead" in run.reason.lower(), run.reason
    assert not (Path(run.folder) / "report.html").exists()


def test_a_cell_that_never_ends_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from aftersales.publish import reports

    monkeypatch.setattr(reports, "CELL_SECONDS", 2)
    place = new_workspace(tmp_path, pages=False)
    started = time.monotonic()
    run = page_of(place, "import time\ntime.sleep(600)")
    assert run.state == "failed"
    assert "imeout" in run.reason or "timed out" in run.reason, run.reason
    assert time.monotonic() - started < 60


def test_a_killed_runner_leaves_nothing_that_looks_like_a_run(tmp_path: Path) -> None:
    place = new_workspace(tmp_path, pages=False)
    write_page(place, "slow", {"text": TEXT}, "import pathlib, time\npathlib.Path('started').touch()\ntime.sleep(60)")
    command = [sys.executable, "-m", "aftersales.cli", "report", "run", "slow", "--workspace", str(place.root)]
    runner = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    try:
        end = time.monotonic() + 60
        while not (place.root / "started").exists() and time.monotonic() < end and runner.poll() is None:
            time.sleep(0.05)
        assert (place.root / "started").exists()
    finally:
        os.killpg(runner.pid, signal.SIGKILL)
        runner.wait()
    assert list_runs(place) == []
    left = [path for path in (place.reports / "slow").iterdir() if not path.name.startswith(".unfinished-")]
    assert left == [], "only a hidden scratch folder may stay"
    write_page(place, "slow", {"text": TEXT}, section_cell(figures=[{"label": "a", "value": "1"}]))
    assert run_report(place, "slow", {}).state == "ok"
    assert len(list_runs(place)) == 1


def test_a_runner_killed_just_before_the_end_is_not_listed(tmp_path: Path) -> None:
    place = new_workspace(tmp_path, pages=False)
    run = page_of(place, section_cell(figures=[{"label": "a", "value": "1"}]))
    folder = Path(run.folder)
    folder.rename(folder.parent / ".unfinished-abc")
    assert list_runs(place) == []


def test_a_full_disk_leaves_the_last_good_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place = new_workspace(tmp_path, pages=False)
    good = page_of(place, section_cell(figures=[{"label": "a", "value": "1"}]))
    from aftersales.publish import reports

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(reports, "_write_report", full)
    with pytest.raises(OSError, match="No space left"):
        run_report(place, "small", {})
    assert [record["run_id"] for record in list_runs(place)] == [good.run_id]
    assert [path.name for path in (place.reports / "small").iterdir()] == [good.run_id], "the scratch folder is gone"


def test_a_record_cut_in_half_does_not_hide_the_other_runs(tmp_path: Path) -> None:
    place = new_workspace(tmp_path, pages=False)
    good = page_of(place, section_cell(figures=[{"label": "a", "value": "1"}]))
    for name, content in (("half", '{"run_id": "ha'), ("empty", ""), ("list", "[]"), ("other", '{"run_id": "x"}')):
        folder = place.reports / "small" / name
        folder.mkdir()
        (folder / "run.json").write_text(content, encoding="utf-8")
    assert [record["run_id"] for record in list_runs(place)] == [good.run_id]


# ------------------------------------------------------------------------------------------------------ if changed


def test_a_page_is_not_run_again_while_nothing_changed(reports: Reports, tmp_path: Path) -> None:
    run = reports.run("ingestion")
    same = unchanged_run(reports.place, "ingestion", {"lang": "zh"})
    assert same is not None
    assert same["run_id"] == run.run_id
    assert same["folder"] == run.folder
    assert unchanged_run(reports.place, "ingestion", {"lang": "en"}) is None
    assert unchanged_run(reports.place, "ingestion", {"lang": "zh", "source": ["hotline"]}) is None


@pytest.mark.parametrize(
    ("file", "before", "after"),
    [
        ("workbench.yml", "language: en", "language: zh"),
        ("workbench.yml", "Asia/Shanghai", "UTC"),
        ("notebooks/ingestion.ipynb", "What arrived?", "What came?"),
        ("notebooks/ingestion.yml", "order: 40", "order: 41"),
        ("data/reference/failure_modes.csv", "Battery leakage", "Leaking battery"),
        ("data/sources/hotline.yml", "hotline", "phone line"),
    ],
)
def test_what_the_workspace_says_makes_a_page_new(
    demo: DemoWorld, tmp_path: Path, file: str, before: str, after: str
) -> None:
    place, _, _ = changed_world(demo, tmp_path)
    assert unchanged_run(place, "ingestion", {}) is not None
    text = (place.root / file).read_text(encoding="utf-8")
    assert before in text
    (place.root / file).write_text(text.replace(before, after), encoding="utf-8")
    assert unchanged_run(open_workspace(place.root), "ingestion", {}) is None


def changed_world(demo: DemoWorld, tmp_path: Path) -> tuple[Workspace, str, dict[str, Any]]:
    """A workspace with a record as a run of the ingestion page would leave it, without the run."""
    from aftersales.publish import reports as module

    place = demo.borrow(tmp_path / "w")
    store = Store(place.lake)
    record = {"run_id": "20260101T000000Z-abcdef", "page": "ingestion", "state": "ok", "reason": "", "parameters": {"source": [], "as_of": "", "lang": ""},
              "table_versions": {name: store.version(name) for name in store.names()}, "metric_versions": {}, "code_version": module.code_version(),
              "started_at": "2026-01-01T00:00:00+00:00", "seconds": 1.0, "settings": module._settings_hash(place, "ingestion"), "register_version": module._register_version(place)}  # fmt: skip
    folder = place.reports / "ingestion" / record["run_id"]
    folder.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps(record), encoding="utf-8")
    return place, record["run_id"], record


@pytest.mark.parametrize(
    "change",
    [{"state": "failed"}, {"code_version": "0.0.1"}, {"table_versions": {"ticket": 0}}, {"register_version": 0}, {"metric_versions": {"csat": "2020-01-01.00000000"}}, {"metric_versions": {"gone": "x"}}],
)  # fmt: skip
def test_data_code_definitions_and_failures_make_a_page_new(
    demo: DemoWorld, tmp_path: Path, change: dict[str, Any]
) -> None:
    place, name, record = changed_world(demo, tmp_path)
    assert unchanged_run(place, "ingestion", {}) is not None
    path = place.reports / "ingestion" / name / "run.json"
    path.write_text(json.dumps({**record, **change}), encoding="utf-8")
    assert unchanged_run(place, "ingestion", {}) is None


def test_a_page_that_shows_now_is_always_new(demo: DemoWorld, tmp_path: Path) -> None:
    place = demo.borrow(tmp_path, as_of="")
    assert unchanged_run(place, "ingestion", {}) is None
