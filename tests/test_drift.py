"""Columns come, go and change their names: what is reported, what still loads, and what is proposed."""

from __future__ import annotations

import datetime as dt
import itertools
import json
import textwrap
from typing import Any

import pytest
from conftest import TICKETS, TestWorkspace, csv_text

from aftersales.collect.drift import CONSEQUENCES, KINDS, drift_of, foreseen
from aftersales.collect.ledger import latest_deliveries
from aftersales.model.errors import SourceError

HEADER = ["id", "created", "status", "cost"]
ROWS = [["t1", "2024-01-01", "open", "1"], ["t2", "2024-01-02", "closed", "2"], ["t3", "2024-01-03", "open", "3"]]

TWO_TABLES = """
    owner: the portal team
    files: data/raw/*
    tables:
      ticket:
        columns: {ticket_id: id, known_at: at, created_at: at, status: state}
      tag:
        split: {column: labels, separator: "|"}
        columns: {source_table: {value: ticket}, source_id: id, tag_set: {value: label}, tag: "@part", known_at: at}
      complaint:
        where: {kind: complaint}
        columns: {complaint_id: id, known_at: at, received_at: at, deaths_n: deaths}
"""


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def drift(workspace: TestWorkspace, *columns: str) -> list[Any]:
    rows = drift_of(workspace.snapshot())[list(columns or ("file", "kind", "column", "found", "consequence"))]
    return sorted(map(tuple, rows.to_numpy().tolist()))


def counts(ledger: Any) -> tuple[int, int, int, int]:
    assert ledger.rows_read == ledger.accepted + ledger.rejected + ledger.duplicate
    return ledger.rows_read, ledger.accepted, ledger.rejected, ledger.left_out


# ------------------------------------------------------------------------------------------------ what still loads


def test_a_file_as_expected_shows_no_drift(workspace: TestWorkspace) -> None:
    workspace.file("1.csv", csv_text([*HEADER, "note"], [[*row, "x"] for row in ROWS]))
    workspace.ingest(workspace.source())
    assert drift(workspace) == []
    assert workspace.rows("header", "source", "source_file", "columns") == [("crm", "1.csv", [*HEADER, "note"])]


def test_a_missing_optional_column_stops_nothing_and_blanks_nothing(workspace: TestWorkspace) -> None:
    source = workspace.source(TICKETS.replace("cost_total: {from: cost}", "cost_total: cost\n          x_shift: shift"))
    workspace.file("1.csv", csv_text([*HEADER, "shift"], [[*row, "night"] for row in ROWS]))
    workspace.ingest(source, loaded_at=utc("2024-02-01"))
    workspace.file("2.csv", "id,created,status\nt1,2024-01-01,open\nt2,2024-01-02,solved\nt4,2024-01-04,open\n")
    (ledger,) = workspace.ingest(source, files="data/raw/2.csv", loaded_at=utc("2024-03-01"))
    assert (ledger.unchanged, ledger.corrected, ledger.inserted, ledger.refused) == (1, 1, 1, "")
    assert workspace.rows("ticket", "ticket_id", "status", "cost_total", "x_shift") == [
        ("t1", "open", 1.0, "night"),
        ("t2", "solved", 2.0, "night"),
        ("t3", "open", 3.0, "night"),
        ("t4", "open", None, None),
    ]
    assert workspace.rows("ticket", "ticket_id", "status", "cost_total", as_of=utc("2024-02-15"))[1] == (
        "t2",
        "closed",
        2.0,
    )
    assert drift(workspace) == [("2.csv", "missing", "cost", "", "kept"), ("2.csv", "missing", "shift", "", "kept")]
    assert drift(workspace, "table", "proposal") == [("ticket", "# cost_total: cost"), ("ticket", "# x_shift: shift")]


def test_a_first_file_without_an_optional_column_loads(workspace: TestWorkspace) -> None:
    workspace.file("1.csv", "id,created,status\nt1,2024-01-01,open\n")
    (ledger,) = workspace.ingest(workspace.source())
    assert counts(ledger) == (1, 1, 0, 0)
    assert workspace.rows("ticket", "ticket_id", "cost_total") == [("t1", None)]


