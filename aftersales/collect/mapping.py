"""The mapping of one source: which raw column becomes which canonical column, and what may be in it.

A source is one YAML file in `data/sources/`; this module is its closed schema and nothing else.
"""

from __future__ import annotations

import codecs
import csv
import datetime as dt
import difflib
import hashlib
import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
from pydantic import AliasChoices, Field, field_validator, model_validator

from aftersales.collect.channels import LANDING_FORMATS, MailSettings, RestSettings, SqlSettings
from aftersales.model.documents import Document, Problem, read_document
from aftersales.model.errors import SchemaError, SettingsError, known_names
from aftersales.model.settings import TimeZone, Workspace
from aftersales.model.tables import BOOKKEEPING, Column, Table, canonical_tables

FORMATS = ("csv", "tsv", "xlsx", "json", "jsonl", "parquet", "transcript")
ENDINGS = {"ndjson": "jsonl", "txt": "csv", "xlsm": "xlsx", "xls": "xlsx", "pq": "parquet", "srt": "transcript"}
"""Further endings of files, and their format."""

PART = "@part"
"""The pseudo column a split table reads: one label of the column that is split."""

ROW, FILE, SHEET, RECEIVED = "@row", "@file", "@sheet", "@received"
PSEUDO_COLUMNS = {
    PART: "one label of the column that 'split' names",
    ROW: "the number of the row in its file: 1, 2, ...",
    FILE: "the name of the file",
    SHEET: "the name of the sheet",
    RECEIVED: "when the file was put where it lies, for format: iso",
}
"""What a source says about a row without a column of its own."""

FIND: Literal["find"] = "find"
ALL: Literal["all"] = "all"

Scalar = str | int | float | bool


BLANKS = " \t\r\n\u00a0\u3000\ufeff"
WIDE = "".join(chr(code) for code in range(0xFF01, 0xFF5F)) + "\u3000"
NARROW = "".join(chr(code - 0xFEE0) for code in range(0xFF01, 0xFF5F)) + " "
TRUE_WORDS = ("true", "t", "yes", "y", "1", "1.0", "是", "对", "有")
FALSE_WORDS = ("false", "f", "no", "n", "0", "0.0", "否", "无", "没有")
NAMED_FORMATS = ("iso", "epoch_s", "epoch_ms", "json_date")


def folded(text: str) -> str:
    """Text as code lists compare it: no blanks around, narrow, lower case."""
    return text.strip(BLANKS).translate(str.maketrans(WIDE, NARROW)).lower()


def _as_text(value: Any) -> str:
    """A YAML value as it was written."""
    return str(value).lower() if isinstance(value, bool) else str(getattr(value, "written", value))


def _text_or_none(value: Any) -> Any:
    return value if value is None else _as_text(value)


