"""Text -> values and reasons, one column at a time."""

from __future__ import annotations

import datetime as dt
import hashlib
from typing import Any

import duckdb
import pyarrow as pa
import pytest

from aftersales.collect.mapping import Code, ColumnSpec, Source
from aftersales.collect.typed import MACROS, typed_query
from aftersales.model.tables import canonical_table

NOW = "2024-05-01 00:00:00"


def source(table: str, columns: dict[str, Any], **more: Any) -> Source:
    tables = {table: {"columns": columns, **more.pop("mapping", {})}}
    return Source.model_validate({"name": "crm", "owner": "test", "files": "*", "tables": tables, **more})


def typed(source_: Source, raw: dict[str, list[str | None]]) -> list[dict[str, Any]]:
    """The typed rows of the first table of a source, instants as ISO text in UTC."""
    name = source_.primary
    table, mapping = canonical_table(name), source_.tables[name]
    count = len(next(iter(raw.values())))
    rows = pa.table(
        {
            "_row": list(range(1, count + 1)),
            "_bad": pa.nulls(count, pa.string()),
            **{column: pa.array(values, pa.string()) for column, values in raw.items()},
        }
    )
    lists = {spec.map_file: [Code("Alt", "old")] for spec in mapping.columns.values() if spec.map_file}
    with duckdb.connect() as connection:
        connection.execute("set TimeZone='UTC'")
        connection.execute(MACROS)
        connection.register("raw", rows)
        return (
            connection.execute(typed_query(source_, name, table, mapping, lists) + " order by _row")
            .to_arrow_table()
            .to_pylist()
        )


def column(name: str, spec: dict[str, Any] | str, *texts: str | None, table: str = "ticket", **more: Any) -> list[Any]:
    """For each text the value of one column, or the list of reasons when the row is rejected."""
    given = {"from": "v", **spec} if isinstance(spec, dict) else spec
    fixed = (
        {"ticket_id": "id", "created_at": "now", "known_at": "now"}
        if table == "ticket"
        else {"complaint_id": "id", "received_at": "now", "known_at": "now"}
    )
    rows = typed(
        source(table, {**fixed, name: given}, **more),
        {"id": [str(i) for i in range(len(texts))], "now": [NOW] * len(texts), "v": list(texts)},
    )
    return [row["_reasons"] or row[name] for row in rows]


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


# ------------------------------------------------------------------------------------------------------- text


def test_blanks_around_a_value_are_no_part_of_it() -> None:
    texts = ["x", "  x", "x\t", "\u3000x\u3000", "\u00a0x", "\ufeffx\r\n", "a x", "\u3000", "", None]
    assert column("region", "v", *texts) == ["x"] * 6 + ["a x", None, None, None]


def test_full_width_codes_become_narrow_and_free_text_stays_as_written() -> None:
    assert column("unit_id", "v", "ＳＮ－１２３", "质量ＡＢ") == ["SN-123", "质量AB"]
    assert column("description", "v", "ＡＢ　１２") == ["ＡＢ　１２"]


def test_words_for_no_value_are_no_value() -> None:
    assert column("region", "v", "N/A", " - ", "n/a", "East", missing=["N/A", "-"]) == [None, None, "n/a", "East"]


def test_case_prefix_and_the_part_before_a_separator() -> None:
    assert column("unit_id", {"case": "upper", "prefix": "sn:", "before": "."}, "ab.0", "ab", ".x", "") == [
        "sn:AB",
        "sn:AB",
        None,
        None,
    ]
    assert column("description", {"prefix": "> ", "case": "lower"}, "Ab") == ["> ab"]


def test_the_first_raw_column_with_a_value_counts() -> None:
    given = source(
        "ticket", {"ticket_id": "id", "created_at": "now", "known_at": "now", "region": {"from": ["a", "b"]}}
    )
    rows = typed(given, {"id": ["1", "2", "3"], "now": [NOW] * 3, "a": ["x", " ", None], "b": ["y", "y", ""]})
    assert [row["region"] for row in rows] == ["x", "y", None]


def test_joined_columns_have_no_value_where_one_is_missing() -> None:
    spec = {"from": ["a", "b"], "join": "/"}
    given = source("ticket", {"ticket_id": "id", "created_at": "now", "known_at": "now", "product_id": spec})
    rows = typed(given, {"id": ["1", "2"], "now": [NOW] * 2, "a": ["KIA", "KIA"], "b": ["RIO", ""]})
    assert [row["product_id"] for row in rows] == ["KIA/RIO", None]


