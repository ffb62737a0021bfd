"""Zip archives: their members by readable names, and which archives are not opened."""

from __future__ import annotations

import contextlib
import io
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from aftersales.model.errors import SourceError

MEMBERS_LIMIT = 10_000
UNPACKED_FLOOR = 1 << 30
UNPACKED_RATIO = 200
"""Content larger than the floor that is more than so many times its packed size is no export."""

NAME_ENCODINGS = ("utf-8", "gb18030", "cp949", "cp932")
"""Names that are not marked as UTF-8 are read in the first of these that fits."""

_DAMAGED = (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, ValueError)
_ENCRYPTED = 0x1
_NAMED_IN_UTF8 = 0x800


@dataclass(frozen=True)
class Member:
    """One file inside an archive."""

    entry: str
    """Its name as the archive's directory spells it."""
    name: str
    """Its name as people read it, with its folders."""
    packed: int
    archive_bytes: int


def is_bomb(packed: int, unpacked: int) -> bool:
    """Whether content unpacks to far more than an export can."""
    return unpacked > max(UNPACKED_FLOOR, UNPACKED_RATIO * packed)


def bomb(name: str, packed: int, unpacked: int) -> SourceError:
    """The error of content that unpacks to far more than an export can."""
    return SourceError(
        name,
        f"unpacks from {packed:,} to {unpacked:,} bytes or more, over {UNPACKED_RATIO} times its size",
        rows="none of its rows was loaded",
        fix="ask for the export again; if it really is that large, deliver it unpacked",
    )


def members(path: Path, shown: str) -> list[Member]:
    """Every file of the archive, by readable name; what operating systems leave in archives is passed over.

    Raises
    ------
    SourceError
        Not a whole archive, encrypted, or it unpacks to far more than exports do.
    """
    with _opened(path, shown) as archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
    if len(entries) > MEMBERS_LIMIT:
        raise SourceError(
            shown,
            f"holds {len(entries):,} files, more than {MEMBERS_LIMIT:,}",
            rows="none of its rows was loaded",
            fix="deliver it in several archives",
        )
    size = path.stat().st_size
    packed = min(size, sum(entry.compress_size for entry in entries))  # members of a bomb may share their content
    unpacked = sum(entry.file_size for entry in entries)
    if is_bomb(packed, unpacked):
        raise bomb(shown, packed, unpacked)
    locked = [entry for entry in entries if entry.flag_bits & _ENCRYPTED]
    if locked:
        raise SourceError(
            shown,
            f"{len(locked)} of {len(entries)} files in it are encrypted",
            rows=", ".join(_name(entry) for entry in locked[:5]) + "; none of its rows was loaded",
            fix="deliver the archive without a password",
        )
    found = [Member(entry.filename, _name(entry), entry.compress_size, size) for entry in entries]
    return sorted((member for member in found if not _is_litter(member.name)), key=lambda member: member.name)


def _is_litter(name: str) -> bool:
    folders = name.split("/")
    return folders[0] == "__MACOSX" or folders[-1].startswith((".", "~$")) or folders[-1] == "Thumbs.db"


def _name(entry: zipfile.ZipInfo) -> str:
    """The name; old programs write it in the code page of their machine, which the reader takes for cp437."""
    if entry.flag_bits & _NAMED_IN_UTF8:
        return entry.filename
    try:
        spelled = entry.filename.encode("cp437")
    except UnicodeEncodeError:
        return entry.filename
    for encoding in NAME_ENCODINGS:
        with contextlib.suppress(UnicodeDecodeError):
            return spelled.decode(encoding)
    return entry.filename


@contextlib.contextmanager
def _opened(path: Path, shown: str) -> Iterator[zipfile.ZipFile]:
    try:
        with zipfile.ZipFile(path) as archive:
            yield archive
    except _DAMAGED as error:
        raise damaged(shown, error) from error
    except OSError as error:
        raise SourceError(
            shown,
            f"cannot be read: {error.strerror or error}",
            rows="none of its rows was loaded",
            fix="check that the file is there and its rights",
        ) from error


def damaged(shown: str, error: Exception) -> SourceError:
    """The error of an archive that does not unpack."""
    return SourceError(
        shown,
        f"the archive is cut off or damaged ({error})",
        rows="none of its rows was loaded",
        fix="copy the file again, then repeat the ingest",
    )


class _Content(io.RawIOBase):
    """The unpacked bytes of one member; damage is told as an error of the source."""

    def __init__(self, path: Path, member: Member) -> None:
        self._shown = f"{path.name}/{member.name}"
        self._archive = zipfile.ZipFile(path)
        try:
            self._stream: IO[bytes] = self._archive.open(member.entry)
        except _DAMAGED as error:
            self._archive.close()
            raise damaged(self._shown, error) from error

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]
        try:
            block = self._stream.read(len(buffer))
        except _DAMAGED as error:
            raise damaged(self._shown, error) from error
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
            self._archive.close()
        super().close()


def opened_member(path: Path, member: Member) -> IO[bytes]:
    """The unpacked content of one member.

    Raises
    ------
    SourceError
        The archive is cut off, or the member's checksum is wrong; also while reading.
    """
    return io.BufferedReader(_Content(path, member), 1 << 20)
