"""The vault: one random key per person, kept outside the lake; a text whose key is gone can be read by nobody.

Free text of tier P2 and P3 lies in the lake as `sealed:v1:<key id>.<key id>:<base64>`: AES-SIV (RFC 5297) under a key
made of two, that of its subject and that of its period. The scheme is deterministic, so a text delivered again is the
same text; it shows that two texts of one person and month are equal, and nothing else. Erasing a person deletes the
first key, the end of a retention time the second, and with it the text in every version of every table at once.

The subject is the row's customer; without one, the thread (`ticket:<id>`) or the row itself (`complaint:<id>`). The
period is a month of a table's clock (`ticket@2026-03`).

One master key stands above all: it wraps the vault's keys and makes the pseudonyms. It comes from the environment
variable AFTERSALES_PRIVACY_KEY, else from the system's keyring, else from a file that is made at first use. Whoever
loses it loses every sealed text.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import hmac
import json
import os
import re
import secrets
import sqlite3
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aftersales.model.errors import SettingsError
from aftersales.model.settings import Workspace

if TYPE_CHECKING:  # the cipher is loaded when the first text needs it
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV

KEY_VARIABLE = "AFTERSALES_PRIVACY_KEY"
SEAL = "sealed:v1:"
ERASED = "⟨erased⟩"
"""What a reader sees where the person's key was shredded."""
UNREADABLE = "⟨sealed⟩"
"""What a reader sees where the vault is not at hand, or was not the one the text was sealed with."""

CUSTOMER, STAFF = "c_", "s_"
"""Pseudonyms of customers and of staff; one number in both roles gives two of them."""

_SHORTEST_KEY = 16
_SEALED = re.compile(rf"{SEAL}(\d{{1,18}})\.(\d{{1,18}}):(.*)", re.S)
_CACHED_KEYS, _CACHED_CIPHERS = 200_000, 20_000  # a cipher holds some kilobytes


# ------------------------------------------------------------------------------------------------------ master key


def master_key(workspace: Workspace) -> bytes:
    """The workspace's master key, 32 bytes; its file is made when nothing gives one.

    Raises
    ------
    SettingsError
        The key is too short, or its file cannot be read or made.
    """
    privacy = workspace.settings.privacy
    text = os.environ.get(KEY_VARIABLE, "")
    where = f"${KEY_VARIABLE}"
    if not text and privacy.keyring:
        import keyring

        text, where = keyring.get_password(privacy.keyring, "aftersales") or "", f"keyring {privacy.keyring}"
    if not text and not privacy.keyring:
        where = privacy.key_file
        text = _key_of_file(workspace.root / privacy.key_file, where)
    if len(text.strip()) < _SHORTEST_KEY:
        raise SettingsError(
            where,
            f"the privacy key has {len(text.strip())} signs, it needs {_SHORTEST_KEY}",
            fix=f"give a long random text, or take {KEY_VARIABLE} and privacy.keyring out to have one made",
        )
    return hashlib.sha256(b"aftersales master key\n" + text.strip().encode()).digest()


def _key_of_file(path: Path, where: str) -> str:
    """The content of the key file; of several processes that make it at once, the first one's counts for all."""
    try:
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            path.parent.chmod(0o700)
            handle, name = tempfile.mkstemp(dir=path.parent, prefix=".key-")  # mode 0600
            with os.fdopen(handle, "w", encoding="ascii") as file:
                file.write(secrets.token_urlsafe(48) + "\n")
            with contextlib.suppress(FileExistsError):
                os.link(name, path)
            os.unlink(name)
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(
            where,
            f"the privacy key cannot be read or made: {getattr(error, 'strerror', None) or 'no plain text'}",
            fix=f"mend the file's rights, set privacy.key_file, or give ${KEY_VARIABLE}",
        ) from error