def test_a_pattern_keeps_what_it_finds_and_leaves_other_text_to_the_check() -> None:
    assert column("region", {"pattern": "^([A-Z]?)"}, "C536", "536", "") == ["C", None, None]
    assert column("region", {"pattern": "[0-9]+"}, "ab 12 34", "ab") == ["12", "ab"]
    day = {"pattern": "^[`'’]*([0-9.]+)$", "format": "%y.%m.%d"}
    found = column("occurred_at", day, "`09.12.01", "’9.1.30", "09년", "`", table="complaint")
    assert found == [dt.date(2009, 12, 1), dt.date(2009, 1, 30), ["occurred_at:type"], ["occurred_at:type"]]
    status = {"pattern": "^([A-Z]?)", "map": {"C": "cancelled"}, "default": "completed"}
    assert column("status", status, "C1", "1", "A1") == ["cancelled", "completed", ["status:unknown_value"]]


def test_the_value_of_a_json_key() -> None:
    texts = ['{"type": "a/b", "n": 3}', '{"n": 1}', "[1]", "{broken", None]
    assert column("region", {"json_key": "type"}, *texts) == ["a/b", None, None, None, None]
    assert column("reassigned_n", {"json_key": "n"}, *texts) == [3, 1, None, None, None]
    assert column("region", {"json_key": "a/b~c"}, '{"a/b~c": "x"}') == ["x"]


def test_a_digest_is_a_key_of_all_columns_in_which_a_missing_one_is_empty() -> None:
    given = source("product", {"product_id": {"from": ["a", "b"], "digest": True}, "known_at": {"value": "2024-01-01"}})
    rows = typed(given, {"a": ["x", "x", "x ", "xy", None, ""], "b": ["y", "", "y", "", "y", None]})
    keys = [row["product_id"] for row in rows]
    assert keys[0] == hashlib.md5(b"x\x1fy").hexdigest() == keys[2]
    assert keys[1] == hashlib.md5(b"x\x1f").hexdigest()
    assert len({*keys}) == 5
    assert [row["_reasons"] for row in rows] == [None] * 6


def test_constants_and_defaults_take_the_type_of_the_column() -> None:
    assert column("is_reopened", {"default": "是"}, "no", "") == [False, True]
    assert column("cost_total", {"default": 1.5}, "3", "") == [3.0, 1.5]
    assert column("reassigned_n", {"default": 0}, "x", "") == [["reassigned_n:type"], 0]
    constant = {"value": "phone", "from": None}
    del constant["from"]
    given = source(
        "ticket",
        {
            "ticket_id": "id",
            "created_at": "now",
            "known_at": "now",
            "channel": constant,
            "human_touched": {"value": True},
        },
    )
    (row,) = typed(given, {"id": ["1"], "now": [NOW]})
    assert (row["channel"], row["human_touched"]) == ("phone", True)


# -------------------------------------------------------------------------------------------------- code lists


def test_a_code_list_ignores_case_and_width() -> None:
    spec = {"map": {"故障": "fault", "Complaint A": "complaint"}}
    assert column("ticket_type", spec, "故障", " COMPLAINT a", "ｃｏｍｐｌａｉｎｔ　ａ", "", "?") == [
        "fault",
        "complaint",
        "complaint",
        None,
        ["ticket_type:unknown_value"],
    ]


def test_values_a_code_list_lacks_are_rejected_kept_or_blanked() -> None:
    spec = {"map": {"a": "A"}}
    assert column("region", {**spec, "otherwise": "reject"}, "a", "b") == ["A", ["region:unknown_value"]]
    assert column("region", {**spec, "otherwise": "keep"}, "a", "Ｂ") == ["A", "B"]
    assert column("region", {**spec, "otherwise": "blank"}, "a", "b") == ["A", None]
    assert column("region", {**spec, "on_bad": "blank"}, "a", "b") == ["A", None]
    assert column("region", {"map_file": "codes.csv"}, "alt", "b") == ["old", ["region:unknown_value"]]


