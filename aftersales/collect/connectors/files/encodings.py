"""Bytes -> text: which encoding a file is in, or each of its lines, and the signs of a half-written text."""

from __future__ import annotations

import codecs
import gzip
import itertools
import re
import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pyarrow as pa

from aftersales.collect.connectors.files.received import TEXT_FORMATS, ReceivedFile, blocks, empty, opened
from aftersales.collect.mapping import Source
from aftersales.model.errors import SourceError

SAMPLE = 100_000
TELLING_LINES = 4
"""Fewer lines than these read as Chinese, Korean or Japanese alike: the encoding has to be declared."""

BOMS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
UNDECODABLE = "\x02undecodable\x02"
"""Stands in a line that no declared encoding reads, before its bytes written as `\\xb5`."""

_ESCAPED = re.compile("[\udc80-\udcff]+")


def examine(file: ReceivedFile, source: Source) -> ReceivedFile:
    """The file with its encoding and the signs of a half-written text; every byte was decoded.

    Raises
    ------
    SourceError
        Cut off inside its compression, not in its declared encoding, or empty once unpacked.
    """
    if file.format not in TEXT_FORMATS:
        return file
    try:
        return _examined(file, source)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise SourceError(
            file.name,
            f"the compressed file is cut off or damaged ({error})",
            rows="none of its rows was loaded",
            fix="copy the file again, then repeat the ingest",
        ) from error


def _examined(file: ReceivedFile, source: Source) -> ReceivedFile:
    marked = _marked_encoding(file)
    if isinstance(source.encoding, list) and not (marked or "").startswith("utf-16"):
        return _mixed(file, source.encoding, marked)
    named = source.encoding if isinstance(source.encoding, str) else None
    declared = named or marked
    encoding = declared or "utf-8"
    try:
        return _decoded(file, encoding)
    except UnicodeDecodeError as error:
        if declared:
            raise _not_in(file, declared, error, "declared" if named else "its first bytes say") from error
        encoding = _guessed_encoding(file, error)
    try:
        return _decoded(file, encoding)
    except UnicodeDecodeError as error:
        raise _not_in(file, encoding, error, "detected") from error


def _not_in(file: ReceivedFile, encoding: str, error: UnicodeDecodeError, said: str) -> SourceError:
    line = getattr(error, "line", 1)
    return SourceError(
        file.name,
        f"is not {encoding} as {said}: {error.reason} in line {line:,}",
        rows=f"bytes {error.object[error.start : error.start + 4].hex(' ')}; none of its rows was loaded",
        fix="mend 'encoding' in the source's YAML (gb18030 reads most Chinese exports; a list such as "
        "[utf-8, gb18030] is tried line by line)",
    )


def _marked_encoding(file: ReceivedFile) -> str | None:
    """What a byte order mark says, or the zero bytes of UTF-16."""
    with opened(file) as stream:
        sample = stream.read(2048)
    zeros = sample.count(0)
    if zeros > len(sample) / 4 and not sample.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "utf-16-le" if sample[1::2].count(0) > sample[::2].count(0) else "utf-16-be"
    return next((name for mark, name in BOMS if sample.startswith(mark)), None)


def _guessed_encoding(file: ReceivedFile, error: UnicodeDecodeError) -> str:
    """The best guess from the lines around the first byte that is no UTF-8, without those that are plain ASCII."""
    import charset_normalizer

    data = error.object
    start = data.rfind(b"\n", 0, max(error.start - SAMPLE, 0)) + 1
    end = data.find(b"\n", error.start + SAMPLE)
    lines = data[start : end if end >= 0 else len(data)].splitlines()
    telling = [line for line in lines if not line.isascii()]
    sample = b"\n".join(telling) if len(telling) >= TELLING_LINES else b""
    guess = charset_normalizer.from_bytes(sample, cp_isolation=["gb18030", "big5", "cp949", "cp932", "cp1252"]).best()
    if guess is None or not sample:
        raise SourceError(
            file.name,
            f"is not UTF-8, and its encoding could not be told from {len(telling)} lines",
            rows=f"bytes {data[error.start : error.start + 4].hex(' ')}; none of its rows was loaded",
            fix="add 'encoding' to the source's YAML, e.g. gb18030, big5, cp949, cp1252",
        )
    return str(guess.encoding)


def _decoded(file: ReceivedFile, encoding: str) -> ReceivedFile:
    decoder = codecs.getincrementaldecoder(encoding)()
    quotes, lines, last = 0, 1, ""
    for block in itertools.chain(blocks(file), [b""]):
        if encoding == "utf-8" and block.endswith(b"\n") and _is_utf8(block) and not decoder.getstate()[0]:
            quotes, lines, last = quotes + block.count(b'"'), lines + block.count(b"\n"), "\n"
            continue
        try:
            text = decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:
            error.line = lines + error.object[: error.start].count(b"\n")  # type: ignore[attr-defined]
            raise
        quotes += text.count('"')
        lines += text.count("\n")
        last = text[-1:] or last
    if not last:
        raise empty(file.name)
    return replace(file, encoding=encoding, quotes_balance=quotes % 2 == 0, ends_with_newline=last in "\r\n")


