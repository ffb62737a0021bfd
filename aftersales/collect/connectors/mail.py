"""A mailbox (IMAP), .eml or .mbox -> JSON lines, one message each. Nothing in the mailbox is changed.

A folder is read by UID, from the highest one that was read on. When the server says that its UIDs mean other messages
now (UIDVALIDITY), the folder is read from the beginning; what is known is found unchanged by its Message-ID.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import imaplib
import mailbox
import re
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import imap_tools

from aftersales.collect.channels import MailSettings
from aftersales.collect.connectors import SAMPLE_ROWS, Probed
from aftersales.collect.connectors.message import read_message
from aftersales.collect.connectors.threads import Threads, as_lines
from aftersales.collect.credentials import Secret, secret_value, without_secrets
from aftersales.collect.landing import Cursor, Fetched, Landing
from aftersales.collect.mapping import Source
from aftersales.model.errors import SourceError, known_names
from aftersales.model.settings import Workspace

MESSAGES, CHUNK_BYTES = 200, 16 << 20
"""One request asks for at most so many messages and about so many bytes."""


def fetch(source: Source, workspace: Workspace, since: Cursor | None, landing: Landing) -> Fetched:
    """Land the messages that came since `since`; the newest cursor and the messages fetched.

    Raises
    ------
    SourceError
        Not reachable, login refused, no such folder, or the connection was lost on the way.
    """
    settings = _settings(source)
    chunks = _chunks_of_files(source, workspace, since) if settings.files else _chunks_of_server(source, since)
    reached = since
    with Threads(landing.folder) as threads:
        for messages, cursor in chunks:
            landing.add_records(as_lines(threads.place(messages)))
            landing.reached(cursor)
            reached = cursor if cursor is not None else reached
    return landing.finish(reached)


def probe(source: Source, workspace: Workspace) -> Probed:
    """Log in, open every folder and read the newest message.

    Raises
    ------
    SourceError
        As `fetch`.
    """
    settings, where = _settings(source), f"source {source.name}"
    if settings.files:
        files = _mail_files(settings, where, workspace)
        sample = [record for path in files[-1:] for record in _records_of_file(path, source)][:SAMPLE_ROWS]
        return _probed(f"{len(files)} files that match {settings.files}", sample)
    with _mailbox(settings, where) as box:
        counts = {}
        sample = []
        for folder in settings.folders:
            _open_folder(box, folder, where)
            uids = box.uids("ALL")
            counts[folder] = len(uids)
            sample += [record for _, record in _records(box, uids[-1:], folder, source)]
    shown = ", ".join(f"{name} with {count:,} messages" for name, count in counts.items())
    return _probed(f"{settings.host}: {shown}", sample[:SAMPLE_ROWS])


def _probed(reached: str, sample: Sequence[dict[str, Any]]) -> Probed:
    blank = read_message(b"", "UTC", None)
    placed = [{**record, "thread_id": record["message_id"], "is_first": True} for record in sample]
    columns = (*blank, "folder", "uid", "thread_id", "is_first")
    return Probed(reached, columns, tuple(as_lines(placed)))


def _settings(source: Source) -> MailSettings:
    assert source.mail is not None  # the schema of the YAML sees to it
    return source.mail


# ---------------------------------------------------------------------------------------------------- a mailbox


def _chunks_of_server(source: Source, since: Cursor | None) -> Iterator[tuple[list[dict[str, Any]], Cursor | None]]:
    """Messages in the order of their UIDs, with the cursor that holds after them."""
    settings, where = _settings(source), f"source {source.name}"
    folders: dict[str, dict[str, int]] = dict((since or {}).get("folders", {}))
    with _mailbox(settings, where) as box:
        for folder in settings.folders:
            validity = _open_folder(box, folder, where)
            mark = folders.get(folder, {})
            first = mark.get("uid", 0) + 1 if mark.get("validity") == validity else 1
            start = max(first - settings.overlap, 1)
            uids = sorted(int(uid) for uid in box.uids(f"UID {start}:*"))
            newest = mark.get("uid", 0) if mark.get("validity") == validity else 0
            for chunk in _sized(box, [uid for uid in uids if uid >= start]):  # n:* gives the last one, however low
                records = [record for _, record in _records(box, list(map(str, chunk)), folder, source)]
                newest = max(newest, chunk[-1])
                folders = {**folders, folder: {"validity": validity, "uid": newest}}
                yield records, {"folders": folders}


@contextlib.contextmanager
def _mailbox(settings: MailSettings, where: str) -> Iterator[imap_tools.BaseMailBox]:
    """An open session; every failure inside comes out in four parts, without the password."""
    user = secret_value(settings.user, where) if isinstance(settings.user, Secret) else settings.user or ""
    password = secret_value(settings.password, where) if settings.password else ""
    host = str(settings.host)
    port = settings.port or (993 if settings.tls == "ssl" else 143)
    box: imap_tools.BaseMailBox | None = None
    is_in = False
    try:
        box = _connected(settings, host, port)
        plain = (user + password).isascii()
        (box.login if plain else box.login_utf8)(user, password, initial_folder=None)
        is_in = True
        yield box
    except (imap_tools.errors.ImapToolsError, imaplib.IMAP4.error, OSError, ssl.SSLError) as error:
        refused = box is not None and not is_in and not isinstance(error, imaplib.IMAP4.abort | OSError)
        if not refused:
            raise _unreachable(where, host, _said(error, password), is_in) from None
        raise _problem(
            where,
            f"{host} refuses the login: {_said(error, password)}",
            "nothing was fetched",
            "check user and password; some providers want a password of its own for a program",
        ) from None
    finally:
        if box is not None:
            with contextlib.suppress(Exception):  # the session may be gone already
                box.logout()


def _connected(settings: MailSettings, host: str, port: int) -> imap_tools.BaseMailBox:
    if settings.tls == "none":
        return imap_tools.MailBoxUnencrypted(host, port, timeout=settings.timeout_s)
    kind = imap_tools.MailBox if settings.tls == "ssl" else imap_tools.MailBoxStartTls
    checked = ssl.create_default_context()  # else the library takes any certificate
    return kind(host, port, timeout=settings.timeout_s, ssl_context=checked)


def _unreachable(where: str, host: str, said: str, was_in: bool) -> SourceError:
    if was_in:
        what, rows, fix = "was lost", "the rest is fetched next", "run the ingest again when the server answers"
    else:
        what, rows, fix = "failed", "nothing was fetched", "check host, port and tls in the source's YAML"
    return _problem(where, f"the connection to {host} {what}: {said}", rows, fix)


def _said(error: Exception, password: str) -> str:
    text = " ".join(str(error).split())[:200] or type(error).__name__
    return without_secrets(text, [password])


def _problem(where: str, what: str, rows: str, fix: str) -> SourceError:
    return SourceError(where, what, rows=rows, fix=fix)


def _open_folder(box: imap_tools.BaseMailBox, folder: str, where: str) -> int:
    """Open a folder for reading; the generation of its UIDs."""
    try:
        box.folder.set(folder, readonly=True)
    except imap_tools.MailboxFolderSelectError:
        known = [each.name for each in box.folder.list()]
        raise _problem(
            where, f"no folder '{folder}'", known_names(known, 30), "mend 'folders' in the source's YAML"
        ) from None
    return int(box.folder.status(folder, ["UIDVALIDITY"]).get("UIDVALIDITY", 0))


def _sized(box: imap_tools.BaseMailBox, uids: Sequence[int]) -> Iterator[list[int]]:
    """UIDs in chunks that fit into memory."""
    for start in range(0, len(uids), MESSAGES):
        some = uids[start : start + MESSAGES]
        sizes: dict[int, int] = {}
        for item in _asked(box, list(map(str, some)), "(UID RFC822.SIZE)"):
            meta = item if isinstance(item, bytes) else item[0]
            uid, size = re.search(rb"UID (\d+)", meta), re.search(rb"RFC822\.SIZE (\d+)", meta)
            if uid and size:
                sizes[int(uid[1])] = int(size[1])
        chunk: list[int] = []
        held = 0
        for number in some:
            held += sizes.get(number, 0)
            if chunk and held > CHUNK_BYTES:
                yield chunk
                chunk, held = [], sizes.get(number, 0)
            chunk.append(number)
        if chunk:
            yield chunk


def _records(
    box: imap_tools.BaseMailBox, uids: Sequence[str], folder: str, source: Source
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The messages with these UIDs; one that was deleted meanwhile is not among them."""
    items = _asked(box, uids, "(UID INTERNALDATE BODY.PEEK[])")
    for place, item in enumerate(items):
        if not isinstance(item, tuple):
            continue
        following = items[place + 1] if place + 1 < len(items) else b""
        meta = item[0] + (following if isinstance(following, bytes) else b"")  # some servers say the UID afterwards
        uid, at = re.search(rb"UID (\d+)", meta), re.search(rb'INTERNALDATE "([^"]+)"', meta)
        received = _internal_date(at[1].decode("ascii", "replace")) if at else None
        record = read_message(item[1], source.time_zone, received, _settings(source).own_addresses)
        yield int(uid[1]) if uid else 0, {**record, "folder": folder, "uid": int(uid[1]) if uid else None}


