"""The sidecar of a page: titles, audience, and the parameters it takes.

One reader, three uses: the check before a Papermill run, the reader of the page's address, and the filter form.
A name that is not listed, or a value of the wrong type, is refused before anything runs; a value is never evaluated.
"""

from __future__ import annotations

import copy
import datetime as dt
import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal
from urllib.parse import parse_qsl, urlencode

from pydantic import Field, field_validator, model_validator

from aftersales.model.documents import Document, read_document
from aftersales.model.errors import ParameterError, known_names
from aftersales.model.settings import Workspace

ADDRESS_VARIABLE = "QUERY_STRING"
"""Where the page server puts the query of the page's address."""

NAME = re.compile(r"[a-z][a-z0-9_]{0,60}")
MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
MAX_TEXT = 200
MAX_VALUES = 100

Bilingual = dict[Literal["en", "zh"], str]
ParameterType = Literal["text", "texts", "choice", "integer", "number", "date", "month", "flag"]
Value = str | int | float | bool | list[str]
PYTHON_TYPES: Mapping[str, tuple[type, ...]] = {
    "text": (str,), "choice": (str,), "date": (str,), "month": (str,), "flag": (bool,), "integer": (int,),
    "number": (int, float), "texts": (list,),
}  # fmt: skip


class Parameter(Document):
    """One parameter of a page."""

    type: ParameterType
    default: Value
    title: Bilingual
    help: Bilingual = {}
    choices: list[str] = []
    choice_titles: dict[str, Bilingual] = {}
    minimum: float | None = None
    maximum: float | None = None
    dimension: str | None = Field(default=None, description="Filters this dimension; choices come from the lake")
    offers_dimensions: bool = Field(default=False, description="Takes the name of a dimension the units have")
    offers: Literal["tables", "sources"] | None = Field(
        default=None, description="Takes names of canonical tables, or of sources of the catalogue"
    )
    shown: bool = Field(default=True, description="Whether the filter form has it")

    @model_validator(mode="after")
    def _default_fits(self) -> Parameter:
        if self.type == "choice" and not self.choices:
            raise ValueError("a choice needs 'choices'")
        problem = self.problem_with(self.default)
        if problem:
            raise ValueError(f"the default {problem}")
        return self

    def problem_with(self, value: object) -> str:
        """What is wrong with `value`; empty when it fits."""
        if not isinstance(value, PYTHON_TYPES[self.type]) or (isinstance(value, bool) and self.type != "flag"):
            return f"{_short(value)} is no {self.type}"
        if isinstance(value, list):
            if len(value) > MAX_VALUES or not all(isinstance(item, str) and len(item) <= MAX_TEXT for item in value):
                return f"is no list of at most {MAX_VALUES} texts of {MAX_TEXT} characters"
        elif isinstance(value, str) and len(value) > MAX_TEXT:
            return f"is longer than {MAX_TEXT} characters"
        elif self.type == "choice" and value not in self.choices:
            return f"'{value}' is none of {', '.join(self.choices)}"
        elif self.type == "date" and value and not _is_date(str(value)):
            return f"'{value}' is no date YYYY-MM-DD"
        elif self.type == "month" and value and not MONTH.fullmatch(str(value)):
            return f"'{value}' is no month YYYY-MM"
        elif isinstance(value, int | float):
            if isinstance(value, float) and not math.isfinite(value):
                return f"{value} is no {self.type}"
            if self.minimum is not None and value < self.minimum:
                return f"{_short(value)} is below {self.minimum:g}"
            if self.maximum is not None and value > self.maximum:
                return f"{_short(value)} is above {self.maximum:g}"
        return ""

    def from_texts(self, texts: list[str]) -> object:
        """The value that an address or a command line means; unreadable text comes back as it is and is refused."""
        text = texts[-1]
        if self.type == "texts":
            return [item for item in texts if item != ""]
        if self.type == "flag":
            return {"true": True, "1": True, "false": False, "0": False}.get(text.lower(), text)
        if self.type in ("integer", "number"):
            try:
                return int(text) if self.type == "integer" else float(text)
            except ValueError:
                return text
        return text


def _short(value: object) -> str:
    """A value in a message: its first characters."""
    text = repr(value[:40] if isinstance(value, str) else value)
    return text if len(text) <= 60 else f"{text[:60]}..."


def _is_date(text: str) -> bool:
    try:
        day = dt.date.fromisoformat(text)
        return day.isoformat() == text and 1900 <= day.year < 2200  # beyond, time zones and periods overflow
    except ValueError:
        return False


