"""A dirty ticket export for the benchmarks: 25 columns, about 2 % repeated keys, about 1.6 % bad rows, fixed seed."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

SOURCE = """
name: crm
owner: benchmark
files: {files}
time_zone: Asia/Shanghai
tables:
  ticket:
    version: {{from: updated, format: iso}}
    columns:
      ticket_id: Ticket No
      known_at: created
      created_at: created
      occurred_at: {{from: occurred, not_after: created_at}}
      first_reply_at: first reply
      first_resolved_at: resolved
      closed_at: {{from: closed, not_before: created_at}}
      customer_key: customer
      unit_id: serial
      product_id: product
      order_id: order no
      ticket_type: {{from: type, map: {{故障: fault, 投诉: complaint, 咨询: consultation, 安装: installation}}}}
      channel: {{from: channel, case: lower}}
      language: language
      symptom_code: symptom
      fault_code: fault
      severity: severity
      status: status
      region: region
      team: team
      description: text
      is_reopened: reopened
      reassigned_n: reassigned
      age_days: age
      cost_total: {{from: cost, max: 100000}}
"""
"""The source that reads the export; `pandas_ingest.py` follows the same rules."""

SHEET_ROWS = 50_000
COLUMNS = [
    "Ticket No",
    "created",
    "updated",
    "occurred",
    "first reply",
    "resolved",
    "closed",
    "customer",
    "serial",
    "product",
    "order no",
    "type",
    "channel",
    "language",
    "symptom",
    "fault",
    "severity",
    "status",
    "region",
    "team",
    "text",
    "reopened",
    "reassigned",
    "age",
    "cost",
]

PHRASES = [
    "门锁无法开启，电池更换后仍报警",
    "Battery empty after two weeks, lock does not answer",
    "指纹识别慢",
    "安装预约，客户要求周末上门",
    "Noise when closing, see photo",
    "APP 无法连接，已重启路由器",
]


def _times(base: pd.Series, rng: np.random.Generator, hours: float) -> pd.Series:
    return base + pd.to_timedelta((rng.exponential(hours, len(base)) * 3600).astype("int64"), unit="s")


def _text(times: pd.Series) -> pd.Series:
    return times.dt.strftime("%Y-%m-%d %H:%M:%S")


def write_tickets(path: Path, rows: int, *, first: int = 0, seed: int = 7, others: Sequence[str] = ()) -> None:
    """Write `rows` rows whose keys start at `first` as csv, and in the `others` formats."""
    rng = np.random.default_rng(seed)
    unique = rows - rows // 50

    def pick(words: list[str]) -> pd.Series:
        return pd.Series(np.array(words, dtype=object)[rng.integers(0, len(words), unique)])

    def number(prefix: str, top: int) -> pd.Series:
        return prefix + pd.Series(rng.integers(0, top, unique)).astype(str).str.zfill(7)

    start = pd.Timestamp("2022-01-01") + pd.to_timedelta(first, unit="s")
    created = pd.Series(start + pd.to_timedelta(np.sort(rng.integers(0, 3 * 365 * 86400, unique)), unit="s"))
    resolved = _times(created, rng, 30)
    table = pd.DataFrame(
        {
            "Ticket No": "T" + pd.Series(np.arange(first, first + unique)).astype(str).str.zfill(9),
            "created": _text(created),
            "updated": _text(_times(resolved, rng, 5)),
            "occurred": _text(created - pd.to_timedelta(rng.integers(60, 86400, unique), unit="s")),
            "first reply": _text(_times(created, rng, 2)),
            "resolved": _text(resolved),
            "closed": _text(_times(resolved, rng, 24)),
            "customer": number("C", 600_000),
            "serial": number("SN", 900_000),
            "product": number("P", 40),
            "order no": number("O", 3_000_000),
            "type": pick(["故障", "投诉", "咨询", "安装"]),
            "channel": pick(["App", "PHONE", "web", "store"]),
            "language": pick(["zh", "en"]),
            "symptom": number("S", 60),
            "fault": number("F", 90),
            "severity": pick(["low", "mid", "high"]),
            "status": pick(["open", "closed", "waiting"]),
            "region": pick(["华东", "华南", "华北", "西南", "西北"]),
            "team": number("team ", 30),
            "text": pick(PHRASES),
            "reopened": pick(["是", "否", "no", ""]),
            "reassigned": pd.Series(rng.poisson(0.4, unique)).astype(str),
            "age": pd.Series(rng.gamma(2, 200, unique).round(1)).astype(str),
            "cost": pd.Series(rng.gamma(2, 60, unique).round(2)).astype(str),
        }
    )[COLUMNS]
    for column, bad in (
        ("Ticket No", ""),
        ("created", "31/02/2023"),
        ("closed", "2001-01-01 00:00:00"),
        ("type", "???"),
        ("cost", "-5"),
        ("reassigned", "two"),
        ("age", "n/a"),
    ):
        table.loc[rng.choice(unique, int(rows * 0.0023), replace=False), column] = bad
    again = table.iloc[rng.choice(unique, rows - unique, replace=False)].copy()
    again["updated"] = "2026-01-01 00:00:00"
    again["status"] = "closed"
    rows_of_file = pd.concat([table, again]).sample(frac=1, random_state=seed)
    rows_of_file.to_csv(path, index=False)
    for kind in others:
        write_as(rows_of_file, path.with_suffix(f".{kind}"))


def write_as(table: pd.DataFrame, path: Path) -> None:
    """The same rows in another format; a sheet holds the first 50,000."""
    if path.suffix == ".parquet":
        table.to_parquet(path, index=False)
    elif path.suffix == ".jsonl":
        table.to_json(path, orient="records", lines=True, force_ascii=False)
    else:
        table.head(SHEET_ROWS).to_excel(path, index=False, engine="xlsxwriter")


if __name__ == "__main__":
    folder, rows = Path(sys.argv[1]), int(sys.argv[2])
    write_tickets(folder / "first.csv", rows, others=["parquet", "jsonl", "xlsx"])
    write_tickets(folder / "second.csv", rows // 10, first=rows - rows // 20, seed=8)
