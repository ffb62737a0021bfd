"""Settings of one workspace: `workbench.yml` and the folders it names."""

from __future__ import annotations

import datetime as dt
import os
import zoneinfo
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, field_validator

from aftersales.model.documents import Document, Problem, read_document
from aftersales.model.errors import SettingsError
from aftersales.model.policy import AccessSettings, Role, policy_problems
from aftersales.model.tables import SITE_PREFIX, canonical_tables

FILE_NAME = "workbench.yml"
WORKSPACE_VARIABLE = "AFTERSALES_WORKSPACE"


def _known_zone(name: str) -> str:
    if name not in zoneinfo.available_timezones():
        raise ValueError(f"no time zone '{name}'; examples: Asia/Shanghai, Europe/Berlin, UTC")
    return name


def _memory(text: str) -> str:
    number, unit = text[:-2], text[-2:]
    if unit not in ("MB", "GB") or not number.replace(".", "", 1).isdigit():
        raise ValueError(f"'{text}' is not a size; examples: 800MB, 4GB")
    return text


TimeZone = Annotated[str, AfterValidator(_known_zone)]


class EngineSettings(Document):
    """How much of the machine a query may use."""

    memory: Annotated[str, AfterValidator(_memory)] = "2GB"
    threads: int = Field(default=0, ge=0, description="0: one per core")


class ExchangeSettings(Document):
    """What partners mean by the properties of the claims they exchange with us."""

    repair_date: Literal["reported_at", "failed_at", "received_at", "started_at", "finished_at"] = Field(
        default="reported_at",
        description="Column behind a claim's repairDate; its model says the day the claim was first reported: ask",
    )


class Folders(Document):
    """Where things are, relative to the workspace."""

    sources: str = "data/sources"
    reference: str = "data/reference"
    quality: str = "data/quality"
    lake: str = "data/lake"
    notebooks: str = "notebooks"
    reports: str = "reports/runs"


class PrivacySettings(Document):
    """Where the keys are, what is sealed, and how long personal data are kept."""

    key_file: str = Field(
        default="data/private/pseudonym.key", description="Made at first use; $AFTERSALES_PRIVACY_KEY goes before it"
    )
    keyring: str = Field(default="", description="Service name in the system's keyring that holds the key; empty: none")
    vault: str = Field(default="data/private/vault.db", description="SQLite file with one key per person")
    seal_text: bool = Field(default=True, description="Personal free text lies in the lake under its person's own key")
    tiers: dict[str, Literal["P0", "P1", "P2", "P3"]] = Field(
        default={}, description="table.column -> tier; raises what tables.yml says, never lowers it"
    )
    retention: dict[str, Annotated[int, Field(ge=1)]] = Field(
        default={}, description="table -> months after which personal columns and texts are emptied"
    )

    @field_validator("tiers")
    @classmethod
    def _columns_that_exist(cls, tiers: dict[str, str]) -> dict[str, str]:
        for name, tier in tiers.items():
            table, _, column = name.partition(".")
            spec = canonical_tables().get(table)
            if spec is None or (column not in spec.columns and not column.startswith(SITE_PREFIX)):
                raise ValueError(f"no column '{name}'; write table.column as `aftersales tables` lists them")
            if column in spec.columns and tier < spec.columns[column].tier:
                raise ValueError(f"{name} is {spec.columns[column].tier} already, and a site can only raise it")
        return tiers


class Gates(Document):
    """The least score (0..1) a figure's sources need in each dimension of data quality; 0: no gate.

    Two have a gate by default. An unmapped code takes rows out of their group in silence, so what is left of a group
    is not a fair sample; and a count from a file of which a fifth was rejected is no count. The other three speak for
    themselves elsewhere: gaps in a dimension stop a rate by it, repeated rows never count twice, late rows are unripe.
    """

    mapping_coverage: float = Field(default=0.9, ge=0, le=1)
    validity: float = Field(default=0.8, ge=0, le=1)
    completeness: float = Field(default=0, ge=0, le=1)
    uniqueness: float = Field(default=0, ge=0, le=1)
    timeliness: float = Field(default=0, ge=0, le=1)


class QualitySettings(Document):
    """What data quality is asked for."""

    gates: Gates = Gates()