def test_a_blanked_value_is_set_aside_with_its_reason() -> None:
    given = source(
        "ticket",
        {
            "ticket_id": "id",
            "created_at": "now",
            "known_at": "now",
            "region": {"from": "v", "map": {"a": "A"}, "otherwise": "blank"},
            "cost_total": {"from": "c", "on_bad": "blank", "max": 10},
        },
    )
    rows = typed(given, {"id": ["1", "2"], "now": [NOW] * 2, "v": ["a", "b"], "c": ["11", "x"]})
    assert [(row["region"], row["cost_total"], row["_reasons"], row["_set_aside"]) for row in rows] == [
        ("A", None, None, ["cost_total:above_10"]),
        (None, None, None, ["region:unknown_value", "cost_total:type"]),
    ]


def test_a_code_list_can_feed_flags_and_numbers() -> None:
    assert column("safety_flag", {"map": {"No/No": False, "Yes/No": True}}, "no/NO", "yes/no", "x") == [
        False,
        True,
        ["safety_flag:unknown_value"],
    ]
    assert column("cost_total", {"map": {"low": 1.5}, "otherwise": "keep"}, "low", "7", "x") == [
        1.5,
        7.0,
        ["cost_total:type"],
    ]


# ----------------------------------------------------------------------------------------------------- numbers


@pytest.mark.parametrize(
    ("spec", "text", "value"),
    [
        ({}, "1.5", 1.5),
        ({}, "１２", 12.0),
        ({}, " 3 ", 3.0),
        ({}, "1e3", 1000.0),
        ({}, "abc", None),
        ({}, "1,5", None),
        ({}, "nan", None),
        ({}, "inf", None),
        ({}, "1e999", None),
        ({"decimal": ","}, "1.234,56", 1234.56),
        ({"decimal": ","}, "12,5", 12.5),
        ({"decimal": ","}, "1234", 1234.0),
        ({"decimal": ","}, "12.5", None),
        ({"decimal": ","}, "-0,5", None),
        ({"factor": 0.01}, "250", 2.5),
        ({"factor": 1.8, "offset": 32}, "100", 212.0),
    ],
)
def test_numbers(spec: dict[str, Any], text: str, value: float | None) -> None:
    reason = "cost_total:below_0" if text == "-0,5" else "cost_total:type"
    assert column("cost_total", spec, text) == [[reason] if value is None else value]


@pytest.mark.parametrize(
    ("spec", "text", "value"),
    [
        ({}, "3", 3),
        ({}, "3.0", 3),
        ({}, "3.5", None),
        ({}, "1e20", None),
        ({}, "9007199254740993", None),
        ({"factor": 100}, "2.3", 230),
        ({"factor": 100}, "2.345", None),
        ({}, "three", None),
    ],
)
def test_whole_numbers(spec: dict[str, Any], text: str, value: int | None) -> None:
    assert column("reassigned_n", spec, text) == [["reassigned_n:type"] if value is None else value]


def test_flags() -> None:
    assert column("sla_met", "v", "TRUE", "是", "1", "n", "没有", "0.0", "", "maybe") == [
        True,
        True,
        True,
        False,
        False,
        False,
        None,
        ["sla_met:type"],
    ]


# ------------------------------------------------------------------------------------------------------- times


