"""From a delivered file to the lake: every row is accounted for, once, whatever happens in between."""

from __future__ import annotations

import csv
import datetime as dt
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter
from conftest import TICKETS, TestWorkspace, csv_text
from deltalake import write_deltalake
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aftersales.collect.connectors.files import unique_names
from aftersales.collect.ingest import Delivery
from aftersales.collect.mapping import Source, read_source
from aftersales.lake.engine import connect
from aftersales.lake.store import Store

HEADER = ["id", "created", "status", "cost"]
SHARED = Path(os.environ.get("AFTERSALES_SHARED") or Path(__file__).parent.parent.parent / "shared")

VERSIONED = """
    owner: test
    files: data/raw/*
    tables:
      ticket:
        version: updated
        columns: {ticket_id: id, known_at: created, created_at: created, status: status}
"""


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


def counts(delivery: Delivery) -> tuple[int, int, int, int]:
    """rows_read, accepted, rejected, duplicate; the law of the ledger holds."""
    assert delivery.rows_read == delivery.accepted + delivery.rejected + delivery.duplicate
    assert delivery.accepted == delivery.inserted + delivery.corrected + delivery.unchanged
    return delivery.rows_read, delivery.accepted, delivery.rejected, delivery.duplicate


def quarantine(workspace: TestWorkspace) -> list[tuple[str, str, int, list[str]]]:
    return workspace.rows("quarantine", "table", "kind", "source_row", "reasons")


# ----------------------------------------------------------------------------------------------- one delivery


def test_a_dirty_file_is_accounted_for_row_by_row(workspace: TestWorkspace) -> None:
    workspace.file(
        "a.csv",
        csv_text(
            HEADER,
            [
                ["t1", "2024-01-01", "open", "1.5"],
                ["t2", "soon", "open", "-1"],
                ["", "2024-01-01", "open", ""],
                ["t1", "2024-01-01", "open", "1.5"],
                ["t1", "2024-01-01", "closed", "2"],
                ["t3", "2024-02-01", "x", "1", "more", "5"],
                ["t4", "2024-03-01"],
            ],
        ),
    )
    (delivery,) = workspace.ingest(workspace.source())
    assert counts(delivery) == (7, 2, 3, 2)
    assert (delivery.inserted, delivery.newest_known_at, delivery.left_out) == (2, utc("2024-03-01"), 0)
    assert workspace.rows("ticket", "ticket_id", "status", "cost_total", "source_row") == [
        ("t1", "closed", 2.0, 5),
        ("t4", None, None, 7),
    ]
    assert quarantine(workspace) == [
        ("ticket", "duplicate", 1, ["key:repeated_with_other_content"]),
        ("ticket", "duplicate", 4, ["key:repeated_with_other_content"]),
        ("ticket", "row", 2, ["cost_total:below_0", "created_at:type", "known_at:type"]),
        ("ticket", "row", 3, ["ticket_id:missing"]),
        ("ticket", "row", 6, ["row:too_many_fields"]),
    ]
    raw = {row: json.loads(text) for row, text in workspace.rows("quarantine", "source_row", "raw")}
    assert (raw[2]["created"], raw[2]["cost"], raw[6]["_surplus_1"], raw[6]["_surplus_2"]) == (
        "soon",
        "-1",
        "more",
        "5",
    )


def test_where_rows_come_from_is_kept(workspace: TestWorkspace) -> None:
    workspace.file("a.csv", csv_text(HEADER, [["t1", "2024-01-01", "open", "1"]]))
    (delivery,) = workspace.ingest(workspace.source(), loaded_at=utc("2024-05-01 10:00:00"))
    assert workspace.rows(
        "ticket", "source_system", "source_file", "source_row", "loaded_at", "ingest_run_id", "yr"
    ) == [("crm", "a.csv", 1, utc("2024-05-01 10:00:00"), delivery.ingest_run_id, "2024")]
    assert workspace.rows("delivery", "source", "table", "source_file", "encoding", "rows_read", "accepted") == [
        ("crm", "ticket", "a.csv", "utf-8", 1, 1)
    ]


