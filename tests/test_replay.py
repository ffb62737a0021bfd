"""Replay: rows of the quarantine come in once the mapping is mended, with their origin, and the ledger still adds up."""

from __future__ import annotations

import datetime as dt

import pytest
from conftest import TestWorkspace, csv_text

from aftersales.collect.codes import accept_code, coverage, unmapped
from aftersales.collect.ingest import Delivery
from aftersales.collect.ledger import latest_deliveries, quarantine, set_aside
from aftersales.collect.mapping import Source
from aftersales.collect.quality import scores
from aftersales.collect.replay import replay_source
from aftersales.model.errors import SourceError

SOURCE = """
    owner: test
    files: data/raw/*.csv
    time_zone: UTC
    tables:
      ticket:
        columns:
          ticket_id: id
          known_at: created
          created_at: created
          unit_id: unit
          ticket_type: {from: type, map_file: data/raw/codes/types.csv, otherwise: reject}
          severity: {from: level, map: {"1": high}, otherwise: blank, on_bad: blank}
          cost_total: {from: cost, max: 100}
      complaint:
        where: {type: [C, K]}
        columns:
          complaint_id: {from: id, prefix: "c:"}
          ticket_id: id
          known_at: created
          received_at: created
          severity: {from: level, map: {"1": high}, otherwise: blank, on_bad: blank}
"""
HEADER = ["id", "created", "unit", "type", "level", "cost"]
ROWS = [
    ["t1", "2024-01-01", "u1", "C", "1", "1"],
    ["t2", "2024-01-02", "u1", "K", "1", "2"],  # unknown type: rejected, its complaint left out
    ["t3", "2024-01-03", "", "K", "9", "3"],  # unknown type and unknown level
    ["t4", "2024-01-04", "u1", "K", "1", "500"],  # unknown type and an impossible cost
    ["t5", "2024-01-05", "u1", "F", "9", "5"],  # unknown level: only the value is set aside
    ["t1", "2024-01-06", "u1", "K", "1", "6"],  # the key of the first row again, further down
    ["t7", "2024-01-07", "u1", "F", "1", "7"],
]
JAN, FEB, MARCH = (dt.datetime(2024, month, 10, tzinfo=dt.UTC) for month in (1, 2, 3))


def source(workspace: TestWorkspace, text: str = SOURCE) -> Source:
    return workspace.source(text)


def replay(workspace: TestWorkspace, given: Source, at: dt.datetime = FEB) -> list[Delivery]:
    found = [ledger for ledgers in replay_source(workspace.open(), given, loaded_at=at) for ledger in ledgers]
    for one in found:
        assert one.rows_read == one.accepted + one.rejected + one.duplicate
        assert one.accepted == one.inserted + one.corrected + one.unchanged
    return found


def counts(delivery: Delivery) -> tuple[int, ...]:
    return (delivery.rows_read, delivery.accepted, delivery.rejected, delivery.duplicate, delivery.left_out)


def reasons(workspace: TestWorkspace) -> list[tuple[str, str, int, list[str]]]:
    found = quarantine(workspace.snapshot())
    return [
        (row["table"], row["kind"], row["source_row"], list(row["reasons"])) for row in found.to_dict("records")
    ]  # fmt: skip


@pytest.fixture
def loaded(workspace: TestWorkspace) -> TestWorkspace:
    (workspace.root / "data/raw/codes").mkdir(parents=True)
    workspace.file("codes/types.csv", "source_value,target_value\nC,complaint\nF,fault\n")
    workspace.file("a.csv", csv_text(HEADER, ROWS))
    tickets, complaints = workspace.ingest(source(workspace), loaded_at=JAN)
    assert counts(tickets) == (7, 3, 4, 0, 0)
    assert counts(complaints) == (1, 1, 0, 0, 6)
    return workspace


@pytest.fixture
def mended(loaded: TestWorkspace) -> Source:
    """The code list knows K by now, and the file is gone."""
    accept_code(loaded.open(), source(loaded), "ticket_type", "K", "complaint")
    (loaded.root / "data/raw/a.csv").unlink()
    return source(loaded)


def test_rows_come_in_from_the_quarantine_though_the_file_is_gone(loaded: TestWorkspace, mended: Source) -> None:
    tickets, complaints = replay(loaded, mended)
    assert counts(tickets) == (7, 6, 1, 0, 0)  # t2, t3 and the second t1
    assert (tickets.inserted, tickets.corrected, tickets.replay_run_id != "") == (5, 1, True)
    assert counts(complaints) == (4, 4, 0, 0, 3)
    assert loaded.rows("ticket", "ticket_id", "ticket_type", "severity", "cost_total", "source_file", "source_row") == [
        ("t1", "complaint", "high", 6.0, "a.csv", 6),
        ("t2", "complaint", "high", 2.0, "a.csv", 2),
        ("t3", "complaint", None, 3.0, "a.csv", 3),
        ("t5", "fault", None, 5.0, "a.csv", 5),
        ("t7", "fault", "high", 7.0, "a.csv", 7),
    ]
    assert loaded.rows("complaint", "complaint_id", "source_row") == [("c:t1", 6), ("c:t2", 2), ("c:t3", 3)]


