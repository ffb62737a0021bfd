"""Extraction of a table from PostgreSQL: seconds and peak memory against pandas and a plain COPY, in the same run.

    python tests/benchmarks/bench_sql.py [rows]

Starts a PostgreSQL of its own. Passes when 1,000,000 rows are extracted below 1 GB, faster than `pandas.read_sql`
followed by `to_parquet`. COPY to CSV is what the server can do at best: no types, no Parquet.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import psycopg
from measured import Run, measured

sys.path.insert(0, str(Path(__file__).parent.parent))
from postgres import server

MEMORY_MB = 1000.0
OURS = """
import json, sys
from pathlib import Path
from aftersales.collect.connectors import connector
from aftersales.collect.landing import Landing
from aftersales.collect.mapping import catalogue
from aftersales.model.settings import open_workspace
place = open_workspace(sys.argv[1])
source = catalogue(place)["crm"]
with Landing(place.root / "data" / "raw" / "crm", source.stream) as landing:
    print(json.dumps({"rows": connector("sql").fetch(source, place, None, landing).rows}))
"""
PANDAS = """
import json, sys
import pandas as pd, sqlalchemy as sa
frame = pd.read_sql("select * from ticket order by changed_at", sa.create_engine(sys.argv[2]))
frame.to_parquet(sys.argv[1] + "/pandas.parquet")
print(json.dumps({"rows": len(frame)}))
"""
COPY = """
import json, sys
import psycopg
rows = 0
with psycopg.connect(sys.argv[2]) as connection, open(sys.argv[1] + "/copy.csv", "wb") as target:
    with connection.cursor() as cursor, cursor.copy("copy ticket to stdout (format csv, header)") as blocks:
        for block in blocks:
            target.write(block)
        rows = cursor.rowcount
print(json.dumps({"rows": rows}))
"""
TABLE = """
create table ticket as select
  i::bigint as ticket_id, timestamptz '2024-01-01' + i * interval '30 s' as created_at,
  timestamptz '2024-01-01' + i * interval '31 s' as changed_at,
  timestamptz '2024-01-02' + i * interval '30 s' as closed_at,
  'U' || (i * 7919 % 300000) as unit_id, 'C' || (i * 104729 % 200000) as customer,
  (array['open','closed','等待配件','waiting'])[1 + i % 4] as status,
  (array['华东','华南','华北','西南','海外'])[1 + i % 5] as region,
  (i % 97)::numeric(10, 2) as cost, (i % 5)::int as score, i % 3 = 0 as is_repeat,
  '电池漏液 battery leaks ' || md5(i::text) as description,
  jsonb_build_object('line', i % 12, 'fw', '1.' || i % 9) as detail, (i % 1000) / 7.0::float8 as mileage
from generate_series(1::bigint, {rows}) i;
create index on ticket (changed_at);
analyze ticket;
"""
SOURCE = """
name: crm
owner: benchmark
connector: sql
sql: {{url: '{url}', table: ticket, cursor: changed_at}}
tables: {{ticket: {{columns: {{ticket_id: ticket_id, created_at: created_at, known_at: changed_at}}}}}}
"""


def main(rows: int) -> int:
    """0 when the bar is met."""
    with tempfile.TemporaryDirectory(prefix="bench-sql-") as folder, server() as database:
        url = database("bench")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(TABLE.format(rows=rows))
        root = Path(folder)
        (root / "data" / "sources").mkdir(parents=True)
        (root / "workbench.yml").write_text("name: benchmark\n", encoding="utf-8")
        (root / "data" / "sources" / "crm.yml").write_text(SOURCE.format(url=url), encoding="utf-8")
        pandas_url = url.replace("postgresql:", "postgresql+psycopg:")
        runs: dict[str, Run] = {
            "COPY to CSV": measured("-c", COPY, folder, url),
            "workbench": measured("-c", OURS, folder),
            "pandas.read_sql": measured("-c", PANDAS, folder, pandas_url),
        }
    print(f"{rows:,} rows, 14 columns, out of PostgreSQL")
    for name, run in runs.items():
        print(f"  {name:<16} {run.seconds:6.1f} s  (cpu {run.cpu_seconds:5.1f} s)  {run.peak_mb:6.0f} MB")
    ours, pandas, copy = runs["workbench"], runs["pandas.read_sql"], runs["COPY to CSV"]
    same = ours.counts == pandas.counts == copy.counts
    print(f"  pandas takes {pandas.seconds / ours.seconds:.1f} times as long and {pandas.peak_mb / ours.peak_mb:.1f} "
          f"times the memory; we take {ours.seconds / copy.seconds:.1f} times as long as COPY")  # fmt: skip
    print(f"  peak {ours.peak_mb:.0f} MB (at most {MEMORY_MB:.0f}), counts {'equal' if same else 'DIFFER'}")
    return 0 if same and ours.peak_mb < MEMORY_MB and ours.seconds < pandas.seconds else 1


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