def test_values_set_aside_are_counted_and_kept_while_the_row_stays(workspace: TestWorkspace) -> None:
    source = workspace.source(TICKETS.replace("{from: status}", "{from: status, map: {a: A}, otherwise: blank}"))
    workspace.file("a.csv", csv_text(HEADER, [["1", "2024-01-01", "a", "1"], ["2", "2024-01-01", "b", "1"]]))
    (delivery,) = workspace.ingest(source)
    assert counts(delivery) == (2, 2, 0, 0)
    assert delivery.values_set_aside == 1
    assert workspace.rows("ticket", "ticket_id", "status") == [("1", "A"), ("2", None)]
    assert quarantine(workspace) == [("ticket", "value", 2, ["status:unknown_value"])]


def test_several_tables_of_one_file_and_rows_left_out(workspace: TestWorkspace) -> None:
    source = workspace.source("""
        owner: test
        files: data/raw/*
        tables:
          ticket:
            columns: {ticket_id: id, known_at: at, created_at: at}
          complaint:
            where: {kind: complaint}
            columns: {complaint_id: id, known_at: at, received_at: at, deaths_n: deaths}
          tag:
            split: {column: labels, separator: "|"}
            columns: {source_table: {value: ticket}, source_id: id, tag_set: {value: label}, tag: "@part", known_at: at}
        """)
    workspace.file(
        "a.csv",
        csv_text(
            ["id", "at", "kind", "deaths", "labels"],
            [
                ["1", "2024-01-01", "complaint", "0", "a|b"],
                ["2", "2024-01-02", "question", "", "a"],
                ["3", "bad", "complaint", "0", "a"],
                ["4", "2024-01-04", "complaint", "many", ""],
                ["1", "2024-01-01", "complaint", "0", "b|c"],
            ],
        ),
    )
    ticket, complaint, tag = workspace.ingest(source)
    assert (counts(ticket), ticket.left_out) == ((5, 3, 1, 1), 0)
    assert (counts(complaint), complaint.left_out) == ((3, 1, 1, 1), 2)
    assert (counts(tag), tag.left_out) == ((5, 4, 0, 1), 0)
    assert workspace.rows("tag", "tag_id") == [
        "ticket/1/label/a",
        "ticket/1/label/b",
        "ticket/1/label/c",
        "ticket/2/label/a",
    ]
    assert quarantine(workspace) == [
        ("complaint", "row", 4, ["deaths_n:type"]),
        ("ticket", "row", 3, ["created_at:type", "known_at:type"]),
    ]


def test_a_broken_line_is_accounted_for_even_where_its_columns_are_shifted(workspace: TestWorkspace) -> None:
    source = workspace.source(TICKETS.replace("ticket:\n", "ticket:\n        where: {status: [open]}\n"))
    workspace.file(
        "a.csv", "id,created,status,cost\n1,2024-01-01,open,1\n2,2024-01-01,closed,1\n3,x,y,2024-01-01,open,1\n"
    )
    (delivery,) = workspace.ingest(source)
    assert (counts(delivery), delivery.left_out) == ((2, 1, 1, 0), 1)
    assert [reasons[0] for *_, reasons in quarantine(workspace)] == ["cost_total:type"]


