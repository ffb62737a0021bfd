"""Who asked what, and got how much: one row of `access_log` per question, written before the answer is shown.

Rows are gathered while a page or command is drawn and written in one transaction. Where a role restricts the viewer,
an answer that cannot be written down is not given. The question itself stands there as a hash: filters may name
persons.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from aftersales.lake.viewer import Viewer
from aftersales.model.errors import AccessError, AftersalesError
from aftersales.model.settings import Workspace

if TYPE_CHECKING:
    from aftersales.lake.register import Register
    from aftersales.lake.store import Snapshot

RUN_VARIABLE = "AFTERSALES_RUN_ID"
"""The report run a kernel belongs to."""

MOST_PENDING = 5_000


@dataclass
class Asked:
    """One question while it is answered."""

    rows: int = 0
    suppressed: int = 0

    def answered(self, rows: int, suppressed: int = 0) -> None:
        """Note how many rows the answer has, and how many of them are blank."""
        self.rows, self.suppressed = rows, suppressed


_NOT_KEPT = Asked()


class Trail:
    """The questions of one viewer that are still to be written down."""

    def __init__(self, workspace: Workspace, viewer: Viewer, purpose: str = "") -> None:
        self.workspace, self.viewer, self.purpose = workspace, viewer, purpose
        self.run_id = os.environ.get(RUN_VARIABLE, "")
        self._pending: list[dict[str, Any]] = []
        self._register: Register | None = None

    def add(
        self,
        action: str,
        object: str,
        question: Mapping[str, Any],
        tables: Mapping[str, int],
        asked: Asked,
        milliseconds: float,
    ) -> None:
        """Gather one question; `write` keeps it."""
        told = {"action": action, "object": object, "question": question, "tables": tables, "role": self.viewer.role}
        text = json.dumps(told, sort_keys=True, ensure_ascii=False, default=str)
        viewer = self.viewer
        self._pending.append(
            {
                "at": dt.datetime.now(dt.UTC),
                "user": viewer.user,
                "role": viewer.role,
                "administrator": viewer.administrator,
                "run_id": self.run_id,
                "purpose": self.purpose,
                "action": action,
                "object": object,
                "tables": dict(tables),
                "row_count": asked.rows,
                "suppressed_count": asked.suppressed,
                "milliseconds": round(milliseconds, 3),
                "question": hashlib.sha256(text.encode()).hexdigest()[:32],
            }
        )
        if len(self._pending) >= MOST_PENDING:
            self.write()

    def write(self) -> None:
        """Keep what was gathered, in one transaction.

        Raises
        ------
        AccessError
            It cannot be written, and the viewer is restricted: the answer must not be shown.
        """
        if not self._pending:
            return
        from aftersales.lake.register import AccessEntry, open_register

        rows, self._pending = self._pending, []
        try:
            if self._register is None:
                self._register = open_register(self.workspace)
            with self._register.session() as session:
                session.add_all([AccessEntry(**row) for row in rows])
        except (AftersalesError, OSError) as error:
            if self.viewer.sees_everything:
                logging.getLogger("aftersales.access").warning("access log not written: %s", type(error).__name__)
                return
            raise AccessError(
                "access log", "cannot be written, so nothing is shown", rows=getattr(error, "what", str(error)),
                fix="an administrator mends the register; then ask again",
            ) from error  # fmt: skip

    def close(self) -> None:
        """Write what is left and let go of the register."""
        try:
            self.write()
        finally:
            if self._register is not None:
                self._register.close()
                self._register = None


@contextlib.contextmanager
def asked(
    snapshot: Snapshot, action: str, object: str, question: Mapping[str, Any], tables: Sequence[str]
) -> Iterator[Asked]:
    """Note a question and the size of its answer; nothing for the owner of a workspace without roles.

    Parameters
    ----------
    action
        What was asked for: metric, drilldown, pareto, effect, page, export, cli.
    object
        Which one.
    question
        Everything that decides the answer; it is kept as a hash.
    tables
        The tables it is answered from.
    """
    trail = snapshot.access.trail if snapshot.access is not None else None
    if trail is None:
        yield _NOT_KEPT
        return
    begun, entry = time.perf_counter(), Asked()
    try:
        yield entry
    finally:
        versions = {name: snapshot.tables[name][0] for name in tables if name in snapshot.tables}
        milliseconds = (time.perf_counter() - begun) * 1000
        trail.add(action, object, {**question, "as_of": snapshot.as_of}, versions, entry, milliseconds)


def access_log(
    workspace: Workspace, *, user: str = "", role: str = "", since: dt.datetime | None = None, most: int = 1000
) -> list[dict[str, Any]]:
    """The newest entries of the access log, newest first, as plain values."""
    import sqlalchemy as sa

    from aftersales.lake.register import AccessEntry, open_register

    columns = AccessEntry.__table__.columns
    query = sa.select(*columns).order_by(AccessEntry.entry_id.desc()).limit(most)
    if user:
        query = query.where(AccessEntry.user == user)
    if role:
        query = query.where(AccessEntry.role == role)
    if since is not None:
        query = query.where(AccessEntry.at >= since)
    with open_register(workspace) as register, register.reading() as session:
        return [dict(row) for row in session.execute(query).mappings()]
