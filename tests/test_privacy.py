"""Privacy on the way in: pseudonyms, masked and sealed texts, and nothing plain left anywhere in the lake."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import re
import zipfile
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from conftest import TestWorkspace, csv_text

from aftersales.collect.ingest import ingest_source
from aftersales.collect.mapping import read_source
from aftersales.collect.subject import personal_columns
from aftersales.lake.engine import connect
from aftersales.lake.store import Store
from aftersales.lake.vault import UNREADABLE, open_vault, pseudonyms
from aftersales.model.errors import SettingsError
from aftersales.model.tiers import raised_tiers

ROOT = Path(__file__).parent.parent
SHARED = Path(os.environ.get("AFTERSALES_SHARED") or ROOT.parent / "shared")

CRM = """
    owner: test
    files: data/raw/crm_*
    format: csv
    encoding: utf-8
    names: [name]
    tables:
      ticket:
        version: {from: changed}
        columns:
          ticket_id: id
          known_at: created
          created_at: created
          customer_key: {from: customer, case: upper}
          owner_id: agent
          team: team
          description: text
          cost_total: {from: cost, on_bad: blank}
      ticket_event:
        columns:
          event_id: {from: id, prefix: "e:"}
          ticket_id: id
          known_at: created
          occurred_at: created
          actor_id: agent
          body: text
"""
HEADER = ["id", "created", "changed", "customer", "name", "agent", "team", "text", "cost"]
ROWS = [
    ["T1", "2026-01-01", "2026-01-01", "u-17", "王小明", "A1", "east", "锁坏了,我是王小明,电话13812345678", "1"],
    ["T2", "2026-01-02", "2026-01-02", "U-17", "王小明", "A2", "east", "又坏了", "2"],
    ["T3", "2026-01-03", "2026-01-03", "u-18", "Ann Lee", "A1", "west", "Ann Lee here, mail ann@example.com", "x"],
    ["T4", "2026-01-04", "2026-01-04", "", "", "A1", "west", "order 4500123456 is late", "4"],
    ["T4", "2026-01-04", "2026-01-04", "", "", "A1", "west", "order 4500123456 is very late", "4"],
    ["", "2026-01-05", "2026-01-05", "u-19", "赵六", "A1", "west", "赵六的电话是13912345678", "5"],
]


def loaded(workspace: TestWorkspace, rows: list[list[str]] = ROWS, name: str = "crm_1.csv") -> None:
    workspace.file(name, csv_text(HEADER, rows))
    workspace.ingest(workspace.source(CRM), files=f"data/raw/{name}")


def bytes_of_the_lake(workspace: TestWorkspace) -> str:
    """Everything the lake's files hold, as readers of Parquet see it, and the raw bytes of every file."""
    found = []
    lake = workspace.root / "data" / "lake"
    for path in lake.rglob("*"):
        if path.suffix == ".parquet":
            found.append(str(pq.ParquetFile(path).read().to_pylist()))
        if path.is_file():
            found.append(path.read_bytes().decode("utf-8", "replace"))
    return "\n".join(found)


def test_customers_and_staff_become_pseudonyms_that_join_across_tables(workspace: TestWorkspace) -> None:
    loaded(workspace)
    made = pseudonyms(workspace.open())
    assert workspace.rows("ticket", "ticket_id", "customer_key") == [
        ("T1", made.of("U-17")), ("T2", made.of("U-17")), ("T3", made.of("U-18")), ("T4", None)]  # fmt: skip
    staff = dict(workspace.rows("ticket", "ticket_id", "owner_id"))
    assert staff["T1"] == staff["T3"] == made.of("A1", "s_")
    assert dict(workspace.rows("ticket_event", "ticket_id", "actor_id")) == staff


@pytest.mark.parametrize(("setting", "kept"), [("already", True), ("false", True), ("true", False)])
def test_a_source_says_what_its_ids_are(workspace: TestWorkspace, setting: str, kept: bool) -> None:
    workspace.file("crm_1.csv", csv_text(HEADER, ROWS[:1]))
    workspace.ingest(workspace.source(CRM.replace("case: upper", f"pseudonym: {setting}")))
    (customer,) = workspace.rows("ticket", "customer_key")
    assert (customer == "u-17") is kept


def test_pseudonyms_of_a_site_column_and_of_nothing_else(workspace: TestWorkspace) -> None:
    workspace.file("crm_1.csv", csv_text(HEADER, ROWS[:1]))
    more = CRM.replace(
        "          team: team", "          team: team\n          x_seller: {from: agent, pseudonym: true}"
    )
    workspace.ingest(workspace.source(more))
    made = pseudonyms(workspace.open())
    assert workspace.rows("ticket", "x_seller") == [made.of("A1", "s_")]
    with pytest.raises(SettingsError, match="'pseudonym' says nothing for a column of type 'num'"):
        workspace.source(CRM.replace("from: cost", "from: cost, pseudonym: true"))
    with pytest.raises(SettingsError, match="lower than the column's own tier P2"):
        workspace.source(CRM.replace("case: upper", "tier: P1"))