@pytest.mark.parametrize("name", ["a.xlsx", "a.jsonl", "a.tsv", "a.json"])
def test_every_format_gives_the_same_rows(workspace: TestWorkspace, name: str) -> None:
    rows = [["t1", "2024-01-01 10:00:00", "开", 1.5], ["t2", "2024-02-01 10:00:00", "关", 2]]
    records = [dict(zip(HEADER, row, strict=True)) for row in rows]
    path = workspace.file(name, "")
    if name.endswith("xlsx"):
        with xlsxwriter.Workbook(path) as book:
            sheet = book.add_worksheet()
            for place, row in enumerate([HEADER, *rows]):
                sheet.write_row(place, 0, row)
            sheet.write_datetime(1, 1, dt.datetime(2024, 1, 1, 10), book.add_format({"num_format": "yyyy-mm-dd hh:mm"}))
    elif name.endswith("tsv"):
        path.write_text("\n".join("\t".join(map(str, row)) for row in [HEADER, *rows]))
    else:
        text = json.dumps(records) if name.endswith("json") else "\n".join(map(json.dumps, records))
        path.write_text(text)
    (delivery,) = workspace.ingest(workspace.source())
    assert counts(delivery) == (2, 2, 0, 0)
    assert workspace.rows("ticket", "ticket_id", "created_at", "status", "cost_total") == [
        ("t1", utc("2024-01-01 10:00:00"), "开", 1.5),
        ("t2", utc("2024-02-01 10:00:00"), "关", 2.0),
    ]


def test_ids_rounded_by_a_spreadsheet_are_counted_in_ledger_and_reasons(workspace: TestWorkspace) -> None:
    from aftersales.collect.ledger import set_aside

    source = workspace.source(TICKETS.replace("{from: status}", "{from: status}\n          unit_id: unit"))
    rows = [["t1", "1.00008E+11"], ["t2", "U2"], ["3.1E+11", "U3"], ["t4", "1.00009E+11"]]
    workspace.file("a.csv", csv_text(["id", "created", "unit"], [[key, "2024-01-01", unit] for key, unit in rows]))
    (delivery,) = workspace.ingest(source)
    assert (counts(delivery), delivery.values_set_aside) == ((4, 3, 1, 0), 2)
    assert workspace.rows("ticket", "ticket_id", "unit_id") == [("t1", None), ("t2", "U2"), ("t4", None)]
    found = set_aside(workspace.snapshot())
    assert [tuple(row) for row in found[["reason", "kind", "rows"]].to_numpy().tolist()] == [
        ("unit_id:destroyed_by_excel", "value", 2),
        ("ticket_id:destroyed_by_excel", "row", 1),
    ]


# ------------------------------------------------------------------------------------------- the law, on anything

DAYS = {
    "2024-01-01": True,
    "2023-12-31 23:59:59": True,
    "": False,
    "soon": False,
    "2024-02-30": False,
    "　2024-01-02 ": True,
}
COSTS = {"1": True, "": True, "-1": False, "１２": True, "1,5": False, "nan": False, " 2.50 ": True}
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
KEYS = st.one_of(TEXT, st.sampled_from(["a", "Ａ", " a ", "b", "", "\u3000", "é", "\ufeffb", 'q"q', "x\ny", "\r"]))
BLANKS = " \t\r\n\u00a0\u3000\ufeff"


@st.composite
def dirty_files(draw: st.DrawFn) -> tuple[list[str], list[list[str]], bool]:
    header = draw(st.lists(TEXT.filter(lambda name: name.strip(BLANKS + "\0")), min_size=3, max_size=3))
    row = st.tuples(KEYS, st.sampled_from(sorted(DAYS)), st.sampled_from(sorted(COSTS)), TEXT, TEXT, TEXT)
    rows = [
        list(cells[: draw(st.sampled_from([4, 4, 4, 4, 1, 2, 3, 5, 6]))]) for cells in draw(st.lists(row, max_size=12))
    ]
    return [*header, "note"], rows, draw(st.booleans())


