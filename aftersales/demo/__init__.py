"""The demo world: a smart-lock maker's after-sales data with a planted cause, as its own systems would export it.

Nothing else of the package is imported here, and nothing else reads `truth.yml`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml

from . import exports, files
from .failures import LEAK, LEAK_FACTOR, MODES
from .layouts import APP, DEALER, EMAIL, HOTLINE
from .units import AS_OF, BAD_BATCH, BAD_SUPPLIER, OLD_REGION, PRODUCTS
from .world import World, make_world, world_figures

__all__ = ["write_demo"]

ACTION = {
    "action_id": "A-2022-07",
    "title": "Battery cells of S07: new cell seal, from batch 2022Q3 on",
    "title_zh": "更换 S07 电池密封工艺, 自 2022Q3 批次起",
    "kind": "supplier change",
    "owner": "supplier quality",
    "state": "implemented",
    "created_at": "2022-06-20",
    "implemented_at": "2022-07-01",
    "review_at": "2024-01-15",
    "failure_mode": LEAK,
    "dimension": "supplier",
    "value": BAD_SUPPLIER,
    "cut_dimension": "batch",
    "before": BAD_BATCH,
    "after": "2022Q3;2022Q4;2023Q1",
}
SPARSE_ONE_IN = 3  # tickets of the app are exported without the keys of their empty values
Report = dict[str, tuple[int, dict[str, int]]]  # file -> rows written, dirt counts


def _write_units(world: World, folder: Path, rng: np.random.Generator) -> Report:
    table, dirt = exports.unit_export(rng, world)
    files.write_csv(table, folder / "mes_units.csv.gz")
    return {"mes_units.csv.gz": (len(table), dirt)}


def _write_products(world: World, folder: Path, rng: np.random.Generator) -> Report:
    launched = pd.to_datetime(PRODUCTS["launched_on"])
    table = pd.DataFrame(
        {
            "产品编码 Product ID": PRODUCTS["product_id"],
            "SKU": PRODUCTS["sku"],
            "型号（名称） Model": PRODUCTS["model"],
            "系列 Family": PRODUCTS["family"],
            "品类": "智能门锁 smart lock",
            "品牌 Brand": PRODUCTS["brand"],
            "代 Generation": PRODUCTS["generation"],
            "上市日期 / Launched on": launched.dt.to_pydatetime(),
            "维护时间 Updated": (launched - pd.Timedelta(days=30)).dt.to_pydatetime(),
        }
    ).astype(object)
    table = pd.concat([table, table.iloc[[3]]], ignore_index=True)  # one product is listed twice
    files.write_xlsx(table, folder / "products.xlsx", sheet="产品主数据")
    return {"products.xlsx": (len(table), {"exact_duplicate": 1})}


def _write_hotline(world: World, folder: Path, rng: np.random.Generator) -> Report:
    """One file per year; a row whose creation time is unreadable stays in the year of its registration."""
    table, dirt = exports.ticket_export(rng, world, HOTLINE)
    table = table.drop(columns="_surplus")
    year = table[HOTLINE.headers["known_at"]].str[:4]
    report: Report = {}
    for name in sorted(year.unique()):
        part = table[year == name]
        files.write_csv(part, folder / f"hotline_{name}.csv", encoding="gb18030", line="\r\n")
        report[f"hotline_{name}.csv"] = (len(part), {})
    return report | {"hotline_*.csv": (len(table), dirt)}


def _write_app(world: World, folder: Path, rng: np.random.Generator) -> Report:
    table, dirt = exports.ticket_export(rng, world, APP)
    table = table.drop(columns="_surplus")
    lacking = files.write_json_lines(table, folder / "app_tickets.jsonl.gz", sparse_one_in=SPARSE_ONE_IN)
    return {"app_tickets.jsonl.gz": (len(table), dirt | {"lines_lacking_keys": lacking})}


def _write_email(world: World, folder: Path, rng: np.random.Generator) -> Report:
    table, dirt = exports.ticket_export(rng, world, EMAIL)
    files.write_xlsx(table.drop(columns="_surplus"), folder / "email_tickets.xlsx", sheet="Cases")
    return {"email_tickets.xlsx": (len(table), dirt)}


def _write_dealer(world: World, folder: Path, rng: np.random.Generator) -> Report:
    table, dirt = exports.ticket_export(rng, world, DEALER)
    surplus = table["_surplus"].to_numpy(dtype=int)
    files.write_ragged_tsv(table.drop(columns="_surplus"), surplus, folder / "dealer_portal.tsv")
    return {"dealer_portal.tsv": (len(table), dirt)}


def _write_repairs(world: World, folder: Path, rng: np.random.Generator) -> Report:
    table, dirt = exports.repair_export(rng, world)
    files.write_csv(table, folder / "repairs.csv.gz", separator=";")
    return {"repairs.csv.gz": (len(table), dirt)}


def _write_surveys(world: World, folder: Path, rng: np.random.Generator) -> Report:
    table, dirt = exports.survey_export(rng, world)
    files.write_json_array(table, folder / "surveys.json")
    return {"surveys.json": (len(table), dirt)}


def _write_shipments(world: World, folder: Path, rng: np.random.Generator) -> Report:
    table, dirt = exports.shipment_export(rng, world)
    files.write_parquet(table, folder / "shipments.parquet")
    return {"shipments.parquet": (len(table), dirt)}


def _write_actions(world: World, folder: Path, rng: np.random.Generator) -> Report:
    files.write_csv(pd.DataFrame([ACTION]), folder / "actions.csv")
    return {"actions.csv": (1, {})}


WRITERS: tuple[Callable[[World, Path, np.random.Generator], Report], ...] = (
    _write_units,
    _write_products,
    _write_hotline,
    _write_app,
    _write_email,
    _write_dealer,
    _write_repairs,
    _write_surveys,
    _write_shipments,
    _write_actions,
)


def _truth(world: World, report: Report, tickets: int, seed: int) -> dict[str, Any]:
    total = 1 + (LEAK_FACTOR - 1) * MODES[LEAK]
    return {
        "case_id": "K05",
        "as_of": str(AS_OF),
        "arguments": {"tickets": tickets, "seed": seed},
        "cell": {"batch": BAD_BATCH, "supplier": BAD_SUPPLIER},
        "failure_mode": LEAK,
        "effect": {
            "leak_ratio": LEAK_FACTOR,
            "all_ratio": total,
            "leak_share_in_cell": LEAK_FACTOR * MODES[LEAK] / total,
            "after_change_leak": 1 / LEAK_FACTOR - 1,
            "after_change_all": 1 / total - 1,
        },
        "action": ACTION,
        "distractor": {"region": OLD_REGION, "effect": 1.0},
        "decoy": {"supplier": "S03", "effect": 1.0},
        "units": len(world.units),
        "tickets": len(world.tickets),
        "repairs": len(world.repairs),
        "failures": int((world.repairs["result"] != "ntf").sum()),
        "failures_not_booked_yet": int(len(world.failures) - (world.repairs["result"] != "ntf").sum()),
        "figures": world_figures(world),
        "rows": {name: rows for name, (rows, _) in report.items() if "*" not in name},
        "dirt": {name: dirt for name, (_, dirt) in report.items() if dirt},
    }


def write_demo(folder: Path, *, tickets: int = 100_000, seed: int = 20_220_401) -> dict[str, Any]:
    """The truth about the demo world just written to `folder`; the same arguments give the same bytes.

    Parameters
    ----------
    folder
        Where the exports and `truth.yml` go; made when missing, files of the same names are replaced.
    tickets
        Number of tickets of the clean world (at least 1000); units, repairs, surveys and orders scale with it.
    seed
        Start of the random numbers.

    Returns
    -------
    The content of `truth.yml`: planted cell, effects and figures of the clean world, `rows` per file as written,
    `dirt` counts per file (the hotline's four files together under `hotline_*.csv`).
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    world = make_world(tickets=tickets, seed=seed)
    report: Report = {}
    for number, write in enumerate(WRITERS):
        report |= write(world, folder, np.random.default_rng([seed, 100 + number]))
    truth = _truth(world, report, tickets, seed)
    text = yaml.safe_dump(truth, allow_unicode=True, sort_keys=False)
    (folder / "truth.yml").write_text(text, encoding="utf-8")
    return truth
