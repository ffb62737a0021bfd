"""A received file of claims as a raw table: one row a claim, every property as text, ready for a source's YAML.

Nothing is judged here but the structure. What has no column of its own stays in `not_mapped` as JSON, so no property is
lost; parts stand in `parts`, a JSON list that the YAML splits into rows.
"""

from __future__ import annotations

import datetime as dt
import json
import zoneinfo
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import ibis
import pyarrow as pa
import pyarrow.parquet as pq

from aftersales.collect.claims_model import MISSING_WORDS, Findings, Property, breaches, claims_model
from aftersales.collect.json_stream import json_items
from aftersales.lake.engine import literal, path_literal, quoted
from aftersales.lake.store import Snapshot
from aftersales.model.tables import canonical_table

OWN = "aftersales"
"""Key under which values travel that no property can carry."""

BATCH = 2_000
KM_PER_MILE = 1.609344
PART_LISTS = {"claimedParts": "claimed", "spareParts": "spare"}
REPORTED = "reported_at"


def day_text(moment: dt.datetime | dt.date, zone: str) -> str:
    """The day of an instant on the clock of `zone`, or the day itself, as YYYY-MM-DD."""
    if isinstance(moment, dt.datetime):
        moment = moment.astimezone(zoneinfo.ZoneInfo(zone)).date()
    return moment.isoformat()


def _scalars(properties: Mapping[str, Property]) -> list[str]:
    """Properties with a column of their own, those of `workshop` among them."""
    found = [name for name, spec in properties.items() if spec.column and spec.type not in ("object", "list")]
    return found + [inner for spec in properties.values() if spec.type == "object" for inner in _scalars(spec.of)]


def _own_columns() -> tuple[str, ...]:
    """Columns of `repair` no property carries: P2 columns are not among them, they stay at home."""
    carried = {spec.column for spec in claims_model().claim.values()} | {"workshop_id"}
    table = canonical_table("repair")
    return tuple(name for name, spec in table.columns.items() if name not in carried and spec.tier in ("P0", "P1"))


OWN_COLUMNS = _own_columns()
MAPPED = tuple(name for name in _scalars(claims_model().claim) if name != "repairMileage")
RAW_COLUMNS = (*MAPPED, "damageCodeDescription", "mileage_km", REPORTED, "repeat_of", *OWN_COLUMNS, "parts",
               "file_received_at", "not_mapped")  # fmt: skip
_SCHEMA = pa.schema([(name, pa.string()) for name in RAW_COLUMNS])


@dataclass
class Reading:
    """What one pass over a received file finds; `days` and `repeats` tell which claim another one repeats."""

    received_at: str
    repair_date: str
    findings: Findings = field(default_factory=Findings)
    not_mapped: Counter[str] = field(default_factory=Counter)
    days: dict[tuple[str, str], list[str]] = field(default_factory=dict)
    repeats: list[tuple[str, str, str]] = field(default_factory=list)
    undated: int = 0
    claims: int = 0
    parts: int = 0
    withdrawn: int = 0


def write_raw(path: Path, target: Path, reading: Reading) -> None:
    """Write the raw table of a received file to `target`, and note in `reading` what was found.

    Raises
    ------
    SourceError
        No complete JSON document with a list `claims`.
    """
    properties = claims_model().claim
    rows: list[dict[str, str | None]] = []
    with pq.ParquetWriter(target, _SCHEMA, compression="zstd") as writer:
        for name, item in json_items(path, "claims"):
            if name != "claims":
                continue
            reading.claims += 1
            shown = str(item.get("claimId", "")) if isinstance(item, dict) else ""
            reading.findings.note(set(breaches(item, properties)), shown or f"claim {reading.claims}")
            rows.append(_raw_row(item, reading))
            if len(rows) == BATCH:
                writer.write_table(pa.Table.from_pylist(rows, _SCHEMA))
                rows = []
        writer.write_table(pa.Table.from_pylist(rows, _SCHEMA))


def _raw_row(item: Any, reading: Reading) -> dict[str, str | None]:
    """One claim as texts; what no column takes stands in `not_mapped` as JSON."""
    if not isinstance(item, dict):
        return {"not_mapped": json.dumps(item, ensure_ascii=False), "file_received_at": reading.received_at}
    claim = dict(item)
    own, claim["additionalInformationList"] = _own_values(claim.get("additionalInformationList"))
    workshop = claim.pop("workshop", None)
    if isinstance(workshop, dict):
        claim |= {f"workshop.{name}": value for name, value in workshop.items() if name != "workShopId"}
        claim["workShopId"] = workshop.get("workShopId")
    elif workshop is not None:
        claim["workshop"] = workshop
    claim["mileage_km"] = _km(claim)
    lists = {name: claim.pop(name, None) for name in PART_LISTS}
    odd = {name: value for name, value in lists.items() if value is not None and not isinstance(value, list)}
    claim |= {name: value for name, value in own.items() if name in RAW_COLUMNS and name != "parts"}
    if reading.repair_date != REPORTED:
        claim.setdefault(reading.repair_date, claim.get("repairDate"))
    row = {name: _as_text(claim.pop(name, None)) for name in RAW_COLUMNS if name not in ("parts", "not_mapped")}
    parts = [part for name in PART_LISTS for part in _raw_parts(name, lists[name], row, own)]
    left = {name: value for name, value in (claim | odd).items() if value not in (None, []) and name not in MILEAGE}
    reading.not_mapped.update(left.keys())
    reading.parts += len(parts)
    _note_repeat(row, reading)
    return {
        **row,
        "parts": json.dumps(parts, ensure_ascii=False) if parts else None,
        "file_received_at": reading.received_at,
        "not_mapped": json.dumps(left, ensure_ascii=False) if left else None,
    }


