"""Running a page as a report: checked parameters in, a run folder with notebook, HTML and `run.json` out.

A run is written beside its place and moved there when it is complete; a killed run leaves nothing that looks done.

Heavy packages are imported in functions: the runner needs few of those that its kernel loads.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
import uuid
import zoneinfo
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import aftersales
from aftersales.lake.audit import RUN_VARIABLE
from aftersales.lake.viewer import AS_ROLE_VARIABLE, AS_USER_VARIABLE, SERVER_VARIABLE, Viewer, resolve_viewer
from aftersales.model.errors import AftersalesError, DeliveryError, ParameterError, known_names
from aftersales.model.policy import OWNER
from aftersales.model.settings import WORKSPACE_VARIABLE, Workspace
from aftersales.publish.imports import without_address_grammar
from aftersales.publish.sidecars import (
    ADDRESS_VARIABLE,
    Sidecar,
    Value,
    checked_parameters,
    page_file,
    page_names,
    read_sidecar,
)

if TYPE_CHECKING:
    from aftersales.publish.scene import Lang

CELL_SECONDS = 600
"""A cell that runs longer is stopped, and the run has failed."""

State = Literal["ok", "skipped", "refused", "failed"]


@dataclass(frozen=True)
class ReportRun:
    """One run of one page; the content of `run.json`."""

    run_id: str
    page: str
    state: State
    reason: str
    parameters: Mapping[str, Value]
    table_versions: Mapping[str, int]
    metric_versions: Mapping[str, str]
    code_version: str
    started_at: str
    seconds: float
    as_of: str = ""
    settings: str = ""
    """Fingerprint of workbench.yml, the page, its sidecar, the sources and the code lists."""
    register_version: int = 0
    """Number of the last change to the register's actions that the run could see."""
    role: str = ""
    """For whom it was run; empty in a workspace without roles."""
    user: str = ""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What sections report for machines; `findings` of `root_cause` stands at the top level of `run.json`."""
    folder: str = ""

    def record(self) -> dict[str, Any]:
        """`run.json`: plain JSON, infinite and missing numbers as null."""
        from aftersales.publish.scene import plain_json

        content = asdict(self)
        facts = content.pop("facts")
        content.pop("folder")
        return plain_json({**content, **facts})  # type: ignore[no-any-return]


def run_report(
    workspace: Workspace,
    page: str,
    given: Mapping[str, object],
    *,
    started_by: str = "",
    now: dt.datetime | None = None,
    viewer: Viewer | None = None,
) -> ReportRun:
    """Run `page` and keep the result below `reports/runs/<page>/<run id>/`.

    Parameters
    ----------
    given
        Parameters by name; the rest are the sidecar's defaults.
    viewer
        For whom it is run: the recipient, in one role. The user of this process when absent.

    Raises
    ------
    ParameterError
        An unknown page, an unknown parameter or an ill-typed value: nothing is run.
    AccessError
        The user has no role here.
    """
    viewer = viewer or resolve_viewer(workspace)
    sidecar = read_sidecar(workspace, page)
    if not sidecar.is_report:
        raise ParameterError(
            f"page {page}",
            "is a page only, not a report",
            rows=known_names(report_names(workspace)),
            fix="run one of them",
        )
    values = checked_parameters(sidecar, given, page=page)
    started, clock = now or dt.datetime.now(dt.UTC), time.perf_counter()
    run_id = f"{started:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:6]}"
    place = workspace.reports / page
    place.mkdir(parents=True, exist_ok=True)
    from aftersales.publish.export import warm_up

    seen = code_version(), _settings_hash(workspace, page), _register_version(workspace)
    with _unfinished(place) as scratch, ThreadPoolExecutor(1) as beside:
        beside.submit(warm_up)
        problem = _execute(workspace, page, values, scratch / "notebook.ipynb", _as_viewer(viewer, run_id))
        problem = _without_exposures(sidecar, scratch / "notebook.ipynb") or problem
        sections = _sections(scratch / "notebook.ipynb")
        state, reason = _outcome(problem, sections)
        facts = _facts(sections)
        run = ReportRun(
            run_id,
            page,
            state,
            reason,
            values,
            facts.pop("table_versions", {}),
            facts.pop("metric_versions", {}),
            seen[0],
            started.isoformat(timespec="seconds"),
            round(time.perf_counter() - clock, 3),
            facts.pop("as_of", ""),
            seen[1],
            seen[2],
            *_recipient(viewer),
            facts,
            str(place / run_id),
        )
        _write_report(workspace, sidecar, run, scratch)
        (scratch / "run.json").write_text(
            json.dumps(run.record(), ensure_ascii=False, indent=2) + "\n", encoding="utf-8"
        )
        scratch.rename(place / run_id)
    _remember(workspace, run, started_by)
    return run


def _recipient(viewer: Viewer) -> tuple[str, str]:
    """Role and user a run belongs to; a workspace without roles has one reader."""
    return ("", "") if viewer.role == OWNER else (viewer.role, viewer.user)


def _as_viewer(viewer: Viewer, run_id: str) -> dict[str, str]:
    """What the run's kernel is told; it checks by itself that its user may be this viewer."""
    role, user = _recipient(viewer)
    asked = user if viewer.administrator else ""
    return {AS_ROLE_VARIABLE: role, AS_USER_VARIABLE: asked, RUN_VARIABLE: run_id, SERVER_VARIABLE: ""}