def test_a_check_against_a_column_that_is_missing_is_left_out(workspace: TestWorkspace) -> None:
    text = TICKETS.replace("status: {from: status}", "closed_at: {from: closed, not_before: reported_at}\n"
                           "          reported_at: {from: answered}")  # fmt: skip
    workspace.file("1.csv", "id,created,closed,cost\nt1,2024-01-01,2024-01-05,1\n")
    (ledger,) = workspace.ingest(workspace.source(text))
    assert counts(ledger) == (1, 1, 0, 0)
    assert drift(workspace) == [("1.csv", "missing", "answered", "", "kept")]


def test_a_missing_column_stops_only_the_table_that_needs_it(workspace: TestWorkspace) -> None:
    source = workspace.source(TWO_TABLES)
    workspace.file("1.csv", "id,at,state,labels\n1,2024-01-01,open,a|b\n2,bad,open,a\n")
    ticket, tag, complaint = workspace.ingest(source)
    assert (counts(ticket), counts(tag), counts(complaint)) == ((2, 1, 1, 0), (2, 2, 0, 0), (0, 0, 0, 2))
    assert complaint.refused == "lacks 'kind' (where: it says which rows are meant)"
    again = workspace.ingest(source)
    assert [(ledger.skipped, ledger.refused) for ledger in again] == [
        (True, ticket.refused),
        (True, ""),
        (True, complaint.refused),
    ]
    assert workspace.rows("delivery", "table", "refused") == [
        ("complaint", complaint.refused),
        ("tag", ""),
        ("ticket", ""),
    ]
    assert drift(workspace, "table", "column", "consequence", "proposal") == [
        ("complaint", "deaths", "kept", "# deaths_n: deaths"),
        (
            "complaint",
            "kind",
            "refused",
            "# kind is needed: ask the portal team for it, or name the column that took its place",
        ),
    ]


def test_without_its_first_table_a_file_is_accounted_for_by_the_next(workspace: TestWorkspace) -> None:
    text = TWO_TABLES.replace("ticket_id: id", "ticket_id: number")
    workspace.file("1.csv", "id,at,state,labels,kind,deaths\n1,2024-01-01,open,a|b,complaint,0\n2,a,b,c,d,e,f\n")
    ledgers = workspace.ingest(workspace.source(text))
    assert [(ledger.table, counts(ledger), ledger.place) for ledger in ledgers] == [
        ("tag", (3, 2, 1, 0), 0),
        ("complaint", (1, 1, 0, 1), 1),
        ("ticket", (0, 0, 0, 2), 2),
    ]
    assert ledgers[2].refused == "lacks 'number' (ticket_id: the key)"
    shown = latest_deliveries(workspace.snapshot())
    assert shown[shown["is_primary"]]["table"].tolist() == ["tag"]
    assert "row:too_many_fields" in workspace.rows("quarantine", "reasons")[0]


@pytest.mark.parametrize(
    ("change", "refused"),
    [
        (("id,", "nr,"), "lacks 'id' (ticket_id: the key)"),
        (("created,", "day,"), "lacks 'created' (known_at: it says since when a row is known); 'created' (created_at"),
        (("status,", "zustand,"), "lacks 'status' (status: it is required)"),
        (("updated", "changed"), "lacks 'updated' (version: it says which version is newest)"),
    ],
)
def test_columns_that_a_table_cannot_do_without(
    workspace: TestWorkspace, change: tuple[str, str], refused: str
) -> None:
    text = TICKETS.replace("{from: status}", "{from: status, required: true}")
    text = text.replace("        columns:", "        version: updated\n        columns:", 1)
    text += """
      product:
        columns: {product_id: cost, known_at: {value: "2024-01-01"}}
    """
    header = "id,created,status,cost,updated\n".replace(*change)
    workspace.file("1.csv", header + "1,2024-01-01,open,1,2024-01-02\n")
    product, ticket = workspace.ingest(workspace.source(text))
    assert (product.table, counts(product), counts(ticket)) == ("product", (1, 1, 0, 0), (0, 0, 0, 1))
    assert ticket.refused.startswith(refused)


def test_when_nothing_can_load_the_file_is_refused_with_all_its_gaps(workspace: TestWorkspace) -> None:
    source = workspace.source(TWO_TABLES)
    workspace.file("1.csv", "nr,when,status,tags\n1,2024-01-01,open,a\n")
    with pytest.raises(
        SourceError, match=r"1.csv: lacks 6 of 6 mapped columns: 'id', 'at'.*\n  rows : the file has: nr, when"
    ):
        workspace.ingest(source)
    assert set(drift(workspace, "table", "column", "consequence")) >= {
        ("ticket", "id", "refused"),
        ("ticket", "state", "kept"),
        ("complaint", "kind", "refused"),
    }
    assert "ticket" not in workspace.snapshot().versions


