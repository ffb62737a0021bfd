"""Every notebook is a page to read: anatomy, parameters, prose in both languages, nothing left over."""

from __future__ import annotations

import ast
import itertools
import re
from pathlib import Path
from typing import Any

import nbformat
import pytest
from papermill.inspection import _infer_parameters
from papermill.iorw import load_notebook_node
from worlds import ROOT

from aftersales.model.settings import open_workspace
from aftersales.publish.contents import catalogue, improvement_review, index, ingestion, overview, root_cause
from aftersales.publish.sidecars import NAME, page_names, read_sidecar

NOTEBOOKS = sorted((ROOT / "notebooks").rglob("*.ipynb"))
NOTEBOOKS = [path for path in NOTEBOOKS if ".ipynb_checkpoints" not in path.parts]
SECTIONS = {
    module.__name__.rsplit(".", 1)[1]: module.SECTIONS
    for module in (catalogue, improvement_review, index, ingestion, overview, root_cause)
}
TYPES = {"texts": "list", "integer": "int", "number": "float", "flag": "bool"}
CHINESE = re.compile(r"[\u4e00-\u9fff]")


def by_name(path: Path) -> str:
    return path.stem


def notebook(path: Path) -> Any:
    return nbformat.read(path, as_version=4)


def code_cells(path: Path) -> list[Any]:
    return [cell for cell in notebook(path).cells if cell.cell_type == "code"]


each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=by_name)


def test_every_notebook_has_a_sidecar_and_every_sidecar_a_notebook() -> None:
    folder = ROOT / "notebooks"
    assert {path.stem for path in NOTEBOOKS} == {path.stem for path in folder.glob("*.yml")}
    assert {path.name for path in folder.iterdir() if not path.name.startswith(".")} == {
        f"{path.stem}{suffix}" for path in NOTEBOOKS for suffix in (".ipynb", ".yml")
    }
    assert page_names(open_workspace(ROOT)) == [path.stem for path in NOTEBOOKS]


@each_notebook
def test_the_file_name_is_a_plain_address(path: Path) -> None:
    assert NAME.fullmatch(path.stem)
    assert not re.search(r"\d", path.stem)
    assert path.parent == ROOT / "notebooks"


@each_notebook
def test_the_notebook_is_valid_and_runs_on_the_kernel_everybody_has(path: Path) -> None:
    book = notebook(path)
    nbformat.validate(book)
    assert book.metadata["kernelspec"]["name"] == "python3"
    assert "widgets" not in book.metadata
    assert len({cell["id"] for cell in book.cells}) == len(book.cells)


@each_notebook
def test_no_output_and_no_run_is_stored(path: Path) -> None:
    for cell in code_cells(path):
        assert (cell.outputs, cell.execution_count) == ([], None), cell.source
        assert set(cell.metadata) <= {"tags"}, cell.metadata


@each_notebook
def test_it_begins_with_a_title_and_ends_with_prose(path: Path) -> None:
    cells = notebook(path).cells
    assert cells[0].cell_type == "markdown"
    assert len(re.findall(r"^# \S", cells[0].source, flags=re.M)) == 2, "one title in each language"
    assert all(not re.search(r"^# ", cell.source, flags=re.M) for cell in cells[1:] if cell.cell_type == "markdown")
    assert cells[-1].cell_type == "markdown"


@each_notebook
def test_the_titles_are_those_of_the_sidecar(path: Path) -> None:
    titles = re.findall(r"^# (.+)$", notebook(path).cells[0].source, flags=re.M)
    title = read_sidecar(open_workspace(ROOT), path.stem).title
    assert titles == [title["en"], title["zh"]]