def may_read_run(run: Mapping[str, Any], viewer: Viewer) -> bool:
    """Whether a run is the viewer's to read: others hold what other roles may see."""
    return viewer.sees_everything or (run.get("role", ""), run.get("user", "")) == _recipient(viewer)


def unchanged_run(
    workspace: Workspace, page: str, given: Mapping[str, object], *, viewer: Viewer | None = None
) -> dict[str, Any] | None:
    """The newest good run of `page` that would come out the same today: same parameters, data, definitions and code.

    And for the same reader: a run of one role is never shown to another.

    A page that shows "now" changes with the clock: it counts only where the workspace or the parameters fix the day.
    """
    from aftersales.lake.store import Store
    from aftersales.measure.definitions import metrics

    values = checked_parameters(read_sidecar(workspace, page), given, page=page)
    if not (values.get("as_of") or workspace.settings.as_of):
        return None
    store = Store(workspace.lake)
    same = {
        "parameters": values,
        "table_versions": {name: store.version(name) for name in store.names()},
        "code_version": code_version(),
        "register_version": _register_version(workspace),
        "settings": _settings_hash(workspace, page),
    }
    same["role"], same["user"] = _recipient(viewer or resolve_viewer(workspace))
    known = metrics()
    for run in list_runs(workspace, page):
        definitions_hold = all(
            name in known and known[name].version == version for name, version in run["metric_versions"].items()
        )
        if run["state"] == "ok" and definitions_hold and all(run.get(name, "") == same[name] for name in same):
            return run
    return None


def _register_version(workspace: Workspace) -> int:
    from sqlalchemy import func, select

    from aftersales.lake.register import ActionChange, open_register

    with open_register(workspace) as register, register.reading() as session:
        return int(session.scalar(select(func.max(ActionChange.change_id))) or 0)


def _settings_hash(workspace: Workspace, page: str) -> str:
    """Changes with what people write: settings, the page and its sidecar, sources, code lists."""
    digest = hashlib.sha256(workspace.settings.model_dump_json().encode())
    written = [page_file(workspace, page), *workspace.notebooks.glob("*.yml")]
    written += [*workspace.sources.glob("*.yml"), *workspace.reference.glob("*.csv")]
    for path in sorted(written):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def report_names(workspace: Workspace) -> list[str]:
    """Pages that can be run as reports."""
    return [name for name in page_names(workspace) if read_sidecar(workspace, name).is_report]


def list_runs(workspace: Workspace, page: str | None = None) -> list[dict[str, Any]]:
    """The records of all complete runs, newest first; each with its `folder`. Broken records are passed over."""
    records = []
    for path in workspace.reports.glob("*/*/run.json"):
        record = None if path.parent.name.startswith(".") else _read_record(path)
        if record and page in (None, record["page"]):
            records.append({**record, "folder": str(path.parent)})
    return sorted(records, key=lambda record: (record["started_at"], record["run_id"]), reverse=True)


