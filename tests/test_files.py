"""Files as received -> rows of text: formats, encodings, broken lines."""

from __future__ import annotations

import datetime as dt
import gzip
import json
import random
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xlsxwriter

from aftersales.collect.connectors.files import ReceivedFile, examine, load_raw, matching_files, receive, unique_names
from aftersales.collect.mapping import Source
from aftersales.collect.typed import MACROS
from aftersales.model.errors import SourceError

NAMES = "id,地区,note\n"


def source(**more: Any) -> Source:
    return Source.model_validate(
        {"name": "crm", "owner": "test", "files": "*", "tables": {"ticket": {"columns": {}}}, **more}
    )


def raw(path: Path, content: str | bytes | None = None, **more: Any) -> list[dict[str, Any]]:
    """The raw rows of a file; names of reserved columns that say nothing are left out."""
    if content is not None:
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    given = source(**more)
    return rows_of(receive(path, given), given, path.parent)


def rows_of(received: ReceivedFile, given: Source, scratch: Path) -> list[dict[str, Any]]:
    """The raw rows of a received file."""
    file = examine(received, given)
    with duckdb.connect() as connection:
        connection.execute("set TimeZone='UTC'")
        connection.execute(MACROS)
        names = load_raw(connection, file, given, scratch)
        rows = connection.execute("select * from raw order by _row").to_arrow_table().to_pylist()
    assert [row["_row"] for row in rows] == list(range(1, len(rows) + 1))
    keep = {*names, "_bad", "_line", *(f"_surplus_{i}" for i in range(1, 9))}
    return [{name: value for name, value in row.items() if name in names or (name in keep and value)} for row in rows]


def values(rows: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row.values()) for row in rows]


# ------------------------------------------------------------------------------------------------------- text


def test_a_plain_file(tmp_path: Path) -> None:
    assert raw(tmp_path / "a.csv", NAMES + "1,华东,x\n2,,\n") == [
        {"id": "1", "地区": "华东", "note": "x"},
        {"id": "2", "地区": "", "note": ""},
    ]


@pytest.mark.parametrize(
    "content",
    [
        NAMES + '1,"two\nlines","say ""hi"""\n2,b,c\n',
        NAMES.replace("\n", "\r\n") + '1,"two\nlines","say ""hi"""\r\n2,b,c\r\n',
        NAMES + '1,"two\nlines","say ""hi"""\n\n2,b,c',
        "\n\n" + NAMES + '1,"two\nlines","say ""hi"""\n2,b,c\n',
    ],
)
def test_line_breaks_in_quotes_crlf_and_blank_lines(tmp_path: Path, content: str) -> None:
    assert values(raw(tmp_path / "a.csv", content)) == [("1", "two\nlines", 'say "hi"'), ("2", "b", "c")]


def test_short_rows_survive_and_surplus_rows_are_marked_with_their_fields(tmp_path: Path) -> None:
    rows = raw(tmp_path / "a.csv", NAMES + "1\n2,b\n3,b,c,d,e\n4,b,c,,\n5,b,c\n")
    assert rows == [
        {"id": "1", "地区": None, "note": None},
        {"id": "2", "地区": "b", "note": None},
        {"_bad": "row:too_many_fields", "id": "3", "地区": "b", "note": "c", "_surplus_1": "d", "_surplus_2": "e"},
        {"id": "4", "地区": "b", "note": "c"},
        {"id": "5", "地区": "b", "note": "c"},
    ]


@pytest.mark.parametrize(
    ("tail", "last"),
    [
        ("3,华", {"_bad": "row:cut_off", "id": "3", "地区": "华", "note": None}),
        ('3,b,"begun', {"_bad": "row:unterminated_quote"}),
        ('3,b,"begun\n4,b,c\n', {"_bad": "row:unterminated_quote"}),
        ("3,b,c", {"id": "3", "地区": "b", "note": "c"}),
        ("3,b,", {"id": "3", "地区": "b", "note": ""}),
        ('3,5" wide,c', {"id": "3", "地区": '5" wide', "note": "c"}),
        ('3,"x\ny",c', {"id": "3", "地区": "x\ny", "note": "c"}),
    ],
)
def test_the_last_row_of_a_half_written_file_is_marked(tmp_path: Path, tail: str, last: dict[str, Any]) -> None:
    rows = raw(tmp_path / "a.csv", NAMES + "1,b,c\n2,b,c\n" + tail)
    assert len(rows) == 3
    assert last.items() <= rows[2].items()
    assert ("_bad" in rows[2]) == ("_bad" in last)