class Sidecar(Document):
    """What a page says about itself."""

    title: Bilingual
    question: Bilingual
    audience: Bilingual
    owner: str
    order: int = 100
    in_navigation: bool = True
    is_report: bool = Field(default=True, description="Whether it can be run on a schedule")
    refresh: str = "each ingest"
    roles: list[str] = ["all"]
    tier: Literal["P1", "P2"] = Field(
        default="P1", description="P2: shows texts or pseudonyms of persons to those who may read them"
    )
    parameters: dict[str, Parameter]

    @field_validator("parameters")
    @classmethod
    def _plain_names(cls, parameters: dict[str, Parameter]) -> dict[str, Parameter]:
        bad = [name for name in parameters if not NAME.fullmatch(name)]
        if bad:
            raise ValueError(f"names are a-z, 0-9 and _: {', '.join(bad)}")
        return parameters

    def defaults(self) -> dict[str, Value]:
        return {name: copy.copy(parameter.default) for name, parameter in self.parameters.items()}


def read_sidecar(workspace: Workspace, page: str) -> Sidecar:
    """The sidecar of `page`.

    Raises
    ------
    ParameterError
        No such page; the message lists the known ones.
    """
    if not NAME.fullmatch(page) or not (workspace.notebooks / f"{page}.ipynb").is_file():
        raise ParameterError(
            "page",
            f"no page '{page[:MAX_TEXT]}'",
            rows=known_names(page_names(workspace)),
            fix="aftersales report list --pages",
        )
    return read_document(workspace.notebooks / f"{page}.yml", Sidecar, where=f"notebooks/{page}.yml")


def page_names(workspace: Workspace) -> list[str]:
    """Pages of the workspace: a notebook with a sidecar each."""
    return sorted(path.stem for path in workspace.notebooks.glob("*.yml") if path.with_suffix(".ipynb").is_file())


def sidecars(workspace: Workspace) -> dict[str, Sidecar]:
    """All pages in the order of the navigation."""
    found = {name: read_sidecar(workspace, name) for name in page_names(workspace)}
    return dict(sorted(found.items(), key=lambda item: (item[1].order, item[0])))


def checked_parameters(sidecar: Sidecar, given: Mapping[str, object], *, page: str) -> dict[str, Value]:
    """All parameters of a page: `given` over the defaults.

    Raises
    ------
    ParameterError
        An unknown name or an ill-typed value; all problems at once.
    """
    problems = []
    for name, value in given.items():
        if name not in sidecar.parameters:
            problems.append(f"no parameter '{str(name)[:40]}'")
            continue
        problem = sidecar.parameters[name].problem_with(value)
        if problem:
            problems.append(f"{name}: {problem}")
    if problems:
        raise ParameterError(
            f"page {page}",
            "; ".join(problems),
            rows=known_names(sidecar.parameters, 40),
            fix="nothing was run; mend the parameters",
        )
    return {**sidecar.defaults(), **given}  # type: ignore[dict-item]


def parameters_from_texts(sidecar: Sidecar, pairs: Mapping[str, list[str]]) -> dict[str, object]:
    """Texts of an address or command line as values of their types; unknown names are kept, to be refused."""
    return {
        name: sidecar.parameters[name].from_texts(texts) if name in sidecar.parameters else texts[-1]
        for name, texts in pairs.items()
    }


def parameters_from_query(sidecar: Sidecar, query: str) -> dict[str, object]:
    """Parameters in an address, `model=P1&model=P2&lang=zh`."""
    pairs: dict[str, list[str]] = {}
    try:
        found = parse_qsl(query.lstrip("?"), keep_blank_values=True, max_num_fields=2 * MAX_VALUES)
    except ValueError:
        raise ParameterError("address", f"holds more than {2 * MAX_VALUES} values", fix="take fewer") from None
    for name, text in found:
        pairs.setdefault(name, []).append(text)
    return parameters_from_texts(sidecar, pairs)


def query_of(sidecar: Sidecar, values: Mapping[str, Value]) -> str:
    """The address of a view: every parameter that is not at its default, in a fixed order."""
    pairs: list[tuple[str, str]] = []
    for name in sorted(sidecar.parameters):
        value = values[name]
        if value == sidecar.parameters[name].default:
            continue
        items = value if isinstance(value, list) else [value]
        pairs += [(name, str(item).lower() if isinstance(item, bool) else str(item)) for item in items]
    return urlencode(pairs)


def toggled(values: Mapping[str, Value], name: str, item: str) -> list[str]:
    """The list `values[name]` with `item` added, or taken out when it was in."""
    now = values[name]
    assert isinstance(now, list)
    return [value for value in now if value != item] if item in now else [*now, item]


def page_file(workspace: Workspace, page: str) -> Path:
    """The notebook of `page`."""
    return workspace.notebooks / f"{page}.ipynb"
