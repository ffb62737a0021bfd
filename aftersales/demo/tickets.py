"""Tickets, repairs, surveys and order lines of the clean world, before any system writes them down."""

from __future__ import annotations

import numpy as np
import pandas as pd

from .failures import MODES, opening_hours, season, seconds
from .units import AS_OF, END, LAUNCH, PRODUCTS, categories, drawn

# Tickets that are not confirmed failures, as shares among themselves.
OTHER_TICKETS = {
    "no_fault_found": 0.02,
    "remote_fault": 0.21,
    "complaint": 0.13,
    "consultation": 0.36,
    "installation": 0.21,
    "suggestion": 0.07,
}
TYPES = ["fault", "complaint", "consultation", "installation", "suggestion"]
TYPE_OF_ORIGIN = {"failure": "fault", "no_fault_found": "fault", "remote_fault": "fault"}
CHANNELS = ["phone", "app", "email", "dealer"]
HOME_CHANNELS = {"phone": 0.50, "app": 0.36, "dealer": 0.14}
OVERSEAS_CHANNELS = {"email": 0.72, "app": 0.28}
SYMPTOMS_OF_MODE = {
    "battery_leakage": ("no_power", "battery_drain"),
    "fingerprint_fault": ("fingerprint_not_read", "wont_unlock"),
    "motor_stall": ("motor_noise", "wont_unlock"),
    "wifi_drop": ("offline", "app_error"),
    "keypad_fault": ("keypad_dead", "wont_unlock"),
    "mechanical_jam": ("bolt_stuck", "motor_noise"),
}
SYMPTOMS = [
    "no_power",
    "battery_drain",
    "fingerprint_not_read",
    "wont_unlock",
    "motor_noise",
    "offline",
    "app_error",
    "keypad_dead",
    "bolt_stuck",
]
SOFT_SYMPTOMS = ("offline", "app_error")
ISSUES = ["hardware", "software", "operation", "service", "delivery", "installation", "feature"]
SEVERITIES = ["low", "medium", "high", "critical"]
REPLY_HOURS = {"phone": 0.12, "app": 2.5, "email": 9.0, "dealer": 5.0}  # medians
RESOLVE_HOURS = {"phone": 5.0, "app": 18.0, "email": 38.0, "dealer": 28.0}
RESOLVE_FACTOR = {"fault": 1.3, "complaint": 2.0, "consultation": 0.4, "installation": 1.0, "suggestion": 2.5}
WEEKEND_FACTOR = 1.7
AUTO_CLOSE_DAYS = 5
COMPONENT = {
    "battery_leakage": "battery pack",
    "fingerprint_fault": "fingerprint sensor",
    "motor_stall": "motor",
    "wifi_drop": "wifi module",
    "keypad_fault": "keypad",
    "mechanical_jam": "bolt, mechanical",
}
PARTS_CNY = {
    "battery_leakage": 46.0,
    "fingerprint_fault": 88.0,
    "motor_stall": 120.0,
    "wifi_drop": 64.0,
    "keypad_fault": 52.0,
    "mechanical_jam": 35.0,
}
NEVER = np.datetime64("NaT", "s")


def codes_of(names: pd.Series | np.ndarray, table: dict[str, float]) -> np.ndarray:
    """The number `table` gives to each name."""
    return pd.Series(names).astype("str").map(table).to_numpy(dtype=float)


def _other_tickets(rng: np.random.Generator, units: pd.DataFrame, failures: pd.DataFrame, count: int) -> pd.DataFrame:
    """Tickets without a confirmed failure: units by time in service, moments by what people ask when."""
    origin = drawn(rng, OTHER_TICKETS, count)
    life = units["exposure_days"].to_numpy()
    total = np.cumsum(life)
    unit = np.searchsorted(total, rng.integers(0, total[-1], count), side="right")
    age = life[unit] * rng.random(count)
    early = np.isin(np.asarray(origin), ["consultation"])
    age = np.where(early & (rng.random(count) < 0.6), np.minimum(rng.exponential(60, count), life[unit]), age)
    age = np.where(np.asarray(origin) == "installation", rng.uniform(-3, 9, count), age)
    occurred = units["in_service_at"].to_numpy().astype("datetime64[s]")[unit] + seconds(age)
    angry = (np.asarray(origin) == "complaint") & (rng.random(count) < 0.35)
    cause = rng.integers(0, len(failures), count)
    unit = np.where(angry, failures["unit"].to_numpy()[cause], unit)
    after = failures["created_at"].to_numpy()[cause] + seconds(rng.uniform(0.5, 15, count))
    occurred = np.where(angry, after, occurred)
    return pd.DataFrame({"unit": unit, "origin": origin, "occurred_at": occurred})