def test_repeated_empty_and_reserved_names(tmp_path: Path) -> None:
    rows = raw(tmp_path / "a.csv", "category,Category,,_row,category#2, category \n1,2,3,4,5,6\n")
    assert rows == [
        {"category": "1", "Category#2": "2", "column_3": "3", "_row#2": "4", "category#2#2": "5", "category#3": "6"}
    ]
    assert unique_names(["É", "é", "a\0b", None]) == ["É", "é", "ab", "column_4"]


def test_tabs_semicolons_and_txt(tmp_path: Path) -> None:
    assert values(raw(tmp_path / "a.tsv", "a\tb\n1,5\tx\n")) == [("1,5", "x")]
    assert values(raw(tmp_path / "a.txt", "a;b\n1,5;x\n", delimiter=";")) == [("1,5", "x")]
    assert values(raw(tmp_path / "one.csv", "a\n1\n2\n", delimiter=",")) == [("1",), ("2",)]


def test_file_names_may_look_like_patterns(tmp_path: Path) -> None:
    assert values(raw(tmp_path / "export [1] (*)?.csv", "a,b\n1,2\n")) == [("1", "2")]
    pq.write_table(pa.table({"a": [1]}), tmp_path / "export[1].parquet")
    assert values(raw(tmp_path / "export[1].parquet")) == [("1",)]


def test_a_large_file_with_line_breaks_everywhere_keeps_every_row(tmp_path: Path) -> None:
    rng = random.Random(5)
    texts = ["".join(rng.choice('ab,"\n\r字 ') for _ in range(rng.randrange(60))) for _ in range(40_000)]
    quoted = [text.replace('"', '""') for text in texts]
    rows = raw(tmp_path / "a.csv", NAMES + "".join(f'{i},"{text}",{i}\n' for i, text in enumerate(quoted)))
    assert [row["地区"] for row in rows] == texts


# -------------------------------------------------------------------------------------------------- encodings

CHINESE = "工单号,地区,描述\n" + "".join(f"{i},华东,门锁无法开启，更换电池后仍然报警\n" for i in range(50))
KOREAN = "번호,지역,내용\n" + "".join(
    f"{i},서울특별시,도어락이 열리지 않고 배터리 교체 후에도 경보가 울립니다\n" for i in range(50)
)