class ColumnSpec(Document):
    """How one canonical column is filled."""

    sources: list[str] = Field(
        default=[],
        validation_alias=AliasChoices("from"),
        description="Raw column; of several the first that is not empty",
    )
    join: str | None = Field(
        default=None, description="All raw columns with this between them; no value if one is missing"
    )
    value: Scalar | None = Field(default=None, description="A constant for every row")
    format: list[str] = Field(default=[], description="strptime formats, or iso, epoch_s, epoch_ms, json_date")
    time_zone: TimeZone | None = None
    map: dict[str, str] = {}
    map_file: str | None = Field(
        default=None, description="CSV with source_value, target_value and, where meanings change, valid_from, valid_to"
    )
    otherwise: Literal["reject", "keep", "blank"] = Field(default="reject", description="Values the map lacks")
    case: Literal["lower", "upper"] | None = None
    prefix: str = ""
    json_key: str | None = Field(default=None, description="The value of this key, where the text is a JSON object")
    before: str | None = Field(default=None, description="Only the text before this separator")
    pattern: str | None = Field(
        default=None,
        description="Only what this regular expression finds (its group, if it has one); other text stays as it is",
    )
    digest: bool = Field(default=False, description="A short key made of all the raw columns; a missing one is empty")
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
    pseudonym: bool | Literal["already"] | None = Field(
        default=None,
        description="Ids of persons become keyed pseudonyms; already: the source sends pseudonyms; false: kept",
    )
    tier: Literal["P0", "P1", "P2", "P3"] | None = Field(default=None, description="Raises the tier of tables.yml")

    @model_validator(mode="before")
    @classmethod
    def _shorthand(cls, given: Any) -> Any:
        """`ticket_id: 工单号` is `ticket_id: {from: 工单号}`, also of a list; single texts where lists are kept."""
        if isinstance(given, str | list):
            given = {"from": given}
        if isinstance(given, dict):
            given = {
                key: [value] if key in ("from", "format") and not isinstance(value, list) else value
                for key, value in given.items()
            }
            given |= {key: _as_text(given[key]) for key in ("value", "default") if isinstance(given.get(key), float)}
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
            return {_text_or_none(key): _text_or_none(value) for key, value in given.items()}
        return given

    @field_validator("pattern")
    @classmethod
    def _readable(cls, given: str | None) -> str | None:
        if given is not None:
            try:
                re.compile(given)
                pc.match_substring_regex(pa.array([""]), given)  # the engine's own dialect: no look-around
            except (re.error, pa.ArrowInvalid) as error:
                raise ValueError(f"'{given}' is no regular expression: {error}") from None
        return given

    @model_validator(mode="after")
    def _one_origin(self) -> ColumnSpec:
        if (self.value is None) == (not self.sources):
            raise ValueError("give either 'from' (a raw column) or 'value' (a constant)")
        if self.join is not None and len(self.sources) < 2:
            raise ValueError("'join' needs several raw columns in 'from'")
        if self.digest and (self.join is not None or not self.sources):
            raise ValueError("'digest' is made of the raw columns in 'from', without 'join'")
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
    only_with: list[str] = Field(default=[], description="Only rows in which these raw columns have a value")
    split: Split | None = None
    names: list[str] = Field(default=[], description="Raw columns with names of persons: masked in this row's texts")

    @field_validator("where", mode="before")
    @classmethod
    def _where_texts(cls, given: Any) -> Any:
        if not isinstance(given, dict):
            return given
        lists = {key: value if isinstance(value, list) else [value] for key, value in given.items()}
        return {str(key): [_as_text(value) for value in values] for key, values in lists.items()}

    @property
    def is_selective(self) -> bool:
        """Whether rows of the file are left out on purpose."""
        return bool(self.where or self.only_with)

    @property
    def raw_columns(self) -> list[str]:
        """Raw columns this table reads, in order of first use."""
        specs = [*self.columns.values(), *([self.version] if self.version else [])]
        names = [name for spec in specs for name in spec.sources] + list(self.where) + self.only_with
        names += [self.split.column] if self.split else []
        names += self.names
        return [name for name in dict.fromkeys(names) if name not in PSEUDO_COLUMNS]


class FittedMapping(TableMapping):
    """A mapping as far as the columns of one file carry it."""

    absent: list[str] = Field(default=[], description="Columns the file cannot fill; the lake keeps what it has")