def _asked(box: imap_tools.BaseMailBox, uids: Sequence[str], parts: str) -> list[Any]:
    if not uids:
        return []
    kind, items = box.client.uid("FETCH", ",".join(uids), parts)
    if kind != "OK":
        raise imaplib.IMAP4.error(f"FETCH {kind}")
    return [item for item in items if item]


def _internal_date(text: str) -> dt.datetime | None:
    try:
        return dt.datetime.strptime(text.strip(), "%d-%b-%Y %H:%M:%S %z")
    except ValueError:
        return None


# --------------------------------------------------------------------------------------------------------- files


def _mail_files(settings: MailSettings, where: str, workspace: Workspace) -> list[Path]:
    """The .eml and .mbox files, those that changed last at the end."""
    pattern = Path(str(settings.files)).expanduser()
    base = Path(pattern.anchor) if pattern.is_absolute() else workspace.root
    relative = pattern.relative_to(pattern.anchor) if pattern.is_absolute() else pattern
    found = [path for path in base.glob(str(relative)) if path.is_file()]
    if not found:
        raise _problem(where, f"no file matches {settings.files}", f"looked in {base.name}/",
                       "put the messages there, or mend 'files' in the source's YAML")  # fmt: skip
    return sorted(found, key=lambda path: (_changed_ns(path), str(path)))


