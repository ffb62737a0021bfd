"""YAML files read against a closed schema: every problem of a file at once, each with its line.

Settings, sources, metrics and page sidecars all come through `read_document`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from aftersales.model.errors import SettingsError

Problem = tuple[tuple[Any, ...], str]
"""Where in the file (its keys, from the outside in) and what is wrong there."""


class Document(BaseModel):
    """Base of every YAML schema: closed keys, frozen values, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    @classmethod
    def further_problems(cls, content: dict[Any, Any]) -> list[Problem]:
        """What the types cannot say, found in the file's content even where the types are wrong."""
        return []


D = TypeVar("D", bound=Document)


class WrittenFloat(float):
    """A YAML number that remembers its text: as the key of a map, 1.10 is not 1.1."""

    def __new__(cls, text: str) -> WrittenFloat:
        number = super().__new__(cls, text)
        number.written = text
        return number

    written: str


_SafeLoader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The loader written in C, several times as fast, where PyYAML was built with it."""


class _Loader(_SafeLoader):  # type: ignore[misc]
    """Safe YAML that refuses a key given twice and reads a value as nothing but what it looks like.

    Dates stay text; only true and false are flags, a mapping of `Yes` or `No` means the words; 0012 and 12:30 are
    text, not an octal and a base-60 number.
    """

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers if tag.rsplit(":", 1)[1] in ("null", "merge")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }  # fmt: skip

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[tuple[str, str]] = set()
        for key, _ in node.value:
            name = (key.tag, str(key.value))
            if name in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key.value}' is given twice", key.start_mark
                )
            seen.add(name)
        return super().construct_mapping(node, deep)


for _tag, _pattern, _first in (
    ("bool", r"^(?:true|false)$", "tf"),
    ("int", r"^(?:0|-?[1-9][0-9]*)$", "-0123456789"),
    ("float", r"^-?[0-9]+\.[0-9]+(?:[eE][-+]?[0-9]+)?$", "-0123456789"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:float", lambda _, node: WrittenFloat(node.value))


def read_document(path: Path, schema: type[D], *, where: str | None = None) -> D:
    """The file as an object of `schema`.

    Parameters
    ----------
    path
        A YAML file.
    schema
        The closed schema it has to follow.
    where
        Name of the file in messages; its path when absent.

    Raises
    ------
    SettingsError
        The file is missing, is no YAML, or breaks the schema: all problems are listed with their lines.
    """
    where = where or str(path)
    text = _text(path, where)
    try:
        node = yaml.compose(text, Loader=_Loader)
        content = yaml.load(text, Loader=_Loader) if node else {}
    except yaml.YAMLError as error:
        raise SettingsError(
            f"{where}{_line_of_mark(error)}",
            f"not readable as YAML: {_problem(error)}",
            fix="mend the line; text with ':' or '#' needs quotes",
        ) from error
    if not isinstance(content, dict):
        raise SettingsError(
            where, f"expected keys and values, found a {type(content).__name__}", fix="start the file with 'name: ...'"
        )
    document, problems = None, schema.further_problems(content)
    try:
        document = schema.model_validate(content)
    except ValidationError as error:
        problems = [*_schema_problems(error, node, schema), *problems]
    if document is None or problems:
        lines = _lines(problems, node)
        raise SettingsError(
            where,
            f"{len(lines)} {'problem' if len(lines) == 1 else 'problems'}",
            rows="\n         ".join(lines),
            fix="mend the lines named above; nothing was read or changed",
        )
    return document


def _text(path: Path, where: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(where, "no such file", fix="check the name, or --workspace DIR") from None
    except UnicodeDecodeError as error:
        raise SettingsError(where, f"not UTF-8 (byte {error.start})", fix="save the file as UTF-8") from error
    except OSError as error:
        raise SettingsError(
            where, f"cannot be read: {error.strerror or error}", fix="check the file's rights"
        ) from error


def _line_of_mark(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f", line {mark.line + 1}" if mark else ""


def _problem(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or error).splitlines()[0]


def _schema_problems(error: ValidationError, node: yaml.Node | None, schema: type[BaseModel]) -> list[Problem]:
    problems: dict[tuple[Any, ...], str] = {}
    for problem in error.errors():
        location = tuple(part for part, is_key in _walk(node, problem["loc"]) if is_key or not _is_type_tag(part))
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"unknown key '{location[-1]}'{_suggestion(str(location[-1]), schema, location[:-1])}"
        elif problem["type"] == "missing":
            message = "required key is missing"
        known = problems.get(location)  # one line for all branches of a union
        problems[location] = message if known is None else f"{known}; or {message[0].lower()}{message[1:]}"
    return list(problems.items())


def _lines(problems: list[Problem], node: yaml.Node | None) -> list[str]:
    """One text a problem, in the order of the file: `line 7, columns.cost.min: ...`."""
    placed = sorted(
        (_line_of(node, location), ".".join(map(str, location)) or "file", message) for location, message in problems
    )
    return list(dict.fromkeys(f"line {line}, {path}: {message}" for line, path, message in placed))


def _is_type_tag(part: object) -> bool:
    """Pydantic names the branch of a union in its path (`ColumnSpec`, `list[str]`); the file has no such key."""
    return isinstance(part, str) and (part[:1].isupper() or "[" in part or part in {"str", "int", "float", "bool"})


def _child(node: yaml.Node | None, part: object) -> tuple[int, yaml.Node] | None:
    """Line and content of one key or list item of `node`."""
    if isinstance(node, yaml.MappingNode):
        return next(((key.start_mark.line + 1, value) for key, value in node.value if key.value == str(part)), None)
    if isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
        return node.value[part].start_mark.line + 1, node.value[part]
    return None


def _walk(node: yaml.Node | None, location: tuple[Any, ...]) -> Iterator[tuple[Any, bool]]:
    """Each part of `location` and whether the file has it."""
    for part in location:
        child = _child(node, part)
        yield part, child is not None
        node = child[1] if child else node


def _line_of(node: yaml.Node | None, location: tuple[Any, ...]) -> int:
    line = 1
    for part in location:
        child = _child(node, part)
        if child is None:
            break
        line, node = child
    return line


def _suggestion(key: str, schema: type[BaseModel], location: tuple[Any, ...]) -> str:
    known = list(schema.model_fields) if not location else _fields_anywhere(schema)
    near = difflib.get_close_matches(key, known, n=1)
    return f" (did you mean '{near[0]}'?)" if near else f"; known: {', '.join(sorted(known)[:14])}"


def _fields_anywhere(schema: type[BaseModel]) -> list[str]:
    """Field names of `schema` and of every schema nested in it."""
    definitions = schema.model_json_schema().get("$defs", {})
    return sorted({name for part in definitions.values() for name in part.get("properties", {})})
