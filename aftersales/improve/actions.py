"""Actions (CAPA): what was decided, for which part of the field, who does it, and every change since.

An import compares three values of each field: the file's, the register's, and the one the last import took. What
only the file changed is taken over; what only a person changed stays; what both changed is reported.
"""

from __future__ import annotations

import csv
import dataclasses
import datetime as dt
import difflib
import io
import json
import math
import zoneinfo
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from aftersales.lake.register import (
    ACTION_STATES,
    Action,
    ActionChange,
    ChangedMeanwhileError,
    Register,
    UnknownActionError,
)
from aftersales.model.errors import ParameterError, SourceError, known_names

ENDED = ("cancelled", "closed")
DONE = ("implemented", "closed")
TEXTS = ("title", "title_zh", "kind", "issue", "owner", "team", "state", "failure_mode", "metric", "note")
DAYS = ("due_at", "implemented_at", "review_at")
CHANGEABLE = (*TEXTS, *DAYS, "scope", "target_value")
SCOPE_COLUMNS = ("dimension", "value", "cut_dimension", "before", "after")
REQUIRED_COLUMNS = ("action_id", "title")
CSV_COLUMNS = ("action_id", *TEXTS, "created_at", *DAYS, "target_value", *SCOPE_COLUMNS)
PROBLEMS_SHOWN = 50


@dataclass(frozen=True)
class Scope:
    """The part of the field an action touches, and the cut between before and after.

    Units whose `dimension` is `value` are concerned (both empty: all units). Along `cut_dimension` the groups `before`
    were made without the action, `after` with it (all empty: the cut is the day of implementation).

    Examples
    --------
    >>> Scope("supplier", "S07", "batch", before=("2022Q2",), after=("2022Q3", "2022Q4")).after
    ('2022Q3', '2022Q4')
    """

    dimension: str = ""
    value: str = ""
    cut_dimension: str = ""
    before: tuple[str, ...] = ()
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImprovementAction:
    """One action as the register has it; `version` counts its changes and guards the next one.

    `created_at` and `closed_at` are UTC instants; `due_at`, `implemented_at`, `review_at` are days at the site.
    """

    action_id: str
    title: str
    title_zh: str
    kind: str
    issue: str
    owner: str
    team: str
    state: str
    created_at: dt.datetime
    due_at: dt.date | None
    implemented_at: dt.date | None
    review_at: dt.date | None
    closed_at: dt.datetime | None
    failure_mode: str
    scope: Scope | None
    metric: str
    target_value: float | None
    note: str
    version: int


@dataclass(frozen=True)
class Change:
    """One line of an action's history: who changed which field when, from what to what.

    The first line has the field `created` and all values as JSON. `source` is the imported file, or empty.
    """

    action_id: str
    version: int
    changed_at: dt.datetime
    changed_by: str
    source: str
    field: str
    old: str | None
    new: str | None


@dataclass(frozen=True)
class ActionImport:
    """What an import did, by action id; rows_read = added + changed + unchanged."""

    rows_read: int
    added: tuple[str, ...]
    changed: tuple[str, ...]
    unchanged: tuple[str, ...]


def add_action(
    register: Register,
    action_id: str,
    *,
    title: str,
    who: str,
    now: dt.datetime,
    created_at: dt.datetime | None = None,
    **values: Any,
) -> ImprovementAction:
    """The new action, at version 1.

    Parameters
    ----------
    action_id
        Key of the action, any Unicode.
    who, now
        Who adds it and when (with time zone); both stand in the history.
    created_at
        When it was decided; `now` when absent.
    values
        Further fields by name: title_zh, kind, issue, owner, team, state, due_at, implemented_at, review_at,
        failure_mode, scope, metric, target_value, note.

    Raises
    ------
    ParameterError
        The id is taken, a field is unknown or has a value it cannot have; all problems at once.
    """
    values = {"title": title, **values}
    moments = {"now": now, "created_at": created_at or now}
    problems = [*_problems_of_text({"action_id": action_id, "who": who}), *_problems_of_moments(moments)]
    problems += _problems_of(values) or _contradictions({"state": "proposed", **values})
    _refuse(f"action {action_id!r}", problems)
    with register.session() as session:
        if session.get(Action, action_id) is not None:
            raise ParameterError(
                f"action '{action_id}'",
                "there is one of that id already",
                fix="take another id, or change the action that is there",
            )
        row = _insert(session, action_id, values, moments["created_at"], now)
        _record_creation(session, [row], who, now)
        return _public(row)