@each_notebook
def test_every_prose_cell_says_the_same_in_both_languages(path: Path) -> None:
    for cell in notebook(path).cells:
        if cell.cell_type != "markdown":
            continue
        parts = re.fullmatch(
            r'<div lang="en">\n\n(.+?)\n\n</div>\n<div lang="zh">\n\n(.+?)\n\n</div>', cell.source.strip(), re.S
        )
        assert parts, cell.source
        english, chinese = parts.groups()
        assert not CHINESE.search(english), english
        assert CHINESE.search(chinese), chinese
        assert re.findall(r"^#+ ", english, re.M) == re.findall(r"^#+ ", chinese, re.M), "same headings"
        assert sorted(re.findall(r"`[^`]+`", english)) == sorted(re.findall(r"`[^`]+`", chinese)), "same commands"


@each_notebook
def test_the_second_cell_is_the_parameters_and_nothing_else(path: Path) -> None:
    second = notebook(path).cells[1]
    assert second.cell_type == "code"
    assert second.metadata["tags"] == ["parameters"]
    assert all("parameters" not in cell.metadata.get("tags", []) for cell in code_cells(path)[1:])
    for line, node in zip(second.source.splitlines(), ast.parse(second.source).body, strict=True):
        assert isinstance(node, ast.AnnAssign), line
        assert node.value is not None
        ast.literal_eval(node.value)
        comment = line[node.end_col_offset :]
        assert re.match(r" +# \S.{5,}", comment), f"explain it: {line}"


@each_notebook
def test_parameters_cell_and_sidecar_agree_as_papermill_reads_them(path: Path) -> None:
    sidecar = read_sidecar(open_workspace(ROOT), path.stem)
    inferred = {item.name: item for item in _infer_parameters(load_notebook_node(str(path)), name="python3")}
    assert list(inferred) == list(sidecar.parameters), "same names in the same order"
    for name, parameter in sidecar.parameters.items():
        assert ast.literal_eval(inferred[name].default) == parameter.default, name
        assert inferred[name].inferred_type_name == TYPES.get(parameter.type, "str"), name
        assert inferred[name].help, name


@each_notebook
def test_code_only_loads_calls_and_shows(path: Path) -> None:
    seen: set[str] = set()
    for cell in code_cells(path)[1:]:
        lines = [line for line in cell.source.splitlines() if line.strip()]
        assert 1 <= len(lines) <= 8, cell.source
        assert cell.source not in seen, f"a copied cell: {cell.source}"
        seen.add(cell.source)
        tree = ast.parse(cell.source)
        banned = (
            ast.FunctionDef,
            ast.AsyncFunctionDef,
            ast.ClassDef,
            ast.Lambda,
            ast.For,
            ast.While,
            ast.If,
            ast.Try,
            ast.With,
        )
        assert not [node for node in ast.walk(tree) if isinstance(node, banned)], cell.source
        imported = {
            alias.name
            for node in ast.walk(tree)
            if isinstance(node, ast.Import | ast.ImportFrom)
            for alias in node.names
        }
        assert "re" not in imported
        assert not re.search(r"^[%!]|get_ipython|input\(", cell.source, flags=re.M), cell.source


@each_notebook
def test_about_as_many_prose_cells_as_code_cells(path: Path) -> None:
    code = len(code_cells(path)) - 1  # the parameters cell explains itself
    prose = len(notebook(path).cells) - code - 1
    assert code <= 20
    assert 0.5 <= prose / code <= 1.5, (prose, code)


@each_notebook
def test_every_section_of_the_page_is_shown_once_under_its_prose(path: Path) -> None:
    cells = notebook(path).cells
    shown = re.findall(r'page\.show\("(\w+)"\)', "\n".join(cell.source for cell in code_cells(path)))
    assert shown == ["strip", *SECTIONS[path.stem]]
    assert f'open_page("{path.stem}", locals())' in cells[2].source
    for before, cell in itertools.pairwise(cells[3:]):
        if cell.cell_type == "code":
            assert before.cell_type == "markdown", f"what to look for in {cell.source}?"


@each_notebook
def test_commands_in_the_prose_exist(path: Path) -> None:
    from test_repository import command_exists

    for cell in notebook(path).cells:
        if cell.cell_type == "markdown":
            for command in re.findall(r"`(aftersales [^`]+)`", cell.source):
                assert command_exists(command), command
