"""What lies in the drop folders: files and members of archives, found, named and fingerprinted."""

from __future__ import annotations

import datetime as dt
import fnmatch
import gzip
import hashlib
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from typing import IO, cast

from aftersales.collect.connectors.files.archives import Member, bomb, is_bomb, members, opened_member
from aftersales.collect.connectors.files.fingerprints import Fingerprints
from aftersales.collect.mapping import ENDINGS, FORMATS, Source
from aftersales.model.errors import SourceError

CHUNK = 1 << 20
TEXT_FORMATS = ("csv", "tsv", "jsonl", "json", "transcript")


@dataclass(frozen=True)
class ReceivedFile:
    """One file, or one member of an archive, as it was delivered; what follows `member` is known after `examine`."""

    path: Path
    name: str
    """Its path below the folder all globs of the source share; `archive.zip/member.csv` for a member."""
    format: str
    sha256: str
    bytes: int
    changed_ns: int
    member: Member | None = None
    encoding: str = "utf-8"
    """The one encoding, or those met in the lines of a mixed file, `utf-8+gb18030`."""
    undecodable: int = 0
    """Lines that none of the declared encodings reads."""
    quotes_balance: bool = True
    ends_with_newline: bool = True

    @property
    def received_at(self) -> dt.datetime:
        """When the file was put where it lies."""
        return dt.datetime.fromtimestamp(self.changed_ns // 1_000_000_000, dt.UTC)

    @property
    def is_gzip(self) -> bool:
        """Whether the content is compressed once more."""
        return (self.member.name if self.member else self.path.name).lower().endswith(".gz")

    def on_disk(self, scratch: Path) -> Path:
        """The file itself, or an unpacked copy of the archive's member in `scratch`."""
        if self.member is None:
            return self.path
        copy = scratch / f"{self.sha256[:16]}.part{'.gz' if self.is_gzip else ''}"
        if not copy.exists():
            with closing(opened_member(self.path, self.member)) as stream, copy.open("wb") as target:
                shutil.copyfileobj(stream, target, CHUNK)
        return copy


def opened(file: ReceivedFile) -> IO[bytes]:
    """The unpacked content of a file or member."""
    if file.member is None:
        return cast(IO[bytes], gzip.open(file.path, "rb")) if file.is_gzip else file.path.open("rb")
    stream = opened_member(file.path, file.member)
    return cast(IO[bytes], gzip.GzipFile(fileobj=stream)) if file.is_gzip else stream


def blocks(file: ReceivedFile) -> Iterator[bytes]:
    """The unpacked content in blocks that end with a line where lines are short enough.

    Raises
    ------
    SourceError
        It unpacks to far more than an export can.
    """
    size = 0
    packed = file.member.packed if file.member else file.bytes
    with opened(file) as stream:
        while block := stream.read(CHUNK):
            block += b"" if block.endswith(b"\n") else stream.readline(CHUNK)
            size += len(block)
            if file.is_gzip and is_bomb(packed, size):
                raise bomb(file.name, packed, size)
            yield block


def matching_files(source: Source, root: Path) -> list[Path]:
    """Files of the source, sorted by name; `**` in a glob also looks in folders below.

    Names that begin with `.` or `~$` (hidden files, lock files of office programs) are passed over.

    Raises
    ------
    SourceError
        No file matches.
    """
    found = {path for pattern in source.globs for path in _glob(pattern, root) if path.is_file()}
    files = sorted(path for path in found if not path.name.startswith((".", "~$")))
    if not files:
        raise SourceError(
            f"source {source.name}",
            f"no file matches {', '.join(source.globs)}",
            rows=f"looked in {root.name}/",
            fix="put the export there, or mend 'files' in the source's YAML",
        )
    return files


def _glob(pattern: str, root: Path) -> Iterable[Path]:
    base = Path(pattern)
    if base.is_absolute():
        return Path(base.anchor).glob(str(base.relative_to(base.anchor)))
    return root.glob(pattern)


def _shared_folder(source: Source, root: Path) -> Path:
    """The deepest folder below which every glob of the source looks; names of files are told from there."""
    fixed = []
    for pattern in source.globs:
        parts = Path(pattern).parts[:-1]
        plain = [part for place, part in enumerate(parts) if not any(set("*?[") & set(p) for p in parts[: place + 1])]
        fixed.append(str(root.joinpath(*plain)))
    try:
        return Path(os.path.commonpath(fixed))
    except ValueError:  # different drives
        return root


def received_files(
    paths: Iterable[Path], source: Source, root: Path, known: Fingerprints | None = None
) -> Iterator[ReceivedFile]:
    """Every delivery in files of the source, one after the other: a file, or each fitting member of an archive.

    A large file whose fingerprint is `known`, and that nobody has touched since, is not read.

    Raises
    ------
    SourceError
        A file is empty, not readable or an archive that cannot be used.
    """
    base = _shared_folder(source, root)
    for path in paths:
        name = path.relative_to(base).as_posix() if path.is_relative_to(base) else path.name
        if path.suffix.lower() == ".zip":
            yield from _received_members(path, name, source)
        else:
            yield replace(receive(path, source, known), name=name)


def _received_members(path: Path, name: str, source: Source) -> Iterator[ReceivedFile]:
    changed = _status(path).st_mtime_ns
    for member, kind in _fitting(members(path, name), name, source):
        with opened_member(path, member) as stream:
            digest, size = _fingerprint(stream)
        if size == 0:
            raise empty(f"{name}/{member.name}")
        yield ReceivedFile(path, f"{name}/{member.name}", kind, digest, size, changed, member)


def _fitting(held: list[Member], name: str, source: Source) -> list[tuple[Member, str]]:
    """The members that are deliveries, with their format: those `members` names, else those of the source's format."""
    chosen = []
    for member in held:
        told = _told_format(member.name)
        wanted = (
            any(fnmatch.fnmatchcase(member.name, pattern) for pattern in source.members)
            if source.members
            else told is not None and source.format in (None, told)
        )
        if wanted and (kind := source.format or told):
            chosen.append((member, kind))
    if not chosen:
        raise SourceError(
            name,
            f"none of the {len(held)} files in it is a delivery of this source",
            rows=", ".join(member.name for member in held[:10]) or "the archive is empty",
            fix="mend 'members' (globs of names in the archive) or 'format' in the source's YAML",
        )
    return chosen


def _told_format(name: str) -> str | None:
    """The format that the ending says, if it is known."""
    plain = PurePosixPath(name)
    ending = plain.with_suffix("").suffix if plain.suffix.lower() == ".gz" else plain.suffix
    kind = ending.removeprefix(".").lower()
    kind = ENDINGS.get(kind, kind)
    return kind if kind in FORMATS else None


def format_of(path: Path, source: Source) -> str:
    """The declared format, else the one its ending says.

    Raises
    ------
    SourceError
        Nothing is declared and the ending is not known.
    """
    kind = source.format or _told_format(path.name)
    if kind is None:
        ending = path.with_suffix("").suffix if path.suffix == ".gz" else path.suffix
        raise SourceError(
            path.name,
            f"cannot tell the format from the ending '{ending}'",
            rows="none of its rows was loaded",
            fix=f"add 'format' to the source's YAML: {', '.join(FORMATS)}",
        )
    return kind


def receive(path: Path, source: Source, known: Fingerprints | None = None) -> ReceivedFile:
    """Fingerprint and size of one plain file.

    Raises
    ------
    SourceError
        Empty or not readable.
    """
    kind = format_of(path, source)
    status = _status(path)
    try:
        before = known.of(path) if known else None
        if before is not None:
            return ReceivedFile(path, path.name, kind, before, status.st_size, status.st_mtime_ns)
        with path.open("rb") as stream:
            digest, size = _fingerprint(stream)
        if known:
            known.remember(path, status, digest)
    except OSError as error:
        raise _unreadable(path, error) from error
    if size == 0:
        raise empty(path.name)
    return ReceivedFile(path, path.name, kind, digest, size, status.st_mtime_ns)


def _fingerprint(stream: IO[bytes]) -> tuple[str, int]:
    digest, size = hashlib.sha256(), 0
    while block := stream.read(CHUNK):
        digest.update(block)
        size += len(block)
    return digest.hexdigest(), size


def _status(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise _unreadable(path, error) from error


def _unreadable(path: Path, error: OSError) -> SourceError:
    return SourceError(
        path.name,
        f"cannot be read: {error.strerror or error}",
        rows="none of its rows was loaded",
        fix="check that the file is there and its rights",
    )


def empty(name: str) -> SourceError:
    """The error of a file without content."""
    return SourceError(
        name, "the file is empty", rows="0 bytes of content; nothing was changed", fix="ask for the export again"
    )


def check_unchanged(file: ReceivedFile) -> None:
    """The file is still the one that was fingerprinted.

    Raises
    ------
    SourceError
        Somebody writes to it.
    """
    now = file.path.stat()
    size = file.member.archive_bytes if file.member else file.bytes
    if (now.st_size, now.st_mtime_ns) != (size, file.changed_ns):
        raise SourceError(
            file.name,
            "changed while it was being read",
            rows=f"{size:,} bytes, now {now.st_size:,}",
            fix="repeat the ingest when the export has ended",
        )
