"""Whole lists: dependencies and their pins, public names, the import contract, what lies in git, what the README says."""

from __future__ import annotations

import ast
import importlib
import importlib.metadata
import inspect
import json
import re
import shutil
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import Version
from worlds import ROOT

import aftersales
from aftersales.cli import app

PROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
REQUIRED = [Requirement(line) for line in PROJECT["project"]["dependencies"]]
EXTRAS = {
    name: [Requirement(line) for line in lines] for name, lines in PROJECT["project"]["optional-dependencies"].items()
}
EVERY = {
    canonicalize_name(r.name): r
    for r in [*REQUIRED, *(r for rs in EXTRAS.values() for r in rs)]
    if r.name != "aftersales"
}
FILES = (
    ".py",
    ".md",
    ".yml",
    ".yaml",
    ".toml",
    ".txt",
    ".js",
    ".css",
    ".html",
    ".j2",
    ".json",
    ".ipynb",
    ".csv",
    ".ini",
    ".mako",
    "",
)


def pins() -> dict[str, str]:
    lines = [
        line.partition("#")[0].strip() for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    ]
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines if line)}


@cache
def tracked() -> list[Path]:
    """Files git knows or would take, that are here; skips outside a checkout."""
    if not (ROOT / ".git").exists() or not shutil.which("git"):
        pytest.skip("not a git checkout")
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return [path for name in names.split("\0") if name and (path := ROOT / name).is_file()]


# ---------------------------------------------------------------------------------------------------- dependencies


@pytest.mark.parametrize("name", sorted(EVERY))
def test_every_requirement_is_pinned_and_the_pin_fits(name: str) -> None:
    assert name in pins(), "add it to constraints.txt"
    assert EVERY[name].specifier.contains(pins()[name]), (str(EVERY[name]), pins()[name])


def test_every_pin_is_one_exact_version_in_order() -> None:
    lines = [
        line for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if line and line[0] != "#"
    ]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==\d[\w.]*", line) for line in lines)
    assert len(pins()) == len(lines)
    names = [line.partition("==")[0].lower() for line in lines]
    assert names == sorted(names)


def test_every_pin_runs_on_the_oldest_python_we_promise() -> None:
    oldest = "3.11.0"  # Debian 12 has 3.11.2
    newer = {}
    for distribution in importlib.metadata.distributions():
        wanted = distribution.metadata.get("Requires-Python")
        if wanted and not SpecifierSet(wanted).contains(oldest):
            newer[distribution.name] = wanted
    assert newer == {}


def test_what_is_installed_is_the_pinned_set() -> None:
    other = {}
    for distribution in importlib.metadata.distributions():
        name = canonicalize_name(distribution.name)
        if name in pins() and Version(distribution.version) != Version(pins()[name]):
            other[name] = (distribution.version, pins()[name])
    assert other == {}


def test_every_installed_package_that_we_need_is_pinned() -> None:
    """Also what the requirements require: a fresh install resolves to the tested set."""
    needed, waiting = set[str](), [(name, frozenset(requirement.extras)) for name, requirement in EVERY.items()]
    while waiting:
        name, extras = waiting.pop()
        if name in needed:
            continue
        needed.add(name)
        try:
            requirements = importlib.metadata.requires(name) or []
        except importlib.metadata.PackageNotFoundError:
            continue
        for requirement in map(Requirement, requirements):
            wanted = (
                any(requirement.marker.evaluate({"extra": extra}) for extra in (extras or {""}))
                if requirement.marker
                else True
            )
            if wanted:
                waiting.append((canonicalize_name(requirement.name), frozenset(requirement.extras)))
    installed = {canonicalize_name(distribution.name) for distribution in importlib.metadata.distributions()}
    assert (needed & installed) - set(pins()) <= {"pip", "setuptools"}


def test_the_environment_file_installs_the_package_and_names_no_python_package() -> None:
    content = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    plain = [item for item in content["dependencies"] if isinstance(item, str)]
    (inside,) = [item["pip"] for item in content["dependencies"] if isinstance(item, dict)]
    assert inside == ["-c constraints.txt", "-e ."]
    names = {re.split(r"[<>=! ]", item)[0] for item in plain}
    assert names & set(EVERY) == set(), "Python requirements stand in pyproject.toml"
    (python,) = [item for item in plain if item.startswith("python")]
    assert python.removeprefix("python") == PROJECT["project"]["requires-python"]


