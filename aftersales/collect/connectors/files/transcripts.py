"""Texts of calls and chats: one raw row for the call as a whole, then one per turn of the talk.

Three ways of writing are read, told apart by their first characters:

- JSON: an object (or a list of them) with `turns`, each with a speaker and a text;
- SRT: numbered blocks with two times and a text `agent: ...`;
- lines: `agent: ...`, `[00:01:15] 客户：...`; a line without a speaker goes on with the turn before it. Where the usual
  words for the speakers occur, only they open a turn, so that "phone: ..." stays a part of what somebody said.

Lines `key: value` before the first blank line, or the other keys of the JSON object, tell about the call. The columns
are the same for every file, so one mapping reads all three.
"""

from __future__ import annotations

import datetime as dt
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from aftersales.collect.connectors.files.encodings import text_blocks
from aftersales.collect.connectors.files.received import ReceivedFile
from aftersales.collect.mapping import Source

ABOUT = ("call_id", "ticket_id", "customer", "agent", "channel", "direction", "language", "queue", "outcome",
         "started_at", "answered_at", "ended_at")  # fmt: skip
"""What a file may tell about the call; other keys are kept in `more` as JSON."""

COLUMNS = ("record", *ABOUT, "more", "turn", "speaker", "start_s", "end_s", "said_at", "text")
SPEAKER_KEYS, TEXT_KEYS = ("speaker", "role", "from"), ("text", "content", "body")
START_KEYS, END_KEYS = ("start", "start_s", "from_s"), ("end", "end_s", "to_s")

_TIME = r"(\d{1,2}):(\d{2}):(\d{2})(?:[.,](\d{1,3}))?"
_SPAN = re.compile(rf"{_TIME}\s*-->\s*{_TIME}.*")
_TURN = re.compile(
    rf"(?:[\[(]{_TIME}[\])]\s*)?(?P<speaker>[^\s:：\[\]()][^:：\n]{{0,30}}?)\s*[:：]\s*(?P<text>.*)", re.S
)
_SPEAKER = re.compile(
    r"(agent|operator|staff|customer|client|caller|user|bot|system|客服|坐席|座席|客户|用户|顾客|机器人|系统)\s*\d*",
    re.I,
)
_HEADER = re.compile(r"([a-z_]{2,20})\s*[:：]\s*(.+)")


@dataclass
class Turn:
    """One turn of a talk; a broken one has no speaker."""

    speaker: str | None
    text: str
    start_s: float | None = None
    end_s: float | None = None


@dataclass
class Call:
    """One call: what is told about it, and its turns in order."""

    about: dict[str, str] = field(default_factory=dict)
    turns: list[Turn] = field(default_factory=list)


def load_transcripts(
    connection: duckdb.DuckDBPyConnection, file: ReceivedFile, source: Source, scratch: Path
) -> list[str]:
    """Make `raw` from a file of one or several calls; returns its columns."""
    text = "".join(text_blocks(file, source)).removeprefix("\ufeff")
    rows = [row for number, call in enumerate(calls_of(text), start=1) for row in _rows(call, file, number)]
    fields = {"_row": pa.array(range(1, len(rows) + 1), pa.int64())}
    fields |= {name: pa.array([row.get(name) for row in rows], pa.string()) for name in ("_bad", *COLUMNS)}
    received = pa.table(fields)
    connection.register("received_turns", received)
    connection.execute("create or replace table raw as select * from received_turns")
    connection.unregister("received_turns")
    return list(COLUMNS)


def calls_of(text: str) -> list[Call]:
    """The calls a text holds.

    Examples
    --------
    >>> (call,) = calls_of("call_id: C1\\n\\nagent: 您好\\ncustomer: 门锁没电了")
    >>> call.about["call_id"], [(turn.speaker, turn.text) for turn in call.turns]
    ('C1', [('agent', '您好'), ('customer', '门锁没电了')])
    """
    stripped = text.strip()
    if stripped[:1] in ("{", "["):
        try:
            content = json.loads(stripped)
        except json.JSONDecodeError:
            content = None
        if isinstance(content, dict | list):
            return _calls_of_json(content)
    about, body = _headers(stripped)
    turns = _srt_turns(body) if "-->" in body[:200] else _line_turns(body)
    return [Call(about, list(turns))]


def _calls_of_json(content: dict[str, Any] | list[Any]) -> list[Call]:
    items = content if isinstance(content, list) else [content]
    if items and all(isinstance(item, dict) and "turns" not in item for item in items) and isinstance(content, list):
        items = [{"turns": items}]  # a list of turns is one call
    calls = []
    for item in items:
        if not isinstance(item, dict):
            calls.append(Call(turns=[Turn(None, json.dumps(item, ensure_ascii=False))]))
            continue
        turns = item.get("turns")
        about = {str(name): _plain(value) for name, value in item.items() if name != "turns" and value is not None}
        calls.append(Call(about, [_json_turn(turn) for turn in (turns if isinstance(turns, list) else [])]))
    return calls


