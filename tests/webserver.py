"""A real HTTP server on loopback that answers as a test tells it: pages, failures, throttling, dropped connections."""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import threading
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Reply:
    """What the server does with one request; `cut` drops the connection after so many bytes of the body."""

    body: Any = None
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    text: bytes | None = None


@dataclass
class Request:
    """What was asked."""

    path: str
    parameters: dict[str, str]
    headers: dict[str, str]


@dataclass
class Server:
    """A running server: its address, what was asked of it, and what it answers."""

    url: str
    requests: list[Request]
    answer: Callable[[Request], Reply]

    def __call__(self, answer: Callable[[Request], Reply]) -> None:
        self.answer = answer


class FakeClock:
    """Time that passes only by sleeping."""

    def __init__(self) -> None:
        self.moment = dt.datetime(2026, 1, 10, tzinfo=dt.UTC)
        self.slept: list[float] = []

    def now(self) -> dt.datetime:
        return self.moment

    def monotonic(self) -> float:
        return self.moment.timestamp()

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.moment += dt.timedelta(seconds=seconds)


@contextlib.contextmanager
def web_server() -> Iterator[Server]:
    """A server on a free port, as long as the block runs."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            path, _, query = self.path.partition("?")
            request = Request(path, dict(urllib.parse.parse_qsl(query, keep_blank_values=True)), dict(self.headers))
            running.requests.append(request)
            reply = running.answer(request)
            content = reply.text if reply.text is not None else json.dumps(reply.body, ensure_ascii=False).encode()
            self.send_response(reply.status)
            for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content if reply.cut is None else content[: reply.cut])
            if reply.cut is not None:
                self.close_connection = True

        def log_message(self, format: str, *args: Any) -> None:
            """Tests read `requests`."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    running = Server(f"http://127.0.0.1:{server.server_address[1]}", [], lambda request: Reply({}, 404))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield running
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
