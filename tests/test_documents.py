"""YAML against a closed schema: every problem at once, with file, line and a suggestion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aftersales.model.documents import Document, read_document
from aftersales.model.errors import SettingsError


class Part(Document):
    """A nested schema."""

    factor: float | None = None
    kind: str = ""


class Sheet(Document):
    """A schema with the usual kinds of keys."""

    name: str
    size: int = 0
    on: bool = False
    words: list[str] = []
    parts: dict[str, Part] = {}
    limit: float | str | None = None


class Loose(Document):
    """A schema that takes anything."""

    any: Any = None


def read(tmp_path: Path, text: str, schema: type[Document] = Sheet) -> Any:
    path = tmp_path / "sheet.yml"
    path.write_text(text, encoding="utf-8")
    return read_document(path, schema, where="sheet.yml")


def refused(tmp_path: Path, text: str | bytes) -> SettingsError:
    path = tmp_path / "sheet.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(SettingsError) as caught:
        read_document(path, Sheet, where="sheet.yml")
    return caught.value


def test_a_valid_file_becomes_an_object(tmp_path: Path) -> None:
    sheet = read(tmp_path, "name: a\nsize: 3\non: true\nwords: [x, y]\nparts: {p: {factor: 2}}\n")
    assert (sheet.name, sheet.size, sheet.on, sheet.words, sheet.parts["p"].factor) == ("a", 3, True, ["x", "y"], 2.0)


def test_every_problem_is_reported_at_once_with_its_line_in_the_order_of_the_file(tmp_path: Path) -> None:
    error = refused(tmp_path, "size: three\nparts:\n  p:\n    faktor: 2\nwords: 5\n")
    assert str(error) == (
        "sheet.yml: 4 problems\n"
        "  rows : line 1, name: required key is missing\n"
        "         line 1, size: Input should be a valid integer\n"
        "         line 4, parts.p.faktor: unknown key 'faktor' (did you mean 'factor'?)\n"
        "         line 5, words: Input should be a valid list\n"
        "  fix  : mend the lines named above; nothing was read or changed"
    )


def test_branches_of_a_union_are_one_problem(tmp_path: Path) -> None:
    error = refused(tmp_path, "name: a\nlimit: [1]\n")
    assert error.what == "1 problem"
    assert error.rows == "line 2, limit: Input should be a valid number; or input should be a valid string"


def test_a_key_of_the_file_that_looks_like_a_type_keeps_its_place(tmp_path: Path) -> None:
    error = refused(tmp_path, "name: a\nparts:\n  Pump:\n    factor: x\n  str:\n    factor: y\n")
    assert error.rows.splitlines()[0].startswith("line 4, parts.Pump.factor:")
    assert error.rows.splitlines()[1].strip().startswith("line 6, parts.str.factor:")


def test_a_key_given_twice_is_refused_with_its_line(tmp_path: Path) -> None:
    error = refused(tmp_path, "name: a\nsize: 1\nparts: {}\nsize: 2\n")
    assert (error.where, error.what) == ("sheet.yml, line 4", "not readable as YAML: the key 'size' is given twice")


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("name: [a\n", "not readable as YAML"),
        ("- a\n- b\n", "expected keys and values, found a list"),
        ("just text\n", "expected keys and values, found a str"),
        (b"name: \xff\n", "not UTF-8 (byte 6)"),
        ("name: a\n\tsize: 1\n", "not readable as YAML"),
        ("", "1 problem"),
    ],
)
def test_what_is_no_document_is_refused_in_words(tmp_path: Path, text: str | bytes, what: str) -> None:
    error = refused(tmp_path, text)
    assert error.what.startswith(what)
    assert error.fix


def test_a_missing_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="no such file"):
        read_document(tmp_path / "absent.yml", Sheet)


def test_a_folder_in_place_of_a_file_says_so(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="cannot be read: Is a directory"):
        read_document(tmp_path, Sheet)


@pytest.mark.parametrize(
    ("written", "read_as"),
    [
        ("2024-01-02", "2024-01-02"),
        ("Yes", "Yes"),
        ("off", "off"),
        ("true", True),
        ("0012", "0012"),
        ("12:30", "12:30"),
        ("1_000", "1_000"),
        ("0x1F", "0x1F"),
        ("12", 12),
        ("-3", -3),
        ("1.50", 1.5),
        ("null", None),
        ("1e5", "1e5"),
    ],
)
def test_a_value_is_read_as_nothing_but_what_it_looks_like(tmp_path: Path, written: str, read_as: object) -> None:
    value = read(tmp_path, f"any: {written}\n", Loose).any
    assert value == read_as
    assert isinstance(value, type(read_as))


def test_a_byte_order_mark_is_no_problem(tmp_path: Path) -> None:
    path = tmp_path / "sheet.yml"
    path.write_bytes(b"\xef\xbb\xbfname: a\n")
    assert read_document(path, Sheet).name == "a"
