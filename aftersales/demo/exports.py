"""The clean world written down by the maker's systems: each function returns one dirty table and its dirt counts."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .cells import as_cells, as_utc, in_words, latest, written
from .dirt import DirtyTable, full_width, trailing_blanks
from .layouts import DEALER_EXTRA_HEADERS, TicketLayout
from .texts import survey_comments, written_texts
from .units import END
from .world import World

DAY = "%Y-%m-%d"
LOCAL_ISO = "%Y-%m-%dT%H:%M:%S"
MINUTE = "%Y-%m-%d %H:%M"
RESULT_WORDS = {
    "fixed": ("fixed", "已修复", "FIXED"),
    "ntf": ("NTF", "未发现故障"),
    "referred": ("referred", "转厂维修"),
}
# As the workshop writes them; data/reference/failure_modes.csv maps the lower-case spelling to the failure mode.
FAULT_SPELLINGS = {
    "battery_leakage": ("BAT-LEAK", "Bat-Leak", "bat-leak", "电池漏液", "漏液", "Battery leakage"),
    "fingerprint_fault": ("FP-FAIL", "fp-fail", "指纹头故障", "指纹模块不良", "Fingerprint fault"),
    "motor_stall": ("MOT-STALL", "Mot-stall", "电机堵转", "电机卡死", "Motor stall"),
    "wifi_drop": ("WIFI-DROP", "WiFi-drop", "WiFi掉线", "联网模块故障", "Wifi drop"),
    "keypad_fault": ("KEY-FAIL", "key-fail", "键盘失灵", "按键故障", "Keypad fault"),
    "mechanical_jam": ("MECH-JAM", "Mech-Jam", "机械卡滞", "锁体卡死", "Mechanical jam"),
    "no_fault_found": ("NTF", "未见异常"),
}
TICKET_MOMENTS = (
    "occurred_at", "created_at", "accepted_at", "first_reply_at", "first_resolved_at", "last_resolved_at", "closed_at",
    "known_at", "updated_at",
)  # fmt: skip
HANDLING_MOMENTS = ("first_resolved_at", "last_resolved_at", "closed_at")
Dirty = tuple[pd.DataFrame, dict[str, int]]


def _drawn_words(rng: np.random.Generator, codes: np.ndarray, words: dict[str, tuple[str, ...]]) -> np.ndarray:
    """One of the spellings of each code at random."""
    result = np.full(len(codes), "", dtype=object)
    for code, options in words.items():
        rows = np.flatnonzero(codes == code)
        result[rows] = np.array(options, dtype=object)[rng.integers(0, len(options), len(rows))]
    return result


def _not_after_end(moments: np.ndarray) -> np.ndarray:
    return np.minimum(moments, END - 1)


def _ticket_cells(rng: np.random.Generator, world: World, layout: TicketLayout) -> pd.DataFrame:
    """The channel's tickets with canonical column names and clean cells in the channel's words."""
    tickets = world.tickets[world.tickets["channel"] == layout.channel]
    units = world.units.iloc[tickets["unit"].to_numpy()].reset_index(drop=True)
    tickets = tickets.reset_index(drop=True)
    subject, description = written_texts(rng, tickets)
    stored = tickets["created_at"].to_numpy() + rng.integers(0, 1800, len(tickets)).astype("timedelta64[s]")
    moments = {name: tickets[name].to_numpy() for name in TICKET_MOMENTS[:-2]}
    moments["known_at"] = _not_after_end(stored)
    moments["updated_at"] = latest(*moments.values())
    teams = np.array(layout.teams, dtype=object)
    codes = tickets.assign(product_id=units["product_id"], region=units["region"])
    table: dict[str, np.ndarray] = {name: in_words(codes[name], words) for name, words in layout.words.items()}
    table |= {name: _moment_cells(values, layout) for name, values in moments.items()}
    table |= {
        "ticket_id": tickets["ticket_id"].to_numpy().astype(object),
        "unit_id": units["unit_id"].to_numpy().astype(object),
        "customer_key": np.array([f"C{number:07d}" for number in tickets["unit"] * 19 // 20], dtype=object),
        "language": tickets["language"].astype(object).to_numpy(),
        "team": teams[rng.integers(0, len(teams), len(tickets))],
        "subject": subject,
        "description": description,
        "human_touched": tickets["human_touched"].to_numpy().astype(object),
        "reopened_n": tickets["reopened_n"].to_numpy().astype(object),
    }
    return pd.DataFrame({name: table[name] for name in layout.headers}, dtype=object)


def _moment_cells(moments: np.ndarray, layout: TicketLayout) -> np.ndarray:
    zoned = as_utc(moments) if layout.is_utc else moments
    return as_cells(zoned) if layout.moments is None else written(zoned, layout.moments)


def _dirty_ids(dirty: DirtyTable, id_column: str, serial_column: str) -> None:
    """Ids that are missing, and serial numbers that are missing, unknown or badly typed."""
    dirty.put("missing_id", id_column, ("", "N/A"), 0.0003)
    dirty.put("missing_serial", serial_column, ("", "N/A", "-"), 0.03)
    dirty.put("unknown_serial", serial_column, ("SL99990001", "看不清", "SL0000", "UNKNOWN"), 0.02)
    dirty.change("lower_case_code", serial_column, str.lower, 0.01)
    dirty.change("full_width_digits", serial_column, full_width, 0.01)
    dirty.change("trailing_blanks", serial_column, trailing_blanks, 0.01)


def _older_tickets(dirty: DirtyTable, layout: TicketLayout) -> None:
    """1 % of the tickets were delivered before, still in progress."""
    rows = dirty.rows("newer_state", 0.01, dirty.is_filled("closed_at") & dirty.is_filled("first_reply_at"))
    empty = None if layout.moments is None else ""
    older: dict[str, object] = dict.fromkeys(HANDLING_MOMENTS, empty)
    older |= {"status": layout.words["status"]["in_progress"], "reopened_n": 0}
    dirty.deliver_older_state(rows, older | {"updated_at": dirty.table["first_reply_at"].to_numpy()[rows]})


def ticket_export(rng: np.random.Generator, world: World, layout: TicketLayout) -> Dirty:
    """One channel's tickets under the channel's headers, dirty; a dealer's file also has ragged rows.

    Returns
    -------
    The table of cells in order of delivery (column `_surplus`: cells too many, negative = too few) and the counts.
    """
    dirty = DirtyTable(_ticket_cells(rng, world, layout), rng)
    _dirty_ids(dirty, "ticket_id", "unit_id")
    dirty.put("unknown_enum", "ticket_type", (layout.unknown_type,), 0.0005)
    dirty.put("unparseable_created", "created_at", layout.bad_dates, 0.0003)
    dirty.put("unparseable_resolved", "last_resolved_at", layout.bad_dates, 0.001)
    dirty.swap("closed_before_created", "created_at", "closed_at", 0.0005)
    dirty.put("missing_symptom", "symptom_code", ("", "N/A", "-"), 0.05)
    dirty.change("lower_case_code", "symptom_code", str.lower, 0.01)
    dirty.change("trailing_blanks", "ticket_type", trailing_blanks, 0.01)
    _older_tickets(dirty, layout)
    dirty.table["_surplus"] = 0
    if layout.channel == "dealer":
        dirty.table[DEALER_EXTRA_HEADERS[0]] = "D" + dirty.table["customer_key"].str[-3:]
        dirty.table[DEALER_EXTRA_HEADERS[1]] = ""
        _ragged(dirty)
    dirty.spell_missing([name for name in ("closed_at", "symptom_code", "accepted_at") if name in dirty.table], 0.3)
    dirty.duplicate(0.02)
    table = dirty.done().rename(columns=layout.headers)
    dirty.counts["multi_line_text"] = int(table[layout.headers["description"]].str.contains("\n").sum())
    return table, dirty.counts


def _ragged(dirty: DirtyTable) -> None:
    """Some rows lose their last one to three cells, a few have one too many."""
    short = dirty.rows("ragged_short", 0.004)
    dirty.write("_surplus", short, [-cells for cells in dirty.rng.integers(1, 4, len(short))])
    long = dirty.rows("ragged_long", 0.0005)
    dirty.write("_surplus", long, [1] * len(long))


def unit_export(rng: np.random.Generator, world: World) -> Dirty:
    """The units as ERP, MES and cloud export them together; days in ISO, bookkeeping in local time."""
    units = world.units
    days = {
        name: units[name].to_numpy() for name in ("built_at", "shipped_at", "sold_at", "in_service_at", "removed_at")
    }
    known = np.where(np.isnat(days["in_service_at"]), days["shipped_at"], days["in_service_at"])
    known = np.where(np.isnat(known), days["built_at"], known).astype("datetime64[s]")
    recorded = _not_after_end(known + rng.integers(86_400, 180_000, len(units)).astype("timedelta64[s]"))
    updated = _not_after_end(latest(recorded, days["removed_at"].astype("datetime64[s]") + np.timedelta64(90_000, "s")))
    states = {
        "stock": "IN_STOCK",
        "shipped": "SHIPPED",
        "sold": "ACTIVE",
        "returned": "RETURNED",
        "scrapped": "SCRAPPED",
    }
    table = pd.DataFrame(
        {
            "serial_no": units["unit_id"].to_numpy().astype(object),
            "model_code": units["product_id"].astype(object),
            "lot": units["batch"].astype(object),
            "line": units["line"].astype(object),
            "battery_supplier": units["supplier"].astype(object),
            "fw_version": units["fw_version"].astype(object),
            "built_on": written(days["built_at"], DAY),
            "shipped_on": written(days["shipped_at"], DAY),
            "sold_on": written(days["sold_at"], DAY),
            "activated_on": written(days["in_service_at"], DAY),
            "removed_on": written(days["removed_at"], DAY),
            "state": in_words(units["status"], states),
            "sales_region": units["region"].astype(object),
            "sales_channel": units["channel_sold"].astype(object),
            "recorded_at": written(recorded, LOCAL_ISO),
            "updated_at": written(updated, LOCAL_ISO),
        },
        dtype=object,
    )
    dirty = DirtyTable(table, rng)
    _dirty_units(dirty)
    return dirty.done(), dirty.counts


def _dirty_units(dirty: DirtyTable) -> None:
    dirty.put("missing_id", "serial_no", ("", "N/A"), 0.0002)
    dirty.change("trailing_blanks", "serial_no", trailing_blanks, 0.005)
    dirty.change("lower_case_code", "model_code", str.lower, 0.01)
    dirty.change("lower_case_code", "lot", str.lower, 0.005)
    dirty.put("missing_lot", "lot", ("N/A", ""), 0.002)
    dirty.put("missing_activation", "activated_on", ("", "null"), 0.02)
    dirty.put("unparseable_activation", "activated_on", ("0000-00-00", "待定"), 0.0005)
    dirty.put("unknown_enum", "battery_supplier", ("S?7", "S99"), 0.0005)
    dirty.swap("shipped_before_built", "built_on", "shipped_on", 0.0003)
    rows = dirty.rows("newer_state", 0.01, dirty.is_filled("activated_on"))
    older = dict.fromkeys(("sold_on", "activated_on", "removed_on"), "") | {"state": "SHIPPED"}
    shipped = dirty.table["shipped_on"].to_numpy()[rows] + "T23:30:00"
    dirty.deliver_older_state(rows, older | {"updated_at": shipped})
    dirty.spell_missing(["removed_on", "shipped_on"], 0.1)
    dirty.duplicate(0.01)


def repair_export(rng: np.random.Generator, world: World) -> Dirty:
    """The workshop's repairs; local time, costs in CNY."""
    repairs = world.repairs
    tickets = world.tickets.iloc[repairs["ticket"].to_numpy()]
    modes = np.where(repairs["result"] == "ntf", "no_fault_found", repairs["failure_mode"])
    moments = {name: repairs[name].to_numpy() for name in ("received_at", "started_at", "finished_at", "booked_at")}
    table = pd.DataFrame(
        {
            "repair_id": repairs["repair_id"].to_numpy().astype(object),
            "ticket_no": tickets["ticket_id"].to_numpy().astype(object),
            "serial_no": world.units["unit_id"].to_numpy().astype(object)[tickets["unit"].to_numpy()],
            "technician": repairs["technician_id"].to_numpy().astype(object),
            "fault_code": _drawn_words(rng, modes, FAULT_SPELLINGS),
            "component": repairs["component"].to_numpy().astype(object),
            "result": _drawn_words(rng, repairs["result"].to_numpy(), RESULT_WORDS),
            "visits": repairs["visits_n"].astype(object).to_numpy(),
            "reported_at": written(tickets["created_at"].to_numpy(), MINUTE),
            **{name: written(values, MINUTE) for name, values in moments.items()},
            "labour_cost_cny": repairs["labour_cny"].astype(object).to_numpy(),
            "parts_cost_cny": repairs["parts_cny"].astype(object).to_numpy(),
            "total_cost_cny": (repairs["labour_cny"] + repairs["parts_cny"]).round(2).astype(object).to_numpy(),
            "updated_at": written(moments["booked_at"], MINUTE),
        },
        dtype=object,
    )
    dirty = DirtyTable(table, rng)
    _dirty_repairs(dirty)
    return dirty.done(), dirty.counts


