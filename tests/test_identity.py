"""Links between tables, probable duplicates and what people decide about them."""

from __future__ import annotations

import datetime as dt
import json
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import typer.main
from deltalake import write_deltalake
from hypothesis import given, settings
from hypothesis import strategies as st
from lakes import LONG_AGO, at, lake
from sqlalchemy import select
from worlds import DemoWorld

from aftersales.cli import app
from aftersales.collect.identity import (
    DuplicateRules,
    confirmed_duplicates,
    contested_pairs,
    customers,
    decide,
    decisions,
    find_duplicates,
    links,
    list_pairs,
    pair_id,
    prepared,
    propose,
    text_similarity,
)
from aftersales.demo.texts import PHRASES
from aftersales.lake.engine import connect
from aftersales.lake.register import DuplicateDecision, Register, RegisterError, UnknownPairError, open_register
from aftersales.lake.store import Snapshot, Store, arrow_schema
from aftersales.model.errors import ParameterError
from aftersales.model.settings import WorkbenchFile, Workspace, open_workspace
from aftersales.model.tables import canonical_table

NOW = dt.datetime(2026, 11, 2, 8, tzinfo=dt.UTC)
LEAK = "打开电池仓发现电池漏液, 有白色粉末"


def ticket(ticket_id: str, created: str, **values: Any) -> dict[str, Any]:
    facts = {"customer_key": "c1", "unit_id": "u1", "product_id": "P", "language": "zh", "channel": "phone"}
    return {**facts, "ticket_id": ticket_id, "created_at": created, "description": LEAK, **values}


def pairs(tmp_path: Path, *tickets: dict[str, Any], **rules: Any) -> list[tuple[str, str]]:
    found = find_duplicates(lake(tmp_path, ticket=list(tickets)), DuplicateRules(**rules)).pairs
    return list(zip(found["left_id"], found["right_id"], strict=True))


# --- links --------------------------------------------------------------------------------------------------------


def test_a_link_says_how_many_keys_meet_and_names_rows_that_do_not(tmp_path: Path) -> None:
    snapshot = lake(
        tmp_path,
        unit=[{"unit_id": "SL-001"}, {"unit_id": "SL-002"}, {"unit_id": "SL 002"}],
        ticket=[
            {"ticket_id": "T1", "unit_id": "SL-001"},
            {"ticket_id": "T2", "unit_id": "sl001"},  # one unit, written otherwise
            {"ticket_id": "T3", "unit_id": "sl002"},  # two units could be meant
            {"ticket_id": "T4", "unit_id": "unknown"},
            {"ticket_id": "T5"},
        ],
    )
    (row,) = links(snapshot).to_dict("records")
    assert (row["table"], row["column"], row["target"]) == ("ticket", "unit_id", "unit")
    assert (row["rows"], row["filled"], row["resolved"], row["unresolved"]) == (5, 4, 1, 3)
    assert row["share_resolved"] == pytest.approx(0.25)
    assert (row["near"], row["ambiguous"], row["examples"]) == (1, 1, ["T2", "T3", "T4"])


def test_links_of_an_empty_lake_are_an_empty_table(tmp_path: Path) -> None:
    assert links(lake(tmp_path)).empty
    assert customers(lake(tmp_path)).empty


def test_customers_are_stitched_by_their_pseudonym(tmp_path: Path) -> None:
    snapshot = lake(
        tmp_path,
        ticket=[{"customer_key": "c1"}, {"customer_key": "c1"}, {"customer_key": "c2"}, {}],
        survey=[{"customer_key": "c2"}, {"customer_key": "c3"}],
    )
    rows = customers(snapshot).set_index("table")
    assert rows.loc["ticket", ["rows", "filled", "keys", "shared"]].tolist() == [4, 3, 2, 1]
    assert rows.loc["survey", "share_shared"] == pytest.approx(0.5)


# --- pairs --------------------------------------------------------------------------------------------------------


