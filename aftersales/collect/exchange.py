"""Claims to and from partners in the open Fleet Claim Data 3.0.0 model; `fleet_claims.yml` says what is what.

Out: one repair is one claim. What a property cannot carry unchanged (an issue that is no UUID, the minute of a report)
travels beside it in the list the model has for further information, under the key `aftersales`; so what comes back is
what went out. Repairs that cannot be a claim are left out with their reasons.

In: a received file becomes a raw table, one row a claim, in `data/raw/<source>/`; from there the source's YAML loads it
like any other file, with the same quarantine and ledger. The same file again is found loaded.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import json
import os
import re
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from aftersales.collect.claims_model import ClaimsModel, Finding, Findings, Property, breaches, claims_model
from aftersales.collect.claims_raw import (
    BATCH,
    OWN,
    OWN_COLUMNS,
    PART_LISTS,
    REPORTED,
    Reading,
    day_text,
    open_repeats,
    resolve_repeats,
    write_raw,
)
from aftersales.collect.ingest import Delivery, ingest_source
from aftersales.collect.json_stream import replaced_text
from aftersales.collect.mapping import Source
from aftersales.lake.store import Snapshot
from aftersales.model.errors import ParameterError, SourceError
from aftersales.model.settings import Workspace
from aftersales.model.tables import canonical_table

READER = "1"
"""Version of the raw table; another one reads received files anew."""


@dataclass(frozen=True)
class ClaimExport:
    """What was written: repairs = claims + left_out. `reasons` may name one repair several times."""

    path: Path
    repairs: int
    claims: int
    left_out: int
    parts: int
    repair_date: str
    reasons: list[Finding]


@dataclass(frozen=True)
class ClaimImport:
    """What was read, and the ledgers of the tables it went to.

    `breaches` are findings against the model's structure; what is wrong with a value the mapping needs also stands in
    the quarantine. `not_mapped` counts properties that have no column: they are kept in the raw table.
    """

    path: Path
    raw: str
    claims: int
    parts: int
    repeats: int
    repeats_unresolved: int
    withdrawn: int
    repair_date: str
    breaches: list[Finding]
    not_mapped: dict[str, int]
    deliveries: list[Delivery]


# --------------------------------------------------------------------------------------------------------- out


@dataclass(frozen=True)
class ExportOptions:
    """What goes out. `quality_task` is the task of repairs without an issue; comments and own fields stay at home
    unless they are asked for."""

    quality_task: str = ""
    comments: bool = False
    own_fields: bool = False
    issues: Sequence[str] = ()
    start: dt.date | None = None
    end: dt.date | None = None

    def __post_init__(self) -> None:
        if self.quality_task and list(breaches({"t": self.quality_task}, {"t": Property(type="uuid")})):
            raise ParameterError(
                "quality-task", f"'{self.quality_task}' is no UUID", fix="give the task's id as agreed with the partner"
            )


def export_claims(
    snapshot: Snapshot, path: Path, options: ExportOptions | None = None, *, repair_date: str = REPORTED
) -> ClaimExport:
    """Write the repairs as claims to `path` (.json or .json.gz), ordered by id; the same lake gives the same bytes.

    Parameters
    ----------
    repair_date
        The column `repairDate` is filled from. The model describes it as the day the claim was first reported.

    Raises
    ------
    SourceError
        The file cannot be written; what stood there before stays.
    """
    options = options or ExportOptions()
    model, findings = claims_model(), Findings()
    repairs = written = parts = 0
    with replaced_text(path) as stream:
        about = {"selectionCriteria": _criteria(model, options), **_selection(options)}
        stream.write(f'{{"metaInformation": {json.dumps(about, ensure_ascii=False)}, "claims": [')
        for row in _repairs(snapshot, options, repair_date):
            repairs += 1
            claim = _claim(snapshot, row, options, model, repair_date)
            if wrong := set(breaches(claim, model.claim)):
                findings.note(wrong, row["repair_id"])
                continue
            stream.write(("," if written else "") + "\n" + json.dumps(claim, ensure_ascii=False, allow_nan=False))
            written += 1
            parts += sum(len(claim.get(name, [])) for name in PART_LISTS)
        stream.write("\n]}\n")
    return ClaimExport(path, repairs, written, repairs - written, parts, repair_date, findings.listed())


def _criteria(model: ClaimsModel, options: ExportOptions) -> str:
    chosen = f"repairs of {', '.join(options.issues)}" if options.issues else "all repairs"
    return f"{chosen}. Model {model.model}. {model.attribution}"


def _selection(options: ExportOptions) -> dict[str, str]:
    limits = {"selectionStart": (options.start, "T00:00:00"), "selectionEnd": (options.end, "T23:59:59")}
    return {name: f"{day.isoformat()}{time}" for name, (day, time) in limits.items() if day}


def _repairs(snapshot: Snapshot, options: ExportOptions, repair_date: str) -> Iterator[dict[str, Any]]:
    """Repairs with their parts and the day of the repair they repeat, in order of their id."""
    rows = snapshot.table("repair")
    previous = rows.select(previous_id="repair_id", previous_date=repair_date)
    wanted = rows.filter(rows.issue_id.isin(list(options.issues))) if options.issues else rows
    if options.start:
        wanted = wanted.filter(wanted[REPORTED] >= snapshot.midnight(options.start))
    if options.end:
        wanted = wanted.filter(wanted[REPORTED] < snapshot.midnight(options.end + dt.timedelta(days=1)))
    joined = wanted.left_join(previous, wanted.repeat_of == previous.previous_id)
    parts = _parts(snapshot)
    joined = joined.left_join(parts, joined.repair_id == parts.parts_of)
    name = f"claims_{uuid.uuid4().hex}"
    snapshot.connection.create_table(name, joined, temp=True)  # Ibis hands rows out in one piece only
    try:
        rows_in_order = snapshot.connection.con.execute(f"select * from {name} order by repair_id")
        for batch in rows_in_order.to_arrow_reader(BATCH):
            yield from batch.to_pylist()
    finally:
        snapshot.connection.con.execute(f"drop table {name}")


def _parts(snapshot: Snapshot) -> ir.Table:
    rows = snapshot.table("part_use")
    names = [name for name in canonical_table("part_use").columns if name != "repair_id"]
    listed = ibis.struct({name: rows[name] for name in names}).collect(order_by=rows.part_use_id)
    return rows.filter(rows.repair_id.notnull()).group_by(parts_of=rows.repair_id).aggregate(parts=listed)


def _claim(
    snapshot: Snapshot, row: Mapping[str, Any], options: ExportOptions, model: ClaimsModel, repair_date: str
) -> dict[str, Any]:
    """The claim of one repair; a property whose column is empty is absent."""
    own: dict[str, Any] = {REPORTED: _plain(row[REPORTED])}
    claim: dict[str, Any] = {
        "claimId": row["repair_id"],
        "anonymizedVIN": row["unit_id"],
        "qualityTaskId": _task(row["issue_id"], options, own),
        "countryCode": _country(row["country"], model, own),
        "repairDate": _day(snapshot, row[repair_date]),
        "damageCode": row["damage_code"],
        "monthInService": _whole(row["months_in_service"], "monthInService", own),
        "breakdown": row["breakdown"],
        "recordStatus": {"active": "new", "withdrawn": "deleted"}.get(row["record_status"]),
        "workshop": {"workShopId": row["workshop_id"]} if row["workshop_id"] is not None else None,
    }
    if row["mileage_km"] is not None:
        claim |= {"repairMileage": row["mileage_km"], "repairMileageUnit": "km"}
    if row["repeat_of"] is not None:
        claim |= {"repeatedRepair": True, "dateOfPreviousRepair": _day(snapshot, row["previous_date"])}
        own["repeat_of"] = row["repeat_of"]
    if options.comments:
        claim |= {"customerComment": row["customer_comment"], "technicianComment": row["technician_comment"]}
    if options.own_fields:
        own |= {name: _plain(row[name]) for name in OWN_COLUMNS if row[name] is not None}
    claim |= _part_lists(row, options, own)
    claim["additionalInformationList"] = [{"key": OWN, "value": json.dumps(own, ensure_ascii=False)}]
    return {name: value for name, value in claim.items() if value is not None}


def _task(issue: str | None, options: ExportOptions, own: dict[str, Any]) -> str | None:
    """The quality task of an issue: its own id where that is a UUID, else one that always comes from the same id."""
    if issue is None:
        own["qualityTaskId"] = None
        return options.quality_task or None
    if not list(breaches({"t": issue}, {"t": Property(type="uuid")})):
        return issue
    own["qualityTaskId"] = issue
    return str(uuid.uuid5(uuid.NAMESPACE_URL, f"aftersales/issue/{issue}"))


def _country(name: str | None, model: ClaimsModel, own: dict[str, Any]) -> str:
    code = name if name is not None and re.fullmatch("[A-Z]{3}", name) else model.countries.get(name or "", "NULL")
    if code != name:
        own["countryCode"] = name
    return code


def _whole(value: float | None, name: str, own: dict[str, Any]) -> int | None:
    if value is not None and value != int(value):
        own[name] = value
    return None if value is None else round(value)


def _day(snapshot: Snapshot, moment: dt.datetime | dt.date | None) -> str | None:
    return None if moment is None else day_text(moment, snapshot.time_zone)


def _plain(value: Any) -> Any:
    return value.isoformat() if isinstance(value, dt.date | dt.datetime) else value


def _part_lists(row: Mapping[str, Any], options: ExportOptions, own: dict[str, Any]) -> dict[str, Any]:
    """The claimed and the spare parts, and beside each what its properties cannot carry."""
    parts, unit = row["parts"] or [], row["unit_id"]
    found: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        name = "spareParts" if part["part_role"] == "spare" else "claimedParts"
        beside: dict[str, Any] = {"part_use_id": part["part_use_id"], "used_at": _plain(part["used_at"])}
        item = {
            "partName": part["part_name"] or part["part_no"] or "not named",
            "partNumber": part["part_no"],
            "batchNumber": part["part_batch"],
            "serialNumber": part["serial_no"],
        }
        absent = {"partName": part["part_name"], "part_role": part["part_role"]}
        if part["unit_id"] != unit:
            absent["anonymizedVIN"] = part["unit_id"]
        if name == "spareParts":
            item["supplierName"] = part["supplier"]
            beside |= {"isPartCausal": part["is_causal"], "isPartReplaced": part["is_replaced"],
                       "amountOfReplacedParts": part["qty"], "partTreatment": part["treatment"]}  # fmt: skip
        else:
            item |= {"isPartCausal": part["is_causal"], "isPartReplaced": part["is_replaced"],
                     "amountOfReplacedParts": _whole(part["qty"], "amountOfReplacedParts", beside),
                     "partTreatment": part["treatment"]}  # fmt: skip
            beside["supplier"] = part["supplier"]
        if options.own_fields:
            beside["cost"] = part["cost"]
        kept = {key: value for key, value in beside.items() if value is not None}
        kept |= {key: value for key, value in absent.items() if value is None or key == "anonymizedVIN"}
        found.setdefault(name, []).append({key: value for key, value in item.items() if value is not None})
        own.setdefault(name, []).append(kept)
    return found


# ---------------------------------------------------------------------------------------------------------- in


def import_claims(
    workspace: Workspace,
    path: Path,
    source: Source,
    *,
    received_at: dt.datetime,
    snapshot: Snapshot | None = None,
) -> ClaimImport:
    """Read a file of claims, write its raw table and load it by the source's YAML; the same file changes nothing.

    Parameters
    ----------
    received_at
        When the file came: since then its claims are known. A file loaded before keeps its first moment.
    snapshot
        The lake, for repairs that a claim of this file repeats; only claims of the file are looked at without it.

    Raises
    ------
    SourceError
        No complete JSON document with a list `claims`; nothing is loaded.
    """
    repair_date = workspace.settings.exchange.repair_date
    reading = Reading(received_at.astimezone(dt.UTC).isoformat(), repair_date)
    folder = workspace.root / "data" / "raw" / source.name
    folder.mkdir(parents=True, exist_ok=True)
    raw = folder / f"{_stem(path)}-{_digest(path, repair_date)}.parquet"
    draft = raw.with_name(f".{raw.name}.{os.getpid()}.part")
    try:
        write_raw(path, draft, reading)
        unresolved = 0
        if not raw.exists():  # a raw file is never edited
            unresolved = resolve_repeats(draft, reading, snapshot, source.time_zone)
            draft.replace(raw)
        else:
            unresolved = open_repeats(raw, reading)
    finally:
        draft.unlink(missing_ok=True)
    deliveries = [one for ledgers in ingest_source(workspace, source, files=str(raw)) for one in ledgers]
    return ClaimImport(
        path,
        str(raw.relative_to(workspace.root)),
        reading.claims,
        reading.parts,
        len(reading.repeats) + reading.undated,
        unresolved + reading.undated,
        reading.withdrawn,
        repair_date,
        reading.findings.listed(),
        dict(reading.not_mapped.most_common()),
        deliveries,
    )


def _stem(path: Path) -> str:
    name = path.name.removesuffix(".gz").removesuffix(".json")
    return re.sub(r"[^\w.-]+", "_", name)[:60] or "claims"


def _digest(path: Path, repair_date: str) -> str:
    digest = hashlib.sha256(f"{READER}/{repair_date}/".encode())
    try:
        with path.open("rb") as stream:
            while block := stream.read(1 << 20):
                digest.update(block)
    except OSError as error:
        raise SourceError(
            path.name, f"cannot be read: {error.strerror or error}", fix="check that the file is there and its rights"
        ) from error
    return digest.hexdigest()[:16]
