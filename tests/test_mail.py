"""Mail as it really is: wrong encodings, quotes, signatures, threads; from a real IMAP server and from files."""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import hashlib
import json
import mailbox
import os
import socket
import ssl
import threading
from collections.abc import Iterator
from email.message import EmailMessage
from typing import Any

import pytest
import yaml
from conftest import TestWorkspace
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from imapserver import PASSWORD, USER, MailServer
from worlds import ROOT

from aftersales.collect.connectors.mail import fetch, probe
from aftersales.collect.connectors.message import decoded, header_text, read_message
from aftersales.collect.connectors.reply import html_text, new_text
from aftersales.collect.landing import Landing
from aftersales.collect.mapping import Source, read_source
from aftersales.collect.reach import reach
from aftersales.collect.watermark import read_watermark
from aftersales.lake.store import Store
from aftersales.model.errors import SettingsError, SourceError

SOURCE = """
    owner: test
    connector: mail
    mail: {MAIL}
    time_zone: Asia/Shanghai
    tables:
      message:
        columns: {message_id: message_id, thread_id: thread_id, ticket_id: thread_id, reply_to: in_reply_to,
          channel: {value: email}, direction: direction, sender_kind: sender_kind, language: language,
          sent_at: sent_at, known_at: known_at, subject: subject, body: body}
      ticket:
        where: {is_first: ["true"], direction: [inbound]}
        columns: {ticket_id: thread_id, channel: {value: email}, created_at: sent_at, known_at: known_at,
          subject: subject, description: body}
"""
RECEIVED = dt.datetime(2026, 1, 5, 4, tzinfo=dt.UTC)


def read(data: bytes | str, **options: Any) -> dict[str, Any]:
    return read_message(data if isinstance(data, bytes) else data.encode(), "Asia/Shanghai", RECEIVED, **options)


def mail(number: int, subject: str = "Lock", body: str = "text", **headers: str) -> bytes:
    message = EmailMessage()
    message["Message-ID"] = f"<{number}@customer.example>"
    message["From"], message["To"] = "王 <wang@customer.example>", "support@maker.example"
    message["Subject"], message["Date"] = subject, f"Mon, 05 Jan 2026 10:{number:02d}:00 +0800"
    for name, value in headers.items():
        del message[name.replace("_", "-")]
        message[name.replace("_", "-")] = value
    message.set_content(body)
    return message.as_bytes()


def word(text: str, charset: str, kind: str = "B") -> str:
    data = text.encode(charset)
    shown = base64.b64encode(data).decode() if kind == "B" else "".join(f"={byte:02X}" for byte in data)
    return f"=?{charset}?{kind}?{shown}?="


# ------------------------------------------------------------------------------------------------ one message


@pytest.mark.parametrize("charset", ["utf-8", "gb18030", "gb2312", "big5"])
@pytest.mark.parametrize("kind", ["B", "Q"])
def test_chinese_subjects_in_every_encoding(charset: str, kind: str) -> None:
    text = "门锁漏液" if charset != "big5" else "門鎖漏液"
    assert read(f"Subject: Re: {word(text, charset, kind)}\r\n\r\n")["subject"] == f"Re: {text}"


def test_a_character_cut_by_the_end_of_an_encoded_word_is_put_together() -> None:
    data = "电池漏液严重".encode("gb18030")
    words = "\r\n ".join(f"=?gb2312?B?{base64.b64encode(part).decode()}?=" for part in (data[:5], data[5:]))
    assert read(f"Subject: {words} end\r\n\r\n")["subject"] == "电池漏液严重 end"


def test_headers_that_were_never_encoded_are_read_as_what_they_are() -> None:
    for charset in ("utf-8", "gb18030"):
        found = read(
            b"Subject: "
            + "门锁打不开".encode(charset)
            + b"\r\nFrom: "
            + "李".encode(charset)
            + b" <LI@X.example>\r\n\r\n"
        )
        assert (found["subject"], found["from_name"], found["from"]) == ("门锁打不开", "李", "li@x.example")


