"""Files as received that hold a person's rows: which they are, and the person's lines in them emptied.

Raw files are kept as they came; this is the one exception, for those who must erase a person there too. Only csv, tsv
and jsonl (also gz) can be emptied line by line; others are named, for somebody to see to.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import tempfile
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from aftersales.collect.connectors.files import matching_files
from aftersales.collect.mapping import ColumnSpec, Source, catalogue
from aftersales.collect.privacy import column_tier, is_pseudonymised, pseudonym_of_raw, role_of
from aftersales.collect.subject import THREADS, Subject, rows_about
from aftersales.lake.vault import CUSTOMER, STAFF, pseudonyms
from aftersales.model.errors import SourceError
from aftersales.model.settings import Workspace
from aftersales.model.tables import canonical_table

FORMATS = {".csv": ",", ".tsv": "\t", ".jsonl": "", ".ndjson": ""}
ENCODINGS = ("utf-8-sig", "gb18030")


@dataclass(frozen=True)
class RawFile:
    """A file as received that holds rows of a person."""

    name: str
    source: str
    rows: int
    path: Path | None
    """Where it lies; None when it is there no more, or nobody says where."""

    @property
    def can_redact(self) -> bool:
        """Whether its lines can be emptied one by one."""
        return self.path is not None and Path(self.path.name.removesuffix(".gz")).suffix in FORMATS


def raw_files(workspace: Workspace, subject: Subject) -> list[RawFile]:
    """Files from which rows of the person came, by the provenance of the rows in the lake; sorted by name."""
    counted: Counter[tuple[str, str]] = Counter()
    seen = set()
    for name, rows in rows_about(workspace, subject).items():
        for row in rows:
            source = row.get("source_system") or row.get("source") or ""
            place = (source, row.get("source_file", ""))
            if name and (place, row.get("source_row")) not in seen:
                seen.add((place, row.get("source_row")))
                counted[place] += 1
    sources = catalogue(workspace)
    return [
        RawFile(file, source, count, _path_of(workspace, sources.get(source), file))
        for (source, file), count in sorted(counted.items())
        if file
    ]


def _path_of(workspace: Workspace, source: Source | None, name: str) -> Path | None:
    if source is None:
        return None
    try:
        paths = matching_files(source, workspace.root)
    except SourceError:
        return None
    return next((path for path in paths if f"/{path.as_posix()}".endswith(f"/{name}")), None)


def redact_raw(workspace: Workspace, subject: Subject, file: RawFile) -> int:
    """Empty every value of the person's lines that is not known to be impersonal; how many lines.

    The file is replaced at once or not at all. It counts as a new delivery the next time it is loaded.

    Raises
    ------
    SourceError
        The file is in no encoding that is known here.
    """
    if file.path is None or not file.can_redact:
        return 0
    source = catalogue(workspace)[file.source]
    compressed = file.path.read_bytes()
    packed = compressed[:2] == b"\x1f\x8b"
    content = gzip.decompress(compressed) if packed else compressed
    text, encoding = _decoded(content, source, file.name)
    redaction = _Redaction(workspace, source, subject)
    kind = Path(file.path.name.removesuffix(".gz")).suffix
    new, count = (
        redaction.of_lines(text) if not FORMATS[kind] else redaction.of_table(text, source.delimiter or FORMATS[kind])
    )
    if count:
        encoded = new.encode(encoding, "surrogateescape")
        _replace(file.path, gzip.compress(encoded, mtime=0) if packed else encoded)
    return count


def _decoded(content: bytes, source: Source, name: str) -> tuple[str, str]:
    listed = source.encoding if isinstance(source.encoding, list) else [source.encoding or ""]
    for encoding in [*filter(None, listed), *ENCODINGS]:
        try:
            text = content.decode(encoding)
        except (UnicodeDecodeError, LookupError):
            continue
        keeps_mark = encoding == "utf-8-sig" and content.startswith(b"\xef\xbb\xbf")
        return text, "utf-8" if encoding == "utf-8-sig" and not keeps_mark else encoding
    raise SourceError(name, "is in no encoding that is known here", fix="empty the person's lines by hand")


def _replace(path: Path, content: bytes) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "wb") as file:
        file.write(content)
    os.chmod(name, path.stat().st_mode)
    os.replace(name, path)


class _Redaction:
    """Which lines of a source are a person's, and which values of them may stay."""

    def __init__(self, workspace: Workspace, source: Source, subject: Subject) -> None:
        self._made, self._subject = pseudonyms(workspace), subject
        self._ids: list[tuple[str, ColumnSpec, str, bool]] = []
        self._threads: list[tuple[str, ColumnSpec, str]] = []
        self.kept: set[str] = set()
        personal: set[str] = set()
        for name, mapping in source.tables.items():
            table = canonical_table(name)
            personal |= set(mapping.names)
            self.kept |= {*mapping.where, *(mapping.version.sources if mapping.version else [])}
            self.kept |= {mapping.split.column} if mapping.split else set()
            for column, spec in mapping.columns.items():
                described = table.column(column)
                is_personal = column_tier(workspace, name, column, described, spec) >= "P2"
                is_staff = described.type == "id" and role_of(column) == STAFF
                (personal if is_personal and not is_staff else self.kept).update(spec.sources)
                keyed = is_pseudonymised(workspace, name, column, described, spec)
                if is_personal and described.type == "id":
                    self._ids += [(raw, spec, role_of(column), keyed) for raw in spec.sources[:1]]
                self._threads += [
                    (raw, spec, kind) for kind, name in THREADS.items() if name == column for raw in spec.sources
                ]
        self.kept -= personal

    def is_mine(self, row: Mapping[str, object]) -> bool:
        """Whether a line names the person, or is of their thread and names no customer."""
        named = False
        for raw, spec, role, keyed in self._ids:
            value = str(row.get(raw) or "")
            if value.strip():
                named = named or role == CUSTOMER
                known = pseudonym_of_raw(value, spec, role, self._made) if keyed else value.strip()
                if role == CUSTOMER and known in self._subject.ids:
                    return True
        for raw, spec, kind in self._threads if not named else ():
            value = str(row.get(raw) or "").strip()
            value = spec.prefix + (getattr(value, spec.case)() if spec.case else value)
            if value in self._subject.threads[kind]:
                return True
        return False

    def of_lines(self, text: str) -> tuple[str, int]:
        """JSON lines."""
        lines, count = text.splitlines(keepends=True), 0
        for i, line in enumerate(lines):
            try:
                row = json.loads(line)
            except ValueError:
                continue
            if isinstance(row, dict) and self.is_mine(row):
                end = line[len(line.rstrip("\r\n")) :]
                emptied = {name: value if name in self.kept else None for name, value in row.items()}
                if emptied != row:
                    lines[i], count = json.dumps(emptied, ensure_ascii=False) + end, count + 1
        return "".join(lines), count

    def of_table(self, text: str, delimiter: str) -> tuple[str, int]:
        """Rows with a header; the header is the first line that has every column that says whose row it is."""
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        needed = {raw for raw, *_ in self._ids} | {raw for raw, *_ in self._threads}
        place = next((i for i, row in enumerate(rows) if needed & {cell.strip() for cell in row}), None)
        if place is None:
            return text, 0
        header, count = [cell.strip().removeprefix("\ufeff") for cell in rows[place]], 0
        for i in range(place + 1, len(rows)):
            row = dict(zip(header, rows[i], strict=False))
            emptied = [
                cell if column < len(header) and header[column] in self.kept else ""
                for column, cell in enumerate(rows[i])
            ]
            if emptied != rows[i] and self.is_mine(row):
                rows[i], count = emptied, count + 1
        target = io.StringIO(newline="")
        csv.writer(target, delimiter=delimiter, lineterminator="\r\n" if "\r\n" in text else "\n").writerows(rows)
        return target.getvalue(), count