def _kept_others(rng: np.random.Generator, units: pd.DataFrame, failures: pd.DataFrame, count: int) -> pd.DataFrame:
    """Exactly `count` other tickets, created within the history, thinned by season."""
    table = _other_tickets(rng, units, failures, int(count * 1.35) + 50)
    created = opening_hours(rng, table["occurred_at"].to_numpy() + seconds(rng.exponential(0.4, len(table))))
    table = table.assign(created_at=created)
    inside = (created < END) & (created >= LAUNCH.astype("datetime64[s]"))
    kept = inside & (rng.random(len(table)) < season(created) / 1.15)
    return table[kept].iloc[:count]


def _origins(others: pd.DataFrame, failures: pd.DataFrame) -> pd.DataFrame:
    known = ["failure", *OTHER_TICKETS]
    first = failures[["unit", "occurred_at", "created_at", "failure_mode"]].assign(
        origin="failure", failure=np.arange(len(failures))
    )
    both = pd.concat([first, others.assign(failure=-1)], ignore_index=True)
    both["origin"] = pd.Categorical(both["origin"], known)
    both["failure_mode"] = pd.Categorical(both["failure_mode"], list(MODES))
    return both.sort_values(["created_at", "unit", "failure"], kind="stable", ignore_index=True)


def _channels(rng: np.random.Generator, is_overseas: np.ndarray) -> pd.Categorical:
    home = drawn(rng, HOME_CHANNELS, len(is_overseas)).set_categories(CHANNELS)
    abroad = drawn(rng, OVERSEAS_CHANNELS, len(is_overseas)).set_categories(CHANNELS)
    return categories(np.where(is_overseas, abroad.codes, home.codes), CHANNELS)


def _symptoms(rng: np.random.Generator, tickets: pd.DataFrame) -> pd.Categorical:
    """What the customer saw: follows the failure mode mostly; random without one; none unless a fault."""
    place = {name: i for i, name in enumerate(SYMPTOMS)}
    first, second = (np.array([place[SYMPTOMS_OF_MODE[m][i]] for m in MODES] + [-1]) for i in (0, 1))
    mode = tickets["failure_mode"].cat.codes.to_numpy()
    u = rng.random(len(tickets))
    random = rng.integers(0, len(SYMPTOMS), len(tickets))
    code = np.where((mode < 0) | (u < 0.05), random, np.where(u < 0.70, first[mode], second[mode]))
    return categories(np.where(tickets["ticket_type"] == "fault", code, -1), SYMPTOMS)


def _issues(rng: np.random.Generator, tickets: pd.DataFrame) -> pd.Categorical:
    kind = tickets["ticket_type"].to_numpy().astype("U12")
    soft = tickets["symptom_code"].isin(SOFT_SYMPTOMS).to_numpy()
    complaint = drawn(rng, {"hardware": 0.35, "service": 0.4, "delivery": 0.25}, len(tickets)).set_categories(ISSUES)
    place = {name: i for i, name in enumerate(ISSUES)}
    code = np.select(
        [kind == "fault", kind == "complaint", kind == "consultation", kind == "installation"],
        [
            np.where(soft, place["software"], place["hardware"]),
            complaint.codes,
            place["operation"],
            place["installation"],
        ],
        default=place["feature"],
    )
    return categories(code, ISSUES)


def _severities(rng: np.random.Generator, kind: np.ndarray) -> pd.Categorical:
    serious = drawn(rng, {"low": 0.15, "medium": 0.5, "high": 0.28, "critical": 0.07}, len(kind))
    light = drawn(rng, {"low": 0.7, "medium": 0.28, "high": 0.02, "critical": 0.0}, len(kind))
    return categories(np.where(np.isin(kind, TYPES[:2]), serious.codes, light.codes), SEVERITIES)


