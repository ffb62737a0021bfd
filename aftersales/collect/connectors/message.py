"""One mail as bytes -> one record: who, when, what is new in it, what was attached. Nothing is looked up elsewhere.

Mail lies about its encoding: what is declared is believed only if it can be read that way, and GB2312 is read as
GB18030, which contains it.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import email
import email.utils
import hashlib
import quopri
import re
import zoneinfo
from collections.abc import Iterator, Sequence
from email.message import Message
from typing import Any

from aftersales.collect.connectors.reply import html_text, new_text

LONGEST_TEXT = 1_000_000
"""Characters of a body that are kept: a line of a landed file has to fit into the reader's buffers."""

OLDEST = dt.datetime(1990, 1, 1, tzinfo=dt.UTC)
AHEAD = dt.timedelta(days=1)

_WORD = re.compile(r"=\?([^?\s]+)\?([bBqQ])\?([^?]*)\?=")
_ID = re.compile(r"<([^<>]+)>")
_REPLY = re.compile(
    r"^\s*((re|aw|sv|antw|fwd?|wg|tr|回复|答复|答覆|回覆|转发|轉寄|转寄)\s*(\[\d+\])?\s*[:：]\s*)+", re.IGNORECASE
)
_CHINESE = ("gb2312", "gbk", "gb_2312-80", "gb2312-80", "x-gbk", "cp936")
_SAYS_NOTHING = ("x-unknown", "unknown-8bit", "default", "us-ascii", "ascii")
_READ_AS = {
    **dict.fromkeys(_CHINESE, "gb18030"),
    **dict.fromkeys(_SAYS_NOTHING, ""),
    "ks_c_5601-1987": "cp949",
    "shift_jis": "cp932",
}
_MACHINES = re.compile(r"^(mailer-daemon|postmaster|no-?reply|do-?not-?reply)\b", re.IGNORECASE)


def read_message(data: bytes, zone: str, received_at: dt.datetime | None, own: Sequence[str] = ()) -> dict[str, Any]:
    """The record of one message, every key always there.

    Parameters
    ----------
    data
        The message as it was sent (RFC 5322).
    zone
        Zone of a Date header that names none.
    received_at
        When the server got it; absent, the newest Received header says so.
    own
        Our own addresses, or `@domain`.
    """
    message = email.message_from_bytes(data)
    digest = hashlib.sha256(data).hexdigest()
    ids = _ID.findall(header_text(message, "Message-ID"))
    received = received_at or _received(message, zone)
    sent, problem = _sent(header_text(message, "Date"), zone, received)
    subject = header_text(message, "Subject")
    (from_name, from_), *_ = [*_addresses(message, "From"), ("", "")]
    to, copies = _addresses(message, "To"), _addresses(message, "Cc")
    full, attachments = _content(message)
    direction = _direction(from_, [address for _, address in [*to, *copies]], own)
    return {
        "message_id": ids[0] if ids else f"sha256:{digest}",
        "in_reply_to": next(iter(_ID.findall(header_text(message, "In-Reply-To"))), None),
        "references": _ID.findall(header_text(message, "References")),
        "subject": subject,
        "topic": topic(subject),
        "is_reply": bool(_REPLY.match(subject)),
        "from": from_,
        "from_name": from_name,
        "to": [address for _, address in to],
        "cc": [address for _, address in copies],
        "correspondent": (to[0][1] if to else "") if direction == "outbound" else from_,
        "direction": direction,
        "sender_kind": _sender_kind(message, from_, direction),
        "sent_at": _written(sent),
        "received_at": _written(received),
        "known_at": _written(received or sent),
        "date_header": header_text(message, "Date"),
        "date_problem": problem,
        "language": "zh" if re.search(r"[\u4e00-\u9fff]", f"{subject}{full[:5000]}") else "en",
        "body": new_text(full[:LONGEST_TEXT]),
        "full_body": full[:LONGEST_TEXT],
        "is_cut": len(full) > LONGEST_TEXT,
        "attachments": attachments,
        "attachment_names": "; ".join(item["name"] for item in attachments),
        "bytes": len(data),
        "sha256": digest,
    }


def topic(subject: str) -> str:
    """A subject without the marks of replies and without its case.

    Examples
    --------
    >>> topic("Re: 回复：Lock  does not open")
    'lock does not open'
    """
    return " ".join(_REPLY.sub("", subject).split()).casefold()


