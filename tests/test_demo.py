"""The demo world: same bytes every time, the planted cause is in it, the distractor is none, the files fit."""

from __future__ import annotations

import csv
import gzip
import hashlib
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import python_calamine
import yaml

from aftersales.demo import write_demo
from aftersales.demo.exports import FAULT_SPELLINGS
from aftersales.demo.world import World, make_world

ROOT = Path(__file__).parent.parent
SOURCES = sorted((ROOT / "data" / "sources").glob("*.yml"))
TICKETS = 6_000
MONTH_DAYS = 30.4375
TICKET_SOURCES = ("hotline", "app_tickets", "email_tickets", "dealer_portal")
DAY = np.timedelta64(1, "D")


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data/demo as `write_demo` leaves it."""
    root = tmp_path_factory.mktemp("workspace")
    write_demo(root / "data" / "demo", tickets=TICKETS)
    return root


@pytest.fixture(scope="module")
def truth(workspace: Path) -> dict[str, Any]:
    return yaml.safe_load((workspace / "data" / "demo" / "truth.yml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def world() -> World:
    """A clean world large enough for ratios."""
    return make_world(tickets=60_000, seed=20_220_401)


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def source_of(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def read_rows(path: Path, source: dict[str, Any]) -> tuple[list[str], list[list[Any]]]:
    """Header and rows of one file, read with nothing but the standard readers and the YAML's own description."""
    kind = source["format"]
    if kind == "parquet":
        table = pd.read_parquet(path)
        return list(table.columns), table.to_numpy(dtype=object).tolist()
    if kind == "xlsx":
        rows = python_calamine.CalamineWorkbook.from_path(path).get_sheet_by_name(source["sheet"]).to_python()
        return [str(name) for name in rows[0]], rows[1:]
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    text = content.decode(source["encoding"])
    if kind in ("json", "jsonl"):
        records = json.loads(text) if kind == "json" else [json.loads(line) for line in text.splitlines()]
        names = list(dict.fromkeys(name for record in records for name in record))
        return names, [[record.get(name, "") for name in names] for record in records]
    delimiter = "\t" if kind == "tsv" else source.get("delimiter", ",")
    rows = list(csv.reader(text.splitlines(keepends=True), delimiter=delimiter))
    return rows[0], rows[1:]


def read_source(workspace: Path, name: str) -> tuple[list[str], list[list[Any]]]:
    """Header and rows of all files of a source."""
    source = source_of(ROOT / "data" / "sources" / f"{name}.yml")
    header: list[str] = []
    rows: list[list[Any]] = []
    for path in sorted(workspace.glob(source["files"])):
        header, more = read_rows(path, source)
        rows += more
    return header, rows


def column(header: list[str], rows: list[list[Any]], name: str) -> list[Any]:
    return [row[header.index(name)] for row in rows]


def raw_name(spec: str | dict[str, Any]) -> list[str]:
    """Raw columns a column entry of a YAML reads."""
    origin = spec if isinstance(spec, str) else spec.get("from", [])
    return [origin] if isinstance(origin, str) else list(origin)


def raw_names(source: dict[str, Any]) -> set[str]:
    names: set[str] = set()
    for table in source["tables"].values():
        specs = [*table["columns"].values(), *([table["version"]] if "version" in table else [])]
        names |= {name for spec in specs for name in raw_name(spec)} | set(table.get("where", {}))
    return names


def matched_ratio(world: World, inside: np.ndarray, failure_mode: str | None = None) -> tuple[float, float]:
    """Crude and age-matched (Mantel-Haenszel over months in service) rate ratio, in plain pandas."""
    units = world.units.assign(inside=inside)
    life = units["exposure_days"] / MONTH_DAYS
    months = pd.concat(
        [pd.DataFrame({"inside": inside, "month": m, "t": (life - m).clip(0, 1)}) for m in range(49)], ignore_index=True
    )
    exposure = months.pivot_table(index="month", columns="inside", values="t", aggfunc="sum")
    repairs = world.repairs[world.repairs["result"] != "ntf"]
    if failure_mode:
        repairs = repairs[repairs["failure_mode"] == failure_mode]
    tickets = world.tickets.iloc[repairs["ticket"]]
    unit = units.iloc[tickets["unit"]]
    age = (tickets["occurred_at"].to_numpy() - unit["in_service_at"].to_numpy()) / DAY
    events = pd.crosstab((age / MONTH_DAYS).astype(int), unit["inside"].to_numpy())
    events = events.reindex(index=exposure.index, columns=[False, True], fill_value=0)
    crude = (events[True].sum() / exposure[True].sum()) / (events[False].sum() / exposure[False].sum())
    total = exposure.sum(axis=1).where(lambda t: t > 0)
    above, below = (events[True] * exposure[False] / total).sum(), (events[False] * exposure[True] / total).sum()
    return crude, above / below


