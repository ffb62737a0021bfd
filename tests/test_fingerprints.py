"""A large file that nobody touched is not read again; any change is seen."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path

import pytest
from conftest import TICKETS, TestWorkspace

from aftersales.collect.connectors.files import received
from aftersales.collect.connectors.files.fingerprints import LARGE, Fingerprints
from aftersales.collect.ingest import ingest_source

pytestmark = pytest.mark.skipif(os.name == "nt", reason="the time of an entry's change is not told there")


def large_file(path: Path, first: bytes = b"a") -> str:
    """A large file that has been lying there for a minute; its SHA-256."""
    content = first + b"x" * LARGE
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(autouse=True)
def a_minute_later(monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + 60_000_000_000)


def test_what_was_read_is_known_until_anything_about_the_file_changes(tmp_path: Path) -> None:
    path = tmp_path / "文件.csv"
    digest = large_file(path)
    known = Fingerprints(tmp_path / "cache")
    assert known.of(path) is None
    known.remember(path, path.stat(), digest)
    assert Fingerprints(tmp_path / "cache").of(path) == digest
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    large_file(path, b"b")  # the same size, and the old times put back
    os.utime(path, ns=times)
    assert Fingerprints(tmp_path / "cache").of(path) is None


def test_a_file_that_changed_just_now_or_while_it_was_read_is_not_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    digest, known = large_file(path), Fingerprints(tmp_path / "cache")
    before = path.stat()
    os.utime(path, ns=(1, 1))
    known.remember(path, before, digest)
    assert known.of(path) is None
    monkeypatch.setattr(time, "time_ns", lambda: path.stat().st_ctime_ns + 1_000_000_000)
    known.remember(path, path.stat(), digest)
    assert known.of(path) is None


def test_a_damaged_memory_is_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "fingerprints.json").write_text("[1, 2]")
    path = tmp_path / "a.csv"
    large_file(path)
    assert Fingerprints(tmp_path).of(path) is None


def test_a_large_file_is_read_once_and_its_next_content_is_loaded(
    workspace: TestWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def rows(status: str) -> str:
        return "id,created,status,cost\n" + "".join(f"{i},2024-01-01,{status * 60},1\n" for i in range(60_000))

    reads = []
    taken = received._fingerprint
    monkeypatch.setattr(received, "_fingerprint", lambda stream: reads.append(1) or taken(stream))
    source = workspace.source(TICKETS)
    path = workspace.file("a.csv", rows("x"))
    assert path.stat().st_size > LARGE
    times = path.stat().st_atime_ns, path.stat().st_mtime_ns
    for skipped in (False, True):
        ((delivery,),) = ingest_source(workspace.open(), source)
        assert delivery.skipped == skipped
    assert len(reads) == 1
    path.write_text(rows("y"))
    os.utime(path, ns=times)
    ((delivery,),) = ingest_source(workspace.open(), source)
    assert (delivery.skipped, delivery.corrected, len(reads)) == (False, 60_000, 2)
