"""How far each source has been fetched and loaded. A watermark moves only after the commit of what it stands for."""

from __future__ import annotations

import datetime as dt
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from aftersales.collect.landing import Cursor, Receipt
from aftersales.lake.commits import Changes, appended
from aftersales.lake.engine import literal
from aftersales.lake.store import SYSTEM_TABLES, Store

if TYPE_CHECKING:
    from deltalake import DeltaTable


@dataclass(frozen=True)
class Watermark:
    """Where a source stands: the cursor its newest loaded fetch ended with, and that fetch's receipt."""

    source: str
    stream: str
    cursor: Cursor
    receipt: str
    moved_at: dt.datetime


def read_watermark(store: Store, source: str) -> Watermark | None:
    """The newest watermark of `source`; None before its first fetch was loaded."""
    if not store.exists("watermark"):
        return None
    rows = store.rows("watermark", f"source = {literal(source)} order by receipt desc, loaded_at desc limit 1")
    for row in rows.to_pylist():
        return Watermark(source, row["stream"], json.loads(row["cursor"]), row["receipt"], row["loaded_at"])
    return None


def move_watermark(store: Store, source: str, receipt: Receipt, moved_at: dt.datetime) -> bool:
    """Whether the watermark of `source` went forward to what `receipt` stands for; it never goes back.

    Call it only when the ledger of the receipt's file has been committed.
    """
    schema = SYSTEM_TABLES["watermark"]
    row = {
        "watermark_id": f"{source}/{receipt.name}",
        "source": source,
        "stream": receipt.stream,
        "cursor": json.dumps(receipt.cursor, ensure_ascii=False, sort_keys=True),
        "receipt": receipt.name,
        "rows": receipt.rows,
        "loaded_at": moved_at,
    }

    def changes(_: DeltaTable) -> Changes | None:
        now = read_watermark(store, source)
        if receipt.cursor is None or (now is not None and now.receipt >= receipt.name):
            return None
        if now is not None and (now.cursor, now.stream) == (receipt.cursor, receipt.stream):
            return None
        return appended(pa.Table.from_pylist([row], schema))

    facts = {"source": source, "file": receipt.file}
    return store.merge("watermark", changes, schema=schema, key="watermark_id", partition=None, message=facts)