def cell_of(world: World) -> np.ndarray:
    return (world.units["supplier"].eq("S07") & world.units["batch"].eq("2022Q2")).to_numpy()


def test_the_same_arguments_give_the_same_bytes_and_another_seed_does_not(workspace: Path, tmp_path: Path) -> None:
    write_demo(tmp_path / "again", tickets=TICKETS)
    write_demo(tmp_path / "other", tickets=TICKETS, seed=7)
    first = digests(workspace / "data" / "demo")
    assert digests(tmp_path / "again") == first
    other = digests(tmp_path / "other")
    assert {name for name in first if first[name] == other[name]} == {"actions.csv", "products.xlsx"}


def test_too_small_a_world_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least 1000"):
        write_demo(tmp_path, tickets=999)


def test_the_planted_cell_fails_twice_as_often_at_equal_age_and_leaks_five_times(world: World) -> None:
    _, everything = matched_ratio(world, cell_of(world))
    _, leak = matched_ratio(world, cell_of(world), "battery_leakage")
    assert everything == pytest.approx(2.0, abs=0.2)
    assert leak == pytest.approx(5.0, abs=0.6)


def test_leaks_are_five_eighths_of_the_failures_in_the_planted_cell(world: World) -> None:
    failures = world.failures[cell_of(world)[world.failures["unit"]]]
    assert (failures["failure_mode"] == "battery_leakage").mean() == pytest.approx(0.625, abs=0.04)
    others = world.failures.drop(failures.index)
    assert (others["failure_mode"] == "battery_leakage").mean() == pytest.approx(0.25, abs=0.015)


def test_later_batches_of_the_supplier_are_normal_again(world: World) -> None:
    later = (world.units["supplier"].eq("S07") & world.units["batch"].astype(str).gt("2022Q2")).to_numpy()
    assert matched_ratio(world, later)[1] == pytest.approx(1.0, abs=0.1)


def test_the_distractor_region_looks_bad_only_because_its_units_are_old(world: World) -> None:
    region = (world.units["region"] == "西北").to_numpy()
    crude, matched = matched_ratio(world, region)
    assert crude >= 1.25
    assert 0.9 < matched < 1.1
    assert cell_of(world)[region].mean() < 0.03
    mix = world.units["supplier"].groupby(region).value_counts(normalize=True).unstack()
    assert (mix.loc[True] - mix.loc[False]).abs().max() < 0.03


def test_the_decoy_supplier_has_three_times_the_exposure_and_a_normal_rate(world: World) -> None:
    months = world.units.groupby("supplier", observed=True)["exposure_days"].sum()
    assert months["S03"] / months["S07"] == pytest.approx(3.0, abs=0.15)
    batch = world.units[world.units["batch"] == "2022Q2"]
    others = batch[batch["supplier"] != "S07"]
    leaks = world.failures[world.failures["failure_mode"] == "battery_leakage"]["unit"]
    counts = world.units["supplier"].iloc[leaks].value_counts()
    assert 0.4 < counts["S07"] / counts["S03"] < 1.2
    in_batch = others.assign(n=leaks.value_counts().reindex(others.index, fill_value=0))
    rate = (
        in_batch.groupby(in_batch["supplier"] == "S03")["n"].sum()
        / in_batch.groupby(in_batch["supplier"] == "S03")["exposure_days"].sum()
    )
    assert rate[True] / rate[False] == pytest.approx(1.0, abs=0.25)


def test_the_figures_in_the_truth_are_those_of_the_clean_world(world: World, truth: dict[str, Any]) -> None:
    small = make_world(tickets=TICKETS, seed=20_220_401)
    crude, matched = matched_ratio(small, cell_of(small), "battery_leakage")
    figures = truth["figures"]["planted_leak"]
    assert figures["crude_ratio"] == pytest.approx(crude, abs=1e-3)
    assert figures["age_matched_ratio"] == pytest.approx(matched, abs=1e-3)
    assert truth["tickets"] == TICKETS == len(small.tickets)