@pytest.mark.parametrize(
    ("spec", "text", "value"),
    [
        ({}, "2024-03-01 10:00:00", "2024-03-01 10:00:00"),
        ({}, "2024-03-01T10:00", "2024-03-01 10:00:00"),
        ({}, "2024-03-01", "2024-03-01 00:00:00"),
        ({}, "2024/3/1 9:05:00", "2024-03-01 09:05:00"),
        ({"time_zone": "Asia/Shanghai"}, "2024-03-01 10:00:00", "2024-03-01 02:00:00"),
        ({"time_zone": "Asia/Shanghai"}, "2024-03-01 10:00:00+00", "2024-03-01 10:00:00"),
        ({"time_zone": "Asia/Shanghai"}, "2024-03-01T10:00:00.5Z", "2024-03-01 10:00:00.5"),
        ({"time_zone": "Asia/Shanghai"}, "2024-03-01 10:00:00 UTC", "2024-03-01 10:00:00"),
        ({"time_zone": "Asia/Shanghai"}, "2024-03-01 10:00:00 -0500", "2024-03-01 15:00:00"),
        ({"time_zone": "Asia/Shanghai"}, "2024-03-01T10:00+02:00", "2024-03-01 08:00:00"),
        ({"time_zone": "Europe/Berlin"}, "2024-01-15 12:00:00", "2024-01-15 11:00:00"),
        ({"time_zone": "Europe/Berlin"}, "2024-07-15 12:00:00", "2024-07-15 10:00:00"),
        ({"time_zone": "America/New_York"}, "2024-03-10 01:30:00", "2024-03-10 06:30:00"),
        ({"time_zone": "America/New_York"}, "2024-03-10 03:30:00", "2024-03-10 07:30:00"),
        ({"format": "epoch_s"}, "1709287200", "2024-03-01 10:00:00"),
        ({"format": "epoch_s"}, "-1.5", "1969-12-31 23:59:58.5"),
        ({"format": "epoch_ms"}, "1709287200250", "2024-03-01 10:00:00.25"),
        ({"format": "json_date"}, "/Date(1709287200000)/", "2024-03-01 10:00:00"),
        ({"format": "json_date"}, "/Date(-86400000-0500)/", "1969-12-31 00:00:00"),
        ({"format": ["%d.%m.%Y %H:%M", "%Y年%m月%d日"]}, "01.03.2024 10:00", "2024-03-01 10:00:00"),
        ({"format": ["%d.%m.%Y %H:%M", "%Y年%m月%d日"]}, "2024年03月01日", "2024-03-01 00:00:00"),
        ({"format": "%d %b %Y %H:%M %z"}, "01 Mar 2024 10:00 +0200", "2024-03-01 08:00:00"),
        ({}, "２０２４-０３-０１ １０：００：００", "2024-03-01 10:00:00"),
    ],
)
def test_instants(spec: dict[str, Any], text: str, value: str) -> None:
    assert column("closed_at", spec, text) == [utc(value)]


@pytest.mark.parametrize(
    ("format_", "text"),
    [
        ("iso", "epoch"),
        ("iso", "infinity"),
        ("iso", "-infinity"),
        ("iso", "2024-02-30"),
        ("iso", "31/02/2023"),
        ("iso", "44-03-15 (BC)"),
        ("iso", "12024-01-01"),
        ("epoch_s", "1e300"),
        ("epoch_s", "9" * 30),
        ("epoch_ms", "nan"),
        ("json_date", "/Date(99999999999999999999)/"),
        ("json_date", "/Date(999999999999999)/"),
        ("json_date", "/Date(17092"),
        ("json_date", "1709287200000"),
        ("%Y-%m-%d", "2024-13-01"),
    ],
)
def test_what_is_no_time_is_a_reason_and_never_a_crash(format_: str, text: str) -> None:
    assert column("closed_at", {"format": format_}, text) == [["closed_at:type"]]
    assert column("occurred_at", {"format": format_}, text, table="complaint") == [["occurred_at:type"]]


@pytest.mark.parametrize(
    ("spec", "text", "day"),
    [
        ({}, "2024-03-01", "2024-03-01"),
        ({}, "2024-03-01 23:30:00", "2024-03-01"),
        ({}, "2024-03-01T00:30:00+08:00", "2024-03-01"),
        ({"format": "%m/%d/%y"}, "03/01/24", "2024-03-01"),
        ({"format": "epoch_s", "time_zone": "Asia/Shanghai"}, "1709308800", "2024-03-02"),
        ({"format": "json_date"}, "/Date(1080709200000-0500)/", "2004-03-31"),
        ({"format": "json_date"}, "/Date(1080702000000-0500)/", "2004-03-30"),
        ({"format": "json_date"}, "/Date(-2177434800000-0500)/", "1901-01-01"),
        ({"format": "json_date"}, "/Date(1709308800000+0530)/", "2024-03-01"),
        ({"format": "json_date", "time_zone": "Asia/Shanghai"}, "/Date(1709308800000)/", "2024-03-02"),
    ],
)
def test_days(spec: dict[str, Any], text: str, day: str) -> None:
    assert column("occurred_at", spec, text, table="complaint") == [dt.date.fromisoformat(day)]


# ------------------------------------------------------------------------------------------------------ checks


def test_limits_of_the_table_and_of_the_mapping() -> None:
    assert column("cost_total", {"max": 100}, "-1", "0", "100", "100.5") == [
        ["cost_total:below_0"],
        0.0,
        100.0,
        ["cost_total:above_100"],
    ]
    assert column(
        "closed_at", {"min": "2024-01-01", "max": "2024-12-31"}, "2023-12-31 23:59:59", "2024-06-01", "2025-01-01"
    ) == [["closed_at:before_2024-01-01"], utc("2024-06-01"), ["closed_at:after_2024-12-31"]]