def _read_record(path: Path) -> dict[str, Any] | None:
    """The record, unless somebody else's hand or a broken disk left something that is none."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    complete = isinstance(record, dict) and {"run_id", "page", "state", "parameters", "started_at"} <= set(record)
    return record if complete else None


def cited_versions(workspace: Workspace) -> set[tuple[str, int]]:
    """(table, version) of the lake that stored runs cite; these have to stay readable.

    Raises
    ------
    DeliveryError
        A run's record cannot be read: what it cites would be lost.
    """
    cited: set[tuple[str, int]] = set()
    for path in workspace.reports.glob("*/*/run.json"):
        try:
            versions = json.loads(path.read_bytes())["table_versions"]
            cited |= {(str(name), int(version)) for name, version in versions.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise DeliveryError(
                f"{path.parent.parent.name}/{path.parent.name}/run.json",
                f"does not say which versions of the tables it cites ({type(error).__name__})",
                rows="nothing was removed from the lake",
                fix="restore the file, or delete the folder of that run",
            ) from error
    return cited


def find_run(
    workspace: Workspace, run_id: str, may_read: Callable[[Mapping[str, Any]], bool] = lambda run: True
) -> dict[str, Any]:
    """The record of one run among those that `may_read` lets through; `latest` or `latest:<page>` for the newest.

    Raises
    ------
    ParameterError
        There is no such run.
    """
    wanted, _, page = run_id.partition(":")
    runs = [run for run in list_runs(workspace, page or None) if may_read(run)]
    found = runs[:1] if wanted == "latest" else [run for run in runs if run["run_id"] == run_id]
    if not found:
        raise ParameterError(
            "run",
            f"no run '{run_id}'",
            rows=known_names([run["run_id"] for run in runs[:12]]),
            fix="aftersales report list",
        )
    return found[0]


def code_version() -> str:
    """Version of the package, with the commit when it runs from a checkout."""
    here = Path(aftersales.__file__).parent
    answer = subprocess.run(
        ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"],
        capture_output=True,
        text=True,
        check=False,
    )
    commit = answer.stdout.strip() if answer.returncode == 0 and (here.parent / ".git").exists() else ""
    return f"{aftersales.__version__}+{commit}" if commit else aftersales.__version__


# ------------------------------------------------------------------------------------------------------ running


@contextlib.contextmanager
def _unfinished(place: Path) -> Iterator[Path]:
    """A folder beside the runs that is removed unless it has been moved."""
    folder = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=place))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _execute(
    workspace: Workspace, page: str, values: Mapping[str, Value], output: Path, viewer: Mapping[str, str]
) -> str:
    """Run the notebook; returns what went wrong, or nothing."""
    with without_address_grammar():
        import papermill

    with _environment({WORKSPACE_VARIABLE: str(workspace.root), ADDRESS_VARIABLE: "", **viewer}):
        try:
            papermill.execute_notebook(
                str(page_file(workspace, page)),
                str(output),
                parameters=dict(values),
                kernel_name="python3",
                cwd=str(workspace.root),
                kernel_manager_class=f"{__package__}.kernels.PrivateKernelManager",
                progress_bar=False,
                execution_timeout=CELL_SECONDS,
                autosave_cell_every=0,
                log_output=False,
            )
        except papermill.PapermillExecutionError as error:
            return (
                f"cell {error.cell_index}: {error.ename}: {str(error.evalue).splitlines()[0] if error.evalue else ''}"
            )
        except (RuntimeError, TimeoutError) as error:  # the kernel died or a cell took too long
            return f"{type(error).__name__}: {str(error).splitlines()[0]}"
    return ""


@contextlib.contextmanager
def _environment(values: Mapping[str, str]) -> Iterator[None]:
    """Environment variables for the kernel, put back afterwards."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _without_exposures(sidecar: Sidecar, path: Path) -> str:
    """Take outputs with personal data out of the notebook; says what was found, never the value."""
    from aftersales.publish.scanner import kinds_of, withheld_outputs

    if not path.is_file():
        return ""
    found, cleaned = withheld_outputs(json.loads(path.read_text(encoding="utf-8")), tier=sidecar.tier)
    if not found:
        return ""
    path.write_text(json.dumps(cleaned, ensure_ascii=False, indent=1), encoding="utf-8")
    cells = ", ".join(sorted({exposure.place for exposure in found}))
    return f"personal data would be shown ({', '.join(kinds_of(found))}) in {cells}"


