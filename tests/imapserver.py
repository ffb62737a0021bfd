"""A real IMAP server on loopback (pymap) with a gate in front of it that can drop connections."""

from __future__ import annotations

import asyncio
import contextlib
import imaplib
import threading
from argparse import Namespace
from collections.abc import Iterator
from typing import Any

USER, PASSWORD = "support@我们.example", "p@ss/wörd"


class MailServer:
    """One mailbox. `cut_after` closes the next connection once the server has sent so many bytes."""

    def __init__(self) -> None:
        self.port = 0
        self.cut_after: int | None = None
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        self._thread.start()
        assert self._ready.wait(20)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(20)

    def append(self, *messages: bytes, folder: str = "INBOX") -> None:
        """Put messages into the mailbox the way a client does."""
        with self.client() as client:
            for message in messages:
                kind, said = client.append(folder, "", "", message)
                assert kind == "OK", said

    def new_folder(self, folder: str) -> None:
        """Make a folder, anew where there is one: its UIDs then mean other messages."""
        with self.client() as client:
            client.delete(folder)
            assert client.create(folder)[0] == "OK"

    @contextlib.contextmanager
    def client(self) -> Iterator[imaplib.IMAP4]:
        client = imaplib.IMAP4("127.0.0.1", self.port, timeout=10)
        client.authenticate("PLAIN", lambda _: f"\0{USER}\0{PASSWORD}".encode())
        try:
            yield client
        finally:
            client.logout()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._serve())
        self._ready.set()
        self._loop.run_forever()
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    async def _serve(self) -> None:
        from proxyprotocol.reader import ProxyProtocolReader
        from pymap.backend.dict import DictBackend
        from pymap.imap import IMAPServer

        arguments = Namespace(host=None, port="0", debug=False, cert=None, key=None, tls=False, demo_data=False,
                              demo_user=USER, demo_password=PASSWORD, passlib_cfg=None, proxy_protocol=None)  # fmt: skip
        backend, config = await DictBackend.init(arguments, invalid_user_sleep=0.0)
        config.apply_context()
        answer = ProxyProtocolReader(config.proxy_protocol).get_callback(IMAPServer(backend.login, config))
        inner = await asyncio.start_server(answer, "127.0.0.1", 0)
        behind = inner.sockets[0].getsockname()[1]

        async def pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None) -> None:
            with contextlib.suppress(ConnectionError):
                while data := await reader.read(4096):
                    writer.write(data if limit is None else data[:limit])
                    await writer.drain()
                    limit = None if limit is None else limit - len(data)
                    if limit is not None and limit <= 0:
                        break
            writer.close()

        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            limit, self.cut_after = self.cut_after, None
            there, back = await asyncio.open_connection("127.0.0.1", behind)
            await asyncio.gather(pass_on(reader, back, None), pass_on(there, writer, limit))

        gate = await asyncio.start_server(connected, "127.0.0.1", 0)
        self.port = gate.sockets[0].getsockname()[1]
        self._servers: list[Any] = [inner, gate]
