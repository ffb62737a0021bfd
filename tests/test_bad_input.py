"""Full disks, killed loads, two loads at once: the last good version stays readable, and the next run completes."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import TICKETS, TestWorkspace, csv_text

ROWS = 60_000
BAD = 600
HEADER = ["id", "created", "status", "cost"]

CHILD = """
import os, resource, signal, sys
from aftersales.collect import ingest
from aftersales.collect.mapping import read_source
from aftersales.lake.store import Store
from aftersales.model.errors import AftersalesError
from aftersales.model.settings import open_workspace

workspace = open_workspace(sys.argv[1])
source = read_source(workspace.sources / f"{sys.argv[2]}.yml", workspace)
PREPARE
try:
    for ledgers in ingest.ingest_source(workspace, source, files=sys.argv[3] if len(sys.argv) > 3 else None):
        for d in ledgers:
            print(d.rows_read, d.accepted, d.rejected, d.duplicate, d.inserted)
except AftersalesError as error:
    print(error, file=sys.stderr)
    sys.exit(error.exit_code)
"""


def child(workspace: TestWorkspace, *arguments: str, prepare: str = "") -> subprocess.Popen[str]:
    """A load in a process of its own; `prepare` runs in it before the load."""
    script = CHILD.replace("PREPARE", textwrap.dedent(prepare))
    return subprocess.Popen(
        [sys.executable, "-c", script, str(workspace.root), *arguments],
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finished(process: subprocess.Popen[str], seconds: float = 120) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=seconds)
    return process.returncode, out, err


def rows(first: int, count: int, bad: int = 0, text: str = "open") -> Iterator[list[str]]:
    rng = random.Random(first)
    for i in range(first, first + count):
        day = "never" if i - first < bad else f"202{i % 4}-0{i % 9 + 1}-01"
        yield [f"t{i:07d}", day, f"{text} {rng.getrandbits(64):x}", str(i % 1000)]


def settled(workspace: TestWorkspace) -> None:
    """The first file is in the lake: three good rows."""
    workspace.file("0.csv", csv_text(HEADER, rows(9_000_000, 3)))
    workspace.ingest(workspace.source(), files="data/raw/0.csv")


def keys(workspace: TestWorkspace) -> tuple[int, int]:
    """Current rows, and different keys among them."""
    table = workspace.snapshot().table("ticket")
    return table.count().execute(), table.ticket_id.nunique().execute()


# ----------------------------------------------------------------------------------------------- the disk fills up

WHILE_WRITING = """
from aftersales.lake import store
write = store.write_rows
def full(*given, **more):
    resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, resource.RLIM_INFINITY))
    return write(*given, **more)
store.write_rows = full
"""
WHILE_STAGING = """
from aftersales.lake import engine
engine.STAGING_MEMORY = "25MB"  # so that the load has to spill
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs a limit on the size of files")
@pytest.mark.parametrize(
    ("prepare", "where"),
    [(WHILE_STAGING, "1.csv: could not be loaded by crm.yml"), (WHILE_WRITING, "lake/ticket: could not be written")],
)
@pytest.mark.parametrize("is_new", [True, False])
def test_a_full_disk_ends_in_four_parts_and_the_next_run_completes(
    workspace: TestWorkspace, prepare: str, where: str, is_new: bool
) -> None:
    workspace.source()
    if not is_new:
        settled(workspace)
    workspace.file("1.csv", csv_text(HEADER, rows(0, ROWS, BAD)))
    code, _, err = finished(child(workspace, "crm", "data/raw/1.csv", prepare=prepare))
    message = err.strip().splitlines()[-3:]  # the writer's own threads may have complained before
    assert code == 3, err
    assert message[0].startswith(where), err
    assert [line.split(":")[0].strip() for line in message[1:]] == ["rows", "fix"]
    assert keys(workspace) == ((0, 0) if is_new else (3, 3))
    assert not list((workspace.root / ".cache" / "spill").glob("staging-*"))
    code, out, err = finished(child(workspace, "crm", "data/raw/1.csv"))
    assert (code, out.split()) == (0, [str(ROWS), str(ROWS - BAD), str(BAD), "0", str(ROWS - BAD)]), err
    assert keys(workspace)[0] == keys(workspace)[1] == ROWS - BAD + (0 if is_new else 3)


# ---------------------------------------------------------------------------------------------- the load is killed

AT = {
    "before the data files": "Store._merge_once = lambda *given: os.kill(os.getpid(), signal.SIGKILL)",
    "amid the data files": """
        from aftersales.lake import datafiles
        described = datafiles._described
        datafiles._described = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
        """,
    "between data files and commit": """
        from aftersales.lake import store
        store._commit = lambda *given: os.kill(os.getpid(), signal.SIGKILL)
        """,
    "between data and quarantine": "ingest.write_quarantine = lambda *given: os.kill(os.getpid(), signal.SIGKILL)",
    "between quarantine and ledger": "ingest.write_ledger = lambda *given: os.kill(os.getpid(), signal.SIGKILL)",
}