def _sections(path: Path) -> list[dict[str, Any]]:
    """Section payloads in the outputs of an executed notebook."""
    from aftersales.publish.board import SECTION_MIME

    if not path.is_file():
        return []
    notebook = json.loads(path.read_text(encoding="utf-8"))
    outputs = [output for cell in notebook["cells"] for output in cell.get("outputs", [])]
    return [output["data"][SECTION_MIME] for output in outputs if SECTION_MIME in output.get("data", {})]


def _outcome(problem: str, sections: list[dict[str, Any]]) -> tuple[State, str]:
    """State of the run with its reason: a broken section fails it; nothing but refusals refuses it."""
    body = [section for section in sections if section["kind"] != "strip"]
    notices = {section["id"]: section["message"] for section in body if section.get("message")}
    broken = [
        f"{name} ({notice.get('detail') or 'error ' + str(notice['id'])})"
        for name, notice in notices.items()
        if notice["kind"] == "error"
    ]
    if problem or broken or not body:
        return (
            "failed",
            problem or f"sections failed: {', '.join(broken)}" if broken or problem else "no section was shown",
        )
    refused = [f"{name}: {notice['text']}" for name, notice in notices.items() if notice["kind"] == "refused"]
    shows = any(section.get("charts") or section.get("tables") or _has_figure(section) for section in body)
    if not shows and refused:
        return "refused", refused[0]
    if not shows:
        return "skipped", next((notice["text"] for notice in notices.values()), "nothing to show")
    return "ok", "; ".join(refused)


def _has_figure(section: Mapping[str, Any]) -> bool:
    """Whether a headline figure has a value: a dash with its reason shows nothing."""
    return any(figure.get("state", "ok") in ("ok", "unripe") for figure in section.get("figures") or [])


def _facts(sections: list[dict[str, Any]]) -> dict[str, Any]:
    """What the sections report, merged."""
    facts: dict[str, Any] = {}
    for section in sections:
        for name, value in section.get("facts", {}).items():
            facts[name] = {**facts.get(name, {}), **value} if isinstance(value, dict) else value
    return facts


def _write_report(workspace: Workspace, sidecar: Sidecar, run: ReportRun, folder: Path) -> None:
    """`report.html`, self-contained; a failed run gets none, so that nobody reads half a report."""
    if run.state == "failed":
        return
    import nbformat

    from aftersales.publish.export import report_html

    lang: Lang = "zh" if (run.parameters.get("lang") or workspace.settings.language) == "zh" else "en"
    metrics = ", ".join(f"{name} {version}" for name, version in sorted(run.metric_versions.items()))
    footer = f"{run.page} · {run.run_id} · as of {_local_day(workspace, run.as_of)} · code {run.code_version}" + (
        f" · {metrics}" if metrics else ""
    )
    notebook = nbformat.read(folder / "notebook.ipynb", as_version=4)
    (folder / "report.html").write_text(
        report_html(notebook, lang=lang, title=sidecar.title[lang], footer=footer), encoding="utf-8"
    )


def _local_day(workspace: Workspace, moment: str) -> str:
    """The day of an instant on the site's clock."""
    zone = zoneinfo.ZoneInfo(workspace.settings.time_zone)
    return f"{dt.datetime.fromisoformat(moment).astimezone(zone):%Y-%m-%d}" if moment else ""


def _remember(workspace: Workspace, run: ReportRun, started_by: str) -> None:
    """The run's row in the register."""
    from aftersales.lake.register import Run, open_register

    with open_register(workspace) as register, register.session() as session:
        session.add(
            Run(
                run_id=run.run_id,
                page=run.page,
                state=run.state,
                reason=run.reason,
                parameters=dict(run.parameters),
                table_versions=dict(run.table_versions),
                metric_versions=dict(run.metric_versions),
                code_version=run.code_version,
                as_of=dt.datetime.fromisoformat(run.as_of) if run.as_of else None,
                started_by=started_by,
                started_at=dt.datetime.fromisoformat(run.started_at),
                seconds=run.seconds,
                folder=run.folder,
            )
        )


__all__ = [
    "AftersalesError",
    "ReportRun",
    "checked_parameters",
    "code_version",
    "find_run",
    "list_runs",
    "may_read_run",
    "report_names",
    "run_report",
]