def test_a_fifth_of_the_tickets_are_confirmed_failures_and_few_stay_open(world: World) -> None:
    assert 0.18 < (world.repairs["result"] != "ntf").sum() / len(world.tickets) < 0.25
    assert 0.005 < (~world.tickets["status"].isin(["resolved", "closed"])).mean() < 0.025
    assert 0.06 < (world.tickets["channel"] == "email").mean() < 0.10


def test_about_six_percent_of_repairs_come_back_within_30_days_with_the_same_fault(world: World) -> None:
    repairs = world.repairs[world.repairs["result"] != "ntf"].reset_index(drop=True)
    tickets = world.tickets.iloc[repairs["ticket"]].reset_index(drop=True)
    table = repairs[["failure_mode", "finished_at"]].assign(unit=tickets["unit"], created_at=tickets["created_at"])
    table = table.sort_values(["unit", "failure_mode", "created_at"])
    gap = table.groupby(["unit", "failure_mode"])["created_at"].shift(-1) - table["finished_at"]
    assert 0.05 < gap.between(pd.Timedelta(0), pd.Timedelta(days=30)).mean() < 0.075


def test_failures_are_booked_with_a_median_lag_of_3_days_and_p95_of_21(world: World) -> None:
    first = world.failures[~world.failures["is_repeat"]]
    lag_days = (first["booked_at"] - first["occurred_at"]) / DAY
    assert lag_days.median() == pytest.approx(3, abs=0.4)
    assert lag_days.quantile(0.95) == pytest.approx(21, abs=2)


def test_moments_of_a_ticket_come_in_order_and_not_after_the_end(world: World) -> None:
    tickets = world.tickets
    names = ["occurred_at", "created_at", "accepted_at", "first_reply_at", "first_resolved_at", "closed_at"]
    for earlier, later in itertools.pairwise(names):
        both = tickets[earlier].notna() & tickets[later].notna()
        assert (tickets[earlier] <= tickets[later])[both].all(), (earlier, later)
    for name in names:
        assert tickets[name].max() < pd.Timestamp("2026-01-01")
    assert (world.repairs[["labour_cny", "parts_cny"]] >= 0).all().all()


def test_slow_resolution_costs_satisfaction(world: World) -> None:
    answered = world.surveys[(world.surveys["score"] >= 0) & (world.surveys["instrument"] == "csat")]
    tickets = world.tickets.iloc[answered["ticket"]]
    hours = ((tickets["last_resolved_at"] - tickets["created_at"]) / DAY * 24).to_numpy()
    fast, slow = (answered["score"].to_numpy()[rows].mean() for rows in (hours < 8, hours > 72))
    assert fast - slow > 0.4
    assert 0.3 < (world.surveys["score"] >= 0).mean() < 0.4


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_source_finds_its_files_and_every_column_it_names_exists(path: Path, workspace: Path) -> None:
    source = source_of(path)
    assert source["name"] == path.stem
    found = sorted(workspace.glob(source["files"]))
    assert found
    for file in found:
        header, _ = read_rows(file, source)
        assert not raw_names(source) - set(header), file.name
    for table in source["tables"].values():
        assert "known_at" in table["columns"]


def test_all_data_files_belong_to_a_source(workspace: Path) -> None:
    files = {path.name for path in (workspace / "data" / "demo").iterdir()}
    sourced = {path.name for source in SOURCES for path in workspace.glob(source_of(source)["files"])}
    assert files - sourced == {"actions.csv", "truth.yml"}


def test_rows_per_file_are_those_of_the_truth(workspace: Path, truth: dict[str, Any]) -> None:
    counted = {"actions.csv": 1}
    for path in SOURCES:
        source = source_of(path)
        counted |= {file.name: len(read_rows(file, source)[1]) for file in workspace.glob(source["files"])}
    assert counted == truth["rows"]


