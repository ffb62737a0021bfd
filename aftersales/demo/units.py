"""The maker's products and units: who built what, when, where it went and how long it was in service."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pandas as pd

FIRST_BUILD = np.datetime64("2021-07-01", "D")
LAST_BUILD_MONTH = np.datetime64("2025-09", "M")
LAUNCH = np.datetime64("2022-01-01", "D")  # first customer: stock built before waits for the market launch
AS_OF = np.datetime64("2025-12-31", "D")
END = np.datetime64("2026-01-01T00:00:00", "s")  # end of the day AS_OF, local time

BAD_SUPPLIER, BAD_BATCH = "S07", "2022Q2"  # K05, the planted cell
OLD_REGION = "西北"  # the distractor: old units, no effect of its own
GROWTH_PER_MONTH = 1.01
UNITS_PER_TICKET = 0.9

SUPPLIERS = {"S01": 0.25, "S03": 0.45, "S05": 0.15, "S07": 0.15}  # S03 is the decoy: 3 x the exposure of S07
CHANNELS_SOLD = {"旗舰店": 0.34, "经销商": 0.36, "京东自营": 0.18, "工程, 渠道": 0.12}
CHANNELS_SOLD_OVERSEAS = {"Amazon": 0.6, "Dealer": 0.4}
REGIONS = {"华东": 0.28, "华南": 0.19, "华北": 0.15, "华中": 0.12, "西南": 0.10, "东北": 0.05, "Overseas": 0.11}
OLD_REGION_SHARE = 0.08
OLD_REGION_EARLY_SHARE = 0.85  # of its units built up to 2022Q4
EARLY_UNTIL = np.datetime64("2023-01", "M")
PRODUCTION_RAMP = {"2021Q3": 0.5, "2021Q4": 0.75}
PRODUCTION_BY_QUARTER = {1: 0.85, 2: 1.25, 3: 0.90, 4: 1.00}  # Q2 builds for the 618 sale
FIRMWARE = [
    ("2021-07-01", "1.6.0"),
    ("2022-02-10", "1.7.1"),
    ("2022-09-05", "1.8.2"),
    ("2023-05-15", "1.9.0"),
    ("2024-01-20", "2.0.3"),
    ("2024-10-08", "2.1.0"),
    ("2025-06-01", "2.2.1"),
]

# product_id, sku, model, family, brand, generation, launched_on, share of production while sold
PRODUCTS = pd.DataFrame(
    [
        ("LK-L1", "6901001", "L1", "L", "锁匠 Locksmith", "1", "2022-01-01", 0.26),
        ("LK-L2P", "6901002", "L2 Pro", "L", "锁匠 Locksmith", "2", "2022-01-01", 0.22),
        ("LK-L3", "6901003", "L3", "L", "锁匠 Locksmith", "3", "2023-03-01", 0.20),
        ("LK-V1", "6902001", 'V1 "Vision"', "V", "锁匠 Locksmith", "1", "2022-01-01", 0.14),
        ("LK-V2P", "6902002", "V2,Plus", "V", "锁匠 Locksmith", "2", "2023-09-01", 0.10),
        ("LK-SX", "6902003", "锁匠 X", "V", "锁匠 Locksmith", "1", "2022-01-01", 0.08),
    ],
    columns=["product_id", "sku", "model", "family", "brand", "generation", "launched_on", "share"],
)


def categories(codes: np.ndarray, names: Iterable[str]) -> pd.Categorical:
    """Positions in a list of names as categories; -1 is missing."""
    positions: list[int] | np.ndarray[tuple[int], np.dtype[np.int64]] = np.asarray(codes, dtype="int64")
    return pd.Categorical.from_codes(positions, pd.Index(list(names), dtype=object))


def drawn(rng: np.random.Generator, shares: dict[str, float], size: int) -> pd.Categorical:
    """`size` independent draws from a table of shares, as categories in the table's order."""
    weights = np.array(list(shares.values()))
    edges = np.cumsum(weights / weights.sum())
    codes = np.minimum(np.searchsorted(edges, rng.random(size), side="right"), len(weights) - 1)
    return categories(codes, list(shares))


def quarter_codes(days: np.ndarray) -> pd.Categorical:
    """Production quarter of each day, written like 2022Q2."""
    months = days.astype("datetime64[M]").astype("int64")
    quarters = months // 3
    first, last = quarters.min(), quarters.max()
    names = [f"{1970 + q // 4}Q{q % 4 + 1}" for q in range(first, last + 1)]
    return categories(quarters - first, names)


def _month_weights() -> tuple[np.ndarray, np.ndarray]:
    months = np.arange(FIRST_BUILD.astype("datetime64[M]"), LAST_BUILD_MONTH + 1)
    weights = GROWTH_PER_MONTH ** np.arange(len(months))
    codes = quarter_codes(months.astype("datetime64[D]")).astype(str)
    ramp = np.array([PRODUCTION_RAMP.get(code, 1.0) for code in codes])
    season = np.array([PRODUCTION_BY_QUARTER[int(code[-1])] for code in codes])
    return months, weights * ramp * season


def _build_days(rng: np.random.Generator, size: int) -> np.ndarray:
    months, weights = _month_weights()
    edges = np.cumsum(weights / weights.sum())
    chosen = months[np.minimum(np.searchsorted(edges, rng.random(size)), len(months) - 1)]
    start = chosen.astype("datetime64[D]")
    length = ((chosen + 1).astype("datetime64[D]") - start).astype("int64")
    return np.sort(start + (rng.random(size) * length).astype("int64"))


