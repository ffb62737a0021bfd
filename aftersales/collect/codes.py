"""Code lists at work: what share of the values they know, which values they lack, what those probably mean.

A suggestion is only ever shown. A person accepts it (`accept_code`), which appends a line to the CSV; the next load or
`aftersales ingest --replay` maps the rows again.
"""

from __future__ import annotations

import csv
import datetime as dt
import difflib
import io
import os
import re
import tempfile
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from rapidfuzz import fuzz

from aftersales.collect.mapping import ColumnSpec, Source, folded, read_code_list
from aftersales.collect.quality import by_column, facts
from aftersales.lake.store import Snapshot
from aftersales.model.errors import ParameterError, known_names
from aftersales.model.settings import Workspace

_HAN = re.compile(r"[\u3400-\u9fff\uf900-\ufaff]")
ENOUGH_LIKE, ENOUGH_LIKE_HAN = 72.0, 55.0
"""Least likeness (0..100) worth showing. A Chinese word has two to six characters, each of which weighs more."""

_RUN = ["source", "table", "sha256", "ingest_run_id"]

UNMAPPED_COLUMNS = (
    "source", "table", "column", "map", "otherwise", "value", "rows", "first_seen", "last_seen", "suggestion",
    "score", "because",
)  # fmt: skip


def coverage(snapshot: Snapshot, source: str | None = None) -> pd.DataFrame:
    """Rows mapped of the rows with a value, per source, table and column with a code list; the worst first.

    Columns: source, table, column, map (its CSV, empty: in the source's YAML), costs_row (whether a value it lacks
    costs the row), good, base, share with low and high (95 %).
    """
    return by_column(snapshot, "mapping_coverage", source=source)


def unmapped(
    snapshot: Snapshot, sources: Mapping[str, Source], workspace: Workspace, *, source: str | None = None
) -> pd.DataFrame:
    """Values that a code list lacks, most frequent first, each with what it probably means.

    Parameters
    ----------
    sources
        The source catalogue: its maps are what a value is compared with.

    Returns
    -------
    source, table, column, map, otherwise (what happens to the row: reject, blank or keep), value, rows, first_seen,
    last_seen, suggestion (a target value, or empty), score (0..100, likeness of the words) and because (the known word
    it resembles).
    """
    rows = snapshot.connection.execute(snapshot.versions_of("unmapped"))
    measured = facts(snapshot)  # a file that lacks nothing any more has no row in `unmapped`
    newest = measured[_RUN].drop_duplicates() if len(measured) else measured
    rows = rows.merge(newest, on=_RUN) if len(rows) else rows
    rows = rows[rows["source"] == source] if source else rows
    if rows.empty:
        return pd.DataFrame(columns=list(UNMAPPED_COLUMNS))
    keys = ["source", "table", "column", "map", "otherwise", "value"]
    seen = {"rows": ("rows", "sum"), "first_seen": ("first_seen", "min"), "last_seen": ("last_seen", "max")}
    found = rows.groupby(keys, as_index=False).agg(**seen)
    found = found.sort_values(["rows", *keys], ascending=[False, *[True] * len(keys)], ignore_index=True)
    words = {
        place: known_words(workspace, sources[place[0]], place[1], place[2])
        for place in set(zip(found["source"], found["table"], found["column"], strict=True))
        if place[0] in sources
    }
    likely = [
        next(iter(suggestions(value, words.get((name, table, column), {}))), None)
        for value, name, table, column in zip(
            found["value"], found["source"], found["table"], found["column"], strict=True
        )
    ]
    found["suggestion"] = [best.target if best else "" for best in likely]
    found["score"] = [best.score if best else float("nan") for best in likely]
    found["because"] = [best.because if best else "" for best in likely]
    return found[list(UNMAPPED_COLUMNS)]


# ------------------------------------------------------------------------------------------------ suggestions


@dataclass(frozen=True)
class Suggestion:
    """A target value, how alike the words are (0..100), and the known word that gave it."""

    target: str
    score: float
    because: str


def known_words(workspace: Workspace, source: Source, table: str, column: str) -> dict[str, str]:
    """Word -> target of everything the code list of a column says: its source values, targets and names."""
    mapping = source.tables.get(table)
    spec = mapping.columns.get(column) if mapping else None
    if spec is None:
        return {}
    if not spec.map_file:
        return {**{target: target for target in spec.map.values()}, **spec.map}
    words: dict[str, str] = {}
    for row in _lines(workspace.root / spec.map_file)[1]:
        target = row.get("target_value") or ""
        for key, word in row.items():
            if word and not key.startswith("valid_"):
                words.setdefault(word, target)
    return words


def suggestions(value: str, words: Mapping[str, str], limit: int = 3) -> list[Suggestion]:
    """What a value probably means, the likeliest first, one suggestion a target; none where nothing is alike.

    A word that is the same without blanks, punctuation, width and case scores 100. Others are compared letter by
    letter, words in any order; Chinese is compared with Chinese, character by character.

    Examples
    --------
    >>> words = {"wifi掉线": "wifi_drop", "电机堵转": "motor_stall", "motor stall": "motor_stall"}
    >>> [(found.target, found.score) for found in suggestions("WiFi 掉线", words)]
    [('wifi_drop', 100.0)]
    >>> suggestions("Stalled motor", words)[0].target, suggestions("发霉", words)
    ('motor_stall', [])
    """
    wanted = _bare(value)
    found: dict[str, Suggestion] = {}
    for word, target in words.items():
        score = 100.0 if wanted and _bare(word) == wanted else min(_likeness(value, word), 99.0)
        enough = ENOUGH_LIKE_HAN if _HAN.search(value) else ENOUGH_LIKE
        if score >= enough and (target not in found or found[target].score < score):
            found[target] = Suggestion(target, round(score, 1), word)
    return sorted(found.values(), key=lambda one: (-one.score, one.target))[:limit]