def test_one_of_several_alternatives_is_enough_and_says_nothing(workspace: TestWorkspace) -> None:
    source = workspace.source(TICKETS.replace("ticket_id: id", "ticket_id: [编号, id]"))
    workspace.file("1.csv", csv_text(HEADER, ROWS))
    workspace.file("2.csv", csv_text(["编号", *HEADER[1:]], [["t9", "2024-01-09", "open", ""]]))
    workspace.ingest(source)
    assert workspace.rows("ticket", "ticket_id") == ["t1", "t2", "t3", "t9"]
    assert drift(workspace) == []


def test_joined_columns_are_all_needed(workspace: TestWorkspace) -> None:
    source = workspace.source(TICKETS.replace("ticket_id: id", "ticket_id: {from: [site, id], join: '-'}"))
    workspace.file("1.csv", csv_text(HEADER, ROWS))
    with pytest.raises(SourceError, match="lacks 1 of 5 mapped columns: 'site'"):
        workspace.ingest(source)


# --------------------------------------------------------------------------------------- new, missing and renamed


def test_the_delivery_before_tells_what_is_new_and_what_is_gone(workspace: TestWorkspace) -> None:
    source = workspace.source()
    workspace.file("1.csv", csv_text([*HEADER, "note"], [[*row, "x"] for row in ROWS]))
    workspace.file(
        "2.csv", csv_text([*HEADER, "Fault code", "满意度", "团队"], [[*row, "F1", "5", "A"] for row in ROWS])
    )
    workspace.file("3.csv", csv_text([*HEADER, "Fault code", "满意度", "团队"], [["t9", *ROWS[0][1:], "F1", "5", "A"]]))
    workspace.ingest(source)
    assert drift(workspace, "file", "kind", "column", "consequence", "proposal") == [
        ("2.csv", "missing", "note", "ignored", "# nothing to do: no table reads note"),
        ("2.csv", "new", "Fault code", "ignored", "fault_code: Fault code"),
        ("2.csv", "new", "团队", "ignored", "team: 团队"),
        ("2.csv", "new", "满意度", "ignored", "x_column_6: 满意度"),
    ]


RENAMES: list[tuple[str, str, str]] = [
    ("id", "ID", "ticket_id: {from: [id, ID]}"),
    ("created", "created_on", "created_at: {from: [created, created_on]}"),
    ("status", "工单状态", "status: {from: [status, 工单状态]}"),  # by its values
    ("cost", "total cost", "cost_total: {from: [cost, total cost]}"),
]


@pytest.mark.parametrize(("old", "new", "line"), RENAMES)
def test_a_renamed_column_is_recognised_and_its_proposal_can_be_pasted(
    workspace: TestWorkspace, old: str, new: str, line: str
) -> None:
    source = workspace.source(
        TICKETS
        + """
      product:
        columns: {product_id: model, known_at: {value: "2024-01-01"}}
    """
    )
    header, extra = [*HEADER, "model", "remark"], ["P1", "ok"]
    workspace.file("1.csv", csv_text(header, [[*row, *extra] for row in ROWS]))
    workspace.ingest(source)
    renamed = [new if name == old else name for name in header] + ["misc"]
    workspace.file("2.csv", csv_text(renamed, [["t8", "2024-05-01", "open", "7", *extra, "y"]]))
    workspace.ingest(source, files="data/raw/2.csv")
    rows = drift_of(workspace.snapshot())
    long_ago = drift_of(workspace.snapshot(dt.datetime(2024, 6, 1, tzinfo=dt.UTC)))
    assert long_ago.equals(rows), "a day in the past hides events, not what was found while loading"
    found = rows[rows["kind"] == "renamed"].to_dict("records")
    assert [(row["column"], row["found"], row["table"]) for row in found] == [(old, new, "ticket")]
    assert line in found[0]["proposal"].splitlines()
    text = TICKETS
    for proposal in found[0]["proposal"].splitlines():
        column = proposal.split(":")[0]
        old_line = next(given for given in TICKETS.splitlines() if given.strip().startswith(f"{column}:"))
        text = text.replace(old_line, f"          {proposal}")
    workspace.ingest(workspace.source(text))
    assert ("t8", "open", 7.0) in workspace.rows("ticket", "ticket_id", "status", "cost_total")
    assert len(workspace.rows("ticket", "ticket_id")) == 4
    assert {row[1] for row in drift(workspace)} <= {"new"}