class Source(Document):
    """One channel: where its files are, how they are written, and which canonical tables they fill."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]*$")
    title: dict[Literal["en", "zh"], str] = {}
    owner: str
    connector: Literal["files", "sql", "rest", "mail"] = "files"
    files: str | list[str] = Field(
        description="Globs of the files, relative to the workspace; ** looks below, too. A remote channel lands its own"
    )
    members: list[str] = Field(default=[], description="Globs of the files in a zip archive; all that fit when absent")
    sql: SqlSettings | None = None
    rest: RestSettings | None = None
    mail: MailSettings | None = None
    format: Literal["csv", "tsv", "xlsx", "json", "jsonl", "parquet", "transcript"] | None = None
    encoding: str | list[str] | None = Field(
        default=None, description="Of the whole file; several are tried line by line, in this order"
    )
    delimiter: str | None = Field(default=None, min_length=1, max_length=1)
    header_row: int | Literal["find"] | None = Field(
        default=None, description="Line of the header (1 is the first), or find: the line with the mapped names"
    )
    sheet: str | None = None
    sheets: list[str] | Literal["all"] | None = Field(default=None, description="Several sheets, one after the other")
    time_zone: TimeZone = "UTC"
    cadence: str = ""
    fresh_within_hours: float = Field(default=48, gt=0)
    missing: list[str] = [""]
    licence: str = ""
    names: list[str] = Field(default=[], description="Names of persons, for every table of the source")
    tables: dict[str, TableMapping] = Field(min_length=1)

    @model_validator(mode="before")
    @classmethod
    def _lands_in_its_folder(cls, given: Any) -> Any:
        """A remote channel is a source of the files it lands."""
        if isinstance(given, dict) and (ending := LANDING_FORMATS.get(given.get("connector", ""))):
            own = {"files": f"data/raw/{given.get('name')}/*.{ending}", "format": ending}
            return {**{key: value for key, value in given.items() if key not in FILE_KEYS}, **own}
        return given

    @model_validator(mode="before")
    @classmethod
    def _names_for_every_table(cls, given: Any) -> Any:
        if isinstance(given, dict) and given.get("names") and isinstance(given.get("tables"), dict):
            tables = {
                name: {**mapping, "names": [*dict.fromkeys([*given["names"], *mapping.get("names", [])])]}
                if isinstance(mapping, dict)
                else mapping
                for name, mapping in given["tables"].items()
            }
            return {**given, "tables": tables}
        return given

    @classmethod
    def further_problems(cls, content: dict[Any, Any]) -> list[Problem]:
        """Tables and columns that do not exist, and settings that say nothing for their column, channel or format."""
        return [
            *_channel_problems(content),
            *_reading_problems(content),
            *(
                (("tables", *location), message)
                for name, mapping in _keys(content.get("tables")).items()
                for location, message in _mapping_problems(str(name), _keys(mapping))
            ),
        ]

    @property
    def globs(self) -> list[str]:
        """`files` as a list."""
        return [self.files] if isinstance(self.files, str) else self.files

    @property
    def raw_columns(self) -> set[str]:
        """Every raw column that some table reads."""
        return {name for mapping in self.tables.values() for name in mapping.raw_columns}

    @property
    def primary(self) -> str:
        """The table that accounts for malformed rows: the first one."""
        return next(iter(self.tables))

    @property
    def stream(self) -> str:
        """Fingerprint of what a remote channel is asked for; a watermark holds for one stream."""
        settings = self.sql or self.rest or self.mail
        return hashlib.sha256(repr(settings.stream() if settings else []).encode()).hexdigest()[:16]

    def fingerprint(self, workspace: Workspace) -> str:
        """Changes when the mapping or one of its code lists changes."""
        apart = {"title", "owner", "cadence", "fresh_within_hours", "files", "licence", *LANDING_FORMATS}
        digest = hashlib.sha256(self.model_dump_json(exclude=apart, exclude_defaults=True).encode())
        for spec in self._specs():
            if spec.map_file:
                digest.update(repr(sorted(read_code_list(workspace, spec.map_file))).encode())
        return digest.hexdigest()[:16]

    def _specs(self) -> list[ColumnSpec]:
        return [spec for mapping in self.tables.values() for spec in mapping.columns.values()]


# ------------------------------------------------------------------------------- what a schema cannot say


def _keys(content: Any) -> dict[Any, Any]:
    return content if isinstance(content, dict) else {}


def _near(name: str, known: Any) -> str:
    near = difflib.get_close_matches(name, [str(word) for word in known], n=1)
    return f" (did you mean '{near[0]}'?)" if near else f"; {known_names(known, 40)}"


FILE_KEYS = ("encoding", "delimiter", "header_row", "members", "sheet", "sheets")
"""Keys of a source that say how files are written; a remote channel lands files of its own."""


def _channel_problems(content: dict[Any, Any]) -> list[Problem]:
    kind = content.get("connector", "files")
    blocks: list[Problem] = [
        ((name,), f"'{name}' goes with connector: {name}")
        for name in LANDING_FORMATS
        if name in content and name != kind
    ]
    if kind not in LANDING_FORMATS:
        return blocks
    if kind not in content:
        blocks.append((("connector",), f"connector: {kind} needs the block '{kind}'"))
    surplus = [key for key in ("files", "format", *FILE_KEYS) if key in content]
    return blocks + [
        ((key,), f"'{key}' says nothing for connector: {kind}, which lands its own files") for key in surplus
    ]


def _reading_problems(content: dict[Any, Any]) -> Iterator[Problem]:
    """Settings for reading files that cannot be followed."""
    encodings = content.get("encoding")
    for place, name in enumerate(encodings if isinstance(encodings, list) else [encodings]):
        where = ("encoding", place) if isinstance(encodings, list) else ("encoding",)
        if isinstance(name, str) and (wrong := _not_an_encoding(name, alone=not isinstance(encodings, list))):
            yield where, wrong
    for key in ("files", "encoding", "sheets"):
        if content.get(key) == []:
            yield (key,), "the list is empty"
    if isinstance(content.get("header_row"), int) and content["header_row"] < 1:
        yield ("header_row",), "lines are counted from 1"
    if content.get("sheet") is not None and content.get("sheets") is not None:
        yield ("sheets",), "give 'sheet' or 'sheets', not both"
    kind = content.get("format")
    for key, kinds in READING_OPTIONS.items():
        if content.get(key) is not None and kind is not None and kind not in kinds:
            yield (key,), f"'{key}' says nothing for the format '{kind}' (only {', '.join(kinds)})"


READING_OPTIONS = {"encoding": ("csv", "tsv", "jsonl", "json", "transcript"), "delimiter": ("csv", "tsv"),
                   "header_row": ("csv", "tsv", "xlsx"), "sheet": ("xlsx",), "sheets": ("xlsx",)}  # fmt: skip


def _not_an_encoding(name: str, *, alone: bool) -> str:
    """Why text cannot be read by this name, or nothing."""
    try:
        found = codecs.lookup(name).name
        "".encode(found)
    except (LookupError, UnicodeError):
        return f"no encoding '{name}'; e.g. utf-8, gb18030, big5, cp949, cp932, cp1252"
    if not alone and found.startswith(("utf-16", "utf-32", "utf-7")):
        return f"'{name}' cannot stand in a list: its lines do not end where those of the others do"
    return ""


def _mapping_problems(name: str, mapping: dict[Any, Any]) -> Iterator[Problem]:
    if name not in canonical_tables():
        yield (name,), f"no table '{name}'{_near(name, canonical_tables())}"
        return
    table, columns = canonical_tables()[name], _keys(mapping.get("columns"))
    for message in _key_problems(name, table, columns):
        yield (name, "columns"), message
    for column, spec in columns.items():
        for origin in _origins(spec):
            if isinstance(origin, str) and origin.startswith("@") and origin not in PSEUDO_COLUMNS:
                near = _near(origin, PSEUDO_COLUMNS)
                yield (name, "columns", column, "from"), f"no pseudo column '{origin}'{near}"
    parts = [column for column, spec in columns.items() if PART in _origins(spec)]
    if parts and not mapping.get("split"):
        yield (name, "columns", parts[0], "from"), f"{PART} needs 'split', which says what column it is a part of"
    if mapping.get("split") and not parts:
        yield (name, "split"), f"no column is filled from {PART}: every part would give the same row"
    for column, spec in columns.items():
        place = (name, "columns", column)
        if not _is_column(table, str(column)):
            yield place, f"{name} has no column '{column}'{_near(str(column), table.columns)}"
            continue
        for key, message in _spec_problems(table.column(column), _keys(spec)):
            yield (*place, key), message
        for key in ("not_before", "not_after"):
            if (other := _keys(spec).get(key)) and other not in columns:
                yield (*place, key), f"'{other}' is no column of this mapping{_near(str(other), columns)}"


def _is_column(table: Table, name: str) -> bool:
    if name in BOOKKEEPING and name not in table.columns:
        return name == "known_at"
    try:
        return bool(table.column(name))
    except SchemaError:
        return False


def _origins(spec: Any) -> list[Any]:
    origin = spec.get("from") if isinstance(spec, dict) else spec
    return origin if isinstance(origin, list) else [origin]


def _key_problems(name: str, table: Table, columns: dict[Any, Any]) -> Iterator[str]:
    if "known_at" not in columns:
        yield f"{name}.known_at is required: the column that says since when the row is known"
    if table.key in columns:
        return
    if not table.key_from:
        yield f"{name}.{table.key} is required: it is the key"
    for part in table.key_from:
        if part not in columns:
            yield f"{name}.{part} is required: the key is built from it"


OPTIONS_OF_TYPES = {"decimal": ("int", "num"), "factor": ("int", "num"), "offset": ("int", "num"),
                    "format": ("day", "ts"), "time_zone": ("day", "ts"),
                    "case": ("id", "cat", "str", "text"), "prefix": ("id", "cat", "str", "text")}  # fmt: skip


def _spec_problems(column: Column, spec: dict[Any, Any]) -> Iterator[tuple[str, str]]:
    if spec.get("pseudonym") is not None and column.type not in ("id", "cat", "str"):
        yield "pseudonym", f"'pseudonym' says nothing for a column of type '{column.type}' (only id, cat, str)"
    if (raised := spec.get("tier")) and raised < column.tier:
        yield "tier", f"'{raised}' is lower than the column's own tier {column.tier}; a source can only raise it"
    for option, types in OPTIONS_OF_TYPES.items():
        if option in spec and column.type not in types:
            yield option, f"'{option}' says nothing for a column of type '{column.type}' (only {', '.join(types)})"
    formats = spec.get("format", [])
    for name in formats if isinstance(formats, list) else [formats]:
        if isinstance(name, str) and name not in NAMED_FORMATS and "%" not in name:
            yield "format", f"'{name}' is no format; give {', '.join(NAMED_FORMATS)} or a pattern such as %Y-%m-%d"
    constants = [(key, spec[key]) for key in ("value", "default", "min", "max") if spec.get(key) is not None]
    seen: dict[str, Any] = {}
    for key, target in _keys(spec.get("map")).items():
        constants.append(("map", target))
        if seen.setdefault(folded(_as_text(key)), target) != target:
            yield "map", f"'{key}' stands there twice with two meanings (case and width do not count)"
    for key, value in constants:
        if value is not None and not isinstance(value, list | dict) and (wrong := _not_a(column, _as_text(value), key)):
            yield key, wrong


def _not_a(column: Column, text: str, key: str) -> str:
    """Why `text` cannot stand in a column, or nothing."""
    if column.allowed and key not in ("min", "max") and text not in column.allowed:
        return f"'{text}' is not allowed; {known_names(column.allowed, 40)}"
    try:
        if column.type in ("int", "num") and not math.isfinite(float(text)):
            raise ValueError
        if column.type == "int" and key not in ("min", "max"):
            int(text)
        if column.type == "bool" and text.lower() not in TRUE_WORDS + FALSE_WORDS:
            raise ValueError
        if column.type in ("day", "ts"):
            dt.datetime.fromisoformat(text)
    except ValueError:
        return f"'{text}' is no value of type '{column.type}'"
    return ""


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
    paths = {path.stem: path for path in sorted(workspace.sources.glob("*.yml"))}
    wanted = workspace.settings.channels
    unknown = [name for name in wanted if name not in paths]
    if unknown:
        raise SettingsError(
            "workbench.yml",
            f"channels names {', '.join(unknown)}",
            rows=known_names(paths),
            fix=f"add {workspace.sources.name}/<name>.yml, or take the name out",
        )
    return {name: read_source(path, workspace) for name, path in paths.items() if not wanted or name in wanted}


@dataclass(frozen=True, order=True)
class Code:
    """One line of a code list: a value of the source, its meaning, and the first and last day on which it holds."""

    source_value: str
    target_value: str
    valid_from: dt.date = dt.date.min
    valid_to: dt.date = dt.date.max

    @property
    def is_dated(self) -> bool:
        return self.valid_from > dt.date.min or self.valid_to < dt.date.max

    def contradicts(self, other: Code) -> bool:
        """Whether both hold on some day and give the value different meanings."""
        overlap = self.valid_from <= other.valid_to and other.valid_from <= self.valid_to
        return overlap and self.target_value != other.target_value


def read_code_list(workspace: Workspace, name: str) -> list[Code]:
    """A code list of `data/reference/`, in the order of the file.

    Columns: source_value, target_value, and, where meanings change, valid_from and valid_to (YYYY-MM-DD, both days
    included, empty: always). Which line counts is judged by the day of the table's clock.

    Raises
    ------
    SettingsError
        No such file, not UTF-8, it lacks the two columns, a day is none, or a value has two meanings on one day.
    """
    try:
        with (workspace.root / name).open(encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream)
            lines = [(reader.line_num, row) for row in reader]
            header = reader.fieldnames or []
    except OSError as error:
        raise SettingsError(
            name, "no such code list", rows=error.strerror or "", fix="check map_file in the source's YAML"
        ) from None
    except UnicodeDecodeError as error:
        raise SettingsError(name, f"not UTF-8 (byte {error.start})", fix="save the file as UTF-8") from error
    if not {"source_value", "target_value"} <= set(header):
        raise SettingsError(
            name, "lacks the columns source_value, target_value", rows=", ".join(header), fix="name the two columns so"
        )
    codes = [(number, _code(name, number, row)) for number, row in lines]
    if twice := _contradictions(codes):
        raise SettingsError(
            name,
            f"{len(twice)} source values have two meanings on one day (case and width do not count)",
            rows=", ".join(twice[:10]),
            fix="leave one line for each of them, or give them days that do not overlap",
        )
    return [code for _, code in codes]


def read_code_lists(workspace: Workspace, source: Source) -> dict[str, list[Code]]:
    """Every code list the source names, by its file."""
    specs = [spec for mapping in source.tables.values() for spec in mapping.columns.values()]
    return {spec.map_file: read_code_list(workspace, spec.map_file) for spec in specs if spec.map_file}


def _code(name: str, line: int, row: dict[str, str | None]) -> Code:
    days = {}
    for key in ("valid_from", "valid_to"):
        if text := (row.get(key) or "").strip():
            try:
                days[key] = dt.date.fromisoformat(text)
            except ValueError:
                raise SettingsError(
                    f"{name}, line {line}", f"{key} '{text}' is no day", fix="write YYYY-MM-DD, or leave it empty"
                ) from None
    code = Code(row.get("source_value") or "", row.get("target_value") or "", **days)
    if code.valid_to < code.valid_from:
        raise SettingsError(
            f"{name}, line {line}", f"ends {code.valid_to} before it begins {code.valid_from}", fix="mend the two days"
        )
    return code


def _contradictions(codes: list[tuple[int, Code]]) -> list[str]:
    """`value (lines 2, 7)` for every two lines that say different things about one value on one day."""
    meanings: dict[str, list[tuple[int, Code]]] = {}
    found = []
    for line, code in codes:
        seen = meanings.setdefault(folded(code.source_value), [])
        if other := next((number for number, known in seen if known.contradicts(code)), None):
            found.append(f"{code.source_value} (lines {other}, {line})")
        seen.append((line, code))
    return found