def test_the_same_problem_told_twice_is_proposed_with_its_evidence(tmp_path: Path) -> None:
    told = [
        ticket("HL-1", "2026-03-01 08:00"),
        ticket("AP-1", "2026-03-02 20:00", channel="app", description=f"你好! {LEAK}, 单号 20260301000123"),
    ]
    found = find_duplicates(lake(tmp_path, ticket=told)).pairs
    (row,) = found.to_dict("records")
    assert (row["left_id"], row["right_id"], row["pair_id"]) == ("HL-1", "AP-1", pair_id("AP-1", "HL-1"))
    assert row["score"] == 100
    assert row["evidence"]["customer"] == row["evidence"]["unit"] == "same"
    assert row["evidence"]["channel"] == "other"
    assert row["evidence"]["hours_between"] == 36.0
    assert row["evidence"]["text_similarity"] > 0.9
    assert LEAK not in str(row)  # ids and scores only


@pytest.mark.parametrize(
    ("name", "second"),
    [
        ("too late", ticket("B", "2026-03-09 08:01")),
        ("another problem", ticket("B", "2026-03-02", description="怎么添加新的指纹？")),
        ("nobody's", ticket("B", "2026-03-02", customer_key=None, unit_id=None)),
        ("another lock of the customer", ticket("B", "2026-03-02", unit_id="u2")),
        ("another product", ticket("B", "2026-03-02", unit_id="u2", product_id="Q", customer_key=None)),
        ("another customer with other words", ticket("B", "2026-03-02", customer_key="c2", description="门打不开")),
    ],
)
def test_what_is_no_duplicate_is_not_proposed(tmp_path: Path, name: str, second: dict[str, Any]) -> None:
    assert pairs(tmp_path, ticket("A", "2026-03-01 08:00"), second) == [], name


@pytest.mark.parametrize("missing", ["customer_key", "unit_id"])
def test_one_key_and_the_same_words_are_enough(tmp_path: Path, missing: str) -> None:
    second = ticket("B", "2026-03-02", **{missing: None})
    assert pairs(tmp_path, ticket("A", "2026-03-01"), second) == [("A", "B")]


def test_a_duplicate_in_another_language_is_found_by_customer_unit_and_symptom(tmp_path: Path) -> None:
    first = ticket("A", "2026-03-01", symptom_code="no_power")
    second = ticket(
        "B", "2026-03-02", symptom_code="no_power", language="en", description="Lock has no power, screen is black"
    )
    assert pairs(tmp_path, first, second) == [("A", "B")]
    assert pairs(tmp_path, first, {**second, "symptom_code": "offline"}) == []


def test_tickets_without_text_are_judged_by_their_keys(tmp_path: Path) -> None:
    both = [ticket("A", "2026-03-01", description=None), ticket("B", "2026-03-01 01:00", description=None)]
    assert pairs(tmp_path, *both) == [("A", "B")]  # 35 + 30 + 9.9 points
    assert pairs(tmp_path, *both, threshold=80) == []


def test_an_empty_lake_and_a_single_ticket_have_no_pairs(tmp_path: Path) -> None:
    assert find_duplicates(lake(tmp_path)).pairs.empty
    assert pairs(tmp_path, ticket("A", "2026-03-01")) == []


def test_the_order_of_the_rows_is_irrelevant(tmp_path: Path) -> None:
    rows = [ticket(f"T{i}", f"2026-03-{1 + i % 3:02d}", customer_key=f"c{i % 4}", unit_id=None) for i in range(24)]
    first = find_duplicates(lake(tmp_path, ticket=rows)).pairs
    second = find_duplicates(lake(tmp_path, ticket=rows[::-1])).pairs
    pd.testing.assert_frame_equal(first, second)
    assert len(first) > 10


def test_a_key_shared_by_thousands_is_compared_with_neighbours_only(tmp_path: Path) -> None:
    rows = [ticket(f"T{i:05d}", "2026-03-01", customer_key="walk-in", unit_id=None) for i in range(3_000)]
    found = find_duplicates(lake(tmp_path, ticket=rows), DuplicateRules(neighbours=5))
    assert found.compared == 5 * 3_000 - 15
    assert found.crowded == 3_000 - 6


