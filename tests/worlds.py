"""The demo world, made once per test session, and workspaces that borrow its lake.

`DEMO_TICKETS` is small; the planted cell is still found first by far (q below 1e-6), which test_reports checks.
"""

from __future__ import annotations

import datetime as dt
import fcntl
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nbformat
import pytest
import yaml

from aftersales.collect.ingest import ingest_source
from aftersales.collect.mapping import catalogue
from aftersales.demo import write_demo
from aftersales.improve.actions import import_actions
from aftersales.lake.register import open_register
from aftersales.model.settings import Workspace, open_workspace

ROOT = Path(__file__).parent.parent
DEMO_TICKETS = 20_000
LOADED_AT = dt.datetime(2026, 1, 5, tzinfo=dt.UTC)
SETTINGS = {
    "name": "Lock demo",
    "name_zh": "门锁演示",
    "language": "en",
    "time_zone": "Asia/Shanghai",
    "as_of": "2025-12-31",
}


@dataclass(frozen=True)
class DemoWorld:
    """A workspace with the demo world in its lake. Tests read it; those that write borrow its lake."""

    root: Path

    def open(self) -> Workspace:
        return open_workspace(self.root)

    @property
    def truth(self) -> dict[str, Any]:
        """What was planted; only tests may look."""
        return dict(yaml.safe_load((self.root / "data" / "demo" / "truth.yml").read_text(encoding="utf-8")))

    def borrow(self, folder: Path, **settings: Any) -> Workspace:
        """A workspace of its own (pages, register, reports, cache) over the same lake."""
        own = self.open()
        private = self.root / "data" / "private"  # whoever reads texts needs the keys they were sealed with
        keys = {"vault": str(private / "vault.db"), "key_file": str(private / "pseudonym.key")}
        lent = {"folders": {"lake": str(own.lake)}, "privacy": keys}
        place = new_workspace(folder, {**SETTINGS, **lent, **settings})
        with open_register(place) as register:
            import_actions(register, self.root / "data" / "demo" / "actions.csv", "test", LOADED_AT)
        return place


def new_workspace(folder: Path, settings: Mapping[str, Any] | None = None, *, pages: bool = True) -> Workspace:
    """An empty workspace: settings, the pages, the demo's sources and code lists; no data."""
    folder.mkdir(parents=True, exist_ok=True)
    text = yaml.safe_dump(dict(settings or SETTINGS), allow_unicode=True)
    (folder / "workbench.yml").write_text(text, encoding="utf-8")
    for name in ("notebooks", "data/reference") if pages else ():
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns(".*"), dirs_exist_ok=True)
    (folder / "data" / "sources").mkdir(parents=True, exist_ok=True)
    for path in (ROOT / "data" / "sources").glob("*.yml"):
        shutil.copy(path, folder / "data" / "sources" / path.name)
    return open_workspace(folder)


def build_demo(folder: Path) -> DemoWorld:
    """Write, load and register the demo world below `folder`."""
    place = new_workspace(folder)
    write_demo(folder / "data" / "demo", tickets=DEMO_TICKETS)
    for source in catalogue(place).values():
        list(ingest_source(place, source, loaded_at=LOADED_AT))
    with open_register(place) as register:
        import_actions(register, folder / "data" / "demo" / "actions.csv", "test", LOADED_AT)
    return DemoWorld(folder)


def shared_demo(tmp_path_factory: pytest.TempPathFactory) -> DemoWorld:
    """The demo world of this session: the first worker that asks builds it, the others wait for it."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    folder, done = base / "demo-world", base / "demo-world.done"
    with (base / "demo-world.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            shutil.rmtree(folder, ignore_errors=True)
            build_demo(folder)
            done.touch()
    return DemoWorld(folder)


def write_page(place: Workspace, name: str, parameters: Mapping[str, Mapping[str, Any]], *cells: str) -> None:
    """A page of a test: sidecar and notebook; the parameters cell holds the sidecar's defaults."""
    types = {"texts": "list", "integer": "int", "number": "float", "flag": "bool"}
    lines = [
        f"{key}: {types.get(spec['type'], 'str')} = {spec['default']!r}  # {key}" for key, spec in parameters.items()
    ]
    both = {"en": name, "zh": name}
    sidecar = {
        "title": both,
        "question": both,
        "audience": both,
        "owner": "test",
        "parameters": {key: {"title": both, **spec} for key, spec in parameters.items()},
    }
    place.notebooks.mkdir(parents=True, exist_ok=True)
    (place.notebooks / f"{name}.yml").write_text(yaml.safe_dump(sidecar, allow_unicode=True), encoding="utf-8")
    first = nbformat.v4.new_code_cell("\n".join(lines), metadata={"tags": ["parameters"]})
    book = nbformat.v4.new_notebook(cells=[first, *(nbformat.v4.new_code_cell(cell) for cell in cells)])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, place.notebooks / f"{name}.ipynb")


def section_cell(**section: Any) -> str:
    """Code of a cell that leaves a section in its output without loading a chart library."""
    payload = {"kind": "section", "id": "s", "lang": "en", "title": None, "facts": {}, **section}
    return f"""from IPython.display import display
display({{"application/vnd.aftersales.section+json": {payload!r}, "text/plain": "s"}}, raw=True)"""


def run_records(place: Workspace) -> list[dict[str, Any]]:
    """Every run.json below the reports folder."""
    return [json.loads(path.read_text(encoding="utf-8")) for path in place.reports.glob("*/*/run.json")]