def test_values_the_table_does_not_allow() -> None:
    assert column("ticket_type", "v", "fault", "Fault", "") == ["fault", ["ticket_type:not_allowed"], None]


def test_times_in_the_wrong_order() -> None:
    assert column("closed_at", {"not_before": "created_at"}, "2024-04-30", NOW, "2024-05-02") == [
        ["closed_at:before_created_at"],
        utc(NOW),
        utc("2024-05-02"),
    ]
    assert column("occurred_at", {"not_after": "created_at", "on_bad": "blank"}, "2024-05-02", "2024-04-30") == [
        None,
        utc("2024-04-30"),
    ]


def test_a_day_is_compared_with_the_local_day_of_an_instant() -> None:
    """Received 2 March 00:30 in Shanghai is 1 March in UTC: an incident of 2 March is not in the future."""
    given = source(
        "complaint",
        {
            "complaint_id": "id",
            "received_at": "at",
            "known_at": "at",
            "occurred_at": {"from": "day", "not_after": "received_at"},
        },
        time_zone="Asia/Shanghai",
    )
    rows = typed(given, {"id": ["1", "2"], "at": ["2024-03-02 00:30:00"] * 2, "day": ["2024-03-02", "2024-03-03"]})
    assert [row["_reasons"] for row in rows] == [None, ["occurred_at:after_received_at"]]


def test_required_columns_and_all_reasons_of_a_row_at_once() -> None:
    given = source(
        "ticket",
        {
            "ticket_id": "id",
            "created_at": "at",
            "known_at": "at",
            "region": {"from": "v", "required": True, "on_bad": "blank"},
            "cost_total": "v",
        },
    )
    rows = typed(given, {"id": ["", "2"], "at": ["bad", NOW], "v": [None, "east"]})
    assert [row["_reasons"] for row in rows] == [
        ["ticket_id:missing", "created_at:type", "known_at:type", "region:missing"],
        ["cost_total:type"],
    ]


def test_a_key_is_never_blanked() -> None:
    given = source(
        "ticket",
        {
            "ticket_id": {"from": "id", "on_bad": "blank"},
            "created_at": "at",
            "known_at": {"from": "at", "on_bad": "blank"},
        },
    )
    rows = typed(given, {"id": [" ", "2"], "at": [NOW, "soon"]})
    assert [row["_reasons"] for row in rows] == [["ticket_id:missing"], ["created_at:type", "known_at:type"]]


def test_a_clock_that_may_be_blank_is_set_aside() -> None:
    columns = {"unit_id": "id", "known_at": "now", "built_at": {"from": "v", "on_bad": "blank"}}
    rows = typed(source("unit", columns), {"id": ["1", "2"], "now": [NOW] * 2, "v": ["", "2024-01-01"]})
    assert [(row["built_at"], row["_reasons"], row["_set_aside"]) for row in rows] == [
        (None, None, ["built_at:missing"]),
        (dt.date(2024, 1, 1), None, None),
    ]


def test_an_unreadable_version_is_a_reason() -> None:
    given = source("ticket", {"ticket_id": "id", "created_at": "now", "known_at": "now"}, mapping={"version": "v"})
    rows = typed(given, {"id": ["1", "2", "3"], "now": [NOW] * 3, "v": ["2024-05-02", "soon", ""]})
    assert [(row["_version"], row["_reasons"]) for row in rows] == [
        (utc("2024-05-02"), None),
        (None, ["version:type"]),
        (None, None),
    ]


# ------------------------------------------------------------------------------------------- where and split


def test_only_rows_of_where_are_offered() -> None:
    columns = {"ticket_id": "id", "created_at": "now", "known_at": "now"}
    given = source("ticket", columns, mapping={"where": {"kind": ["a", 1, ""]}})
    rows = typed(given, {"id": ["1", "2", "3", "4"], "now": [NOW] * 4, "kind": [" a ", "1", None, "b"]})
    assert [row["ticket_id"] for row in rows] == ["1", "2", "3"]


TAGS = {
    "source_table": {"value": "complaint"},
    "source_id": "id",
    "tag_set": {"value": "component"},
    "known_at": "now",
    "tag": "@part",
    "tag_group": {"from": "@part", "before": ":"},
}


