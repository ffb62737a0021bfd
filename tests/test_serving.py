"""What the page server needs beside the notebooks, and how it is started."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from aftersales.publish import serving
from aftersales.publish.serving import SHARE, jupyter_path, voila_command


def options(command: list[str]) -> dict[str, str]:
    return dict(flag[2:].split("=", 1) for flag in command if flag.startswith("--"))


def test_the_vega_file_is_built_once_per_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    jupyter_path(tmp_path)
    vega = tmp_path / "labextensions" / "aftersales-vega" / "vega.mjs"
    assert "export" in vega.read_text(encoding="utf-8")[-400:]
    vega.write_text("as it was", encoding="utf-8")
    jupyter_path(tmp_path)
    assert vega.read_text(encoding="utf-8") == "as it was"
    monkeypatch.setattr(serving, "version", lambda name: "99.0")
    jupyter_path(tmp_path)
    assert len(vega.read_bytes()) > 500_000
    assert [path.name for path in vega.parent.iterdir() if path.name.startswith(".")] == []


def test_the_jupyter_path_keeps_what_was_there_and_puts_ours_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_PATH", "/elsewhere")
    assert jupyter_path(tmp_path).split(os.pathsep) == [str(tmp_path.resolve()), str(SHARE), "/elsewhere"]


def test_the_page_styles_hold_the_palette_and_the_rules(tmp_path: Path) -> None:
    jupyter_path(tmp_path)
    css = (tmp_path / "labextensions" / "aftersales-vega" / "page.css").read_text(encoding="utf-8")
    assert "--as-accent:#0072b2" in css
    assert ".as-figure" in css
    assert "#as-page" in css


def test_the_server_listens_on_this_machine_only_and_tells_visitors_nothing(tmp_path: Path) -> None:
    command, env = voila_command(tmp_path, port=4711, cache=tmp_path)
    said = options(command)
    assert command[1:3] == ["-m", "aftersales.publish.server"]
    assert command[3] == str(tmp_path.resolve())
    assert said["Voila.ip"] == "127.0.0.1"
    assert said["Voila.port"] == "4711"
    assert said["Voila.open_browser"] == "False"
    assert said["VoilaConfiguration.show_tracebacks"] == "False"
    assert said["VoilaConfiguration.allow_template_override"] == "NO"
    assert said["VoilaConfiguration.file_allowlist"] == "[]"
    assert said["VoilaConfiguration.http_header_envs"] == "['X-Forwarded-User']"
    assert int(said["MappingKernelManager.cull_idle_timeout"]) > 0
    assert said["VoilaConfiguration.preheat_kernel"] == "False"
    assert str(SHARE) in env["JUPYTER_PATH"]


@pytest.mark.parametrize("template", ["voila/templates/aftersales", "nbconvert/templates/aftersales"])
def test_templates_name_no_address_of_anybody_else(template: str) -> None:
    files = [path for path in (SHARE / template).iterdir() if path.is_file()]
    assert {path.name for path in files} >= {"conf.json", "index.html.j2"}
    for path in files:
        text = path.read_text(encoding="utf-8")
        assert "http://" not in text, path
        assert "https://" not in text, path
    json.loads((SHARE / template / "conf.json").read_text(encoding="utf-8"))