def _dirty_repairs(dirty: DirtyTable) -> None:
    dirty.put("missing_id", "repair_id", ("", "N/A"), 0.0003)
    dirty.put("missing_serial", "serial_no", ("", "N/A", "-"), 0.01)
    dirty.put("missing_ticket", "ticket_no", ("", "-"), 0.01)
    dirty.put("missing_fault_code", "fault_code", ("", "N/A", "-"), 0.05)
    dirty.put("unknown_enum", "fault_code", ("X-99", "杂项"), 0.002)
    dirty.change("full_width_digits", "serial_no", full_width, 0.005)
    dirty.change("lower_case_code", "serial_no", str.lower, 0.01)
    dirty.change("trailing_blanks", "fault_code", trailing_blanks, 0.02)
    dirty.put("negative_cost", "parts_cost_cny", (-46.0, -1.0, -120.0), 0.001)
    dirty.put("unparseable_started", "started_at", ("待定", "0000-00-00"), 0.001)
    dirty.swap("finished_before_received", "received_at", "finished_at", 0.0005)
    rows = dirty.rows("newer_state", 0.01)
    costs = dict.fromkeys(("labour_cost_cny", "parts_cost_cny", "total_cost_cny"), "")
    dirty.deliver_older_state(rows, costs | {"updated_at": dirty.table["finished_at"].to_numpy()[rows]})
    dirty.spell_missing(["component"], 0.3)
    dirty.duplicate(0.02)