def change_action(
    register: Register, action_id: str, *, seen_version: int, who: str, now: dt.datetime, **values: Any
) -> ImprovementAction:
    """The action after the change, one version higher; unchanged when it has these values already.

    Parameters
    ----------
    seen_version
        `version` of the action the change was decided on.
    who, now
        Who changes it and when (with time zone); both stand in the history.
    values
        The fields to change, by name. `closed_at` follows the state.

    Raises
    ------
    UnknownActionError
        No action of that id.
    ChangedMeanwhileError
        The action is no longer at `seen_version`; the message names who changed what.
    ParameterError
        A field is unknown, or the action would contradict itself; all problems at once.
    """
    where = f"action {action_id!r}"
    _refuse(where, [*_problems_of_text({"who": who}), *_problems_of_moments({"now": now}), *_problems_of(values)])
    with register.session() as session:
        row = _row(session, action_id)
        if row.version != seen_version:
            raise _changed_meanwhile(session, row, seen_version)
        _refuse(where, _contradictions({**_values(row), **values}))
        _update(session, row, values, who=who, now=now)
        session.flush()
        return _public(row)


def list_actions(
    register: Register,
    *,
    states: Collection[str] = (),
    owner: str = "",
    team: str = "",
    issue: str = "",
    failure_mode: str = "",
) -> list[ImprovementAction]:
    """Actions that meet every condition given, oldest first.

    Raises
    ------
    ParameterError
        An unknown state.
    """
    _refuse("actions", [_state_problem(state) for state in states if state not in ACTION_STATES])
    query = select(Action)
    if states:
        query = query.where(Action.state.in_(states))
    wanted = {"owner": owner, "team": team, "issue": issue, "failure_mode": failure_mode}
    for field, value in wanted.items():
        if value:
            query = query.where(getattr(Action, field) == value)
    with register.reading() as session:
        actions = [_public(row) for row in session.scalars(query)]
    # sorted here: databases sort text by their own rules
    return sorted(actions, key=lambda action: (action.created_at, action.action_id))


def find_action(register: Register, action_id: str) -> ImprovementAction:
    """The action of that id.

    Raises
    ------
    UnknownActionError
        No action of that id; the message names near ones.
    """
    with register.reading() as session:
        return _public(_row(session, action_id))


def action_history(register: Register, action_id: str) -> list[Change]:
    """Every change of the action, oldest first.

    Raises
    ------
    UnknownActionError
        No action of that id.
    """
    with register.reading() as session:
        _row(session, action_id)
        return [_change(row) for row in session.scalars(_changes().where(ActionChange.action_id == action_id))]


def import_actions(register: Register, path_csv: Path | str, who: str, now: dt.datetime) -> ActionImport:
    """Take the actions of a CSV file into the register; the same file again changes nothing.

    Parameters
    ----------
    path_csv
        UTF-8, a header line. Columns action_id and title, and any of title_zh, kind, issue, owner, team, state,
        created_at, due_at, implemented_at, review_at, failure_mode, metric, target_value, note, dimension, value,
        cut_dimension, before, after. Days are YYYY-MM-DD; before and after are lists with `;` between.
        A day in created_at is midnight at the site. Columns the file lacks are left as they are.
    who, now
        Who imports and when (with time zone); both stand in the history.

    Raises
    ------
    SourceError
        The file has problems, or changes what a person has changed too. All of them are listed with their lines,
        and nothing is imported.
    """
    path = Path(path_csv)
    _refuse(path.name, [*_problems_of_text({"who": who}), *_problems_of_moments({"now": now})])
    lines, problems = _read_lines(path, register.time_zone)
    with register.session() as session:
        rows = {row.action_id: row for row in session.scalars(select(Action))}
        imported = _imported_values(session)
        plans: dict[str, dict[str, Any]] = {}
        for line, values in lines:
            action_id = values["action_id"]
            row, base = rows.get(action_id), imported.get(action_id, {})
            plan, found = _merge(values, row, base) if row else (values, [])
            found = found or _contradictions({**(_values(row) if row else {"state": "proposed"}), **plan})
            problems += [(line, text) for text in found]
            plans[action_id] = plan
        if problems:
            raise _refused_file(path, problems)
        return _apply(session, plans, rows, path.name, who, now)


