"""Ten million rows: memory of the load, and a delivery of corrections against rewriting the table.

    python tests/benchmarks/bench_lake.py [rows]

The rows lie in the file as databases export them, oldest first; the second delivery changes 100,000 of the newest
(one in a hundred, when there are fewer rows). The peer reads the table, puts the same changes in and writes it anew.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from measured import LOAD, emptied, measured, new_workspace, verdict

SOURCE = """
name: crm
owner: benchmark
files: first.parquet
time_zone: UTC
tables:
  ticket:
    version: updated
    columns:
      ticket_id: no
      known_at: created
      created_at: created
      first_resolved_at: resolved
      closed_at: closed
      customer_key: {from: customer, pseudonym: false}
      unit_id: serial
      product_id: product
      symptom_code: symptom
      severity: severity
      status: status
      region: region
      cost_total: cost
"""
ROWS_OF = """
    select 'T' || lpad(i::varchar, 9, '0') as no, t as created, t + interval 30 hour as resolved, {changed} as updated,
           t + interval 50 hour as closed, 'C' || (hash(i) % 600000) as customer, 'SN' || (hash(i, 1) % 3000000) as serial,
           'P' || (hash(i, 2) % 40) as product, 'S' || (hash(i, 3) % 60) as symptom,
           ['low', 'mid', 'high'][1 + (hash(i, 4) % 3)::int] as severity, '{status}' as status,
           ['华东', '华南', '华北', '西南'][1 + (hash(i, 5) % 4)::int] as region, (hash(i, 6) % 100000) / 100 as cost
    from (select i, timestamp '2022-01-01' + interval (i * 94608000 // {rows}) second as t
          from range({first}, {rows}) as r(i))"""
WRITE = """
import sys
import duckdb
duckdb.sql(f"copy ({sys.argv[1]}) to '{sys.argv[2]}' (format parquet)")
"""
REWRITE = """
import json, sys, time
import duckdb
from aftersales.lake.commits import data_files
from aftersales.lake.datafiles import parquet_scan
from aftersales.lake.store import Store
from pathlib import Path
started = time.perf_counter()
scan = parquet_scan(data_files(Store(Path(sys.argv[1])).open("ticket")))
connection = duckdb.connect()
connection.execute("set memory_limit='4GB'; set TimeZone='UTC'; set enable_progress_bar=false")
connection.execute(f"create table change as select no from read_parquet('{sys.argv[2]}')")
connection.execute(f'''
    copy (select c.* replace (case when n.no is null then c.superseded_at else now() end as superseded_at)
          from {scan} as c left join change as n on n.no = c.ticket_id
          union all
          select c.* replace ('closed' as status) from {scan} as c semi join change as n on n.no = c.ticket_id)
    to '{sys.argv[3]}' (format parquet, compression zstd, compression_level 1, partition_by (yr))''')
print(json.dumps({"work": time.perf_counter() - started}))
"""
MEMORY_GB, FASTER, AGAIN = 6.5, 4.0, 20.0


def main(rows: int) -> int:
    """0 when every bar is met."""
    changes = min(100_000, rows // 100)
    with tempfile.TemporaryDirectory(prefix="bench-lake-") as folder:
        root = Path(folder)
        new_workspace(root, SOURCE, "privacy: {seal_text: false}\n")
        first, second = root / "first.parquet", root / "second.parquet"
        old = ROWS_OF.format(first=0, rows=rows, changed="t", status="open")
        new = ROWS_OF.format(first=rows - changes, rows=rows, changed="t + interval 60 hour", status="closed")
        for query, path in ((old, first), (new, second)):
            subprocess.run([sys.executable, "-c", WRITE, query, str(path)], check=True)
        emptied(root)()
        load = measured("-c", LOAD, folder, first.name)
        again = measured("-c", LOAD, folder, first.name)
        rewrite = measured("-c", REWRITE, str(root / "data" / "lake"), str(second), str(root / "rewritten"))
        merge = measured("-c", LOAD, folder, second.name)
        files = [path.stat() for path in (root / "data" / "lake" / "ticket").rglob("*.parquet")]
    print(f"{rows:,} rows, 13 columns from Parquet: {load.work:.1f} s of work, peak {load.peak_mb:,.0f} MB")
    print(f"  {changes:,} changes: merged in {merge.work:.1f} s (peak {merge.peak_mb:,.0f} MB); "
          f"rewriting takes {rewrite.work:.1f} s")  # fmt: skip
    print(f"  {len(files)} data files, {sum(file.st_size for file in files) / 1e6:,.0f} MB with those replaced")
    return verdict(
        [
            ("peak GB of the load", load.peak_mb / 1000, "<=", MEMORY_GB),
            ("rows accepted", load.counts["accepted"], ">=", rows),
            ("rows corrected", merge.counts["corrected"], ">=", changes),
            ("merging, times as fast as rewriting", rewrite.work / merge.work, ">=", FASTER),
            ("the same file again, times as fast as the first load", load.work / again.work, ">=", AGAIN),
        ]
    )


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 10_000_000))