def _bare(text: str) -> str:
    """Letters, digits and characters only, narrow, in lower case."""
    return "".join(c for c in unicodedata.normalize("NFKC", folded(text)) if c.isalnum())


def _likeness(one: str, other: str) -> float:
    left, right = (unicodedata.normalize("NFKC", folded(text)) for text in (one, other))
    left_han, right_han = ("".join(_HAN.findall(text)) for text in (left, right))
    if left_han and right_han:  # a shared character says more than its place
        anywhere = 0.9 * fuzz.ratio("".join(sorted(left_han)), "".join(sorted(right_han)))
        return max(fuzz.ratio(left, right), fuzz.ratio(left_han, right_han), anywhere)
    if left_han or right_han:
        return 0.0
    return max(fuzz.ratio(left, right), fuzz.token_sort_ratio(_spaced(left), _spaced(right)))


def _spaced(text: str) -> str:
    return re.sub(r"[\W_]+", " ", text)


# ----------------------------------------------------------------------------------------------------- accept


def accept_code(
    workspace: Workspace,
    source: Source,
    column: str,
    value: str,
    target: str,
    *,
    since: dt.date | None = None,
    new_target: bool = False,
) -> Path:
    """Append a meaning to the code list of a column, in one step; returns the CSV.

    Parameters
    ----------
    column
        Canonical column, or `table.column` where several tables have it.
    since
        First day on which the meaning holds. One that holds until then ends on the day before.
    new_target
        Whether a target the list does not have yet is meant.

    Raises
    ------
    ParameterError
        The column has no CSV, the target is unknown, or the value has another meaning at the time.
    """
    spec = _spec_of(source, column)
    if not spec.map_file:
        raise ParameterError(
            f"{source.name}.{column}",
            "has its map in the source's YAML, not in a code list",
            fix=f"add '{value}: {target}' to its map there, or move the map to a CSV (map_file)",
        )
    name, path = spec.map_file, workspace.root / spec.map_file
    codes = read_code_list(workspace, name)
    targets = {code.target_value for code in codes}
    if target not in targets and not new_target:
        near = difflib.get_close_matches(target, sorted(targets), n=1)
        raise ParameterError(
            name,
            f"no target '{target}' yet" + (f" (did you mean '{near[0]}'?)" if near else ""),
            rows=known_names(targets, 40),
            fix="use one of them, or say --new",
        )
    columns, lines = _lines(path)
    same = [line for line in lines if folded(line["source_value"]) == folded(value)]
    _end_before(name, value, target, same, since)
    if since and "valid_from" not in columns:
        columns = [*columns, "valid_from", "valid_to"]
    like = next((line for line in lines if line["target_value"] == target), {})
    named = {key: text for key, text in like.items() if not key.startswith("valid_")}
    added = {**named, "source_value": value, "target_value": target, "valid_from": since.isoformat() if since else ""}
    _write(path, columns, [*lines, added])
    return path


def _spec_of(source: Source, column: str) -> ColumnSpec:
    table, _, name = column.rpartition(".")
    having = {
        f"{key}.{name}": mapping.columns[name]
        for key, mapping in source.tables.items()
        if name in mapping.columns and table in ("", key)
    }
    coded = {place: spec for place, spec in having.items() if spec.map or spec.map_file}
    if not coded:
        every = [
            f"{key}.{other}"
            for key, mapping in source.tables.items()
            for other, spec in mapping.columns.items()
            if spec.map or spec.map_file
        ]
        raise ParameterError(
            f"source {source.name}", f"no column '{column}' with a code list", rows=known_names(every, 40),
            fix="use one of them",
        )  # fmt: skip
    if len({spec.map_file for spec in coded.values()}) > 1:
        raise ParameterError(
            f"source {source.name}", f"'{column}' has several code lists", rows=known_names(coded),
            fix="write table.column",
        )  # fmt: skip
    return next(iter(coded.values()))


def _end_before(name: str, value: str, target: str, same: list[dict[str, str]], since: dt.date | None) -> None:
    """End an open meaning of the value on the day before `since`; another one that overlaps is a contradiction."""
    for line in same:
        until = line.get("valid_to") or ""
        if since and not until and (line.get("valid_from") or "") < since.isoformat():
            line["valid_to"] = (since - dt.timedelta(days=1)).isoformat()
        elif not since or not until or until >= since.isoformat():
            raise ParameterError(
                name,
                f"'{value}' already means '{line['target_value']}'",
                rows=f"valid from {line.get('valid_from') or 'ever'} to {until or 'ever'}",
                fix="nothing to do" if line["target_value"] == target else "say from which day on it changed (--from)",
            )


def _lines(path: Path) -> tuple[list[str], list[dict[str, str]]]:
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream)
        rows: list[dict[Any, Any]] = list(reader)
        columns = list(reader.fieldnames or [])
    return columns, [{key: row.get(key) or "" for key in columns} for row in rows]


def _write(path: Path, columns: list[str], lines: Iterable[Mapping[str, str]]) -> None:
    """Replace the CSV at once: readers see the old list or the new one."""
    old = path.read_bytes()
    text = io.StringIO(newline="")
    writer = csv.DictWriter(
        text, columns, extrasaction="ignore", restval="", lineterminator="\r\n" if b"\r\n" in old else "\n"
    )
    writer.writeheader()
    writer.writerows(lines)
    encoding = "utf-8-sig" if old.startswith(b"\xef\xbb\xbf") else "utf-8"
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(text.getvalue().encode(encoding))
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, path.stat().st_mode & 0o777)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