def _described(rng: np.random.Generator, tickets: pd.DataFrame, units: pd.DataFrame) -> pd.DataFrame:
    """Adds type, channel, language, symptom, issue type and severity."""
    region = units["region"].to_numpy()[tickets["unit"].to_numpy()]
    overseas = region == "Overseas"
    origin = tickets["origin"].astype("str")
    tickets = tickets.assign(
        ticket_type=pd.Categorical(origin.replace(TYPE_OF_ORIGIN), TYPES), channel=_channels(rng, overseas)
    )
    english = overseas | ((tickets["channel"] == "app").to_numpy() & (rng.random(len(tickets)) < 0.05))
    tickets["language"] = pd.Categorical(np.where(english, "en", "zh"), ["zh", "en"])
    tickets["symptom_code"] = _symptoms(rng, tickets)
    tickets["issue_type"] = _issues(rng, tickets)
    tickets["severity"] = _severities(rng, tickets["ticket_type"].to_numpy().astype("U12"))
    return tickets


def _until(moments: np.ndarray) -> np.ndarray:
    """The moments, NaT where they lie after AS_OF."""
    return np.where(moments >= END, NEVER, moments)


def _handled(rng: np.random.Generator, tickets: pd.DataFrame, failures: pd.DataFrame) -> pd.DataFrame:
    """Adds the moments of the handling: accepted, first reply, resolved first and last, closed; re-opened or not."""
    size = len(tickets)
    created = tickets["created_at"].to_numpy()
    weekend = np.where((created.astype("datetime64[D]").astype("int64") + 3) % 7 >= 5, WEEKEND_FACTOR, 1.0)
    reply_hours = codes_of(tickets["channel"], REPLY_HOURS) * weekend * np.exp(rng.normal(0, 0.9, size))
    hours = codes_of(tickets["channel"], RESOLVE_HOURS) * codes_of(tickets["ticket_type"], RESOLVE_FACTOR)
    resolve_hours = hours * weekend * np.exp(rng.normal(0, 1.0, size))
    reply = created + seconds(reply_hours / 24)
    resolved = np.maximum(created + seconds(resolve_hours / 24), reply + seconds(rng.uniform(0.002, 0.05, size)))
    failure = tickets["failure"].to_numpy()
    finished = failures["finished_at"].to_numpy()[failure] + seconds(rng.uniform(0.02, 0.4, size))
    resolved = np.where(failure >= 0, np.maximum(finished, reply + seconds(np.full(size, 0.01))), resolved)
    stuck = (created > END - seconds(np.array(220.0))) & (failure < 0) & (rng.random(size) < 0.08)
    resolved = np.where(stuck, END + 1, resolved)
    reopened = rng.random(size) < 0.02
    last = np.where(reopened, resolved + seconds(rng.uniform(0.2, 9, size)), resolved)
    auto = rng.random(size) < 0.6
    wait = np.where(auto, AUTO_CLOSE_DAYS + rng.uniform(0, 0.04, size), rng.exponential(0.7, size) + 0.01)
    human = (tickets["channel"] != "app").to_numpy() | (rng.random(size) > 0.08)
    return tickets.assign(
        accepted_at=_until(created + seconds(reply_hours / 24 * rng.uniform(0.1, 0.9, size))),
        first_reply_at=np.where(human, _until(reply), NEVER),  # the first reply of a person; a bot's does not count
        first_resolved_at=_until(resolved),
        last_resolved_at=np.where(resolved < END, _until(last), NEVER),
        closed_at=_until(last + seconds(wait)),
        reopened_n=np.where(reopened & (resolved < END), 1, 0),
        human_touched=human,
    )


def _status(tickets: pd.DataFrame) -> pd.Categorical:
    names = ["open", "in_progress", "waiting", "resolved", "closed"]
    reopened = tickets["first_resolved_at"].notna() & tickets["last_resolved_at"].isna()
    code = np.select(
        [
            tickets["closed_at"].notna(),
            tickets["last_resolved_at"].notna(),
            reopened,
            tickets["first_reply_at"].notna(),
        ],
        [4, 3, 2, 1],
        default=0,
    )
    return categories(code, names)


def _numbers(tickets: pd.DataFrame) -> np.ndarray:
    """Ticket numbers as the channels write them: HL220401-000123, AP..., EM..., DP..."""
    prefix = np.array(["HL", "AP", "EM", "DP"])[tickets["channel"].cat.codes.to_numpy()]
    day = np.char.replace(np.datetime_as_string(tickets["created_at"].to_numpy(), unit="D"), "-", "")
    running = tickets.groupby("channel", observed=True).cumcount().to_numpy() + 1
    head = np.char.add(prefix, day.astype("U8").view("U1").reshape(-1, 8)[:, 2:].copy().view("U6").ravel())
    return np.char.add(np.char.add(head, "-"), np.char.zfill(running.astype("U7"), 6))


