"""Erasing a person: unreadable in every version, tombstones that survive, figures of pinned runs that come out again."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import stat
import zipfile
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import TestWorkspace, csv_text
from test_privacy import CRM, HEADER, ROWS, bytes_of_the_lake
from typer.testing import CliRunner

from aftersales.cli import app
from aftersales.collect.erasure import erase_subject, expired
from aftersales.collect.redaction import raw_files, redact_raw
from aftersales.collect.subject import export_subject, find_subject, rows_about
from aftersales.lake.engine import connect
from aftersales.lake.store import Store
from aftersales.lake.vault import ERASED, Vault, open_vault, pseudonyms
from aftersales.measure.compute import compute
from aftersales.model.errors import ParameterError, SettingsError

NOW = dt.datetime(2026, 3, 1, tzinfo=dt.UTC)
FIRST = dt.datetime(2026, 2, 1, tzinfo=dt.UTC)
LATER = dt.datetime(2026, 2, 2, tzinfo=dt.UTC)


def erase(workspace: TestWorkspace, given: str, now: dt.datetime = NOW) -> dict[str, int]:
    place = workspace.open()
    return dict(erase_subject(place, find_subject(place, given), reason="asked", by="mei", now=now).rows)


@pytest.fixture
def corrected(workspace: TestWorkspace) -> TestWorkspace:
    """The rows of test_privacy, then a second delivery that corrects T1 and adds T7 of the same customer."""
    workspace.file("crm_1.csv", csv_text(HEADER, ROWS))
    source = workspace.source(CRM)
    workspace.ingest(source, files="data/raw/crm_1.csv", loaded_at=FIRST)
    more = [
        ["T1", "2026-01-01", "2026-01-20", "U-17", "王小明", "A1", "east", "还是坏的", "1"],
        ["T7", "2026-01-21", "2026-01-21", "U-17", "王小明", "A1", "east", "换新的", "7"],
    ]
    workspace.file("crm_2.csv", csv_text(HEADER, more))
    workspace.ingest(source, files="data/raw/crm_2.csv", loaded_at=LATER)
    return workspace


def texts(workspace: TestWorkspace, versions: dict[str, int] | None = None) -> dict[str, str | None]:
    place = workspace.open()
    ticket = Store(place.lake).pin(connect(place), versions=versions).table("ticket")
    frame = ticket.select("ticket_id", "description").execute()
    found = dict(zip(frame["ticket_id"], frame["description"].astype(object), strict=True))
    return {key: text if isinstance(text, str) else None for key, text in found.items()}


def test_an_erased_persons_texts_are_gone_from_every_version(corrected: TestWorkspace) -> None:
    versions = range(Store(corrected.open().lake).version("ticket") + 1)
    before = [texts(corrected, {"ticket": version}) for version in versions]
    assert any(found.get("T1") == "还是坏的" for found in before)
    erase(corrected, "u-17")
    for version, then in zip(versions, before, strict=True):
        now = texts(corrected, {"ticket": version})
        assert set(now) == set(then)
        for ticket, text in then.items():
            assert now[ticket] == (ERASED if ticket in ("T1", "T2", "T7") else text)
    current = texts(corrected)
    assert {current[ticket] for ticket in ("T1", "T2", "T7")} == {None}
    assert current["T3"] == "⟨name⟩ here, mail ⟨email⟩"


def test_neither_parquet_nor_raw_bytes_nor_the_vault_give_it_back(corrected: TestWorkspace) -> None:
    place = corrected.open()
    vault = open_vault(place)
    cells = [
        row["description"]
        for path in (corrected.root / "data" / "lake" / "ticket").rglob("*.parquet")
        for row in pq.ParquetFile(path).read().to_pylist()
        if row.get("description")
    ]
    assert "还是坏的" in vault.unseal(cells)
    erase(corrected, "U-17")
    assert "还是坏的" not in Vault(place.vault, _master(place)).unseal(cells)
    assert vault.unseal(cells).count(ERASED) >= 4
    held = bytes_of_the_lake(corrected)
    for plain in ("还是坏的", "又坏了", "换新的", "U-17", "王小明"):
        assert plain not in held


def _master(place: object) -> bytes:
    from aftersales.lake.vault import master_key

    return master_key(place)  # type: ignore[arg-type]


def test_figures_of_pinned_versions_come_out_again_and_current_counts_stay(corrected: TestWorkspace) -> None:
    place = corrected.open()
    store = Store(place.lake)
    pinned = {name: store.version(name) for name in store.names()}

    def figures(versions: dict[str, int] | None) -> tuple[object, ...]:
        snapshot = store.pin(connect(place), versions=versions)
        ticket = snapshot.table("ticket")
        count = compute(snapshot, "ticket_count", as_of=NOW).rows["count"].tolist()
        by_team = ticket.group_by("team").aggregate(n=ticket.count(), cost=ticket.cost_total.sum()).order_by("team")
        customers = int(ticket.customer_key.nunique().execute())
        return count, by_team.execute().to_dict("records"), customers

    before = figures(pinned)
    assert before[0] == [5]
    erase(corrected, "u-17")
    assert figures(pinned) == before
    assert figures(None)[:2] == before[:2]
    assert figures(None)[2] == before[2] - 1  # type: ignore[operator]
    assert {name: store.version(name) for name in ("ticket", "ticket_event")} != {
        name: pinned[name] for name in ("ticket", "ticket_event")
    }


def test_rows_of_an_erased_person_that_come_again_stay_without_their_data(corrected: TestWorkspace) -> None:
    erase(corrected, "u-17")
    again = csv_text(
        HEADER, [*ROWS, ["T9", "2026-01-30", "2026-01-30", "u-17", "王小明", "A1", "east", "新的投诉", "9"]]
    )
    corrected.file("crm_3.csv", again)
    ticket, event = corrected.ingest(corrected.source(CRM), files="data/raw/crm_3.csv")
    assert (ticket.inserted, ticket.corrected) == (1, 0)
    assert (event.inserted, event.corrected) == (1, 0)
    rows = {
        row[0]: row[1:]
        for row in corrected.rows("ticket", "ticket_id", "customer_key", "description", "team", "cost_total")
    }
    assert rows["T9"] == (None, None, "east", 9.0)
    assert rows["T1"][:2] == (None, None)
    assert open_vault(corrected.open()).has_key(pseudonyms(corrected.open()).of("U-17")) is False
    held = [
        row
        for row in corrected.snapshot().table("quarantine").to_pyarrow().to_pylist()
        if row["source_file"].endswith("crm_3.csv")
    ]
    reasons = [(row["source_row"], row["reasons"], row["raw"]) for row in held if "privacy:erased" in row["reasons"]]
    assert len(reasons) == 5  # T1, T2 and T9 as tickets; T9 and what came before as events
    assert {raw for *_, raw in reasons} == {None}
    assert "新的投诉" not in bytes_of_the_lake(corrected)


def test_erasing_again_changes_nothing_and_is_noted(corrected: TestWorkspace) -> None:
    assert erase(corrected, "u-17") == {"ticket": 3, "ticket_event": 3}
    files = corrected.lake_files()
    assert erase(corrected, pseudonyms(corrected.open()).of("U-17")) == {}
    assert corrected.lake_files() == files
    entries = open_vault(corrected.open()).audit()
    assert [entry["what"] for entry in entries] == ["erase", "erase"]
    assert "U-17" not in json.dumps(entries)
    assert entries[0]["details"]["rows"] == {"ticket": 3, "ticket_event": 3}


def test_a_killed_erasure_is_completed_by_the_next(corrected: TestWorkspace, monkeypatch: pytest.MonkeyPatch) -> None:
    from aftersales.collect import erasure

    def killed(*_: object, **__: object) -> int:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(erasure, "_empty_rows", killed)
        with pytest.raises(KeyboardInterrupt):
            erase(corrected, "u-17")
    assert texts(corrected)["T1"] == ERASED
    assert erase(corrected, "u-17") == {"ticket": 3, "ticket_event": 3}
    assert texts(corrected)["T1"] is None


def test_a_person_without_a_customer_number_is_erased_by_the_ticket(corrected: TestWorkspace) -> None:
    assert texts(corrected)["T4"] == "order 4500123456 is very late"
    assert erase(corrected, "ticket:T4") == {"ticket": 1, "ticket_event": 1}
    assert texts(corrected)["T4"] is None


def test_a_member_of_staff_loses_the_id_and_customers_keep_their_texts(corrected: TestWorkspace) -> None:
    assert erase(corrected, "A2") == {"ticket": 1, "ticket_event": 1}
    assert dict(corrected.rows("ticket", "ticket_id", "owner_id"))["T2"] is None
    assert texts(corrected)["T2"] == "又坏了"


def test_nobody_of_that_id_is_said_without_repeating_it(corrected: TestWorkspace) -> None:
    with pytest.raises(ParameterError, match="nobody of that id") as caught:
        find_subject(corrected.open(), "13812345678")
    assert "13812345678" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------------- export


def test_the_export_has_every_version_in_plain_words_with_its_origin(corrected: TestWorkspace, tmp_path: Path) -> None:
    place = corrected.open()
    subject = find_subject(place, "u-17")
    found = rows_about(place, subject)
    assert [row["description"] for row in found["ticket"] if row["ticket_id"] == "T1"] == [
        "锁坏了,我是⟨name⟩,电话⟨phone⟩", "还是坏的"]  # fmt: skip
    assert {row["ticket_id"] for row in found["ticket"]} == {"T1", "T2", "T7"}
    assert {row["ticket_id"] for row in found["ticket_event"]} == {"T1", "T2", "T7"}
    assert all(row["source_file"] and row["source_row"] and row["source_system"] == "crm" for row in found["ticket"])
    target = tmp_path / "out" / "subject.zip"
    assert export_subject(place, subject, target, NOW)["ticket"] == 4
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    with zipfile.ZipFile(target) as archive:
        assert set(archive.namelist()) == {"subject.json", "subject.xlsx"}
        content = json.loads(archive.read("subject.json"))
    assert content["subject"] == [pseudonyms(place).of("U-17")]
    with pytest.raises(ParameterError, match=r"known: .json, .zip"):
        export_subject(place, subject, tmp_path / "subject.pdf", NOW)


def test_a_rejected_row_is_exported_too(corrected: TestWorkspace) -> None:
    place = corrected.open()
    found = rows_about(place, find_subject(place, "u-19"))
    assert set(found) == {"quarantine"}
    assert "⟨phone⟩" in found["quarantine"][0]["raw"]
    erase(corrected, "u-19")
    assert rows_about(place, find_subject(place, "u-19"))["quarantine"][0]["raw"] == ERASED


# ------------------------------------------------------------------------------------------------------- raw files


def test_files_as_received_are_named_and_can_be_emptied(corrected: TestWorkspace) -> None:
    place = corrected.open()
    subject = find_subject(place, "u-17")
    files = raw_files(place, subject)
    assert [(Path(file.name).name, file.can_redact) for file in files] == [("crm_1.csv", True), ("crm_2.csv", True)]
    erase(corrected, "u-17")
    assert [redact_raw(place, subject, file) for file in files] == [2, 2]
    first = (corrected.root / "data" / "raw" / "crm_1.csv").read_text(encoding="utf-8")
    assert "王小明" not in first
    assert "13812345678" not in first
    assert first.splitlines()[1] == "T1,2026-01-01,2026-01-01,,,A1,east,,1"
    assert "Ann Lee here" in first
    assert [redact_raw(place, subject, file) for file in files] == [0, 0]
    again = corrected.ingest(corrected.source(CRM))
    assert [(d.inserted, d.corrected) for d in again] == [(0, 0)] * 4


def test_packed_and_json_lines_can_be_emptied(workspace: TestWorkspace) -> None:
    rows = [dict(zip(HEADER, row, strict=True)) for row in ROWS[:3]]
    content = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path = workspace.file("crm_1.jsonl.gz", gzip.compress(content.encode()))
    workspace.ingest(workspace.source(CRM.replace("format: csv", "format: jsonl")))
    place = workspace.open()
    subject = find_subject(place, "U-18")
    (file,) = raw_files(place, subject)
    assert redact_raw(place, subject, file) == 1
    left = [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]
    assert left[:2] == rows[:2]
    assert {name for name, value in left[2].items() if value is not None} == {
        "id",
        "agent",
        "created",
        "changed",
        "team",
        "cost",
    }


# -------------------------------------------------------------------------------------------------------- retention


def retained(workspace: TestWorkspace, text: str = "{ticket: 1, quarantine: 1}") -> None:
    (workspace.root / "workbench.yml").write_text(f"time_zone: UTC\nprivacy: {{retention: {text}}}\n", encoding="utf-8")


def test_what_has_expired_is_emptied_and_facts_stay(corrected: TestWorkspace) -> None:
    old = [["T0", "2025-11-30", "2025-11-30", "u-17", "王小明", "A1", "east", "旧的", "10"]]
    corrected.file("crm_0.csv", csv_text(HEADER, old))
    corrected.ingest(corrected.source(CRM), files="data/raw/crm_0.csv", loaded_at=LATER)
    retained(corrected)
    place, as_of = corrected.open(), dt.datetime(2026, 1, 31, tzinfo=dt.UTC)
    version = Store(place.lake).version("ticket")
    (quarantine, dry) = expired(place, as_of)
    assert (dry.table, dry.before, dry.periods, dry.rows) == ("ticket", "2025-12", 1, 1)
    assert quarantine.periods == 0
    assert texts(corrected)["T0"] == "旧的"
    expired(place, as_of, apply=True)
    assert texts(corrected)["T0"] is None
    assert texts(corrected, {"ticket": version})["T0"] == ERASED
    assert texts(corrected)["T1"] == "还是坏的"
    rows = {
        row[0]: row[1:]
        for row in corrected.rows("ticket", "ticket_id", "customer_key", "owner_id", "team", "cost_total")
    }
    assert rows["T0"] == (None, None, "east", 10.0)
    assert rows["T1"][0] is not None
    files = corrected.lake_files()
    assert [(e.periods, e.rows) for e in expired(place, as_of, apply=True)] == [(0, 0), (0, 0)]
    assert corrected.lake_files() == files
    corrected.file("crm_9.csv", csv_text(HEADER, old) + "\r\n")
    ticket, _ = corrected.ingest(corrected.source(CRM), files="data/raw/crm_9.csv")
    assert (ticket.inserted, ticket.corrected, ticket.unchanged) == (0, 0, 1)


def test_the_quarantine_expires_too(corrected: TestWorkspace) -> None:
    retained(corrected)
    place = corrected.open()
    expired(place, dt.datetime(2026, 5, 1, tzinfo=dt.UTC), apply=True)
    assert set(corrected.rows("quarantine", "raw")) == {ERASED}


def test_a_retention_time_of_an_unknown_table_is_refused(workspace: TestWorkspace) -> None:
    retained(workspace, "{tickets: 12}")
    with pytest.raises(SettingsError, match=r"privacy\.retention names tickets"):
        expired(workspace.open(), NOW)


# ----------------------------------------------------------------------------------------------------- command line


def test_the_commands_export_ask_first_and_erase(corrected: TestWorkspace, tmp_path: Path) -> None:
    run = CliRunner()
    where = ["--workspace", str(corrected.root), "--json"]
    target = tmp_path / "subject.json"
    done = run.invoke(app, ["privacy", "export", "u-17", "--out", str(target), *where])
    assert json.loads(done.stdout)["rows"] == {"ticket": 4, "ticket_event": 4}
    asked = run.invoke(app, ["privacy", "erase", "u-17", "--reason", "asked", *where])
    assert asked.exit_code == 1
    assert len(json.loads(asked.stdout)["raw_files"]) == 2
    assert texts(corrected)["T1"] == "还是坏的"
    erased = json.loads(
        run.invoke(app, ["privacy", "erase", "u-17", "--reason", "asked", "--raw", "--yes", *where]).stdout
    )
    assert erased["rows"] == {"ticket": 3, "ticket_event": 3}
    assert [file["emptied"] for file in erased["raw_files"]] == [2, 2]
    assert texts(corrected)["T1"] is None
    retained(corrected)
    dry = json.loads(run.invoke(app, ["privacy", "retention", "--as-of", "2026-12-01", *where]).stdout)
    assert dry["applied"] is False
    assert dry["expired"][1]["rows"] == 5  # of the emptied ones, the member of staff
