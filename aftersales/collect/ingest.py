"""One delivered file -> canonical tables, quarantine and ledger; the same file again changes nothing.

For every file and table fed: `rows_read = accepted + rejected + duplicate`, and
`accepted = inserted + corrected + unchanged`. The ledger row (`delivery`) is written last: a killed load has none, so
the next run does the file again, and rows that had arrived are found unchanged.
"""

from __future__ import annotations

import datetime as dt
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb

from aftersales.collect.bookkeeping import (
    known_deliveries,
    known_until,
    write_ledger,
    write_measured,
    write_quarantine,
)
from aftersales.collect.checks import expected_columns, table_checks
from aftersales.collect.comparison import closures_query, compare_with_lake, inserts_query, site_columns
from aftersales.collect.connectors.files import check_unchanged, examine, load_raw, matching_files, received_files
from aftersales.collect.connectors.files.fingerprints import Fingerprints
from aftersales.collect.delivery import Delivery, Load, commit_facts
from aftersales.collect.drift import fitted, refused_ledgers
from aftersales.collect.fetch import Report, delivered_files
from aftersales.collect.mapping import FittedMapping, Source, read_code_lists
from aftersales.collect.privacy import install_privacy
from aftersales.collect.quality import delivery_facts, unmapped_values
from aftersales.collect.staging import stage_table
from aftersales.collect.typed import MACROS
from aftersales.lake.commits import Changes
from aftersales.lake.engine import scratch_folder, staging
from aftersales.lake.store import Store, arrow_schema
from aftersales.model.errors import SourceError
from aftersales.model.settings import Workspace
from aftersales.model.tables import canonical_table

if TYPE_CHECKING:
    from deltalake import DeltaTable

__all__ = ["Delivery", "ingest_source"]


def ingest_source(
    workspace: Workspace,
    source: Source,
    *,
    files: str | None = None,
    loaded_at: dt.datetime | None = None,
    report: Report = lambda text: None,
) -> Iterator[list[Delivery]]:
    """Load every file of the source, oldest name first; yields the ledger of each file.

    Parameters
    ----------
    files
        Glob that replaces the one of the source's YAML; a remote channel is then not fetched.
    loaded_at
        The instant that counts as "now".
    report
        Called with the progress of a fetch, in words.

    Raises
    ------
    SourceError
        A file is missing, damaged, or lacks what every table needs. Files before it stay loaded.
    """
    source = source.model_copy(update={"files": files}) if files else source
    store = Store(workspace.lake)
    code_lists, checks = read_code_lists(workspace, source), table_checks(workspace)
    mapping_hash = source.fingerprint(workspace)
    fetched = delivered_files(workspace, store, source, report=report)
    paths = matching_files(source, workspace.root) if files else fetched
    for file in received_files(paths, source, workspace.root, Fingerprints(workspace.cache)):
        load = Load(
            workspace,
            store,
            source,
            file,
            mapping_hash,
            code_lists,
            uuid.uuid4().hex[:12],
            loaded_at or dt.datetime.now(dt.UTC),
            checks,
        )
        known = known_deliveries(load)
        yield known if known else _ingest_file(replace(load, file=examine(load.file, source)))


def _ingest_file(load: Load) -> list[Delivery]:
    try:
        with staging(load.workspace) as connection, scratch_folder(load.workspace) as scratch:
            connection.execute(MACROS)
            install_privacy(connection, load.workspace)
            columns = load_raw(connection, load.file, load.source, scratch)
            found = fitted(load, connection, columns)
            load = replace(load, source=load.source.model_copy(update={"tables": found.tables}))
            ledgers, measured, lacking = [], [], []
            since = known_until(load)
            for name, mapping in found.tables.items():
                ledgers.append(_load_table(load, connection, name, mapping))
                expected = expected_columns(load.checks[name], load.source, name)
                measured += delivery_facts(connection, load.source, name, expected, since)
                lacking += unmapped_values(connection, load.source, name)
            ledgers += refused_ledgers(load, connection, found)
    except (duckdb.Error, OSError) as error:
        raise _not_staged(load, error) from error
    write_measured(load, measured, lacking)
    write_ledger(load, ledgers)
    return ledgers


def _not_staged(load: Load, error: Exception) -> SourceError:
    said = (str(error).splitlines() or [type(error).__name__])[0][:300]
    return SourceError(
        load.file.name,
        f"could not be loaded by {load.source.name}.yml: {said}",
        rows="the last version of every table stays readable",
        fix=f"free disk space below {load.workspace.cache}, or mend the mapping; then run it again",
    )


def _load_table(load: Load, connection: duckdb.DuckDBPyConnection, name: str, mapping: FittedMapping) -> Delivery:
    started = time.perf_counter()
    table = canonical_table(name)
    staged = stage_table(load, connection, name, table, mapping)
    final = staged

    def changes(current: DeltaTable) -> Changes | None:
        nonlocal final
        final = compare_with_lake(load, connection, staged, table, mapping, current)
        if final.inserted + final.corrected == 0:
            return None
        return Changes(connection, inserts_query(load, table, mapping), closures_query() if final.corrected else None)

    check_unchanged(load.file)
    site = site_columns(mapping)
    load.store.merge(
        name, changes, schema=arrow_schema(table, site), key=table.key, partition="yr", message=commit_facts(load)
    )
    if name == load.source.primary:  # what hangs on a rejected row is left out with it
        connection.execute("""
            create or replace temp table rejected_rows as
            select _row from staged where _reasons is not null union select _row from met where what = 'foreign'""")
    write_quarantine(load, connection, name)
    return replace(final, seconds=round(time.perf_counter() - started, 3))