def make_tickets(rng: np.random.Generator, units: pd.DataFrame, failures: pd.DataFrame, count: int) -> pd.DataFrame:
    """Exactly `count` tickets of all channels in order of creation; moments are local, NaT = not by AS_OF.

    Returns
    -------
    ticket_id, unit (position in `units`), failure (position in `failures`, -1 without), origin, failure_mode,
    ticket_type, channel, language, symptom_code, issue_type, severity, status, the moments, reopened_n, human_touched.
    """
    others = _kept_others(rng, units, failures, count - len(failures))
    tickets = _described(rng, _origins(others, failures), units)
    tickets = _handled(rng, tickets, failures)
    return tickets.assign(status=_status(tickets), ticket_id=_numbers(tickets))


def _ntf_repairs(rng: np.random.Generator, tickets: pd.DataFrame) -> pd.DataFrame:
    """Workshop visits that found nothing: one for each ticket of that origin."""
    ntf = np.flatnonzero((tickets["origin"] == "no_fault_found").to_numpy())
    created = tickets["created_at"].to_numpy()[ntf]
    steps = np.cumsum(rng.exponential(1.2, (len(ntf), 4)) + 0.02, axis=1)
    moments = {
        name: created + seconds(steps[:, i])
        for i, name in enumerate(["received_at", "started_at", "finished_at", "booked_at"])
    }
    return pd.DataFrame({"ticket": ntf, "failure_mode": None, "result": "ntf", **moments})


def make_repairs(rng: np.random.Generator, tickets: pd.DataFrame, failures: pd.DataFrame) -> pd.DataFrame:
    """One row per repair booked by AS_OF, in order of booking; costs in CNY, confirmed unless result is ntf.

    Returns
    -------
    repair_id, ticket (position in `tickets`), failure_mode, result (fixed, ntf, referred), received_at, started_at,
    finished_at, booked_at, technician_id, component, visits_n, labour_cny, parts_cny.
    """
    with_failure = np.flatnonzero(tickets["failure"].to_numpy() >= 0)
    moments = failures[["failure_mode", "received_at", "started_at", "finished_at", "booked_at"]]
    confirmed = moments.iloc[tickets["failure"].to_numpy()[with_failure]].reset_index(drop=True)
    confirmed = confirmed.assign(
        ticket=with_failure, result=drawn(rng, {"fixed": 0.96, "referred": 0.04}, len(confirmed))
    )
    repairs = pd.concat([confirmed.astype({"failure_mode": object, "result": object}), _ntf_repairs(rng, tickets)])
    repairs = repairs[repairs["booked_at"] < END].sort_values(["booked_at", "ticket"], kind="stable", ignore_index=True)
    size = len(repairs)
    mode = repairs["failure_mode"].fillna("")
    visits = drawn(rng, {"1": 0.82, "2": 0.15, "3": 0.03}, size).codes.astype("int64") + 1
    parts = mode.map(PARTS_CNY).fillna(0).to_numpy() * rng.uniform(0.85, 1.25, size)
    return repairs.assign(
        repair_id=np.char.add("R", np.char.zfill((np.arange(size) + 1).astype("U7"), 7)),
        technician_id=np.char.add("T", np.char.zfill(rng.integers(1, 61, size).astype("U3"), 3)),
        component=mode.map(COMPONENT).fillna(""),
        visits_n=visits,
        labour_cny=np.round(60 * visits * rng.uniform(0.8, 1.5, size), 2),
        parts_cny=np.round(parts, 2),
    )


def _scores(rng: np.random.Generator, instrument: np.ndarray, resolve_hours: np.ndarray) -> np.ndarray:
    """Scores of answered surveys: csat 1..5, nps 0..10; slow resolution costs satisfaction."""
    mood = rng.normal(0.9, 1.0, len(instrument)) - 0.35 * np.log1p(resolve_hours / 12)
    csat = np.clip(np.round(3.6 + mood), 1, 5)
    nps = np.clip(np.round(7.4 + 2.1 * mood), 0, 10)
    return np.where(instrument == "csat", csat, nps).astype("int64")


