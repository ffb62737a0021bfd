"""Keeping the lake small and quick: small files put together, files that nobody needs removed.

Nothing that a table says changes. Removed are only files that no version names (a writer was killed before its commit)
and files that have been replaced for longer than a page stays open; versions that stored reports cite keep theirs.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from aftersales.lake.commits import bins, commit_files, data_files, named_files, new_files, rewritten, with_retry
from aftersales.lake.datafiles import ROWS_PER_FILE, DataFile, TableFolder
from aftersales.lake.engine import quoted, staging
from aftersales.lake.store import Store
from aftersales.model.errors import ParameterError
from aftersales.model.settings import Workspace

if TYPE_CHECKING:
    import duckdb

SMALL = ROWS_PER_FILE // 2
KEEP_HOURS = 7 * 24
"""How long a page may stay open on a version that has been replaced."""

LONGEST_WRITE_HOURS = 24
"""A file that no version names and that is older was left by a writer that was killed."""


@dataclass(frozen=True)
class Upkeep:
    """What was done to one table."""

    table: str
    files_before: int
    files_after: int
    removed: int
    freed_bytes: int
    version: int


def maintain(
    workspace: Workspace, cited: Iterable[tuple[str, int]] = (), *, keep_hours: float = KEEP_HOURS
) -> list[Upkeep]:
    """Put small files together and remove what nobody needs, in every table; a second run finds nothing to do.

    Parameters
    ----------
    cited
        (table, version) of stored reports: these stay readable.
    keep_hours
        How long replaced files stay for pages that have them open.

    Raises
    ------
    ParameterError
        Less than an hour: a page or a writer on another machine may be at work.
    SourceError
        The disk is full or not writable.
    """
    if keep_hours < 1:
        raise ParameterError(
            "--keep-hours", f"{keep_hours:g} hours could take files away from open pages", fix="give 1 or more"
        )
    store, cited = Store(workspace.lake), list(cited)
    done = []
    with staging(workspace) as connection:
        for name in store.names():
            with store.exclusive(name):
                before = len(data_files(store.open(name)))
                with_retry(functools.partial(_compact, store, name, connection))
                kept = [version for table, version in cited if table == name]
                sizes = _remove_replaced(store, name, kept, keep_hours) + _remove_unnamed(store, name, keep_hours)
                now = store.open(name)
                done.append(Upkeep(name, before, len(data_files(now)), len(sizes), sum(sizes), now.version()))
    return done


def _compact(store: Store, name: str, connection: duckdb.DuckDBPyConnection) -> None:
    """Small files of a partition become one, in the order of the key: a search for keys then skips most of it."""
    current = store.open(name)
    table = store.folder(name, current)
    small = [file for file in named_files(current, table.path).values() if file.rows < SMALL]
    groups = [files for files in bins(small) if len(files) > 1]
    if not groups:
        return
    with new_files(table.path, lambda: store.open(name)) as mark:
        written: list[DataFile] = []
        for files in groups:
            written += rewritten(connection, files, table, mark, lambda rows, left_out: _sorted(rows, left_out, table))
        replaced = [file for files in groups for file in files]
        message = {"upkeep": "small files put together"}
        commit_files(current, written, replaced, message, table.partition, changes_data=False)


def _sorted(rows: str, left_out: str, table: TableFolder) -> str:
    return f"select * exclude ({left_out}) from {rows} order by {quoted(table.key)}"


def _remove_replaced(store: Store, name: str, kept: list[int], keep_hours: float) -> list[int]:
    """Remove files that have been replaced for so long, except those of the versions `kept`; their sizes."""
    current, folder = store.open(name), store.path(name).resolve()
    versions = sorted({version for version in kept if version <= current.version()})

    def vacuum(*, dry_run: bool) -> list[str]:
        hours = int(keep_hours)
        return current.vacuum(
            hours, dry_run=dry_run, enforce_retention_duration=False, full=True, keep_versions=versions or None
        )

    sizes = [path.stat().st_size for path in (folder / file for file in vacuum(dry_run=True)) if path.is_file()]
    if sizes:  # it makes versions of its own, so not without need
        vacuum(dry_run=False)
    return sizes


def _remove_unnamed(store: Store, name: str, keep_hours: float) -> list[int]:
    """Remove what killed writers left behind: files that no version names, now or ever; their sizes."""
    folder = store.path(name).resolve()
    log = folder / "_delta_log"
    if not (log / f"{0:020}.json").is_file():  # the oldest versions cannot be asked any more
        return []
    named = {str(folder / path) for commit in log.glob("*.json") for path in _added_by(commit)}
    named |= set(data_files(store.open(name)))
    before = time.time() - min(keep_hours, LONGEST_WRITE_HOURS) * 3600
    sizes = []
    for path in [*folder.rglob("part-*.parquet"), *log.glob("*.tmp")]:
        facts = path.stat()
        if str(path) not in named and facts.st_mtime < before:
            path.unlink()
            sizes.append(facts.st_size)
    return sizes


def _added_by(commit: Path) -> list[str]:
    actions = [json.loads(line) for line in commit.read_text(encoding="utf-8").splitlines() if line]
    return [action["add"]["path"] for action in actions if "add" in action]