def expected(text: str) -> tuple[int, set[int], int]:
    """Rows, numbers of the rejected rows and duplicates, counted without the workbench."""
    rejected, keys, read = set(), [], 0
    rows = [row for row in csv.reader(io.StringIO(text, newline="")) if row][1:]
    for number, row in enumerate(rows, start=1):
        read += 1
        key, day, cost = (row[i] if i < len(row) else "" for i in range(3))
        key = "".join(
            chr(ord(c) - 0xFEE0) if 0xFF01 <= ord(c) <= 0xFF5E else " " if c == "\u3000" else c
            for c in key.strip(BLANKS)
        )
        cut = number == len(rows) and not text.endswith(("\n", "\r")) and len(row) < 4
        if not key or not DAYS.get(day, False) or not COSTS[cost] or "".join(row[4:]) or cut:
            rejected.add(number)
        else:
            keys.append(key)
    return read, rejected, len(keys) - len(set(keys))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(dirty_files())
def test_every_row_of_any_file_is_accepted_rejected_or_duplicate(
    tmp_path_factory: pytest.TempPathFactory, file: tuple[list[str], list[list[str]], bool]
) -> None:
    header, rows, ends = file
    text = csv_text(header, rows)
    text = text if ends else text.removesuffix("\r\n")
    root = tmp_path_factory.mktemp("any")
    (root / "workbench.yml").write_text("name: any\n")
    workspace = TestWorkspace(root)
    workspace.file("a.csv", text)
    names = unique_names(header)
    source = Source.model_validate(
        {
            "name": "crm",
            "owner": "x",
            "files": "data/raw/*",
            "encoding": "utf-8",
            "tables": {
                "ticket": {
                    "columns": {
                        "ticket_id": names[0],
                        "known_at": names[1],
                        "created_at": names[1],
                        "cost_total": names[2],
                    }
                }
            },
        }
    )
    (delivery,) = workspace.ingest(source)
    read, rejected, duplicate = expected(text)
    assert counts(delivery) == (read, read - len(rejected) - duplicate, len(rejected), duplicate)
    snapshot = workspace.snapshot()
    held = snapshot.table("quarantine").to_pyarrow().to_pylist()
    assert sorted(row["source_row"] for row in held if row["kind"] == "row") == sorted(rejected)
    assert snapshot.table("ticket").count().execute() == delivery.accepted
    parsed = [row for row in csv.reader(io.StringIO(text, newline="")) if row][1:]
    for row in held:
        raw = json.loads(row["raw"])
        assert [raw[name] for name in names if raw[name] is not None] == parsed[row["source_row"] - 1][:4]


# -------------------------------------------------------------------------------------------- again and again


def test_the_same_file_again_changes_nothing(workspace: TestWorkspace) -> None:
    source = workspace.source()
    workspace.file("a.csv", csv_text(HEADER, [["t1", "2024-01-01", "open", "1"], ["t2", "bad", "", ""]]))
    (first,) = workspace.ingest(source)
    versions, files = workspace.snapshot().versions, workspace.lake_files()
    (second,) = workspace.ingest(source)
    assert second.skipped
    assert not first.skipped
    assert counts(second) == counts(first)
    assert (workspace.snapshot().versions, workspace.lake_files()) == (versions, files)


def test_the_same_content_under_a_new_name_changes_nothing(workspace: TestWorkspace) -> None:
    source = workspace.source()
    path = workspace.file("a.csv", csv_text(HEADER, [["t1", "2024-01-01", "open", "1"]]))
    workspace.ingest(source)
    files = workspace.lake_files()
    path.rename(path.with_name("b.csv"))
    assert workspace.ingest(source)[0].skipped
    assert workspace.lake_files() == files


def test_known_rows_in_a_new_file_are_unchanged(workspace: TestWorkspace) -> None:
    source = workspace.source()
    workspace.file("a.csv", csv_text(HEADER, [["t1", "2024-01-01", "open", "1"], ["t2", "bad", "", ""]]))
    workspace.ingest(source)
    version = workspace.snapshot().versions["ticket"]
    workspace.file("b.csv", csv_text(HEADER, [["t2", "bad", "", ""], ["t1", "2024-01-01 00:00:00", " open", "1.0"]]))
    (delivery,) = workspace.ingest(source, files="data/raw/b.csv")
    assert (counts(delivery), delivery.unchanged) == ((2, 1, 1, 0), 1)
    assert workspace.snapshot().versions["ticket"] == version


