"""The metric dictionary: one YAML file a metric, closed keys, read once."""

from __future__ import annotations

import functools
import hashlib
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import ibis
from pydantic import Field, model_validator

from aftersales.measure.grammar import HELP, parse
from aftersales.model.documents import Document, Problem, read_document
from aftersales.model.errors import MetricError, SettingsError, known_names
from aftersales.model.tables import SITE_PREFIX, Table, canonical_tables

Statistic = Literal["count", "share_of_total", "rate", "share", "quantile", "net_score"]
Unit = Literal["count", "share", "per_10k_units", "per_10k_unit_months", "hours", "points"]

SCALE = {"per_10k_units": 10_000.0, "per_10k_unit_months": 10_000.0}

UNITS: Mapping[str, tuple[str, ...]] = {
    "count": ("count",), "share_of_total": ("share",), "share": ("share",), "quantile": ("hours",),
    "net_score": ("points",), "rate": ("per_10k_units", "per_10k_unit_months"),
}  # fmt: skip
"""The units a statistic can come in."""

EXPOSURE_UNITS = {"units": "per_10k_units", "unit_months": "per_10k_unit_months"}

_IBIS_TYPES = {"int": "int64", "num": "float64", "bool": "boolean", "day": "date", "ts": "timestamp('UTC')"}


class Counted(Document):
    """Rows of one canonical table that are counted, or whose value is taken."""

    table: str
    where: str = Field(default="", description="Only rows for which this holds")
    value: str = Field(default="", description="The value whose quantile is asked")


class Denominator(Document):
    """What a count is divided by: rows of a table, or units exposed."""

    exposure: Literal["unit_months", "units"] | None = None
    where: str = Field(default="", description="Rows of the numerator's table that could have counted")

    @model_validator(mode="after")
    def _one(self) -> Denominator:
        if self.exposure and self.where:
            raise ValueError("give 'exposure' or 'where', not both")
        return self


class Metric(Document):
    """One definition. `id` is the file's name."""

    name: str
    name_zh: str
    question: str
    question_zh: str
    statistic: Statistic
    numerator: Counted
    denominator: Denominator = Denominator()
    unit: Unit
    better: Literal["higher", "lower", "neither"]
    clock: str
    quantile: float = Field(default=0.5, gt=0, lt=1)
    maturity_days: int = Field(default=0, ge=0)
    minimum_n: int = Field(default=30, ge=0)
    dimensions: list[str] = Field(min_length=1)
    gates: dict[Literal["completeness", "validity", "uniqueness", "timeliness", "mapping_coverage"], float] = Field(
        default={}, description="Data quality its sources need, where it is not that of workbench.yml"
    )
    owner: str
    source: str
    reviewed: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")

    @classmethod
    def further_problems(cls, content: dict[Any, Any]) -> list[Problem]:
        """Tables, clocks and expressions that do not exist or cannot be read, each at its line."""
        numerator = content.get("numerator")
        name = numerator.get("table") if isinstance(numerator, dict) else None
        if not isinstance(name, str):
            return []
        tables = canonical_tables()
        if name not in tables:
            return [(("numerator", "table"), f"no table '{name}'; {known_names(tables)}")]
        return [*_clock_problems(tables[name], content.get("clock")), *_expression_problems(tables[name], content)]

    @model_validator(mode="after")
    def _makes_sense(self) -> Metric:
        if (self.statistic == "rate") != (self.denominator.exposure is not None):
            raise ValueError("a rate, and only a rate, is divided by an exposure")
        if (self.statistic == "quantile") != bool(self.numerator.value):
            raise ValueError("a quantile, and only a quantile, needs numerator.value")
        wanted = UNITS[self.statistic]
        if self.denominator.exposure:
            wanted = (EXPOSURE_UNITS[self.denominator.exposure],)
        if self.unit not in wanted:
            raise ValueError(f"a {self.statistic} has the unit {' or '.join(wanted)}, not {self.unit}")
        return self

    @property
    def version(self) -> str:
        """Review date and fingerprint of the definition; a changed one has a new one, but a gate changes no figure."""
        return f"{self.reviewed}.{hashlib.sha256(self.model_dump_json(exclude={'gates'}).encode()).hexdigest()[:8]}"

    def title(self, lang: str) -> str:
        return self.name_zh if lang == "zh" else self.name


def _clock_problems(table: Table, clock: object) -> list[Problem]:
    if not isinstance(clock, str) or (clock in table.columns and table.columns[clock].type == "ts"):
        return []
    instants = [name for name, column in table.columns.items() if column.type == "ts"]
    return [(("clock",), f"'{clock}' is no instant of {table.name.lower()}; {known_names(instants)}")]


def _expression_problems(table: Table, content: dict[Any, Any]) -> list[Problem]:
    """What is wrong with `where` and `value`, read against the columns of the table and any site columns named."""
    problems: list[Problem] = []
    for part, key in (("numerator", "where"), ("numerator", "value"), ("denominator", "where")):
        text = content.get(part, {}).get(key) if isinstance(content.get(part, {}), dict) else None
        if not isinstance(text, str) or not text:
            continue
        site = dict.fromkeys(re.findall(rf"\b{SITE_PREFIX}[a-z0-9_]+", text), "string")
        columns = {name: _IBIS_TYPES.get(column.type, "string") for name, column in table.columns.items()}
        try:
            found = parse(text, ibis.table({**site, **columns}, name="rows"), table, clock=table.clock, where=part)
        except MetricError as error:
            problems.append(((part, key), error.what + (f"; {error.fix}" if error.fix != HELP else "")))
            continue
        wanted = "number" if key == "value" else "condition"
        if not (found.type().is_numeric() if key == "value" else found.type().is_boolean()):
            problems.append(((part, key), f"'{text}' is no {wanted}"))
    return problems


def read_dictionary(folder: Path) -> dict[str, Metric]:
    """Every metric of a folder by id.

    Raises
    ------
    SettingsError
        Definitions break their schema: all problems of all files at once.
    """
    found, errors = {}, []
    for path in sorted(folder.glob("*.yml")):
        try:
            found[path.stem] = read_document(path, Metric, where=f"dictionary/{path.name}")
        except SettingsError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        rows = "\n         ".join(f"{error.where}: {error.rows or error.what}" for error in errors)
        raise SettingsError("dictionary", f"{len(errors)} definitions break their schema", rows=rows,
                            fix="mend the lines named above")  # fmt: skip
    return found


@functools.cache
def metrics() -> dict[str, Metric]:
    """Every metric by id.

    Raises
    ------
    SettingsError
        A definition breaks its schema.
    """
    return read_dictionary(Path(str(resources.files("aftersales.measure") / "dictionary")))


def metric(name: str) -> Metric:
    """The metric `name`.

    Raises
    ------
    MetricError
        There is none; the message lists the known ones.

    Examples
    --------
    >>> metric("csat").unit
    'share'
    """
    known = metrics()
    if name not in known:
        raise MetricError("metric", f"no metric '{name}'", rows=known_names(known, 40), fix="aftersales metric list")
    return known[name]