def _written(moment: dt.datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(dt.UTC).isoformat(timespec="seconds")


# ------------------------------------------------------------------------------------------------------ encodings


def decoded(data: bytes, charset: str | None) -> str:
    """Bytes as text: as declared if that can be, else UTF-8, else GB18030, else what fits best; never an error.

    Examples
    --------
    >>> decoded("退货㐂".encode("gb18030"), "gb2312"), decoded("锁".encode("utf-8"), "iso-8859-1")
    ('退货㐂', '锁')
    """
    name = (charset or "").strip().strip("\"'").lower().partition("*")[0]
    declared = _READ_AS.get(name, name)
    if data.isascii() and not declared.startswith(("utf-16", "utf-32", "utf-7", "iso-2022", "hz")):
        return data.decode("ascii")
    if declared == "gb18030" and _is_chinese_utf8(data):
        return data.decode("utf-8")
    western = declared.startswith(("iso-8859", "windows-125", "cp125", "latin"))
    for encoding in ("utf-8", declared) if western else (declared, "utf-8", "gb18030"):
        try:
            if encoding:
                return data.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
    import charset_normalizer

    best = charset_normalizer.from_bytes(data[:100_000]).best()
    return data.decode(best.encoding if best else "utf-8", "replace")


def _is_chinese_utf8(data: bytes) -> bool:
    """Whether all that is not ASCII is UTF-8 of three bytes a character: GB18030 hardly ever looks like that."""
    try:
        beyond = [character for character in data.decode("utf-8") if character > "\x7f"]
    except UnicodeDecodeError:
        return False
    return len(beyond) > 2 and min(beyond) > "\u0800"


def header_text(message: Message, name: str) -> str:
    """A header as a person reads it, on one line; empty when it is not there."""
    return _words(_plain_header(message, name))


def _plain_header(message: Message, name: str) -> str:
    """A header on one line, encoded words as they are, other bytes as text."""
    raw = next((value for key, value in message.raw_items() if key.lower() == name.lower()), "")  # type: ignore[attr-defined]
    return _unescaped(str(raw))


def _unescaped(raw: str) -> str:
    """A header whose bytes were not encoded at all, read as what they are."""
    folded = re.sub(r"\r?\n[ \t]+", " ", raw).strip()
    return decoded(folded.encode("utf-8", "surrogateescape"), None)


def _words(text: str) -> str:
    """Encoded words (`=?gb2312?B?...?=`) as text; a character may be cut in two by the end of a word."""
    out: list[str] = []
    charset, pending, place = "", b"", 0
    for found in _WORD.finditer(text):
        between = text[place : found.start()]
        if between.strip() or not pending or found[1].lower() != charset:
            out.append(decoded(pending, charset))
            out.append("" if pending and not between.strip() else between)
            pending = b""
        charset, place = found[1].lower(), found.end()
        pending += _bytes_of_word(found[2], found[3])
    out.append(decoded(pending, charset))
    return "".join([*out, text[place:]]).strip()


def _bytes_of_word(kind: str, content: str) -> bytes:
    if kind in "qQ":
        return quopri.decodestring(content.encode("ascii", "replace"), header=True)
    plain = re.sub(r"[^A-Za-z0-9+/]", "", content)
    try:
        return base64.b64decode(plain + "=" * (-len(plain) % 4))
    except binascii.Error:
        return content.encode("utf-8", "replace")


def _addresses(message: Message, name: str) -> list[tuple[str, str]]:
    """Name and address (lower case) of everyone in a header."""
    text = _plain_header(message, name)
    pairs = [(who, address) for who, address in email.utils.getaddresses([text]) if "@" in address]
    pairs = pairs or [("", address) for address in re.findall(r"[^\s<>,;:\"()]+@[^\s<>,;:\"()]+", text)]
    return [(_words(who), address.strip().lower()) for who, address in pairs]


# ---------------------------------------------------------------------------------------------------------- times


def _sent(header: str, zone: str, received: dt.datetime | None) -> tuple[dt.datetime | None, str | None]:
    """When it was sent, and what is wrong with its own word for it; then the time of receipt stands in."""
    moment = _moment(header, zone)
    problem = (
        "missing" if not header else "unreadable" if moment is None else "before 1990" if moment < OLDEST
        else "after its receipt" if received is not None and moment > received + AHEAD else None
    )  # fmt: skip
    return (moment, None) if problem is None else (received, problem)


def _moment(header: str, zone: str) -> dt.datetime | None:
    try:
        moment = email.utils.parsedate_to_datetime(header)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    if (
        moment.tzinfo is None
    ):  # -0000 says UTC; no zone at all says the sender's, of which the source's is the best guess
        stated = header.rstrip(") ").endswith("-0000")
        moment = moment.replace(tzinfo=dt.UTC if stated else zoneinfo.ZoneInfo(zone))
    try:
        return moment.astimezone(dt.UTC)
    except OverflowError:
        return None


def _received(message: Message, zone: str) -> dt.datetime | None:
    return _moment(header_text(message, "Received").rpartition(";")[2].strip(), zone)


# ------------------------------------------------------------------------------------------------ who wrote to whom


def _direction(from_: str, to: Sequence[str], own: Sequence[str]) -> str:
    def is_ours(address: str) -> bool:
        return any(address == ours.lower() or (ours[:1] == "@" and address.endswith(ours.lower())) for ours in own)

    if not is_ours(from_):
        return "inbound"
    return "internal" if to and all(is_ours(address) for address in to) else "outbound"


def _sender_kind(message: Message, from_: str, direction: str) -> str:
    automatic = header_text(message, "Auto-Submitted").lower() not in ("", "no")
    if automatic or header_text(message, "Precedence").lower() in ("bulk", "auto_reply", "list"):
        return "bot"
    if _MACHINES.match(from_):
        return "system"
    return "customer" if direction == "inbound" else "human"


# -------------------------------------------------------------------------------------------------------- content


def _content(message: Message) -> tuple[str, list[dict[str, Any]]]:
    """The whole text, and what is attached."""
    plain: list[str] = []
    pages: list[str] = []
    attachments: list[dict[str, Any]] = []
    for part in _leaves(message):
        kind, name = part.get_content_type(), _file_name(part)
        is_text = kind in ("text/plain", "text/html") and not name and part.get_content_disposition() != "attachment"
        data = _payload(part)
        if not is_text:
            attachments.append(_attachment(part, name or "", kind, data))
        else:
            (plain if kind == "text/plain" else pages).append(decoded(data, part.get_param("charset", None)))  # type: ignore[arg-type]
    text = "\n\n".join(each.strip("\r\n") for each in plain if each.strip())
    if pages:
        page = "\n\n".join(html_text(each[: 2 * LONGEST_TEXT]) for each in pages)
        text = text if text and 4 * len(text) >= len(page) else page  # else the text is a footer, the message the page
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", ""), attachments


def _leaves(message: Message) -> Iterator[Message]:
    """Parts that have no parts; a forwarded message is one."""
    parts = message.get_payload()
    if isinstance(parts, list) and message.get_content_maintype() == "multipart":
        for part in parts:
            if isinstance(part, Message):
                yield from _leaves(part)
    else:
        yield message


def _payload(part: Message) -> bytes:
    inner = part.get_payload()
    if isinstance(inner, list):
        return b"\n".join(each.as_bytes() for each in inner if isinstance(each, Message))
    data = part.get_payload(decode=True)
    return data if isinstance(data, bytes) else str(inner or "").encode("utf-8", "surrogateescape")


def _attachment(part: Message, name: str, kind: str, data: bytes) -> dict[str, Any]:
    inner = part.get_payload()
    if not name and isinstance(inner, list) and inner and isinstance(inner[0], Message):
        name = f"{header_text(inner[0], 'Subject') or 'message'}.eml"
    return {"name": name or "unnamed", "type": kind, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def _file_name(part: Message) -> str | None:
    """The name of a file in any of the ways programs write it."""
    for header, key in (("content-disposition", "filename"), ("content-type", "name")):
        readable = Message()
        readable[header] = _plain_header(part, header)
        value = readable.get_param(key, None, header)
        if isinstance(value, tuple):  # RFC 2231: charset, language, bytes as latin-1
            return decoded(value[2].encode("latin-1", "replace"), value[0])
        if value:
            return _words(str(value))
    return None