# --- one action in the register ---------------------------------------------------------------------------------


def _row(session: Session, action_id: str) -> Action:
    row = session.get(Action, action_id) if _unstorable(action_id) == "" else None
    if row is None:
        known = list(session.scalars(select(Action.action_id)))
        near = difflib.get_close_matches(action_id, known, n=3)
        raise UnknownActionError(
            f"action {action_id!r}",
            f"no such action among {len(known):,}",
            rows=f"near: {', '.join(near)}" if near else known_names(known),
            fix="aftersales action list shows them all",
        )
    return row


def _insert(
    session: Session, action_id: str, values: Mapping[str, Any], created_at: dt.datetime, now: dt.datetime
) -> Action:
    row = Action(action_id=action_id, created_at=created_at.astimezone(dt.UTC))
    for field in TEXTS:
        setattr(row, field, "proposed" if field == "state" else "")
    _set(row, values)
    row.closed_at = now.astimezone(dt.UTC) if row.state in ENDED else None
    session.add(row)
    return row


def _record_creation(session: Session, rows: Iterable[Action], who: str, now: dt.datetime, source: str = "") -> None:
    session.flush()  # the actions first: their history points to them
    for row in rows:
        texts = {field: _as_text(value) for field, value in {**_values(row), "created_at": row.created_at}.items()}
        session.add(_history(row, who, now, source, "created", None, json.dumps(texts, ensure_ascii=False)))


def _update(
    session: Session, row: Action, values: Mapping[str, Any], *, who: str, now: dt.datetime, source: str = ""
) -> bool:
    """Change the row and write its history; False when it has these values already."""
    old = {**_values(row), "closed_at": row.closed_at}
    was_ended = row.state in ENDED
    _set(row, values)
    if (row.state in ENDED) != was_ended:
        row.closed_at = None if was_ended else now.astimezone(dt.UTC)
    new = {**_values(row), "closed_at": row.closed_at}
    changed = [field for field in new if _as_text(old[field]) != _as_text(new[field])]
    if changed:
        session.flush()  # raises the version
    for field in changed:
        session.add(_history(row, who, now, source, field, _as_text(old[field]), _as_text(new[field])))
    return bool(changed)


def _set(row: Action, values: Mapping[str, Any]) -> None:
    for field, value in values.items():
        if field == "scope":
            value = value and dataclasses.asdict(value) | {"before": list(value.before), "after": list(value.after)}
        if field == "target_value" and value is not None:
            value = float(value)
        if field in CHANGEABLE and getattr(row, field) != value:
            setattr(row, field, value)


def _history(
    row: Action, who: str, now: dt.datetime, source: str, field: str, old: str | None, new: str | None
) -> ActionChange:
    return ActionChange(action_id=row.action_id, version=row.version, changed_at=now, changed_by=who, source=source,
                        field=field, old=old, new=new)  # fmt: skip


def _changes() -> Select[ActionChange]:
    return select(ActionChange).order_by(ActionChange.change_id)


def _change(row: ActionChange) -> Change:
    return Change(**{field.name: getattr(row, field.name) for field in dataclasses.fields(Change)})


def _public(row: Action) -> ImprovementAction:
    fields = {field.name: getattr(row, field.name) for field in dataclasses.fields(ImprovementAction)}
    return ImprovementAction(**{**fields, "scope": _scope(row.scope)})


def _scope(stored: Mapping[str, Any] | None) -> Scope | None:
    if stored is None:
        return None
    return Scope(**{**stored, "before": tuple(stored["before"]), "after": tuple(stored["after"])})


