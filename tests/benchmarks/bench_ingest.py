"""Loading a million dirty tickets in four formats: against the same rules in pandas, and plain DuckDB that only copies.

    python tests/benchmarks/bench_ingest.py [rows]

The two peers and the workbench run in turn on the same machine in the same minutes; read the ratios. The workbench
types, checks, explains every rejected row, keeps keys and history and commits; so does pandas here, but for the history.
Neither masks nor seals free text in the compared runs; what that costs stands on a line of its own.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from dirty_tickets import SOURCE
from measured import COPY, LOAD, Run, emptied, fastest, measured, new_workspace, print_table, verdict

PLAIN = "privacy: {seal_text: false}\n"
PLAIN_SOURCE = SOURCE.replace("customer_key: customer", "customer_key: {{from: customer, pseudonym: false}}")
SCANS = {
    "csv": "read_csv('{}', all_varchar=true)",
    "parquet": "read_parquet('{}')",
    "jsonl": "read_json('{}', format='newline_delimited')",
}
FLOOR = {"csv": 1.2, "parquet": 0.9, "jsonl": 1.3, "xlsx": 0.5}
"""Times as fast as pandas at least, also where other work keeps a processor busy: the workbench uses all of them,
pandas one. It also explains and masks rejected rows, measures quality and drift, keeps history and commits."""
MEMORY_MB = 1500.0
AGAIN = 20.0
COUNTS = ("rows_read", "accepted", "rejected", "duplicate")


def compared(root: Path, kind: str) -> tuple[list[str], list[tuple[str, float, str, float]], Run]:
    """One format: a line of the table, its bars, and the run of the workbench (the lake is left filled)."""
    file, here = root / f"first.{kind}", Path(__file__).parent
    empty = emptied(root, "pandas")
    pandas = fastest(empty, str(here / "pandas_ingest.py"), str(file), str(root / "pandas"))
    copy = "-"  # DuckDB alone does not read sheets
    if kind in SCANS:
        copy = f"{measured('-c', COPY, SCANS[kind].format(file), str(root / 'copy.parquet')).seconds:.1f} s"
    ours = fastest(empty, "-c", LOAD, str(root), file.name)
    same = all(ours.counts[name] == pandas.counts[name] for name in COUNTS)
    ratio = pandas.seconds / ours.seconds
    line = [
        kind,
        f"{ours.counts['rows_read']:,}",
        f"{pandas.seconds:.1f} s",
        copy,
        f"{ours.seconds:.1f} s",
        f"{ratio:.1f}",
        f"{pandas.cpu_seconds / ours.cpu_seconds:.1f}",
        f"{pandas.peak_mb:.0f}",
        f"{ours.peak_mb:.0f}",
        "equal" if same else "DIFFER",
    ]
    bars = [
        (f"{kind}: times as fast as pandas", ratio, ">=", FLOOR[kind]),
        (f"{kind}: peak MB", ours.peak_mb, "<=", MEMORY_MB),
        (f"{kind}: counts equal", float(same), ">=", 1.0),
    ]
    return line, bars, ours


def main(rows: int) -> int:
    """0 when every bar is met."""
    here = Path(__file__).parent
    with tempfile.TemporaryDirectory(prefix="bench-ingest-") as folder:
        root = Path(folder)
        new_workspace(root, PLAIN_SOURCE.format(files="first.csv"), PLAIN)
        # in a process of its own: what this one once held would count as the memory of its children
        subprocess.run([sys.executable, str(here / "dirty_tickets.py"), folder, str(rows)], check=True)
        lines, bars = [], []
        for kind in ("xlsx", "parquet", "jsonl", "csv"):
            line, found, ours = compared(root, kind)
            lines.append(line)
            bars += found
        again = measured("-c", LOAD, folder, "first.csv")
        (root / "renamed.csv").write_bytes((root / "first.csv").read_bytes())
        renamed = measured("-c", LOAD, folder, "renamed.csv")
        second = measured("-c", LOAD, folder, "second.csv")
        new_workspace(root, SOURCE.format(files="first.csv"))
        emptied(root)()
        sealed = measured("-c", LOAD, folder, "first.csv")
    print(f"{rows:,} rows (xlsx: 50,000), 25 columns; seconds of whole processes, peak MB")
    print_table(
        ["format", "rows", "pandas", "DuckDB COPY", "workbench", "ratio", "of cpu", "MB pandas", "MB", "counts"], lines
    )
    print(f"  the same file again: {again.work:.2f} s of work, {again.seconds:.2f} s with the start of the process")
    print(f"  under a new name: {renamed.work:.2f} s; a tenth of the rows, half of them known: {second.work:.2f} s")
    privacy = sealed.cpu_seconds / ours.cpu_seconds
    print(f"  with pseudonyms, masked and sealed text: {sealed.seconds:.1f} s, {privacy:.1f} times the processor time")
    bars.append(("the same file again, times as fast as the first load", ours.work / again.work, ">=", AGAIN))
    return verdict(bars)


if __name__ == "__main__":
    raise SystemExit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
