"""Fingerprints of large files that have been taken before: a file that nobody touched is not read again.

What tells is what tells version control: size, times of change of content and of entry, and the number of the entry.
A file that changed in the moment before it was read is not remembered: its next change might have the same times.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

LARGE = 4 << 20
"""Smaller files are read again: it takes no time."""

SETTLED_NS = 2_000_000_000
NAME = "fingerprints.json"


class Fingerprints:
    """What is remembered below `folder`; a memory that is lost or damaged costs time, nothing else."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / NAME
        try:
            self._known: dict[str, list[int | str]] = dict(json.loads(self._path.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            self._known = {}

    def of(self, path: Path) -> str | None:
        """The SHA-256 of the file when it was last read, if it is still that file."""
        *facts, digest = self._known.get(str(path.resolve())) or [""]
        return str(digest) if digest and facts == _facts(path.stat()) else None

    def remember(self, path: Path, before: os.stat_result, digest: str) -> None:
        """Keep the fingerprint of a file that was read; `before` is its status at that time."""
        settled = time.time_ns() - max(before.st_mtime_ns, before.st_ctime_ns) > SETTLED_NS
        if os.name == "nt" or before.st_size < LARGE or not settled or _facts(path.stat()) != _facts(before):
            return
        self._known[str(path.resolve())] = [*_facts(before), digest]
        mine = self._path.with_name(f".{NAME}.{os.getpid()}")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            mine.write_text(json.dumps(self._known), encoding="utf-8")
            mine.replace(self._path)
        except OSError:  # a full disk: it is read again next time
            mine.unlink(missing_ok=True)


def _facts(status: os.stat_result) -> list[int | str]:
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
