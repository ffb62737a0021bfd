"""What a fetch brings, as files in `data/raw/<source>/`: complete or not there, each with a receipt beside it.

A file appears under its name only when it is whole (temporary name, fsync, rename). Its receipt says how many rows it
holds and from where the next fetch may start once they are in the lake. A file without a receipt was landed by a
process that was killed in between: its rows are good, it only moves nothing.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

Cursor = Mapping[str, Any]
"""Where a stream stands, in words of its connector; plain JSON."""

RECEIPT = ".receipt.json"
FILE_ROWS = 200_000
SAME_AS = 20
"""So many files back an identical one is looked for: a re-read overlap without news is not landed again."""

_ENDS_A_LINE = str.maketrans({mark: f"\\u{ord(mark):04x}" for mark in "\x85\u2028\u2029"})
"""Some programs end a line at these; inside a JSON text they are escaped."""

_STEM = re.compile(r"^(\d{8}T\d{6}Z)-(\d{4,})")


@dataclass(frozen=True)
class Receipt:
    """One landed file: `name` without its ending, rows, and the cursor that holds once its rows are in the lake."""

    name: str
    file: str
    rows: int
    sha256: str
    stream: str
    cursor: Cursor | None
    fetched_at: str


@dataclass(frozen=True)
class Fetched:
    """What one fetch landed."""

    files: tuple[str, ...]
    cursor: Cursor | None
    rows: int


class _Writer(Protocol):
    rows: int

    def close(self) -> None: ...


@dataclass
class _Lines:
    """JSON lines on their way into a file."""

    stream: IO[bytes]
    rows: int = 0

    def add(self, records: Iterable[Mapping[str, Any]]) -> None:
        for record in records:
            text = json.dumps(record, ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=str)
            self.stream.write(text.translate(_ENDS_A_LINE).encode("utf-8", "replace") + b"\n")
            self.rows += 1

    def close(self) -> None:
        self.stream.flush()


@dataclass
class _Columns:
    """Arrow batches on their way into a Parquet file, in row groups of one batch."""

    stream: IO[bytes]
    schema: pa.Schema
    rows: int = 0
    _writer: pq.ParquetWriter = field(init=False)

    def __post_init__(self) -> None:
        self._writer = pq.ParquetWriter(self.stream, self.schema, compression="zstd", compression_level=1)

    def add(self, batch: pa.RecordBatch) -> None:
        self._writer.write_batch(batch)
        self.rows += batch.num_rows

    def close(self) -> None:
        self._writer.close()
        self.stream.flush()


class Landing:
    """Takes the rows of one fetch and lands them as files.

    A connector adds rows, and calls `reached` whenever everything added so far may count as fetched. It ends with
    `finish`. If it fails before, what was reached is kept as a file and the rest is dropped.

    Parameters
    ----------
    folder
        `data/raw/<source>/`; made when needed.
    stream
        Fingerprint of what is fetched; goes into the receipts.
    since
        Where this fetch starts.
    clock
        Tells the time.
    report
        Called with the rows fetched so far.
    file_rows
        A file is closed at the next `reached` when it has so many rows.
    """

    def __init__(
        self,
        folder: Path,
        stream: str,
        since: Cursor | None = None,
        *,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
        report: Callable[[int], None] = lambda rows: None,
        file_rows: int = FILE_ROWS,
    ) -> None:
        self.folder, self.stream, self.since, self.file_rows = folder, stream, since, file_rows
        self.receipts: list[Receipt] = []
        self.rows = 0
        self._clock, self._report = clock, report
        self._writer: _Lines | _Columns | None = None
        self._handle: IO[bytes] | None = None
        self._reached: Cursor | None = None
        self._finished = False

    def __enter__(self) -> Landing:
        self.folder.mkdir(parents=True, exist_ok=True)
        for left in self.folder.glob(".*.part"):  # a killed fetch; the source's lock is ours
            left.unlink(missing_ok=True)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, Exception) and self._reached is not None:
            self._close(self._reached)
        self._drop()

    def add_records(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add JSON objects, one line each."""
        if not isinstance(self._writer, _Lines):
            self._writer = _Lines(self._open())
        before = self._writer.rows
        self._writer.add(records)
        self._count(self._writer.rows - before)

    def add_batch(self, batch: pa.RecordBatch) -> None:
        """Add rows with types; another schema starts another file."""
        if isinstance(self._writer, _Columns) and self._writer.schema != batch.schema:
            self._close(self._reached)
        if not isinstance(self._writer, _Columns):
            self._writer = _Columns(self._open(), batch.schema)
        self._writer.add(batch)
        self._count(batch.num_rows)

    def reached(self, cursor: Cursor | None) -> None:
        """Everything added so far is whole; with a cursor, the next fetch may start there."""
        self._reached = cursor if cursor is not None else self._reached
        if self._writer and self._writer.rows >= self.file_rows:
            self._close(self._reached)

    def finish(self, cursor: Cursor | None) -> Fetched:
        """Close the last file; `cursor` holds once all files of this fetch are in the lake."""
        if self._writer and self._writer.rows:
            self._close(cursor)
        elif cursor is not None and cursor != (self.receipts[-1].cursor if self.receipts else self.since):
            self._write_receipt(self._new_name(), "", 0, "", cursor)
        self._finished = True
        return Fetched(tuple(receipt.file for receipt in self.receipts if receipt.file), cursor, self.rows)

    def _count(self, rows: int) -> None:
        self.rows += rows
        self._report(self.rows)

    def _open(self) -> IO[bytes]:
        self._drop()
        self._handle = (self.folder / f".{os.getpid()}.part").open("wb")
        return self._handle

    def _drop(self) -> None:
        """Forget a file that is not finished."""
        if self._handle is not None:
            with contextlib.suppress(OSError, ValueError, pa.ArrowException):
                if isinstance(self._writer, _Columns):
                    self._writer.close()
            self._handle.close()
            Path(self._handle.name).unlink(missing_ok=True)
        self._handle = self._writer = None

    def _close(self, cursor: Cursor | None) -> None:
        """The open file gets its name and its receipt."""
        if self._writer is None or self._handle is None or not self._writer.rows:
            return
        ending = "jsonl" if isinstance(self._writer, _Lines) else "parquet"
        self._writer.close()
        os.fsync(self._handle.fileno())
        self._handle.close()
        part, rows = Path(self._handle.name), self._writer.rows
        self._handle = self._writer = None
        digest = _sha256(part)
        name = self._new_name()
        if digest in {receipt.sha256 for receipt in self.receipts} | _newest_digests(self.folder):
            part.unlink()
            if cursor is not None and cursor != self.since:
                self._write_receipt(name, "", 0, "", cursor)
            return
        part.rename(self.folder / f"{name}.{ending}")
        _sync(self.folder)
        self._write_receipt(name, f"{name}.{ending}", rows, digest, cursor)

    def _write_receipt(self, name: str, file: str, rows: int, digest: str, cursor: Cursor | None) -> None:
        receipt = Receipt(name, file, rows, digest, self.stream, cursor, self._clock().isoformat(timespec="seconds"))
        part = self.folder / f".{name}.part"
        with part.open("w", encoding="utf-8") as stream:
            json.dump(asdict(receipt), stream, ensure_ascii=False, indent=1)
            stream.flush()
            os.fsync(stream.fileno())
        part.rename(self.folder / f"{name}{RECEIPT}")
        _sync(self.folder)
        self.receipts.append(receipt)

    def _new_name(self) -> str:
        """`<UTC stamp>-<n>`, after every name that is there, whatever the clock says."""
        stamp = f"{self._clock().astimezone(dt.UTC):%Y%m%dT%H%M%SZ}"
        newest = max(_stems(self.folder), default="")
        found = _STEM.match(newest)
        if found is None or found[1] < stamp:
            return f"{stamp}-0001"
        return f"{found[1]}-{int(found[2]) + 1:04d}"


def _stems(folder: Path) -> Iterator[str]:
    return (found[0] for path in folder.iterdir() if (found := _STEM.match(path.name)))


def _newest_digests(folder: Path) -> set[str]:
    receipts = sorted(folder.glob(f"*{RECEIPT}"))[-SAME_AS:]
    return {receipt.sha256 for path in receipts if (receipt := read_receipt(path)) and receipt.sha256}


def read_receipt(path: Path) -> Receipt | None:
    """The receipt in `path`; None when it cannot be read: the file beside it then moves nothing."""
    try:
        return Receipt(**json.loads(path.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def landed(folder: Path, ending: str) -> list[tuple[str, Path | None, Path | None]]:
    """What lies in a landing folder, oldest first: name, the data file if any, its receipt if any."""
    if not folder.is_dir():
        return []
    files = {path.name.removesuffix(f".{ending}"): path for path in folder.glob(f"*.{ending}")}
    receipts = {path.name.removesuffix(RECEIPT): path for path in folder.glob(f"*{RECEIPT}")}
    return [(name, files.get(name), receipts.get(name)) for name in sorted({*files, *receipts})]


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _sync(folder: Path) -> None:
    """Make a rename last; a file system that cannot is left to its own devices."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