@pytest.mark.parametrize("name", TICKET_SOURCES)
def test_dirt_counts_of_tickets_are_those_found_in_the_file(name: str, workspace: Path, truth: dict[str, Any]) -> None:
    source = source_of(ROOT / "data" / "sources" / f"{name}.yml")
    columns = source["tables"]["ticket"]["columns"]
    dirt = truth["dirt"][source["files"].removeprefix("data/demo/")]
    header, rows = read_source(workspace, name)
    ids = [
        value if value not in (None, "N/A") else "" for value in column(header, rows, raw_name(columns["ticket_id"])[0])
    ]
    assert ids.count("") == dirt["missing_id"]
    repeated = len(ids) - dirt["missing_id"] - len(set(ids) - {""})
    assert repeated == dirt["exact_duplicate"] + dirt["newer_state"]
    copies = Counter(tuple(map(str, row)) for row in rows)
    assert sum(count - 1 for count in copies.values()) == dirt["exact_duplicate"]
    types = [str(value).strip(" \u3000") for value in column(header, rows, raw_name(columns["ticket_type"])[0])]
    assert sum(value not in columns["ticket_type"]["map"] for value in types) == dirt["unknown_enum"]
    texts = column(header, rows, raw_name(columns["description"])[0])
    assert sum("\n" in text for text in texts) == dirt["multi_line_text"] > 0


def test_ragged_rows_of_the_dealer_portal_are_counted(workspace: Path, truth: dict[str, Any]) -> None:
    header, rows = read_source(workspace, "dealer_portal")
    dirt = truth["dirt"]["dealer_portal.tsv"]
    assert sum(len(row) < len(header) for row in rows) == dirt["ragged_short"] > 0
    assert sum(len(row) > len(header) for row in rows) == dirt["ragged_long"] > 0


def test_scores_outside_the_scale_and_negative_costs_are_counted(workspace: Path, truth: dict[str, Any]) -> None:
    header, rows = read_source(workspace, "surveys")
    pairs = zip(column(header, rows, "score"), column(header, rows, "scale_max"), strict=True)
    outside = sum(score is not None and not 0 <= score <= top for score, top in pairs)
    assert outside == truth["dirt"]["surveys.json"]["score_outside_scale"] > 0
    header, rows = read_source(workspace, "repairs")
    costs = [float(cost) for cost in column(header, rows, "parts_cost_cny") if cost]
    assert sum(cost < 0 for cost in costs) == truth["dirt"]["repairs.csv.gz"]["negative_cost"] > 0


def test_the_planted_truth_survives_the_dirt(workspace: Path) -> None:
    """Joined by serial number as exported, nearly all repairs find their unit, and tickets their repair."""
    header, rows = read_source(workspace, "mes_units")
    serials = {str(value).strip(" \u3000") for value in column(header, rows, "serial_no")}
    header, rows = read_source(workspace, "repairs")
    wide = str.maketrans("０１２３４５６７８９", "0123456789")
    linked = [str(value).translate(wide).upper() in serials for value in column(header, rows, "serial_no")]
    assert np.mean(linked) > 0.98
    tickets: set[str] = set()
    for name in TICKET_SOURCES:
        columns = source_of(ROOT / "data" / "sources" / f"{name}.yml")["tables"]["ticket"]["columns"]
        tickets |= set(column(*read_source(workspace, name), raw_name(columns["ticket_id"])[0]))
    assert np.mean([value in tickets for value in column(header, rows, "ticket_no")]) > 0.98


def test_every_spelling_of_a_failure_mode_is_in_the_code_list() -> None:
    with (ROOT / "data" / "reference" / "failure_modes.csv").open(encoding="utf-8", newline="") as file:
        listed = {row["source_value"]: row["target_value"] for row in csv.DictReader(file)}
    for mode, spellings in FAULT_SPELLINGS.items():
        assert {listed[spelling.lower()] for spelling in spellings} == {mode}


def test_phone_numbers_are_of_the_fixed_fake_pattern(workspace: Path) -> None:
    header, rows = read_source(workspace, "hotline")
    with_phone = pd.Series(column(header, rows, "问题描述")).str.extract(r"(1[3-9]\d[- ]?\d{4}[- ]?\d{4})")[0].dropna()
    assert len(with_phone) > 100
    assert with_phone.str.startswith("138-0000-").all()


def test_actions_name_the_supplier_change(workspace: Path, truth: dict[str, Any]) -> None:
    with (workspace / "data" / "demo" / "actions.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    header = (
        "action_id,title,title_zh,kind,owner,state,created_at,implemented_at,review_at,failure_mode,dimension,value,"
        "cut_dimension,before,after"
    )
    assert ",".join(rows[0]) == header
    assert rows == [truth["action"]]
