"""The mapping of one source: which raw column becomes which canonical column, and what may be in it.

A source is one YAML file in `data/sources/`; this module is its closed schema and nothing else.
"""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path
from typing import Any, Literal

from pydantic import AliasChoices, Field, field_validator, model_validator

from aftersales.model.documents import Document, read_document
from aftersales.model.errors import SettingsError, known_names
from aftersales.model.settings import TimeZone, Workspace
from aftersales.model.tables import canonical_table, canonical_tables

FORMATS = ("csv", "tsv", "xlsx", "json", "jsonl", "parquet")
PART = "@part"
"""The pseudo column a split table reads: one label of the column that is split."""

Scalar = str | int | float | bool


def _as_text(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


class ColumnSpec(Document):
    """How one canonical column is filled."""

    sources: list[str] = Field(default=[], validation_alias=AliasChoices("from"),
                               description="Raw column; of several the first that is not empty")
    value: Scalar | None = Field(default=None, description="A constant for every row")
    format: list[str] = Field(default=[], description="strptime formats, or iso, epoch_s, epoch_ms, json_date")
    time_zone: TimeZone | None = None
    map: dict[str, str] = {}
    map_file: str | None = Field(default=None, description="CSV with the columns source_value, target_value")
    otherwise: Literal["reject", "keep", "blank"] = Field(default="reject", description="Values the map lacks")
    case: Literal["lower", "upper"] | None = None
    prefix: str = ""
    before: str | None = Field(default=None, description="Only the text before this separator")
    decimal: Literal[".", ","] = "."
    factor: float | None = None
    offset: float = 0
    default: Scalar | None = None
    required: bool = False
    min: float | str | None = None
    max: float | str | None = None
    not_before: str | None = None
    not_after: str | None = None
    on_bad: Literal["reject", "blank"] = "reject"

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, given: Any) -> Any:
        """`ticket_id: 工单号` is `ticket_id: {from: 工单号}`; single texts where lists are kept."""
        if isinstance(given, str):
            given = {"from": given}
        if isinstance(given, dict):
            given = {key: [value] if key in ("from", "format") and not isinstance(value, list) else value
                     for key, value in given.items()}
        return given

    @field_validator("sources", mode="before")
    @classmethod
    def _names(cls, given: Any) -> Any:
        return [_as_text(value) for value in given] if isinstance(given, list) else given

    @field_validator("map", mode="before")
    @classmethod
    def _texts(cls, given: Any) -> Any:
        """Keys and values of a map are text, also where YAML reads `1` or `true`."""
        if isinstance(given, dict):
            return {_as_text(key): _as_text(value) for key, value in given.items()}
        return given

    @model_validator(mode="after")
    def _one_origin(self) -> ColumnSpec:
        if (self.value is None) == (not self.sources):
            raise ValueError("give either 'from' (a raw column) or 'value' (a constant)")
        if self.map and self.map_file:
            raise ValueError("give 'map' or 'map_file', not both")
        return self


class Split(Document):
    """A multi-label column that becomes one row per label."""

    column: str
    separator: str


