"""Commands that make a workspace: init, demo."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from aftersales.cli.console import (
    JsonOption,
    WorkspaceOption,
    err,
    out,
    print_json,
)
from aftersales.model.errors import SettingsError
from aftersales.model.settings import FILE_NAME, open_workspace

if TYPE_CHECKING:
    pass

app = typer.Typer()


STARTER = """# Settings of this workspace; every key is optional. No secrets in here.
name: {name}
name_zh: {name}
language: en                 # en or zh
time_zone: Asia/Shanghai     # the site's clock
"""


def _copy_new(source: str, target: str) -> None:
    """Copy a file, unless the user has one there."""
    if not Path(target).exists():
        shutil.copy2(source, target)


@app.command()
def init(folder: Annotated[Path, typer.Argument(help="New folder.")]) -> None:
    """Make a new workspace with the pages and an example source.

    Example: aftersales init ~/after-sales
    """
    if (folder / FILE_NAME).exists():
        raise SettingsError(str(folder), f"already has a {FILE_NAME}", fix="take another folder, or work in this one")
    for name in ("data/raw", "data/sources", "data/reference"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / FILE_NAME).write_text(
        STARTER.format(name=json.dumps(folder.resolve().name, ensure_ascii=False)), encoding="utf-8"
    )
    home = Path(__file__).parent.parent.parent
    if (home / "notebooks").is_dir():
        for name in ("notebooks", "data/sources/examples"):
            hidden = shutil.ignore_patterns(".*")
            shutil.copytree(home / name, folder / name, dirs_exist_ok=True, ignore=hidden, copy_function=_copy_new)
    out.print(
        f"{folder} is a workspace. Put an export into data/raw/, describe it in data/sources/<name>.yml "
        "(see data/sources/examples/), then: aftersales ingest",
        markup=False,
        soft_wrap=True,
    )


@app.command()
def demo(
    workspace: WorkspaceOption = None,
    rows: Annotated[int, typer.Option("--rows", min=1000, help="About this many tickets.")] = 100_000,
    seed: Annotated[int, typer.Option(help="Another seed makes another world.")] = 20_220_401,
    json_: JsonOption = False,
) -> None:
    """Write the demo world's files into data/demo; the same arguments give the same files.

    Example: aftersales demo --rows 20000
    """
    from aftersales.demo import write_demo

    place = open_workspace(workspace).root / "data" / "demo"
    with err.status("making the demo world"):
        truth = write_demo(place, tickets=rows, seed=seed)
    files = sorted(path.name for path in place.iterdir() if path.is_file())
    if json_:
        print_json({"folder": str(place), "files": files, "tickets": truth["tickets"], "units": truth["units"]})
        return
    out.print(
        f"demo world: {truth['units']:,} units, {truth['tickets']:,} tickets in {len(files)} files -> {place}",
        markup=False,
        soft_wrap=True,
    )
