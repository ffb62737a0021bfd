"""Source YAMLs: a closed schema with every problem at once, its line and a suggestion."""

from __future__ import annotations

import textwrap

import pytest
from conftest import TestWorkspace

from aftersales.collect.mapping import catalogue, folded, read_code_list
from aftersales.model.errors import SettingsError

MINIMAL = """
owner: test
files: data/raw/*.csv
tables:
  ticket:
    columns: {ticket_id: id, known_at: at, created_at: at}
"""


def columns(**specs: str) -> str:
    lines = "".join(f"\n      {name}: {spec}" for name, spec in specs.items())
    return MINIMAL.replace(
        "{ticket_id: id, known_at: at, created_at: at}", f"\n      ticket_id: id\n      known_at: at{lines}"
    )


def refused(workspace: TestWorkspace, text: str) -> list[str]:
    """The problems of a source, one line each."""
    with pytest.raises(SettingsError) as caught:
        workspace.source(text)
    assert caught.value.where == "data/sources/crm.yml"
    assert caught.value.fix
    return [line.strip() for line in caught.value.rows.splitlines()]


def test_every_unknown_name_is_reported_at_once_with_line_and_suggestion(workspace: TestWorkspace) -> None:
    assert refused(
        workspace,
        """
        owner: test
        files: data/raw/*.csv
        delimeter: ";"
        tables:
          ticket:
            columns:
              ticket_idd: id
              known_at: at
              created_at: {from: at, format: iso8601}
              closed_at: {from: closed, not_before: created}
              cost_total: {from: cost, on_bad: drop, case: upper}
          tickets:
            columns: {}
        """,
    ) == [
        "line 4, delimeter: unknown key 'delimeter' (did you mean 'delimiter'?)",
        "line 7, tables.ticket.columns: ticket.ticket_id is required: it is the key",
        "line 8, tables.ticket.columns.ticket_idd: ticket has no column 'ticket_idd' (did you mean 'ticket_id'?)",
        "line 10, tables.ticket.columns.created_at.format: 'iso8601' is no format; "
        "give iso, epoch_s, epoch_ms, json_date or a pattern such as %Y-%m-%d",
        "line 11, tables.ticket.columns.closed_at.not_before: 'created' is no column of this mapping "
        "(did you mean 'created_at'?)",
        "line 12, tables.ticket.columns.cost_total.case: 'case' says nothing for a column of type 'num' "
        "(only id, cat, str, text)",
        "line 12, tables.ticket.columns.cost_total.on_bad: Input should be 'reject' or 'blank'",
        "line 13, tables.tickets: no table 'tickets' (did you mean 'ticket'?)",
    ]


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{from: v, value: 1}", "give either 'from' (a raw column) or 'value' (a constant)"),
        ("{}", "give either 'from' (a raw column) or 'value' (a constant)"),
        ("{from: v, map: {a: b}, map_file: codes.csv}", "give 'map' or 'map_file', not both"),
        ("{from: v, join: /}", "'join' needs several raw columns in 'from'"),
        ("{from: [a, b], join: /, digest: true}", "'digest' is made of the raw columns in 'from', without 'join'"),
        ("{value: 1, digest: true}", "'digest' is made of the raw columns in 'from', without 'join'"),
        ("{from: v, pattern: '(a'}", "'(a' is no regular expression"),
        ("{from: v, pattern: '(?<=a)b'}", "'(?<=a)b' is no regular expression"),
        ("{from: v, required: 1}", "Input should be a valid boolean"),
        ("5", "Input should be a valid dictionary"),
        ("{from: v, map: {a: 1, Ａ: 2}}", "'Ａ' stands there twice with two meanings (case and width do not count)"),
        ("{from: v, map: {a: }}", "Input should be a valid string"),
        ("{value: }", "give either 'from'"),
        ("{from: '@part'}", "@part needs 'split', which says what column it is a part of"),
        ("{from: v, time_zone: Asia/Shanghia}", "no time zone 'Asia/Shanghia'"),
    ],
)
def test_a_column_that_says_nothing_clear_is_refused(workspace: TestWorkspace, spec: str, message: str) -> None:
    assert any(message in line for line in refused(workspace, columns(region=spec)))


@pytest.mark.parametrize(
    ("column", "spec", "message"),
    [
        ("ticket_type", "{value: error}", "'error' is not allowed; known: complaint"),
        ("ticket_type", "{from: v, map: {a: error}}", "'error' is not allowed"),
        ("reassigned_n", "{from: v, default: many}", "'many' is no value of type 'int'"),
        ("cost_total", "{from: v, max: high}", "'high' is no value of type 'num'"),
        ("sla_met", "{value: perhaps}", "'perhaps' is no value of type 'bool'"),
        ("closed_at", "{from: v, min: spring}", "'spring' is no value of type 'ts'"),
    ],
)
def test_a_constant_has_to_fit_its_column(workspace: TestWorkspace, column: str, spec: str, message: str) -> None:
    assert any(message in line for line in refused(workspace, columns(**{column: spec})))


