"""Processes of a benchmark: what they counted, how long they took, the most memory they held."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

LOAD = """
import json, sys, time
from aftersales.collect.ingest import ingest_source
from aftersales.collect.mapping import catalogue
from aftersales.model.settings import open_workspace
workspace = open_workspace(sys.argv[1])
names = ("rows_read", "accepted", "rejected", "duplicate", "inserted", "corrected", "unchanged", "skipped")
started = time.perf_counter()
for (d,) in ingest_source(workspace, catalogue(workspace)["crm"], files=sys.argv[2]):
    print(json.dumps({name: getattr(d, name) for name in names} | {"work": time.perf_counter() - started}))
"""
"""Loads one file of the source `crm`; `work` is without the start of the process."""

COPY = """
import json, sys, time
import duckdb
started = time.perf_counter()
connection = duckdb.connect()
connection.execute("set memory_limit='4GB'; set enable_progress_bar=false")
connection.execute(f"copy (select * from {sys.argv[1]}) to '{sys.argv[2]}' (format parquet)")
print(json.dumps({"work": time.perf_counter() - started}))
"""
"""Plain DuckDB: the file as it is, to Parquet; no types, no checks, no keys, no history."""


@dataclass(frozen=True)
class Run:
    """One process that came to its end."""

    counts: dict[str, float]
    seconds: float
    cpu_seconds: float
    peak_mb: float

    @property
    def work(self) -> float:
        """Seconds of the work alone."""
        return float(self.counts["work"])


def measured(*command: str) -> Run:
    """Run a Python process to its end; its last line is JSON."""
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
    out = process.stdout.read() if process.stdout else ""
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{command[0]} ended with {process.returncode}")
    kilobytes = used.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return Run(
        json.loads(out.splitlines()[-1]),
        time.perf_counter() - started,
        used.ru_utime + used.ru_stime,
        kilobytes * 1024 / 1e6,
    )


def fastest(again: Callable[[], None], *command: str, times: int = 2) -> Run:
    """The fastest of some runs: what else runs on the machine can only slow one down."""
    runs = []
    for _ in range(times):
        again()
        runs.append(measured(*command))
    return min(runs, key=lambda run: run.seconds)


def new_workspace(root: Path, source: str, settings: str = "") -> None:
    """A workspace with the source `crm`."""
    (root / "data" / "sources").mkdir(parents=True, exist_ok=True)
    (root / "workbench.yml").write_text(f"name: benchmark\n{settings}", encoding="utf-8")
    (root / "data" / "sources" / "crm.yml").write_text(source, encoding="utf-8")


def emptied(root: Path, *more: str) -> Callable[[], None]:
    """Removes what a run made."""

    def empty() -> None:
        for made in ("data/lake", "data/private", ".cache", *more):
            shutil.rmtree(root / made, ignore_errors=True)

    return empty


def print_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> None:
    """Columns under each other."""
    lines = [header, *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(header))]
    for line in lines:
        print("  " + "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def verdict(bars: Iterable[tuple[str, float, str, float]]) -> int:
    """Print every bar (what, measured, >= or <=, bar) with its verdict; 0 when all hold."""
    missed = 0
    for what, value, sign, bar in bars:
        holds = value >= bar if sign == ">=" else value <= bar
        missed += not holds
        print(f"  {'ok    ' if holds else 'MISSED'} {what}: {value:,.1f} {sign} {bar:g}")
    return 1 if missed else 0