@pytest.mark.parametrize("wrong", [{"within_days": 0}, {"threshold": 101}, {"neighbours": 0}])
def test_rules_without_sense_are_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(ParameterError, match="is not between"):
        DuplicateRules(**wrong)  # type: ignore[arg-type]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=40), st.text(max_size=40)), min_size=1, max_size=5))
def test_similarity_is_a_share_symmetric_and_one_for_the_same_text(texts: list[tuple[str, str]]) -> None:
    left, right = [prepared(a) for a, _ in texts], [prepared(b) for _, b in texts]
    there, back = text_similarity(left, right), text_similarity(right, left)
    np.testing.assert_allclose(there, back, atol=1e-6)
    assert np.all(np.isnan(there) | ((there >= 0) & (there <= 1)))
    itself = text_similarity(left, left)
    assert np.all(np.isnan(itself) | (itself == 1))


# --- how good, how fast -------------------------------------------------------------------------------------------


def planted(tickets: pd.DataFrame, count: int, seed: int) -> pd.DataFrame:
    """Copies of `count` tickets as another channel would have them: typos, half the text, a greeting, another
    language, one key missing."""
    rng = np.random.default_rng(seed)
    known = tickets[tickets["customer_key"].notna() & tickets["unit_id"].notna() & tickets["description"].notna()]
    copies = known.iloc[rng.choice(len(known), count, replace=False)].copy()
    copies["of"] = copies["ticket_id"]
    copies["ticket_id"] = [f"COPY-{i:05d}" for i in range(count)]
    copies["created_at"] += pd.to_timedelta(rng.uniform(0.2, 72, count), unit="h")
    copies["channel"] = np.where(copies["channel"] == "app", "phone", "app")
    copies["description"] = [_retold(rng, row) for row in copies.to_dict("records")]
    foreign = np.flatnonzero((rng.random(count) < 0.15) & copies["symptom_code"].notna())
    for place in foreign:
        row = copies.iloc[place]
        other = "en" if row["language"] == "zh" else "zh"
        copies.iloc[place, copies.columns.get_loc("description")] = PHRASES[other][row["symptom_code"]][0]
        copies.iloc[place, copies.columns.get_loc("subject")] = None
        copies.iloc[place, copies.columns.get_loc("language")] = other
    lost = rng.random(count)
    lost[foreign] = 1
    copies.loc[lost < 0.2, "unit_id"] = None
    copies.loc[(lost >= 0.2) & (lost < 0.4), "customer_key"] = None
    return copies