def _values(row: Action) -> dict[str, Any]:
    return {field: _scope(row.scope) if field == "scope" else getattr(row, field) for field in CHANGEABLE}


def _as_text(value: Any) -> str | None:
    """A value as the history shows it."""
    if isinstance(value, Scope):
        return json.dumps(dataclasses.asdict(value), ensure_ascii=False)
    if isinstance(value, dt.datetime):
        return value.astimezone(dt.UTC).isoformat()
    if isinstance(value, float | int):
        return repr(float(value))
    return None if value is None else str(value)


def _changed_meanwhile(session: Session, row: Action, seen_version: int) -> ChangedMeanwhileError:
    newer = _changes().where(ActionChange.action_id == row.action_id, ActionChange.version > seen_version)
    rows = [f"version {change.version}: {change.field} by {change.changed_by}, {change.changed_at:%Y-%m-%d %H:%M} UTC"
            for change in session.scalars(newer)]  # fmt: skip
    return ChangedMeanwhileError(
        f"action {row.action_id!r}",
        f"it is at version {row.version}, the change was made on version {seen_version}",
        rows="\n         ".join(rows[-10:]),
        fix="read the action again and repeat the change on what is there now",
    )


# --- what a value may be ------------------------------------------------------------------------------------------


def _refuse(where: str, problems: list[str]) -> None:
    if problems:
        raise ParameterError(
            where,
            f"{len(problems)} {'problem' if len(problems) == 1 else 'problems'}",
            rows="\n         ".join(problems),
            fix="mend them; nothing was changed",
        )


def _problems_of(values: Mapping[str, Any]) -> list[str]:
    return [f"{field}: {problem}" for field, value in values.items() if (problem := _problem(field, value))]


def _problem(field: str, value: Any) -> str:
    """Why `field` cannot have `value`; empty when it can."""
    if field not in CHANGEABLE:
        near = difflib.get_close_matches(field, CHANGEABLE, n=1)
        return f"no such field; did you mean '{near[0]}'?" if near else f"no such field; {known_names(CHANGEABLE, 16)}"
    if field in TEXTS:
        return _text_problem(field, value)
    if value is None:
        return ""
    if field == "scope":
        return "; ".join(_scope_problems(value)) if isinstance(value, Scope) else "not a Scope"
    if field == "target_value":
        is_number = isinstance(value, float | int) and not isinstance(value, bool) and math.isfinite(value)
        return "" if is_number else f"{value!r} is not a finite number"
    return "" if isinstance(value, dt.date) and not isinstance(value, dt.datetime) else f"{value!r} is not a day"


def _text_problem(field: str, value: Any) -> str:
    if not isinstance(value, str):
        return f"{value!r} is not text"
    if field == "state" and value not in ACTION_STATES:
        return _state_problem(value)
    if field in ("title", "action_id", "who") and not value.strip():
        return "is empty"
    return _unstorable(value)


def _state_problem(state: str) -> str:
    return f"no state '{state}'; known: {', '.join(ACTION_STATES)}"


def _unstorable(text: str) -> str:
    """What no database takes: half a surrogate pair; PostgreSQL also refuses NUL."""
    if "\0" in text:
        return f"has a NUL character at position {text.index(chr(0)) + 1}"
    broken = next((place for place, sign in enumerate(text) if "\ud800" <= sign <= "\udfff"), None)
    return "" if broken is None else f"has a broken character at position {broken + 1}"


def _problems_of_text(values: Mapping[str, Any]) -> list[str]:
    return [f"{field}: {problem}" for field, value in values.items() if (problem := _text_problem(field, value))]


def _problems_of_moments(values: Mapping[str, dt.datetime]) -> list[str]:
    return [f"{field}: {value.isoformat()} has no time zone" for field, value in values.items()
            if value.utcoffset() is None]  # fmt: skip