def _regions(rng: np.random.Generator, built: np.ndarray) -> pd.Categorical:
    """Regions; the old region takes the same number of units from each early quarter, whatever their supplier."""
    early = built < EARLY_UNTIL
    quarter = quarter_codes(built).codes
    built_in_quarter = np.bincount(quarter) / len(built)
    share_per_quarter = OLD_REGION_SHARE * OLD_REGION_EARLY_SHARE / len(np.unique(quarter[early]))
    share_late = OLD_REGION_SHARE * (1 - OLD_REGION_EARLY_SHARE) / (~early).mean()
    is_old_region = rng.random(len(built)) < np.where(early, share_per_quarter / built_in_quarter[quarter], share_late)
    other = drawn(rng, REGIONS, len(built))
    codes = np.where(is_old_region, len(REGIONS), other.codes)
    return categories(codes, [*REGIONS, OLD_REGION])


def _products(rng: np.random.Generator, built: np.ndarray) -> pd.Categorical:
    """A product each; a product built before its production start becomes the oldest product of its family."""
    drawn_ids = drawn(rng, dict(zip(PRODUCTS["product_id"], PRODUCTS["share"], strict=True)), len(built))
    start = PRODUCTS["launched_on"].to_numpy().astype("datetime64[D]") - 60
    start[PRODUCTS["launched_on"] == "2022-01-01"] = FIRST_BUILD
    oldest = PRODUCTS["family"].map({"L": 0, "V": 3}).to_numpy()
    codes = np.where(built < start[drawn_ids.codes], oldest[drawn_ids.codes], drawn_ids.codes)
    return categories(codes, PRODUCTS["product_id"])


def _channels_sold(rng: np.random.Generator, region: pd.Categorical) -> pd.Categorical:
    home, abroad = (drawn(rng, table, len(region)) for table in (CHANNELS_SOLD, CHANNELS_SOLD_OVERSEAS))
    codes = np.where(region == "Overseas", abroad.codes + len(CHANNELS_SOLD), home.codes)
    return categories(codes, [*CHANNELS_SOLD, *CHANNELS_SOLD_OVERSEAS])


def _firmware(built: np.ndarray) -> pd.Categorical:
    released = np.array([day for day, _ in FIRMWARE], dtype="datetime64[D]")
    codes = np.searchsorted(released, built, side="right") - 1
    return categories(codes, [version for _, version in FIRMWARE])


def _service_days(rng: np.random.Generator, built: np.ndarray) -> dict[str, np.ndarray]:
    """Days shipped, sold, in service and removed; NaT where it has not happened by AS_OF."""
    size = len(built)
    launch_fill = LAUNCH - 25 + rng.integers(0, 45, size)
    shipped = np.maximum(built + rng.integers(3, 25, size), launch_fill)
    lag_days = np.exp(rng.normal(np.log(30), 0.8, size)).astype("int64") + 1
    in_service = np.maximum(shipped + lag_days, LAUNCH + rng.integers(0, 25, size))
    sold = shipped + (rng.random(size) * (in_service - shipped).astype("int64")).astype("int64")
    leaves = rng.random(size) < 0.04
    removed = in_service + 30 + rng.integers(0, 1430, size)
    never = np.datetime64("NaT", "D")
    shipped = np.where((shipped > AS_OF) | (rng.random(size) < 0.005), never, shipped)
    in_service = np.where((in_service > AS_OF) | np.isnat(shipped), never, in_service)
    sold = np.where((sold > AS_OF) | np.isnat(shipped), never, sold)
    removed = np.where(leaves & (removed <= AS_OF) & ~np.isnat(in_service), removed, never)
    return {
        "built_at": built,
        "shipped_at": shipped,
        "sold_at": sold,
        "in_service_at": in_service,
        "removed_at": removed,
    }


def _status(rng: np.random.Generator, units: pd.DataFrame) -> pd.Categorical:
    names = ["stock", "shipped", "sold", "returned", "scrapped"]
    code = units["shipped_at"].notna().to_numpy().astype(int) + units["sold_at"].notna().to_numpy()
    gone = 3 + (rng.random(len(units)) < 0.6)
    return categories(np.where(units["removed_at"].notna(), gone, code), names)


def make_units(rng: np.random.Generator, count: int) -> pd.DataFrame:
    """One row per unit in order of production, with the days of its life and its exposure in days.

    Returns
    -------
    unit_id, product_id, batch (production quarter), line, supplier, fw_version, region, channel_sold,
    built_at, shipped_at, sold_at, in_service_at, removed_at (days), status, exposure_days (in service up to AS_OF).
    """
    built = _build_days(rng, count)
    region = _regions(rng, built)
    units = pd.DataFrame(
        {
            "unit_id": np.char.add("SL", (10_000_000 + np.arange(count)).astype("U8")),
            "product_id": _products(rng, built),
            "batch": quarter_codes(built),
            "line": drawn(rng, {"A": 0.4, "B": 0.35, "C": 0.25}, count),
            "supplier": drawn(rng, SUPPLIERS, count),
            "fw_version": _firmware(built),
            "region": region,
            "channel_sold": _channels_sold(rng, region),
            **_service_days(rng, built),
        }
    )
    units["status"] = _status(rng, units)
    last_day = units["removed_at"].fillna(pd.Timestamp(AS_OF) + pd.Timedelta(days=1))
    units["exposure_days"] = (last_day - units["in_service_at"]).dt.days.fillna(0).clip(lower=0).astype("int64")
    return units


def in_bad_cell(units: pd.DataFrame) -> np.ndarray:
    """True for the units of the planted cell (supplier S07, batch 2022Q2)."""
    return ((units["supplier"] == BAD_SUPPLIER) & (units["batch"] == BAD_BATCH)).to_numpy()