@pytest.mark.parametrize("point", AT)
def test_a_load_killed_at_a_known_point_is_completed_by_the_next_run(workspace: TestWorkspace, point: str) -> None:
    settled(workspace)
    workspace.file("1.csv", csv_text(HEADER, rows(0, ROWS, BAD)))
    process = child(workspace, "crm", "data/raw/1.csv", prepare=AT[point])
    assert finished(process)[0] == -signal.SIGKILL
    assert keys(workspace)[0] in (3, ROWS - BAD + 3)
    complete(workspace)


def complete(workspace: TestWorkspace) -> None:
    """The next run accounts for every row, and nothing is there twice."""
    code, out, err = finished(child(workspace, "crm", "data/raw/1.csv"))
    assert code == 0, err
    assert out.split()[:4] == [str(ROWS), str(ROWS - BAD), str(BAD), "0"]
    assert keys(workspace) == (ROWS - BAD + 3, ROWS - BAD + 3)
    held = workspace.snapshot().table("quarantine")
    assert (held.count().execute(), held.quarantine_id.nunique().execute()) == (BAD, BAD)
    assert len(workspace.rows("delivery", "delivery_id")) == 2
    assert not list((workspace.root / ".cache" / "spill").glob("staging-*"))


def test_a_load_killed_at_any_moment_is_completed_by_the_next_run(workspace: TestWorkspace) -> None:
    settled(workspace)
    workspace.file("1.csv", csv_text(HEADER, rows(0, ROWS, BAD)))
    rng = random.Random(17)
    for _ in range(6):
        process = child(workspace, "crm", "data/raw/1.csv")
        time.sleep(rng.uniform(0.5, 2.5))
        process.kill()
        process.communicate(timeout=60)
        rows_, keys_ = keys(workspace)
        assert rows_ == keys_
        assert rows_ in (3, ROWS - BAD + 3)
    complete(workspace)


# --------------------------------------------------------------------------------------------------- two at once


def test_two_sources_into_one_table_at_once_lose_nothing(workspace: TestWorkspace) -> None:
    for name, first in (("crm", 0), ("erp", 1_000_000)):
        workspace.source(TICKETS.replace("data/raw/*", f"data/raw/{name}_*"), name)
        for part in range(3):
            workspace.file(f"{name}_{part}.csv", csv_text(HEADER, rows(first + part * 10_000, 10_000, 10)))
    processes = [child(workspace, name) for name in ("crm", "erp")]
    assert [finished(process)[0] for process in processes] == [0, 0]
    assert keys(workspace) == (6 * 9_990, 6 * 9_990)
    assert sorted(workspace.rows("delivery", "accepted")) == [9_990] * 6
    assert workspace.snapshot().table("quarantine").count().execute() == 60


def test_one_source_loaded_twice_at_once_is_loaded_once(workspace: TestWorkspace) -> None:
    workspace.source()
    workspace.file("1.csv", csv_text(HEADER, rows(0, ROWS, BAD)))
    processes = [child(workspace, "crm") for _ in range(2)]
    done = [finished(process) for process in processes]
    assert [code for code, *_ in done] == [0, 0]
    assert [out.split()[:4] for _, out, _ in done] == [[str(ROWS), str(ROWS - BAD), str(BAD), "0"]] * 2
    assert keys(workspace) == (ROWS - BAD, ROWS - BAD)
    assert len(workspace.rows("delivery", "delivery_id")) == 1
    assert workspace.snapshot().table("quarantine").count().execute() == BAD


def test_a_reader_between_two_loads_sees_whole_versions_only(workspace: TestWorkspace) -> None:
    settled(workspace)
    workspace.file("1.csv", csv_text(HEADER, rows(0, ROWS, BAD)))
    process = child(workspace, "crm", "data/raw/1.csv")
    seen = set()
    while process.poll() is None:
        seen.add(keys(workspace)[0])
    assert process.returncode == 0
    process.communicate()
    assert seen <= {3, ROWS - BAD + 3}


# ------------------------------------------------------------------------------------------------ files of a run


def test_a_damaged_file_leaves_the_files_before_it_loaded(workspace: TestWorkspace) -> None:
    workspace.source()
    workspace.file("1.csv", csv_text(HEADER, rows(0, 5)))
    workspace.file("2.csv.gz", b"\x1f\x8b cut off")
    code, out, err = finished(child(workspace, "crm"))
    assert (code, out) == (3, "5 5 0 0 5\n")
    assert err.startswith("2.csv.gz: the compressed file is cut off or damaged")
    assert keys(workspace) == (5, 5)


def test_what_a_killed_load_left_in_the_cache_is_removed_by_the_next(workspace: TestWorkspace) -> None:
    left = workspace.root / ".cache" / "spill" / "staging-999999999-x"
    left.mkdir(parents=True)
    (left / "staging.duckdb").write_bytes(b"x" * 1000)
    settled(workspace)
    assert not left.exists()


def test_no_row_content_is_in_a_message(workspace: TestWorkspace) -> None:
    """A name in the data must not reach a log through an error."""
    source = workspace.source()
    path: Path = workspace.file("1.csv", "id,created,state,price\n1,2024-01-01,Wang Xiaoming,13800138000\n")
    with pytest.raises(Exception, match="lacks 2 of 4 mapped columns") as caught:
        workspace.ingest(source)
    assert "Wang" not in str(caught.value)
    assert "138001" not in str(caught.value)
    assert path.name in str(caught.value)