def _changed_ns(path: Path) -> int:
    """When the file came or changed here; a copy that keeps its old time is new all the same."""
    known = path.stat()
    return max(known.st_mtime_ns, known.st_ctime_ns)


def _chunks_of_files(
    source: Source, workspace: Workspace, since: Cursor | None
) -> Iterator[tuple[list[dict[str, Any]], Cursor | None]]:
    """Messages of the files that are new or have changed, with the cursor that holds after them, if one does."""
    mark, names = int((since or {}).get("changed_ns", -1)), set((since or {}).get("names", []))
    records: list[dict[str, Any]] = []
    cursor: Cursor | None = None
    for path in _mail_files(_settings(source), f"source {source.name}", workspace):
        changed = _changed_ns(path)
        name = str(path.relative_to(workspace.root)) if path.is_relative_to(workspace.root) else str(path)
        if changed < mark or (changed == mark and name in names):
            continue
        names = {*names, name} if changed == mark else {name}
        mark = changed
        for record in _records_of_file(path, source):
            records.append(record)
            if len(records) >= MESSAGES:
                yield records, cursor
                records = []
        cursor = {"changed_ns": mark, "names": sorted(names)}
        if len(records) >= MESSAGES:
            yield records, cursor
            records = []
    if cursor is not None:
        yield records, cursor


def _records_of_file(path: Path, source: Source) -> Iterator[dict[str, Any]]:
    def record(data: bytes) -> dict[str, Any]:
        return {**read_message(data, source.time_zone, None, _settings(source).own_addresses),
                "folder": path.name, "uid": None}  # fmt: skip

    try:
        if path.suffix.lower() != ".mbox":
            yield record(path.read_bytes())
            return
        with contextlib.closing(mailbox.mbox(str(path), create=False)) as box:
            for key in box.iterkeys():
                yield record(box.get_bytes(key))
    except OSError as error:
        raise _problem(f"source {source.name}", f"{path.name} cannot be read: {error.strerror or error}",
                       "the messages before it are kept", "check the file and its rights") from error  # fmt: skip