@pytest.mark.parametrize(
    ("declared", "real"),
    [
        ("gb2312", "gb18030"),
        ("us-ascii", "gb18030"),
        ("utf-8", "gb18030"),
        ("iso-8859-1", "utf-8"),
        ("no-such", "utf-8"),
        ("gbk", "utf-8"),
    ],
)
@pytest.mark.parametrize("transfer", ["8bit", "base64", "quoted-printable"])
def test_a_body_that_lies_about_its_encoding_is_read(declared: str, real: str, transfer: str) -> None:
    text = "门锁的电池漏液了，指纹无法识别"
    data = text.encode(real)
    if declared == "gbk":  # told apart only where the bytes cannot be what is declared
        data = (text + "a").encode(real)
    encoded = {
        "8bit": data,
        "base64": base64.encodebytes(data),
        "quoted-printable": b"".join(b"=%02X" % byte for byte in data),
    }[transfer]
    header = f"Content-Type: text/plain; charset={declared}\r\nContent-Transfer-Encoding: {transfer}\r\n\r\n".encode()
    assert read(header + encoded)["full_body"].rstrip("a\n") == text


def test_western_text_stays_western() -> None:
    assert decoded("Grüße aus Köln".encode("iso-8859-1"), "iso-8859-1") == "Grüße aus Köln"
    assert decoded(b"plain", "no-such-charset") == "plain"
    assert decoded(b"", None) == ""


@pytest.mark.parametrize(
    ("header", "sent", "problem"),
    [
        ("Mon, 5 Jan 2026 10:00:00 +0800", "2026-01-05T02:00:00+00:00", None),
        ("Mon, 5 Jan 2026 10:00:00 +0800 (CST)", "2026-01-05T02:00:00+00:00", None),
        ("5 Jan 2026 01:00:00 GMT", "2026-01-05T01:00:00+00:00", None),
        ("Mon, 5 Jan 2026 03:00:00 -0000", "2026-01-05T03:00:00+00:00", None),
        ("Mon, 5 Jan 2026 10:00:00", "2026-01-05T02:00:00+00:00", None),
        ("2026年1月5日", "2026-01-05T04:00:00+00:00", "unreadable"),
        ("Mon, 99 Jan 2026 10:00:00 +0800", "2026-01-05T04:00:00+00:00", "unreadable"),
        ("Thu, 1 Jan 1970 00:00:00 +0000", "2026-01-05T04:00:00+00:00", "before 1990"),
        ("Mon, 5 Jan 2099 10:00:00 +0800", "2026-01-05T04:00:00+00:00", "after its receipt"),
        ("", "2026-01-05T04:00:00+00:00", "missing"),
    ],
)
def test_when_it_was_sent(header: str, sent: str, problem: str | None) -> None:
    found = read(f"Date: {header}\r\n\r\n" if header else "\r\n")
    assert (found["sent_at"], found["date_problem"]) == (sent, problem)


def test_an_eml_takes_its_receipt_from_the_newest_received_header() -> None:
    data = b"Received: from a by b;\r\n Mon, 5 Jan 2026 12:00:00 +0800\r\nReceived: from c; Mon, 5 Jan 2026 11:00:00 +0800\r\n\r\n"
    assert read_message(data, "UTC", None)["received_at"] == "2026-01-05T04:00:00+00:00"
    assert read_message(b"\r\n", "UTC", None)["sent_at"] is None


def test_attachments_are_listed_with_their_names_in_every_spelling() -> None:
    name = "现场照片㐂.jpg"
    rfc2231 = "gb18030''" + "".join(f"%{byte:02X}" for byte in name.encode("gb18030"))
    parts = [
        f"Content-Disposition: attachment; filename*={rfc2231}",
        f'Content-Disposition: attachment; filename="{word(name, "utf-8")}"',
        f'Content-Type: image/jpeg; name="{word(name, "gb18030")}"',
        f'Content-Disposition: attachment; filename="{name}"',
        "Content-Disposition: attachment",
    ]
    body = b"".join(b"--x\r\n" + part.encode() + b"\r\n\r\n" + b"ab" + b"\r\n" for part in parts)
    forwarded = b"--x\r\nContent-Type: message/rfc822\r\n\r\nSubject: Old\r\n\r\nold text\r\n"
    found = read(
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\n\r\nthe text\r\n" + body + forwarded + b"--x--\r\n"
    )
    assert [each["name"] for each in found["attachments"]] == [name] * 4 + ["unnamed", "Old.eml"]
    assert found["attachments"][0] == {
        "name": name,
        "type": "text/plain",
        "size": 2,
        "sha256": hashlib.sha256(b"ab").hexdigest(),
    }
    assert found["full_body"] == "the text"


