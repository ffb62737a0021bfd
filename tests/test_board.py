"""The board as Python sees it: traits, events, and what it leaves in a notebook."""

from __future__ import annotations

import json
from typing import Any

import pytest

from aftersales.publish.board import SECTION_MIME, UI_WORDS, Board, stylesheet
from aftersales.publish.charts import DARK, LIGHT, look

SECTION: dict[str, Any] = {
    "kind": "section",
    "id": "where",
    "lang": "en",
    "title": "Where does it fail?",
    "answer": {"text": "In <S02>", "detail": None, "tone": "finding"},
    "figures": [{"label": "Failure rate", "value": "3.8", "unit": "%"}],
}


def test_a_board_leaves_the_live_view_the_payload_and_plain_words() -> None:
    data, _ = Board(SECTION)._repr_mimebundle_()
    assert data[SECTION_MIME] == SECTION
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "<p>In &lt;S02&gt;</p>" in data["text/html"]
    assert "<p>Failure rate: 3.8 %</p>" in data["text/html"]
    assert SECTION_MIME.endswith("+json")


def test_an_event_reaches_the_listener_and_showing_raises_the_revision() -> None:
    heard: list[dict[str, Any]] = []
    board = Board(SECTION, heard.append)
    board.event = {"kind": "toggle", "name": "supplier", "value": "S02", "n": 1}
    assert heard == [{"kind": "toggle", "name": "supplier", "value": "S02", "n": 1}]
    board.show(SECTION | {"title": "Since when?"})
    assert (board.rev, board.section["title"]) == (1, "Since when?")
    board.show(board.section)
    assert board.rev == 2, "the same section again still ends the busy state"


def test_a_file_goes_to_the_browser_as_a_buffer(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[tuple[dict[str, Any], list[bytes]]] = []
    board = Board(SECTION)
    monkeypatch.setattr(board, "send", lambda content, buffers=None: sent.append((content, buffers)))
    board.send_file("suppliers.csv", "text/csv", b"a,b")
    assert sent == [({"kind": "file", "name": "suppliers.csv", "mime": "text/csv"}, [b"a,b"])]


def test_both_languages_have_the_same_words() -> None:
    assert set(UI_WORDS["en"]) == set(UI_WORDS["zh"])
    assert all(text for words in UI_WORDS.values() for text in words.values())


def test_every_word_the_browser_asks_for_exists() -> None:
    import re

    asked = set(re.findall(r"word\('([a-z_]+)'\)", Board._esm)) | {"light", "dark"}
    assert asked <= set(UI_WORDS["en"])


def test_the_look_exchanges_every_colour_for_its_namesake() -> None:
    swap = look()["swap"]
    assert len(set(LIGHT.values())) == len(LIGHT), "two equal colours could not be told apart in the dark"
    assert swap[LIGHT["accent"]] == DARK["accent"]
    assert json.loads(json.dumps(look())) == look()
    assert f"--as-accent:{DARK['accent']}" in stylesheet()


def test_the_browser_side_never_sets_html() -> None:
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval("):
        assert word not in Board._esm
