"""YAML files read against a closed schema: every problem of a file at once, each with its line.

Settings, sources, metrics and page sidecars all come through `read_document`.
"""

from __future__ import annotations

import difflib
import re
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, ValidationError

from aftersales.model.errors import SettingsError


class Document(BaseModel):
    """Base of every YAML schema: closed keys, frozen values, no silent conversion of types."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


D = TypeVar("D", bound=Document)


class _Loader(yaml.SafeLoader):
    """Safe YAML that refuses a key given twice. Dates stay text, and only true and false are flags: a mapping of
    `Yes` or `No` means the words."""

    yaml_implicit_resolvers = {
        first: [(tag, pattern) for tag, pattern in resolvers
                if tag not in ("tag:yaml.org,2002:timestamp", "tag:yaml.org,2002:bool")]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }  # fmt: skip

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value]
        for key_node, _ in node.value:
            if keys.count(key_node.value) > 1:
                raise yaml.constructor.ConstructorError(
                    None, None, f"the key '{key_node.value}' is given twice", key_node.start_mark
                )
        return super().construct_mapping(node, deep)


_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))


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
        raise SettingsError(f"{where}{_line_of_mark(error)}", f"not readable as YAML: {_problem(error)}",
                            fix="mend the line; text with ':' or '#' needs quotes") from error
    if not isinstance(content, dict):
        raise SettingsError(where, f"expected keys and values, found a {type(content).__name__}",
                            fix="start the file with 'name: ...'")
    try:
        return schema.model_validate(content)
    except ValidationError as error:
        raise SettingsError(where, _summary(error), rows=_problems(error, node, schema),
                            fix="mend the lines named above; nothing was read or changed") from error


def _text(path: Path, where: str) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise SettingsError(where, "no such file", fix="check the name, or --workspace DIR") from None
    except UnicodeDecodeError as error:
        raise SettingsError(where, f"not UTF-8 (byte {error.start})", fix="save the file as UTF-8") from error


def _line_of_mark(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    return f", line {mark.line + 1}" if mark else ""


def _problem(error: yaml.YAMLError) -> str:
    return str(getattr(error, "problem", None) or error).splitlines()[0]


def _summary(error: ValidationError) -> str:
    count = error.error_count()
    return f"{count} {'problem' if count == 1 else 'problems'}"


def _problems(error: ValidationError, node: yaml.Node | None, schema: type[BaseModel]) -> str:
    """One line a problem: `line 7, columns.cost.min: ...`."""
    lines = []
    for problem in error.errors():
        location = [part for part in problem["loc"] if not _is_type_tag(part)]
        line = _line_of(node, location)
        message = problem["msg"].removeprefix("Value error, ")
        if problem["type"] == "extra_forbidden":
            message = f"unknown key '{location[-1]}'{_suggestion(str(location[-1]), schema, location[:-1])}"
        elif problem["type"] == "missing":
            message = "required key is missing"
        path = ".".join(str(part) for part in location) or "file"
        lines.append((line, f"line {line}, {path}: {message}"))
    unique = dict.fromkeys(text for _, text in sorted(lines))
    return "\n         ".join(unique)


def _is_type_tag(part: object) -> bool:
    """Pydantic names the branch of a union in its path (`ColumnSpec`, `list[str]`); the file has no such key."""
    return isinstance(part, str) and (part[:1].isupper() or "[" in part or part in {"str", "int", "float", "bool"})


def _line_of(node: yaml.Node | None, location: list[Any]) -> int:
    line = 1
    for part in location:
        if isinstance(node, yaml.MappingNode):
            found = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if found is None:
                break
            line, node = found[0].start_mark.line + 1, found[1]
        elif isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value):
            node = node.value[part]
            line = node.start_mark.line + 1
        else:
            break
    return line


def _suggestion(key: str, schema: type[BaseModel], location: list[Any]) -> str:
    known = list(schema.model_fields) if not location else _fields_anywhere(schema)
    near = difflib.get_close_matches(key, known, n=1)
    return f" (did you mean '{near[0]}'?)" if near else f"; known: {', '.join(sorted(known)[:14])}"


def _fields_anywhere(schema: type[BaseModel]) -> list[str]:
    """Field names of `schema` and of every schema nested in it."""
    definitions = schema.model_json_schema().get("$defs", {})
    return sorted({name for part in definitions.values() for name in part.get("properties", {})})