def _scope_problems(scope: Scope) -> Iterable[str]:
    groups = (*scope.before, *scope.after)
    texts = [scope.dimension, scope.value, scope.cut_dimension, *groups]
    yield from dict.fromkeys(problem for text in texts if (problem := _unstorable(text)))
    if bool(scope.dimension) != bool(scope.value):
        yield "dimension and value go together, one is empty"
    if any([scope.cut_dimension, *groups]) and not (scope.cut_dimension and scope.before and scope.after):
        yield "cut_dimension, before and after go together, one is empty"
    if not all(group.strip() for group in groups):
        yield "an empty name in before or after"
    if both := [group for group in scope.before if group in scope.after]:
        yield f"both before and after: {', '.join(both)}"


def _contradictions(values: Mapping[str, Any]) -> list[str]:
    """What cannot be true of one action at the same time."""
    problems = []
    implemented, review = values.get("implemented_at"), values.get("review_at")
    if values.get("state") in DONE and implemented is None:
        problems.append(f"implemented_at: an action that is {values['state']} needs the day it was implemented"
                        " (one that was dropped is cancelled)")  # fmt: skip
    if implemented and review and review < implemented:
        problems.append(f"review_at: {review} lies before implemented_at {implemented}")
    return problems


# --- the file -----------------------------------------------------------------------------------------------------

Problems = list[tuple[int, str]]


def _read_lines(path: Path, zone: zoneinfo.ZoneInfo) -> tuple[list[tuple[int, dict[str, Any]]], Problems]:
    """The readable lines of the file with their values, and the problems of the others."""
    reader = csv.reader(io.StringIO(_text_of(path), newline=""), strict=True)
    lines: list[tuple[int, dict[str, Any]]] = []
    problems: Problems = []
    seen: dict[str, int] = {}
    header: list[str] = []
    try:
        while True:
            line = reader.line_num + 1
            cells = next(reader)
            if not any(cell.strip() for cell in cells):
                continue
            if not header:
                header = [cell.strip() for cell in cells]
                if found := _header_problems(header):
                    return [], [(line, text) for text in found]
                continue
            values, found = _read_cells(header, cells, zone)
            action_id = values.get("action_id", "")
            if action_id and action_id in seen:
                found.append(f"action_id: '{action_id}' stands in line {seen[action_id]} already")
            seen.setdefault(action_id, line)
            problems += [(line, text) for text in found]
            if not found:
                lines.append((line, values))
    except StopIteration:
        return lines, problems if header else [(1, "the file is empty; the first line names the columns")]
    except csv.Error as error:
        return lines, [*problems, (max(reader.line_num, 1), f"not readable as CSV: {error}")]


def _text_of(path: Path) -> str:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            return file.read()
    except OSError as error:
        raise SourceError(str(path), f"cannot be read: {error.strerror}", fix="check the name") from error
    except UnicodeDecodeError as error:
        raise SourceError(path.name, f"not UTF-8 (byte {error.start:,})", fix="save the file as CSV UTF-8") from error


def _header_problems(header: list[str]) -> list[str]:
    problems = [f"column '{name}' is missing" for name in REQUIRED_COLUMNS if name not in header]
    problems += [f"column '{name}' is there twice" for name in dict.fromkeys(header) if header.count(name) > 1]
    for name in header:
        if name not in CSV_COLUMNS:
            near = difflib.get_close_matches(name, CSV_COLUMNS, n=1)
            problems.append(f"unknown column '{name}'" + (f" (did you mean '{near[0]}'?)" if near else ""))
    scope = [name for name in SCOPE_COLUMNS if name in header]
    if scope and len(scope) < len(SCOPE_COLUMNS):
        problems.append(f"of the columns {', '.join(SCOPE_COLUMNS)} there are only {', '.join(scope)}")
    return problems


def _read_cells(header: list[str], cells: list[str], zone: zoneinfo.ZoneInfo) -> tuple[dict[str, Any], list[str]]:
    """The values of one line and its problems."""
    if len(cells) != len(header):
        return {}, [f"{len(cells)} cells under {len(header)} columns"]
    row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    values: dict[str, Any] = {}
    problems = _problems_of_text({"action_id": row["action_id"]})
    for field in (name for name in row if name not in ("action_id", *SCOPE_COLUMNS)):
        try:
            values[field] = _parsed(field, row[field], zone)
        except ValueError:
            expected = "a number" if field == "target_value" else "a date, YYYY-MM-DD"
            problems.append(f"{field}: '{row[field]}' is not {expected}")
    if values.get("state") == "":
        del values["state"]  # a blank state is no decision
    if "before" in row:
        scope = Scope(
            row["dimension"], row["value"], row["cut_dimension"], *(_groups(row[c]) for c in SCOPE_COLUMNS[3:])
        )
        values["scope"] = scope if scope != Scope() else None
        problems += [f"{column}: separate the names with ; instead of ；" for column in ("before", "after")
                     if "；" in row[column]]  # fmt: skip
    problems += _problems_of({field: value for field, value in values.items() if field != "created_at"})
    return {"action_id": row["action_id"], **values}, problems