def test_every_import_of_the_package_is_a_declared_requirement() -> None:
    modules: dict[str, set[str]] = {}
    for path in (ROOT / "aftersales").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names = [node.module]
            for name in names:
                modules.setdefault(name.partition(".")[0], set()).add(path.name)
    homes = importlib.metadata.packages_distributions()
    lazily = EXTRAS["postgres"]  # imported by the one function that needs it
    declared = {canonicalize_name(requirement.name) for requirement in [*REQUIRED, *lazily]}
    # come with what is declared, as parts of one product: Jupyter, Typer, pandas
    together = {
        "numpy",
        "nbformat",
        "jupyter-core",
        "jupyter-client",
        "jupyter-server",
        "tornado",
        "traitlets",
        "ipython",
        "click",
    }
    unknown = {
        module: sorted(files)
        for module, files in modules.items()
        if module not in sys.stdlib_module_names and module != "aftersales"
        and not {canonicalize_name(home) for home in homes.get(module, [])} & (declared | together)
    }  # fmt: skip
    assert unknown == {}


REVIEWED = {
    "psycopg": "LGPL-3.0-only: used as a library, unchanged",
    "psycopg-binary": "LGPL-3.0-only: used as a library, unchanged",
}
"""Direct requirements whose licence needs a second look, and what the look found."""


@pytest.mark.parametrize("name", sorted(EVERY))
def test_no_requirement_forces_its_licence_on_us(name: str) -> None:
    try:
        about = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed here")
    said = [
        about.get("License-Expression"),
        *(line for line in about.get_all("Classifier") or [] if line.startswith("License")),
    ]
    texts = [text for text in said if text] or [
        (about.get("License") or "").splitlines()[0] if about.get("License") else ""
    ]
    licence = " | ".join(texts)
    assert licence, f"{name} names no licence: look and add it to REVIEWED"
    if name in REVIEWED:
        assert "LGPL" in licence or "Lesser" in licence
        return
    assert not re.search(r"\bA?GPL|LGPL|GNU|Affero|SSPL|BUSL|Commons Clause|Proprietary", licence), licence
    assert re.search(r"MIT|BSD|Apache|MPL|ISC|PSF|Python Software|Unlicense|HPND", licence, re.IGNORECASE), licence


# ---------------------------------------------------------------------------------------------------- public names


def test_public_names_are_sorted_and_each_has_a_docstring() -> None:
    assert aftersales.__all__ == sorted(aftersales.__all__)
    for name in aftersales.__all__:
        found = getattr(aftersales, name)
        assert (inspect.getdoc(found) or "").strip(), name
        assert found.__module__.startswith("aftersales."), name
    with pytest.raises(AttributeError, match="no attribute 'nope'"):
        aftersales.nope  # noqa: B018


def test_every_public_function_says_what_comes_back() -> None:
    """Modules, classes and functions without a leading underscore, in the whole package; migrations aside."""
    silent = []
    for path in sorted((ROOT / "aftersales").rglob("*.py")):
        if "migrations" in path.parts:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        if not ast.get_docstring(tree):
            silent.append(str(path.relative_to(ROOT)))
        for node in tree.body:
            if (
                isinstance(node, ast.FunctionDef | ast.ClassDef)
                and not node.name.startswith("_")
                and not ast.get_docstring(node)
            ):
                silent.append(f"{path.relative_to(ROOT)}:{node.lineno} {node.name}")
    assert silent == []