def test_what_is_still_held_back_stands_there_with_its_reasons_of_now(loaded: TestWorkspace, mended: Source) -> None:
    assert ("ticket", "row", 4, ["cost_total:above_100", "ticket_type:unknown_value"]) in reasons(loaded)
    replay(loaded, mended)
    assert reasons(loaded) == [
        ("complaint", "value", 3, ["severity:unknown_value"]),
        ("ticket", "value", 3, ["severity:unknown_value"]),
        ("ticket", "row", 4, ["cost_total:above_100"]),
        ("ticket", "value", 5, ["severity:unknown_value"]),
    ]
    found = set_aside(loaded.snapshot())
    assert found[["reason", "rows"]].to_numpy().tolist() == [["severity:unknown_value", 3], ["cost_total:above_100", 1]]


def test_the_quarantine_keeps_what_it_held_and_says_when_it_was_released(loaded: TestWorkspace, mended: Source) -> None:
    before = set(loaded.rows("quarantine", "quarantine_id"))
    run = replay(loaded, mended)[0].replay_run_id
    assert before < set(loaded.rows("quarantine", "quarantine_id"))
    found = quarantine(loaded.snapshot(), released=True)
    assert found[["source_row", "outcome", "released_by"]].to_numpy().tolist() == [
        [2, "inserted", run],
        [3, "inserted", run],
        [4, "rejected", run],
        [6, "corrected", run],
    ]
    assert set(found["released_at"]) == {FEB}


def test_a_second_replay_changes_nothing(loaded: TestWorkspace, mended: Source) -> None:
    replay(loaded, mended)
    before = loaded.lake_files()
    assert replay(loaded, mended, MARCH) == []
    assert loaded.lake_files() == before


def test_a_replay_without_anything_mended_changes_nothing(loaded: TestWorkspace) -> None:
    before = loaded.lake_files()
    assert replay(loaded, source(loaded)) == []
    assert loaded.lake_files() == before


def test_two_replays_add_up(loaded: TestWorkspace, mended: Source) -> None:
    replay(loaded, mended)
    text = SOURCE.replace('{"1": high}', '{"1": high, "9": low}').replace("{from: cost, max: 100}", "cost")
    tickets, complaints = replay(loaded, source(loaded, text), MARCH)
    assert counts(tickets) == (7, 7, 0, 0, 0)
    assert (tickets.values_set_aside, complaints.values_set_aside) == (0, 0)
    assert counts(complaints) == (5, 5, 0, 0, 2)
    assert reasons(loaded) == []
    severity = dict(loaded.rows("ticket", "ticket_id", "severity"))
    assert (severity["t3"], severity["t5"]) == ("low", "low")
    newest = latest_deliveries(loaded.snapshot()).set_index("table")
    assert newest.loc["ticket", ["rows_read", "accepted", "rejected"]].tolist() == [7, 7, 0]
    assert len(newest) == 2


def test_the_result_is_that_of_loading_the_file_again(loaded: TestWorkspace, mended: Source) -> None:
    replay(loaded, mended)
    columns = ("ticket_id", "ticket_type", "severity", "cost_total", "source_row")
    after_replay = loaded.rows("ticket", *columns)
    measured = scores(loaded.snapshot()).set_index("dimension")[["good", "base"]]
    loaded.file("a.csv", csv_text(HEADER, ROWS))
    tickets, complaints = loaded.ingest(mended, loaded_at=MARCH)
    assert loaded.rows("ticket", *columns) == after_replay
    assert (tickets.inserted, tickets.corrected) == (complaints.inserted, complaints.corrected) == (0, 0)
    again = scores(loaded.snapshot()).set_index("dimension")[["good", "base"]]
    for dimension in ("mapping_coverage", "validity", "completeness"):
        assert measured.loc[dimension].tolist() == again.loc[dimension].tolist()


def test_the_scores_move_with_the_rows(loaded: TestWorkspace, mended: Source) -> None:
    def of(dimension: str) -> list[int]:
        return scores(loaded.snapshot()).set_index("dimension").loc[dimension, ["good", "base"]].tolist()

    assert (of("validity"), of("completeness")) == ([4, 8], [9, 10])
    assert of("mapping_coverage") == [3 + 5 + 1, 7 + 7 + 1]  # types, levels of tickets, levels of complaints
    replay(loaded, mended)
    assert of("validity") == [6 + 4, 7 + 4]
    assert of("completeness") == [18, 22]  # a unit and three levels are missing
    assert of("mapping_coverage") == [7 + 5 + 3, 7 + 7 + 4]
    found = unmapped(loaded.snapshot(), {"crm": mended}, loaded.open())
    assert found[["table", "value", "rows"]].to_numpy().tolist() == [["ticket", "9", 2], ["complaint", "9", 1]]
    assert coverage(loaded.snapshot(), "crm")["good"].sum() == 15


