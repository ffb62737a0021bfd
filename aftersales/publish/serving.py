"""Serving pages: the files a page needs beside the notebook, and the command that starts the page server.

Addresses: `/` is `index.ipynb`, `/<page>?<filters>` is `<page>.ipynb` (see `publish.server`). A page's query string
reaches its kernel as the environment variable QUERY_STRING, which is right for every visitor as long as kernels are
started per visit: preheated kernels stay off.
"""

from __future__ import annotations

import os
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

VEGA_LITE = "6.4"
"""Vega-Lite of the bundle; the one Altair 6 writes specs for."""

CULL_AFTER_SECONDS = 1200
"""A kernel that nobody listens to lives this long; closing a page does not end its kernel."""

_HERE = Path(__file__).parent
SHARE = _HERE / "share" / "jupyter"
"""Our Voilà and nbconvert templates, as a Jupyter data folder."""


def jupyter_path(cache: Path) -> str:
    """What must stand in JUPYTER_PATH for pages to work without a network; builds the missing files first.

    Below `cache` come `labextensions/aftersales-vega/vega.mjs` (Vega, Vega-Lite and Vega-Embed in one 0.9 MB file, made
    once per version of vl-convert) and `page.css`. Voilà and JupyterLab both serve that folder.
    """
    folder = Path(cache).resolve() / "labextensions" / "aftersales-vega"
    folder.mkdir(parents=True, exist_ok=True)
    _build_vega(folder)
    from aftersales.publish.board import stylesheet

    page = stylesheet() + (_HERE / "static" / "page.css").read_text(encoding="utf-8")
    if not (folder / "page.css").exists() or (folder / "page.css").read_text(encoding="utf-8") != page:
        _write(folder / "page.css", page)
    known = [path for path in os.environ.get("JUPYTER_PATH", "").split(os.pathsep) if path]
    own = [str(Path(cache).resolve()), str(SHARE)]
    return os.pathsep.join([*own, *(path for path in known if path not in own)])


def _build_vega(folder: Path) -> None:
    """Make `vega.mjs`, unless the file of this version of vl-convert is there."""
    made_by = f"vl-convert {version('vl-convert-python')}, Vega-Lite {VEGA_LITE}"
    mark = folder / "vega.version"
    if (folder / "vega.mjs").exists() and mark.exists() and mark.read_text(encoding="utf-8") == made_by:
        return
    import vl_convert

    bundle = vl_convert.javascript_bundle("export {vegaEmbed, vega, vegaLite};", vl_version=VEGA_LITE)
    _write(folder / "vega.mjs", bundle)
    _write(mark, made_by)


def _write(path: Path, text: str) -> None:
    """Write at once or not at all: two servers may start together."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    os.chmod(name, 0o644)
    os.replace(name, path)


def voila_command(
    notebooks: Path, *, port: int, cache: Path, open_browser: bool = False
) -> tuple[list[str], dict[str, str]]:
    """Command line and environment of the page server over the folder `notebooks`.

    The server listens on 127.0.0.1 only; a reverse proxy in front gives it a name, compresses, and sets
    `X-Forwarded-User` (after dropping the visitor's own), which pages read as HTTP_X_FORWARDED_USER.
    """
    sentence = "本页面在此处停止。 This page stopped here."
    options = {
        "Voila.ip": "127.0.0.1",
        "Voila.port": str(port),
        "Voila.port_retries": "0",
        "Voila.open_browser": str(open_browser),
        "VoilaConfiguration.template": "aftersales",
        "VoilaConfiguration.theme": "light",
        # or anybody could ask for another template with ?template=
        "VoilaConfiguration.allow_template_override": "NO",
        "VoilaConfiguration.allow_theme_override": "NO",
        "VoilaConfiguration.show_tracebacks": "False",
        "VoilaConfiguration.preheat_kernel": "False",
        # exactly these three: others fail in the console, fewer show no widgets
        "VoilaConfiguration.extension_allowlist": (
            "['@jupyter-widgets/jupyterlab-manager', '@voila-dashboards/widgets-manager8', 'anywidget']"
        ),
        "VoilaConfiguration.http_header_envs": "['X-Forwarded-User']",
        "VoilaConfiguration.file_allowlist": "[]",
        "VoilaConfiguration.file_denylist": "['.*']",
        "VoilaExecutor.cell_error_instruction": sentence,
        "MappingKernelManager.cull_idle_timeout": str(CULL_AFTER_SECONDS),
        "MappingKernelManager.cull_interval": "60",
    }
    flags = [f"--{name}={value}" for name, value in options.items()]
    command = [sys.executable, "-m", "aftersales.publish.server", str(Path(notebooks).resolve()), *flags]
    return command, os.environ | {"JUPYTER_PATH": jupyter_path(cache)}