def _is_utf8(block: bytes) -> bool:
    """Arrow's check: a quarter of the cost of decoding."""
    ends = pa.py_buffer(struct.pack("=ii", 0, len(block)))
    try:
        pa.Array.from_buffers(pa.binary(), 1, [None, ends, pa.py_buffer(block)]).cast(pa.string())
    except pa.ArrowInvalid:
        return False
    return True


# -------------------------------------------------------------------------------- several encodings in one file


def _mixed(file: ReceivedFile, encodings: Sequence[str], marked: str | None) -> ReceivedFile:
    """`file` with the encodings met in its lines; one that is in a single encoding after all is read as such."""
    met: dict[str, None] = {}
    undecodable, quotes, last = 0, 0, ""
    for used, lines, text in _mixed_text(file, encodings):
        if used:
            met[used] = None
        else:
            undecodable += lines
        quotes += text.count('"')
        last = text[-1:] or last
    if not last:
        raise empty(file.name)
    if not met:
        raise SourceError(
            file.name,
            f"none of its {undecodable:,} lines is in {', '.join(encodings)}",
            rows="none of its rows was loaded",
            fix="mend 'encoding' in the source's YAML",
        )
    return replace(
        file,
        encoding=marked if marked and list(met) == ["utf-8"] else "+".join(met),
        undecodable=undecodable,
        quotes_balance=quotes % 2 == 0,
        ends_with_newline=last in "\r\n",
    )


def _mixed_text(file: ReceivedFile, encodings: Sequence[str]) -> Iterator[tuple[str, int, str]]:
    """The file's text in pieces of one encoding each: its name ("" where none fits), lines, text.

    A line ends at a line break, also inside quotes: what one program wrote is in one encoding, what the next one
    appended in another, and a break never falls inside a character.
    """
    for lines in _lines_of(file):
        whole = b"".join(lines)
        if encodings[0] == "utf-8" and _is_utf8(whole):
            yield "utf-8", len(lines), whole.decode()
            continue
        decoded = (_decoded_line(line, encodings) for line in lines)
        for used, group in itertools.groupby(decoded, key=lambda pair: pair[0]):
            texts = [text for _, text in group]
            yield used, len(texts), "".join(texts)


def _lines_of(file: ReceivedFile) -> Iterator[list[bytes]]:
    """The file's lines, line breaks kept, some thousand at a time."""
    rest = b""
    for block in itertools.chain(blocks(file), [b""]):
        lines = (rest + block).splitlines(keepends=True)
        rest = lines.pop() if block and lines and not lines[-1].endswith(b"\n") else b""
        if lines:
            yield lines


def _decoded_line(line: bytes, encodings: Sequence[str]) -> tuple[str, str]:
    for encoding in encodings:
        try:
            return encoding, line.decode(encoding)
        except UnicodeDecodeError:
            continue
    return "", _ESCAPED.sub(_escapes, line.decode("utf-8", "surrogateescape"))


def _escapes(found: re.Match[str]) -> str:
    return UNDECODABLE + "".join(f"\\x{ord(byte) - 0xDC00:02x}" for byte in found[0])


def utf8_copy(file: ReceivedFile, source: Source, scratch: Path) -> Path:
    """The file itself when DuckDB reads it, else a copy in UTF-8, undecodable bytes escaped."""
    if not file.undecodable:
        if file.encoding.lower().replace("_", "-") in ("utf-8", "utf8", "ascii"):
            return file.on_disk(scratch)
        if file.encoding == "utf-8-sig" and file.format in ("csv", "tsv"):
            return file.on_disk(scratch)
    copy = scratch / f"{file.sha256[:16]}.txt"
    with copy.open("w", encoding="utf-8", newline="") as target:
        target.writelines(text_blocks(file, source))
    return copy


def text_blocks(file: ReceivedFile, source: Source) -> Iterator[str]:
    """The text of an examined file, block by block; undecodable bytes are escaped."""
    if isinstance(source.encoding, list) and (file.undecodable or "+" in file.encoding):
        for number, (_, _, text) in enumerate(_mixed_text(file, source.encoding)):
            yield text if number else text.removeprefix("\ufeff")
        return
    decoder = codecs.getincrementaldecoder(file.encoding)()
    for block in itertools.chain(blocks(file), [b""]):
        yield decoder.decode(block, final=not block)
