"""The structure of Fleet Claim Data 3.0.0 as data (`fleet_claims.yml`), and what in a claim breaks it.

The file names the properties, their limits and the column each one becomes; nothing of the model is typed into code.
"""

from __future__ import annotations

import datetime as dt
import functools
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from pydantic import model_validator

from aftersales.model.documents import Document, read_document

MISSING_WORDS = ("null", "NULL")
"""Words that mean "no value" where the model wants a country or a day."""

_UUID = re.compile(r"(urn:uuid:)?[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_COUNTRY = re.compile(r"[A-Z]{3}")
_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


class Property(Document):
    """One property: its type and limits, and the column it becomes."""

    type: Literal["text", "uuid", "country", "day", "number", "count", "flag", "word", "object", "list"]
    required: bool = False
    min: float | int | None = None
    max: float | int | None = None
    below: float | int | None = None
    words: list[str] = []
    column: str = ""
    of: dict[str, Property] = {}

    @model_validator(mode="after")
    def _has_what_its_type_needs(self) -> Property:
        if bool(self.of) != (self.type in ("object", "list")) or bool(self.words) != (self.type == "word"):
            raise ValueError("an object or a list, and only they, have 'of'; a word, and only it, has 'words'")
        return self


class ClaimsModel(Document):
    """The properties of a claim, and what a file of claims says about where its structure comes from."""

    model: str
    attribution: str
    part: dict[str, Property]
    claim: dict[str, Property]
    countries: dict[str, str]


@functools.cache
def claims_model() -> ClaimsModel:
    """The mapping file, read once."""
    with resources.as_file(resources.files("aftersales.collect") / "fleet_claims.yml") as path:
        return read_document(Path(path), ClaimsModel, where="aftersales/collect/fleet_claims.yml")


def breaches(value: Any, properties: Mapping[str, Property], place: str = "") -> Iterator[tuple[str, str]]:
    """What breaks the structure: (property, what is wrong), one per finding; unknown properties are named too.

    Examples
    --------
    >>> list(breaches({"claimId": 7, "colour": "red"}, {"claimId": Property(type="text", required=True)}))
    [('colour', 'unknown property'), ('claimId', 'no text')]
    """
    if not isinstance(value, dict):
        yield place or "claim", "no object"
        return
    for name in value:
        if name not in properties:
            yield f"{place}{name}", "unknown property"
    for name, spec in properties.items():
        if value.get(name) is None:
            if spec.required:
                yield f"{place}{name}", "missing"
        elif spec.type == "object":
            yield from breaches(value[name], spec.of, f"{place}{name}.")
        elif spec.type == "list":
            yield from _list_breaches(value[name], spec, f"{place}{name}")
        elif wrong := _CHECKS[spec.type](value[name], spec):
            yield f"{place}{name}", wrong


def _list_breaches(value: Any, spec: Property, place: str) -> Iterator[tuple[str, str]]:
    if not isinstance(value, list):
        yield place, "no list"
        return
    for item in value:
        yield from breaches(item, spec.of, f"{place}.")


def _text(value: Any, spec: Property) -> str:
    return "" if isinstance(value, str) else "no text"


def _uuid(value: Any, spec: Property) -> str:
    return "" if isinstance(value, str) and _UUID.fullmatch(value) else "no UUID"


def _country(value: Any, spec: Property) -> str:
    known = isinstance(value, str) and (value in MISSING_WORDS or _COUNTRY.fullmatch(value))
    return "" if known else "no three-letter country code"


def _day(value: Any, spec: Property) -> str:
    if value in MISSING_WORDS:
        return ""
    try:
        if isinstance(value, str) and _DAY.fullmatch(value):
            dt.date.fromisoformat(value)
            return ""
    except ValueError:
        pass
    return "no day YYYY-MM-DD"


def _number(value: Any, spec: Property) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return "no number"
    if spec.min is not None and value < spec.min:
        return f"below {spec.min:g}"
    if spec.max is not None and value > spec.max:
        return f"above {spec.max:g}"
    return f"not below {spec.below:g}" if spec.below is not None and value >= spec.below else ""


def _count(value: Any, spec: Property) -> str:
    whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    return "" if whole and not isinstance(value, bool) and value >= 0 else "no whole number from 0"


def _flag(value: Any, spec: Property) -> str:
    return "" if isinstance(value, bool) else "neither true nor false"


def _word(value: Any, spec: Property) -> str:
    return "" if value in spec.words else f"none of {', '.join(spec.words)}"


_CHECKS: Mapping[str, Callable[[Any, Property], str]] = {
    "text": _text, "uuid": _uuid, "country": _country, "day": _day, "number": _number, "count": _count, "flag": _flag,
    "word": _word,
}  # fmt: skip


@dataclass(frozen=True)
class Finding:
    """Why claims were left out or are not as the model wants them: what, how many, and one of them by its id."""

    place: str
    problem: str
    claims: int
    example: str


class Findings:
    """Findings by place and problem, each with its first example."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, str]] = Counter()
        self.examples: dict[tuple[str, str], str] = {}

    def note(self, found: set[tuple[str, str]], example: str) -> None:
        """Count the findings of one claim, each once."""
        for key in found:
            self.counts[key] += 1
            self.examples.setdefault(key, example)

    def listed(self) -> list[Finding]:
        ranked = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
        return [Finding(*key, count, self.examples[key]) for key, count in ranked]
