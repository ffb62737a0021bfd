"""Settings of the channels that are fetched: databases, web services, mailboxes. A closed schema each.

A channel that is fetched lands as files in `data/raw/<source>/`; from there on it is a source of files like any other.
"""

from __future__ import annotations

import datetime as dt
import re
import urllib.parse
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, model_validator

from aftersales.collect.credentials import Secret
from aftersales.model.documents import Document

LANDING_FORMATS: Mapping[str, str] = {"sql": "parquet", "rest": "jsonl", "mail": "jsonl"}
"""Format in which each kind of channel lands; its keys are the channels that are fetched."""

LOCAL = ("localhost", "127.0.0.1", "::1")
_DURATION = re.compile(r"^(\d+)([smhd])$")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_PASSWORD_KEYS = re.compile(r"pass|pwd|secret|token|odbc_connect|api.?key", re.IGNORECASE)


def duration(text: str) -> dt.timedelta:
    """`90s`, `15m`, `2h` or `3d` as a time span.

    Examples
    --------
    >>> duration("15m")
    datetime.timedelta(seconds=900)
    """
    found = _DURATION.match(text)
    if not found:
        raise ValueError(f"'{text}' is no duration; examples: 90s, 15m, 2h, 3d")
    return dt.timedelta(seconds=int(found[1]) * _SECONDS[found[2]])


def _known_duration(text: str) -> str:
    duration(text)
    return text


Duration = Annotated[str, AfterValidator(_known_duration)]


def _is_local(url: str) -> bool:
    return (urllib.parse.urlsplit(url).hostname or "") in LOCAL


# --------------------------------------------------------------------------------------------------------- sql


class SqlSettings(Document):
    """A table or query of a database."""

    url: str | Secret = Field(description="SQLAlchemy URL without a password, or where the whole URL is kept")
    password: Secret | None = None
    table: str | None = None
    table_schema: str | None = Field(default=None, validation_alias="schema", description="Schema of the table")
    query: str | None = None
    columns: list[str] = Field(default=[], description="Only these columns; empty: all")
    cursor: str | None = Field(default=None, description="Column that grows: changed-at, or a running number")
    overlap: Duration | Annotated[int, Field(ge=0)] | None = Field(
        default=None, description="Read again below the watermark: a duration, or a difference for numbers"
    )
    batch_rows: int = Field(default=20_000, ge=1)
    file_rows: int = Field(default=500_000, ge=1, description="Rows of one landed file")
    connect_timeout_s: int = Field(default=15, ge=1)

    @model_validator(mode="after")
    def _says_what_to_read(self) -> SqlSettings:
        if (self.table is None) == (self.query is None):
            raise ValueError("give either 'table' or 'query'")
        if self.table_schema and not self.table:
            raise ValueError("'schema' goes with 'table'")
        if self.overlap and not self.cursor:
            raise ValueError("'overlap' needs 'cursor', the column the next fetch starts from")
        if isinstance(self.url, str) and has_password(self.url):
            raise ValueError("the URL has a password in it: write password: {env: NAME}, or url: {env: NAME}")
        return self

    def stream(self) -> list[Any]:
        """What tells one stream of rows from another: a change starts it anew."""
        url = self.url if isinstance(self.url, str) else self.url.model_dump()
        return [url, self.table, self.table_schema, self.query, self.cursor]


def has_password(url: str) -> bool:
    """Whether a URL carries something secret: user:password@, or a parameter that is named like a secret."""
    parts = urllib.parse.urlsplit(url)
    named = [name for name, _ in urllib.parse.parse_qsl(parts.query) if _PASSWORD_KEYS.search(name)]
    return ":" in parts.netloc.rpartition("@")[0] or bool(named)


# -------------------------------------------------------------------------------------------------------- rest


class Bearer(Document):
    """`Authorization: Bearer <token>`."""

    kind: Literal["bearer"]
    token: Secret


class Basic(Document):
    """`Authorization: Basic`, from a user and a password."""

    kind: Literal["basic"]
    user: str | Secret
    password: Secret


class Header(Document):
    """A token in a header of its own."""

    kind: Literal["header"]
    header: str = Field(pattern=r"^[A-Za-z0-9-]+$")
    token: Secret
    prefix: str = ""


class Paging(Document):
    """How the service hands out more than one page."""

    by: Literal["number", "offset", "cursor", "link"]
    parameter: str | None = Field(default=None, description="Parameter of the request: page, offset or cursor")
    size_parameter: str | None = None
    size: int | None = Field(default=None, ge=1, description="Items asked for; a shorter page is the last")
    first: int | None = Field(default=None, ge=0, description="Number of the first page")
    cursor: str | None = Field(default=None, description="Path of the next cursor in the body")
    next: str | None = Field(default=None, description="Path of the next address; absent: the Link header")
    end: str | None = Field(default=None, description="Path of a flag: true on the last page")
    more: str | None = Field(default=None, description="Path of a flag: false on the last page")
    resume: bool = Field(default=False, description="The last cursor of a fetch is where the next one starts")

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Paging:
        wanted = {
            "number": {"parameter"}, "offset": {"parameter", "size"}, "cursor": {"parameter", "cursor"}, "link": set()
        }[self.by]  # fmt: skip
        allowed = {
            "number": {"size_parameter", "size", "first", "end", "more"}, "offset": {"size_parameter", "end", "more"},
            "cursor": {"size_parameter", "size", "end", "more", "resume"},
            "link": {"size_parameter", "size", "next", "end", "more"},
        }[self.by] | wanted  # fmt: skip
        given = self.model_fields_set - {"by"}
        if missing := sorted(wanted - given):
            raise ValueError(f"paging by {self.by} needs {', '.join(missing)}")
        if surplus := sorted(given - allowed):
            raise ValueError(f"{', '.join(surplus)} says nothing for paging by {self.by}")
        if self.size_parameter and self.size is None:
            raise ValueError("'size_parameter' needs 'size'")
        return self