def survey_export(rng: np.random.Generator, world: World) -> Dirty:
    """Asked questions and their answers; moments in ISO 8601 with the local offset, score null without an answer."""
    surveys = world.surveys
    tickets = world.tickets.iloc[surveys["ticket"].to_numpy()]
    is_csat = (surveys["instrument"] == "csat").to_numpy()
    score = surveys["score"].to_numpy()
    is_good = np.where(is_csat, score >= 4, score >= 8)
    comment = survey_comments(rng, tickets["language"].astype(object).to_numpy(), is_good)
    comment[score < 0] = ""
    offset = LOCAL_ISO + "+08:00"
    suffix = np.where(is_csat, "-C", "-N").astype(object)
    table = pd.DataFrame(
        {
            "answer_id": surveys["survey_id"].to_numpy().astype(object) + suffix,
            "survey_id": surveys["survey_id"].to_numpy().astype(object),
            "ticket_no": tickets["ticket_id"].to_numpy().astype(object),
            "serial_no": world.units["unit_id"].to_numpy().astype(object)[tickets["unit"].to_numpy()],
            "instrument": np.where(is_csat, "CSAT", "NPS").astype(object),
            "scale_max": np.where(is_csat, 5, 10).astype(object),
            "score": pd.Series(score, dtype=object).where(score >= 0, None).to_numpy(),
            "asked_at": written(surveys["asked_at"].to_numpy(), offset),
            "answered_at": written(surveys["answered_at"].to_numpy(), offset),
            "comment": comment,
            "updated_at": written(surveys["updated_at"].to_numpy(), offset),
        },
        dtype=object,
    )
    dirty = DirtyTable(table, rng)
    _dirty_surveys(dirty)
    return dirty.done(), dirty.counts