def test_a_mapping_in_another_order_or_with_a_new_empty_column_corrects_nothing(workspace: TestWorkspace) -> None:
    workspace.file("a.csv", csv_text(HEADER, [["t1", "2024-01-01", "open", ""]]))
    workspace.ingest(workspace.source())
    turned = TICKETS.replace("          status: {from: status}\n", "").replace(
        "          ticket_id: id\n", "          status: status\n          region: cost\n          ticket_id: id\n"
    )
    (delivery,) = workspace.ingest(workspace.source(turned))
    assert (delivery.skipped, delivery.unchanged, delivery.corrected) == (False, 1, 0)


def test_a_mended_mapping_loads_the_file_again_and_corrects(workspace: TestWorkspace) -> None:
    workspace.file("a.csv", csv_text(HEADER, [["t1", "01.02.2024", "open", "1"]]))
    assert counts(workspace.ingest(workspace.source())[0]) == (1, 0, 1, 0)
    mended = TICKETS.replace("known_at: created", 'known_at: {from: created, format: "%d.%m.%Y"}').replace(
        "created_at: created", 'created_at: {from: created, format: "%d.%m.%Y"}'
    )
    assert counts(workspace.ingest(workspace.source(mended))[0]) == (1, 1, 0, 0)
    assert workspace.rows("ticket", "ticket_id", "created_at") == [("t1", utc("2024-02-01"))]


def test_a_corrected_row_keeps_its_old_version_for_the_past(workspace: TestWorkspace) -> None:
    source = workspace.source()
    workspace.file("1.csv", csv_text(HEADER, [["t1", "2024-01-01", "open", "1"], ["t2", "2024-01-01", "open", "1"]]))
    workspace.ingest(source, loaded_at=utc("2024-01-10"))
    workspace.file("2.csv", csv_text(HEADER, [["t1", "2024-01-01", "closed", "5"], ["t2", "2024-01-01", "open", "1"]]))
    (delivery,) = workspace.ingest(source, files="data/raw/2.csv", loaded_at=utc("2024-02-10"))
    assert (delivery.corrected, delivery.unchanged, delivery.inserted) == (1, 1, 0)
    assert workspace.rows("ticket", "ticket_id", "status") == [("t1", "closed"), ("t2", "open")]
    assert workspace.rows("ticket", "ticket_id", "status", as_of=utc("2024-02-09")) == [("t1", "open"), ("t2", "open")]
    assert workspace.rows("ticket", "ticket_id", "status", as_of=utc("2024-02-10")) == [
        ("t1", "closed"),
        ("t2", "open"),
    ]
    assert workspace.rows("ticket", "ticket_id", as_of=utc("2023-12-31")) == []
    assert workspace.snapshot().versions_of("ticket").count().execute() == 3