def test_other_settings_of_a_column_stay_in_the_proposal(workspace: TestWorkspace) -> None:
    text = """
    owner: test
    files: data/raw/*
    tables:
      ticket:
        version: {from: updated, format: "%d.%m.%Y"}
        columns:
          ticket_id: {from: [site, nr], join: "-"}
          created_at: {from: created, format: ["%d.%m.%Y", iso], time_zone: Asia/Shanghai}
          known_at: created
          status: {from: state, map: {"001": open, "1.10": closed}, otherwise: blank}
    """
    workspace.file("1.csv", "site,Nr.,Created at,State,Updated\nx,1,01.02.2024,001,01.02.2024\n")
    with pytest.raises(SourceError):
        workspace.ingest(workspace.source(text))
    lines = [line for (proposal,) in drift(workspace, "proposal") for line in proposal.splitlines()]
    assert sorted(lines) == [
        "created_at: {from: [created, Created at], format: ['%d.%m.%Y', iso], time_zone: Asia/Shanghai}",
        "known_at: {from: [created, Created at]}",
        "status: {from: [state, State], map: {'001': open, '1.10': closed}, otherwise: blank}",
        "ticket_id: {from: [site, Nr.], join: '-'}",
        "version: {from: [updated, Updated], format: ['%d.%m.%Y']}",
    ]
    mended = textwrap.dedent(text)
    for line in lines:
        column = line.split(":")[0]
        old = next(given for given in mended.splitlines() if given.strip().startswith(f"{column}:"))
        mended = mended.replace(old, old[: len(old) - len(old.lstrip())] + line)
    workspace.source(mended)


def test_where_and_split_get_proposals_too(workspace: TestWorkspace) -> None:
    workspace.file("1.csv", "id,at,state,Labels,Kind,deaths\n1,2024-01-01,open,a|b,complaint,0\n")
    ticket, *others = workspace.ingest(workspace.source(TWO_TABLES))
    assert (ticket.refused, [bool(ledger.refused) for ledger in others]) == ("", [True, True])
    assert drift(workspace, "column", "found", "proposal") == [
        ("kind", "Kind", "where: {Kind: [complaint]}"),
        ("labels", "Labels", "split: {column: Labels, separator: '|'}"),
    ]


def test_a_column_whose_values_do_not_fit_is_not_proposed(workspace: TestWorkspace) -> None:
    source = workspace.source()
    workspace.file("1.csv", csv_text([*HEADER, "costs"], [[*row, "cheap"] for row in ROWS]))
    workspace.ingest(source)
    workspace.file("2.csv", "id,created,status,costs\nt8,2024-01-01,open,cheap\n")
    workspace.ingest(source, files="data/raw/2.csv")
    assert drift(workspace) == [("2.csv", "missing", "cost", "", "kept")]


def test_every_kind_and_consequence_has_words_in_both_languages() -> None:
    assert all(en and zh for en, zh in [*KINDS.values(), *CONSEQUENCES.values()])
    assert set(KINDS) == {"new", "missing", "renamed"}


# ------------------------------------------------------------------------------------------- before anything loads


def test_drift_is_foreseen_without_loading(workspace: TestWorkspace) -> None:
    source = workspace.source()
    workspace.file("1.csv", csv_text(HEADER, ROWS))
    workspace.ingest(source)
    versions = workspace.snapshot().versions
    workspace.file("2.csv", csv_text(["id", "created", "status", "costs", "note"], [[*ROWS[0], "x"]]))
    found = [(file, f.kind, f.column, f.found) for file, f in foreseen(workspace.open(), source, utc("2024-02-01"))]
    assert found == [("2.csv", "renamed", "cost", "costs"), ("2.csv", "new", "note", "")]
    assert workspace.snapshot().versions == versions


# ---------------------------------------------------------------------------------------------------- event logs