def test_a_key_given_twice_is_refused(workspace: TestWorkspace) -> None:
    with pytest.raises(SettingsError, match=r"crm.yml, line 5: not readable as YAML: the key 'owner' is given twice"):
        workspace.source(MINIMAL.replace("tables:", "owner: me\ntables:").replace("files", "time_zone: UTC\nfiles"))


def test_codes_are_the_text_of_the_file(workspace: TestWorkspace) -> None:
    source = workspace.source(
        columns(region="{from: 7, map: {001: a, 1.10: b, Yes: c, true: d, 12:30: e}, default: 2.50}").replace(
            "from: 7", "from: [7]"
        )
    )
    spec = source.tables["ticket"].columns["region"]
    assert spec.map == {"001": "a", "1.10": "b", "Yes": "c", "true": "d", "12:30": "e"}
    assert (spec.sources, spec.default) == (["7"], "2.50")


def test_the_name_of_a_source_is_the_name_of_its_file(workspace: TestWorkspace) -> None:
    path = workspace.root / "data" / "sources" / "other.yml"
    workspace.source(MINIMAL)
    path.write_text("name: crm\n" + MINIMAL)
    with pytest.raises(SettingsError, match="the source is named 'crm'\n  fix  : name it 'other'"):
        catalogue(workspace.open())


def test_only_channels_that_are_on_are_in_the_catalogue(workspace: TestWorkspace) -> None:
    workspace.source(MINIMAL, "a")
    workspace.source(MINIMAL, "b")
    assert list(catalogue(workspace.open())) == ["a", "b"]
    (workspace.root / "workbench.yml").write_text("channels: [b]\n")
    (workspace.root / "data/sources/a.yml").write_text("broken: [")
    assert list(catalogue(workspace.open())) == ["b"]
    (workspace.root / "workbench.yml").write_text("channels: [b, c]\n")
    with pytest.raises(SettingsError, match=r"channels names c\n  rows : known: a, b"):
        catalogue(workspace.open())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "no such code list"),
        ("a,b\n1,2\n", "lacks the columns source_value, target_value"),
        ("source_value,target_value\nx,1\nＸ,2\n", "1 source values have two meanings"),
        (b"\xff", "not UTF-8"),
    ],
)
def test_a_code_list_that_cannot_be_used_says_why(
    workspace: TestWorkspace, content: str | bytes | None, message: str
) -> None:
    if content is not None:
        workspace.file("codes.csv", content)
    with pytest.raises(SettingsError, match=message):
        read_code_list(workspace.open(), "data/raw/codes.csv")


def test_the_fingerprint_changes_with_the_mapping_and_its_code_list_and_with_nothing_else(
    workspace: TestWorkspace,
) -> None:
    list_ = workspace.file("codes.csv", "source_value,target_value\nx,1\n")
    text = columns(region="{from: r, map_file: data/raw/codes.csv}")
    first = workspace.source(text).fingerprint(workspace.open())
    assert workspace.source(text.replace("owner: test", "owner: other")).fingerprint(workspace.open()) == first
    assert workspace.source(text.replace("from: r", "from: s")).fingerprint(workspace.open()) != first
    list_.write_text("source_value,target_value\nx,2\n")
    assert workspace.source(text).fingerprint(workspace.open()) != first


def test_folded_text_ignores_blanks_case_and_width() -> None:
    assert folded("\u3000ＡＢ c ") == "ab c"


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("encoding: gb-2312-x", "encoding: no encoding 'gb-2312-x'; e.g. utf-8, gb18030, big5"),
        ("encoding: [utf-8, gbx]", "encoding.1: no encoding 'gbx'"),
        ("encoding: [utf-8, utf-16]", "encoding.1: 'utf-16' cannot stand in a list"),
        ("encoding: []", "encoding: the list is empty"),
        ("header_row: 0", "header_row: lines are counted from 1"),
        ("header_row: first", "header_row: Input should be a valid integer; or input should be 'find'"),
        ("sheets: some", "sheets: Input should be a valid list; or input should be 'all'"),
        ("sheets: all\nsheet: data", "sheets: give 'sheet' or 'sheets', not both"),
        ("format: parquet\nheader_row: 2", "header_row: 'header_row' says nothing for the format 'parquet'"),
        ("format: csv\nsheets: all", "sheets: 'sheets' says nothing for the format 'csv' (only xlsx)"),
        ("member: x.csv", "member: unknown key 'member' (did you mean 'members'?)"),
    ],
)
def test_settings_for_reading_files_that_cannot_be_followed_are_refused(
    workspace: TestWorkspace, line: str, message: str
) -> None:
    text = textwrap.dedent(columns(region="r")).strip()
    assert any(message in problem for problem in refused(workspace, f"{line}\n{text}"))


def test_pseudo_columns_are_known_by_name(workspace: TestWorkspace) -> None:
    problems = refused(workspace, columns(region="{from: ['@fiel', '@row'], join: '#'}"))
    assert any("no pseudo column '@fiel' (did you mean '@file'?)" in line for line in problems)
    spec = workspace.source(columns(region="[地区, 区域]")).tables["ticket"].columns["region"]
    assert (spec.sources, spec.join) == (["地区", "区域"], None)