def test_nothing_unmapped_is_listed_once_everything_is_known(loaded: TestWorkspace, mended: Source) -> None:
    replay(loaded, source(loaded, SOURCE.replace('{"1": high}', '{"1": high, "9": low}')))
    assert unmapped(loaded.snapshot(), {"crm": mended}, loaded.open()).empty


def test_a_row_that_came_later_is_not_displaced(workspace: TestWorkspace) -> None:
    (workspace.root / "data/raw/codes").mkdir(parents=True)
    workspace.file("codes/types.csv", "source_value,target_value\nC,complaint\n")
    workspace.file("a.csv", csv_text(HEADER, [["t1", "2024-01-01", "u1", "K", "1", "1"]]))
    workspace.ingest(source(workspace), loaded_at=JAN)
    workspace.file("b.csv", csv_text(HEADER, [["t1", "2024-01-02", "u1", "C", "1", "2"]]))
    workspace.ingest(source(workspace), loaded_at=FEB)
    accept_code(workspace.open(), source(workspace), "ticket_type", "K", "complaint")
    tickets = replay(workspace, source(workspace), MARCH)[0]
    assert (counts(tickets), tickets.unchanged) == ((1, 1, 0, 0, 0), 1)
    assert workspace.rows("ticket", "ticket_id", "cost_total", "source_file") == [("t1", 2.0, "b.csv")]


def test_an_earlier_row_of_the_same_file_is_a_duplicate(workspace: TestWorkspace) -> None:
    (workspace.root / "data/raw/codes").mkdir(parents=True)
    workspace.file("codes/types.csv", "source_value,target_value\nC,complaint\n")
    rows = [["t1", "2024-01-01", "u1", "K", "1", "1"], ["t1", "2024-01-02", "u1", "C", "1", "2"]]
    workspace.file("a.csv", csv_text(HEADER, rows))
    workspace.ingest(source(workspace), loaded_at=JAN)
    accept_code(workspace.open(), source(workspace), "ticket_type", "K", "complaint")
    assert counts(replay(workspace, source(workspace))[0]) == (2, 1, 0, 1, 0)
    assert workspace.rows("ticket", "cost_total") == [2.0]


def test_lines_that_could_not_be_read_stay(workspace: TestWorkspace) -> None:
    workspace.file("a.csv", csv_text(["id", "created", "status", "cost"], [["t1", "2024-01-01", "x", "1", "more"]]))
    crm = workspace.source()
    workspace.ingest(crm)
    assert replay(workspace, crm) == []
    assert quarantine(workspace.snapshot())["reasons"].tolist()[0] == ["row:too_many_fields"]


def test_a_mapping_the_kept_rows_cannot_fill_is_refused(loaded: TestWorkspace, mended: Source) -> None:
    with pytest.raises(SourceError, match=r"the kept rows cannot fill any table: .*'number'"):
        replay(
            loaded,
            source(loaded, SOURCE.replace("ticket_id: id", "ticket_id: number").replace("from: id", "from: number")),
        )


def test_ids_that_became_pseudonyms_stay_the_same_pseudonyms(workspace: TestWorkspace) -> None:
    text = """
        owner: test
        files: data/raw/*.csv
        tables:
          ticket:
            columns:
              ticket_id: id
              known_at: created
              created_at: created
              customer_key: {from: customer, case: upper}
              description: text
              severity: {from: level, map: {"1": high}, on_bad: REJECTS}
    """
    header = ["id", "created", "customer", "text", "level"]
    rows = [["t1", "2024-01-01", "u-1", "tel 13812345678", "9"], ["t2", "2024-01-01", "U-1", "fine", "1"]]
    workspace.file("a.csv", csv_text(header, rows))
    workspace.ingest(workspace.source(text.replace("REJECTS", "reject")))
    (workspace.root / "data/raw/a.csv").unlink()
    replay(workspace, workspace.source(text.replace("REJECTS", "reject").replace('"1": high', '"1": high, "9": low')))
    (one, key), (other, same) = workspace.rows("ticket", "ticket_id", "customer_key")
    assert (one, other, key) == ("t1", "t2", same)
    assert "13812345678" not in workspace.rows("ticket", "description")[1]


@pytest.mark.parametrize(
    ("reason", "rows"),
    [("severity", [5]), ("severity:unknown_value", [5]), ("ticket_type", [2, 3, 4, 6]), ("sever", [])],
)
def test_the_quarantine_is_searched_by_reason_or_column(loaded: TestWorkspace, reason: str, rows: list[int]) -> None:
    found = quarantine(loaded.snapshot(), "crm", reason=reason)
    assert sorted(set(found["source_row"])) == rows


def test_the_quarantine_shows_the_raw_row(loaded: TestWorkspace) -> None:
    found = quarantine(loaded.snapshot(), reason="cost_total", limit=1)
    assert '"cost":"500"' in found["raw"].iloc[0]
    assert quarantine(loaded.snapshot(), "nobody").empty
