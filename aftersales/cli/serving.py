"""Commands that serve: serve, lab."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from aftersales.cli.console import (
    WorkspaceOption,
    err,
)
from aftersales.model.settings import WORKSPACE_VARIABLE, open_workspace

if TYPE_CHECKING:
    pass

app = typer.Typer()


@app.command()
def serve(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8866,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open a browser.")] = False,
    workspace: WorkspaceOption = None,
) -> None:
    """Serve the pages on 127.0.0.1 until interrupted.

    Example: aftersales serve --port 8866 --open
    """
    from aftersales.publish.serving import voila_command

    place = open_workspace(workspace)
    command, environment = voila_command(
        place.notebooks, port=port, cache=place.cache / "jupyter", open_browser=open_browser
    )
    err.print(f"pages of {place.root} at http://127.0.0.1:{port}/  (Ctrl-C ends)", markup=False, soft_wrap=True)
    os.execve(command[0], command, {**environment, WORKSPACE_VARIABLE: str(place.root)})


@app.command()
def lab(
    workspace: WorkspaceOption = None,
    arguments: Annotated[list[str] | None, typer.Argument(help="Further arguments for JupyterLab, after --.")] = None,
) -> None:
    """Open JupyterLab on the workspace, on 127.0.0.1.

    Example: aftersales lab -- --no-browser
    """
    from aftersales.publish.serving import jupyter_path

    place = open_workspace(workspace)
    environment = {
        **os.environ,
        "JUPYTER_PATH": jupyter_path(place.cache / "jupyter"),
        WORKSPACE_VARIABLE: str(place.root),
    }
    command = [
        sys.executable,
        "-m",
        "jupyterlab",
        "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.root_dir={place.root}",
        *(arguments or []),
    ]
    os.execve(command[0], command, environment)
