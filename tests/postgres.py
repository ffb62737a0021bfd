"""A real PostgreSQL server for tests, on a socket in a temporary folder."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

SERVER_USERS = ("postgres", "nobody")  # PostgreSQL refuses to run as root


def binaries() -> Path | None:
    """The folder of `initdb` and `postgres`; Debian keeps it off the path."""
    found = [Path(path) for path in (shutil.which("initdb"), shutil.which("postgres")) if path]
    if len(found) == 2:
        return found[0].parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name))
    return next((folder for folder in reversed(folders) if (folder / "initdb").exists()), None)


def missing_for_postgresql() -> str:
    if binaries() is None:
        return "no PostgreSQL server here: initdb and postgres not found"
    if importlib.util.find_spec("psycopg") is None:
        return "no driver: pip install 'psycopg[binary]'"
    return ""


def as_user() -> dict[str, object]:
    """Arguments of `subprocess` that leave root."""
    if os.getuid() != 0:
        return {}
    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    user = next(known[name] for name in SERVER_USERS if name in known)
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


@pytest.fixture(scope="session")
def postgresql() -> Iterator[Callable[[str], str]]:
    """A PostgreSQL server; called with a name, it makes a database of it and returns the URL."""
    if reason := missing_for_postgresql():
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with server() as database:
        yield database


@contextlib.contextmanager
def server() -> Iterator[Callable[[str], str]]:
    """The server itself, as long as the block runs."""
    import psycopg

    tools, user = binaries(), as_user()
    folder = Path(tempfile.mkdtemp(prefix="pg-", dir="/tmp"))  # short: socket paths end at 107 characters
    if user:
        os.chown(folder, int(str(user["user"])), int(str(user["group"])))
    data, log = folder / "data", (folder / "log").open("w")
    initdb = [f"{tools}/initdb", "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--locale=C", "-N"]
    subprocess.run(initdb, check=True, stdout=log, stderr=log, cwd=folder, **user)  # type: ignore[call-overload]
    start = [f"{tools}/postgres", "-D", str(data), "-k", str(folder), "-h", ""]
    server = subprocess.Popen(start, stdout=log, stderr=log, cwd=folder, **user)  # type: ignore[call-overload]

    def database(name: str) -> str:
        with psycopg.connect(f"host={folder} user=postgres dbname=postgres", autocommit=True) as connection:
            connection.execute(f'create database "{name}"')
        return f"postgresql://postgres@/{name}?host={folder}"

    try:
        wait_for(lambda: psycopg.connect(f"host={folder} user=postgres dbname=postgres").close(), psycopg.Error)
        yield database
    finally:
        server.send_signal(signal.SIGQUIT)
        server.wait(timeout=30)
        log.close()
        shutil.rmtree(folder)


def wait_for(attempt: Callable[[], object], error: type[Exception], seconds: float = 30) -> None:
    give_up = time.monotonic() + seconds
    while True:
        try:
            attempt()
            return
        except error:
            if time.monotonic() > give_up:
                raise
            time.sleep(0.05)