def _retold(rng: np.random.Generator, row: dict[str, Any]) -> str:
    letters = list(row["description"])
    for place in rng.choice(len(letters), max(1, len(letters) // 25), replace=False):
        letters[place] = str(rng.choice(list("的了是在xqz ")))
    text = "".join(letters)
    kind = rng.integers(0, 4)
    if kind == 0:
        return text[: max(len(text) * 2 // 3, 8)]
    if kind == 1:
        return ("客服你好，之前打过电话：" if row["language"] == "zh" else "I called before about this: ") + text
    return f"{text} 20260{rng.integers(10**8, 10**9)}" if kind == 2 else text


def snapshot_of(folder: Path, tickets: pd.DataFrame) -> Snapshot:
    """A lake with these tickets, written in one go."""
    schema = arrow_schema(canonical_table("ticket"))
    columns = {}
    for field in schema:
        values = tickets[field.name] if field.name in tickets else pd.Series([None] * len(tickets))
        columns[field.name] = pa.array(values.astype(object).where(values.notna(), None).tolist(), field.type)
    columns["known_at"] = columns["loaded_at"] = pa.array([LONG_AGO] * len(tickets), schema.field("known_at").type)
    columns["yr"] = pa.array(["2024"] * len(tickets), pa.string())
    write_deltalake(str(folder / "ticket"), pa.table(columns, schema=schema), partition_by=["yr"])
    return Store(folder).pin(connect(Workspace(folder, WorkbenchFile())))


def test_planted_duplicates_are_found_and_little_else(demo: DemoWorld, tmp_path: Path) -> None:
    """Of 1,000 planted ones at least 95 % are found; of those proposed at least 85 % are planted. The rest of the
    proposals are the demo world's own customers who ask the same thing twice within days."""
    workspace = demo.open()
    columns = ["ticket_id", "customer_key", "unit_id", "product_id", "symptom_code", "ticket_type", "language",
               "channel", "created_at", "subject", "description"]  # fmt: skip
    tickets = Store(workspace.lake).pin(connect(workspace)).table("ticket").select(columns).to_pandas()
    tickets = tickets.sort_values("ticket_id", ignore_index=True)
    copies = planted(tickets, 1_000, seed=7)
    both = pd.concat([tickets, copies.drop(columns="of")], ignore_index=True)
    found = find_duplicates(snapshot_of(tmp_path, both)).pairs
    truth = {pair_id(copy, of) for copy, of in zip(copies["ticket_id"], copies["of"], strict=True)}
    right = len(truth & set(found["pair_id"]))
    assert right / len(truth) >= 0.95, f"recall {right / len(truth):.3f}"
    assert right / len(found) >= 0.85, f"precision {right / len(found):.3f}"


@pytest.mark.slow
def test_five_times_the_tickets_take_about_five_times_as_long(tmp_path: Path) -> None:
    """100,000 tickets, one tenth of them under one walk-in key."""
    rng = np.random.default_rng(3)

    def seconds(count: int) -> float:
        place = tmp_path / str(count)
        texts = np.array([text for words in PHRASES["zh"].values() for text in words])
        keys = np.where(rng.random(count) < 0.1, "walk-in", rng.integers(0, count // 3, count).astype(str))
        moments = pd.to_datetime(rng.integers(1_700_000_000, 1_730_000_000, count), unit="s", utc=True)
        tickets = pd.DataFrame({
            "ticket_id": [f"T{i}" for i in range(count)], "customer_key": keys, "created_at": moments,
            "unit_id": rng.integers(0, count // 2, count).astype(str), "language": "zh",
            "description": texts[rng.integers(0, len(texts), count)],
        })  # fmt: skip
        snapshot = snapshot_of(place, tickets)
        started = time.process_time()
        found = find_duplicates(snapshot)
        assert found.tickets == count
        return time.process_time() - started

    small, large = seconds(20_000), seconds(100_000)
    assert large < 60
    assert large / small < 15  # a quadratic search would take 25 times as long


# --- decisions ----------------------------------------------------------------------------------------------------


@pytest.fixture
def register(tmp_path: Path) -> Any:
    (tmp_path / "workbench.yml").write_text("name: x\n")
    with open_register(open_workspace(tmp_path)) as opened:
        yield opened


def proposed(*names: tuple[str, str], score: float = 80) -> pd.DataFrame:
    return pd.DataFrame(
        [{"pair_id": pair_id(a, b), "left_id": a, "right_id": b, "score": score, "evidence": {"unit": "same"}}
         for a, b in names]
    )  # fmt: skip


def said(register: Register, left: str, right: str, decision: str) -> None:
    decide(register, pair_id(left, right), decision, who="li", now=NOW)


def test_a_second_search_keeps_decisions_and_proposes_only_new_pairs(register: Register) -> None:
    assert propose(register, proposed(("A", "B")), who="job", now=NOW) == 1
    said(register, "A", "B", "different")
    assert propose(register, proposed(("A", "B"), ("C", "D")), who="job", now=NOW) == 1
    assert [(pair.left_id, pair.decision) for pair in list_pairs(register, "all")] == [
        ("A", "different"),
        ("C", "open"),
    ]
    assert [pair.left_id for pair in list_pairs(register)] == ["C"]


def test_every_decision_stays_in_the_history_and_the_newest_counts(register: Register) -> None:
    propose(register, proposed(("A", "B")), who="job", now=NOW)
    for decision in ("unsure", "same"):
        said(register, "A", "B", decision)
    assert decisions(register, pair_id("A", "B"))["decision"].tolist() == ["unsure", "same"]
    (pair,) = list_pairs(register, "same")
    assert (pair.decided_by, pair.decided_at, pair.evidence) == ("li", NOW, {"unit": "same"})


def test_a_decision_cannot_be_rewritten(register: Register) -> None:
    propose(register, proposed(("A", "B")), who="job", now=NOW)
    said(register, "A", "B", "same")
    with pytest.raises(RegisterError, match="append-only"), register.session() as session:
        session.scalars(select(DuplicateDecision)).one().decision = "different"


def test_confirmed_pairs_point_at_the_oldest_ticket_of_their_group(register: Register) -> None:
    propose(register, proposed(("A", "B"), ("B", "C"), ("X", "Y"), ("M", "N")), who="job", now=NOW)
    for left, right, decision in (("A", "B", "same"), ("B", "C", "same"), ("X", "Y", "unsure")):
        said(register, left, right, decision)
    assert confirmed_duplicates(register).to_dict("records") == [
        {"ticket_id": "B", "duplicate_of": "A"},
        {"ticket_id": "C", "duplicate_of": "A"},
    ]


def test_a_group_that_contradicts_itself_is_left_out_and_named(register: Register) -> None:
    propose(register, proposed(("A", "B"), ("B", "C"), ("A", "C"), ("X", "Y")), who="job", now=NOW)
    for left, right, decision in (("A", "B", "same"), ("B", "C", "same"), ("A", "C", "different"), ("X", "Y", "same")):
        said(register, left, right, decision)
    assert confirmed_duplicates(register)["ticket_id"].tolist() == ["Y"]
    assert contested_pairs(register) == [pair_id("A", "C")]
    said(register, "A", "C", "unsure")
    assert confirmed_duplicates(register)["ticket_id"].tolist() == ["B", "C", "Y"]


def test_nothing_confirmed_is_an_empty_table(register: Register) -> None:
    assert confirmed_duplicates(register).columns.tolist() == ["ticket_id", "duplicate_of"]
    assert confirmed_duplicates(register).empty


def test_unknown_pairs_decisions_and_states_are_refused(register: Register) -> None:
    with pytest.raises(UnknownPairError, match="no pair 'D-0'"):
        decide(register, "D-0", "same", who="li", now=NOW)
    with pytest.raises(ParameterError, match=r"no decision .merge."):
        decide(register, "D-0", "merge", who="li", now=NOW)
    with pytest.raises(ParameterError, match="no state 'new'"):
        list_pairs(register, "new")


def test_a_ticket_not_known_yet_is_no_duplicate_of_anything(tmp_path: Path) -> None:
    rows = [ticket("A", "2026-03-01"), ticket("B", "2026-03-02", known_at="2026-03-20")]
    assert find_duplicates(lake(tmp_path, as_of=at("2026-03-10"), ticket=rows)).pairs.empty
    assert len(find_duplicates(lake(tmp_path, as_of=at("2026-03-21"), ticket=rows)).pairs) == 1


# --- the command --------------------------------------------------------------------------------------------------


def said_by_command(folder: Path, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    typer.main.get_command(app)(["duplicates", *arguments, "-w", str(folder), "--json"], standalone_mode=False)
    return json.loads(capsys.readouterr().out)


def test_the_command_finds_lists_and_decides(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "workbench.yml").write_text("name: x\n")
    snapshot_of(tmp_path / "data" / "lake", pd.DataFrame([ticket("A", "2026-03-01"), ticket("B", "2026-03-02")]).assign(
        created_at=lambda rows: pd.to_datetime(rows["created_at"], utc=True)))  # fmt: skip
    found = said_by_command(tmp_path, capsys, "find")
    assert (found["tickets"], found["pairs"], found["new"]) == (2, 1, 1)
    assert said_by_command(tmp_path, capsys, "find")["new"] == 0
    (row,) = said_by_command(tmp_path, capsys, "list")
    assert LEAK not in json.dumps(row, ensure_ascii=False)
    decided = said_by_command(tmp_path, capsys, "decide", row["pair_id"], "same", "--note", "one visit")
    assert (decided["decision"], decided["note"]) == ("same", "one visit")
    assert said_by_command(tmp_path, capsys, "list") == []
    assert said_by_command(tmp_path, capsys, "links") == {
        "links": [],
        "customers": [{"table": "ticket", "rows": 2, "filled": 2, "keys": 1, "shared": 0, "share_shared": 0.0}],
    }
