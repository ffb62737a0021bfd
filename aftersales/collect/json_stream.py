"""Large JSON documents: the items of a list read one after the other in little memory; text written in one piece."""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from aftersales.model.errors import SourceError

CHUNK = 1 << 20
_decoder = json.JSONDecoder()
GOES_ON = ("", *"0123456789.eE+-")
"""What stands behind a number that the end of a block has cut."""


def json_items(path: Path, name: str) -> Iterator[tuple[str, Any]]:
    """(`name`, item) for every item of the document's list `name`, and (key, value) for its other members, in order.

    The document is one JSON object, plain or gz, in UTF-8.

    Raises
    ------
    SourceError
        No JSON object, cut off, without the list, or not UTF-8. Items before the fault have been handed out.
    """
    try:
        with _open(path) as stream:
            yield from _Reader(stream, path.name).members(name)
    except UnicodeDecodeError as error:
        raise _broken(path.name, f"is not UTF-8: {error.reason}") from error
    except (EOFError, gzip.BadGzipFile) as error:
        raise _broken(path.name, f"the compressed file is cut off or damaged ({error})") from error
    except OSError as error:
        raise _broken(path.name, f"cannot be read: {error.strerror or error}") from error


def _open(path: Path) -> IO[str]:
    opener = gzip.open if path.suffix.lower() == ".gz" else open
    return cast("IO[str]", opener(path, "rt", encoding="utf-8-sig"))


def _broken(name: str, what: str) -> SourceError:
    return SourceError(name, what, rows="none of its rows was loaded", fix="ask for the file again, then repeat")


class _Reader:
    """A window on the text; `at` is the next character that has not been used."""

    def __init__(self, stream: IO[str], name: str) -> None:
        self.stream, self.name, self.text, self.at, self.ended = stream, name, "", 0, False

    def more(self) -> bool:
        block = self.stream.read(CHUNK)
        self.text, self.at, self.ended = self.text[self.at :] + block, 0, not block
        return bool(block)

    def peek(self) -> str:
        """The next character that is no blank; empty at the end."""
        while True:
            while self.at < len(self.text) and self.text[self.at] in " \t\r\n":
                self.at += 1
            if self.at < len(self.text):
                return self.text[self.at]
            if not self.more():
                return ""

    def take(self, wanted: str) -> None:
        found = self.peek()
        if found != wanted:
            what = f"'{found}' stands where '{wanted}' was expected" if found else "ends in the middle"
            raise _broken(self.name, f"is no complete JSON document: it {what}" if not found else
                          f"is no JSON document: {what}")  # fmt: skip
        self.at += 1

    def value(self) -> Any:
        self.peek()
        while True:
            try:
                found, end = _decoder.raw_decode(self.text, self.at)
                if self.ended or self.text[end : end + 1] not in GOES_ON:
                    self.at = end
                    return found
            except (json.JSONDecodeError, RecursionError) as error:
                if self.ended:
                    what = error.msg if isinstance(error, json.JSONDecodeError) else "nested too deeply"
                    raise _broken(self.name, f"is no complete JSON document: {what}") from error
            self.more()

    def members(self, name: str) -> Iterator[tuple[str, Any]]:
        self.take("{")
        seen = False
        while self.peek() != "}":
            key = self.value()
            if not isinstance(key, str):
                raise _broken(self.name, "is no JSON document: a key is no text")
            self.take(":")
            if key == name and self.peek() == "[":
                seen = True
                yield from ((name, item) for item in self.items())
            else:
                yield key, self.value()
            if self.peek() != "}":
                self.take(",")
        self.take("}")
        if self.peek():
            raise _broken(self.name, "goes on after the end of the JSON document")
        if not seen:
            raise _broken(self.name, f"has no list '{name}'")

    def items(self) -> Iterator[Any]:
        self.take("[")
        while self.peek() != "]":
            yield self.value()
            if self.peek() != "]":
                self.take(",")
        self.take("]")


@contextlib.contextmanager
def replaced_text(path: Path) -> Iterator[IO[str]]:
    """A text file (.gz: packed) that is written beside its place and moved there when the block ends well.

    Raises
    ------
    SourceError
        It cannot be written; what stood there before stays.
    """
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with draft.open("wb") as raw:
            packed = gzip.GzipFile("", "wb", 6, raw, 0) if path.suffix == ".gz" else raw  # no name, no time: same bytes
            with io.TextIOWrapper(cast("IO[bytes]", packed), encoding="utf-8", newline="\n") as stream:
                yield stream
        draft.replace(path)
    except OSError as error:
        raise SourceError(
            str(path), f"cannot be written: {error.strerror or error}", fix="free disk space, or name another file"
        ) from error
    finally:
        draft.unlink(missing_ok=True)