MILEAGE = ("repairMileage", "repairMileageUnit")


def _own_values(listed: Any) -> tuple[dict[str, Any], Any]:
    """What a workbench put beside the properties, and the rest of the list."""
    if not isinstance(listed, list):
        return {}, listed
    own: dict[str, Any] = {}
    rest = []
    for item in listed:
        found = None
        if isinstance(item, dict) and item.get("key") == OWN and isinstance(item.get("value"), str):
            try:
                found = json.loads(item["value"])
            except json.JSONDecodeError:
                found = None
        if isinstance(found, dict):
            own |= found
        else:
            rest.append(item)
    return own, rest


def _km(claim: Mapping[str, Any]) -> Any:
    """Kilometres of the mileage counter; -1 means that it was not read."""
    value = claim.get("repairMileage")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value
    if value == -1:
        return None
    return round(value * KM_PER_MILE, 3) if claim.get("repairMileageUnit") == "mi" else value


def _raw_parts(name: str, listed: Any, row: Mapping[str, str | None], own: Mapping[str, Any]) -> list[Any]:
    """Parts of one list with their ids; a part that is no object keeps its text and is rejected by the mapping."""
    beside = own.get(name, [])
    beside = beside if isinstance(beside, list) else []
    found = []
    for place, part in enumerate(listed if isinstance(listed, list) else [], start=1):
        extra = beside[place - 1] if place <= len(beside) and isinstance(beside[place - 1], dict) else {}
        fixed = {
            "part_use_id": f"{row['claimId']}/{PART_LISTS[name]}/{place}",
            "part_role": PART_LISTS[name],
            "claimId": row["claimId"],
            "anonymizedVIN": row["anonymizedVIN"],
            "used_at": row[REPORTED] or row["repairDate"],
            "supplier": part.get("supplierName") if isinstance(part, dict) else None,
        }
        given = part if isinstance(part, dict) else {"part": part}
        found.append({key: value for key, value in {**fixed, **given, **extra}.items() if value is not None})
    return found


def _as_text(value: Any) -> str | None:
    if value is None or isinstance(value, str):
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def _note_repeat(row: Mapping[str, str | None], reading: Reading) -> None:
    key, unit, day, previous = (
        row[name] for name in ("claimId", "anonymizedVIN", "repairDate", "dateOfPreviousRepair")
    )
    reading.withdrawn += row["recordStatus"] == "deleted"
    if key and unit and day:
        reading.days.setdefault((unit, day), []).append(key)
    if key and row["repeat_of"] is None and row["repeatedRepair"] == "true":
        if unit and previous and previous not in MISSING_WORDS:
            reading.repeats.append((key, unit, previous))
        else:
            reading.undated += 1


def resolve_repeats(draft: Path, reading: Reading, snapshot: Snapshot | None, zone: str) -> int:
    """Fill `repeat_of` where exactly one claim of that unit and day (by `zone`) is known; how many stayed open."""
    if not reading.repeats:
        return 0
    held = _held_repairs(reading, snapshot, zone)
    found: dict[str, str] = {}
    for key, unit, day in reading.repeats:
        known = {*reading.days.get((unit, day), []), *held.get((unit, day), [])} - {key}
        if len(known) == 1:
            found[key] = known.pop()
    if found:
        _fill_repeats(draft, found)
    return len(reading.repeats) - len(found)


def _held_repairs(reading: Reading, snapshot: Snapshot | None, zone: str) -> dict[tuple[str, str], list[str]]:
    """Repairs the lake has of the units concerned, by unit and day."""
    if snapshot is None or not snapshot.has_rows("repair"):
        return {}
    units = sorted({unit for _, unit, _ in reading.repeats})
    rows = snapshot.table("repair")
    wanted = ibis.memtable(pa.table({"unit_id": pa.array(units, pa.string())}))
    listed = rows.semi_join(wanted, "unit_id").select("repair_id", "unit_id", at=reading.repair_date).to_pyarrow()
    held: dict[tuple[str, str], list[str]] = {}
    for row in listed.to_pylist():
        if row["at"] is not None:
            held.setdefault((row["unit_id"], day_text(row["at"], zone)), []).append(row["repair_id"])
    return held


def _fill_repeats(draft: Path, found: Mapping[str, str]) -> None:
    filled = draft.with_name(f"{draft.name}2")
    columns = ", ".join(quoted(name) for name in RAW_COLUMNS)
    with duckdb.connect() as connection:
        pairs = pa.table({"key": pa.array(list(found), pa.string()), "of": pa.array(list(found.values()), pa.string())})
        connection.register("pairs", pairs)
        connection.execute("set threads=1")  # the order of the file stays
        connection.execute(
            f"copy (select {columns} from (select r.* exclude (repeat_of), coalesce(r.repeat_of, p.of) as repeat_of "
            f"from read_parquet({path_literal(draft)}, file_row_number=true) as r left join pairs as p "
            f'on p."key" = r."claimId" order by file_row_number)) to {literal(str(filled))} '
            "(format parquet, compression zstd)"
        )
    filled.replace(draft)


def open_repeats(raw: Path, reading: Reading) -> int:
    """Repeats without a predecessor in a raw table that was written before."""
    keys = {key for key, _, _ in reading.repeats}
    rows = pq.read_table(raw, columns=["claimId", "repeat_of"]).to_pylist()
    return sum(row["claimId"] in keys and row["repeat_of"] is None for row in rows)