def make_surveys(rng: np.random.Generator, tickets: pd.DataFrame) -> pd.DataFrame:
    """One row per asked question (csat always, nps for every second person); score -1 where not answered.

    Returns
    -------
    ticket (position in `tickets`), survey_id, instrument (csat, nps), asked_at, answered_at, score, updated_at.
    """
    closed = tickets["closed_at"].to_numpy()
    asked = np.flatnonzero((rng.random(len(tickets)) < 0.40) & ~np.isnat(closed))
    asked_at = closed[asked] + seconds(rng.uniform(0.02, 1, len(asked)))
    table = pd.DataFrame({"ticket": asked, "asked_at": asked_at, "instrument": "csat"})
    table["survey_id"] = np.char.add("SV", np.char.zfill((np.arange(len(asked)) + 1).astype("U7"), 7))
    table["answered_at"] = np.where(
        rng.random(len(asked)) < 0.35, _until(asked_at + seconds(rng.exponential(0.6, len(asked)) + 0.003)), NEVER
    )
    both = pd.concat([table, table[rng.random(len(table)) < 0.5].assign(instrument="nps")], ignore_index=True)
    both = both[both["asked_at"] < END].sort_values(["asked_at", "survey_id", "instrument"], ignore_index=True)
    chosen = tickets.iloc[both["ticket"].to_numpy()]
    hours = (chosen["last_resolved_at"] - chosen["created_at"]).dt.total_seconds().to_numpy() / 3600
    score = _scores(rng, both["instrument"].to_numpy().astype("U4"), hours)
    answered = both["answered_at"].notna().to_numpy()
    return both.assign(
        score=np.where(answered, score, -1),
        updated_at=np.where(answered, both["answered_at"].to_numpy(), both["asked_at"].to_numpy()),
    )


def make_orders(rng: np.random.Generator, count: int) -> pd.DataFrame:
    """`count` order lines in order of time; about 8 % arrive late, the youngest are still on their way.

    Returns
    -------
    order_id, order_line_id, product_id, store_id, channel, logistics_partner, status, qty,
    ordered_at, shipped_at, promised_at, delivered_at (local moments), updated_at.
    """
    span = (AS_OF - LAUNCH).astype("int64")
    day = np.sort(span * rng.random(count) ** 0.8)  # more orders later: growth
    ordered = opening_hours(rng, LAUNCH.astype("datetime64[s]") + seconds(np.floor(day)))
    ordered = np.sort(np.minimum(ordered, END - 60))
    product = drawn(rng, dict(zip(PRODUCTS["product_id"], PRODUCTS["share"], strict=True)), count)
    launched = PRODUCTS["launched_on"].to_numpy().astype("datetime64[s]")[product.codes]
    product = categories(np.where(ordered < launched, 0, product.codes), product.categories)
    shipped = ordered + seconds(rng.exponential(1.0, count) + 0.1)
    promised = ordered.astype("datetime64[D]").astype("datetime64[s]") + seconds(np.full(count, 6.75))
    delivered = shipped + seconds(rng.gamma(4, 0.72, count) + 0.2)
    line = np.cumsum(rng.random(count) < 0.7)
    number = np.char.add("SO", np.char.zfill(line.astype("U8"), 8))
    within = pd.Series(line).groupby(line).cumcount().to_numpy() + 1
    status = np.select([delivered < END, shipped < END], ["delivered", "shipped"], default="ordered")
    last = np.where(delivered < END, delivered, np.where(shipped < END, shipped, ordered))
    return pd.DataFrame(
        {
            "order_id": number,
            "order_line_id": np.char.add(np.char.add(number, "-"), within.astype("U4")),
            "product_id": product,
            "store_id": np.char.add("ST", np.char.zfill(rng.integers(1, 121, count).astype("U3"), 3)),
            "channel": drawn(rng, {"flagship": 0.4, "dealer": 0.4, "marketplace": 0.2}, count),
            "logistics_partner": drawn(rng, {"LP-1": 0.4, "LP-2": 0.35, "LP-3": 0.25}, count),
            "status": status,
            "qty": np.where(rng.random(count) < 0.75, 1, rng.integers(2, 41, count)),
            "ordered_at": ordered,
            "shipped_at": _until(shipped),
            "promised_at": promised,
            "delivered_at": _until(delivered),
            "updated_at": last,
        }
    )