def test_the_import_contract_holds() -> None:
    script = Path(sys.executable).parent / "lint-imports"
    if not script.exists():
        pytest.skip("import-linter is not installed: pip install -e '.[dev]'")
    answer = subprocess.run([str(script), "--no-cache"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stdout[-3000:]


def test_every_module_of_the_package_can_be_imported() -> None:
    for path in sorted((ROOT / "aftersales").rglob("*.py")):
        if "migrations" not in path.parts:
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
            importlib.import_module(name)


# ----------------------------------------------------------------------------------------------------- what is kept


def test_no_file_is_larger_than_a_megabyte() -> None:
    assert [
        (str(path.relative_to(ROOT)), path.stat().st_size) for path in tracked() if path.stat().st_size > 1_000_000
    ] == []


def test_no_machine_path_and_no_registry_host_is_written_down() -> None:
    hosts = "|".join(["pypi", "pythonhosted", "npmjs", "debian"])
    folders = "|".join(["tmp", "root", "work", "farm"])
    pattern = re.compile(rf"({hosts})\.(org|com)|(^|[^.a-z_-])/({folders})/", re.IGNORECASE | re.MULTILINE)
    found = []
    for path in tracked():
        if path.suffix not in FILES or path.suffix == ".svg":
            continue
        text = path.read_text(encoding="utf-8", errors="replace")
        found += [
            f"{path.relative_to(ROOT)}: {text[max(0, hit.start() - 30) : hit.end() + 30]!r}"
            for hit in pattern.finditer(text)
        ]
    assert found == []


def test_no_generated_data_is_kept() -> None:
    places = ("data/raw/", "data/lake/", "data/demo/", "reports/runs/", ".cache/", ".venv/")
    names = [path.relative_to(ROOT).as_posix() for path in tracked()]
    assert [
        name for name in names if name.startswith(places) or name.endswith((".parquet", ".db", ".gz", ".xlsx", ".pyc"))
    ] == []


def test_no_test_can_only_pass() -> None:
    pattern = re.compile(
        "|".join(
            [
                "assert " + "True",
                r"pytest\.mark\." + r"skip\b",
                "xf" + "ail",
                "# *TO" + "DO",
                "NotImplemented" + "Error",
            ]
        )
    )
    found = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path in tracked() if path.suffix == ".py"
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1) if pattern.search(line)
    ]  # fmt: skip
    assert found == []


def test_json_and_yaml_files_can_be_read() -> None:
    for path in tracked():
        text = path.read_text(encoding="utf-8") if path.suffix in (".json", ".ipynb", ".yml", ".yaml") else ""
        if text and path.suffix in (".json", ".ipynb"):
            json.loads(text)
        elif text:
            yaml.safe_load(text)


# ------------------------------------------------------------------------------------------------------ the README


def command_exists(line: str) -> bool:
    """Whether a line like `aftersales report run -p lang=zh` names commands and options that exist."""
    words = line.split()
    command: Any = typer.main.get_command(app)
    for word in words[1:]:
        if word == "--":
            break
        if hasattr(command, "commands"):
            if word not in command.commands:
                return word == "--help"
            command = command.commands[word]
        elif word.startswith("-") and word not in ("--debug", "--help"):
            options = {
                option for parameter in command.params for option in (*parameter.opts, *parameter.secondary_opts)
            }
            if word.partition("=")[0] not in options:
                return False
    return not hasattr(command, "commands")


def shell_lines(path: Path) -> list[str]:
    """Command lines of the code blocks of a document, fenced or indented."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"^```(?:bash|sh|shell|console|text)?\n(.*?)^```", text, flags=re.M | re.S)
    blocks += re.findall(r"^    (\S.*)$", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S), flags=re.M)
    lines = "\n".join(blocks).replace("\\\n", " ").splitlines()
    return [line.partition(" #")[0].strip().removeprefix("$ ") for line in lines if line.strip()]


DOCUMENTS = [
    path
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data" / "sources" / "examples" / "README.md")
    if path.exists()
]


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_command_of_the_documents_exists(path: Path) -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), flags=re.M))
    text = path.read_text(encoding="utf-8")
    inline = [code for code in re.findall(r"`((?:aftersales|make) [^`\n]+)`", text) if "..." not in code]
    for line in [*shell_lines(path), *inline]:
        line = re.sub(r"^\.venv/bin/", "", line)
        if line.startswith("make"):
            wanted = [word for word in line.split()[1:] if "=" not in word and not word.startswith("-")]
            assert set(wanted) <= targets, line
        if line.startswith("aftersales "):
            assert command_exists(line.replace("<", "").replace(">", "")), line


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_files_the_documents_lead_to_are_there(path: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", path.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://", "mailto:")):
            assert (path.parent / target).exists(), target


def test_the_readme_names_the_two_commands() -> None:
    lines = shell_lines(ROOT / "README.md")
    assert any(line.startswith("make run") for line in lines)
    assert any(line.startswith(("make serve", "aftersales serve")) for line in lines)
