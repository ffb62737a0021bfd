"""The metric dictionary: one YAML file a metric, closed keys, read once."""

from __future__ import annotations

import functools
import hashlib
from importlib import resources
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from aftersales.model.documents import Document, read_document
from aftersales.model.errors import MetricError, known_names
from aftersales.model.tables import canonical_tables

Statistic = Literal["count", "share_of_total", "rate", "share", "quantile", "net_score"]
Unit = Literal["count", "share", "per_10k_units", "per_10k_unit_months", "hours", "points"]

SCALE = {"per_10k_units": 10_000.0, "per_10k_unit_months": 10_000.0}


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
    owner: str
    source: str
    reviewed: str = Field(pattern=r"^\d{4}-\d{2}-\d{2}$")

    @model_validator(mode="after")
    def _makes_sense(self) -> Metric:
        tables = canonical_tables()
        if self.numerator.table not in tables:
            raise ValueError(f"no table '{self.numerator.table}'; {known_names(tables)}")
        columns = tables[self.numerator.table].columns
        if self.clock not in columns or columns[self.clock].type != "ts":
            raise ValueError(f"clock '{self.clock}' is no instant of {self.numerator.table}")
        if (self.statistic == "rate") != (self.denominator.exposure is not None):
            raise ValueError("a rate, and only a rate, is divided by an exposure")
        if (self.statistic == "quantile") != bool(self.numerator.value):
            raise ValueError("a quantile, and only a quantile, needs numerator.value")
        return self

    @property
    def version(self) -> str:
        """Review date and fingerprint of the definition; a changed definition has a new one."""
        return f"{self.reviewed}.{hashlib.sha256(self.model_dump_json().encode()).hexdigest()[:8]}"

    def title(self, lang: str) -> str:
        return self.name_zh if lang == "zh" else self.name


def _dictionary_folder() -> Path:
    return Path(str(resources.files("aftersales.measure") / "dictionary"))


@functools.cache
def metrics() -> dict[str, Metric]:
    """Every metric by id.

    Raises
    ------
    SettingsError
        A definition breaks its schema.
    """
    return {path.stem: read_document(path, Metric, where=f"dictionary/{path.name}")
            for path in sorted(_dictionary_folder().glob("*.yml"))}


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
        raise MetricError("metric", f"no metric '{name}'", rows=known_names(known), fix="aftersales metric list")
    return known[name]
