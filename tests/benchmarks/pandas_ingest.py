"""The rules of `dirty_tickets.SOURCE` in pandas: what a careful script does without the workbench."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pandas as pd

TYPES = {"故障": "fault", "投诉": "complaint", "咨询": "consultation", "安装": "installation"}
TIMES = {
    "created_at": "created",
    "occurred_at": "occurred",
    "first_reply_at": "first reply",
    "first_resolved_at": "resolved",
    "closed_at": "closed",
    "version_at": "updated",
}
TEXTS = {
    "ticket_id": "Ticket No",
    "customer_key": "customer",
    "unit_id": "serial",
    "product_id": "product",
    "order_id": "order no",
    "channel": "channel",
    "language": "language",
    "symptom_code": "symptom",
    "fault_code": "fault",
    "severity": "severity",
    "status": "status",
    "region": "region",
    "team": "team",
    "description": "text",
}
NUMBERS = {"reassigned_n": "reassigned", "age_days": "age", "cost_total": "cost"}
FLAGS = {"true": True, "yes": True, "1": True, "是": True, "false": False, "no": False, "0": False, "否": False}


WIDE = str.maketrans("".join(map(chr, range(0xFF01, 0xFF5F))) + "\u3000", "".join(map(chr, range(0x21, 0x7F))) + " ")


def narrow(column: pd.Series) -> pd.Series:
    """Codes, numbers and times in narrow characters; only values that have wide ones are touched."""
    wide = column.str.contains("[\uff01-\uff5e\u3000]", na=False)
    return column.where(~wide, column[wide].str.translate(WIDE)) if wide.any() else column


def read(path: Path) -> pd.DataFrame:
    """The file as text."""
    if path.suffix == ".parquet":
        return pd.read_parquet(path)
    if path.suffix == ".jsonl":
        return pd.read_json(path, lines=True, dtype=False).astype(str)
    if path.suffix == ".xlsx":
        return pd.read_excel(path, dtype=str, keep_default_na=False, engine="calamine")
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def load(path: Path, target: Path) -> dict[str, int]:
    """Typed rows and rejected rows as Parquet; the counts."""
    raw = read(path)
    text = raw.apply(lambda column: column.str.strip()).replace("", None)
    text = text.apply(lambda column: column if column.name == "text" else narrow(column))
    rows = pd.DataFrame({name: text[column] for name, column in TEXTS.items()})
    rows["channel"] = rows["channel"].str.lower()
    reasons: dict[str, pd.Series] = {}
    for name, column in TIMES.items():
        local = pd.to_datetime(text[column], format="%Y-%m-%d %H:%M:%S", errors="coerce")
        rows[name] = local.dt.tz_localize("Asia/Shanghai").dt.tz_convert("UTC")
        reasons[f"{name}:type"] = text[column].notna() & rows[name].isna()
    for name, column in NUMBERS.items():
        rows[name] = pd.to_numeric(text[column], errors="coerce")
        reasons[f"{name}:type"] = text[column].notna() & rows[name].isna()
        reasons[f"{name}:below_0"] = rows[name] < 0
    reasons["reassigned_n:type"] |= rows["reassigned_n"] % 1 > 0
    rows["is_reopened"] = text["reopened"].str.lower().map(FLAGS)
    reasons["is_reopened:type"] = text["reopened"].notna() & rows["is_reopened"].isna()
    rows["ticket_type"] = text["type"].map(TYPES)
    reasons["ticket_type:unknown_value"] = text["type"].notna() & rows["ticket_type"].isna()
    reasons["ticket_id:missing"] = text["Ticket No"].isna()
    reasons["created_at:missing"] = text["created"].isna()
    reasons["cost_total:above_100000"] = rows["cost_total"] > 100_000
    reasons["occurred_at:after_created_at"] = rows["occurred_at"] > rows["created_at"]
    reasons["closed_at:before_created_at"] = rows["closed_at"] < rows["created_at"]
    bad = pd.concat(reasons, axis=1).any(axis=1)
    held = raw[bad].copy()
    held["reasons"] = [
        [name for name, hit in zip(reasons, hits, strict=True) if hit]
        for hits in zip(*(column[bad] for column in reasons.values()), strict=True)
    ]
    held["raw"] = [json.dumps(record, ensure_ascii=False) for record in raw[bad].to_dict("records")]
    held[["reasons", "raw"]].to_parquet(target / "quarantine.parquet", index=True)
    good = rows[~bad]
    newest = good.sort_values("version_at", kind="stable").drop_duplicates("ticket_id", keep="last").sort_index()
    newest.assign(yr=newest["created_at"].dt.strftime("%Y"), source_system="crm").to_parquet(
        target / "ticket", partition_cols=["yr"], index=False
    )
    return {
        "rows_read": len(raw),
        "accepted": len(newest),
        "rejected": int(bad.sum()),
        "duplicate": len(good) - len(newest),
    }


if __name__ == "__main__":
    Path(sys.argv[2]).mkdir(parents=True, exist_ok=True)
    print(json.dumps(load(Path(sys.argv[1]), Path(sys.argv[2]))), flush=True)
    os._exit(0)  # Arrow's threads now and then abort a process that ends while they idle