def _dirty_surveys(dirty: DirtyTable) -> None:
    dirty.put("missing_id", "answer_id", ("", "null"), 0.0003)
    is_csat = (dirty.table["instrument"] == "CSAT").to_numpy()
    dirty.put("score_outside_scale", "score", (6, 9, 99, -1), 0.006, is_csat)
    dirty.put("unknown_enum", "instrument", ("CES?",), 0.0003)
    dirty.change("lower_case_code", "instrument", str.lower, 0.01)
    dirty.put("missing_serial", "serial_no", ("", "N/A"), 0.03)
    dirty.put("unparseable_asked", "asked_at", ("待定", "0000-00-00"), 0.0003)
    rows = dirty.rows("newer_state", 0.01, dirty.is_filled("score"))
    asked = dirty.table["asked_at"].to_numpy()[rows]
    dirty.deliver_older_state(rows, {"score": None, "answered_at": "", "comment": "", "updated_at": asked})
    dirty.spell_missing(["answered_at"], 0.1)
    dirty.duplicate(0.02)


def shipment_export(rng: np.random.Generator, world: World) -> Dirty:
    """Order lines with typed columns; moments are local without an offset."""
    orders = world.orders
    moments = [name for name in orders.columns if name.endswith("_at")]
    table = orders.astype(object)
    for name in moments:
        table[name] = as_cells(orders[name].to_numpy())
    dirty = DirtyTable(table.astype(object), rng)
    dirty.put("missing_id", "order_line_id", ("", "N/A"), 0.0003)
    dirty.put("unknown_enum", "status", ("??", "lost"), 0.0005)
    dirty.put("missing_partner", "logistics_partner", ("N/A", "-", ""), 0.01)
    dirty.change("lower_case_code", "product_id", str.lower, 0.01)
    dirty.change("trailing_blanks", "logistics_partner", trailing_blanks, 0.01)
    dirty.swap("delivered_before_shipped", "shipped_at", "delivered_at", 0.0005)
    rows = dirty.rows("newer_state", 0.01, dirty.is_filled("delivered_at"))
    shipped = dirty.table["shipped_at"].to_numpy()[rows]
    dirty.deliver_older_state(rows, {"status": "shipped", "delivered_at": None, "updated_at": shipped})
    dirty.duplicate(0.02)
    table = dirty.done()
    types = dict.fromkeys(moments, "datetime64[s]") | {"qty": "int64"}
    return table.astype(types), dirty.counts
