"""The command line as a process: what it prints where, exit codes, errors in four parts, help with examples."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from conftest import TestWorkspace
from worlds import DemoWorld, new_workspace, section_cell, write_page

from aftersales.cli import app, main
from aftersales.model.settings import WORKSPACE_VARIABLE, Workspace

NEED_NO_WORKSPACE = {"init", "tables", "metric list", "metric show"}
PRINT_NO_JSON = {"init", "serve", "lab", "action add", "action set", "report show"}  # `report show` prints JSON anyway


def commands() -> Iterator[tuple[str, Any]]:
    """Every command that does something, by its full name."""

    def walk(command: Any, name: str) -> Iterator[tuple[str, Any]]:
        if hasattr(command, "commands"):
            for part, child in command.commands.items():
                yield from walk(child, f"{name} {part}".strip())
        else:
            yield name, command

    yield from walk(typer.main.get_command(app), "")


COMMANDS = dict(commands())


def process(*arguments: str, cwd: Path | None = None, code: int | None = 0) -> subprocess.CompletedProcess[str]:
    """Run the command as a process of its own; `code` is the exit code it must have."""
    command = [sys.executable, "-m", "aftersales.cli", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != WORKSPACE_VARIABLE}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, encoding="utf-8", check=False, timeout=120
    )
    assert code in (None, done.returncode), done.stdout[-2000:] + done.stderr[-2000:]
    return done


def run(
    *arguments: str, cwd: Path | None = None, code: int | None = 0, **environment: str
) -> subprocess.CompletedProcess[str]:
    """The same in this process: nothing has to be imported again."""
    out, err, exit_code = io.StringIO(), io.StringIO(), 0
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        patch.setattr(sys, "argv", ["aftersales", *arguments])
        patch.delenv(WORKSPACE_VARIABLE, raising=False)
        for name, value in environment.items():
            patch.setenv(name, value)
        if cwd:
            patch.chdir(cwd)
        try:
            main()
        except SystemExit as end:
            exit_code = int(end.code or 0)
    assert code in (None, exit_code), out.getvalue()[-2000:] + err.getvalue()[-2000:]
    return subprocess.CompletedProcess(list(arguments), exit_code, out.getvalue(), err.getvalue())


def answer(*arguments: str, cwd: Path | None = None, code: int = 0) -> Any:
    """The JSON a command prints."""
    return json.loads(run(*arguments, "--json", cwd=cwd, code=code).stdout)


@pytest.fixture(scope="module")
def place(demo: DemoWorld, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return demo.borrow(tmp_path_factory.mktemp("cli"))


# ------------------------------------------------------------------------------------------------------------ help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example_of_itself(name: str) -> None:
    text = COMMANDS[name].help
    assert text
    assert f"Example: aftersales {name}" in text
    first = text.splitlines()[0]
    assert first.endswith("."), first
    for parameter in COMMANDS[name].params:
        assert getattr(parameter, "help", None), f"{name}: {parameter.name} has no help"


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_needs_a_workspace_can_be_told_which(name: str) -> None:
    options = {option for parameter in COMMANDS[name].params for option in parameter.opts}
    assert ("--workspace" in options) != (name in NEED_NO_WORKSPACE)
    assert ("--json" in options) != (name in PRINT_NO_JSON)


def test_help_is_printed_and_shows_the_example(tmp_path: Path) -> None:
    done = run("metric", "compute", "--help", cwd=tmp_path)
    assert "aftersales metric compute complaint_rate --by model,batch --json" in re.sub(r"\s+", " ", done.stdout)
    assert done.stderr == ""
    assert "report" in run("--help", cwd=tmp_path).stdout


# ------------------------------------------------------------------------------------------------------------ JSON


def test_status_says_what_was_loaded(place: Workspace, demo: DemoWorld) -> None:
    status = answer("status", "--workspace", str(place.root))
    totals = status["totals"]
    assert totals["rows_read"] == totals["accepted"] + totals["rejected"] + totals["duplicate"] > 40_000
    for row in status["sources"]:
        assert row["rows_read"] == row["accepted"] + row["rejected"] + row["duplicate"], row
    tables = {row["table"]: row for row in status["tables"]}
    assert tables["product"]["rows"] == 6
    assert tables["unit"]["rows"] <= demo.truth["units"]
    assert {row["source"] for row in status["freshness"]} >= {"hotline", "app_tickets"}
    assert status["workspace"] == str(place.root)


def test_a_metric_is_a_list_of_rows_with_count_base_interval_and_version(place: Workspace) -> None:
    rows = answer("metric", "compute", "complaint_rate", "--by", "model,batch", "--workspace", str(place.root))
    assert isinstance(rows, list)
    assert len(rows) > 20
    for row in rows:
        assert {"model", "batch", "count", "base", "value", "low", "high", "ripe", "metric_version"} <= set(row)
        if row["value"] is not None and row["base"]:
            assert row["value"] == pytest.approx(row["count"] / row["base"] * 10_000, rel=1e-9)
            assert row["low"] <= row["value"] <= row["high"]
    (whole,) = answer("metric", "compute", "complaint_rate", "--workspace", str(place.root))
    assert sum(row["count"] for row in rows) == whole["count"]
    assert sum(row["base"] for row in rows) == pytest.approx(whole["base"])


@pytest.mark.parametrize("period", ["month", "quarter", "year"])
def test_periods_are_plain_days(place: Workspace, period: str) -> None:
    rows = answer(
        "metric",
        "compute",
        "ticket_count",
        "--period",
        period,
        "--start",
        "2024-01-01",
        "--end",
        "2025-01-01",
        "-w",
        str(place.root),
    )
    assert len(rows) == {"month": 12, "quarter": 4, "year": 1}[period]
    assert all(re.fullmatch(r"2024-\d\d-01", row["period"]) for row in rows)
    (total,) = answer(
        "metric", "compute", "ticket_count", "--start", "2024-01-01", "--end", "2025-01-01", "-w", str(place.root)
    )
    assert sum(row["count"] for row in rows) == total["count"]


def test_a_filter_of_a_metric_can_be_given_several_times(place: Workspace) -> None:
    at = ("-w", str(place.root))
    (one,) = answer("metric", "compute", "ticket_count", "--where", "channel=app", *at)
    (other,) = answer("metric", "compute", "ticket_count", "--where", "channel=phone", *at)
    (both,) = answer("metric", "compute", "ticket_count", "--where", "channel=app", "--where", "channel=phone", *at)
    assert one["count"] > 0
    assert both["count"] == one["count"] + other["count"]


def test_reports_are_listed_and_shown_as_json(tmp_path: Path) -> None:
    place = new_workspace(tmp_path, pages=False)
    write_page(
        place, "small", {"text": {"type": "text", "default": ""}}, section_cell(figures=[{"label": "a", "value": "1"}])
    )
    (made,) = answer("report", "run", "small", "-p", "text=a = 'b' = {c} 深圳", "-w", str(tmp_path))
    assert (made["state"], made["parameters"]) == ("ok", {"text": "a = 'b' = {c} 深圳"})
    assert (Path(made["folder"]) / "report.html").exists()
    (listed,) = answer("report", "list", "-w", str(tmp_path))
    assert {**listed, "folder": made["folder"]} == made
    assert json.loads(run("report", "show", "latest:small", "-w", str(tmp_path)).stdout)["run_id"] == made["run_id"]
    assert [row["page"] for row in answer("report", "list", "--pages", "-w", str(tmp_path))] == ["small"]
    assert "small" in run("report", "list", "-w", str(tmp_path)).stdout


def test_data_goes_to_standard_output_and_the_rest_does_not(place: Workspace) -> None:
    done = process("metric", "compute", "complaint_rate", "--json", "-w", str(place.root))
    json.loads(done.stdout)
    notes = done.stderr.split("note: ")[1:]
    assert notes
    assert len(notes) == len(set(notes)), "a note is told once"


def test_metrics_are_listed_with_their_versions(tmp_path: Path) -> None:
    listed = {row["metric"]: row for row in answer("metric", "list", cwd=tmp_path)}
    shown = answer("metric", "show", "complaint_rate", cwd=tmp_path)
    assert shown["version"] == listed["complaint_rate"]["version"]
    assert shown["numerator"]["table"] == "complaint"


def test_actions_are_added_imported_and_shown(demo: DemoWorld, tmp_path: Path) -> None:
    place = new_workspace(tmp_path)
    at = ("-w", str(place.root))
    file = str(demo.root / "data" / "demo" / "actions.csv")
    assert answer("action", "import", file, *at)["added"] == [demo.truth["action"]["action_id"]]
    assert answer("action", "import", file, *at)["unchanged"] == [demo.truth["action"]["action_id"]], (
        "the same file again changes nothing"
    )
    (found,) = answer("action", "list", *at)
    assert found["title"] == demo.truth["action"]["title"]
    shown = answer("action", "show", found["action_id"], *at)
    assert shown["history"]
    missing = run("action", "show", "A-0000", *at, code=None)
    assert missing.returncode in (1, 2)
    assert "A-2022-07" in missing.stderr, "a wrong number lists the known ones"


# -------------------------------------------------------------------------------------------- errors and exit codes


def four_parts(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    """where, what and the named parts of an error."""
    first, *rest = done.stderr.strip().splitlines()
    where, _, what = first.partition(": ")
    parts = dict(re.findall(r"^  (\w+) *: (.+)$", "\n".join(rest), flags=re.M))
    assert where
    assert what
    assert "Traceback" not in done.stderr
    assert done.stdout == "", "errors are not data"
    return {"where": where, "what": what, **parts}


@pytest.mark.parametrize(
    ("arguments", "code", "what", "rows"),
    [
        (("metric", "compute", "ftf_rate"), 2, "no metric 'ftf_rate'", "first_time_fix_rate"),
        (("metric", "compute", "nps", "--by", "batch,nope"), 2, "no dimension", "known:"),
        (("metric", "compute", "nps", "--period", "week"), 2, "'week' is none of month, quarter, year", ""),
        (("metric", "compute", "nps", "--start", "2025-02-30"), 2, "'2025-02-30' is no date", ""),
        (("metric", "compute", "nps", "--as-of", "yesterday"), 2, "'yesterday' is no date", ""),
        (("metric", "compute", "nps", "--where", "channel"), 2, "'channel' has no =", ""),
        (("metric", "show", "ftf_rate"), 2, "no metric 'ftf_rate'", "known:"),
        (("ingest", "nope"), 2, "no source 'nope'", "known: app_tickets"),
        (("ingest", "--files", "x.csv"), 2, "goes with one source", ""),
        (("ingest", "data/sources/nope.yml"), 2, "no such file", ""),
        (("report", "run", "nope"), 2, "no page 'nope'", "known: catalogue, improvement_review"),
        (("report", "run", "index"), 2, "is a page only", "known:"),
        (("report", "run", "overview", "-p", "mnths=3"), 2, "no parameter 'mnths'", "known:"),
        (("report", "run", "overview", "-p", "months=many"), 2, "'many' is no integer", "known:"),
        (("report", "run", "overview", "-p", "x; import os=1"), 2, "no parameter 'x; import os'", "known:"),
        (("report", "run", "overview", "-p", "months"), 2, "'months' has no =", ""),
        (("report", "show", "nope"), 2, "no run 'nope'", "known: none"),
        (("action", "import", "nope.csv"), None, "such file", ""),
    ],
)
def test_what_is_wrong_is_said_in_four_parts(
    place: Workspace, arguments: tuple[str, ...], code: int | None, what: str, rows: str
) -> None:
    at = () if arguments[:2] == ("metric", "show") else ("--workspace", str(place.root))
    done = run(*arguments, *at, code=code)
    assert done.returncode in (1, 2, 3)
    parts = four_parts(done)
    assert what in parts["what"].lower() or what in parts["what"], parts
    assert rows in parts.get("rows", "")
    assert parts["fix"]


def test_the_option_that_is_wrong_is_named(place: Workspace) -> None:
    assert four_parts(run("report", "run", "overview", "-p", "months", "-w", str(place.root), code=2))["where"] in (
        "--parameter",
        "-p",
    )


@pytest.mark.parametrize(
    "arguments",
    [
        ("nope",),
        ("metric", "nope"),
        ("ingest", "--nope"),
        ("demo", "--rows", "many"),
        ("demo", "--rows", "3"),
        ("serve", "--port", "0"),
        ("metric", "compute"),
    ],
)
def test_wrong_usage_is_exit_code_two(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = run(*arguments, cwd=tmp_path, code=2)
    assert "Traceback" not in done.stderr
    assert "Usage" in done.stderr


@pytest.mark.parametrize("name", [name for name in COMMANDS if name not in NEED_NO_WORKSPACE])
def test_a_folder_that_is_no_workspace_is_named(name: str, tmp_path: Path) -> None:
    needed = {"action show": ["A"], "action add": ["A", "--title", "t", "--owner", "o"], "action set": ["A"], "action import": ["f.csv"],
              "duplicates decide": ["D-1", "same"], "access explain": ["li", "ticket"],
                  "codes accept": ["s", "c", "v", "t"],
                  "privacy export": ["s", "--out", "s.json"], "privacy erase": ["s", "--reason", "r"],
                  "exchange export": ["c.json"], "exchange import": ["c.json"], "metric compute": ["nps"], "report show": ["latest"]}  # fmt: skip
    done = run(*name.split(), *needed.get(name, []), "--workspace", str(tmp_path), code=2)
    parts = four_parts(done)
    assert parts["where"] == str(tmp_path)
    assert "no workbench.yml here" in parts["what"]
    assert "aftersales init" in parts["fix"]


def test_a_broken_settings_file_names_every_line(tmp_path: Path) -> None:
    (tmp_path / "workbench.yml").write_text("nam: x\nlanguage: fr\ntime_zone: Mars/Base\n", encoding="utf-8")
    done = run("status", cwd=tmp_path, code=2)
    for said in (
        "workbench.yml: 3 problems",
        "line 1, nam: unknown key 'nam' (did you mean 'name'?)",
        "line 2, language",
        "line 3, time_zone",
    ):
        assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_debug_shows_the_traceback(place: Workspace) -> None:
    done = process("--debug", "metric", "compute", "ftf_rate", "-w", str(place.root), code=1)
    assert "Traceback" in done.stderr
    assert "MetricError" in done.stderr


def test_an_unexpected_error_is_one_line_and_exit_code_three(place: Workspace) -> None:
    code = ("import sys; sys.argv = ['aftersales', 'metric', 'list']\n"
            "import aftersales.measure.definitions as d, aftersales.cli as c\n"
            "def broken(): raise ZeroDivisionError('secret')\n"
            "d.metrics = broken\nc.main()")  # fmt: skip
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "ZeroDivisionError" in done.stderr
    assert "--debug" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_refused_metric_is_exit_code_one_and_says_why(tmp_path: Path) -> None:
    new_workspace(tmp_path)
    done = run("metric", "compute", "complaint_rate", cwd=tmp_path, code=1)
    assert "no complaint has been loaded" in done.stderr
    assert json.loads(run("metric", "compute", "complaint_rate", "--json", cwd=tmp_path, code=1).stdout) == []


def test_a_failed_report_is_exit_code_three(tmp_path: Path) -> None:
    place = new_workspace(tmp_path, pages=False)
    write_page(place, "small", {"text": {"type": "text", "default": ""}}, "1 / 0")
    done = run("report", "run", "small", "-w", str(tmp_path), code=3)
    assert "small: failed" in done.stdout
    assert "ZeroDivisionError" in done.stdout


def test_an_empty_register_and_an_empty_list_are_no_error(tmp_path: Path) -> None:
    new_workspace(tmp_path)
    assert answer("report", "list", cwd=tmp_path) == []
    assert answer("action", "list", cwd=tmp_path) == []
    assert run("report", "list", cwd=tmp_path).stdout.strip() == "nothing"
    status = answer("status", cwd=tmp_path)
    assert status["totals"]["rows_read"] == 0
    assert status["tables"] == []


def test_a_reader_that_stops_early_hears_no_complaint(place: Workspace) -> None:
    command = f"'{sys.executable}' -m aftersales.cli {{}} -w '{place.root}' | head -1"
    for arguments in ("metric compute complaint_rate --by model,batch --json", "status", "report list --pages"):
        done = subprocess.run(["bash", "-c", command.format(arguments)], capture_output=True, text=True, check=False)
        assert len(done.stdout.splitlines()) == 1
        assert "Broken pipe" not in done.stderr
        assert "Traceback" not in done.stderr
        assert "--debug" not in done.stderr


# ------------------------------------------------------------------------------------------------- the workspace


def test_the_workspace_is_the_option_the_variable_or_the_nearest_folder_above(tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        new_workspace(tmp_path / name, {"name": name})
    below = tmp_path / "three" / "data" / "sources"

    def which(*arguments: str, **environment: str) -> str:
        return Path(json.loads(run("status", "--json", *arguments, cwd=below, **environment).stdout)["workspace"]).name

    variable = {WORKSPACE_VARIABLE: str(tmp_path / "two")}
    assert which("--workspace", str(tmp_path / "one"), **variable) == "one"
    assert which(**variable) == "two"
    assert which() == "three"


SOURCE = """
name: my_export
title: {en: My tickets, zh: 我的工单}
owner: service desk
files: data/raw/*.csv
time_zone: Asia/Shanghai
missing: ["", "-"]
tables:
  ticket:
    columns:
      ticket_id: 工单号
      channel: {from: 渠道, map: {电话: phone, 微信: wechat}}
      created_at: {from: 创建时间, format: "%Y/%m/%d %H:%M"}
      first_reply_at: {from: 首响时间, format: "%Y/%m/%d %H:%M", not_before: created_at, on_bad: blank}
      known_at: {from: 创建时间, format: "%Y/%m/%d %H:%M"}
"""


def test_a_users_own_export_goes_in_and_a_page_comes_out(tmp_path: Path) -> None:
    folder = tmp_path / "售后 data"
    said = run("init", str(folder)).stdout
    assert "aftersales ingest" in said
    with (folder / "data" / "raw" / "export.csv").open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["工单号", "渠道", "创建时间", "首响时间"])
        for n in range(20):
            replied = f"2025/10/{n + 1:02d} {10 + n % 4}:30" if n % 5 else "-"
            writer.writerow([f"T{n:03d}", "电话" if n % 2 else "微信", f"2025/10/{n + 1:02d} 10:00", replied])
        writer.writerow(["T003", "电话", "2025/10/04 10:00", "2025/10/04 13:30"])  # the same row again
        writer.writerow(["T900", "电话", "yesterday", "-"])
    (folder / "data" / "sources" / "my_export.yml").write_text(SOURCE, encoding="utf-8")
    with (folder / "workbench.yml").open("a", encoding="utf-8") as stream:
        stream.write('as_of: "2025-12-31"\n')
    assert answer("check", cwd=folder)["problems"] == []
    (loaded,) = answer("ingest", cwd=folder)
    assert (loaded["rows_read"], loaded["accepted"], loaded["rejected"], loaded["duplicate"]) == (22, 20, 1, 1)
    (again,) = answer("ingest", cwd=folder)
    assert again["skipped"]
    rows = answer("metric", "compute", "first_response_time", "--by", "channel", cwd=folder)
    assert {row["channel"]: (row["count"], row["base"]) for row in rows} == {"phone": (8, 10), "wechat": (8, 10)}
    assert {row["channel"]: row["value"] for row in rows} == {"phone": 2.5, "wechat": 1.5}
    (run_,) = answer("report", "run", "overview", "-p", "lang=zh", cwd=folder)
    assert run_["state"] == "ok"
    page = (Path(run_["folder"]) / "report.html").read_text(encoding="utf-8")
    assert "20 件" in page
    assert run("init", str(folder), code=2).stderr.count("already has a workbench.yml") == 1


def test_check_reports_the_problems_of_all_files_at_once(tmp_path: Path) -> None:
    run("init", str(tmp_path / "w"))
    sources = tmp_path / "w" / "data" / "sources"
    (sources / "one.yml").write_text(
        SOURCE.replace("my_export", "one").replace("ticket_id:", "tiket_id:"), encoding="utf-8"
    )
    (sources / "two.yml").write_text("name: two\nowner: [", encoding="utf-8")
    (sources / "three.yml").write_text(SOURCE.replace("my_export", "three"), encoding="utf-8")
    page = tmp_path / "w" / "notebooks" / "overview.yml"
    page.write_text(page.read_text(encoding="utf-8").replace("type: integer", "type: int"), encoding="utf-8")
    found = answer("check", "-w", str(tmp_path / "w"), code=1)
    text = "\n".join(found["problems"])
    assert len(found["problems"]) == 4, text
    for said in ("tiket_id", "two.yml", "no file", "overview.yml"):
        assert said in text, said
    assert not (tmp_path / "w" / "data" / "lake").exists(), "nothing was loaded"
    done = run("check", "-w", str(tmp_path / "w"), code=1)
    assert "4 with problems" in done.stdout
    assert "tiket_id" in done.stderr


def test_a_column_that_is_gone_is_shown_with_a_line_for_the_yaml(workspace: TestWorkspace) -> None:
    workspace.source("""
        owner: test
        files: data/raw/*
        tables:
          ticket:
            columns: {ticket_id: id, known_at: created, created_at: created, status: status}
          complaint:
            where: {kind: complaint}
            columns: {complaint_id: id, known_at: created, received_at: created}
        """)
    workspace.file("[1].csv", "id,created,status,kind\n1,2024-01-01,open,complaint\n")
    root = str(workspace.root)
    assert [row["refused"] for row in answer("ingest", "-w", root)] == ["", ""]
    workspace.file("[2].csv", "id,created,Status of it,art\n2,2024-01-01,open,complaint\n")
    found = answer("check", "-w", root, code=1)
    assert found["problems"] == []
    assert [(row["column"], row["consequence"]) for row in found["drift"]] == [
        ("status", "kept"),
        ("kind", "refused"),
        ("art", "ignored"),
    ]
    done = run("ingest", "-w", root, code=1)
    assert "[2].csv: table complaint was not loaded, the file lacks 'kind'" in done.stderr
    shown = run("status", "-w", root).stdout
    assert "crm/ticket: [2].csv: renamed column 'status', now 'Status of it'; the rest is loaded" in shown
    assert "    status: {from: [status, Status of it]}" in shown
    assert len(answer("status", "-w", root)["drift"]) == 3


def test_init_never_writes_over_a_file_of_the_user(tmp_path: Path) -> None:
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "overview.yml").write_text("mine", encoding="utf-8")
    run("init", str(tmp_path))
    assert (tmp_path / "notebooks" / "overview.yml").read_text(encoding="utf-8") == "mine"
    assert (tmp_path / "notebooks" / "root_cause.ipynb").exists()
    assert not list(tmp_path.rglob("*.csv")), "no demo data in a user's workspace"
