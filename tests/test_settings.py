"""workbench.yml and the folders it names."""

from __future__ import annotations

from pathlib import Path

import pytest

from aftersales.model.errors import SettingsError
from aftersales.model.settings import open_workspace


def write(folder: Path, text: str) -> Path:
    (folder / "workbench.yml").write_text(text, encoding="utf-8")
    return folder


def test_an_empty_file_gives_the_defaults(tmp_path: Path) -> None:
    workspace = open_workspace(write(tmp_path, ""))
    settings = workspace.settings
    assert (settings.language, settings.time_zone, settings.engine.memory) == ("en", "Asia/Shanghai", "2GB")
    assert workspace.lake == tmp_path / "data" / "lake"
    assert workspace.register_url == f"sqlite:///{tmp_path}/data/register.db"


def test_an_absolute_register_stays_where_it_is(tmp_path: Path) -> None:
    write(tmp_path, "register_url: sqlite:////srv/register.db\n")
    assert open_workspace(tmp_path).register_url == "sqlite:////srv/register.db"


def test_all_problems_of_the_settings_are_named_with_their_lines(tmp_path: Path) -> None:
    write(tmp_path, "languge: zh\ntime_zone: Mars/Olympus\nengine:\n  memory: much\n  threads: -1\n")
    with pytest.raises(SettingsError) as caught:
        open_workspace(tmp_path)
    assert caught.value.where == "workbench.yml"
    assert [line.strip() for line in caught.value.rows.splitlines()] == [
        "line 1, languge: unknown key 'languge' (did you mean 'language'?)",
        "line 2, time_zone: no time zone 'Mars/Olympus'; examples: Asia/Shanghai, Europe/Berlin, UTC",
        "line 4, engine.memory: 'much' is not a size; examples: 800MB, 4GB",
        "line 5, engine.threads: Input should be greater than or equal to 0",
    ]


def test_a_folder_without_settings_says_how_to_make_some(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"no workbench.yml here\n  fix  : aftersales init DIR"):
        open_workspace(tmp_path)


def test_the_nearest_workspace_above_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "name: outer\n")
    inner = tmp_path / "a" / "b"
    inner.mkdir(parents=True)
    monkeypatch.delenv("AFTERSALES_WORKSPACE", raising=False)
    monkeypatch.chdir(inner)
    assert open_workspace().settings.name == "outer"


def test_the_variable_names_the_workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AFTERSALES_WORKSPACE", str(write(tmp_path, "name: by variable\n")))
    assert open_workspace().settings.name == "by variable"


@pytest.mark.parametrize(("as_of", "good"), [("2025-12-31", True), ("", True), ("31.12.2025", False)])
def test_as_of_is_a_date_or_nothing(tmp_path: Path, as_of: str, good: bool) -> None:
    write(tmp_path, f'as_of: "{as_of}"\n')
    if good:
        assert open_workspace(tmp_path).settings.as_of == as_of
    else:
        with pytest.raises(SettingsError, match="line 1, as_of"):
            open_workspace(tmp_path)
