"""The catalogue page: what it lists, what its filters leave, what its drawing connects."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from worlds import DemoWorld, new_workspace

from aftersales.model.settings import Workspace
from aftersales.model.tables import canonical_tables
from aftersales.publish.charts import flow
from aftersales.publish.pages import Page
from aftersales.publish.sidecars import checked_parameters, read_sidecar


@pytest.fixture(scope="module")
def place(demo: DemoWorld, tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return demo.borrow(tmp_path_factory.mktemp("catalogue"))


def rows(place: Workspace, section: str, address: str = "", lang: str = "en") -> list[dict[str, Any]]:
    """Rows of the section's table; none when it says that there is nothing."""
    sidecar = read_sidecar(place, "catalogue")
    values = checked_parameters(sidecar, {}, page="catalogue")
    shown = Page("catalogue", place, sidecar, values, f"{address}&lang={lang}").show(section).section
    return list(shown["tables"][0]["rows"]) if shown["tables"] else []


def test_a_column_says_meaning_unit_tier_fill_source_and_use_in_both_languages(place: Workspace) -> None:
    def row(lang: str) -> dict[str, Any]:
        return next(row for row in rows(place, "columns", "table=repair", lang) if row["name"] == "repair.visits_n")

    english, chinese = row("en"), row("zh")
    assert (english["title"], english["type"], english["tier"]) == ("Visits", "whole number", "P1")
    assert english["metrics"] == "First-time fix rate"
    assert english["sources"].startswith("Workshop repairs: ")
    assert 0.9 < english["filled"] <= 1
    assert (chinese["title"], chinese["type"]) == ("上门次数", "整数")
    cost = next(row for row in rows(place, "columns", "table=repair") if row["name"] == "repair.parts_cost")
    assert (cost["title"], cost["type"]) == ("Parts cost", "number, CNY")
    clock = next(row for row in rows(place, "columns", "table=repair") if row["name"] == "repair.reported_at")
    assert clock["type"] == "instant, when it happened ★"


@pytest.mark.parametrize(
    ("words", "table", "found"),
    [
        ("工单号", "ticket", {"ticket.ticket_id"}),  # the name in Chinese and in the hotline's own file
        ("first-time visits", "repair", {"repair.visits_n"}),  # a metric and a meaning
        ("CASE NO", "ticket", {"ticket.ticket_id"}),  # a raw column, in any case
        ("no such word", "ticket", set()),
    ],
)
def test_a_search_looks_through_names_meanings_raw_columns_and_metrics(
    place: Workspace, words: str, table: str, found: set[str]
) -> None:
    assert {row["name"] for row in rows(place, "columns", f"table={table}&find={words}")} == found


def test_filters_leave_what_they_say(place: Workspace) -> None:
    assert {row["table"] for row in rows(place, "tables", "source=repairs")} == {"repair"}
    assert {row["tier"] for row in rows(place, "columns", "tier=P2")} == {"P2"}
    some, every = rows(place, "columns", "table=unit"), rows(place, "columns", "table=unit&show=all")
    assert {row["name"] for row in some} < {row["name"] for row in every}
    assert len(every) == len(canonical_tables()["unit"].columns) + 1  # known_at
    assert [row["source"] for row in rows(place, "sources", "table=product")] == ["products"]
    assert {row["metric"] for row in rows(place, "figures", "table=survey")} == {"csat", "nps", "survey_response_rate"}


def test_all_tables_and_columns_are_there_also_in_an_empty_lake(tmp_path: Path) -> None:
    place = new_workspace(tmp_path)
    assert [row["table"] for row in rows(place, "tables", "show=all")] == list(canonical_tables())
    every = rows(place, "columns", "show=all")
    assert len(every) == sum(len(table.columns | {"known_at": None}) for table in canonical_tables().values())
    assert all(row["filled"] is None for row in every)
    assert {row["state"] for row in rows(place, "figures")} == {"no data"}


def test_the_answer_names_the_metrics_that_lack_data(place: Workspace) -> None:
    sidecar = read_sidecar(place, "catalogue")
    page = Page("catalogue", place, sidecar, checked_parameters(sidecar, {}, page="catalogue"), "lang=en")
    shown = page.show("answer").section
    assert "Call-backs reached" in shown["answer"]["detail"]
    assert shown["facts"]["tables_with_rows"] == len([row for row in rows(place, "tables") if row["rows"]])


# --- the drawing --------------------------------------------------------------------------------------------------

LINKS = pd.DataFrame(
    [
        (0, "crm", "Ticket", "Ticket", "ticket", 9),
        (1, "Ticket", "Tickets", "Ticket", "ticket", 1),
        (0, "Survey", "Survey", "Survey", "survey", 4),  # a source named like its table
        (-1, "Order", "Order", "Order", "order", 0),
    ],
    columns=["stage", "left", "right", "middle", "k", "n"],
)


def drawn(**options: Any) -> list[dict[str, Any]]:
    return flow(LINKS, id="f", title="t", heads=("a", "b", "c"), filter="table", **options).rows


def test_every_name_stands_in_its_column_and_every_link_is_a_line() -> None:
    rows_ = drawn()
    names = {kind: [row["label"] for row in rows_ if row["kind"] == kind] for kind in ("left", "middle", "right")}
    assert names == {"left": ["crm", "Survey"], "middle": ["Ticket", "Survey", "Order"], "right": ["Tickets"]}
    lines = {row["path"]: row["what"] for row in rows_ if row["kind"] == "line"}
    assert sorted(lines.values()) == ["Survey → Survey: 4", "Ticket → Tickets: 1", "crm → Ticket: 9"]
    assert all(0 <= row["x"] <= 1 for row in rows_ if "x" in row)


def test_a_line_begins_and_ends_where_its_names_stand() -> None:
    rows_ = drawn()
    at = {(row["kind"], row["label"]): row.get("y", (row.get("top", 0) + row.get("bottom", 0)) / 2)
          for row in rows_ if row["kind"] in ("left", "middle", "right")}  # fmt: skip
    line = sorted((row for row in rows_ if row.get("what") == "crm → Ticket: 9"), key=lambda row: row["place"])
    assert [line[0]["y"], line[-1]["y"]] == [at["left", "crm"], at["middle", "Ticket"]]


def test_a_chosen_table_stands_out_with_what_belongs_to_it() -> None:
    rows_ = drawn(selected=("ticket",))
    lit = {row["label"] for row in rows_ if row.get("on") and row["kind"] in ("left", "middle", "right")}
    assert lit == {"crm", "Ticket", "Tickets"}
    assert {row["what"] for row in rows_ if row["kind"] == "line" and row["accent"]} == {
        "crm → Ticket: 9",
        "Ticket → Tickets: 1",
    }