def test_the_page_is_taken_where_the_text_is_only_a_footer() -> None:
    message = EmailMessage()
    message.set_content("Please view as HTML")
    message.add_alternative(
        "<html><head><style>p{}</style></head><body><p>门锁</p><div>打不开<br>三天了</div>" + "<p>x</p>" * 90,
        subtype="html",
    )
    assert read(message.as_bytes())["full_body"].startswith("门锁\n\n打不开\n三天了")


def test_a_broken_message_still_becomes_a_record() -> None:
    for data in (
        b"",
        b"\xff\xfe",
        b"Content-Type: multipart/mixed\r\n\r\nno boundary",
        b"Content-Transfer-Encoding: base64\r\n\r\n@@@",
        b"a: \xff\nFrom: <<>>\nDate: \xff\n\nx",
    ):
        found = read(data)
        assert found["message_id"] == f"sha256:{hashlib.sha256(data).hexdigest()}"
        assert set(found) == set(read(b""))
        json.dumps(found)


def test_who_writes_to_whom() -> None:
    own = ["@maker.example"]
    assert [read(mail(1), own=own)[key] for key in ("direction", "sender_kind", "correspondent")] == [
        "inbound",
        "customer",
        "wang@customer.example",
    ]
    ours = read(mail(2, From="Support <a@maker.example>", To="wang@customer.example"), own=own)
    assert [ours[key] for key in ("direction", "sender_kind", "correspondent")] == [
        "outbound",
        "human",
        "wang@customer.example",
    ]
    assert read(mail(3, From="a@maker.example", To="b@maker.example"), own=own)["direction"] == "internal"
    assert read(mail(4, Auto_Submitted="auto-replied"), own=own)["sender_kind"] == "bot"
    assert read(mail(5, From="MAILER-DAEMON@x.example"), own=own)["sender_kind"] == "system"
    import email

    assert header_text(email.message_from_bytes(mail(1)), "Nope") == ""


# ------------------------------------------------------------------------------------------- what is new in it


@pytest.mark.parametrize(
    ("text", "new"),
    [
        ("New text.\n\nOn Mon, 5 Jan 2026 at 10:00, Support <s@x.example> wrote:\n> old\n> older", "New text."),
        ("New text.\n\nOn Mon, 5 Jan 2026 at 10:00, A Very Long Name\n<s@x.example> wrote:\n> old", "New text."),
        ("锁坏了。\n\n在 2026年1月5日，客服 <s@x.example> 写道：\n> 您好", "锁坏了。"),
        ("锁坏了。\n\n------------------ 原始邮件 ------------------\n发件人: \"客服\"\n您好", "锁坏了。"),
        ("已重启。\n\n发件人: 客服\n发送时间: 2026年1月5日 10:00\n收件人: 王\n主题: 门锁\n\n您好", "已重启。"),
        ("Done.\n\n-----Original Message-----\nFrom: a\nold", "Done."),
        ("From: what I see it is the battery.\nTo be clear: it leaks.", "From: what I see it is the battery.\nTo be clear: it leaks."),
        ("On Monday it broke.\n> not mine\nStill broken.", "On Monday it broke.\nStill broken."),
        ("On 5 Jan 2026, S wrote:\n> Which model?\nL1.\n> Since when?\nMonday.", "L1.\nMonday."),
        ("锁坏了。\n\n发自我的iPhone", "锁坏了。"),
        ("It broke.\n\n-- \nBob Smith\nACME", "It broke."),
        ("It broke.\n\nSent from my iPhone", "It broke."),
        ("请尽快处理。\n\n此致\n敬礼\n王", "请尽快处理。"),
        ("> only quoted", "> only quoted"),
        ("", ""),
        ("谢谢", "谢谢"),
    ],
)  # fmt: skip
def test_quotes_and_signatures_are_cut(text: str, new: str) -> None:
    assert new_text(text) == new
    assert new_text(text.replace("\n", "\r\n")) == new


