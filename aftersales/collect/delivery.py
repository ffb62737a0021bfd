"""One delivered file on its way in: what every step needs to know of it, and the ledger of what became of its rows."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from aftersales.collect.checks import TableChecks
from aftersales.collect.connectors.files import ReceivedFile
from aftersales.collect.mapping import Code, Source
from aftersales.lake.store import Store
from aftersales.model.settings import Workspace


@dataclass(frozen=True)
class Delivery:
    """The ledger of one file in one table; counts are rows."""

    source: str
    table: str
    source_file: str
    sha256: str
    mapping_hash: str
    bytes: int
    encoding: str
    place: int = 0
    """Place of the table in the source's YAML; the first one accounts for the rows of the file."""
    rows_read: int = 0
    accepted: int = 0
    rejected: int = 0
    duplicate: int = 0
    left_out: int = 0
    inserted: int = 0
    corrected: int = 0
    unchanged: int = 0
    values_set_aside: int = 0
    refused: str = ""
    """Why nothing of the table could be loaded; its rows are then left out."""
    newest_known_at: dt.datetime | None = None
    loaded_at: dt.datetime | None = None
    seconds: float = 0.0
    ingest_run_id: str = ""
    replay_run_id: str = ""
    """The run that mapped rows of the quarantine again, when the counts include them."""
    skipped: bool = False

    def record(self) -> dict[str, Any]:
        """The ledger as plain values, for output."""
        return {
            name: value.isoformat() if isinstance(value, dt.datetime) else value for name, value in asdict(self).items()
        }

    @property
    def delivery_id(self) -> str:
        replayed = f"/{self.replay_run_id}" if self.replay_run_id else ""
        return f"{self.source}/{self.table}/{self.sha256[:32]}/{self.mapping_hash}{replayed}"


def delivery_of(row: Mapping[str, Any], *, skipped: bool = False) -> Delivery:
    """A row of the table `delivery`; columns it has been given since are at their defaults in older rows."""
    names = [name for name in Delivery.__dataclass_fields__ if row.get(name) is not None]
    return Delivery(**{name: row[name] for name in names}, skipped=skipped)


@dataclass(frozen=True)
class Load:
    """What one run of one file needs to hand from step to step."""

    workspace: Workspace
    store: Store
    source: Source
    file: ReceivedFile
    mapping_hash: str
    code_lists: Mapping[str, Sequence[Code]]
    run_id: str
    loaded_at: dt.datetime
    checks: Mapping[str, TableChecks]

    def ledger(self, table: str, place: int) -> Delivery:
        """The ledger of a table before its rows are counted."""
        return Delivery(
            self.source.name,
            table,
            self.file.name,
            self.file.sha256,
            self.mapping_hash,
            self.file.bytes,
            self.file.encoding,
            place,
            loaded_at=self.loaded_at,
            ingest_run_id=self.run_id,
        )


def commit_facts(load: Load) -> dict[str, str]:
    """What every commit of this load says of itself."""
    return {"source": load.source.name, "file": load.file.name, "run": load.run_id}
