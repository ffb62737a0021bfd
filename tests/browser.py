"""Real pages in a real browser: the page server over a folder of notebooks, Chromium, and what went wrong in it.

No test waits for a number of seconds: `Page.settled` waits for the board's own mark, `document.body.dataset.boardRev`.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from aftersales.publish.serving import voila_command

if TYPE_CHECKING:
    from playwright.sync_api import Browser
    from playwright.sync_api import Page as Tab

CHROMIUM_FLAGS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    # no name is found: a page that needs the network fails here
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
]
"""Chromium without a network and without habits of its own."""

SERVER_SECONDS = 60
PAGE_MILLISECONDS = 90_000


def chromium_path() -> str:
    """Where Chromium is; skips the test without it, but fails where CI=true."""
    names = ("/usr/bin/chromium", "chromium", "chromium-browser", "google-chrome")
    found = next((path for name in names if (path := shutil.which(name))), None)
    if found is None:
        reason = "no Chromium: install the package chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


def free_port() -> int:
    """A port the system says is free now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(notebooks: Path, workspace_env: Mapping[str, str] | None = None, *, cache: Path) -> Iterator[str]:
    """The page server over `notebooks`; yields its address, ends it afterwards.

    `workspace_env` is added to the environment of the server and so of every page's kernel.
    """
    port = free_port()
    command, env = voila_command(notebooks, port=port, cache=cache)
    log_path = cache / f"server-{port}.log"
    url = f"http://127.0.0.1:{port}/"
    with log_path.open("wb") as log:
        server = subprocess.Popen(command, env=env | dict(workspace_env or {}), stdout=log, stderr=subprocess.STDOUT)
        try:
            _wait_for(url, server, log_path)
            yield url
        finally:
            server.terminate()
            try:
                server.wait(20)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


def _wait_for(url: str, server: subprocess.Popen[bytes], log_path: Path) -> None:
    """Return when the server answers at an address that starts no kernel."""
    end = time.monotonic() + SERVER_SECONDS
    while time.monotonic() < end:
        if server.poll() is not None:
            break
        try:
            urllib.request.urlopen(url + "voila/static/voila.js", timeout=2).close()
            return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    pytest.fail(f"page server did not start:\n{log_path.read_text(encoding='utf-8', errors='replace')[-3000:]}")


@contextmanager
def chromium() -> Iterator[Browser]:
    """Chromium from the system."""
    sync_api = pytest.importorskip("playwright.sync_api")
    path = chromium_path()
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_FLAGS)
        try:
            yield browser
        finally:
            browser.close()


@dataclass
class Page:
    """An open page with what it asked for and what went wrong on it."""

    tab: Tab
    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    @property
    def outside(self) -> list[str]:
        """Requests that left this machine."""
        own = ("http://127.0.0.1:", "ws://127.0.0.1:", "data:", "blob:", "file:", "about:")
        return [url for url in self.requests if not url.startswith(own)]

    def rev(self) -> int:
        """Sum of the revisions of all boards."""
        return int(self.tab.evaluate("Number(document.body.dataset.boardRev ?? -1)"))

    def settled(self, boards: int, *, rev: int = 0) -> None:
        """Wait until `boards` boards have drawn everything and their revisions add up to `rev` or more."""
        self.tab.wait_for_function(
            "([boards, rev]) => document.querySelectorAll('.as-board[data-drawn]').length >= boards"
            " && Number(document.body.dataset.boardRev) >= rev"
            " && !document.querySelector('.as-busy')",
            arg=[boards, rev],
            timeout=PAGE_MILLISECONDS,
        )

    def screenshot(self, path: Path) -> None:
        """The whole page as a picture."""
        self.tab.screenshot(path=str(path), full_page=True)


@contextmanager
def open_page(
    browser: Browser,
    url: str,
    *,
    boards: int = 0,
    locale: str = "en-US",
    dark: bool = False,
    width: int = 1280,
    headers: Mapping[str, str] | None = None,
    **options: Any,
) -> Iterator[Page]:
    """Open `url` in a fresh browser profile and wait for `boards` boards."""
    context = browser.new_context(
        locale=locale,
        color_scheme="dark" if dark else "light",
        viewport={"width": width, "height": 900},
        extra_http_headers=dict(headers or {}),
        accept_downloads=True,
        **options,
    )
    try:
        page = Page(context.new_page())
        page.tab.on("console", lambda said: page.errors.append(said.text) if said.type == "error" else None)
        page.tab.on("pageerror", lambda error: page.errors.append(str(error)))
        page.tab.on("request", lambda request: page.requests.append(request.url))
        page.tab.on("websocket", lambda line: page.requests.append(line.url))
        page.tab.goto(url, timeout=PAGE_MILLISECONDS)
        if boards:
            page.settled(boards)
        yield page
    finally:
        context.close()