def test_a_long_or_odd_text_takes_no_time() -> None:
    started = dt.datetime.now()
    for text in (
        "-" * 19_000,
        "On " * 6000,
        "_\n" * 9000,
        "> " * 9000,
        "谢谢，" * 6000,
        "a\n" * 200_000,
        "From: \n" * 2500,
    ):
        new_text(text)
    html_text("<div>" * 400 + "x" + "<blockquote>" * 50)
    assert (dt.datetime.now() - started).total_seconds() < 10


def test_quoted_blocks_of_a_page_are_marked() -> None:
    page = "<div>新<b>的</b></div><blockquote>old<blockquote>older</blockquote></blockquote><script>x</script>&nbsp;end"
    assert html_text(page) == "新的\n\n> old\n> > older\nend"


# ------------------------------------------------------------------------------------------------ a real server


@pytest.fixture(scope="module")
def server() -> Iterator[MailServer]:
    running = MailServer()
    running.start()
    yield running
    running.stop()


@pytest.fixture
def folder(server: MailServer, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("MAIL_USER", USER)
    monkeypatch.setenv("MAIL_PASSWORD", PASSWORD)
    server.new_folder("Support")
    return "Support"


def box(workspace: TestWorkspace, server: MailServer, **settings: Any) -> Source:
    block = {"host": "127.0.0.1", "port": server.port, "tls": "none", "user": {"env": "MAIL_USER"},
             "password": {"env": "MAIL_PASSWORD"}, "folders": ["Support"], "own_addresses": ["@maker.example"],
             "timeout_s": 10, **settings}  # fmt: skip
    return workspace.source(SOURCE.replace("{MAIL}", json.dumps(block)))


def messages(workspace: TestWorkspace) -> list[Any]:
    return workspace.rows("message", "message_id", "thread_id")


def cursor_of(workspace: TestWorkspace) -> Any:
    mark = read_watermark(Store(workspace.open().lake), "crm")
    return None if mark is None else mark.cursor["folders"]["Support"]["uid"]


def test_messages_become_threads_with_a_ticket_for_the_first(
    workspace: TestWorkspace, server: MailServer, folder: str
) -> None:
    source = box(workspace, server)
    server.append(
        mail(1, "门锁打不开", "电池漏液\n\n发自我的iPhone"),
        mail(2, "回复: 门锁打不开", "请寄回\n> 电池漏液", From="a@maker.example", To="wang@customer.example",
             In_Reply_To="<1@customer.example>"),
        mail(3, "Re: 门锁打不开", "好的", In_Reply_To="<2@customer.example>"),
        mail(4, "Re: 门锁打不开", "no header says so"),
        mail(5, "Another", "二", References="<0@elsewhere.example> <4@x.example>"),
        folder=folder,
    )  # fmt: skip
    (message, ticket) = workspace.ingest(source)
    assert (message.rows_read, message.inserted, ticket.inserted, ticket.left_out) == (5, 5, 2, 3)
    first = "1@customer.example"
    assert messages(workspace) == [(first, first), ("2@customer.example", first), ("3@customer.example", first),
                                   ("4@customer.example", first), ("5@customer.example", "0@elsewhere.example")]  # fmt: skip
    assert workspace.rows("ticket", "ticket_id", "subject", "description", "created_at") == [
        ("0@elsewhere.example", "Another", "二", dt.datetime(2026, 1, 5, 2, 5, tzinfo=dt.UTC)),
        (first, "门锁打不开", "电池漏液", dt.datetime(2026, 1, 5, 2, 1, tzinfo=dt.UTC)),
    ]
    assert workspace.rows("message", "direction", "sender_kind", "language").count(("outbound", "human", "zh")) == 1
    server.append(mail(6, "Re: 门锁打不开", "六", In_Reply_To="<3@customer.example>"), folder=folder)
    assert [ledger.inserted for ledger in workspace.ingest(source)] == [1, 0]
    assert messages(workspace)[-1] == ("6@customer.example", first)
    assert workspace.ingest(source) == []
    landed = "".join(path.read_text(encoding="utf-8") for path in (workspace.root / "data/raw/crm").glob("*.jsonl"))
    assert "发自我的iPhone" in landed  # the whole text is kept there
    assert PASSWORD not in landed


def test_a_folder_whose_uids_start_anew_is_read_again_and_nothing_is_doubled(
    workspace: TestWorkspace, server: MailServer, folder: str
) -> None:
    source = box(workspace, server)
    server.append(mail(1), mail(2), folder=folder)
    workspace.ingest(source)
    server.new_folder(folder)
    server.append(mail(2), mail(3), folder=folder)
    (message, _) = workspace.ingest(source)
    assert (message.rows_read, message.inserted, message.unchanged) == (2, 1, 1) or (
        message.inserted,
        message.corrected,
    ) == (1, 1)
    assert len(messages(workspace)) == 3


def test_messages_read_again_by_an_overlap_change_no_table(
    workspace: TestWorkspace, server: MailServer, folder: str
) -> None:
    source = box(workspace, server, overlap=2)
    server.append(mail(1), mail(2), mail(3), folder=folder)
    workspace.ingest(source)
    version = Store(workspace.open().lake).version("message")
    (message, _) = workspace.ingest(source)
    assert (message.rows_read, message.unchanged) == (2, 2)
    assert Store(workspace.open().lake).version("message") == version


def test_a_connection_dropped_on_the_way_keeps_what_came(
    workspace: TestWorkspace, server: MailServer, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aftersales.collect.connectors.mail.MESSAGES", 2)
    source = box(workspace, server)
    server.append(*(mail(i, body="x" * 20_000 + "\n") for i in range(1, 6)), folder=folder)
    server.cut_after = 70_000
    with pytest.raises(SourceError, match=r"the connection to 127.0.0.1 was lost") as caught:
        workspace.ingest(source)
    assert caught.value.rows == "the rest is fetched next"
    assert len(messages(workspace)) == 2
    workspace.ingest(source)
    assert len(messages(workspace)) == 5


def test_a_refused_login_repeats_no_password(
    workspace: TestWorkspace, server: MailServer, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAIL_PASSWORD", "wröng/secret")
    with pytest.raises(SourceError) as caught:
        workspace.ingest(box(workspace, server))
    assert "refuses the login" in caught.value.what
    assert "secret" not in str(caught.value)
    monkeypatch.delenv("MAIL_PASSWORD")
    with pytest.raises(SourceError, match="the environment variable MAIL_PASSWORD is not set"):
        workspace.ingest(box(workspace, server))


def test_no_password_goes_to_a_server_that_cannot_prove_its_name(
    workspace: TestWorkspace, server: MailServer, folder: str
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key()).serial_number(1)
        .not_valid_before(now - dt.timedelta(1)).not_valid_after(now + dt.timedelta(1)).sign(key, hashes.SHA256())
    )  # fmt: skip
    pem = serialization.Encoding.PEM
    both = key.private_bytes(
        pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ) + certificate.public_bytes(pem)
    (workspace.root / "own.pem").write_bytes(both)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(workspace.root / "own.pem")
    said: list[bytes] = []

    def answer(listening: socket.socket) -> None:
        with contextlib.suppress(OSError), context.wrap_socket(listening.accept()[0], server_side=True) as one:
            said.append(one.recv(1000))

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = threading.Thread(target=answer, args=(listening,))
        thread.start()
        with pytest.raises(SourceError, match="certificate verify failed"):
            workspace.ingest(box(workspace, server, tls="ssl", port=listening.getsockname()[1]))
        thread.join(20)
    assert b"".join(said) == b""


def test_a_folder_or_host_that_is_not_there_is_said_so(
    workspace: TestWorkspace, server: MailServer, folder: str
) -> None:
    with pytest.raises(SourceError, match="no folder '不在'") as caught:
        workspace.ingest(box(workspace, server, folders=["不在"]))
    assert "Support" in caught.value.rows
    with pytest.raises(SourceError, match=r"the connection to 127.0.0.1 failed") as caught:
        workspace.ingest(box(workspace, server, port=1))
    assert caught.value.fix == "check host, port and tls in the source's YAML"


def test_a_probe_opens_every_folder_and_changes_nothing(
    workspace: TestWorkspace, server: MailServer, folder: str
) -> None:
    server.append(mail(1), mail(2), folder=folder)
    source = box(workspace, server, folders=["INBOX", "Support"])
    seen = probe(source, workspace.open())
    assert seen.reached.endswith("Support with 2 messages")
    assert {"message_id", "thread_id", "is_first", "body", "attachments"} <= set(seen.columns)
    with server.client() as client:
        client.select("Support")
        assert client.search(None, "UNSEEN")[1] == [b"1 2"]


def test_the_example_of_a_mailbox_loads_such_a_mailbox(
    workspace: TestWorkspace, server: MailServer, folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = yaml.safe_load((ROOT / "data/sources/examples/support_mailbox.yml").read_text(encoding="utf-8"))
    place = {"host": "127.0.0.1", "port": server.port, "tls": "none", "user": {"env": "MAIL_USER"}, "folders": [folder]}
    content["mail"] = {**content["mail"], **place}
    path = workspace.root / "data" / "sources" / "support_mailbox.yml"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    source = read_source(path, workspace.open())
    monkeypatch.setenv("SUPPORT_MAIL_PASSWORD", PASSWORD)
    server.append(
        mail(1), mail(2, From="a@example.com", To="w@x.example", In_Reply_To="<1@customer.example>"), folder=folder
    )
    assert reach(workspace.open(), source).state == "ok"
    message, ticket = workspace.ingest(source)
    assert (message.inserted, message.rejected, ticket.inserted) == (2, 0, 1)


# ------------------------------------------------------------------------------------------------------- files


def files(workspace: TestWorkspace) -> Source:
    return workspace.source(SOURCE.replace("{MAIL}", json.dumps({"files": "data/mail/*"})))


def test_eml_and_mbox_files_are_read_once(workspace: TestWorkspace) -> None:
    place = workspace.root / "data" / "mail"
    place.mkdir(parents=True)
    (place / "one.eml").write_bytes(mail(1, "锁"))
    archive = mailbox.mbox(str(place / "old.mbox"))
    archive.add(mail(2))
    archive.add(mail(3, "Re: 锁", In_Reply_To="<1@customer.example>"))
    archive.close()
    source = files(workspace)
    (message, _) = workspace.ingest(source)
    assert (message.inserted, messages(workspace)[2]) == (3, ("3@customer.example", "1@customer.example"))
    assert workspace.ingest(source) == []
    old = place / "late.eml"
    old.write_bytes(mail(4))
    os.utime(old, (1_000_000_000, 1_000_000_000))  # a copy that keeps the time of its original
    (message, _) = workspace.ingest(source)
    assert (message.rows_read, message.inserted) == (1, 1)


def test_no_mail_file_is_an_error(workspace: TestWorkspace) -> None:
    with pytest.raises(SourceError, match="no file matches data/mail/"):
        workspace.ingest(files(workspace))


def test_files_of_mail_are_landed_once_each_with_all_their_fields(workspace: TestWorkspace) -> None:
    (workspace.root / "data" / "mail").mkdir(parents=True)
    (workspace.root / "data" / "mail" / "a.eml").write_bytes(mail(1))
    source = files(workspace)
    with Landing(workspace.root / "x", source.stream) as landing:
        fetched = fetch(source, workspace.open(), None, landing)
    (line,) = (workspace.root / "x" / fetched.files[0]).read_text(encoding="utf-8").splitlines()
    assert set(json.loads(line)) == set(probe(source, workspace.open()).columns)
    assert list((fetched.cursor or {})["names"]) == ["data/mail/a.eml"]


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ("{host: mail.example}", "a mailbox needs 'user' and 'password'"),
        ("{host: mail.example, user: u, password: pw}", "a secret does not stand in a YAML"),
        ("{host: mail.example, user: u, password: {env: P}, tls: none}", "a password is sent encrypted only"),
        ("{host: h, files: f, user: u, password: {env: P}}", "give either 'host'"),
        (
            "{host: h, user: u, password: {env: P}, tls: starttls, port: 993}",
            "port 993 is encrypted from the beginning",
        ),
        ("{}", "give either 'host'"),
    ],
)
def test_a_block_that_is_unsafe_or_unclear_is_refused(workspace: TestWorkspace, block: str, message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        workspace.source(SOURCE.replace("{MAIL}", block))
    assert message in caught.value.rows