@pytest.mark.parametrize(
    ("text", "encoding", "found"),
    [
        (CHINESE, "utf-8", "utf-8"),
        (CHINESE, "utf-8-sig", "utf-8-sig"),
        (CHINESE, "gb18030", "gb18030"),
        (CHINESE, "gbk", "gb18030"),
        (CHINESE, "utf-16", "utf-16"),
        ("id,region\n" + "1,east\n" * 40, "utf-16-le", "utf-16-le"),
        ("id,region\n" + "1,east\n" * 40, "utf-16-be", "utf-16-be"),
        (KOREAN, "cp949", "cp949"),
    ],
)
@pytest.mark.parametrize("suffix", [".csv", ".csv.gz"])
def test_encodings_are_detected(tmp_path: Path, text: str, encoding: str, found: str, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    data = text.encode(encoding)
    path.write_bytes(gzip.compress(data, mtime=0) if suffix.endswith("gz") else data)
    assert examine(receive(path, source()), source()).encoding == found
    header, *rows = (line.split(",") for line in text.splitlines())
    assert [list(row.values()) for row in raw(path)] == rows
    assert list(raw(path)[0]) == header


def test_bytes_far_behind_an_ascii_start_are_detected_too(tmp_path: Path) -> None:
    text = "id,note\n" + "1,plain\n" * 700_000 + "2,门锁无法开启，更换电池后仍然报警\n" * 30
    rows = raw(tmp_path / "a.csv", text.encode("gb18030"))
    assert (len(rows), rows[-1]["note"]) == (700_030, "门锁无法开启，更换电池后仍然报警")


def test_a_wrong_declaration_names_line_and_bytes(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        raw(tmp_path / "a.csv", b"id,note\n1,x\n2,\xc3\xc5\n", encoding="utf-8")
    assert str(caught.value) == (
        "a.csv: is not utf-8 as declared: invalid continuation byte in line 3\n"
        "  rows : bytes c3 c5 0a; none of its rows was loaded\n"
        "  fix  : mend 'encoding' in the source's YAML (gb18030 reads most Chinese exports; "
        "a list such as [utf-8, gb18030] is tried line by line)"
    )


def test_two_lines_are_too_few_to_tell_an_encoding(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="is not UTF-8, and its encoding could not be told from 2 lines"):
        raw(tmp_path / "a.csv", "编号,描述\n1,锁坏\n".encode("gb18030"))
    assert values(raw(tmp_path / "a.csv", encoding="gb18030")) == [("1", "锁坏")]


# -------------------------------------------------------------------------------------------- other formats


def test_json_lines_keep_what_is_no_object(tmp_path: Path) -> None:
    lines = [
        '{"id": 1, "名": "x", "tags": ["a", "b"], "o": {"k": null}}',
        "",
        '{"id": "2", "名": null, "A": 1, "a": true}',
        "[1]",
        "not json",
        '{"id": 3, "名": "cu',
    ]
    rows = raw(tmp_path / "a.jsonl", "\ufeff" + "\n".join(lines))
    assert [row.get("_bad") for row in rows] == [None, None, "row:not_json", "row:not_json", "row:not_json"]
    assert rows[0] | {"_bad": 0} == {
        "id": "1",
        "名": "x",
        "tags": '["a","b"]',
        "o": '{"k":null}',
        "A": None,
        "a#2": None,
        "_bad": 0,
    }
    assert (rows[1]["A"], rows[1]["a#2"], rows[1]["名"]) == ("1", "true", None)
    assert [row.get("_line") for row in rows[2:]] == ["[1]", "not json", '{"id": 3, "名": "cu']


def test_keys_with_slashes_and_tildes(tmp_path: Path) -> None:
    assert raw(tmp_path / "a.ndjson", '{"a/b": 1, "c~d": 2, "$.e": 3, "*": 4}\n') == [
        {"$.e": "3", "*": "4", "a/b": "1", "c~d": "2"}
    ]


@pytest.mark.parametrize(
    "text",
    [
        '[{"id": 1, "v": 2.5}, {"id": 2}]',
        ' [\n{"id": 1, "v": 2.5},\n{"id": 2}\n]\n',
        '\ufeff[{"id": 1, "v": 2.5}, {"id": 2}]',
    ],
)
def test_a_json_list_is_one_row_an_object(tmp_path: Path, text: str) -> None:
    assert raw(tmp_path / "a.json", text) == [{"id": "1", "v": "2.5"}, {"id": "2", "v": None}]


def test_compressed_json_lines(tmp_path: Path) -> None:
    data = "".join(json.dumps({"id": i, "说": "好"}, ensure_ascii=False) + "\n" for i in range(3))
    assert values(raw(tmp_path / "a.jsonl.gz", gzip.compress(data.encode(), mtime=0))) == [
        ("0", "好"),
        ("1", "好"),
        ("2", "好"),
    ]
    assert values(raw(tmp_path / "b.jsonl", data.encode("gb18030"), encoding="gb18030"))[2] == ("2", "好")


def test_parquet_columns_become_the_text_a_csv_would_have(tmp_path: Path) -> None:
    moment = dt.datetime(2024, 3, 1, 10, 0, 0, 500_000)
    pq.write_table(
        pa.table(
            {
                "id": pa.array([12.0, None, float("nan")]),
                "n": pa.array([1, 2, None], pa.int32()),
                "x": [1.5, 1e20, -0.25],
                "at": pa.array([moment, None, None], pa.timestamp("us")),
                "utc": pa.array([moment, None, None], pa.timestamp("us", tz="Asia/Shanghai")),
                "day": pa.array([dt.date(2024, 3, 1), None, None]),
                "ok": [True, False, None],
                "labels": [["a", "b|c"], [], None],
                "part": [{"k": 1}, None, None],
                "_row": ["mine", "", None],
            }
        ),
        tmp_path / "a.parquet",
    )
    rows = raw(tmp_path / "a.parquet")
    assert rows[0] == {
        "id": "12",
        "n": "1",
        "x": "1.5",
        "at": "2024-03-01 10:00:00.5",
        "utc": "2024-03-01 10:00:00.5+00",
        "day": "2024-03-01",
        "ok": "true",
        "labels": '["a","b|c"]',
        "part": '{"k":1}',
        "_row#2": "mine",
    }
    assert [row["id"] for row in rows] == ["12", None, None]
    assert [row["x"] for row in rows] == ["1.5", "1e+20", "-0.25"]


def test_spreadsheet_cells_become_the_text_a_person_reads(tmp_path: Path) -> None:
    path = tmp_path / "a.xlsx"
    with xlsxwriter.Workbook(path) as book:
        sheet, other = book.add_worksheet("首页"), book.add_worksheet("data")
        sheet.write_row(0, 0, ["id", "at", "day", "x", "ok", "id", ""])
        sheet.write_row(1, 0, [12, None, None, 0.5, True, "007", "z"])
        sheet.write_datetime(1, 1, dt.datetime(2024, 3, 1, 10, 30), book.add_format({"num_format": "yyyy-mm-dd hh:mm"}))
        sheet.write_datetime(1, 2, dt.datetime(2024, 3, 1), book.add_format({"num_format": "yyyy-mm-dd"}))
        sheet.write_row(3, 0, ["＃"])
        other.write_row(0, 0, ["a", "b"])
        other.write_row(1, 0, ["1", "2"])
    rows = raw(path)
    assert rows[0] == {
        "id": "12",
        "at": "2024-03-01 10:30:00",
        "day": "2024-03-01",
        "x": "0.5",
        "ok": "true",
        "id#2": "007",
        "column_7": "z",
    }
    assert (len(rows), rows[1]["id"], rows[1]["x"]) == (2, "＃", None)
    assert values(raw(path, sheet="data")) == [("1", "2")]
    with pytest.raises(SourceError, match="no sheet 'Data'\n  rows : sheets: 首页, data"):
        raw(path, sheet="Data")


# --------------------------------------------------------------------------------------- files that are no good


def gz_cut(text: str) -> bytes:
    return gzip.compress(text.encode(), mtime=0)[:-12]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", b"", "the file is empty"),
        ("a.csv.gz", gzip.compress(b"", mtime=0), "the file is empty"),
        ("a.csv", b"\n\n", "the file is empty"),
        ("a.csv", b"\xef\xbb\xbf", "the file is empty"),
        ("a.csv.gz", gz_cut("id,v\n" + "1,2\n" * 999), "the compressed file is cut off or damaged"),
        ("a.jsonl.gz", b"no gzip at all", "the compressed file is cut off or damaged"),
        ("a.csv", b"id;v\n1;2\n", "the first line has one column when split at ','"),
        ("a.json", b'[{"id": 1}, {"id"', "cannot be read as json"),
        ("a.parquet", b"PAR1 and then nothing", "cannot be read as parquet"),
        ("a.xlsx", b"PK\x03\x04 cut", "cannot be read as xlsx"),
        ("a.pdf", b"%PDF", "cannot tell the format from the ending '.pdf'"),
    ],
)
def test_a_file_that_cannot_be_read_says_so_in_four_parts(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    with pytest.raises(SourceError) as caught:
        raw(tmp_path / name, content)
    assert caught.value.where == name
    assert caught.value.what.startswith(message)
    assert caught.value.rows
    assert caught.value.fix


@pytest.mark.parametrize("name", ["a.parquet", "a.xlsx"])
def test_half_of_a_good_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name.endswith("xlsx"):
        with xlsxwriter.Workbook(path) as book:
            book.add_worksheet().write_column(0, 0, [str(i) for i in range(2000)])
    else:
        pq.write_table(pa.table({"id": list(range(2000))}), path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SourceError, match="none of its rows was loaded"):
        raw(path)


def test_a_header_alone_is_a_file_without_rows(tmp_path: Path) -> None:
    assert raw(tmp_path / "a.csv", "id,v") == []
    assert raw(tmp_path / "b.csv", "id,v\r\n") == []


def test_a_file_that_grows_while_it_is_read_is_noticed(tmp_path: Path) -> None:
    from aftersales.collect.connectors.files import check_unchanged

    path = tmp_path / "a.csv"
    path.write_text("id,v\n1,2\n")
    file = receive(path, source())
    check_unchanged(file)
    path.write_text("id,v\n1,2\n3,4\n")
    with pytest.raises(SourceError, match="changed while it was being read\n  rows : 9 bytes, now 13"):
        check_unchanged(file)


def test_files_are_taken_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b.csv", "a.csv", "c.txt"):
        (tmp_path / name).write_text("x")
    assert [path.name for path in matching_files(source(files="*.csv"), tmp_path)] == ["a.csv", "b.csv"]
    assert [path.name for path in matching_files(source(files=str(tmp_path / "*.txt")), tmp_path / "else")] == ["c.txt"]
    (tmp_path / "in").mkdir()
    assert [path.name for path in matching_files(source(files="../*.txt"), tmp_path / "in")] == ["c.txt"]


def test_a_missing_file_names_the_pattern_and_the_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError) as caught:
        matching_files(source(files="data/raw/crm_*.csv"), tmp_path)
    assert str(caught.value) == (
        f"source crm: no file matches data/raw/crm_*.csv\n  rows : looked in {tmp_path.name}/\n"
        "  fix  : put the export there, or mend 'files' in the source's YAML"
    )