class WorkbenchFile(Document):
    """The keys of `workbench.yml`."""

    name: str = "After-sales workbench"
    name_zh: str = "售后质量工作台"
    language: Literal["en", "zh"] = "en"
    time_zone: TimeZone = "Asia/Shanghai"
    as_of: str = Field(
        default="",
        pattern=r"^(\d{4}-\d{2}-\d{2})?$",
        description="Fix 'today' for every report, YYYY-MM-DD; empty: now",
    )
    channels: list[str] = Field(default=[], description="Sources that are on; empty: all in the folder")
    register_url: str = Field(default="sqlite:///data/register.db", description="SQLAlchemy URL of the register")
    quality: QualitySettings = QualitySettings()
    engine: EngineSettings = EngineSettings()
    folders: Folders = Folders()
    exchange: ExchangeSettings = ExchangeSettings()
    roles: dict[str, Role] = Field(default={}, description="What each role may see; none: one user, who sees all")
    access: AccessSettings = AccessSettings()
    privacy: PrivacySettings = PrivacySettings()

    @classmethod
    def further_problems(cls, content: dict[Any, Any]) -> list[Problem]:
        """Roles that do not exist."""
        return policy_problems(content)


@dataclass(frozen=True)
class Workspace:
    """A folder with its settings; every path the workbench touches comes from here."""

    root: Path
    settings: WorkbenchFile

    @property
    def sources(self) -> Path:
        return self.root / self.settings.folders.sources

    @property
    def reference(self) -> Path:
        return self.root / self.settings.folders.reference

    @property
    def quality(self) -> Path:
        """Checks that replace the built-in ones, one file a table; the folder need not exist."""
        return self.root / self.settings.folders.quality

    @property
    def lake(self) -> Path:
        return self.root / self.settings.folders.lake

    @property
    def notebooks(self) -> Path:
        return self.root / self.settings.folders.notebooks

    @property
    def reports(self) -> Path:
        return self.root / self.settings.folders.reports

    @property
    def vault(self) -> Path:
        """The keys under which personal text is sealed; never inside the lake."""
        return self.root / self.settings.privacy.vault

    @property
    def cache(self) -> Path:
        """Rebuildable things: spilled queries, the browser's chart library."""
        return self.root / ".cache"

    def end_of_day(self, day: str) -> dt.datetime | None:
        """The last second of `day` (YYYY-MM-DD) on the site's clock; None for an empty text."""
        if not day:
            return None
        try:
            date = dt.date.fromisoformat(day)
        except ValueError:
            raise SettingsError("as_of", f"'{day}' is no date", fix="write YYYY-MM-DD") from None
        zone = zoneinfo.ZoneInfo(self.settings.time_zone)
        return dt.datetime.combine(date, dt.time(23, 59, 59), zone).astimezone(dt.UTC)

    def start_of_day(self, day: dt.date) -> dt.datetime:
        """The instant at which `day` begins on the site's clock, in UTC."""
        zone = zoneinfo.ZoneInfo(self.settings.time_zone)
        return dt.datetime.combine(day, dt.time(), zone).astimezone(dt.UTC)

    @property
    def register_url(self) -> str:
        """The register's URL; a relative SQLite file lies in the workspace."""
        url = self.settings.register_url
        prefix = "sqlite:///"
        if url.startswith(prefix) and not url.startswith(prefix + "/"):
            return f"{prefix}{self.root / url.removeprefix(prefix)}"
        return url


def open_workspace(folder: Path | str | None = None) -> Workspace:
    """The workspace in `folder`, else in $AFTERSALES_WORKSPACE, else the nearest one above the current folder.

    Raises
    ------
    SettingsError
        No `workbench.yml` there, or it breaks its schema.
    """
    root = Path(folder or os.environ.get(WORKSPACE_VARIABLE) or _nearest(Path.cwd())).expanduser().resolve()
    path = root / FILE_NAME
    if not path.is_file():
        raise SettingsError(
            str(root),
            f"no {FILE_NAME} here",
            fix="aftersales init DIR makes a new workspace; --workspace DIR names another one",
        )
    return Workspace(root, read_document(path, WorkbenchFile, where=FILE_NAME))


def _nearest(folder: Path) -> Path:
    return next((place for place in (folder, *folder.parents) if (place / FILE_NAME).is_file()), folder)
