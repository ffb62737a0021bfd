"""The files of a source, fetched first where the channel is a remote one. One load of a source at a time."""

from __future__ import annotations

import contextlib
import datetime as dt
from collections.abc import Callable, Iterator
from pathlib import Path

from aftersales.collect.channels import LANDING_FORMATS
from aftersales.collect.connectors import connector
from aftersales.collect.connectors.files import matching_files
from aftersales.collect.landing import RECEIPT, Cursor, Landing, Receipt, landed, read_receipt
from aftersales.collect.mapping import Source
from aftersales.collect.watermark import move_watermark, read_watermark
from aftersales.lake.engine import literal
from aftersales.lake.store import Store
from aftersales.model.errors import AftersalesError, SourceError
from aftersales.model.settings import Workspace

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

Report = Callable[[str], None]


def delivered_files(
    workspace: Workspace, store: Store, source: Source, *, report: Report = lambda text: None
) -> Iterator[Path]:
    """Files to load, oldest first. Asking for the next one says that the ledger of the last one is committed.

    A remote channel is fetched after what an earlier, killed run had landed has been loaded. When the fetch fails on
    the way, what came before is still handed out; then the failure is raised.

    Raises
    ------
    SourceError
        No file matches; or the channel cannot be reached, refuses, or breaks off.
    """
    if source.connector not in LANDING_FORMATS:
        yield from matching_files(source, workspace.root)
        return
    with one_at_a_time(workspace, source.name, report):
        yield from _unloaded(workspace, store, source)
        failure = _fetch(workspace, store, source, report)
        yield from _unloaded(workspace, store, source)
        if failure is not None:
            raise failure


@contextlib.contextmanager
def one_at_a_time(workspace: Workspace, name: str, report: Report = lambda text: None) -> Iterator[None]:
    """Loads of one source wait for each other on this machine; a killed one lets go by itself."""
    workspace.lake.mkdir(parents=True, exist_ok=True)
    with (workspace.lake / f".source-{name}.lock").open("a") as handle:
        if fcntl is not None:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                report(f"{name}: waiting for another load of it")
                fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def landing_folder(workspace: Workspace, source: Source) -> Path:
    """`data/raw/<source>/`."""
    return workspace.root / Path(source.globs[0]).parent


def _unloaded(workspace: Workspace, store: Store, source: Source) -> Iterator[Path]:
    """Landed files that this mapping has not loaded; after each, the watermark follows."""
    loaded = _loaded_files(store, source)
    mapping_hash = source.fingerprint(workspace)
    watermark = read_watermark(store, source.name)
    reached = watermark.receipt if watermark and watermark.stream == source.stream else ""
    for name, path, paper in landed(landing_folder(workspace, source), LANDING_FORMATS[source.connector]):
        receipt = read_receipt(paper) if paper is not None and name > reached else None
        if path is not None and mapping_hash not in loaded.get(path.name, ()):
            yield path
        elif path is None and receipt is not None and receipt.file and receipt.file not in loaded:
            raise _gone(source, receipt)
        if receipt is not None and receipt.stream == source.stream:
            move_watermark(store, source.name, receipt, dt.datetime.now(dt.UTC))


def _loaded_files(store: Store, source: Source) -> dict[str, set[str]]:
    """Files in the ledger, each with the mappings under which it was loaded."""
    found: dict[str, set[str]] = {}
    if store.exists("delivery"):
        for row in store.rows("delivery", f"source = {literal(source.name)}").to_pylist():
            found.setdefault(row["source_file"], set()).add(row["mapping_hash"])
    return found


def _gone(source: Source, receipt: Receipt) -> SourceError:
    return SourceError(
        f"source {source.name}",
        f"the fetched file {receipt.file} is gone before it was loaded",
        rows=f"{receipt.rows:,} rows; its receipt is still there",
        fix=f"put the file back, or delete {receipt.name}{RECEIPT} and those after it: the rows are fetched again",
    )


def _fetch(workspace: Workspace, store: Store, source: Source, report: Report) -> AftersalesError | None:
    """Land what is new; the failure when it broke off."""
    watermark = read_watermark(store, source.name)
    since: Cursor | None = watermark.cursor if watermark and watermark.stream == source.stream else None
    landing = Landing(
        landing_folder(workspace, source),
        source.stream,
        since,
        report=lambda rows: report(f"{source.name}: {rows:,} rows fetched"),
    )
    report(f"{source.name}: fetching")
    try:
        with landing:
            connector(source.connector).fetch(source, workspace, since, landing)
    except AftersalesError as error:
        return error
    return None