def test_texts_are_masked_and_known_names_go(workspace: TestWorkspace) -> None:
    loaded(workspace)
    assert dict(workspace.rows("ticket", "ticket_id", "description")) == {
        "T1": "锁坏了,我是⟨name⟩,电话⟨phone⟩",
        "T2": "又坏了",
        "T3": "⟨name⟩ here, mail ⟨email⟩",
        "T4": "order 4500123456 is very late",
    }


def test_a_missing_column_of_names_stops_the_file(workspace: TestWorkspace) -> None:
    workspace.file("crm_1.csv", csv_text(HEADER, ROWS).replace("name,", "nom,", 1))
    with pytest.raises(Exception, match="name"):
        workspace.ingest(workspace.source(CRM))


def test_the_quarantine_keeps_rows_without_anybodys_data(workspace: TestWorkspace) -> None:
    loaded(workspace)
    made = pseudonyms(workspace.open())
    held = {
        (kind, row): json.loads(raw)
        for kind, row, raw, table in workspace.rows("quarantine", "kind", "source_row", "raw", "table")
        if table == "ticket"
    }
    assert set(held) == {("value", 3), ("row", 6)}
    rejected = held["row", 6]
    assert (rejected["text"], rejected["name"], rejected["created"]) == (
        "⟨name⟩的电话是⟨phone⟩",
        "⟨name⟩",
        "2026-01-05",
    )
    assert rejected["customer"] == made.of("U-19")
    assert rejected["agent"] == made.of("A1", "s_")
    assert held["value", 3]["cost"] == "x"


def test_no_file_of_the_lake_holds_a_plain_text_or_id(workspace: TestWorkspace) -> None:
    loaded(workspace)
    held = bytes_of_the_lake(workspace)
    assert "sealed:v1:" in held
    for plain in ("锁坏了", "又坏了", "very late", "王小明", "Ann", "u-17", "U-17", "13812345678", "赵六"):
        assert plain not in held, plain


def test_without_sealing_texts_are_masked_still(workspace: TestWorkspace) -> None:
    (workspace.root / "workbench.yml").write_text("name: test\nprivacy: {seal_text: false}\n", encoding="utf-8")
    loaded(workspace)
    held = bytes_of_the_lake(workspace)
    assert "sealed:v1:" not in held
    assert "⟨phone⟩" in held
    for plain in ("王小明", "Ann Lee", "U-17", "13812345678", "13912345678"):
        assert plain not in held, plain


def test_the_same_rows_in_another_file_are_unchanged(workspace: TestWorkspace) -> None:
    loaded(workspace)
    workspace.file("crm_2.csv", csv_text(HEADER, ROWS) + "\r\n")
    again = workspace.ingest(workspace.source(CRM), files="data/raw/crm_2.csv")
    assert [(d.inserted, d.corrected) for d in again] == [(0, 0), (0, 0)]


def test_a_text_is_sealed_for_its_customer_else_its_thread_else_its_row(workspace: TestWorkspace) -> None:
    loaded(workspace)
    vault = open_vault(workspace.open())
    made = pseudonyms(workspace.open())
    for subject in (made.of("U-17"), made.of("U-18"), "ticket:T4", "ticket:T1", made.of("U-19")):
        assert vault.has_key(subject), subject
    assert not vault.has_key("ticket_event:e:T1")