class TableMapping(Document):
    """How the rows of a source fill one canonical table."""

    columns: dict[str, ColumnSpec]
    version: ColumnSpec | None = Field(default=None, description="The newest version of a key wins")
    where: dict[str, list[str]] = Field(default={}, description="Only rows whose raw column has one of these values")
    split: Split | None = None

    @field_validator("where", mode="before")
    @classmethod
    def _where_texts(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        lists = {key: value if isinstance(value, list) else [value] for key, value in given.items()}
        return {str(key): [_as_text(value) for value in values] for key, values in lists.items()}

    @property
    def raw_columns(self) -> list[str]:
        """Raw columns this table reads, in order of first use."""
        specs = [*self.columns.values(), *([self.version] if self.version else [])]
        names = [name for spec in specs for name in spec.sources] + list(self.where)
        names += [self.split.column] if self.split else []
        return [name for name in dict.fromkeys(names) if name != PART]


class Source(Document):
    """One channel: where its files are, how they are written, and which canonical tables they fill."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: dict[Literal["en", "zh"], str] = {}
    owner: str
    connector: Literal["files"] = "files"
    files: str = Field(description="Glob of the files, relative to the workspace")
    format: Literal["csv", "tsv", "xlsx", "json", "jsonl", "parquet"] | None = None
    encoding: str | None = None
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    sheet: str | None = None
    time_zone: TimeZone = "UTC"
    cadence: str = ""
    fresh_within_hours: float = Field(default=48, gt=0)
    missing: list[str] = [""]
    licence: str = ""
    tables: dict[str, TableMapping] = Field(min_length=1)

    @field_validator("tables", mode="after")
    @classmethod
    def _canonical(cls, tables: dict[str, TableMapping]) -> dict[str, TableMapping]:
        """Every table and column named here exists in `model.tables`."""
        problems: list[str] = []
        for name, mapping in tables.items():
            problems += _mapping_problems(name, mapping)
        if problems:
            raise ValueError("; ".join(problems))
        return tables

    @property
    def primary(self) -> str:
        """The table that accounts for malformed rows: the first one."""
        return next(iter(self.tables))

    def fingerprint(self, workspace: Workspace) -> str:
        """Changes when the mapping or one of its code lists changes."""
        digest = hashlib.sha256(self.model_dump_json(exclude={"title", "owner", "cadence", "fresh_within_hours",
                                                              "files", "licence"}).encode())
        for spec in self._specs():
            if spec.map_file:
                digest.update(repr(sorted(read_code_list(workspace, spec.map_file).items())).encode())
        return digest.hexdigest()[:16]

    def _specs(self) -> list[ColumnSpec]:
        return [spec for mapping in self.tables.values() for spec in mapping.columns.values()]


def _mapping_problems(name: str, mapping: TableMapping) -> list[str]:
    if name not in canonical_tables():
        return [f"no table '{name}'; {known_names(canonical_tables())}"]
    table = canonical_table(name)
    problems = []
    for column, spec in mapping.columns.items():
        if column not in table.columns and column != "known_at" and not column.startswith("x_"):
            problems.append(f"{name} has no column '{column}'; {known_names(table.columns, 40)}")
        problems += [f"{name}.{column} compares with '{other}', which this mapping does not fill"
                     for other in (spec.not_before, spec.not_after) if other and other not in mapping.columns]
    if "known_at" not in mapping.columns:
        problems.append(f"{name}.known_at is required: the column that says since when the row is known")
    if table.key not in mapping.columns and not table.key_from:
        problems.append(f"{name}.{table.key} is required: it is the key")
    if table.key not in mapping.columns:
        problems += [f"{name}.{part} is required: the key is built from it"
                     for part in table.key_from if part not in mapping.columns]
    return problems


def read_source(path: Path, workspace: Workspace) -> Source:
    """The source in `path`; its name has to be the file's.

    Raises
    ------
    SettingsError
        The file breaks the schema, or names a table or column that does not exist.
    """
    shown = str(path.relative_to(workspace.root)) if path.is_relative_to(workspace.root) else str(path)
    source = read_document(path, Source, where=shown)
    if source.name != path.stem:
        raise SettingsError(shown, f"the source is named '{source.name}'", fix=f"name it '{path.stem}', as the file")
    return source


def catalogue(workspace: Workspace) -> dict[str, Source]:
    """All sources of the workspace that are on, by name."""
    paths = sorted(workspace.sources.glob("*.yml"))
    sources = {path.stem: read_source(path, workspace) for path in paths}
    wanted = workspace.settings.channels
    unknown = [name for name in wanted if name not in sources]
    if unknown:
        raise SettingsError("workbench.yml", f"channels names {', '.join(unknown)}", rows=known_names(sources),
                            fix=f"add {workspace.sources.name}/<name>.yml, or take the name out")
    return {name: source for name, source in sources.items() if not wanted or name in wanted}


def read_code_list(workspace: Workspace, name: str) -> dict[str, str]:
    """A code list of `data/reference/`: source value -> target value.

    Raises
    ------
    SettingsError
        No such file, or it lacks the two columns.
    """
    path = workspace.root / name
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            rows = list(csv.DictReader(stream))
    except FileNotFoundError:
        raise SettingsError(name, "no such code list", fix="check map_file in the source's YAML") from None
    if rows and not {"source_value", "target_value"} <= set(rows[0]):
        raise SettingsError(name, "lacks the columns source_value, target_value",
                            rows=", ".join(str(key) for key in rows[0]), fix="name the two columns so")
    return {row["source_value"]: row["target_value"] for row in rows}
