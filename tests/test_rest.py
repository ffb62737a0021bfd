"""Web services that page, fail, throttle, drop connections and change while they are read."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from conftest import TestWorkspace
from webserver import FakeClock, Reply, Request, Server, web_server
from worlds import ROOT

from aftersales.collect.connectors import rest, web
from aftersales.collect.connectors.rest import fetch, probe
from aftersales.collect.landing import Landing
from aftersales.collect.mapping import Source, read_source
from aftersales.collect.watermark import read_watermark
from aftersales.lake.store import Store
from aftersales.model.errors import SettingsError, SourceError

SOURCE = """
    owner: test
    connector: rest
    rest: {REST}
    time_zone: UTC
    tables:
      ticket:
        columns: {ticket_id: id, known_at: updated_at, created_at: updated_at, status: status}
"""
TOKEN = "t0p/s3cret+token"


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setenv("DESK_TOKEN", TOKEN)
    with web_server() as running:
        yield running


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> FakeClock:
    """Waiting takes no time; an ingest uses it too."""
    fake = FakeClock()
    monkeypatch.setitem(fetch.__kwdefaults__, "clock", fake)
    monkeypatch.setitem(probe.__kwdefaults__, "clock", fake)
    return fake


def desk(workspace: TestWorkspace, server: Server, **settings: Any) -> Source:
    block = {"url": f"{server.url}/tickets", "items": "tickets", **settings}
    return workspace.source(SOURCE.replace("{REST}", json.dumps(block)))


def item(number: int, day: int = 1, status: str = "open") -> dict[str, Any]:
    return {"id": number, "updated_at": f"2026-01-{day:02d}T00:00:00Z", "status": status}


def lines(workspace: TestWorkspace, source: Source) -> list[dict[str, Any]]:
    """What one fetch lands, without a lake."""
    with Landing(workspace.root / "landed", source.stream) as landing:
        fetched = fetch(source, workspace.open(), None, landing)
    texts = [(workspace.root / "landed" / file).read_text(encoding="utf-8") for file in fetched.files]
    return [json.loads(line) for text in texts for line in text.splitlines()]


def ids(found: list[dict[str, Any]]) -> list[int]:
    return [row["id"] for row in found]


def cursor_of(workspace: TestWorkspace) -> Any:
    mark = read_watermark(Store(workspace.open().lake), "crm")
    return None if mark is None else mark.cursor


# -------------------------------------------------------------------------------------------------------- paging


def pages_by_number(request: Request) -> Reply:
    page, size = int(request.parameters["page"]), int(request.parameters["per_page"])
    return Reply({"tickets": [item(i) for i in range(7)][(page - 1) * size : page * size]})


@pytest.mark.parametrize("size", [1, 3, 7, 8])
def test_pages_by_number_end_with_a_short_one(
    workspace: TestWorkspace, server: Server, clock: FakeClock, size: int
) -> None:
    server(pages_by_number)
    page = {"by": "number", "parameter": "page", "size_parameter": "per_page", "size": size}
    assert ids(lines(workspace, desk(workspace, server, page=page))) == list(range(7))


def test_pages_by_offset_go_on_after_a_short_one_while_the_total_is_not_reached(
    workspace: TestWorkspace, server: Server, clock: FakeClock
) -> None:
    def answer(request: Request) -> Reply:
        start = int(request.parameters["skip"])
        wanted = [item(i) for i in range(10)][start : start + 4]
        return Reply({"tickets": wanted, "meta": {"total": 10}})

    server(answer)
    page = {"by": "offset", "parameter": "skip", "size": 4}
    assert ids(lines(workspace, desk(workspace, server, page=page, total="meta.total"))) == list(range(10))
    assert [request.parameters["skip"] for request in server.requests] == ["0", "4", "8"]


@pytest.mark.parametrize("header", [True, False])
def test_the_next_address_comes_from_the_body_or_from_the_link_header(
    workspace: TestWorkspace, server: Server, clock: FakeClock, header: bool
) -> None:
    def answer(request: Request) -> Reply:
        number = int(request.parameters.get("p", "0"))
        following = f"/tickets?p={number + 1}&keep=%E5%BC%80" if number < 2 else None
        if header:
            link = {"Link": f'<{following}>; rel="next"'} if following else {}
            return Reply([item(number)], headers=link)
        return Reply({"tickets": [item(number)], "links": {"next": following}})

    server(answer)
    page = {"by": "link"} if header else {"by": "link", "next": "links.next"}
    assert ids(lines(workspace, desk(workspace, server, page=page, items="" if header else "tickets"))) == [0, 1, 2]
    assert server.requests[-1].parameters == {"p": "2", "keep": "开"}


def test_a_cursor_in_the_body_is_followed_to_its_end(
    workspace: TestWorkspace, server: Server, clock: FakeClock
) -> None:
    def answer(request: Request) -> Reply:
        after = int(request.parameters.get("after", "0"))
        return Reply({"tickets": [item(after)], "meta": {"next": after + 1 if after < 3 else None}})

    server(answer)
    page = {"by": "cursor", "parameter": "after", "cursor": "meta.next"}
    assert ids(lines(workspace, desk(workspace, server, page=page))) == [0, 1, 2, 3]


def test_parameters_are_added_to_those_of_the_address(
    workspace: TestWorkspace, server: Server, clock: FakeClock
) -> None:
    server(lambda request: Reply({"tickets": [item(1)]}))
    lines(workspace, desk(workspace, server, url=f"{server.url}/tickets?view=全部", parameters={"size": 2}))
    assert server.requests[0].parameters == {"view": "全部", "size": "2"}


def test_one_read_for_each_set_of_parameters(workspace: TestWorkspace, server: Server, clock: FakeClock) -> None:
    server(lambda request: Reply({"tickets": [item(int(request.parameters["year"]))]}))
    found = lines(
        workspace, desk(workspace, server, parameters={"make": "起亚"}, each=[{"year": 2014}, {"year": 2015}])
    )
    assert ids(found) == [2014, 2015]
    assert [request.parameters["make"] for request in server.requests] == ["起亚", "起亚"]


def test_nested_values_are_laid_flat_and_sideloaded_records_are_put_in(
    workspace: TestWorkspace, server: Server, clock: FakeClock
) -> None:
    ticket = {
        **item(1),
        "via": {"channel": "web", "source": {"to": None}},
        "tags": ["漏液", "b"],
        "requester_id": 7,
        "via.channel": "x",
    }
    server(lambda request: Reply({"tickets": [ticket, 5], "users": [{"id": 7, "name": "王"}, {"id": 8}]}))
    first, second = lines(
        workspace, desk(workspace, server, sideload={"requester": {"from": "users", "key": "requester_id"}})
    )
    assert first == {**item(1), "via.channel": "web", "via.source.to": None, "tags": ["漏液", "b"], "requester_id": 7,
                     "requester.id": 7, "requester.name": "王"}  # fmt: skip
    assert second == {"value": 5}


@pytest.mark.parametrize(
    "page",
    [
        {"by": "cursor", "parameter": "after", "cursor": "next"},
        {"by": "link", "next": "link"},
        {"by": "number", "parameter": "page"},
    ],
)
def test_pages_that_go_round_in_circles_are_refused(
    workspace: TestWorkspace, server: Server, clock: FakeClock, page: dict[str, Any]
) -> None:
    server(lambda request: Reply({"tickets": [item(1)], "next": "same", "link": "/tickets?after=same"}))
    with pytest.raises(SourceError, match=r"goes round in circles|gives page 1 again as page 2") as caught:
        lines(workspace, desk(workspace, server, page=page))
    assert caught.value.fix.startswith("mend 'page' in the source's YAML")
    assert len(server.requests) < 4


def test_pages_that_repeat_under_ever_new_cursors_are_refused(
    workspace: TestWorkspace, server: Server, clock: FakeClock
) -> None:
    server(lambda request: Reply({"tickets": [item(1)], "next": str(len(server.requests))}))
    with pytest.raises(SourceError, match="gives page 3 again as page 4"):
        lines(workspace, desk(workspace, server, page={"by": "cursor", "parameter": "after", "cursor": "next"}))


def test_a_list_that_changes_while_it_is_read_is_read_again(
    workspace: TestWorkspace, server: Server, clock: FakeClock
) -> None:
    rows = [item(i) for i in range(6)]

    def answer(request: Request) -> Reply:
        start = int(request.parameters["skip"])
        if len(server.requests) == 2:
            del rows[0]  # everything moves up: page 2 no longer shows number 2
        return Reply({"tickets": rows[start : start + 2], "count": len(rows)})

    server(answer)
    page = {"by": "offset", "parameter": "skip", "size": 2}
    found = lines(workspace, desk(workspace, server, page=page, total="count"))
    assert sorted(ids(found)) == [0, 1, 2, 3, 4, 5]


def test_a_list_that_never_stands_still_is_refused(workspace: TestWorkspace, server: Server, clock: FakeClock) -> None:
    server(lambda request: Reply({"tickets": [item(1)], "count": 10 + len(server.requests)}))
    with pytest.raises(SourceError, match="has 13 items, of which 1 came in 3 reads"):
        lines(workspace, desk(workspace, server, total="count"))


def test_two_items_that_say_the_same_are_no_sign_of_change(
    workspace: TestWorkspace, server: Server, clock: FakeClock
) -> None:
    server(lambda request: Reply({"tickets": [item(1), item(1)], "count": 2}))
    assert len(lines(workspace, desk(workspace, server, total="count"))) == 1
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("body", "settings", "message"),
    [
        ({"results": []}, {}, "answers without a list at 'tickets'"),
        ([1], {}, "answers without a list at 'tickets'"),
        ({"tickets": None}, {}, None),
        (
            {"tickets": []},
            {"page": {"by": "cursor", "parameter": "c", "cursor": "n", "more": "has_more"}},
            "answers without 'has_more'",
        ),
    ],
)
def test_an_answer_of_another_shape_is_refused(
    workspace: TestWorkspace, server: Server, clock: FakeClock, body: Any, settings: dict[str, Any], message: str | None
) -> None:
    server(lambda request: Reply(body))
    if message is None:
        assert lines(workspace, desk(workspace, server, **settings)) == []
        return
    with pytest.raises(SourceError) as caught:
        lines(workspace, desk(workspace, server, **settings))
    assert message in caught.value.what


# ------------------------------------------------------------------------------------------- failures that pass


def test_throttling_is_waited_out_as_the_service_asks(
    workspace: TestWorkspace, server: Server, clock: FakeClock
) -> None:
    replies = [
        Reply(status=429, headers={"Retry-After": "0.7"}),
        Reply(status=503, headers={"Retry-After": "Sat, 10 Jan 2026 00:00:30 GMT"}),
        Reply({"tickets": [item(1)]}),
    ]
    server(lambda request: replies[len(server.requests) - 1])
    assert ids(lines(workspace, desk(workspace, server, requests_per_second=1000))) == [1]
    assert clock.slept == [0.7, pytest.approx(29.3)]


def test_a_wait_beyond_the_limit_ends_the_fetch(workspace: TestWorkspace, server: Server, clock: FakeClock) -> None:
    server(lambda request: Reply(status=429, headers={"Retry-After": "3600"}))
    with pytest.raises(SourceError, match=r"answers 429 Too Many Requests and asks to wait 3,600 s"):
        lines(workspace, desk(workspace, server))
    assert len(server.requests) == 1


def test_failures_and_cut_answers_are_tried_again_with_growing_pauses(
    workspace: TestWorkspace, server: Server, clock: FakeClock
) -> None:
    good = Reply({"tickets": [item(1), item(2)]})
    replies = [
        Reply(status=500),
        Reply(good.body, cut=20),  # dropped inside the body
        Reply(text=b'{"tickets": [{"id"'),  # cut by the service itself, of the right length
        Reply(text=b"<html>busy</html>", headers={"Content-Type": "text/html"}),
        Reply(status=502),
        good,
    ]
    server(lambda request: replies[len(server.requests) - 1])
    assert ids(lines(workspace, desk(workspace, server, requests_per_second=1000))) == [1, 2]
    assert len(clock.slept) == 5
    assert all(0 <= pause <= 60 for pause in clock.slept)


def test_a_service_that_stays_down_is_given_up(workspace: TestWorkspace, server: Server, clock: FakeClock) -> None:
    server(lambda request: Reply(status=503))
    with pytest.raises(SourceError, match="gave no answer in 3 attempts: answers 503 Service Unavailable") as caught:
        lines(workspace, desk(workspace, server, retries=2))
    assert (len(server.requests), caught.value.rows) == (3, "this page and those after it")


def test_nobody_there_is_said_so(workspace: TestWorkspace, server: Server, clock: FakeClock) -> None:
    source = desk(workspace, server, url="http://127.0.0.1:1/x", retries=1)
    with pytest.raises(SourceError, match="gave no answer in 2 attempts: ConnectError"):
        lines(workspace, source)


def test_an_answer_that_trickles_is_cut_off(
    workspace: TestWorkspace, server: Server, clock: FakeClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    server(lambda request: Reply({"tickets": [item(1)]}))
    monkeypatch.setattr(clock, "monotonic", lambda: _step(clock))
    with pytest.raises(SourceError, match="its answer took more than 300 s"):
        lines(workspace, desk(workspace, server, retries=0, requests_per_second=1e9))


def _step(clock: FakeClock) -> float:
    clock.moment += dt.timedelta(seconds=400)
    return clock.moment.timestamp()


def test_requests_keep_the_pace(workspace: TestWorkspace, server: Server, clock: FakeClock) -> None:
    server(pages_by_number)
    page = {"by": "number", "parameter": "page", "size_parameter": "per_page", "size": 1}
    lines(workspace, desk(workspace, server, page=page, requests_per_second=2))
    assert sum(clock.slept) == pytest.approx(3.5, abs=0.01)  # eight requests, half a second between two


# ------------------------------------------------------------------------------------------------------ the token


@pytest.mark.parametrize(
    ("auth", "name", "value"),
    [
        ({"kind": "bearer", "token": {"env": "DESK_TOKEN"}}, "Authorization", f"Bearer {TOKEN}"),
        (
            {"kind": "header", "header": "X-Api-Key", "token": {"env": "DESK_TOKEN"}, "prefix": "k="},
            "X-Api-Key",
            f"k={TOKEN}",
        ),
        (
            {"kind": "basic", "user": "a@b", "password": {"env": "DESK_TOKEN"}},
            "Authorization",
            "Basic YUBiOnQwcC9zM2NyZXQrdG9rZW4=",
        ),
    ],
)
def test_the_token_goes_into_its_header(
    workspace: TestWorkspace, server: Server, clock: FakeClock, auth: dict[str, Any], name: str, value: str
) -> None:
    server(lambda request: Reply({"tickets": []}))
    lines(workspace, desk(workspace, server, auth=auth))
    assert server.requests[0].headers[name] == value


def test_the_token_goes_to_no_other_host(workspace: TestWorkspace, server: Server, clock: FakeClock) -> None:
    bearer = {"kind": "bearer", "token": {"env": "DESK_TOKEN"}}
    with web_server() as other:
        other(lambda request: Reply({"tickets": [item(9)]}))
        server(lambda request: Reply(status=302, headers={"Location": f"{other.url}/tickets"}))
        with pytest.raises(SourceError, match=f"sends us on to {other.url}") as caught:
            lines(workspace, desk(workspace, server, auth=bearer))
        assert TOKEN not in str(caught.value)
        server(lambda request: Reply({"tickets": [item(1)], "next": f"{other.url}/tickets?page=2"}))
        with pytest.raises(SourceError, match="sends us on to"):
            lines(workspace, desk(workspace, server, auth=bearer, page={"by": "link", "next": "next"}))
        assert other.requests == []


def test_a_redirect_on_the_same_host_is_followed(workspace: TestWorkspace, server: Server, clock: FakeClock) -> None:
    def answer(request: Request) -> Reply:
        if request.path == "/tickets":
            return Reply(status=307, headers={"Location": "/v2/tickets"})
        return Reply({"tickets": [item(1)]})

    server(answer)
    assert ids(lines(workspace, desk(workspace, server))) == [1]
    server(lambda request: Reply(status=307, headers={"Location": "/tickets"}))
    with pytest.raises(SourceError, match="redirects more than 5 times"):
        lines(workspace, desk(workspace, server))


@pytest.mark.parametrize(
    ("status", "fix"),
    [(401, "check the token"), (403, "ask for the right"), (404, "mend 'url'"), (422, "mend 'url', 'parameters'")],
)
def test_a_refusal_is_final_and_says_nothing_secret(
    workspace: TestWorkspace, server: Server, clock: FakeClock, status: int, fix: str
) -> None:
    server(lambda request: Reply({"error": f"bad token {TOKEN}"}, status))
    with pytest.raises(SourceError) as caught:
        workspace.ingest(desk(workspace, server, auth={"kind": "bearer", "token": {"env": "DESK_TOKEN"}}))
    assert f"/tickets answers {status}" in caught.value.what
    assert caught.value.fix.startswith(fix)
    assert TOKEN not in str(caught.value)
    assert len(server.requests) == 1
    assert not any(TOKEN in path.read_text(errors="replace") for path in workspace.root.rglob("*") if path.is_file())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"url": "ftp://x/y"}, "it starts with https://"),
        ({"url": "https://u:pw@x/y"}, "the address has a secret in it"),
        ({"url": "https://x/y?api_key=pw"}, "the address has a secret in it"),
        (
            {"url": "http://desk.example/y", "auth": {"kind": "bearer", "token": {"env": "A"}}},
            "a token is sent over https only",
        ),
        ({"auth": {"kind": "bearer", "token": "pw"}}, "a secret does not stand in a YAML"),
        ({"headers": {"Authorization": "pw"}}, "the header Authorization is a secret"),
        ({"page": {"by": "cursor", "parameter": "c"}}, "paging by cursor needs cursor"),
        ({"page": {"by": "link", "first": 2}}, "first says nothing for paging by link"),
        ({"page": {"by": "number", "parameter": "p", "size_parameter": "n"}}, "'size_parameter' needs 'size'"),
        ({"since": {"parameter": "since"}}, "'since' needs 'path'"),
    ],
)
def test_a_block_that_is_unsafe_or_unclear_is_refused(
    workspace: TestWorkspace, server: Server, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        desk(workspace, server, **settings)
    assert message in caught.value.rows
    assert "pw" not in caught.value.rows.replace(json.dumps(settings), "")


# ---------------------------------------------------------------------------------------------------- incremental


def test_the_next_fetch_asks_for_what_is_new_since_the_watermark_minus_the_overlap(
    workspace: TestWorkspace, server: Server, clock: FakeClock
) -> None:
    rows = [item(1, 1), item(2, 2)]
    server(
        lambda request: Reply(
            {"tickets": [row for row in rows if row["updated_at"] >= request.parameters.get("since", "")]}
        )
    )
    source = desk(workspace, server, since={"parameter": "since", "path": "updated_at"}, overlap="12h")
    (first,) = workspace.ingest(source)
    assert (first.inserted, cursor_of(workspace)) == (2, {"since": "2026-01-02T00:00:00+00:00"})
    rows[0] = item(1, 3, "closed")
    (second,) = workspace.ingest(source)
    assert server.requests[-1].parameters == {"since": "2026-01-01T12:00:00Z"}
    assert (second.rows_read, second.corrected, second.unchanged) == (2, 1, 1)
    version = Store(workspace.open().lake).version("ticket")
    workspace.ingest(source)
    assert workspace.ingest(source) == []  # the same lines once more
    assert Store(workspace.open().lake).version("ticket") == version
    assert workspace.rows("ticket", "ticket_id", "status") == [("1", "closed"), ("2", "open")]


def test_a_time_in_the_future_does_not_hide_what_comes_until_then(
    workspace: TestWorkspace, server: Server, clock: FakeClock
) -> None:
    server(lambda request: Reply({"tickets": [{**item(1), "updated_at": "2099-01-01T00:00:00Z"}, item(2)]}))
    source = desk(workspace, server, since={"parameter": "since", "path": "updated_at"})
    workspace.ingest(source)
    assert cursor_of(workspace) == {"since": "2026-01-10T00:00:00+00:00"}


@pytest.mark.parametrize(
    ("form", "value", "asked"),
    [
        ("epoch_s", 1767225600, "1767225600"),
        ("epoch_ms", "1767225600000", "1767225600000"),
        ("date", "2026-01-01", "2026-01-01"),
        ("iso", "/Date(1767225600000-0500)/", "2026-01-01T00:00:00Z"),
        ("text", "00012", "00012"),
    ],
)
def test_since_is_written_as_the_service_wants_it(
    workspace: TestWorkspace, server: Server, clock: FakeClock, form: str, value: Any, asked: str
) -> None:
    server(lambda request: Reply({"tickets": [{**item(1), "changed": value}]}))
    since = {"parameter": "since", "path": "changed", "format": form}
    source = desk(workspace, server, since=since, overlap="0s")
    workspace.ingest(source)
    workspace.ingest(source)
    assert [request.parameters for request in server.requests] == [{}, {"since": asked}]


def export(request: Request) -> Reply:
    """An incremental export in the style of ticket systems: a cursor that holds for good, users beside the tickets."""
    place = int(request.parameters.get("cursor", "c0")[1:])
    page = [{**item(i), "requester_id": i % 2} for i in range(place, min(place + 2, 5))]
    users = [{"id": 0, "name": "李"}, {"id": 1, "name": "Bob"}]
    return Reply(
        {"tickets": page, "users": users, "after_cursor": f"c{min(place + 2, 5)}", "end_of_stream": place + 2 >= 5}
    )


EXPORT = {
    "page": {"by": "cursor", "parameter": "cursor", "cursor": "after_cursor", "end": "end_of_stream", "resume": True},
    "since": {"parameter": "start_time", "format": "epoch_s", "first": 0},
    "sideload": {"requester": {"from": "users", "key": "requester_id"}},
}


def test_an_incremental_export_goes_on_where_it_ended(
    workspace: TestWorkspace, server: Server, clock: FakeClock
) -> None:
    server(export)
    source = desk(workspace, server, **EXPORT)
    (ledger,) = workspace.ingest(source)
    assert (ledger.inserted, cursor_of(workspace)) == (5, {"resume": "c5"})
    assert [request.parameters for request in server.requests] == [
        {"start_time": "0"},
        {"cursor": "c2"},
        {"cursor": "c4"},
    ]
    assert workspace.ingest(source) == []
    assert server.requests[-1].parameters == {"cursor": "c5"}


def test_an_export_that_breaks_off_keeps_its_pages_and_goes_on_from_there(
    workspace: TestWorkspace, server: Server, clock: FakeClock
) -> None:
    server(lambda request: export(request) if request.parameters.get("cursor") != "c4" else Reply(status=500))
    source = desk(workspace, server, retries=0, **EXPORT)
    with pytest.raises(SourceError, match="answers 500"):
        workspace.ingest(source)
    assert (len(workspace.rows("ticket", "ticket_id")), cursor_of(workspace)) == (4, {"resume": "c4"})
    server(export)
    assert [ledger.inserted for ledger in workspace.ingest(source)] == [1]
    assert server.requests[-1].parameters == {"cursor": "c4"}


def test_a_read_that_breaks_off_without_such_a_cursor_keeps_nothing(
    workspace: TestWorkspace, server: Server, clock: FakeClock
) -> None:
    server(lambda request: pages_by_number(request) if request.parameters["page"] != "3" else Reply(status=500))
    page = {"by": "number", "parameter": "page", "size_parameter": "per_page", "size": 2}
    source = desk(workspace, server, page=page, retries=0, since={"parameter": "since", "path": "updated_at"})
    with pytest.raises(SourceError, match="answers 500"):
        workspace.ingest(source)
    assert (list((workspace.root / "data" / "raw" / "crm").iterdir()), cursor_of(workspace)) == ([], None)


def test_a_probe_reads_one_page(workspace: TestWorkspace, server: Server, clock: FakeClock) -> None:
    server(export)
    seen = probe(desk(workspace, server, **EXPORT), workspace.open())
    assert seen.reached == f"2 items on the first page of {server.url}/tickets"
    assert seen.columns == ("id", "updated_at", "status", "requester_id", "requester.id", "requester.name")
    assert len(server.requests) == 1


def test_the_clock_of_a_fetch_is_the_systems_unless_given() -> None:
    assert web.SYSTEM_CLOCK.now().tzinfo is dt.UTC
    assert rest.SYSTEM_CLOCK is web.SYSTEM_CLOCK


EXAMPLES = ROOT / "data" / "sources" / "examples"


def example(workspace: TestWorkspace, name: str, **changes: Any) -> Source:
    """A documented example, pointed at the server of the test."""
    content = yaml.safe_load((EXAMPLES / f"{name}.yml").read_text(encoding="utf-8"))
    content["rest"].update(changes)
    path = workspace.root / "data" / "sources" / f"{name}.yml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content), encoding="utf-8")
    return read_source(path, workspace.open())


def test_the_example_of_a_ticket_system_loads_what_such_a_service_answers(
    workspace: TestWorkspace, server: Server, clock: FakeClock
) -> None:
    tickets = [
        {"id": 35436, "url": "x", "via": {"channel": "email", "source": {"from": {}}}, "type": "incident", "tags": ["battery", "锁"],
         "subject": "门锁", "description": "打不开", "priority": "urgent", "status": "hold", "requester_id": 20978392,
         "assignee_id": None, "group_id": 98738, "created_at": "2026-01-02T08:00:00Z", "updated_at": "2026-01-03T08:00:00Z"},
        {"id": 35437, "via": {"channel": "web"}, "type": None, "tags": [], "subject": "q", "description": "d", "priority": None,
         "status": "new", "requester_id": 1, "assignee_id": 7, "group_id": None, "created_at": "2026-01-02T09:00:00Z",
         "updated_at": "2026-01-02T09:00:00Z"},
    ]  # fmt: skip

    def answer(request: Request) -> Reply:
        last = request.parameters.get("cursor") == "MTU3"
        users = [{"id": 20978392, "locale": "zh-CN", "email": "x@customer.example"}]
        return Reply({"tickets": tickets[1:] if last else tickets[:1], "users": users, "after_url": None, "before_cursor": None,
                      "after_cursor": "end" if last else "MTU3", "end_of_stream": last})  # fmt: skip

    server(answer)
    basic = {"kind": "basic", "user": "robot@example.com/token", "password": {"env": "DESK_TOKEN"}}
    source = example(workspace, "ticket_api", url=f"{server.url}/cursor.json", auth=basic)
    ticket, tag = workspace.ingest(source)
    assert (ticket.rows_read, ticket.inserted, ticket.rejected, tag.inserted) == (2, 2, 0, 2)
    assert server.requests[0].parameters == {"include": "users", "per_page": "500", "start_time": "0"}
    assert server.requests[1].parameters == {"include": "users", "per_page": "500", "cursor": "MTU3"}
    assert workspace.rows("ticket", "ticket_id", "ticket_type", "status", "severity", "channel", "language") == [
        ("35436", "fault", "waiting", "critical", "email", "zh"),
        ("35437", None, "open", None, "web", None),
    ]
    assert workspace.rows("tag", "source_id", "tag") == [("35436", "battery"), ("35436", "锁")]
    assert clock.slept == [pytest.approx(1 / 0.15, abs=0.1)]


def test_the_example_of_a_complaint_service_loads_what_such_a_service_answers(
    workspace: TestWorkspace, server: Server, clock: FakeClock
) -> None:
    def complaint(number: int, filed: str) -> dict[str, Any]:
        return {"odiNumber": number, "manufacturer": "Kia Motors", "crash": number % 2 == 1, "fire": False, "numberOfInjuries": 1,
                "numberOfDeaths": 0, "dateOfIncident": "12/31/2013", "dateComplaintFiled": filed, "vin": "5XXGM4A7XDG",
                "components": "ENGINE,STEERING", "summary": "STALLS", "products": [{"type": "Vehicle", "productYear": "2013"}]}  # fmt: skip

    def answer(request: Request) -> Reply:
        year = int(request.parameters["modelYear"])
        rows = [complaint(year * 10, "01/02/2014"), complaint(year * 10 + 1, "/Date(1388638800000-0500)/")]
        return Reply({"count": 2, "message": "Results returned successfully", "results": rows})

    server(answer)
    source = example(workspace, "complaint_api", url=f"{server.url}/complaintsByVehicle")
    complaint_, tag = workspace.ingest(source)
    assert (complaint_.rows_read, complaint_.inserted, complaint_.values_set_aside, tag.inserted) == (4, 4, 0, 8)
    assert {request.parameters["modelYear"] for request in server.requests} == {"2013", "2014"}
    received = dt.datetime(2014, 1, 2, 5, tzinfo=dt.UTC)
    assert workspace.rows("complaint", "complaint_id", "safety_flag", "received_at", "category") == [
        ("20130", False, received, "ENGINE"), ("20131", True, received, "ENGINE"),
        ("20140", False, received, "ENGINE"), ("20141", True, received, "ENGINE"),
    ]  # fmt: skip
    assert workspace.ingest(source) == []  # the whole answer again, not even kept