def _derived(master: bytes, purpose: str, length: int) -> bytes:
    """A key of its own for one purpose (HKDF-Expand, RFC 5869)."""
    parts, block = b"", b""
    for number in range(1, -(-length // 32) + 1):
        block = hmac.digest(master, block + f"aftersales {purpose}".encode() + bytes([number]), "sha256")
        parts += block
    return parts[:length]


class Pseudonyms:
    """Keyed pseudonyms: the same id gives the same short text in every source of a workspace, and no way back."""

    def __init__(self, master: bytes) -> None:
        self._key = _derived(master, "pseudonyms", 32)
        self._known: dict[tuple[str, str], str] = {}

    def of(self, value: str, role: str = CUSTOMER) -> str:
        """`c_` or `s_` and twenty base32 signs (100 bits of an HMAC-SHA256)."""
        known = self._known.get((role, value))
        if known is not None:
            return known
        digest = hmac.digest(self._key, f"{role}\n{value}".encode(), "sha256")
        made = role + base64.b32encode(digest[:13])[:20].decode().lower()
        if len(self._known) < _CACHED_KEYS:
            self._known[role, value] = made
        return made


# ----------------------------------------------------------------------------------------------------------- vault

_TABLES = """
create table if not exists fact (name text primary key, value text not null);
create table if not exists subject_key (
    key_id integer primary key autoincrement, subject text not null unique, wrapped blob not null,
    made_at text not null);
create table if not exists tombstone (
    subject text primary key, key_id integer, erased_at text not null, reason text not null);
create table if not exists audit (
    entry_id integer primary key autoincrement, at text not null, done_by text not null, what text not null,
    subject text not null, reason text not null, details text not null);
"""
_CHUNK = 900


class Vault:
    """The keys of one workspace; safe for several threads and processes."""

    def __init__(self, path: Path, master: bytes) -> None:
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        self.path = path
        self._cipher = AESSIV
        self._wrap = AESSIV(_derived(master, "vault", 64))
        self._lock = threading.RLock()
        self._by_subject: dict[str, tuple[int, bytes]] = {}
        self._by_id: dict[int, bytes | None] = {}
        self._ciphers: dict[tuple[int, int], AESSIV] = {}
        self._data_version = -1
        self._connection = self._opened(_derived(master, "check", 16).hex())

    def _opened(self, check: str) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        if not self.path.exists():
            self.path.parent.chmod(0o700)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        connection = sqlite3.connect(self.path, timeout=30, isolation_level=None, check_same_thread=False)
        # full: a key must be on the disk before the text that needs it
        for line in ("journal_mode=wal", "synchronous=full", "secure_delete=on"):
            connection.execute(f"pragma {line}")
        connection.executescript(_TABLES)
        connection.execute("insert or ignore into fact values ('key check', ?)", (check,))
        (known,) = connection.execute("select value from fact where name = 'key check'").fetchone()
        if known != check:
            connection.close()
            raise SettingsError(
                str(self.path.name),
                "the privacy key is not the one this vault was made with",
                rows="no text can be read, and new text must not be sealed with another key",
                fix=f"give the right key (${KEY_VARIABLE}, the keyring or privacy.key_file), from a backup if need be",
            )
        return connection

    def close(self) -> None:
        """Let go of the file."""
        with self._lock:
            self._connection.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._connection.execute("begin immediate")
            try:
                yield self._connection
            except BaseException:
                self._connection.execute("rollback")
                raise
            self._connection.execute("commit")

    # ------------------------------------------------------------------------------------------- seal and unseal

    def seal(
        self, texts: Sequence[str | None], subjects: Sequence[str | None], periods: Sequence[str | None]
    ) -> list[str | None]:
        """Each text under the keys of its subject and period; missing keys are made in one transaction.

        A text without a subject or period, and one whose subject or period is gone, comes back as None.
        """
        rows = list(zip(texts, subjects, periods, strict=True))
        with self._lock:
            self._see_others()
            keys = self._keys(
                {name for text, *names in rows if text is not None and all(names) for name in names if name}
            )
        sealed: list[str | None] = []
        for text, subject, period in rows:
            own, month = keys.get(subject or ""), keys.get(period or "")
            if text is None or own is None or month is None:
                sealed.append(None)
            else:
                plain = text.encode("utf-8", "surrogatepass") or b"\0"
                cipher = base64.b64encode(self._cipher_of(own, month).encrypt(plain, None))
                sealed.append(f"{SEAL}{own[0]}.{month[0]}:{cipher.decode()}")
        return sealed

    def unseal(self, texts: Sequence[str | None]) -> list[str | None]:
        """Plain texts; `ERASED` where a key was shredded, `UNREADABLE` where this vault never had it.

        What is not sealed comes back as it is.
        """
        parts = [_SEALED.match(text) if text is not None and text.startswith(SEAL) else None for text in texts]
        with self._lock:
            self._see_others()
            keys = self._keys_of_ids({int(number) for part in parts if part for number in part.group(1, 2)})
        return [
            text if text is None or not text.startswith(SEAL) else self._opened_text(part, keys)
            for text, part in zip(texts, parts, strict=True)
        ]

    def _opened_text(self, part: re.Match[str] | None, keys: Mapping[int, bytes | None]) -> str:
        from cryptography.exceptions import InvalidTag

        numbers = (int(part[1]), int(part[2])) if part else (0, 0)
        if part is None or any(number not in keys for number in numbers):
            return UNREADABLE
        own, month = keys[numbers[0]], keys[numbers[1]]
        if own is None or month is None:
            return ERASED
        try:
            cipher = self._cipher_of((numbers[0], own), (numbers[1], month))
            plain = cipher.decrypt(base64.b64decode(part[3]), None)
        except (InvalidTag, ValueError):
            return UNREADABLE
        return "" if plain == b"\0" else plain.decode("utf-8", "surrogatepass")

    def _cipher_of(self, own: tuple[int, bytes], month: tuple[int, bytes]) -> AESSIV:
        """The cipher of one person and period; neither key alone gives it."""
        known = self._ciphers.get((own[0], month[0]))
        if known is None:
            known = self._cipher(hashlib.blake2b(month[1], key=own[1], digest_size=64).digest())
            if len(self._ciphers) >= _CACHED_CIPHERS:
                self._ciphers.clear()
            self._ciphers[own[0], month[0]] = known
        return known

    def _see_others(self) -> None:
        """Forget cached keys when another process has changed the vault: it may have erased somebody."""
        (version,) = self._connection.execute("pragma data_version").fetchone()
        if version != self._data_version:
            self._data_version = version
            self._forget()

    def _forget(self) -> None:
        for cache in (self._by_subject, self._by_id, self._ciphers):
            cache.clear()

    def _keys(self, wanted: set[str]) -> dict[str, tuple[int, bytes]]:
        """Keys by subject, made where missing; erased subjects have none."""
        found = {subject: self._by_subject[subject] for subject in wanted if subject in self._by_subject}
        missing = sorted(wanted - set(found))
        if missing:
            new = self._stored(missing)
            absent = [subject for subject in missing if subject not in new]
            new |= self._made(absent) if absent else {}
            if len(self._by_subject) + len(new) > _CACHED_KEYS:
                self._by_subject.clear()
            self._by_subject.update(new)
            found |= new
        return found

    def _stored(self, subjects: list[str]) -> dict[str, tuple[int, bytes]]:
        return {name: (key_id, self._unwrapped(key_id, key)) for name, key_id, key in self._rows_of(subjects)}

    def _made(self, subjects: list[str]) -> dict[str, tuple[int, bytes]]:
        """New keys of subjects that had none a moment ago; another process may have been first, or have erased them."""
        with self._writing() as connection:
            gone = {name for (name,) in self._select("select subject from tombstone where subject in", subjects)}
            keys = self._stored(subjects) if self._was_changed() else {}
            (last,) = connection.execute(
                "select coalesce((select seq from sqlite_sequence where name = 'subject_key'), 0)"
            ).fetchone()
            new = [subject for subject in subjects if subject not in keys and subject not in gone]
            random = os.urandom(32 * len(new))
            made = {name: (last + i, random[32 * i - 32 : 32 * i]) for i, name in enumerate(new, 1)}
            now = dt.datetime.now(dt.UTC).isoformat(timespec="seconds")
            connection.executemany(
                "insert into subject_key values (?, ?, ?, ?)",
                [(key_id, name, self._wrapped(key_id, key), now) for name, (key_id, key) in made.items()],
            )
        return keys | made

    def _was_changed(self) -> bool:
        """Whether another connection has written since the keys were last looked for."""
        (version,) = self._connection.execute("pragma data_version").fetchone()
        return bool(version != self._data_version)

    def _rows_of(self, subjects: list[str]) -> list[tuple[str, int, bytes]]:
        return self._select("select subject, key_id, wrapped from subject_key where subject in", subjects)

    def _select(self, query: str, values: Sequence[Any]) -> list[Any]:
        rows: list[Any] = []
        for first in range(0, len(values), _CHUNK):
            some = values[first : first + _CHUNK]
            rows += self._connection.execute(f"{query} ({', '.join('?' * len(some))})", some).fetchall()
        return rows

    def _keys_of_ids(self, ids: set[int]) -> dict[int, bytes | None]:
        """Keys by id; None: erased, absent: unknown."""
        missing = sorted(ids - set(self._by_id))
        if missing:
            for key_id, wrapped in self._select("select key_id, wrapped from subject_key where key_id in", missing):
                self._by_id[key_id] = self._unwrapped(key_id, wrapped)
            for (key_id,) in self._select("select key_id from tombstone where key_id in", missing):
                self._by_id[key_id] = None
        found = {key_id: self._by_id[key_id] for key_id in ids if key_id in self._by_id}
        if len(self._by_id) > _CACHED_KEYS:
            self._by_id.clear()
        return found

    def _wrapped(self, key_id: int, key: bytes) -> bytes:
        return self._wrap.encrypt(key, [str(key_id).encode()])

    def _unwrapped(self, key_id: int, wrapped: bytes) -> bytes:
        return self._wrap.decrypt(wrapped, [str(key_id).encode()])

    # ------------------------------------------------------------------------------------------ erasure and audit

    def erased(self) -> dict[str, str]:
        """Subjects that were erased, with the reason; what is delivered of them again stays without personal data."""
        with self._lock:
            return dict(self._connection.execute("select subject, reason from tombstone").fetchall())

    def erase(self, subjects: Sequence[str], *, reason: str, now: dt.datetime) -> int:
        """Shred the keys of `subjects` and put tombstones in their place; how many keys there were.

        The key's bytes are overwritten in the file and in its log; copies of the file elsewhere (backups) still hold
        them until they expire.
        """
        with self._writing() as connection:
            known = {subject: key_id for subject, key_id, _ in self._rows_of(list(subjects))}
            connection.executemany(
                "insert or ignore into tombstone values (?, ?, ?, ?)",
                [(subject, known.get(subject), now.isoformat(), reason) for subject in subjects],
            )
            connection.executemany(
                "update subject_key set wrapped = ? where key_id = ?", [(os.urandom(48), i) for i in known.values()]
            )
            connection.executemany("delete from subject_key where key_id = ?", [(i,) for i in known.values()])
        with self._lock:
            self._forget()
            if known:
                self._connection.execute("vacuum")
                self._connection.execute("pragma wal_checkpoint(truncate)")
        return len(known)

    def note(
        self, what: str, *, subject: str, by: str, reason: str, details: Mapping[str, Any], now: dt.datetime
    ) -> None:
        """Add an entry to the vault's audit, which is only ever added to."""
        with self._writing() as connection:
            connection.execute(
                "insert into audit (at, done_by, what, subject, reason, details) values (?, ?, ?, ?, ?, ?)",
                (now.isoformat(), by, what, subject, reason, json.dumps(dict(details), ensure_ascii=False)),
            )

    def audit(self) -> list[dict[str, Any]]:
        """Every entry of the audit, oldest first."""
        names = ("at", "done_by", "what", "subject", "reason", "details")
        with self._lock:
            rows = self._connection.execute(f"select {', '.join(names)} from audit order by entry_id").fetchall()
        return [{**dict(zip(names, row, strict=True)), "details": json.loads(row[5])} for row in rows]

    def key_ids(self, subjects: Sequence[str]) -> list[int]:
        """Numbers of the keys of `subjects`, those that were shredded too."""
        with self._lock:
            rows = self._select("select key_id from subject_key where subject in", list(subjects))
            rows += self._select("select key_id from tombstone where subject in", list(subjects))
        return sorted(key_id for (key_id,) in rows if key_id is not None)

    def living(self, prefix: str) -> list[str]:
        """Subjects that begin with `prefix` and have a key."""
        with self._lock:
            rows = self._connection.execute(
                "select subject from subject_key where substr(subject, 1, ?) = ?", (len(prefix), prefix)
            ).fetchall()
        return sorted(subject for (subject,) in rows)

    def has_key(self, subject: str) -> bool:
        """Whether anything was ever sealed for this subject and can still be read."""
        with self._lock:
            return bool(self._rows_of([subject]))


_open_vaults: dict[tuple[str, bytes, int], Vault] = {}
_opening = threading.Lock()


def open_vault(workspace: Workspace) -> Vault:
    """The vault of the workspace, made at first use; one per process.

    Raises
    ------
    SettingsError
        The master key is missing or not the one the vault was made with.
    """
    master = master_key(workspace)
    place = (str(workspace.vault.resolve()), master, os.getpid())  # a forked process opens the file anew
    with _opening:
        known = _open_vaults.get(place)
        if known is None or not known.path.exists():
            known = _open_vaults[place] = Vault(workspace.vault, master)
        return known


def pseudonyms(workspace: Workspace) -> Pseudonyms:
    """The pseudonyms of the workspace."""
    return Pseudonyms(master_key(workspace))


class Passages:
    """Passages of the texts this process has unsealed, as hashes: whether something shown is taken from one of them.

    Any excerpt of thirty signs is recognised; texts shorter than that are not remembered, since labels look like them,
    nor are passages of few different signs, such as rules of dashes, which stand in anybody's output.
    """

    WIDTH, STEP, LEAST_DIFFERENT, MOST = 20, 10, 8, 2_000_000

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def add(self, text: str) -> None:
        """Remember a text."""
        if len(text) >= self.WIDTH + self.STEP and len(self._seen) < self.MOST:
            last = len(text) - self.WIDTH
            passages = (text[place : place + self.WIDTH] for place in range(0, last + 1, self.STEP))
            self._seen.update(hash(passage) for passage in passages if len(set(passage)) >= self.LEAST_DIFFERENT)

    def holds(self, text: str) -> bool:
        """Whether a passage of a remembered text stands in `text`."""
        if not self._seen:
            return False
        places = range(len(text) - self.WIDTH + 1)
        return any(hash(text[place : place + self.WIDTH]) in self._seen for place in places)


opened_passages = Passages()


def unsealed_values(workspace: Workspace, values: Sequence[str | None]) -> list[str | None]:
    """Plain texts of a column that may be sealed; the vault is opened, never made."""
    if not workspace.vault.exists():
        return [UNREADABLE if value is not None and value.startswith(SEAL) else value for value in values]
    plain = open_vault(workspace).unseal(values)
    for text, value in zip(plain, values, strict=True):
        if text is not None and text is not value:
            opened_passages.add(text)
    return plain


def readable(column: str) -> str:
    """SQL: the plain text of a column that may be sealed; texts that are not cost no call."""
    return f"case when starts_with({column}, '{SEAL}') then unsealed({column}) else {column} end"