def _parsed(field: str, cell: str, zone: zoneinfo.ZoneInfo) -> Any:
    """The value of a cell; ValueError when it is none of the field's kind."""
    if field in TEXTS:
        return cell
    if not cell:
        return None
    if field == "target_value":
        return float(cell)
    if field in DAYS:
        return dt.date.fromisoformat(cell)
    moment = dt.datetime.fromisoformat(cell)
    return (moment if moment.tzinfo else moment.replace(tzinfo=zone)).astimezone(dt.UTC)


def _groups(cell: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in cell.split(";")) if cell else ()


def _imported_values(session: Session) -> dict[str, dict[str, str | None]]:
    """What earlier imports took from their files: action -> field -> value as in the history."""
    imported: dict[str, dict[str, str | None]] = {}
    for change in session.scalars(_changes().where(ActionChange.source != "")):
        fields = imported.setdefault(change.action_id, {})
        fields.update(json.loads(change.new or "{}") if change.field == "created" else {change.field: change.new})
    return imported


def _merge(values: Mapping[str, Any], row: Action, base: Mapping[str, str | None]) -> tuple[dict[str, Any], list[str]]:
    """The fields to take from the file, and those that a person and the file have both changed."""
    plan: dict[str, Any] = {}
    problems: list[str] = []
    current = {**_values(row), "created_at": row.created_at}
    for field, value in values.items():
        if field == "action_id" or (field == "created_at" and value is None):
            continue
        ours, theirs = _as_text(current[field]), _as_text(value)
        if field in base and theirs == base[field]:
            continue
        if ours == theirs or (field in base and ours == base[field] and field != "created_at"):
            plan[field] = value
        else:
            problems.append(f"{field}: the file has '{theirs or ''}', the register '{ours or ''}'"
                            f" (version {row.version}); write the same in both")  # fmt: skip
    return plan, problems


def _apply(
    session: Session,
    plans: Mapping[str, Mapping[str, Any]],
    rows: Mapping[str, Action],
    source: str,
    who: str,
    now: dt.datetime,
) -> ActionImport:
    new = [
        _insert(session, action_id, plan, plan.get("created_at") or now, now)
        for action_id, plan in plans.items()
        if action_id not in rows
    ]
    _record_creation(session, new, who, now, source)
    changed: list[str] = []
    unchanged: list[str] = []
    for action_id, plan in plans.items():
        if action_id not in rows:
            continue
        row = rows[action_id]
        before = _values(row)
        is_changed = _update(session, row, plan, who=who, now=now, source=source)
        for field, value in plan.items():  # agreed by now, but the last import had another value: remember it
            if field in before and _as_text(before[field]) == _as_text(value):
                text = _as_text(value)
                session.add(_history(row, who, now, source, field, text, text))
        (changed if is_changed else unchanged).append(action_id)
    return ActionImport(len(plans), tuple(row.action_id for row in new), tuple(changed), tuple(unchanged))


def _refused_file(path: Path, problems: Problems) -> SourceError:
    shown = [f"line {line}: {text}" for line, text in sorted(problems)[:PROBLEMS_SHOWN]]
    if len(problems) > PROBLEMS_SHOWN:
        shown.append(f"... and {len(problems) - PROBLEMS_SHOWN:,} more")
    count = f"{len(problems):,} {'problem' if len(problems) == 1 else 'problems'}"
    return SourceError(
        path.name, count, rows="\n         ".join(shown), fix="mend the lines named above; nothing was imported"
    )