def test_counting_never_opens_a_text_and_searching_does(
    workspace: TestWorkspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded(workspace)
    opened: list[int] = []
    from aftersales.lake import engine

    real = engine.unsealed_values
    monkeypatch.setattr(engine, "unsealed_values", lambda place, texts: opened.append(len(texts)) or real(place, texts))
    ticket = workspace.snapshot().table("ticket")
    assert ticket.count().execute() == 4
    assert ticket.group_by("team").aggregate(n=ticket.count()).execute()["n"].sum() == 4
    assert ticket.filter(ticket.customer_key.notnull()).ticket_id.nunique().execute() == 3
    assert opened == []
    assert ticket.filter(ticket.description.contains("late")).ticket_id.execute().tolist() == ["T4"]
    assert opened


def test_without_the_vault_a_text_says_that_it_is_sealed(workspace: TestWorkspace, tmp_path: Path) -> None:
    loaded(workspace)
    other = tmp_path / "reader"
    other.mkdir()
    (other / "workbench.yml").write_text(f"folders: {{lake: '{workspace.open().lake}'}}\n", encoding="utf-8")
    from aftersales.model.settings import open_workspace

    place = open_workspace(other)
    texts = Store(place.lake).pin(connect(place)).table("ticket").description.execute()
    assert set(texts) == {UNREADABLE}
    assert not place.vault.exists()


def test_tiers_can_be_raised_for_a_column(workspace: TestWorkspace) -> None:
    (workspace.root / "workbench.yml").write_text("privacy: {tiers: {ticket.order_id: P2}}\n", encoding="utf-8")
    workspace.file("crm_1.csv", csv_text(HEADER, ROWS[:1]))
    workspace.ingest(workspace.source(CRM.replace("          team: team", "          order_id: team")))
    assert workspace.rows("ticket", "order_id") == [pseudonyms(workspace.open()).of("east", "s_")]


@pytest.mark.parametrize(
    ("tiers", "said"),
    [
        ("{ticket.nobody: P2}", "no column 'ticket.nobody'"),
        ("{ticket: P2}", "no column 'ticket'"),
        ("{ticket.description: P1}", "P2 already"),
    ],
)
def test_a_tier_that_cannot_be_raised_is_refused(workspace: TestWorkspace, tiers: str, said: str) -> None:
    (workspace.root / "workbench.yml").write_text(f"privacy: {{tiers: {tiers}}}\n", encoding="utf-8")
    with pytest.raises(SettingsError, match=said):
        workspace.open()


def test_a_tier_one_source_raises_holds_for_every_source(workspace: TestWorkspace) -> None:
    assert raised_tiers(workspace.open()) == {}
    more = CRM.replace("          team: team", "          x_shop: {from: team, tier: P2}\n          team: team")
    workspace.source(more)
    workspace.source(CRM, name="other")
    assert raised_tiers(workspace.open()) == {"ticket.x_shop": "P2"}
    assert personal_columns(workspace.open(), "ticket")["x_shop"] == "P2"


# ------------------------------------------------------------------------------------------------------- real texts


def shared_file(name: str) -> Path:
    path = SHARED / "data" / name
    if not path.is_file():
        pytest.skip(f"real data are not here: {path} is absent (AFTERSALES_SHARED names the folder with data/)")
    return path


def test_no_narrative_shows_a_telephone_number(workspace: TestWorkspace) -> None:
    path = shared_file("nhtsa_kia/kia_complaints.csv.gz")
    dashes, any_gap = re.compile(r"\d{3}-\d{3}-\d{4}"), re.compile(r"\(?\d{3}\)?[-. ]*\d{3}[-. ]+\d{4}")
    with gzip.open(path, "rt", encoding="utf-8", newline="") as stream:
        given = [row["Summary"] for row in csv.DictReader(stream)]
    assert sum(bool(dashes.search(text)) for text in given) >= 46
    assert sum(bool(any_gap.search(text)) for text in given) >= 95
    place = workspace.open()
    source = read_source(ROOT / "data" / "sources" / "examples" / "nhtsa_complaints.yml", place)
    list(ingest_source(place, source, files=str(path)))
    texts = workspace.snapshot().table("complaint").description.execute().dropna()
    assert not [text for text in texts if dashes.search(text) or any_gap.search(text)]
    tokens = [token for text in texts for token in re.findall("⟨(.*?)⟩", text)]
    assert {kind: tokens.count(kind) for kind in set(tokens)} == {"phone": 115, "email": 7, "vin": 1}
    held = [json.loads(raw) for raw in workspace.rows("quarantine", "raw")]
    assert not [row for row in held if any_gap.search(row["Summary"])]


def test_no_review_shows_a_number_or_an_address_and_order_numbers_stay() -> None:
    from aftersales.collect.masking import mask

    with zipfile.ZipFile(shared_file("zh_reviews/online_shopping_10_cats.zip")) as archive:
        (name,) = [name for name in archive.namelist() if name.endswith(".csv")]
        stream = io.TextIOWrapper(archive.open(name), "utf-8", newline="")
        given = [row["review"] for row in csv.DictReader(stream)]
    mobile = re.compile(r"(?<!\d)1[3-9]\d{9}(?!\d)")
    mail = re.compile(r"[\w.+-]+@[\w-]+\.[a-z]{2,}", re.I | re.A)
    orders = re.compile(r"(?:订单号|订单编号|订单)[:：]?\s?\d{9,11}(?!\d)")
    assert (sum(len(mobile.findall(t)) for t in given), sum(len(mail.findall(t)) for t in given)) == (20, 7)
    shown = [mask(text) for text in given]
    assert not [text for text in shown if mobile.search(text) or mail.search(text)]
    lost = [
        text for text, after in zip(given, shown, strict=True) if len(orders.findall(text)) > len(orders.findall(after))
    ]
    assert len(lost) == 1  # one of 17 order numbers has exactly the shape of a mobile number
    changed: list[Any] = [text for text, after in zip(given, shown, strict=True) if text != after]
    assert len(changed) < 80