def _json_turn(item: Any) -> Turn:
    if not isinstance(item, dict):
        return Turn(None, _plain(item))
    speaker, text = _first(item, SPEAKER_KEYS), _first(item, TEXT_KEYS)
    if speaker is None or text is None:
        return Turn(None, json.dumps(item, ensure_ascii=False))
    return Turn(_plain(speaker), _plain(text), _seconds(_first(item, START_KEYS)), _seconds(_first(item, END_KEYS)))


def _first(item: Mapping[str, Any], names: tuple[str, ...]) -> Any:
    return next((item[name] for name in names if item.get(name) is not None), None)


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _seconds(value: Any) -> float | None:
    """Seconds as a number, or of a text such as 00:01:15.250."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    found = re.fullmatch(_TIME, value.strip()) if isinstance(value, str) else None
    return _of_clock(found.groups()) if found else None


def _of_clock(parts: tuple[str | None, ...]) -> float:
    hours, minutes, seconds, fraction = parts
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + int(seconds or 0) + float(f"0.{fraction or 0}")


def _headers(text: str) -> tuple[dict[str, str], str]:
    """Lines `key: value` up to the first blank line, when one of them is a key we know; and the text behind them."""
    head, blank, body = text.replace("\r\n", "\n").partition("\n\n")
    found = [_HEADER.fullmatch(line.strip()) for line in head.splitlines()]
    about = {match[1]: match[2].strip() for match in found if match}
    if blank and found and all(found) and set(about) & set(ABOUT):
        return about, body
    return {}, text.replace("\r\n", "\n")


def _srt_turns(text: str) -> Iterator[Turn]:
    for block in re.split(r"\n\s*\n", text.strip()):
        lines = [line.strip() for line in block.splitlines() if line.strip()]
        span = next((place for place, line in enumerate(lines) if _SPAN.fullmatch(line)), None)
        if span is None:
            yield Turn(None, block)
            continue
        times = _SPAN.fullmatch(lines[span])
        assert times is not None
        said = _TURN.fullmatch("\n".join(lines[span + 1 :]))
        start, end = _of_clock(times.groups()[:4]), _of_clock(times.groups()[4:8])
        if said:
            yield Turn(said["speaker"], said["text"], start, end)
        else:
            yield Turn(None, block, start, end)


def _line_turns(text: str) -> Iterator[Turn]:
    turn: Turn | None = None
    openings = [_TURN.fullmatch(line.strip()) for line in text.splitlines()]
    has_usual = any(_SPEAKER.fullmatch(found["speaker"]) for found in openings if found)
    for line, found in zip(text.splitlines(), openings, strict=True):
        if found and (not has_usual or _SPEAKER.fullmatch(found["speaker"])):
            if turn:
                yield turn
            start = _of_clock(found.groups()[:4]) if found[1] else None
            turn = Turn(found["speaker"], found["text"], start)
        elif turn and line.strip():
            turn.text += f"\n{line.strip()}"
        elif line.strip():
            turn = Turn(None, line.strip())
    if turn:
        yield turn


def _rows(call: Call, file: ReceivedFile, number: int) -> Iterator[dict[str, str | None]]:
    """The call, then its turns; a call without an id is named after its file."""
    about = {name: call.about[name] for name in ABOUT if name in call.about}
    about.setdefault("call_id", f"{Path(file.name).name.split('.')[0]}{f'#{number}' if number > 1 else ''}")
    more = {name: value for name, value in call.about.items() if name not in ABOUT}
    told = "\n".join(f"{turn.speaker or '?'}: {turn.text}" for turn in call.turns)
    yield {**about, "record": "call", "text": told or None,
           "more": json.dumps(more, ensure_ascii=False) if more else None}  # fmt: skip
    for place, turn in enumerate(call.turns, start=1):
        yield {
            **about,
            "_bad": None if turn.speaker else "row:no_speaker",
            "record": "turn",
            "turn": f"{place:04d}",
            "speaker": turn.speaker.strip().lower() if turn.speaker else None,
            "start_s": None if turn.start_s is None else f"{turn.start_s:g}",
            "end_s": None if turn.end_s is None else f"{turn.end_s:g}",
            "said_at": _moment(about.get("started_at"), turn.start_s),
            "text": turn.text or None,
        }


def _moment(started_at: str | None, seconds: float | None) -> str | None:
    """When a turn began: the start of the call and the seconds since, where both are known."""
    if started_at is None or seconds is None:
        return started_at
    try:
        return (dt.datetime.fromisoformat(started_at) + dt.timedelta(seconds=seconds)).isoformat()
    except ValueError:
        return started_at