EVENTS = """
    owner: test
    files: data/raw/**/*.jsonl
    tables:
      ticket_event:
        columns:
          event_id: event
          ticket_id: ticket
          event_kind: {value: update}
          to_status: {from: status, map: {open: open, waiting: waiting, solved: resolved}}
          occurred_at: {from: at, format: epoch_s}
          known_at: "@received"
      ticket:
        version: {from: at, format: epoch_s}
        columns:
          ticket_id: ticket
          status: {from: status, map: {open: open, waiting: waiting, solved: resolved}}
          created_at: {from: opened, format: epoch_s}
          known_at: {from: at, format: epoch_s}
          x_firmware: firmware
"""
FIRST = 1_704_067_200


def event(number: int, ticket: str, status: str, hour: int, **more: Any) -> str:
    content = {"event": f"e{number}", "ticket": ticket, "status": status, "at": FIRST + 3600 * hour, "opened": FIRST}
    return json.dumps(content | more) + "\n"


BATCHES = [
    event(1, "t1", "open", 0, firmware="1.0") + event(2, "t2", "open", 1),
    event(3, "t1", "waiting", 2) + event(4, "t2", "solved", 5, firmware="2.0"),
    event(5, "t2", "waiting", 3) + event(2, "t2", "open", 1) + "half a li",
]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_events_in_any_order_of_files_end_in_the_same_state(workspace: TestWorkspace, order: tuple[int, ...]) -> None:
    source = workspace.source(EVENTS)
    for place, number in enumerate(order):
        workspace.file(f"dev{number}/{place}.jsonl", BATCHES[number])
        ledgers = workspace.ingest(source, loaded_at=utc(f"2024-02-0{place + 1}"))
        assert all(ledger.rows_read == ledger.accepted + ledger.rejected + ledger.duplicate for ledger in ledgers)
    assert workspace.rows("ticket", "ticket_id", "status") == [("t1", "waiting"), ("t2", "resolved")]
    assert workspace.rows("ticket_event", "event_id", "ticket_id", "to_status") == [
        ("e1", "t1", "open"),
        ("e2", "t2", "open"),
        ("e3", "t1", "waiting"),
        ("e4", "t2", "resolved"),
        ("e5", "t2", "waiting"),
    ]
    assert workspace.rows("quarantine", "reasons")[0][-1] == "row:not_json"
    assert drift(workspace) == []


def test_an_event_that_comes_late_is_known_since_it_was_received(workspace: TestWorkspace) -> None:
    import os

    source = workspace.source(EVENTS)
    for number, day in ((0, 1), (2, 20)):
        path = workspace.file(f"{number}.jsonl", BATCHES[number])
        moment = utc(f"2024-03-{day:02}").timestamp()
        os.utime(path, (moment, moment))
    workspace.ingest(source)
    assert workspace.rows("ticket_event", "event_id", as_of=utc("2024-03-10")) == ["e1", "e2"]
    assert workspace.rows("ticket_event", "event_id", as_of=utc("2024-03-20")) == ["e1", "e2", "e5"]


def test_keys_that_a_few_events_leave_out_are_no_drift_and_new_ones_are_told_once(workspace: TestWorkspace) -> None:
    source = workspace.source(EVENTS)
    for number, more in enumerate([{"a": 1}, {}, {"b": 1}, {"a": 1}, {"b": 2}]):
        workspace.file(f"{number}.jsonl", event(number, "t1", "open", number, **more))
    many = "".join(event(number, "t1", "open", number, b=1) for number in range(10, 40))
    workspace.file("9.jsonl", many)
    workspace.ingest(source)
    assert drift(workspace) == [
        ("2.jsonl", "new", "b", "", "ignored"),
        ("9.jsonl", "missing", "a", "", "ignored"),
        ("9.jsonl", "missing", "firmware", "", "kept"),
    ]
    assert len(workspace.rows("header", "header_id")) == 3


def test_an_event_without_a_needed_key_costs_the_event_and_not_the_folder(workspace: TestWorkspace) -> None:
    source = workspace.source(EVENTS)
    workspace.file("1.jsonl", '{"ticket": "t1", "status": "open", "at": 1704067200, "opened": 1704067200}\n')
    workspace.file("2.jsonl", BATCHES[0])
    ledgers = workspace.ingest(source)
    assert [(ledger.table, counts(ledger)[:3]) for ledger in ledgers] == [
        ("ticket_event", (1, 0, 1)),
        ("ticket", (0, 0, 0)),
        ("ticket_event", (2, 2, 0)),
        ("ticket", (2, 2, 0)),
    ]
    assert workspace.rows("quarantine", "reasons") == [["event_id:missing"]]
    assert drift(workspace) == []
