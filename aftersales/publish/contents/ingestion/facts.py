"""What several sections of the ingestion page ask, asked once per drawing."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from aftersales.collect.checks import check_results, table_checks
from aftersales.collect.codes import coverage, unmapped
from aftersales.collect.drift import drift_of
from aftersales.collect.identity import ProposedPair, list_pairs, pairs_seen
from aftersales.collect.ledger import fresh_sources, latest_deliveries, set_aside
from aftersales.collect.mapping import Source, catalogue
from aftersales.collect.quality import scores
from aftersales.collect.volume import volume
from aftersales.lake.register import open_register
from aftersales.lake.suppression import is_small
from aftersales.publish.scene import Payload, Scene, message, section

WEEKS = 26
"""Weeks of volume shown and judged."""

ODD = ("too_few", "too_many", "missing")
"""States of a week that wants a look."""


def catalogued(scene: Scene) -> dict[str, Source]:
    """The sources of the workspace."""
    return scene.once("sources", lambda: catalogue(scene.workspace))


def source_title(scene: Scene, name: str) -> str:
    """The name of a source in the reader's language."""
    source = catalogued(scene).get(name)
    return source.title.get(scene.lang, name) if source else name


def of_chosen(scene: Scene, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of the sources that are chosen; of all when none is."""
    chosen = scene.chosen("source")
    return rows[rows["source"].isin(chosen)] if chosen and len(rows) else rows


def chosen_sources(scene: Scene) -> list[str]:
    """Names of the sources looked at, in the order of the catalogue."""
    chosen = scene.chosen("source")
    return [name for name in catalogued(scene) if not chosen or name in chosen]


def all_deliveries(scene: Scene) -> pd.DataFrame:
    """The ledger, one row per file and table."""
    return scene.once("deliveries", lambda: latest_deliveries(scene.snapshot))


def freshness(scene: Scene) -> pd.DataFrame:
    """Every source against its promise."""
    return scene.once("fresh", lambda: fresh_sources(scene.snapshot, catalogued(scene), scene.as_of))


def all_scores(scene: Scene) -> pd.DataFrame:
    """Quality per source and dimension."""
    return scene.once("scores", lambda: scores(scene.snapshot))


def weekly(scene: Scene, name: str) -> pd.DataFrame:
    """Rows of a source per week, against what was to be expected."""
    return scene.once(("weekly", name), lambda: volume(scene.snapshot, name, per="week").tail(WEEKS))


def odd_weeks(scene: Scene) -> pd.DataFrame:
    """Weeks whose volume was not to be expected: `source`, then the columns of `volume`."""
    found = [rows.assign(source=name) for name in chosen_sources(scene) if len(rows := weekly(scene, name))]
    rows = pd.concat(found, ignore_index=True) if found else pd.DataFrame({"source": [], "state": []})
    return rows[rows["state"].isin(ODD)]


def reasons(scene: Scene) -> pd.DataFrame:
    """Why rows and values were set aside."""
    return scene.once("reasons", lambda: set_aside(scene.snapshot, scene.chosen("source")))


def changed_columns(scene: Scene) -> pd.DataFrame:
    """New, missing and renamed columns."""
    return scene.once("drift", lambda: of_chosen(scene, drift_of(scene.snapshot)))


def open_codes(scene: Scene) -> pd.DataFrame:
    """Values that the code lists lack."""
    return scene.once(
        "unmapped", lambda: of_chosen(scene, unmapped(scene.snapshot, catalogued(scene), scene.workspace))
    )


def code_coverage(scene: Scene) -> pd.DataFrame:
    """Share of values the code lists know, per column."""
    return scene.once("coverage", lambda: of_chosen(scene, coverage(scene.snapshot)))


def all_checks(scene: Scene) -> pd.DataFrame:
    """Checks of the tables; to a restricted viewer no small counts, and keys only if single rows may be shown."""

    def read() -> pd.DataFrame:
        rows = of_chosen(scene, check_results(scene.snapshot, table_checks(scene.workspace)))
        access = scene.snapshot.access
        if access is None or rows.empty:
            return rows
        rows = rows[~(is_small(rows["n_failing"], access.smallest) | is_small(rows["n_checked"], access.smallest))]
        return rows if access.shows_rows else rows.assign(examples=pd.Series([()] * len(rows), index=rows.index))

    return scene.once("checks", read)


def open_pairs(scene: Scene) -> Sequence[ProposedPair]:
    """Probable duplicates nobody has decided on, best first."""

    def read() -> list[ProposedPair]:
        with open_register(scene.workspace) as register:
            pairs = list_pairs(register)
        return pairs_seen(scene.snapshot, pairs)

    return scene.once("pairs", read)


def nothing_yet(scene: Scene, id: str, title: str) -> Payload:
    """The section of a lake into which nothing has been loaded."""
    text = scene.say("Nothing has been loaded yet.", "尚未载入任何数据。")
    return section(scene, id, title, message=message("empty", text, "aftersales ingest"))