def test_a_status_that_goes_back_is_current_again(workspace: TestWorkspace) -> None:
    source = workspace.source()
    for day, status in enumerate(["open", "closed", "open"], start=1):
        workspace.file(f"{day}.csv", csv_text(HEADER, [["t1", "2024-01-01", status, day // 2]]))
        workspace.ingest(source, files=f"data/raw/{day}.csv", loaded_at=utc(f"2024-02-0{day}"))
    text = csv_text(HEADER, [["t1", "2024-01-01", "open", "0"], ["t9", "2024-01-01", "open", ""]])
    workspace.file("4.csv", text)
    workspace.ingest(source, files="data/raw/4.csv", loaded_at=utc("2024-02-04"))
    assert workspace.rows("ticket", "ticket_id", "status", "cost_total") == [("t1", "open", 0.0), ("t9", "open", None)]
    states = [
        workspace.rows("ticket", "status", "cost_total", as_of=utc(f"2024-02-0{day} 12:00:00"))[0]
        for day in (1, 2, 3, 4)
    ]
    assert states == [("open", 0.0), ("closed", 1.0), ("open", 1.0), ("open", 0.0)]


def test_a_correction_that_moves_a_row_to_another_year_leaves_one_current_row(workspace: TestWorkspace) -> None:
    source = workspace.source()
    for name, day in (("1.csv", "2023-12-31"), ("2.csv", "2024-01-01")):
        workspace.file(name, csv_text(HEADER, [["t1", day, "open", "1"]]))
        workspace.ingest(source, files=f"data/raw/{name}")
    assert workspace.rows("ticket", "ticket_id", "yr") == [("t1", "2024")]


def test_the_newest_version_wins_in_whatever_order_it_comes(workspace: TestWorkspace) -> None:
    source = workspace.source(VERSIONED)
    header = ["id", "created", "updated", "status"]
    workspace.file(
        "1.csv",
        csv_text(
            header,
            [
                ["t1", "2024-01-01", "2024-01-05", "solved"],
                ["t1", "2024-01-01", "2024-01-02", "open"],
                ["t2", "2024-01-01", "2024-01-02", "open"],
            ],
        ),
    )
    (first,) = workspace.ingest(source, loaded_at=utc("2024-01-06"))
    assert counts(first) == (3, 2, 0, 1)
    assert quarantine(workspace) == []  # an older version is no contradiction
    workspace.file(
        "2.csv", csv_text(header, [["t1", "2024-01-01", "2024-01-03", "waiting"], ["t2", "2024-01-01", "", "lost"]])
    )
    (late,) = workspace.ingest(source, files="data/raw/2.csv")
    assert (counts(late), late.unchanged) == ((2, 2, 0, 0), 2)
    assert workspace.rows("ticket", "ticket_id", "status") == [("t1", "solved"), ("t2", "open")]
    workspace.file("3.csv", csv_text(header, [["t1", "2024-01-01", "2024-03-01", "closed"]]))
    workspace.ingest(source, files="data/raw/3.csv", loaded_at=utc("2024-06-01"))
    assert workspace.rows("ticket", "ticket_id", "status", as_of=utc("2024-02-28"))[0] == ("t1", "solved")
    assert workspace.rows("ticket", "ticket_id", "status", as_of=utc("2024-03-01"))[0] == ("t1", "closed")


def test_a_key_of_another_source_is_rejected_with_what_hangs_on_it(workspace: TestWorkspace) -> None:
    text = (
        TICKETS
        + """
      tag:
        split: {column: status, separator: "|"}
        columns: {source_table: {value: ticket}, source_id: id, tag_set: {value: st}, tag: "@part", known_at: created}
"""
    )
    workspace.file("a.csv", csv_text(HEADER, [["t1", "2024-01-01", "x", "1"]]))
    workspace.ingest(workspace.source(text, "crm"))
    workspace.file("b.csv", csv_text(HEADER, [["t1", "2024-01-01", "x|y", "2"], ["t2", "2024-01-01", "z", "1"]]))
    ticket, tag = workspace.ingest(workspace.source(text, "erp"), files="data/raw/b.csv")
    assert (counts(ticket), counts(tag)) == ((2, 1, 1, 0), (1, 1, 0, 0))
    assert quarantine(workspace) == [("ticket", "row", 1, ["key:held_by_crm"])]
    assert workspace.rows("ticket", "ticket_id", "source_system", "cost_total") == [
        ("t1", "crm", 1.0),
        ("t2", "erp", 1.0),
    ]
    assert workspace.rows("tag", "tag_id") == ["ticket/t1/st/x", "ticket/t2/st/z"]


def test_a_table_whose_clock_the_source_does_not_know_is_loaded(workspace: TestWorkspace) -> None:
    source = workspace.source("""
        owner: test
        files: data/raw/*
        tables:
          product:
            columns: {product_id: id, model: model, known_at: {value: "2024-01-01"}}
        """)
    workspace.file("a.csv", "id,model\np1,X\n")
    (delivery,) = workspace.ingest(source)
    assert (counts(delivery), delivery.newest_known_at) == ((1, 1, 0, 0), utc("2024-01-01"))
    assert workspace.rows("product", "product_id", "yr") == [("p1", "0000")]


# ------------------------------------------------------------------------------------------------- real data

KIA = """
    owner: test
    files: {file}
    time_zone: America/New_York
    tables:
      complaint:
        columns:
          complaint_id: ODINumber
          known_at: {{from: DateComplaintFiled, format: json_date}}
          received_at: {{from: DateComplaintFiled, format: json_date}}
          occurred_at: {{from: DateofIncident, format: json_date, not_after: received_at, on_bad: blank}}
          injured_n: NumberOfInjured
          description: Summary
"""


def test_kia_complaints_are_all_accounted_for(workspace: TestWorkspace) -> None:
    file = SHARED / "data" / "nhtsa_kia" / "kia_complaints.csv.gz"
    if not file.is_file():
        pytest.skip(f"real data not here: {file}")
    (delivery,) = workspace.ingest(workspace.source(KIA.format(file=file)))
    assert counts(delivery) == (11_012, 10_996, 0, 16)
    oldest = workspace.snapshot().table("complaint").occurred_at.min().execute()
    assert str(oldest)[:4] == "1901"


# --------------------------------------------------------------------------------------- names that do not fit


def test_every_column_the_file_lacks_is_named_with_a_suggestion(workspace: TestWorkspace) -> None:
    from aftersales.model.errors import SourceError

    workspace.file("a.csv", csv_text(["ID", "created_on", "status", "cost"], [["1", "2024-01-01", "", ""]]))
    with pytest.raises(SourceError) as caught:
        workspace.ingest(workspace.source())
    assert str(caught.value) == (
        "a.csv: lacks 2 of 4 mapped columns: 'id' (did you mean 'ID'?), 'created' (did you mean 'created_on'?)\n"
        "  rows : the file has: ID, created_on, status, cost\n"
        "  fix  : mend 'from' in crm.yml, or ask for the column; none of its rows was loaded"
    )
    assert list(workspace.snapshot().versions) == ["drift"]


def test_a_source_read_twice_is_the_same(workspace: TestWorkspace) -> None:
    source = workspace.source()
    path = workspace.root / "data/sources/crm.yml"
    assert read_source(path, workspace.open()) == source


def test_snapshots_of_a_lake_that_is_not_there_are_empty(workspace: TestWorkspace) -> None:
    place: Any = workspace.open()
    assert Store(place.lake).pin(connect(place)).versions == {}


def test_a_lake_from_before_a_column_existed_is_read_compared_and_extended(workspace: TestWorkspace) -> None:
    source = workspace.source(TICKETS + "          subject: subject\n")
    header = ["id", "created", "status", "cost", "subject"]
    workspace.file(
        "a.csv", csv_text(header, [["1", "2024-01-01", "open", "", ""], ["2", "2024-01-01", "open", "", ""]])
    )
    workspace.ingest(source)
    delta = Store(workspace.open().lake).open("ticket")
    older = delta.to_pyarrow_table().drop_columns(["subject", "verified_at", "cost_total"])
    write_deltalake(delta, older, mode="overwrite", schema_mode="overwrite")

    assert workspace.rows("ticket", "ticket_id", "subject", "cost_total") == [("1", None, None), ("2", None, None)]
    assert workspace.rows("ticket", "verified_at", as_of=utc("2030-01-01")) == [None, None]
    workspace.file(
        "b.csv", csv_text(header, [["1", "2024-01-01", "open", "", ""], ["2", "2024-01-01", "open", "", "x"]])
    )
    delivery = workspace.ingest(source)[-1]
    assert (delivery.unchanged, delivery.corrected) == (1, 1)
    assert workspace.rows("ticket", "ticket_id", "subject") == [("1", None), ("2", "x")]