class Since(Document):
    """How the service is asked for what is new."""

    parameter: str
    format: Literal["iso", "epoch_s", "epoch_ms", "date", "text"] = "iso"
    path: str | None = Field(default=None, description="Path of the time in an item; the newest one is the watermark")
    first: str | int | None = Field(default=None, description="Value of the very first fetch; absent: none is sent")


class Sideload(Document):
    """Records beside the items that items refer to, e.g. the users of tickets."""

    records: str = Field(validation_alias="from", description="Path of the list in the body")
    id: str = "id"
    key: str = Field(description="Path in an item that holds the id")


class RestSettings(Document):
    """A web service that answers in JSON, page by page."""

    url: str
    parameters: dict[str, str | int | float | bool] = {}
    each: list[dict[str, str | int | float | bool]] = Field(default=[], description="One read for each set")
    headers: dict[str, str] = {}
    auth: Annotated[Bearer | Basic | Header, Field(discriminator="kind")] | None = None
    items: str = Field(default="", description="Path of the list in the body; empty: the body is the list")
    page: Paging | None = None
    since: Since | None = None
    overlap: Duration = "10m"
    total: str | None = Field(default=None, description="Path of the number of items, held against what came")
    sideload: dict[str, Sideload] = {}
    requests_per_second: float = Field(default=5, gt=0)
    timeout_s: float = Field(default=30, gt=0, description="Without a byte for so long, a request has failed")
    response_s: float = Field(default=300, gt=0, description="A whole answer takes at most so long")
    retries: int = Field(default=6, ge=0)
    wait_at_most_s: float = Field(default=900, gt=0, description="A longer Retry-After ends the fetch")

    @model_validator(mode="after")
    def _is_safe_and_whole(self) -> RestSettings:
        parts = urllib.parse.urlsplit(self.url)
        if parts.scheme not in ("https", "http") or not parts.hostname:
            raise ValueError(f"'{parts.scheme}:' is no web address: it starts with https://")
        if has_password(self.url) or "@" in parts.netloc:
            raise ValueError("the address has a secret in it: write auth: {kind: bearer, token: {env: NAME}}")
        if self.auth and parts.scheme == "http" and not _is_local(self.url):
            raise ValueError("a token is sent over https only")
        if secret := [name for name in self.headers if re.search(r"auth|token|key|cookie", name, re.IGNORECASE)]:
            raise ValueError(
                f"the header {secret[0]} is a secret: write auth: {{kind: header, header: ..., token: ...}}"
            )
        if self.page and self.page.resume and self.each:
            raise ValueError("'resume' and 'each' exclude each other: one cursor cannot stand for several reads")
        if self.since and not self.since.path and not (self.page and self.page.resume):
            raise ValueError("'since' needs 'path', the time in an item that moves the watermark")
        return self

    def stream(self) -> list[Any]:
        """What tells one stream of items from another: a change starts it anew."""
        since = self.since.model_dump(exclude={"first"}) if self.since else None
        return [self.url, self.parameters, self.each, self.items, self.page and self.page.cursor, since]


# -------------------------------------------------------------------------------------------------------- mail


class MailSettings(Document):
    """A mailbox on a server (IMAP), or messages in files (.eml, .mbox)."""

    host: str | None = None
    port: int | None = Field(default=None, ge=1, le=65535)
    tls: Literal["ssl", "starttls", "none"] = "ssl"
    user: str | Secret | None = None
    password: Secret | None = None
    folders: list[str] = Field(default=["INBOX"], min_length=1)
    files: str | None = Field(default=None, description="Glob of .eml and .mbox files, relative to the workspace")
    overlap: int = Field(default=0, ge=0, description="Messages read again below the watermark, per folder")
    own_addresses: list[str] = Field(default=[], description="Our addresses or @domains: their messages go out")
    timeout_s: float = Field(default=60, gt=0)

    @model_validator(mode="after")
    def _one_place(self) -> MailSettings:
        if (self.host is None) == (self.files is None):
            raise ValueError("give either 'host' (a mailbox) or 'files' (.eml, .mbox)")
        if self.host and (self.user is None or self.password is None):
            raise ValueError("a mailbox needs 'user' and 'password'")
        if self.tls == "starttls" and self.port == 993:
            raise ValueError("port 993 is encrypted from the beginning: tls: ssl")
        if self.host and self.tls == "none" and self.host not in LOCAL:
            raise ValueError("a password is sent encrypted only: tls is ssl or starttls")
        return self

    def stream(self) -> list[Any]:
        """What tells one stream of messages from another: a change starts it anew."""
        user = self.user if isinstance(self.user, str) or self.user is None else self.user.model_dump()
        return [self.host, self.port, user, self.files]