def test_rows_without_a_value_in_a_column_that_is_needed_are_not_offered() -> None:
    given = source(
        "ticket",
        {"ticket_id": "id", "created_at": "now", "known_at": "now"},
        mapping={"only_with": ["v"]},
        missing=["", "n/a"],
    )
    rows = typed(given, {"id": ["1", "2", "3", "4"], "now": [NOW] * 4, "v": ["x", "n/a", None, " "]})
    assert [row["ticket_id"] for row in rows] == ["1"]


def test_a_column_of_several_labels_becomes_one_row_a_label() -> None:
    given = source("tag", TAGS, mapping={"split": {"column": "labels", "separator": "|"}})
    rows = typed(
        given,
        {
            "id": ["1", "2", "3", "4"],
            "now": [NOW] * 4,
            "labels": ["BRAKES:FRONT | ENGINE", "ENGINE|", None, '["SEAT", "A|B"]'],
        },
    )
    assert sorted((row["tag_id"], row["tag"], row["tag_group"]) for row in rows) == [
        ("complaint/1/component/BRAKES:FRONT", "BRAKES:FRONT", "BRAKES"),
        ("complaint/1/component/ENGINE", "ENGINE", "ENGINE"),
        ("complaint/2/component/ENGINE", "ENGINE", "ENGINE"),
        ("complaint/4/component/A|B", "A|B", "A|B"),
        ("complaint/4/component/SEAT", "SEAT", "SEAT"),
    ]


def test_a_key_built_from_parts_needs_every_part() -> None:
    given = source("tag", {**TAGS, "tag": "label", "tag_group": "label"})
    rows = typed(given, {"id": ["", "2"], "now": [NOW] * 2, "label": ["x", ""]})
    assert [row["_reasons"] for row in rows] == [["source_id:missing"], ["tag:missing"]]


def test_quotes_and_semicolons_in_names_and_values_are_only_text() -> None:
    name = 'it\'s; "drop" table 表'
    given = source(
        "ticket",
        {
            "ticket_id": "id",
            "created_at": "now",
            "known_at": "now",
            "region": {"from": name, "map": {"o'clock": "x'; drop"}},
        },
    )
    (row,) = typed(given, {"id": ["1"], "now": [NOW], name: ["O'Clock"]})
    assert row["region"] == "x'; drop"


def test_a_spec_needs_one_origin() -> None:
    with pytest.raises(ValueError, match="either 'from'"):
        ColumnSpec.model_validate({"from": "a", "value": "b"})


# ------------------------------------------------------------------------------------- ids a spreadsheet has rounded

ROUNDED = ["1.00008E+11", "1,00008e+11", " 1E+15 ", "１.5Ｅ+12", "-2.5E+100"]
SOUND = ["100008348542", "1.0", "E+11", "1.5E11", "12E+11", "SN1E+11", "1.5E+1", "+8613800138000"]


def test_an_id_rounded_by_a_spreadsheet_is_set_aside_and_costs_the_row_only_as_a_key() -> None:
    assert column("unit_id", "v", *ROUNDED) == [None] * len(ROUNDED)
    assert column("unit_id", "v", *SOUND) == SOUND
    rows = typed(
        source("ticket", {"ticket_id": "v", "created_at": "now", "known_at": "now", "unit_id": "v", "region": "v"}),
        {"v": ["1.00008E+11", "7"], "now": [NOW] * 2},
    )
    assert [row["_reasons"] for row in rows] == [["ticket_id:destroyed_by_excel"], None]
    assert [row["_set_aside"] for row in rows] == [["unit_id:destroyed_by_excel"], None]
    assert rows[0]["region"] == "1.00008E+11"  # no id
    assert column("unit_id", {"required": True}, "1E+12") == [["unit_id:destroyed_by_excel"]]
    assert column("cost_total", "v", "1E+12") == [1e12]


def test_a_rounded_part_of_a_joined_id_is_found() -> None:
    spec = {"from": ["v", "id"], "join": "|"}
    given = source("ticket", {"ticket_id": spec, "created_at": "now", "known_at": "now"})
    values = ["1.00008E+11", "100008348542", "x1E+11"]
    rows = typed(given, {"v": values, "id": ["1", "2", "3"], "now": [NOW] * 3})
    assert [row["_reasons"] for row in rows] == [["ticket_id:destroyed_by_excel"], None, None]


def test_a_code_list_decides_what_a_rounded_id_means() -> None:
    assert column("unit_id", {"map": {"1.00008E+11": "U1"}}, "1.00008E+11") == ["U1"]
